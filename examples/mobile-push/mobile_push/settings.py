"""The settings from the environment. All faults are reported at once, before the backend starts."""

import json
import os
from dataclasses import dataclass
from pathlib import Path

import jwt


@dataclass(frozen=True)
class FcmSettings:
    project_id: str
    client_email: str
    private_key: str
    token_uri: str
    origin: str


@dataclass(frozen=True)
class ApnsSettings:
    private_key: str
    key_id: str
    team_id: str
    topic: str
    origin: str


@dataclass(frozen=True)
class Settings:
    host: str
    port: int
    signing_secret: str
    app_secret: str
    database_file: str
    fcm: FcmSettings | None
    apns: ApnsSettings | None


class WrongSettings(Exception):
    """Lists all faults."""


def read(environment=os.environ) -> Settings:
    faults: list[str] = []

    def required(name: str) -> str:
        if not environment.get(name):
            faults.append(f"{name} is required")
        return environment.get(name, "")

    port = environment.get("PORT", "8090")
    if not port.isdecimal() or int(port) > 65535:
        faults.append("PORT must be a port")
        port = "0"
    settings = Settings(
        host=environment.get("HOST", "127.0.0.1"),
        port=int(port),
        signing_secret=required("SIGNING_SECRET"),
        app_secret=required("APP_SECRET"),
        database_file=environment.get("DATABASE_FILE", "mobile-push.sqlite"),
        fcm=_fcm(environment, faults),
        apns=_apns(environment, required, faults),
    )
    if not settings.signing_secret.startswith("whsec_"):
        faults.append("SIGNING_SECRET must begin with whsec_")
    if len(settings.app_secret) < 32:
        faults.append("APP_SECRET must have at least 32 characters")
    if not settings.fcm and not settings.apns:
        faults.append("FCM_SERVICE_ACCOUNT_FILE, APNS_KEY_FILE or both must be set")
    if faults:
        raise WrongSettings("\n".join(faults))
    return settings


def _fcm(environment, faults) -> FcmSettings | None:
    """Google's service account, as the Firebase console exports it."""
    file = environment.get("FCM_SERVICE_ACCOUNT_FILE")
    if not file:
        return None
    try:
        account = json.loads(Path(file).read_text())
        _try_key("FCM_SERVICE_ACCOUNT_FILE", account["private_key"], "RS256", faults)
        return FcmSettings(
            project_id=account["project_id"],
            client_email=account["client_email"],
            private_key=account["private_key"],
            token_uri=account["token_uri"],
            origin=environment.get("FCM_ORIGIN", "https://fcm.googleapis.com"),
        )
    except (OSError, ValueError, KeyError) as error:
        faults.append(f"FCM_SERVICE_ACCOUNT_FILE is no service account: {error!r}")
        return None


def _apns(environment, required, faults) -> ApnsSettings | None:
    """The key for Apple's push service, as the developer portal exports it (.p8)."""
    file = environment.get("APNS_KEY_FILE")
    if not file:
        return None
    try:
        private_key = Path(file).read_text()
    except OSError as error:
        faults.append(f"APNS_KEY_FILE cannot be read: {error}")
        private_key = ""
    _try_key("APNS_KEY_FILE", private_key, "ES256", faults)
    return ApnsSettings(
        private_key=private_key,
        key_id=required("APNS_KEY_ID"),
        team_id=required("APNS_TEAM_ID"),
        topic=required("APNS_TOPIC"),
        origin=environment.get("APNS_ORIGIN", "https://api.push.apple.com"),
    )


def _try_key(name: str, key: str, algorithm: str, faults: list[str]) -> None:
    """Tries to sign with the key, so that a wrong key is reported at the start instead of at the first push."""
    try:
        jwt.encode({}, key, algorithm=algorithm)
    except (jwt.PyJWTError, ValueError, TypeError) as error:
        faults.append(f"{name} has no private key for {algorithm}: {error}")
