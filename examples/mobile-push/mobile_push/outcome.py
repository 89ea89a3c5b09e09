"""What became of one push, whichever service it went to."""

import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime


@dataclass(frozen=True)
class Sent:
    """The service has it."""


@dataclass(frozen=True)
class Gone:
    """The app is no longer on that device, as of `since` (seconds since 1970); None: as of now."""

    since: float | None = None


@dataclass(frozen=True)
class Later:
    """It may work later; `seconds`: not before."""

    reason: str
    seconds: float = 0


@dataclass(frozen=True)
class Refused:
    """It will never work, and the device is not to blame: somebody must look."""

    reason: str


def retry_after(headers) -> float:
    """What `Retry-After` asks for, in seconds or as a date; 0 where it asks for nothing."""
    value = headers.get("retry-after", "")
    if value.isascii() and value.isdigit():
        return float(value[:9])
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError):
        return 0
