"""Why a message is where it is, in words for a screen: the same that the bot says in English on a phone.

Our own reasons are the keys of `REASONS`, declared here and nowhere else, each with what it means; the languages of the bot
have words for every one (`[reasons]` in `bot/locales/`).  What a gateway's own codes mean stands beside its adapter, and comes
by the entry point `jumbe.gateway_codes`: the store knows no gateway's codes.
A key that stands nowhere is shown as it is, so that a gateway's new word is never swallowed.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.metadata import entry_points
from typing import NamedTuple

REASONS: dict[str, str] = {
    "stopped": "the number said STOP",
    "asked-already": "that phone is being asked about somebody else",
    "doubt": "the number may have said STOP and was asked, without an answer yet",
    "closed": "the case is closed",
    "changed": "the number or the consent changed after the preview",
    "text-blank": "its text would be empty",
    "text-too-long": "its text would be too long",
    "fault": "the system could not send it",
    "left": "the case was taken out of the group before it left",
    "no-number": "the case has no phone number",
    "same-phone": "it goes to the same phone for another case",
    "gateway-unknown": "its gateway is not set up here",
    "halted": "it was halted before it left",
    "in-conversation": "that phone is being asked something else first",
    "paused": "it is paused, and waits to be resumed",
    "expired": "its time ran out before it could leave",
    "quiet-hours": "it is quiet hours there",
    "process-died": "the system stopped in the middle of sending; it may or may not have left",
    "restored": "it was open in a backup that was restored; it may have left since",
    "gateway-gone": "its gateway is not set up any more; it may or may not have left",
    "absent": "the gateway has no record of it; most likely it never left",
    "no-answer": "the gateway gave no clear answer; it may or may not have left",
    "unreachable": "the gateway could not be reached",
    "throttled": "the gateway asked us to slow down",
    "recipient": "the gateway says the number cannot be texted",
    "opted_out": "the gateway says the number opted out",
    "destination": "the gateway does not text that country",
    "sender": "our own number is not set up at the gateway",
    "gateway": "our account at the gateway was refused",
    "message": "the gateway refused the text",
    "gateway-code": "the network gave a code",
    "failover": "another gateway sends it",
    "queued": "it waits for its turn",
    "claimed": "it is about to leave",
    "sending": "it is being handed to the gateway",
    "previewed": "it is not confirmed yet",
    "held": "it is held for a moment, and can be halted",
    "dropped": "it was dropped before it was confirmed",
    "unconfirmed": "nobody confirmed it in time",
    "scheduled": "it waits for its time",
    "replaced": "a newer preview took its place",
    "unknown": "it may or may not have been sent",
}


class GatewayCode(NamedTuple):
    """A code of a gateway's own that has words: the key under which the bot's languages have them, and the English ones."""

    key: str
    words: str


@cache
def gateway_codes() -> Mapping[str, GatewayCode]:
    """By code, what the gateways say of their own codes; the key is the gateway's kind and the code, as `kind-code`.

    A message's code is looked up without its gateway, so no two gateways may give words for the same one.
    """
    kinds = sorted(entry_points(group="jumbe.gateway_codes"), key=lambda kind: kind.name)
    return {code: GatewayCode(f"{kind.name}-{code}", words) for kind in kinds for code, words in kind.load().items()}


def said(reason: str | None, code: str | None = None) -> str:
    """A reason in words; where the gateway gave a code of its own, what that means and the code."""
    words = REASONS.get(reason or "", reason or "")
    if not code:
        return words
    known = gateway_codes().get(code)
    return f"{known.words if known else words} (gateway {code})"
