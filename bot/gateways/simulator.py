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
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final
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
from bot.gateways.simulator_network import CODE, OUR_NUMBER, Network, Text

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

_PHONE = re.compile("[0-9]{1,15}")


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
        if code is not None and not CODE.fullmatch(code):
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


_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


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


_ID = re.compile("SIM[0-9a-f]{32}")


def _gateway_id(said: Mapping[str, str]) -> str:
    if not _ID.fullmatch(said.get("id", "")):
        raise Unreadable("the request has no id of this network")
    return said["id"]
