"""Apple's push service, over HTTP/2 with a provider token.

https://developer.apple.com/documentation/usernotifications/sending-notification-requests-to-apns
"""

import time

import httpx
import jwt

from .notice import Notice
from .outcome import Gone, Later, Refused, Sent, retry_after
from .settings import ApnsSettings

# Apple rejects tokens that are older than an hour, and clients that create tokens more often than every 20 minutes.
TOKEN_SECONDS = 40 * 60
MIN_TOKEN_SECONDS = 20 * 60
# If Apple gives one of these reasons, the device token is wrong or belongs to another app, so no push to it can succeed.
WRONG_DEVICE = {"BadDeviceToken", "DeviceTokenNotForTopic"}
WRONG_TOKEN = {"ExpiredProviderToken", "InvalidProviderToken"}


class Apns:
    platform = "ios"

    def __init__(self, settings: ApnsSettings, client: httpx.AsyncClient):
        self.settings = settings
        self.client = client
        self.token = ""
        self.token_from = 0

    async def send(self, device: str, notice: Notice, seconds_left: float):
        payload = {
            "aps": {
                "alert": {"title": notice.title, "body": notice.body},
                "sound": "default",
                "thread-id": notice.session_id,
            },
            "session_id": notice.session_id,
            "event_id": notice.event_id,
        }
        headers = {
            "apns-topic": self.settings.topic,
            "apns-push-type": "alert",
            "apns-priority": "10",
            "apns-expiration": str(int(time.time() + seconds_left)),
            # A push with the same id replaces the earlier notification, so a repeated push is not shown twice.
            "apns-collapse-id": notice.event_id,
        }
        url = f"{self.settings.origin}/3/device/{device}"
        try:
            answer = await self._post(url, payload, headers, self._provider_token())
            if answer.status_code == 403 and _reason(answer) in WRONG_TOKEN:
                answer = await self._post(url, payload, headers, self._provider_token(MIN_TOKEN_SECONDS))
        except httpx.HTTPError as error:
            return Later(f"APNs: {error!r}")
        return _outcome(answer)

    async def _post(self, url: str, payload: dict, headers: dict, token: str) -> httpx.Response:
        return await self.client.post(url, json=payload, headers={**headers, "authorization": f"bearer {token}"})

    def _provider_token(self, good_for: int = TOKEN_SECONDS) -> str:
        now = int(time.time())
        if now >= self.token_from + good_for:
            claims = {"iss": self.settings.team_id, "iat": now}
            self.token = jwt.encode(
                claims, self.settings.private_key, algorithm="ES256", headers={"kid": self.settings.key_id}
            )
            self.token_from = now
        return self.token


def _outcome(answer: httpx.Response):
    if answer.status_code == 200:
        return Sent()
    reason = _reason(answer)
    if answer.status_code == 410:
        return Gone(_since(answer))
    if reason in WRONG_DEVICE:
        return Gone()
    told = f"APNs answered {answer.status_code} {reason}"
    if answer.status_code == 429 or answer.status_code >= 500:
        return Later(told, retry_after(answer.headers))
    return Refused(told)


def _reason(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["reason"])
    except (ValueError, KeyError, TypeError):
        return ""


def _since(answer: httpx.Response) -> float | None:
    """Returns the time at which Apple noticed that the app was removed. A device that was registered later is kept."""
    try:
        return float(answer.json()["timestamp"]) / 1000
    except (ValueError, KeyError, TypeError):
        return None
