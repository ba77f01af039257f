"""Twilio: a company that carries texts, reached by its Messages API and heard through its webhooks.

It calls Twilio and hears it, in the words of `twilio_codes.py`.  It protects two rules: a stranger's request is never read
as a text, and a message that may have reached a phone is never called "not sent".  Retries, rates, storage and
replies belong to others.

Where Twilio is odd (twilio.com: *Webhooks security*, *Message resource*, *Outbound message status in status
callbacks*, *Error and warning dictionary*):

- **A create has no idempotency key.**  The API description never offers one for messages, so a repeated POST is a
  second text on somebody's phone.  We make one attempt; our own id travels in the status-callback address and
  settles later what a lost answer left open.
- **The signature has no separators and no time.**  It is an HMAC over the address and every name and value simply
  glued together, sorted by name, so whoever holds one signed request and chose its Body can cut the same bytes into
  other parameters and keep the signature.  `verify` therefore looks at the shapes as well (`twilio_webhooks.py`).
- **Fields come blank, not absent** (`FromCity=`), and the blanks are signed.
- **Callbacks come in any order**, can repeat, and none is sent for a message's first status.
- **Twilio answers STOP itself** and still passes the text on; a later send is refused with 21610.
- **A list is filtered by `sent_date`, and to the day**; it is blank while a message is queued.  So a message in doubt is
  looked for among all to its number, and no date is asked for.
- **Twilio's error sentence quotes the phone number.**  It is never kept: `reason` is always a sentence of `twilio_codes.py`.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

import aiohttp
from yarl import URL

from bot.gateways.base import (
    Absent,
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
    Reply,
    Request,
    SendResult,
    Unknown,
    Unreadable,
    attempt_in,
)
from bot.gateways.twilio_codes import (
    ANSWERED_WORDS,
    OPT_OUT_WORDS,
    OPTED_OUT,
    RECEIPT_STATES,
    json_object,
    result_of,
    trouble,
)
from bot.gateways.twilio_webhooks import (
    ACCOUNT,
    address_in,
    digits,
    form_encoded,
    message_sid,
    refuse_a_recut,
    refuse_strange_shapes,
    signature_fits,
    small_number,
)

MOST_ANSWER: Final = 65536

MOST_LIST: Final = 16 * 2**20
"""Bytes of one page of a list: a message is about one kilobyte there, and a text of 1,600 characters up to ten."""

PAGE: Final = 500

MOST_PAGES_SENT, MOST_PAGES_INBOUND = 10, 200

LIST_S: Final = 60.0

CLOCKS_APART: Final = timedelta(minutes=10)
"""How far Twilio's clock and ours may be apart: what was made there so long before our hand-over may still be it."""

LONGEST_VALIDITY_S: Final = 36000


