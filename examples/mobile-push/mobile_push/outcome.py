"""The outcome of one push, for both services."""

import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime


@dataclass(frozen=True)
class Sent:
    """The push service accepted the push."""


@dataclass(frozen=True)
class Gone:
    """The app was no longer on the device at `since` (seconds since 1970; None if the time is unknown)."""

    since: float | None = None


@dataclass(frozen=True)
class Later:
    """The push can succeed if it is sent again after `seconds`."""

    reason: str
    seconds: float = 0


@dataclass(frozen=True)
class Refused:
    """The push will never succeed, but the device is not the cause, so an operator must investigate."""

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
