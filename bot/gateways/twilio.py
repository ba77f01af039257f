"""Twilio: a company that carries texts, reached by its Messages API and heard through its webhooks.

This module owns Twilio's words and turns them into ours.  It protects two rules: a stranger's request is never read
as a text, and a message that may have reached a phone is never called "not sent".  Retries, rates, storage and
replies belong to others.

Where Twilio is odd (twilio.com: *Webhooks security*, *Message resource*, *Outbound message status in status
callbacks*, *Error and warning dictionary*):

- **A create has no idempotency key.**  The API description never offers one for messages, so a repeated POST is a
  second text on somebody's phone.  We make one attempt; our own id travels in the status-callback address and
  settles later what a lost answer left open.
- **The signature has no separators and no time.**  It is an HMAC over the address and every name and value simply
  glued together, sorted by name, so whoever holds one signed request and chose its Body can cut the same bytes into
  other parameters and keep the signature.  `verify` therefore looks at the shapes as well (see `_refuse_a_recut`).
- **Fields come blank, not absent** (`FromCity=`), and the blanks are signed.
- **Callbacks come in any order**, can repeat, and none is sent for a message's first status.
- **Twilio answers STOP itself** and still passes the text on; a later send is refused with 21610.
- **A list is filtered by `sent_date`, and to the day**; it is blank while a message is queued.  So a message in doubt is
  looked for among all to its number, and no date is asked for.
- **Twilio's error sentence quotes the phone number.**  It is never kept: `reason` is always a sentence from here.
"""

from __future__ import annotations

import base64
import hmac
import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, Final, Literal, NamedTuple
from urllib.parse import urlencode, urlsplit

import aiohttp
from twilio.request_validator import RequestValidator  # type: ignore[import-untyped]
from yarl import URL

from bot.gateways.base import (
    Absent,
    Accepted,
    CannotTell,
    Capabilities,
    Doubtful,
    FindResult,
    Forged,
    Found,
    Hold,
    Inbound,
    NotSent,
    Outgoing,
    Receipt,
    ReceiptState,
    Reply,
    Request,
    Scope,
    SendResult,
    Trouble,
    Unknown,
    Unreadable,
    attempt_in,
)

Fields = Sequence[tuple[str, str]]

RECEIPT_STATES: Final[Mapping[str, ReceiptState]] = {
    "accepted": "accepted",
    "scheduled": "accepted",
    "queued": "accepted",
    "sending": "accepted",
    "sent": "sent",
    "delivered": "delivered",
    "read": "delivered",
    "undelivered": "undelivered",
    # `failed` is not our `refused`: it also comes after `sent`, when a later segment fails, so it does not prove that
    # nothing reached the phone.
    "failed": "undelivered",
    "canceled": "undelivered",
}
"""Twilio's status words in ours.  `partially_delivered` and every word not here is *unrecognised*: stored, not guessed."""

OPT_OUT_WORDS: Final[Mapping[str, Literal["stop", "start", "help"]]] = {
    "STOP": "stop",
    "START": "start",
    "HELP": "help",
}
"""`OptOutType` of Advanced Opt-Out: Twilio has replied already, we only record."""

ANSWERED_WORDS: Final = frozenset(
    {"STOP", "STOPALL", "UNSUBSCRIBE", "CANCEL", "END", "QUIT", "REVOKE", "OPTOUT", "START", "UNSTOP"}
)
"""The texts to which Twilio replies by itself without Advanced Opt-Out: the word alone, in any case.  `Stop. Thank you`
is heard by nobody but us."""

OPTED_OUT: Final = "21610"
"""The code of a message to somebody who told Twilio to stop: of a refused create, and of a receipt."""


class Meaning(NamedTuple):
    """What a code is about, in words of our own, and what it holds up besides its own message."""

    scope: Scope | Literal["unclear"]
    reason: str
    hold: Hold | None = None


