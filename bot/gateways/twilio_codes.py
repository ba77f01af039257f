"""Twilio's words in ours: states, opt-outs and error codes, one literal table each, and what an answer means.

An unknown word is kept as unknown.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final, Literal, NamedTuple

from bot.gateways.base import (
    Accepted,
    Hold,
    NotSent,
    ReceiptState,
    Scope,
    SendResult,
    Trouble,
    Unknown,
)

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

WORDS: Final[Mapping[str, str]] = {
    **{code: CODES[code].reason for code in ("30003", "30004", "30005", "30006", "30008")},
    "30007": "the network filtered it",  # shorter: there it stands after the text that it is about
}
"""What the codes of receipts mean, for the screens and the phones; the languages have them as `twilio-30003`.

The entry point `jumbe.gateway_codes` in `pyproject.toml` hands them to `storage/rules/reasons.py`, and so to the desk: this
module loads no library of Twilio's, for the desk would have to load it too."""

LONGEST_WAIT_S: Final = 3600.0

_MESSAGE: Final = re.compile("(?:SM|MM)[0-9a-fA-F]{32}")


def result_of(status: int, retry_after: str | None, body: bytes) -> SendResult:
    """What Twilio's answer to a create proves, from its status, its Retry-After header and its body."""
    answer = json_object(body)
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


def trouble(code: str | None) -> Trouble | None:
    """What a receipt's code holds up besides its own message, if anything."""
    meant = CODES.get(code or "")
    if meant is None or meant.hold is None or meant.scope == "unclear":
        return None
    return Trouble(meant.scope, meant.reason, meant.hold)


def json_object(body: bytes) -> dict[str, Any]:
    """The object in an answer; empty for anything else that came."""
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


_WAIT: Final = re.compile("[0-9]{1,6}")


def _wait_s(retry_after: str | None) -> float | None:
    """Retry-After in seconds, at most an hour; a date or nonsense is None, and the engine backs off by itself."""
    if retry_after is None or not _WAIT.fullmatch(retry_after.strip()):
        return None
    return min(LONGEST_WAIT_S, float(retry_after))


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
