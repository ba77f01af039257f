"""Kannel: the free gateway that many programmes run themselves, in front of an operator's SMPP line.

This module owns Kannel's words (1.4.5, as Debian has it; `userguide`, *smsbox*) and turns them into ours.  It protects the
same two rules as every adapter: a stranger's request is never read as a text, and a message that may have reached a phone
is never called "not sent".

Where Kannel is odd, each of these seen with the real one (`tests/test_kannel.py`):

- **It signs nothing.**  Whoever knows the address may speak, so the address holds a secret: `/in/<name>/<secret>` and
  `/status/<name>/<secret>/<message id>`.
- **A send is answered without an id.**  Our attempt id travels in the receipt address and comes back with each receipt,
  so it serves as Kannel's name for the message.
- **A GET shows password, number and text in every log on the way**, so we POST: the words of the account and the message
  are headers, the text is the body, and its alphabet is the `charset` of Content-Type (`X-Kannel-Charset` is not read).
- **Receipts come in any order.**  A long text is `delivered` before it is `accepted` nearly always.
- **A refused route is told twice**, by the answer (`Not routable`) and by a receipt (`16`, `NACK/no SMSC`), which may come
  first.  The answer counts, because it can go another way; that receipt is kept and moves nothing.
- **Texts come in as bytes** in the alphabet that `%C` names; UCS-2 as UTF-16BE.  Kannel itself joins long ones.
- **It calls again where we answered 503**, with the same id (`%I`).
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Final
from urllib.parse import unquote_to_bytes, urlencode, urlsplit

import aiohttp

from bot.gateways.base import (
    Accepted,
    CannotTell,
    Capabilities,
    Doubtful,
    FindResult,
    Forged,
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
)

ACCEPTED: Final = ("0: Accepted for delivery", "3: Queued for later delivery")
"""The second where the operator's line is down: Kannel keeps the text and sends it later."""

REFUSALS: Final[Mapping[str, tuple[Scope, str]]] = {
    "Authorization failed for sendsms": ("gateway", "the gateway did not accept our user and password"),
    "Sender missing and no global set, rejected": ("sender", "our sender number is missing"),
    "Not routable. Do not try again.": ("destination", "the gateway has no way to this number"),
    "Number(s) has/have been denied by white- and/or black-lists.": (
        "recipient",
        "the gateway's lists deny this number",
    ),
    "Missing receiver number, rejected": ("recipient", "the number to send to is missing"),
    "Missing receiver(s) number(s), rejected": ("recipient", "the number to send to is missing"),
    "Empty receiver number not allowed, rejected": ("recipient", "the number to send to is missing"),
    "Charset or body misformed, rejected": ("message", "the gateway could not read the text"),
    "Coding field misformed, rejected": ("message", "the gateway could not read our request"),
    "DLR-URL field misformed, rejected": ("message", "the gateway did not accept our status address"),
    "DLR-Mask field misformed, rejected": ("message", "the gateway could not read our request"),
    "Validity field misformed, rejected": ("message", "the gateway could not read our request"),
    "Unsupported content-type, rejected": ("message", "the gateway could not read our request"),
    "Temporal failure, try again later.": ("throttled", "the gateway's own queue is full"),
}
"""What a refusal is about, by Kannel's sentence.  `Temporal failure` is a 503, but Kannel's own: it has not kept the text."""

RECEIPTS: Final[Mapping[str, tuple[str, ReceiptState]]] = {
    "1": ("delivered", "delivered"),
    "2": ("not delivered", "undelivered"),
    "4": ("buffered by the network", "sent"),
    "8": ("taken by the network", "sent"),
    # Not our `refused`: of a long text one part may be refused and another not.
    "16": ("refused by the network", "undelivered"),
}
"""What Kannel's `%d` says, in words, and in ours."""

NO_ROUTE: Final = "NACK/no SMSC"
ALL_RECEIPTS: Final = "31"
PLACEHOLDERS: Final = "type=%d&answer=%A"
MOST_ANSWER: Final = 4096
LONGEST_TEXT: Final = 8192