CODES: Final[Mapping[str, Meaning]] = {
    # The answer to a create.
    "14107": Meaning("throttled", "messages were sent faster than the gateway allows", "slow"),
    "20001": Meaning("message", "the gateway could not read our request"),
    "20003": Meaning("gateway", "the gateway did not accept our account and token"),
    "20005": Meaning("gateway", "our account with the gateway is not active"),
    "20403": Meaning("gateway", "our account may not do this at the gateway"),
    "20404": Meaning("gateway", "the gateway knows no such account"),
    "20429": Meaning("throttled", "the gateway asks for fewer requests at a time", "slow"),
    "20500": Meaning("unclear", "the gateway had a fault of its own"),
    "20503": Meaning("unclear", "the gateway was not to be had"),
    "21211": Meaning("recipient", "the number is not a valid phone number"),
    "21212": Meaning("sender", "our sender number is not valid"),
    "21215": Meaning("destination", "our account may not send to this country"),
    "21217": Meaning("recipient", "the number is not written as the gateway needs it"),
    "21265": Meaning("recipient", "the number is a short code, which cannot be texted"),
    "21266": Meaning("recipient", "the number is our own sender number"),
    "21408": Meaning("destination", "our account may not send to this country"),
    "21602": Meaning("message", "the message has no text"),
    "21603": Meaning("sender", "our sender number is missing"),
    "21604": Meaning("recipient", "the number to send to is missing"),
    "21606": Meaning("sender", "our sender number may not send texts"),
    "21607": Meaning("sender", "our sender number may not send texts"),
    "21608": Meaning("recipient", "a trial account may text only numbers that were verified with the gateway"),
    "21609": Meaning("message", "the gateway did not accept our status address"),
    OPTED_OUT: Meaning("opted_out", "the person told the gateway to stop"),
    "21611": Meaning("throttled", "the queue of our sender number is full", "while"),
    "21612": Meaning("recipient", "the gateway has no way from our sender to this number"),
    "21614": Meaning("recipient", "the number is not a mobile phone"),
    "21616": Meaning("sender", "our sender number stands for more than one number"),
    "21617": Meaning("message", "the text is too long"),
    "21618": Meaning("message", "the text was not accepted by the gateway"),
    "21620": Meaning("message", "the picture address was not accepted by the gateway"),
    "21623": Meaning("message", "the message has too many pictures"),
    "21626": Meaning("message", "the gateway did not accept our status address"),
    "21654": Meaning("message", "the message template is missing"),
    "21655": Meaning("message", "the message template is not valid"),
    "21656": Meaning("message", "the blanks of the message template are not valid"),
    "21659": Meaning("sender", "our sender number is not one of the gateway"),
    "21660": Meaning("sender", "our sender number belongs to another account"),
    "21661": Meaning("sender", "our sender number may not send texts"),
    "21701": Meaning("sender", "our messaging service is not known to the gateway"),
    "21702": Meaning("sender", "our messaging service is not ready"),
    "21703": Meaning("sender", "our messaging service has no sender number"),
    "21704": Meaning("sender", "our messaging service has no sender number"),
    "21705": Meaning("sender", "our messaging service is not valid"),
    "21709": Meaning("sender", "our messaging service cannot be used"),
    # A receipt; some of them an answer too.
    "30001": Meaning("throttled", "the queue of our sender number ran over", "slow"),
    "30002": Meaning("gateway", "our account with the gateway is suspended", "person"),
    "30003": Meaning("recipient", "the phone was off or out of reach"),
    "30004": Meaning("recipient", "the message was blocked"),
    "30005": Meaning("recipient", "the number is not in use"),
    "30006": Meaning("recipient", "the number is a landline or cannot be reached"),
    "30007": Meaning("message", "the network filtered the text"),
    "30008": Meaning("unclear", "the network gave no reason"),
    "30009": Meaning("message", "a part of the message is missing"),
    "30010": Meaning("message", "the message costs more than was allowed"),
    "30011": Meaning("destination", "the network does not take pictures"),
    "30012": Meaning("message", "the time the message may wait is too long or too short"),
    "30013": Meaning("message", "the message says something of itself that the gateway does not allow"),
    "30014": Meaning("message", "a picture of the message could not be fetched"),
    "30015": Meaning("message", "a picture of the message could not be fetched"),
    "30016": Meaning("message", "a picture of the message could not be fetched"),
    "30017": Meaning("throttled", "the network is congested", "slow"),
    "30018": Meaning("sender", "our sender number is not registered with that network", "person"),
    "30019": Meaning("message", "the message is larger than its receiver takes"),
    "30022": Meaning("throttled", "our registered campaign sends faster than the network allows", "slow"),
    "30023": Meaning("sender", "our registered brand has sent what the network allows for a day", "day"),
    "30024": Meaning("sender", "our sender number is not set up with that network", "person"),
    "30027": Meaning("sender", "our registered campaign has sent what the network allows for a day", "day"),
    "30032": Meaning("sender", "our toll-free number is not verified", "person"),
    "30034": Meaning("sender", "our sender number is not registered for texts from programs", "person"),
    "30410": Meaning("unclear", "the network did not answer the gateway in time"),
    "63015": Meaning("sender", "our sender is a sandbox that this person has not joined", "person"),
    "63016": Meaning("message", "outside of its hours the channel takes templates only"),
    "63018": Meaning("throttled", "the channel asks for fewer messages at a time", "slow"),
    "63038": Meaning("sender", "our account has sent what the channel allows for a day", "day"),
}
"""What Twilio's codes are about.  Twilio warns that meanings change, so a code that is not here stops only its own message and
stays visible, and nothing is ever sent again by a code that is not certainly *not sent*.  *unclear* is a code that proves
nothing.  What holds up more than its message acts the same whether it comes as an answer or as a receipt."""

