"""What every gateway is to the rest of the bot: the words passed in and out, and the Protocol an adapter fulfils.

An adapter turns one provider's words into these and back.
It knows neither Flask nor the database: a request arrives as a `Request` of our own, so an adapter is tested with
a dictionary.  It makes exactly one network attempt for a send and never retries: the engine owns retries, because only
the engine knows whether the first attempt may have reached a person.

The three answers to a send are the heart of *never lost, never twice*:

    Accepted   the gateway took the message and named it
    NotSent    certainly not sent; `scope` says what to stop (a message, a number, the whole gateway ...)
    Unknown    request bytes left and no answer can be trusted: never sent again without evidence
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Final, Literal, Protocol
from urllib.parse import parse_qsl, urlsplit

Scope = Literal["message", "recipient", "opted_out", "destination", "sender", "gateway", "throttled", "unreachable"]
"""What a refusal is about: this text, this number, a number that said stop, its country, our own sender number,
our account with the gateway, our speed, or a gateway that could not be reached at all (no request byte left)."""

Hold = Literal["slow", "while", "day", "person"]
"""What a word of the gateway does to what is still to leave: it goes more slowly, or not for a minute, or not before the next
day, or not until a person has mended something."""

ReceiptState = Literal["accepted", "sent", "delivered", "undelivered", "refused", "unrecognised"]


_ATTEMPT: Final = re.compile("[0-9a-f]{8,32}")


def attempt_in(url: str) -> str | None:
    """Our attempt in the address of a receipt; None where it names none, as those of older releases."""
    told = dict(parse_qsl(urlsplit(url).query)).get("attempt", "")
    return told if _ATTEMPT.fullmatch(told) else None


class Forged(Exception):
    """The request does not carry the gateway's signature, or is signed for another account."""


class Unreadable(Exception):
    """The request is signed but is not what this gateway sends; the sentence says in what."""


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request as it came in.

    `url` is the public address that the gateway called: the configured PUBLIC_URL and the raw path and query as they
    were sent, never the Host header.  Header names are lower case.
    """

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes

    def form(self) -> list[tuple[str, str]]:
        """The form fields in the order sent, blanks kept: a dropped blank changes the signature."""
        return list(_fields(self.body))


@lru_cache(maxsize=8)
def _fields(body: bytes) -> list[tuple[str, str]]:
    """Each request is read more than once: to verify it, and to parse it."""
    return parse_qsl(body.decode("utf-8", "surrogateescape"), keep_blank_values=True, errors="surrogateescape")


@dataclass(frozen=True, slots=True)
class Inbound:
    """A text from a phone.  `sender` and `to` are digits; `raw` is what the gateway said, kept beside it.

    `is_whole` says that the sender's digits begin with a country code: False where the gateway may give them as they are
    dialled in its own country.
    `answered` says that the gateway has confirmed this STOP or START by itself: a second confirmation is not wanted.
    `sent_at` is when it was sent, where it comes later than that: from the gateway's list, or from the spool.
    """

    gateway_id: str
    sender: str
    to: str
    text: str
    is_whole: bool = True
    media: int = 0
    opt_out: Literal["stop", "start", "help"] | None = None
    answered: bool = False
    sent_at: datetime | None = None
    raw: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Trouble:
    """What a receipt says beyond its message: `scope` and `hold` say what is slowed or paused, `reason` why."""

    scope: Scope
    reason: str
    hold: Hold


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a gateway says became of a message: `message_id` is ours, from the address it called.

    `opted_out` says that the message failed because its recipient had told the gateway to stop, `attempt_id` by which of our
    attempts it left, where the address said so.
    """

    message_id: int
    gateway_id: str
    state: ReceiptState
    word: str
    code: str | None = None
    opted_out: bool = False
    trouble: Trouble | None = None
    attempt_id: str | None = None
    raw: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One message to hand over: `to` is digits, `callback_url` carries our message id and attempt, times are seconds.

    `own_number` is ours by which it must leave, where the gateway has several.
    """

    id: int
    attempt_id: str
    to: str
    text: str
    callback_url: str
    validity_s: int | None = None
    own_number: str | None = None


@dataclass(frozen=True, slots=True)
class Accepted:
    """The gateway took the message; `gateway_id` is its name for it."""

    gateway_id: str
    segments: int | None = None


@dataclass(frozen=True, slots=True)
class NotSent:
    """Certainly not sent; `lasting` says that a person must mend something before the next one can go.

    `hold` is what it does to the messages behind it, where that is not what its scope means anyway.
    """

    scope: Scope
    reason: str
    code: str | None = None
    retry_after_s: float | None = None
    lasting: bool = False
    hold: Hold | None = None


@dataclass(frozen=True, slots=True)
class Unknown:
    """The message may or may not have been taken."""

    reason: str


SendResult = Accepted | NotSent | Unknown


@dataclass(frozen=True, slots=True)
class Doubtful:
    """A message that was handed over and never answered for; `text` is as it left, `handed_over_at` by our clock.

    `not_it` are the gateway's ids of our other messages to that phone, which are certainly not this one.
    """

    id: int
    attempt_id: str
    to: str
    text: str
    handed_over_at: datetime
    not_it: frozenset[str] = frozenset()
    any_attempt: bool = False
    """After a restore: the attempt by which it left, if it did, is not known any more."""


@dataclass(frozen=True, slots=True)
class Found:
    """The gateway has the message: its name for it, and how far it is."""

    gateway_id: str
    state: ReceiptState
    code: str | None = None


@dataclass(frozen=True, slots=True)
class Absent:
    """The gateway's own records do not have the message: nothing in them could be it."""


@dataclass(frozen=True, slots=True)
class CannotTell:
    """The gateway could not be asked, or what it has may or may not be the message."""

    reason: str


FindResult = Found | Absent | CannotTell


@dataclass(frozen=True, slots=True)
class Reply:
    """What a provider wants to hear after a webhook."""

    body: str
    content_type: str


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a gateway can do; the table in `bot/README.md` is printed from these."""

    receipts: bool
    signed_webhooks: bool
    validity: bool
    answers_stop_itself: bool
    concurrency: int
    finds_sent: bool = False
    lists_inbound: bool = False


class Gateway(Protocol):
    """One configured gateway; `name` is what a case's `contact_backend_id` holds, `kind` which adapter serves it."""

    name: str
    kind: str
    capabilities: Capabilities
    rate_per_s: float

    def verify(self, request: Request) -> None:
        """Raise Forged unless the gateway itself made this request."""

    def parse_inbound(self, request: Request) -> list[Inbound]:
        """The texts in a verified request; raises Unreadable."""

    def parse_receipt(self, request: Request, message_id: int) -> list[Receipt]:
        """The receipts in a verified request to the status address of our message; raises Unreadable."""

    def reply(self) -> Reply:
        """What to answer a webhook that was taken."""

    async def send(self, outgoing: Outgoing) -> SendResult:
        """Hand one message over: one attempt, bounded in time, no exception for anything the network does."""

    async def find(self, doubtful: Doubtful) -> FindResult:
        """What became of a message: bounded in time, no exception; asked only of one that `finds_sent`."""

    async def sweep(self, since: datetime) -> list[Inbound] | CannotTell:
        """Every text that came in since then, oldest first, with `sent_at`; asked only of one that `lists_inbound`.

        All of them or CannotTell: a list that is cut off would leave a hole that nobody looks for again.
        """

    async def close(self) -> None:
        """Let go of connections."""
