"""The simulator: a phone network of our own, for rehearsals.  **Nothing it takes reaches a person.**

There is no account, no provider and no internet behind it.  A text that it *accepts* is written into a small SQLite
file, the book, and that is all: no radio, no SMS.  Whoever reads "delivered" beside a message of the gateway kind
`simulator` reads that a virtual handset on the page `/phones` has it.  It can never be had by accident: it is made only
where `JUMBE_SIMULATOR=1` is set, on a database stamped as a rehearsal, and it makes requests to this machine only.

Everything else is as with a real gateway, so that a rehearsal tries the real thing: it refuses the magic numbers of
Twilio's test credentials, its texts and receipts are signed HTTP requests, and its receipts come later, over the
network, in a process of their own time.

The book is not a copy of our messages: it is what the handsets show.  A code that is masked in our database stands
there in its digits, and a text sent twice would stand there twice.

The book also keeps what both processes must agree on: the faults that somebody switched on (`faults.py`), the phones
that were taken out for a number of no case, and the texts that are still on their way to us.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import re
import secrets
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp

from bot.gateways.base import (
    Absent,
    Accepted,
    CannotTell,
    Capabilities,
    Doubtful,
    FindResult,
    Forged,
    Found,
    Inbound,
    NotSent,
    Outgoing,
    Receipt,
    ReceiptState,
    Reply,
    Request,
    Scope,
    SendResult,
    Unknown,
    Unreadable,
    attempt_in,
)
from bot.gateways.faults import GATEWAY, UNREACHABLE_PHONE, Faults
from bot.gateways.faults import read as read_faults

OUR_NUMBER: Final = "15005550006"
"""The number that the handsets write to; in Twilio's test credentials it is the one good sender."""

MAGIC_RECIPIENTS: Final[Mapping[str, tuple[Scope, str, str]]] = {
    "15005550001": ("recipient", "the number is not a valid phone number", "21211"),
    "15005550002": ("recipient", "the gateway has no way from our sender to this number", "21612"),
    "15005550003": ("destination", "our account may not send to this country", "21408"),
    "15005550004": ("opted_out", "the person told the gateway to stop", "21610"),
    "15005550009": ("recipient", "the number is not a mobile phone", "21614"),
}
"""Numbers that are always refused, as with Twilio's test credentials, so that failures can be tried by hand."""

RECEIPT_STATES: Final[Mapping[str, ReceiptState]] = {
    "sent": "sent",
    "delivered": "delivered",
    "undelivered": "undelivered",
}
SIGNATURE: Final = "x-simulator-signature"
RECEIPT_TRIES: Final = 5
LARGEST_BODY: Final = 64 * 1024
BUSY_TIMEOUT_S: Final = 5.0
MOST_LOST: Final = 500
"""Texts that were lost on the way to us and are still shown on their handsets."""

_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
_ID = re.compile("SIM[0-9a-f]{32}")
_PHONE = re.compile("[0-9]{1,15}")
_CODE = re.compile("[0-9]{5}")


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


