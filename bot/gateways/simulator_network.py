"""The simulated network's own book: what every handset got and typed, and what was made to go wrong.

It is a file of its own, outside the shared database.
"""

from __future__ import annotations

import json
import re
import secrets
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from bot.gateways.base import (
    ReceiptState,
    Request,
)
from bot.gateways.faults import Faults
from bot.gateways.faults import read as read_faults

OUR_NUMBER: Final = "15005550006"
"""The number that the handsets write to; in Twilio's test credentials it is the one good sender."""

BUSY_TIMEOUT_S: Final = 5.0

MOST_LOST: Final = 500
"""Texts that were lost on the way to us and are still shown on their handsets."""

CODE = re.compile("[0-9]{5}")


@dataclass(frozen=True, slots=True)
class Text:
    """One text on a handset: `message_id` and `attempt_id` are ours, `at` is when the handset had it, in UTC."""

    gateway_id: str
    phone: str
    body: str
    at: datetime
    message_id: int
    attempt_id: str


@dataclass(frozen=True, slots=True)
class Typed:
    """A text typed on a handset that has not come to us: `due_at` is when it does, None for one that is lost."""

    request: Request
    gateway_id: str
    phone: str
    body: str
    at: datetime
    due_at: datetime | None


_BOOK = (
    "CREATE TABLE IF NOT EXISTS network (id INTEGER PRIMARY KEY CHECK (id = 1), secret BLOB NOT NULL)",
    "CREATE TABLE IF NOT EXISTS texts (n INTEGER PRIMARY KEY, gateway_id TEXT NOT NULL UNIQUE, phone TEXT NOT NULL,"
    " body TEXT NOT NULL, at TEXT NOT NULL, message_id INTEGER NOT NULL, attempt_id TEXT NOT NULL)",
    "CREATE INDEX IF NOT EXISTS texts_by_phone ON texts (phone)",
    "CREATE INDEX IF NOT EXISTS texts_by_attempt ON texts (attempt_id)",
    "CREATE TABLE IF NOT EXISTS lost (attempt_id TEXT PRIMARY KEY, gateway_id TEXT NOT NULL, state TEXT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS faults (id INTEGER PRIMARY KEY CHECK (id = 1), told TEXT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS taken_out (n INTEGER PRIMARY KEY, phone TEXT NOT NULL UNIQUE)",
    "CREATE TABLE IF NOT EXISTS typing (id INTEGER PRIMARY KEY CHECK (id = 1), n INTEGER NOT NULL)",
    "CREATE TABLE IF NOT EXISTS typed (n INTEGER PRIMARY KEY, gateway_id TEXT NOT NULL UNIQUE, phone TEXT NOT NULL,"
    " body TEXT NOT NULL, at TEXT NOT NULL, due_at TEXT, url TEXT NOT NULL, headers TEXT NOT NULL, raw BLOB NOT NULL)",
)

_UNDER_WAY = "SELECT gateway_id, phone, body, at, due_at, url, headers, raw FROM typed ORDER BY n"

_ON_A_HANDSET = "SELECT gateway_id, phone, body, at, message_id, attempt_id FROM texts WHERE phone = ? ORDER BY n"

_OF_A_MESSAGE = "SELECT gateway_id, phone, body, at, message_id, attempt_id FROM texts WHERE message_id = ? AND phone = ? ORDER BY n"

_OF_ATTEMPTS = (
    "SELECT gateway_id, phone, body, at, message_id, attempt_id FROM texts"
    " WHERE attempt_id IN (SELECT value FROM json_each(?)) ORDER BY n"
)


