"""What a message may become: the one table of states and moves, what each state means, and how each kind of text is treated.

States only move forward by rank, so a receipt that comes late, twice or out of order changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cache
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Integer,
    Row,
    Text,
    Update,
    and_,
    bindparam,
    func,
    literal_column,
    or_,
    update,
)

from storage.database import Transaction
from storage.rules.channels import CHANNELS, Channel
from storage.schema import Moment, messages

TAKEN = ("accepted", "sent", "delivered", "undelivered")
"""What a message may be once the gateway has it."""

MOVES: dict[str, frozenset[str]] = {
    "queued": frozenset({"claimed", "withheld", "expired", "cancelled", "refused", *TAKEN}),
    "claimed": frozenset({"queued", "sending", "withheld", "expired", "cancelled", "refused", *TAKEN}),
    "sending": frozenset({"queued", "accepted", "refused", "unknown", "sent", "delivered", "undelivered"}),
    "accepted": frozenset({"sent", "delivered", "undelivered", "refused"}),
    "sent": frozenset({"delivered", "undelivered"}),
    "unknown": frozenset({"accepted", "sent", "delivered", "undelivered", "refused", "queued", "unresolved"}),
    "unresolved": frozenset({"accepted", "sent", "delivered", "undelivered", "refused"}),
    "undelivered": frozenset({"delivered"}),
    "delivered": frozenset(),
    "refused": frozenset(),
    "withheld": frozenset(),
    "expired": frozenset(),
    "cancelled": frozenset(),
}
"""What a message may become.  `unknown -> queued` only when it is proved that the gateway never took it; `queued` or
`claimed` to what the gateway has only for one that was handed over before, where late evidence says that it was taken after
all: it must not leave again.  A restore alone moves what is open to `unknown` (`upkeep/restore.py`).  `undelivered -> delivered` because some networks report both for a long text, and then a person has it."""

MEANINGS: dict[str, str] = {
    "queued": "waits for its time or its turn",
    "claimed": "a worker has taken it; certainly not sent",
    "sending": "handed to the gateway, no answer yet",
    "accepted": "the gateway took it",
    "sent": "the gateway passed it on",
    "delivered": "the phone has it",
    "undelivered": "the network could not deliver it",
    "refused": "the gateway, or a rule of ours, refused it: not sent",
    "unknown": "it may or may not have been sent; never sent again without proof",
    "unresolved": "still unknown after every question was asked: a person decides",
    "withheld": "not sent, and the reason says why",
    "expired": "its time ran out before it could leave",
    "cancelled": "halted before it left",
}


OPEN = ("queued", "claimed", "sending")
ARRIVED = ("accepted", "sent", "delivered")
RESTORED = "restored-"
"""How the attempt of a message begins that a restore holds back: it stands for whatever was done since the backup."""


@dataclass(frozen=True, slots=True)
class Kind:
    """How a kind of message is treated: lower priority leaves first."""

    priority: int
    needs_consent: bool
    keeps_quiet_hours: bool
    life: timedelta | None


KINDS: dict[str, Kind] = {
    # The one answer to STOP, START or HELP; late is worse than never (47 CFR 64.1200(a)(12): within five minutes).
    "consent": Kind(0, needs_consent=False, keeps_quiet_hours=False, life=timedelta(minutes=5)),
    "reply": Kind(0, needs_consent=True, keeps_quiet_hours=False, life=timedelta(hours=1)),
    "notice": Kind(1, needs_consent=True, keeps_quiet_hours=False, life=timedelta(hours=24)),
    "text": Kind(2, needs_consent=True, keeps_quiet_hours=True, life=None),
    "broadcast": Kind(5, needs_consent=True, keeps_quiet_hours=True, life=None),
}


def kind_of(row: Row[Any]) -> Kind:
    """How a message is treated: as its kind asks, where its channel asks it too."""
    return _kind_on(row.kind, CHANNELS[row.channel])


@cache
def _kind_on(name: str, channel: Channel) -> Kind:
    kind = KINDS[name]
    return replace(
        kind,
        needs_consent=kind.needs_consent and channel.needs_consent,
        keeps_quiet_hours=kind.keeps_quiet_hours and channel.keeps_quiet_hours,
    )


# Word for word the condition of their index, else every message there ever was would be looked through each second.
LEASED = messages.c.state.in_([literal_column("'claimed'", Text), literal_column("'sending'", Text)])

_UNCLEAR = messages.c.state.in_(("unknown", "unresolved", "set_aside"))


def unclear(*states: str) -> ColumnElement[bool]:
    """Messages in some of the states `unknown`, `unresolved` and `set_aside`, found by their index."""
    return and_(_UNCLEAR, messages.c.state.in_(states))


NOT_OVER = ("received", *OPEN, "unknown", "unresolved", "set_aside")
"""The states in which something is still to be done, by us or by a person."""


def move(tx: Transaction, message_id: int, came_from: str, **columns: Any) -> None:
    """Move a message that is in `came_from` to the state among the columns; one that moved meanwhile stays."""
    assert columns["state"] in MOVES[came_from]
    tx.execute(
        update(messages)
        .where(messages.c.id == message_id, messages.c.state == came_from)
        .values(lease_owner=None, lease_until=None, settled_at=tx.now, **columns)
    )


def _settled_to(to: str) -> Update:
    """The move of an attempt to a state.  What is not queued again keeps its time and its gateway.

    They are left out of the statement then: SQLite writes anew every index of a column that a statement names.
    """
    again: dict[str, Any] = {
        "due_at": func.coalesce(bindparam("due", type_=Moment), messages.c.due_at),
        "gateway": func.coalesce(bindparam("by", type_=Text), messages.c.gateway),
    }
    return (
        update(messages)
        .where(
            messages.c.id == bindparam("row"),
            messages.c.attempt_id == bindparam("attempt"),
            # Not IN: SQLAlchemy expands its list at run time, which a statement for many rows cannot do.
            or_(*(messages.c.state == state for state, moves in MOVES.items() if to in moves)),
        )
        .values(
            state=to,
            reason=bindparam("because"),
            code=bindparam("their_code"),
            gateway_id=func.coalesce(messages.c.gateway_id, bindparam("their_id", type_=Text)),
            segments=func.coalesce(bindparam("parts", type_=Integer), messages.c.segments),
            lease_owner=None,
            lease_until=None,
            settled_at=bindparam("now"),
            **(again if to == "queued" else {}),
        )
    )


SETTLE = {to: _settled_to(to) for to in sorted({to for moves in MOVES.values() for to in moves})}