MOST_TEXT: Final = 8192  # an SMS has at most 1,600 characters; a long one handed over as base64 has up to 6,400
MOST_FIELDS: Final = 100
MOST_ANSWER: Final = 65536
MOST_LIST: Final = 16 * 2**20
"""Bytes of one page of a list: a message is about one kilobyte there, and a text of 1,600 characters up to ten."""

PAGE: Final = 500
MOST_PAGES_SENT, MOST_PAGES_INBOUND = 10, 200
LIST_S: Final = 60.0
CLOCKS_APART: Final = timedelta(minutes=10)
"""How far Twilio's clock and ours may be apart: what was made there so long before our hand-over may still be it."""

LONGEST_WAIT_S: Final = 3600.0
LONGEST_VALIDITY_S: Final = 36000

_SID = "(?:SM|MM)[0-9a-f]{32}"
# A channel prefix (`whatsapp:`) passes here and is called unreadable later: it is honest, only not a text.
_ADDRESS = r"(?:[a-z]{2,12}:)?\+?[0-9]{3,15}|(?=.*[A-Za-z])[A-Za-z0-9 &_.+-]{1,11}|"
_SHORT = r"[^\x00-\x1f\x7f]{0,64}"  # also the bound of an unknown value
_SENTENCE = r"[^\x00-\x1f\x7f]{0,512}"

