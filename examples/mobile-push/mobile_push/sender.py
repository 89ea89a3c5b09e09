"""Sends due pushes to one service and acts on each outcome."""

import asyncio
import hashlib
import logging
import random
import time

from .outcome import Gone, Later, Refused, Sent
from .store import Push, Store

log = logging.getLogger(__name__)

CONCURRENCY = 20
MAX_ATTEMPTS = 6
MAX_PAUSE = 300
# The maximum pause between two checks for due pushes.
IDLE_SECONDS = 60


class Sender:
    """Sends the pushes of one service. Each service has a sender, so that a hanging service does not delay the other."""

    def __init__(self, service, store: Store):
        self.service = service
        self.store = store
        self.wake = asyncio.Event()

    async def run(self) -> None:
        while True:
            self.wake.clear()
            try:
                pushes = await asyncio.to_thread(self.store.due, self.service.platform, CONCURRENCY)
                results = await asyncio.gather(*map(self._send, pushes), return_exceptions=True)
                for fault in filter(None, results):
                    raise fault
                if pushes:
                    continue
                await asyncio.to_thread(self.store.prune)
                next_due = await asyncio.to_thread(self.store.next_due, self.service.platform)
                pause = IDLE_SECONDS if next_due is None else min(IDLE_SECONDS, max(0.0, next_due - time.time()))
            except Exception:
                log.exception("pushes of %s cannot be sent for now", self.service.platform)
                pause = 5
            try:
                await asyncio.wait_for(self.wake.wait(), pause)
            except TimeoutError:
                pass

    async def _send(self, push: Push) -> None:
        seconds_left = push.expires_at - time.time()
        if seconds_left < 1:
            log.warning("a push to %s was not sent in time", _name(push.token))
            return await asyncio.to_thread(self.store.done, push)
        try:
            outcome = await self.service.send(push.token, push.notice, seconds_left)
        except Exception as error:
            log.exception("a push could not be sent")
            outcome = Later(repr(error))
        match outcome:
            case Sent():
                log.info("pushed %s to %s", push.notice.event_id, _name(push.token))
                await asyncio.to_thread(self.store.done, push)
            case Gone(since):
                log.info("the app is gone from %s", _name(push.token))
                await asyncio.to_thread(self.store.remove_gone, push, since)
            case Later(reason, _) if push.attempts + 1 >= MAX_ATTEMPTS:
                log.error("given up after %d attempts: %s", MAX_ATTEMPTS, reason)
                await asyncio.to_thread(self.store.done, push)
            case Later(reason, seconds):
                pause = min(MAX_PAUSE, max(seconds, random.uniform(0.5, 1) * 2**push.attempts))
                log.warning("again in %.1f s: %s", pause, reason)
                await asyncio.to_thread(self.store.postpone, push, pause)
            case Refused(reason):
                log.error("a push was refused: %s", reason)
                await asyncio.to_thread(self.store.done, push)


def _name(token: str) -> str:
    """Names a device in logs. The token is secret, because any program that has it can try to push to the device."""
    return hashlib.sha256(token.encode()).hexdigest()[:8]
