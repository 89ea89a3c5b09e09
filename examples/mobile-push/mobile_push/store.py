"""The persistent state: devices, ids of received messages, and pushes to be sent.

SQLite is enough for one machine. With several, move the tables to your shared database.
"""

import json
import sqlite3
import threading
import time
from dataclasses import asdict, dataclass

from .notice import Notice

# flametree-notify requires receivers to recognize a repeated message for a week.
SEEN_SECONDS = 8 * 24 * 3600
# An older push is not sent, because it would be useless.
PUSH_SECONDS = 3600
MAX_DEVICES_PER_CUSTOMER = 20

SCHEMA = """
CREATE TABLE IF NOT EXISTS seen (
    message_id TEXT PRIMARY KEY,
    at REAL NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS devices (
    token TEXT PRIMARY KEY,
    platform TEXT NOT NULL CHECK (platform IN ('android', 'ios')),
    customer_id TEXT NOT NULL,
    registered_at REAL NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS devices_of_customer ON devices (customer_id, registered_at);
CREATE TABLE IF NOT EXISTS pushes (
    id INTEGER PRIMARY KEY,
    token TEXT NOT NULL REFERENCES devices ON DELETE CASCADE,
    platform TEXT NOT NULL,
    notice TEXT NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    due_at REAL NOT NULL,
    expires_at REAL NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS pushes_due ON pushes (platform, due_at);
"""


@dataclass(frozen=True)
class Push:
    id: int
    token: str
    notice: Notice
    attempts: int
    expires_at: float


class Store:
    """The database file. Any thread may use the store, and a lock lets only one thread use it at a time."""

    def __init__(self, file: str):
        self.lock = threading.Lock()
        self.db = sqlite3.connect(file, check_same_thread=False, isolation_level=None, timeout=5)
        # With synchronous=FULL, a message is on disk before the response 204 is sent.
        for pragma in ["journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"]:
            self.db.execute(f"PRAGMA {pragma}")
        self.db.executescript(SCHEMA)

    def accept(self, message_id: str, notice: Notice | None) -> bool:
        """Stores a message with its pushes in one transaction. Returns False if the message was stored before."""
        now = time.time()
        with self.lock, _transaction(self.db):
            new = self.db.execute("INSERT OR IGNORE INTO seen VALUES (?, ?)", (message_id, now)).rowcount == 1
            if new and notice:
                self.db.execute(
                    "INSERT INTO pushes (token, platform, notice, due_at, expires_at) "
                    "SELECT token, platform, ?, ?, ? FROM devices WHERE customer_id = ?",
                    (json.dumps(asdict(notice)), now, now + PUSH_SECONDS, notice.customer_id),
                )
            return new

    def due(self, platform: str, limit: int) -> list[Push]:
        query = (
            "SELECT id, token, notice, attempts, expires_at FROM pushes "
            "WHERE platform = ? AND due_at <= ? ORDER BY due_at, id LIMIT ?"
        )
        with self.lock:
            rows = self.db.execute(query, (platform, time.time(), limit)).fetchall()
        return [Push(id, token, Notice(**json.loads(notice)), attempts, end) for id, token, notice, attempts, end in rows]

    def next_due(self, platform: str) -> float | None:
        with self.lock:
            return self.db.execute("SELECT min(due_at) FROM pushes WHERE platform = ?", (platform,)).fetchone()[0]

    def done(self, push: Push) -> None:
        with self.lock:
            self.db.execute("DELETE FROM pushes WHERE id = ?", (push.id,))

    def postpone(self, push: Push, seconds: float) -> None:
        with self.lock:
            self.db.execute(
                "UPDATE pushes SET attempts = attempts + 1, due_at = ? WHERE id = ?", (time.time() + seconds, push.id)
            )

    def register(self, platform: str, token: str, customer_id: str) -> None:
        """Assigns the device to the customer who signed in last. Removes the customer's oldest device if there are too many."""
        with self.lock, _transaction(self.db):
            # Also deletes pushes to the previous customer, which the new customer must not see.
            self.db.execute("DELETE FROM devices WHERE token = ? AND customer_id <> ?", (token, customer_id))
            self.db.execute(
                "INSERT INTO devices VALUES (?, ?, ?, ?) "
                "ON CONFLICT (token) DO UPDATE SET registered_at = excluded.registered_at",
                (token, platform, customer_id, time.time()),
            )
            self.db.execute(
                "DELETE FROM devices WHERE token IN (SELECT token FROM devices WHERE customer_id = ? "
                "ORDER BY registered_at DESC LIMIT -1 OFFSET ?)",
                (customer_id, MAX_DEVICES_PER_CUSTOMER),
            )

    def unregister(self, token: str, customer_id: str) -> None:
        with self.lock:
            self.db.execute("DELETE FROM devices WHERE token = ? AND customer_id = ?", (token, customer_id))

    def remove_gone(self, push: Push, since: float | None) -> None:
        """Removes the push. Also removes the device and its other pushes, unless the device was registered after `since`."""
        with self.lock, _transaction(self.db):
            self.db.execute("DELETE FROM pushes WHERE id = ?", (push.id,))
            self.db.execute(
                "DELETE FROM devices WHERE token = ? AND registered_at <= ?", (push.token, since or time.time())
            )

    def prune(self) -> None:
        with self.lock:
            self.db.execute("DELETE FROM seen WHERE at < ?", (time.time() - SEEN_SECONDS,))


class _transaction:
    def __init__(self, db: sqlite3.Connection):
        self.db = db

    def __enter__(self):
        self.db.execute("BEGIN IMMEDIATE")

    def __exit__(self, failed, *_):
        self.db.execute("ROLLBACK" if failed else "COMMIT")
