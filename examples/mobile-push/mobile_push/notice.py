"""Converts a webhook message to the notification on the customer's phone."""

from dataclasses import dataclass

# FCM and APNs accept 4,096 bytes in total; customers read longer texts in the app.
MAX_TEXT_BYTES = 1_000

TITLES = {"ai_assistant": "New message", "human_agent": "New message from our team"}


@dataclass(frozen=True)
class Notice:
    event_id: str
    session_id: str
    customer_id: str
    title: str
    body: str


def of_message(message: dict) -> Notice | None:
    """Returns None if the message needs no notification."""
    if message.get("type") != "ai_assistant_message" or message.get("test"):
        return None
    data = message["data"]
    if not data.get("customer_id") or not data.get("text"):
        return None
    return Notice(
        event_id=data["event_id"],
        session_id=data["session_id"],
        customer_id=data["customer_id"],
        title=TITLES.get(data.get("author"), "New message"),
        body=_cut(data["text"]),
    )


def _cut(text: str) -> str:
    encoded = text.encode()
    if len(encoded) <= MAX_TEXT_BYTES:
        return text
    return encoded[: MAX_TEXT_BYTES - 3].decode(errors="ignore") + "…"
