"""Firebase Cloud Messaging, HTTP v1.

https://firebase.google.com/docs/reference/fcm/rest/v1/projects.messages/send
"""

import asyncio
import time

import httpx
import jwt

from .notice import Notice
from .outcome import Gone, Later, Refused, Sent, retry_after
from .settings import FcmSettings

SCOPE = "https://www.googleapis.com/auth/firebase.messaging"
# A token is renewed five minutes before it expires, because a push fails if its token expires before the push arrives.
RENEW_BEFORE = 300
# The pause that FCM requires after 429 without Retry-After.
QUOTA_PAUSE = 60


class Fcm:
    platform = "android"

    def __init__(self, settings: FcmSettings, client: httpx.AsyncClient):
        self.settings = settings
        self.client = client
        self.lock = asyncio.Lock()
        self.token = ""
        self.token_until = 0.0

    async def send(self, device: str, notice: Notice, seconds_left: float):
        url = f"{self.settings.origin}/v1/projects/{self.settings.project_id}/messages:send"
        message = {
            "token": device,
            "notification": {"title": notice.title, "body": notice.body},
            "data": {"session_id": notice.session_id, "event_id": notice.event_id},
            # A push with the same tag replaces the earlier notification, so a repeated push is not shown twice.
            "android": {
                "priority": "HIGH",
                "ttl": f"{int(seconds_left)}s",
                "notification": {"tag": notice.event_id},
            },
        }
        try:
            token = await self._access_token()
            answer = await self._post(url, message, token)
            if answer.status_code == 401:
                answer = await self._post(url, message, await self._access_token(instead_of=token))
        except httpx.HTTPError as error:
            return Later(f"FCM: {error!r}")
        return _outcome(answer)

    async def _post(self, url: str, message: dict, token: str) -> httpx.Response:
        return await self.client.post(url, json={"message": message}, headers={"authorization": f"Bearer {token}"})

    async def _access_token(self, instead_of: str | None = None) -> str:
        """Exchanges a signed JWT for an access token (RFC 7523). Concurrent pushes use the same token."""
        async with self.lock:
            if self.token and self.token != instead_of and time.time() < self.token_until - RENEW_BEFORE:
                return self.token
            now = int(time.time())
            claims = {
                "iss": self.settings.client_email,
                "scope": SCOPE,
                "aud": self.settings.token_uri,
                "iat": now,
                "exp": now + 3600,
            }
            assertion = jwt.encode(claims, self.settings.private_key, algorithm="RS256")
            grant = {"grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer", "assertion": assertion}
            answer = await self.client.post(self.settings.token_uri, data=grant)
            answer.raise_for_status()
            self.token = answer.json()["access_token"]
            self.token_until = now + float(answer.json()["expires_in"])
            return self.token


def _outcome(answer: httpx.Response):
    if answer.status_code == 200:
        return Sent()
    code = _error_code(answer)
    if code == "UNREGISTERED":
        return Gone()
    reason = f"FCM answered {answer.status_code} {code}"
    if answer.status_code == 429:
        return Later(reason, retry_after(answer.headers) or QUOTA_PAUSE)
    if answer.status_code >= 500:
        return Later(reason, retry_after(answer.headers))
    # INVALID_ARGUMENT, SENDER_ID_MISMATCH and THIRD_PARTY_AUTH_ERROR are faults of the backend, so the device is kept.
    return Refused(reason)


def _error_code(answer: httpx.Response) -> str:
    try:
        error = answer.json()["error"]
        codes = [detail["errorCode"] for detail in error.get("details", []) if "errorCode" in detail]
        return codes[0] if codes else error.get("status", "")
    except (ValueError, KeyError, TypeError, AttributeError):
        return ""