class Network:
    """The book of what reached each handset, in one SQLite file that the web and the worker process share.

    A connection is opened for each call: a forked process or another thread never inherits one, and the rollback
    journal makes two processes wait for each other.  The file is made at the first call, readable by its owner only,
    because it holds the secret that signs.
    """

    def __init__(self, path: str | Path) -> None:
        """The network whose book is this file; nothing is opened yet."""
        self.path = Path(path)
        self._secret = b""
        self._is_made = False

    @property
    def secret(self) -> bytes:
        """The key that signs this network's requests: random, made once, the same in every process."""
        if not self._secret:
            with self._open() as book:
                book.execute("INSERT OR IGNORE INTO network (id, secret) VALUES (1, ?)", (secrets.token_bytes(32),))
                self._secret = bytes(book.execute("SELECT secret FROM network").fetchone()[0])
        return self._secret

    def deliver(self, text: Text) -> None:
        """Put a text on its handset.  Raises ConnectionError if that certainly failed, sqlite3.Error if it may have."""
        with self._open() as book:
            try:
                book.execute("BEGIN IMMEDIATE")
            except sqlite3.Error as fault:
                raise ConnectionError("the book cannot be opened") from fault
            book.execute(
                "INSERT INTO texts (gateway_id, phone, body, at, message_id, attempt_id) VALUES (?, ?, ?, ?, ?, ?)",
                (text.gateway_id, text.phone, text.body, text.at.isoformat(), text.message_id, text.attempt_id),
            )
            book.execute("COMMIT")

    def handset(self, phone: str) -> list[Text]:
        """Every text that a handset has got by now, oldest first."""
        now = datetime.now(UTC)
        with self._open() as book:
            booked = [_text(row) for row in book.execute(_ON_A_HANDSET, (phone,))]
        return sorted((text for text in booked if text.at <= now), key=lambda text: text.at)

    def arrived(self, attempt_ids: Iterable[str]) -> dict[str, Text]:
        """Of these attempts the ones that reached a handset by now, with what it shows; in one question."""
        now, wanted = datetime.now(UTC), json.dumps(list(attempt_ids))
        with self._open() as book:
            booked = map(_text, book.execute(_OF_ATTEMPTS, (wanted,)))
            return {text.attempt_id: text for text in booked if text.at <= now}

    def booked(self, attempt_id: str) -> Text | None:
        """The text of an attempt, whether it is on its handset or on the way there."""
        with self._open() as book:
            row = book.execute(_OF_ATTEMPTS, (json.dumps([attempt_id]),)).fetchone()
        return _text(row) if row else None

    def booked_for(self, message_id: int, phone: str, since: datetime) -> Text | None:
        """The first text of a message of ours since then, by whatever attempt; None if there is none."""
        with self._open() as book:
            rows = book.execute(_OF_A_MESSAGE, (message_id, phone)).fetchall()
        return next((found for found in map(_text, rows) if found.at >= since), None)

    def keep_lost(self, gateway_id: str, attempt_id: str, state: ReceiptState) -> None:
        """Write down a text that was taken and never reaches its handset."""
        with self._open() as book:
            book.execute(
                "INSERT OR IGNORE INTO lost (attempt_id, gateway_id, state) VALUES (?, ?, ?)",
                (attempt_id, gateway_id, state),
            )

    def lost(self, attempt_id: str) -> tuple[str, ReceiptState] | None:
        """The gateway id and end of a text that was taken and never reached its handset; None if there is none."""
        with self._open() as book:
            found = book.execute("SELECT gateway_id, state FROM lost WHERE attempt_id = ?", (attempt_id,)).fetchone()
        return found if found is None else (str(found[0]), found[1])

    # -- what the page sets --------------------------------------------------------------------------------------------

    def faults(self) -> Faults:
        """What goes wrong now; nothing where nobody ever said so, or where the book is of another release."""
        with self._open() as book:
            return _faults_in(book)

    def set_faults(self, faults: Faults) -> None:
        """From now on, and in every process, this goes wrong."""
        with self._open() as book:
            _write_faults(book, faults)

    def change_faults(self, said: object, *, anew: bool = False) -> Faults | str:
        """Switch only the faults that are named, over what is so or `anew`; returns what is so now, or what is wrong."""
        with self._open() as book:
            book.execute("BEGIN IMMEDIATE")
            changed = read_faults(said, None if anew else _faults_in(book))
            if isinstance(changed, Faults):
                _write_faults(book, changed)
            book.execute("COMMIT")
        return changed

    def take_out(self, phone: str) -> None:
        """Put a phone on the page that is not there by itself; again changes nothing."""
        with self._open() as book:
            book.execute("INSERT OR IGNORE INTO taken_out (phone) VALUES (?)", (phone,))

    def put_away(self, phone: str) -> None:
        """Take a phone off the page again; its texts stay."""
        with self._open() as book:
            book.execute("DELETE FROM taken_out WHERE phone = ?", (phone,))

    def taken_out(self) -> list[str]:
        """The numbers of the phones that somebody took out, in that order."""
        with self._open() as book:
            return [str(phone) for (phone,) in book.execute("SELECT phone FROM taken_out ORDER BY n")]

    # -- on the way to us ----------------------------------------------------------------------------------------------

    def send_off(self, request: Request, *, lost: bool, in_s: float) -> None:
        """Keep a typed text that comes to us later, or never."""
        said, now = json.loads(request.body), datetime.now(UTC)
        due = None if lost else (now + timedelta(seconds=in_s)).isoformat()
        row = (
            said["id"],
            said["from"],
            said["text"],
            now.isoformat(),
            due,
            request.url,
            json.dumps(dict(request.headers)),
        )
        with self._open() as book:
            book.execute(
                "INSERT INTO typed (gateway_id, phone, body, at, due_at, url, headers, raw) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (*row, request.body),
            )
            book.execute(
                "DELETE FROM typed WHERE due_at IS NULL AND n <= (SELECT max(n) FROM typed) - ?",
                (MOST_LOST,),
            )

    def under_way(self) -> list[Typed]:
        """The typed texts that have not come to us, lost ones too, oldest first."""
        with self._open() as book:
            return [_typed(row) for row in book.execute(_UNDER_WAY)]

    def came(self, gateway_id: str) -> None:
        """A typed text has come to us."""
        with self._open() as book:
            book.execute("DELETE FROM typed WHERE gateway_id = ?", (gateway_id,))

    def count_typed(self) -> int:
        """The number of a text that is typed now, by which the faults are drawn; each one gets its own."""
        with self._open() as book:
            counted = "INSERT INTO typing (id, n) VALUES (1, 1) ON CONFLICT (id) DO UPDATE SET n = n + 1 RETURNING n"
            return int(book.execute(counted).fetchone()[0])

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            made = self._is_made and self.path.exists()  # a book that was deleted meanwhile is made anew
            if not made:
                self.path.parent.mkdir(0o700, exist_ok=True)
                self.path.touch(mode=0o600)
            book = sqlite3.connect(self.path, timeout=BUSY_TIMEOUT_S, isolation_level=None)
        except (OSError, sqlite3.Error) as fault:
            raise ConnectionError("the book cannot be opened") from fault
        try:
            try:
                for statement in () if made else _BOOK:
                    book.execute(statement)
                self._is_made = True
            except sqlite3.Error as fault:
                raise ConnectionError("the book cannot be opened") from fault
            yield book
        finally:
            book.close()


def _faults_in(book: sqlite3.Connection) -> Faults:
    row = book.execute("SELECT told FROM faults").fetchone()
    read = read_faults(json.loads(row[0])) if row else Faults()
    return read if isinstance(read, Faults) else Faults()


def _write_faults(book: sqlite3.Connection, faults: Faults) -> None:
    told = json.dumps(asdict(faults))
    book.execute("INSERT INTO faults (id, told) VALUES (1, ?) ON CONFLICT (id) DO UPDATE SET told = ?", (told,) * 2)


def _text(row: tuple[Any, ...]) -> Text:
    gateway_id, phone, body, at, message_id, attempt_id = row
    return Text(gateway_id, phone, body, datetime.fromisoformat(at), message_id, attempt_id)


def _typed(row: tuple[Any, ...]) -> Typed:
    gateway_id, phone, body, at, due_at, url, headers, raw = row
    due = datetime.fromisoformat(due_at) if due_at else None
    return Typed(
        Request("POST", url, json.loads(headers), bytes(raw)), gateway_id, phone, body, datetime.fromisoformat(at), due
    )
