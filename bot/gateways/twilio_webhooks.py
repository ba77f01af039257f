"""What may be in a request that is said to come from Twilio: its signature, and the shape of every field."""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping, Sequence
from typing import Final

from twilio.request_validator import RequestValidator  # type: ignore[import-untyped]
from yarl import URL

from bot.gateways.base import (
    Forged,
    Unreadable,
)

Fields = Sequence[tuple[str, str]]

MOST_TEXT: Final = 8192  # an SMS has at most 1,600 characters; a long one handed over as base64 has up to 6,400

MOST_FIELDS: Final = 100

ACCOUNT: Final = re.compile("AC[0-9a-fA-F]{32}")


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

_NAME: Final = re.compile("[A-Za-z][A-Za-z0-9_]{0,40}")


def refuse_strange_shapes(fields: Fields) -> None:
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


_FAMILIES: Final = (
    (re.compile("MediaUrl[0-9]"), re.compile("https://[A-Za-z0-9._~:/?=&%-]{1,300}")),
    (re.compile("MediaContentType[0-9]"), re.compile(r"[A-Za-z0-9.+*/;= _\"-]{0,128}")),
)

_UNKNOWN: Final = re.compile(_SHORT)


def _shape_of(name: str) -> re.Pattern[str]:
    if name in _SHAPES:
        return _SHAPES[name]
    return next((shape for family, shape in _FAMILIES if family.fullmatch(name)), _UNKNOWN)


def refuse_a_recut(fields: Fields) -> None:
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


def address_in(number: str) -> str:
    """A sender as Twilio wants it: a phone number gets its `+`; a short code and letters stay as they are."""
    return f"+{number}" if re.fullmatch("[0-9]{7,15}", number) else number


def digits(fields: Mapping[str, str], name: str) -> str:
    """A number without its `+`; a short code stays digits, a sender of letters stays as it is."""
    value = fields.get(name, "")
    if not value or ":" in value:
        raise Unreadable(f"the request has no phone number in {name}, so it is not an incoming text")
    return value.removeprefix("+")


def message_sid(fields: Mapping[str, str]) -> str:
    """The id that Twilio gave the text; raises Unreadable without one."""
    sid = fields.get("MessageSid") or fields.get("SmsSid")
    if not sid:
        raise Unreadable("the request has no MessageSid")
    return sid


def small_number(fields: Mapping[str, str], name: str) -> int:
    """A number of one or two digits, 0 where it is not there; raises Unreadable for anything else."""
    value = fields.get(name) or "0"
    if not re.fullmatch("[0-9]{1,2}", value):
        raise Unreadable(f"the request has no number in {name}")
    return int(value)