class Twilio:
    """One Twilio account with its sender, or with several.

    A sender is a phone number (with or without `+`), a short code of up to six digits, or letters; where there are several,
    each message says by which it leaves.  Of a messaging service Twilio picks one from its pool, unless the message says it.
    """

    kind = "twilio"
    capabilities = Capabilities(
        receipts=True, signed_webhooks=True, validity=True, answers_stop_itself=True, concurrency=20,
        finds_sent=True, lists_inbound=True,
    )  # fmt: skip

    def __init__(
        self,
        *,
        name: str,
        account_sid: str,
        auth_token: str,
        sender: str | Sequence[str] | None,
        messaging_service_sid: str | None,
        api_url: str = "https://api.twilio.com",
        rate_per_s: float = 1.0,
        timeout_s: float = 15.0,
    ) -> None:
        """Take the settings; no connection is opened.  Raises ValueError for settings that could never send."""
        if not ACCOUNT.fullmatch(account_sid):
            raise ValueError("a Twilio account id is AC and 32 hexadecimal digits")
        if not auth_token:
            raise ValueError("a Twilio gateway needs the auth token of its account")
        if not sender and not messaging_service_sid:
            raise ValueError("a Twilio gateway needs a sender number or a messaging service")
        if urlsplit(api_url).scheme not in {"http", "https"} or not urlsplit(api_url).hostname:
            raise ValueError("the address of the Twilio API is not an absolute http address")
        self.name = name
        self.rate_per_s = rate_per_s
        self._account_sid = account_sid
        self._auth_token = auth_token
        self._service = messaging_service_sid
        self._senders = [address_in(one) for one in ([sender] if isinstance(sender, str) else sender or ())]
        self._root = api_url.rstrip("/")
        self._address = f"{api_url.rstrip('/')}/2010-04-01/Accounts/{account_sid}/Messages.json"
        # Waiting for a connection ends well before the whole attempt does.  So a time-out while connecting, when no
        # byte has left, is never mistaken for one after the request was written.
        self._timeout = aiohttp.ClientTimeout(total=timeout_s, connect=min(5.0, timeout_s / 2))
        self._session: aiohttp.ClientSession | None = None

    def verify(self, request: Request) -> None:
        """Raise Forged unless Twilio signed this request for our account and it looks as Twilio's requests look.

        A request with a good signature and a strange shape is Forged too, not Unreadable: that is how a re-cut
        forgery looks, and a 403 in Twilio's debugger tells an operator of a true one soon enough.
        """
        try:
            fields = request.form()
            signed = signature_fits(
                self._auth_token, request.url, fields, request.headers.get("x-twilio-signature", "")
            )
        except Exception:  # noqa: BLE001  the validator raises TypeError, ValueError and UnicodeError at strangers
            # The cause is not chained: its text can hold the request.
            raise Forged("the request could not be checked against its signature") from None
        if not signed:
            raise Forged("the request does not carry Twilio's signature")
        refuse_strange_shapes(fields)
        if dict(fields).get("AccountSid") != self._account_sid:
            raise Forged("the request is signed for another account")
        refuse_a_recut(fields)

    def parse_inbound(self, request: Request) -> list[Inbound]:
        """The one text in a verified request; raises Unreadable where it is not a text from a phone."""
        fields = dict(request.form())
        if "Body" not in fields:
            raise Unreadable("the request has no Body, so it is not an incoming text")
        return [
            Inbound(
                gateway_id=message_sid(fields),
                sender=digits(fields, "From"),
                to=digits(fields, "To"),
                text=fields["Body"],
                media=small_number(fields, "NumMedia"),
                opt_out=OPT_OUT_WORDS.get(fields.get("OptOutType", "")),
                answered="OptOutType" in fields or fields["Body"].strip().upper() in ANSWERED_WORDS,
                raw=_without_text(fields),
            )
        ]

    def parse_receipt(self, request: Request, message_id: int) -> list[Receipt]:
        """The one receipt in a verified request; a status word we do not know is *unrecognised*, never an error."""
        fields = dict(request.form())
        word = fields.get("MessageStatus") or fields.get("SmsStatus")
        if not word:
            raise Unreadable("the request has no MessageStatus, so it is not a receipt")
        code = fields.get("ErrorCode") or None
        return [
            Receipt(
                message_id=message_id,
                gateway_id=message_sid(fields),
                state=RECEIPT_STATES.get(word, "unrecognised"),
                word=word,
                code=code,
                opted_out=code == OPTED_OUT,
                trouble=trouble(code),
                attempt_id=attempt_in(request.url),
                raw=_without_text(fields),
            )
        ]

    def reply(self) -> Reply:
        """Empty TwiML: every answer to a person leaves through the outbox, where it has an id and a receipt."""
        return Reply(body="<Response/>", content_type="text/xml")

    async def send(self, outgoing: Outgoing) -> SendResult:
        """Hand one message over in one POST, and say by the evidence what became of it.

        Not sent only where no byte of the request can have left (no name, no connection, no TLS) or where Twilio
        refused it.  Whatever happens after the first byte and is not an answer we can read is Unknown: measured, the
        same "connection reset" came from a gateway that had taken the message and from one that had not.
        """
        try:
            body = form_encoded(self._form(outgoing))
        except UnicodeEncodeError:  # a lone surrogate: half of a character, which no encoding can carry
            return NotSent("message", "the text holds a broken character that cannot be sent")
        try:
            async with self._open_session().post(self._address, data=body, allow_redirects=False) as response:
                return result_of(response.status, response.headers.get("Retry-After"), await _read(response))
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):
            return NotSent("unreachable", "the gateway could not be reached")
        except TimeoutError:
            return Unknown("the gateway did not answer in time")
        except (aiohttp.ClientError, OSError):
            return Unknown("the connection broke before the gateway answered")

    async def find(self, doubtful: Doubtful) -> FindResult:
        """Look for a message among all that Twilio has to its number.

        It is found where exactly one that nobody else is has its very words, and absent only where nothing that was made
        since the hand-over could be it: Twilio may have changed the words (smart encoding) or hidden them (redaction).
        """
        since = doubtful.handed_over_at - CLOCKS_APART
        listed = await self._list([("To", f"+{doubtful.to}")], since, MOST_PAGES_SENT)
        if isinstance(listed, CannotTell):
            return listed
        may_be = [
            one for one in listed
            if one.get("direction") == "outbound-api"
            and one.get("to") == f"+{doubtful.to}"
            and one["sid"] not in doubtful.not_it
        ]  # fmt: skip
        exact = [one for one in may_be if one.get("body") == doubtful.text]
        if len(exact) == 1:
            return _found(exact[0])
        if exact:
            return CannotTell("the gateway has several with the same words")
        return CannotTell("the gateway has others to this number that may be it") if may_be else Absent()

    async def sweep(self, since: datetime) -> list[Inbound] | CannotTell:
        """Every text to our number since then; of a messaging service, every one that the account got by it."""
        own = [number for number in self._senders if number.lstrip("+").isdigit()]
        if self._service is None and not own:
            return []  # a sender of letters: nobody can answer it
        # By the day, and a day more: what counts is when each was made, which is looked at below.
        day = f"{since.astimezone(UTC) - timedelta(days=1):%Y-%m-%d}T00:00:00Z"
        texts: list[Inbound] = []
        to_each = [[("To", number)] for number in own] if self._service is None else [[]]
        for asked in to_each:
            listed = await self._list([*asked, ("DateSent>", day)], since, MOST_PAGES_INBOUND)
            if isinstance(listed, CannotTell):
                return listed
            texts += [text for one in listed if self._is_for_us(one) and (text := _inbound(one)) is not None]
        return sorted(texts, key=lambda text: text.sent_at or since)

    def _is_for_us(self, one: Mapping[str, Any]) -> bool:
        by_service = self._service is not None
        ours = one.get("messaging_service_sid") == self._service if by_service else one.get("to") in self._senders
        return ours and one.get("direction") == "inbound" and one.get("status") != "receiving"

    async def _list(
        self, asked: list[tuple[str, str]], since: datetime, most_pages: int
    ) -> list[dict[str, Any]] | CannotTell:
        """Every message of a list that was made since then, or why that cannot be said."""
        since = since.replace(microsecond=0)  # Twilio's times are whole seconds
        address = f"{self._address}?{urlencode([*asked, ('PageSize', str(PAGE))])}"
        listed: list[dict[str, Any]] = []
        last: datetime | None = None
        in_order = True
        for _ in range(most_pages):
            page = await self._page(address)
            if isinstance(page, CannotTell):
                return page
            for one in page["messages"]:
                if not isinstance(one.get("sid"), str):
                    return CannotTell("the gateway's list could not be read")
                made = _made_at(one)
                if made is None or made >= since:
                    listed.append(one)
                in_order = in_order and made is not None and (last is None or made <= last)
                last = made
            following = page.get("next_page_uri")
            # Twilio gives the newest first and nowhere promises it, so the list itself must show it before it is cut.
            if not following or (in_order and last is not None and last < since):
                return listed
            if not isinstance(following, str) or not following.startswith("/2010-04-01/"):
                return CannotTell("the gateway's list could not be read")
            address = self._root + following
        return CannotTell("the gateway's list is too long")

    async def _page(self, address: str) -> dict[str, Any] | CannotTell:
        try:
            url = URL(address, encoded=True)
            timeout = aiohttp.ClientTimeout(total=LIST_S)
            async with self._open_session().get(url, allow_redirects=False, timeout=timeout) as response:
                if response.status != 200:
                    return CannotTell(f"the gateway answered {response.status}")
                if _is_apart(response.headers.get("Date")):
                    return CannotTell("our clock and the gateway's are apart, so its times prove nothing")
                page = json_object(await _read(response, MOST_LIST))
        except (aiohttp.ClientError, OSError, ValueError):  # TimeoutError is an OSError
            return CannotTell("the gateway could not be asked")
        messages = page.get("messages")
        if not isinstance(messages, list) or not all(isinstance(one, dict) for one in messages):
            return CannotTell("the gateway's list could not be read")
        return page

    async def close(self) -> None:
        """Let go of connections; a later send opens new ones."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _form(self, outgoing: Outgoing) -> list[tuple[str, str]]:
        sender = address_in(outgoing.own_number) if outgoing.own_number else None
        if sender is None and self._service is None:
            sender = self._senders[0]
        form = [
            ("To", f"+{outgoing.to}"),
            *([("From", sender)] if sender else []),
            *([("MessagingServiceSid", self._service)] if self._service else []),
            ("Body", outgoing.text),
            ("StatusCallback", outgoing.callback_url),
        ]
        if outgoing.validity_s is not None:
            form.append(("ValidityPeriod", str(max(1, min(LONGEST_VALIDITY_S, int(outgoing.validity_s))))))
        return form

    def _open_session(self) -> aiohttp.ClientSession:
        """The session of the running loop, opened when first needed: aiohttp binds a session to its loop."""
        if self._session is None or self._session.closed:
            # aiohttp.BasicAuth is deprecated since 3.14, and what replaces it is not in 3.12: so the header by hand.
            credentials = base64.b64encode(f"{self._account_sid}:{self._auth_token}".encode()).decode("ascii")
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=self.capabilities.concurrency),
                timeout=self._timeout,
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                headers={
                    "Authorization": f"Basic {credentials}",
                    "Content-Type": "application/x-www-form-urlencoded",
                    "Accept": "application/json",
                    "Accept-Encoding": "identity",
                },
            )
        return self._session


def _is_apart(date: str | None) -> bool:
    """Whether an answer was dated by a clock that is far from ours."""
    if date is None:
        return False
    try:
        return abs(parsedate_to_datetime(date) - datetime.now(UTC)) > CLOCKS_APART / 2
    except (ValueError, TypeError):
        return False


def _found(one: Mapping[str, Any]) -> Found:
    word, code = str(one.get("status")), one.get("error_code")
    # A word that we do not know is still the word of a gateway that has it.
    state = RECEIPT_STATES.get(word, "accepted")
    return Found(one["sid"], state, str(code) if isinstance(code, int) and not isinstance(code, bool) else None)


def _inbound(one: Mapping[str, Any]) -> Inbound | None:
    """A listed text as it would have come by the webhook; None for what is no text from a phone."""
    fields = {"From": str(one.get("from") or ""), "To": str(one.get("to") or "")}
    text = str(one.get("body") or "")
    try:
        return Inbound(
            gateway_id=one["sid"],
            sender=digits(fields, "From"),
            to=digits(fields, "To"),
            text=text,
            media=small_number({"NumMedia": str(one.get("num_media") or "0")}, "NumMedia"),
            answered=text.strip().upper() in ANSWERED_WORDS,
            sent_at=_made_at(one),
            raw={name: str(one[name]) for name in ("sid", "status", "date_created", "date_sent") if name in one},
        )
    except Unreadable:
        return None


def _made_at(one: Mapping[str, Any]) -> datetime | None:
    """When Twilio made a message; None where it does not say."""
    try:
        made = parsedate_to_datetime(str(one.get("date_created") or one.get("date_sent")))
    except (ValueError, TypeError):
        return None
    return made if made.tzinfo is not None else made.replace(tzinfo=UTC)


async def _read(response: aiohttp.ClientResponse, most: int = MOST_ANSWER) -> bytes:
    """The body as far as it came: the status line is evidence by itself, and a cut body is simply not readable."""
    body = bytearray()
    try:
        if (response.content_length or most + 1) <= most:
            return await response.read()
        async for chunk in response.content.iter_chunked(8192):
            body += chunk
            if len(body) > most:
                return b""
    except (aiohttp.ClientError, OSError):  # TimeoutError is an OSError
        return b""
    return bytes(body)


def _without_text(fields: Mapping[str, str]) -> dict[str, str]:
    """What is kept beside a text or a receipt: the text itself has its own place and its own retention."""
    return {name: value for name, value in fields.items() if name != "Body"}