class Simulator:
    """A gateway to virtual handsets.  Not one of its texts leaves this machine.

    `book` is the file of its network, `public_url` where the web process hears it; `receipts_after_s` is how long each
    of the two receipts takes, None for a network that gives none.
    """

    kind = "simulator"

    def __init__(
        self,
        *,
        name: str = "simulator",
        book: str | Path,
        public_url: str,
        rate_per_s: float = 20.0,
        receipts_after_s: float | None = 0.6,
    ) -> None:
        """A simulator that writes to this book; nothing is opened yet."""
        self.name = name
        self.rate_per_s = rate_per_s
        self.capabilities = Capabilities(
            receipts=receipts_after_s is not None,
            signed_webhooks=True,
            validity=False,
            answers_stop_itself=False,
            concurrency=8,
            finds_sent=True,
        )
        self.network = Network(book)
        self._public_url = public_url.rstrip("/")
        self._receipts_after_s = receipts_after_s
        self._session: aiohttp.ClientSession | None = None
        self._receipts: set[asyncio.Task[None]] = set()

    def verify(self, request: Request) -> None:
        """Raise Forged unless this network signed the request, address and body."""
        try:
            right = self._sign(request.url, request.body).encode()
            signed = hmac.compare_digest(right, request.headers.get(SIGNATURE, "").encode("utf-8", "replace"))
        except (sqlite3.Error, ConnectionError, UnicodeError):
            raise Forged("the request could not be checked against its signature") from None
        if not signed:
            raise Forged("the request does not carry the simulator's signature")

    def parse_inbound(self, request: Request) -> list[Inbound]:
        """The one text in a verified request; raises Unreadable."""
        said = _fields(request)
        sender, to, text = said.get("from", ""), said.get("to", ""), said.get("text")
        if not _PHONE.fullmatch(sender) or not _PHONE.fullmatch(to):
            raise Unreadable("the request has no phone number in from and to")
        if text is None:
            raise Unreadable("the request has no text")
        return [Inbound(gateway_id=_gateway_id(said), sender=sender, to=to, text=text, raw={"id": said["id"]})]

    def parse_receipt(self, request: Request, message_id: int) -> list[Receipt]:
        """The one receipt in a verified request; raises Unreadable."""
        said = _fields(request)
        word = said.get("state", "")
        if word not in RECEIPT_STATES:
            raise Unreadable("the request has no state that this network knows")
        code = said.get("code") or None
        if code is not None and not _CODE.fullmatch(code):
            raise Unreadable("the request has a code that this network does not know")
        return [
            Receipt(
                message_id,
                _gateway_id(said),
                RECEIPT_STATES[word],
                word,
                code,
                attempt_id=attempt_in(request.url),
                raw=said,
            )
        ]

    def reply(self) -> Reply:
        """A short yes."""
        return Reply("ok", "text/plain")

    async def send(self, outgoing: Outgoing) -> SendResult:
        """Put the text on a virtual handset, or refuse it; receipts follow by themselves.

        What the faults say happens here: the answer is lost after the text was taken, as it is in the world.
        """
        try:
            # In a thread: another process may hold the book, and the worker's other messages do not wait for that.
            faults = await asyncio.to_thread(self.network.faults)
        except (sqlite3.Error, ConnectionError):
            return NotSent("unreachable", "the book of the simulated network could not be opened")
        if (refusal := GATEWAY[faults.gateway][1]) is not None:
            return refusal
        if outgoing.to in MAGIC_RECIPIENTS:
            return NotSent(*MAGIC_RECIPIENTS[outgoing.to])
        gateway_id = "SIM" + secrets.token_hex(16)
        in_s = faults.on_its_way_s(outgoing.id)
        at = datetime.now(UTC) + timedelta(seconds=in_s)
        text = Text(gateway_id, outgoing.to, outgoing.text, at, outgoing.id, outgoing.attempt_id)
        try:
            if faults.strikes("lost_texts", outgoing.id):
                await asyncio.to_thread(self.network.keep_lost, gateway_id, outgoing.attempt_id, "sent")
            elif faults.strikes("undelivered", outgoing.id):
                await asyncio.to_thread(self.network.keep_lost, gateway_id, outgoing.attempt_id, "undelivered")
            else:
                await asyncio.to_thread(self.network.deliver, text)
        except UnicodeEncodeError:  # a lone surrogate: half of a character
            return NotSent("message", "the text holds a broken character that cannot be sent")
        except ConnectionError:
            return NotSent("unreachable", "the book of the simulated network could not be opened")
        except sqlite3.Error:
            return Unknown("the book of the simulated network could not be written to its end")
        self._promise_receipts(outgoing, gateway_id, faults, in_s)
        if faults.strikes("lost_answers", outgoing.id):
            return Unknown("the answer of the simulated network was lost")
        return Accepted(gateway_id)

    async def find(self, doubtful: Doubtful) -> FindResult:
        """What the book says of an attempt; nothing can be mistaken, because it knows our own ids.

        After a restore the attempt by which a message left is not known any more, and the message itself is looked for.
        """
        try:
            return await asyncio.to_thread(self._look_up, doubtful)
        except (sqlite3.Error, ConnectionError):
            return CannotTell("the book of the simulated network could not be opened")

    def _look_up(self, doubtful: Doubtful) -> FindResult:
        attempt_id = doubtful.attempt_id
        booked = self.network.booked(attempt_id)
        if booked is None and doubtful.any_attempt:
            booked = self.network.booked_for(doubtful.id, doubtful.to, doubtful.handed_over_at)
        if booked is not None:
            return Found(booked.gateway_id, "delivered" if booked.at <= datetime.now(UTC) else "accepted")
        lost = self.network.lost(attempt_id)
        if lost is None:
            return Absent()
        return Found(*lost, UNREACHABLE_PHONE if lost[1] == "undelivered" else None)

    async def sweep(self, since: datetime) -> list[Inbound] | CannotTell:
        """Nothing: what this network loses on the way to us is lost, to be seen on the page."""
        return CannotTell(f"the simulated network keeps no list of what came in since {since:%H:%M}")

    async def close(self) -> None:
        """Drop the receipts still to come, and let go of connections; a later send opens new ones."""
        waiting = list(self._receipts)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def originate(self, phone: str, body: str) -> Request:
        """The signed request by which a text typed on a handset comes to us."""
        said = {"id": "SIM" + secrets.token_hex(16), "from": phone, "to": OUR_NUMBER, "text": body}
        return self._signed(f"{self._public_url}/in/{self.name}", said)

    def receipt(self, url: str, gateway_id: str, state: ReceiptState) -> Request:
        """The signed request by which this network says what became of a text; a failure carries Twilio's code."""
        code = {"code": UNREACHABLE_PHONE} if state == "undelivered" else {}
        return self._signed(url, {"id": gateway_id, "state": state, **code})

    def _signed(self, url: str, said: Mapping[str, str]) -> Request:
        body = json.dumps(said).encode("ascii")
        headers = {"content-type": "application/json", SIGNATURE: self._sign(url, body)}
        return Request("POST", url, headers, body)

    def _sign(self, url: str, body: bytes) -> str:
        return hmac.new(self.network.secret, url.encode() + body, hashlib.sha256).hexdigest()

    def _promise_receipts(self, outgoing: Outgoing, gateway_id: str, faults: Faults, arrives_in_s: float) -> None:
        # Whatever address it is given, the simulator calls nobody but this machine.
        if self._receipts_after_s is None or not _is_here(outgoing.callback_url):
            return
        coming = faults.receipts(outgoing.id, arrives_in_s, self._receipts_after_s)
        task = asyncio.create_task(self._give_receipts(outgoing.callback_url, gateway_id, coming))
        self._receipts.add(task)
        task.add_done_callback(self._receipts.discard)

    async def _give_receipts(self, url: str, gateway_id: str, coming: list[tuple[float, ReceiptState]]) -> None:
        began = asyncio.get_running_loop().time()
        for in_s, state in coming:
            await asyncio.sleep(max(0.0, began + in_s - asyncio.get_running_loop().time()))
            try:
                request = await asyncio.to_thread(self.receipt, url, gateway_id, state)
            except (sqlite3.Error, ConnectionError):
                return
            await self._post(request, self._receipts_after_s or 0.0)

    async def _post(self, request: Request, after_s: float) -> None:
        """Post a receipt; a web process that is down, or says that it cannot keep it now, is asked a few times more."""
        for again in range(RECEIPT_TRIES):
            try:
                answer = self._open_session().post(
                    request.url, data=request.body, headers=request.headers, allow_redirects=False
                )
                async with answer as response:
                    if response.status < 500:
                        return
            except (aiohttp.ClientError, OSError, ValueError):  # TimeoutError is an OSError
                pass
            await asyncio.sleep(max(0.05, after_s) * 2**again)

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None or self._session.closed:
            self._session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=5.0), cookie_jar=aiohttp.DummyCookieJar(), trust_env=False
            )
        return self._session


def _is_here(url: str) -> bool:
    try:
        return urlsplit(url).hostname in _LOOPBACK
    except ValueError:
        return False


def _fields(request: Request) -> dict[str, str]:
    """The request's JSON object, which holds texts only."""
    if len(request.body) > LARGEST_BODY:
        raise Unreadable("the request is too large")
    try:
        said = json.loads(request.body)
    except (ValueError, RecursionError):
        raise Unreadable("the request is not JSON") from None
    if not isinstance(said, dict) or not all(isinstance(value, str) and _is_text(value) for value in said.values()):
        raise Unreadable("the request is not an object of texts")
    return said


def _is_text(value: str) -> bool:
    """Whether it can be written down at all: a lone surrogate is half of a character."""
    return not any("\ud800" <= character <= "\udfff" for character in value)


def _gateway_id(said: Mapping[str, str]) -> str:
    if not _ID.fullmatch(said.get("id", "")):
        raise Unreadable("the request has no id of this network")
    return said["id"]