class Kannel:
    """One user of one Kannel; `smsc` names one of its lines where it has several."""

    kind = "kannel"
    capabilities = Capabilities(
        receipts=True, signed_webhooks=False, validity=True, answers_stop_itself=False, concurrency=20
    )

    def __init__(
        self,
        *,
        name: str,
        url: str,
        username: str,
        password: str,
        webhook_secret: str,
        sender: str,
        smsc: str | None = None,
        callback_url: str | None = None,
        rate_per_s: float = 1.0,
        timeout_s: float = 15.0,
    ) -> None:
        if not webhook_secret or "/" in webhook_secret:
            raise ValueError("a Kannel gateway needs a secret that can stand in an address")
        self.name = name
        self.rate_per_s = rate_per_s
        self._url = url
        self._secret = webhook_secret
        self._callback_url = callback_url
        self._words = {
            "X-Kannel-Username": username,
            "X-Kannel-Password": password,
            "X-Kannel-From": sender,
            "X-Kannel-DLR-Mask": ALL_RECEIPTS,
        } | ({"X-Kannel-SMSC": smsc} if smsc else {})
        # As with Twilio: waiting for a connection ends well before the attempt does, so that the two are never mixed up.
        self._timeout = aiohttp.ClientTimeout(total=timeout_s, connect=min(5.0, timeout_s / 2))
        self._session: aiohttp.ClientSession | None = None

    def verify(self, request: Request) -> None:
        """Raise Forged unless the address holds our secret, compared in constant time."""
        parts = request.url.partition("?")[0].split("/")
        # .../in/<name>/<secret> or .../status/<name>/<secret>/<message id>; PUBLIC_URL may have a path of its own.
        told = next(
            (parts[-at:] for at, door in ((3, "in"), (4, "status")) if len(parts) >= at and parts[-at] == door),
            ["", "", ""],
        )
        right = hmac.compare_digest(told[2].encode("utf-8", "replace"), self._secret.encode())
        if not right or told[1] != self.name:
            raise Forged("the address does not hold the secret of this gateway")

    def parse_inbound(self, request: Request) -> list[Inbound]:
        """The one text: words in the query; the text there too (get-url), or as the body (post-url)."""
        told = _query(request.url)
        given, to = _word(told, "from"), _word(told, "to").strip()
        # A plus that was not written as %2B comes as a space.
        is_whole, sender = given.startswith(("+", " ")), given.strip()
        gateway_id = _word(told, "id")
        if not _ID.fullmatch(gateway_id):
            raise Unreadable("the request has no id: Kannel's get-url needs id=%I")
        if not _SENDER.fullmatch(sender):
            raise Unreadable("the request has no sender: Kannel's get-url needs from=%p")
        if "text" not in told and request.method != "POST":
            raise Unreadable("the request has no text: Kannel's get-url needs text=%b")
        body = told.get("text", request.body)
        if len(body) > LONGEST_TEXT:
            raise Unreadable("the text is longer than any SMS")
        return [
            Inbound(
                gateway_id=gateway_id,
                sender=sender.removeprefix("+"),
                is_whole=is_whole,
                to=to.removeprefix("+"),
                text=_decoded(body, _word(told, "charset"), _word(told, "coding")),
                raw={name: _word(told, name) for name in told if name != "text"},
            )
        ]

    def parse_receipt(self, request: Request, message_id: int) -> list[Receipt]:
        """The one receipt; a type we do not know is *unrecognised*, never an error."""
        told = _query(request.url)
        kind, answer, attempt = _word(told, "type"), _word(told, "answer"), _word(told, "attempt")
        if not _ATTEMPT.fullmatch(attempt) or not kind:
            raise Unreadable("the request has no attempt and type, so it is not a receipt that we asked for")
        word, state = RECEIPTS.get(kind, ("", "unrecognised"))
        if kind == "16" and answer == NO_ROUTE:
            state = "unrecognised"
        found = _ERROR.search(answer)
        code = (found[1] or found[2]) if found and state == "undelivered" else None
        # Of the network's own sentence only the error stays: it may quote the text.
        return [
            Receipt(
                message_id,
                attempt,
                state,
                f"{kind} {word}".strip()[:64],
                code=code,
                attempt_id=attempt,
                raw={"type": kind},
            )
        ]

    def reply(self) -> Reply:
        """Nothing: what stood here Kannel would send to the phone, past our outbox, were `max-messages` not 0."""
        return Reply(body="", content_type="text/plain")

    async def send(self, outgoing: Outgoing) -> SendResult:
        """Hand one message over in one POST, and say by the evidence what became of it."""
        charset, coding = ("UTF-8", "0") if _BASIC.issuperset(outgoing.text) else ("UTF-16BE", "2")
        try:
            body = outgoing.text.encode(charset)
        except UnicodeEncodeError:  # a lone surrogate: half of a character
            return NotSent("message", "the text holds a broken character that cannot be sent")
        headers = self._words | {
            "X-Kannel-To": outgoing.to,
            "X-Kannel-Coding": coding,
            "X-Kannel-DLR-Url": self._receipt_address(outgoing),
            "Content-Type": f"text/plain; charset={charset}",
        }
        if outgoing.validity_s is not None:
            headers["X-Kannel-Validity"] = str(max(1, outgoing.validity_s // 60))
        try:
            async with self._open_session().post(
                self._url, data=body, headers=headers, allow_redirects=False
            ) as response:
                return result_of(response.status, await _read(response), outgoing.attempt_id)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):
            return NotSent("unreachable", "the gateway could not be reached")
        except TimeoutError:
            return Unknown("the gateway did not answer in time")
        except (aiohttp.ClientError, OSError):
            return Unknown("the connection broke before the gateway answered")

    async def find(self, doubtful: Doubtful) -> FindResult:
        """Kannel cannot be asked; a receipt may still say."""
        del doubtful
        return CannotTell("Kannel keeps no list of what it took")

    async def sweep(self, since: datetime) -> list[Inbound] | CannotTell:
        """Kannel cannot be asked; it calls again by itself."""
        del since
        return CannotTell("Kannel keeps no list of what came in")

    async def close(self) -> None:
        """Let go of connections; a later send opens new ones."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _receipt_address(self, outgoing: Outgoing) -> str:
        """Our status address with the secret in it, and what Kannel is to fill in."""
        parts = urlsplit(outgoing.callback_url)
        public = self._callback_url or f"{parts.scheme}://{parts.netloc}{parts.path.partition('/status/')[0]}"
        attempt = urlencode({"attempt": outgoing.attempt_id})
        return f"{public}/status/{self.name}/{self._secret}/{outgoing.id}?{attempt}&{PLACEHOLDERS}"

    def _open_session(self) -> aiohttp.ClientSession:
        """The session of the running loop, opened when first needed: aiohttp binds a session to its loop."""
        if self._session is None or self._session.closed:
            self._session = aiohttp.ClientSession(
                # Kannel closes after each answer; a kept connection could be one that it has just closed.
                connector=aiohttp.TCPConnector(limit=self.capabilities.concurrency, force_close=True),
                timeout=self._timeout,
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
            )
        return self._session


def result_of(status: int, sentence: str, attempt_id: str) -> SendResult:
    """What Kannel's answer proves, from its status and sentence."""
    if status == 202 and sentence in ACCEPTED:
        return Accepted(attempt_id)
    if 400 <= status <= 503 and sentence in REFUSALS:
        scope, reason = REFUSALS[sentence]
        return NotSent(scope, reason, str(status))
    if 400 <= status < 500 and status != 408:
        if status == 400:
            return NotSent("message", "the gateway refused the message for a reason that is not known here", "400")
        # Not Kannel's words: something in between, or a wrong address.  It would refuse the next message as well.
        return NotSent("gateway", "something other than the gateway refused the request", str(status))
    return Unknown("the gateway gave no clear answer and may have taken the message")


async def _read(response: aiohttp.ClientResponse) -> str:
    """The sentence of an answer, whole: half of one proves nothing, and a cut raises."""
    body = bytearray()
    async for chunk in response.content.iter_chunked(1024):
        body += chunk
        if len(body) > MOST_ANSWER:
            break
    return body.decode("latin-1").strip()


def _query(url: str) -> dict[str, bytes]:
    """The words of a query as bytes: a text in UTF-16 is none that a web framework can read."""
    pairs = (pair.partition("=") for pair in url.partition("?")[2].split("&") if pair)
    return {name: unquote_to_bytes(value.replace("+", " ")) for name, _, value in pairs}


def _word(told: Mapping[str, bytes], name: str) -> str:
    return told.get(name, b"").decode("utf-8", "replace")


_CHARSETS: Final[Mapping[str, str]] = {
    "utf-8": "utf-8", "utf-16be": "utf-16-be", "ucs-2": "utf-16-be", "iso-8859-1": "latin-1", "latin1": "latin-1",
    "windows-1252": "cp1252", "us-ascii": "ascii",
}  # fmt: skip


def _decoded(body: bytes, charset: str, coding: str) -> str:
    """A text from the alphabet it came in; in doubt UTF-8, then Latin-1: no text is ever lost for its alphabet."""
    for name in (_CHARSETS.get(charset.casefold(), ""), "utf-16-be" if coding == "2" else "utf-8", "latin-1"):
        try:
            if name:
                return body.decode(name)
        except UnicodeDecodeError:
            continue
    return body.decode("latin-1")


_BASIC: Final = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿"
    "abcdefghijklmnopqrstuvwxyzäöñüà^{}\\[~]|€\f"
)
"""What GSM-7 can write (GSM 03.38): an adapter knows no `storage`."""


_ID: Final = re.compile("[!-~]{1,64}")


_ATTEMPT: Final = re.compile("[0-9a-f]{8,32}")


_SENDER: Final = re.compile(r"\+?[0-9]{1,20}|[ -~]{1,16}")


_ERROR: Final = re.compile(r"\berr:([0-9A-Za-z]{1,8})\b|^NACK/(0x[0-9a-fA-F]{1,8}|[0-9]{1,8})\b")
