"""The outcome of one push, for both services."""

import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime


@dataclass(frozen=True)
class Sent:
    """The service accepted it."""


@dataclass(frozen=True)
class Gone:
    """The app is no longer on that device, as of `since` (seconds since 1970); None: as of now."""

    since: float | None = None


@dataclass(frozen=True)
class Later:
    """It may succeed after `seconds`."""

    reason: str
    seconds: float = 0


@dataclass(frozen=True)
class Refused:
    """It will never succeed, and not because of the device: an operator must investigate."""

    reason: str


def retry_after(headers) -> float:
    """The seconds in `Retry-After`, given as a number or a date; 0 if it is missing."""
    value = headers.get("retry-after", "")
    if value.isascii() and value.isdigit():
        return float(value[:9])
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError):
        return 0