_SHAPES: Final[Mapping[str, re.Pattern[str]]] = {
    name: re.compile(shape, re.DOTALL)
    for name, shape in {
        "AddOns": ".{0,16384}",
        "ApiVersion": "2010-04-01",
        "Body": f".{{0,{MOST_TEXT}}}",
        "ChannelStatusMessage": _SENTENCE,
        "ErrorCode": "[0-9]{0,6}",
        "ErrorMessage": _SENTENCE,
        "From": _ADDRESS,
        "FromCity": _SHORT,
        "FromCountry": _SHORT,
        "FromState": _SHORT,
        "FromZip": _SHORT,
        "MessageSid": _SID,
        "MessageStatus": "[a-z][a-z_-]{0,31}",
        "MessagingServiceSid": "(?:MG[0-9a-fA-F]{32})?",
        "NumMedia": "[0-9]{1,2}",
        "NumSegments": "[0-9]{1,2}",
        "OptOutType": "[A-Z]{0,16}",
        "SmsMessageSid": _SID,
        "SmsSid": _SID,
        "SmsStatus": "[a-z][a-z_-]{0,31}",
        "To": _ADDRESS,
        "ToCity": _SHORT,
        "ToCountry": _SHORT,
        "ToState": _SHORT,
        "ToZip": _SHORT,
    }.items()
}
_FAMILIES: Final = (
    (re.compile("MediaUrl[0-9]"), re.compile("https://[A-Za-z0-9._~:/?=&%-]{1,300}")),
    (re.compile("MediaContentType[0-9]"), re.compile(r"[A-Za-z0-9.+*/;= _\"-]{0,128}")),
)
_NAME: Final = re.compile("[A-Za-z][A-Za-z0-9_]{0,40}")
_UNKNOWN: Final = re.compile(_SHORT)
_ACCOUNT: Final = re.compile("AC[0-9a-fA-F]{32}")
_MESSAGE: Final = re.compile("(?:SM|MM)[0-9a-fA-F]{32}")
_WAIT: Final = re.compile("[0-9]{1,6}")


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
        if not _ACCOUNT.fullmatch(account_sid):
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
        self._senders = [_address(one) for one in ([sender] if isinstance(sender, str) else sender or ())]
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
        _refuse_strange_shapes(fields)
        if dict(fields).get("AccountSid") != self._account_sid:
            raise Forged("the request is signed for another account")
        _refuse_a_recut(fields)

    def parse_inbound(self, request: Request) -> list[Inbound]:
        """The one text in a verified request; raises Unreadable where it is not a text from a phone."""
        fields = dict(request.form())
        if "Body" not in fields:
            raise Unreadable("the request has no Body, so it is not an incoming text")
        return [
            Inbound(
                gateway_id=_message_sid(fields),
                sender=_digits(fields, "From"),
                to=_digits(fields, "To"),
                text=fields["Body"],
                media=_small_number(fields, "NumMedia"),
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
                gateway_id=_message_sid(fields),
                state=RECEIPT_STATES.get(word, "unrecognised"),
                word=word,
                code=code,
                opted_out=code == OPTED_OUT,
                trouble=_trouble(code),
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
                page = _json_object(await _read(response, MOST_LIST))
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
        sender = _address(outgoing.own_number) if outgoing.own_number else None
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


class _MultiDict(dict[str, list[str]]):
    """The form as the validator likes it: it asks a mapping for `getall` where a name can come twice."""

    def getall(self, name: str) -> list[str]:
        return self[name]


def signature_fits(auth_token: str, url: str, fields: Fields, signature: str) -> bool:
    """Whether Twilio's own validator accepts the signature over this address and form.

    It tries the address without its port and with it, and reads it anew for each; so first the address as it is, which is
    what Twilio signs as a rule.
    Always the token's HMAC-SHA1: the header that names another algorithm is the sender's word and is not asked.
    Raises whatever the validator raises, for a bad port for instance; `verify` is where that ends.
    """
    if not signature:
        return False
    params = _MultiDict()
    for name, value in fields:
        params.setdefault(name, []).append(value)
    validator = RequestValidator(auth_token)
    as_it_is = hmac.compare_digest(validator.compute_signature(url, params).encode(), signature.encode())
    return as_it_is or bool(validator.validate(url, params, signature))


def form_encoded(form: Fields) -> bytes:
    """A form as it is posted.  Raises UnicodeEncodeError for half of a character.

    yarl writes the query of an address, which is the same format, in a fourth of the time that urllib takes; but what no
    encoding can carry it leaves out without a word.
    """
    for _, value in form:
        value.encode()
    return URL.build(query=form).raw_query_string.encode("ascii")


def result_of(status: int, retry_after: str | None, body: bytes) -> SendResult:
    """What Twilio's answer to a create proves, from its status, its Retry-After header and its body."""
    answer = _json_object(body)
    if 200 <= status < 300:
        sid = answer.get("sid")
        if isinstance(sid, str) and _MESSAGE.fullmatch(sid):
            return Accepted(sid, _segments(answer.get("num_segments")))
        return Unknown("the gateway said yes, but its answer could not be read")
    # 408 says that a proxy gave up waiting, which proves nothing about what stands behind the proxy.
    if 400 <= status < 500 and status != 408:
        return _refusal(status, _code(answer), retry_after)
    return Unknown("the gateway gave no clear answer and may have taken the message")


def _refusal(status: int, code: str | None, retry_after: str | None) -> NotSent | Unknown:
    if status == 429:
        reason = "the gateway asks us to send more slowly"
        return NotSent("throttled", reason, code or "429", _wait_s(retry_after), hold="slow")
    if code is not None and code in CODES:
        scope, reason, hold = CODES[code]
        if scope == "unclear":
            return Unknown(reason)
        wait = _wait_s(retry_after) if scope == "throttled" else None
        return NotSent(scope, reason, code, wait, lasting=scope == "gateway" or hold == "person", hold=hold)
    if status == 401:
        return NotSent("gateway", "the gateway did not accept our account and token", code or "401", lasting=True)
    if code is None:
        # Every refusal of Twilio's own carries a code.  Without one something in between answered, or the address is
        # wrong: it would refuse the next message as well, so the gateway stops and no queue is burnt.
        return NotSent("gateway", "something other than the gateway refused the request", str(status))
    return NotSent("message", "the gateway refused the message for a reason that is not known here", code)


def _trouble(code: str | None) -> Trouble | None:
    """What a receipt's code holds up besides its own message, if anything."""
    meant = CODES.get(code or "")
    if meant is None or meant.hold is None or meant.scope == "unclear":
        return None
    return Trouble(meant.scope, meant.reason, meant.hold)


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
            sender=_digits(fields, "From"),
            to=_digits(fields, "To"),
            text=text,
            media=_small_number({"NumMedia": str(one.get("num_media") or "0")}, "NumMedia"),
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


def _json_object(body: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):  # a page of HTML, half an answer, or ten thousand brackets
        return {}
    return answer if isinstance(answer, dict) else {}


def _code(answer: Mapping[str, Any]) -> str | None:
    code = answer.get("code")
    return str(code) if isinstance(code, int) and not isinstance(code, bool) and 10000 <= code <= 99999 else None


def _segments(value: object) -> int | None:
    """The count of segments; a messaging service says "0" until it has picked a sender, which means not known yet."""
    return int(value) or None if isinstance(value, str) and re.fullmatch("[0-9]{1,3}", value) else None


def _wait_s(retry_after: str | None) -> float | None:
    """Retry-After in seconds, at most an hour; a date or nonsense is None, and the engine backs off by itself."""
    if retry_after is None or not _WAIT.fullmatch(retry_after.strip()):
        return None
    return min(LONGEST_WAIT_S, float(retry_after))


def _refuse_strange_shapes(fields: Fields) -> None:
    """Raise Forged unless every parameter looks as Twilio writes it.

    Twilio adds parameters without notice, so an unknown name passes; its value is kept short and free of control
    characters, because a long unknown value is where a re-cut forgery hides what it has left over.
    """
    if len(fields) > MOST_FIELDS:
        raise Forged("the request has more fields than Twilio sends")
    seen: dict[str, str] = {}
    for name, value in fields:
        if name in seen and name in _SHAPES:
            raise Forged("the request says a known field twice")
        seen[name] = value
        if not _NAME.fullmatch(name) or not _shape_of(name).fullmatch(value):
            raise Forged("the request has a field that does not look as Twilio writes it")
    if len({seen[name] for name in ("MessageSid", "SmsMessageSid", "SmsSid") if name in seen}) > 1:
        raise Forged("the request names two messages")


def _shape_of(name: str) -> re.Pattern[str]:
    if name in _SHAPES:
        return _SHAPES[name]
    return next((shape for family, shape in _FAMILIES if family.fullmatch(name)), _UNKNOWN)


def _refuse_a_recut(fields: Fields) -> None:
    """Raise Forged where the sender stands twice in the signed bytes.

    Body is the only long field that a texter writes, and in the signed order the true sender (`From+1555..`) comes
    after it.  A forger who writes another From into his Body must leave those true bytes somewhere behind his own:
    in a made-up parameter, or shared out over several short ones.  So everything from From onwards is glued together
    again as it was signed, and may say "From" only where a parameter's name begins.  Length limits alone do not stop
    this: `Fz` = `From+254..FromCityFromCountryKEFromStateFromZip` has 53 characters.
    """
    behind = sorted((name, value) for name, value in fields if name >= "From")
    glued = "".join(name + value for name, value in behind)
    if glued.count("From") != sum(name.startswith("From") for name, _ in behind):
        raise Forged("the request has a second sender inside it, as a re-cut forgery has")


def _address(number: str) -> str:
    """A sender as Twilio wants it: a phone number gets its `+`; a short code and letters stay as they are."""
    return f"+{number}" if re.fullmatch("[0-9]{7,15}", number) else number


def _digits(fields: Mapping[str, str], name: str) -> str:
    """A number without its `+`; a short code stays digits, a sender of letters stays as it is."""
    value = fields.get(name, "")
    if not value or ":" in value:
        raise Unreadable(f"the request has no phone number in {name}, so it is not an incoming text")
    return value.removeprefix("+")


def _message_sid(fields: Mapping[str, str]) -> str:
    sid = fields.get("MessageSid") or fields.get("SmsSid")
    if not sid:
        raise Unreadable("the request has no MessageSid")
    return sid


def _small_number(fields: Mapping[str, str], name: str) -> int:
    value = fields.get(name) or "0"
    if not re.fullmatch("[0-9]{1,2}", value):
        raise Unreadable(f"the request has no number in {name}")
    return int(value)


def _without_text(fields: Mapping[str, str]) -> dict[str, str]:
    """What is kept beside a text or a receipt: the text itself has its own place and its own retention."""
    return {name: value for name, value in fields.items() if name != "Body"}
