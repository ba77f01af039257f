"""Twilio's words for states and opt-outs in ours: one literal table each; an unknown word is kept as unknown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

from bot.gateways.base import (
    ReceiptState,
)

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
