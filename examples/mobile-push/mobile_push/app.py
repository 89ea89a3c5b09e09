"""The HTTP server: receives webhooks of flametree-notify, and registers the app's devices."""

import asyncio
import contextlib
import json
import logging
import re

import httpx
import jwt
from standardwebhooks import Webhook, WebhookVerificationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from . import notice
from .apns import Apns
from .fcm import Fcm
from .sender import Sender
from .settings import Settings
from .store import Store

log = logging.getLogger(__name__)

MAX_BODY_BYTES = 256 * 1024
TIMEOUT = httpx.Timeout(10, connect=5)
TOKENS = {"android": re.compile(r"[A-Za-z0-9:_-]{1,4096}"), "ios": re.compile(r"[0-9a-fA-F]{64,200}")}


class Refusal(Exception):
    def __init__(self, status: int):
        self.status = status


class Backend:
    def __init__(self, settings: Settings):
        self.settings = settings
        self.webhook = Webhook(settings.signing_secret)
        self.store = Store(settings.database_file)
        self.senders: list[Sender] = []

    def app(self) -> Starlette:
        routes = [
            Route("/webhook", self.receive, methods=["POST"]),
            Route("/devices", self.register, methods=["PUT"]),
            Route("/devices", self.unregister, methods=["DELETE"]),
        ]
        refused = {Refusal: lambda _, refusal: Response(status_code=refusal.status)}
        return Starlette(routes=routes, exception_handlers=refused, lifespan=self.lifespan)

    @contextlib.asynccontextmanager
    async def lifespan(self, _):
        async with httpx.AsyncClient(http2=True, timeout=TIMEOUT) as client, asyncio.TaskGroup() as tasks:
            for make, settings in [(Fcm, self.settings.fcm), (Apns, self.settings.apns)]:
                if settings:
                    self.senders.append(Sender(make(settings, client), self.store))
            running = [tasks.create_task(sender.run()) for sender in self.senders]
            yield
            for task in running:
                task.cancel()

    async def receive(self, request: Request) -> Response:
        """Verifies the message, stores it and responds. The sender pushes it later."""
        # The signature covers the received bytes; JSON that is parsed and serialized again can differ.
        body = await self._body(request)
        try:
            self.webhook.verify(body, dict(request.headers), json_parse=False)
        except WebhookVerificationError:
            raise Refusal(401) from None
        message = json.loads(body)
        new = await asyncio.to_thread(self.store.accept, request.headers["webhook-id"], notice.of_message(message))
        if new:
            for sender in self.senders:
                sender.wake.set()
        return Response(status_code=204)

    async def register(self, request: Request) -> Response:
        """The app sends its push token after each start, with the session of the signed-in customer."""
        customer = self._customer(request)
        platform, token = await self._device(request)
        await asyncio.to_thread(self.store.register, platform, token, customer)
        return Response(status_code=204)

    async def unregister(self, request: Request) -> Response:
        """The customer signs out."""
        customer = self._customer(request)
        _, token = await self._device(request)
        await asyncio.to_thread(self.store.unregister, token, customer)
        return Response(status_code=204)

    def _customer(self, request: Request) -> str:
        """Replace this method with your sign-in. The method accepts a JWT whose `sub` is the customer's id on the platform."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        options = {"require": ["exp", "sub"]}
        try:
            claims = jwt.decode(token, self.settings.app_secret, algorithms=["HS256"], options=options)
        except jwt.InvalidTokenError:
            raise Refusal(401) from None
        if scheme.lower() != "bearer":
            raise Refusal(401)
        return claims["sub"]

    async def _device(self, request: Request) -> tuple[str, str]:
        try:
            device = json.loads(await self._body(request))
            platform, token = device["platform"], device["token"]
            if TOKENS[platform].fullmatch(token):
                return platform, token
        except (ValueError, KeyError, TypeError):
            pass
        raise Refusal(422)

    async def _body(self, request: Request) -> bytes:
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_BODY_BYTES:
                raise Refusal(413)
        return bytes(body)
