"""The life of a broadcast: launched, begun at its hour, halted, paused, put away.  `previews.py` makes one, `expansion.py` turns it into messages.

Each step is a move of `states.py`.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    Row,
    bindparam,
    exists,
    select,
    update,
)

from storage import audit
from storage.audit import Actor, Change
from storage.broadcasts.content import broadcast
from storage.broadcasts.progress import Progress, progress
from storage.broadcasts.recipients import first_leaves, freeze
from storage.broadcasts.states import OPEN, RUNNING, move, moving
from storage.database import Transaction
from storage.errors import Problem
from storage.operations import operations
from storage.schema import (
    Moment,
    broadcasts,
    messages,
)
from storage.schema import operations as operations_table


def launch(tx: Transaction, number: int, *, hold_s: int, by: Actor) -> datetime:
    """Let a confirmed broadcast go after its hold, or at its time; returns when the first may leave.

    One without hold and hour goes at once.  Launching twice changes nothing.
    """
    held_until = first_leaves(tx, number, hold_s=hold_s)
    expires_at = held_until + timedelta(hours=tx.rules.expiry_h)
    at_its_hour = broadcast(tx, number).send_at is not None
    becomes = "scheduled" if at_its_hour else "held" if held_until > tx.now else "expanding"
    moments = {"launched_at": tx.now, "hold_until": held_until, "expires_at": expires_at}
    if move(tx, number, becomes, came_from=("previewed",), **moments):
        change = Change("broadcast", number, {"state": "previewed"}, {"state": becomes})
        facts = {"recipients": broadcast(tx, number).recipients}
        audit.record(tx, "broadcasts.launch", "broadcast", number, facts=facts, changes=[change], by=by)
    return broadcast(tx, number).hold_until or held_until


# An idle worker asks these ten times a second, and building a statement takes longer than running it.
_DUE = broadcasts.c.hold_until <= bindparam("now", type_=Moment)
_MAY_BEGIN = select(broadcasts.c.id).where(broadcasts.c.state == "scheduled", _DUE).order_by(broadcasts.c.id)
_PAUSED_AT_ITS_HOUR = (
    select(broadcasts.c.id)
    .where(broadcasts.c.state == "paused", broadcasts.c.paused_from == "scheduled", _DUE)
    .order_by(broadcasts.c.id)
)
_HOLD_IS_OVER = select(exists().where(broadcasts.c.state == "held", _DUE))
_END_HOLDS = (
    moving("expanding", "held").where(_DUE, broadcasts.c.expanded_at.is_(None)),
    moving("sending", "held").where(_DUE, broadcasts.c.expanded_at.is_not(None)),
)


def holds_are_over(tx: Transaction) -> bool:
    """Whether the hold of some broadcast is over: `end_holds` lets it go."""
    return bool(tx.scalar(_HOLD_IS_OVER, {"now": tx.now}))


def end_holds(tx: Transaction) -> int:
    """Let those go whose hold is over; returns how many.  Nothing of a broadcast leaves before."""
    return sum(tx.execute(statement, {"now": tx.now}).rowcount for statement in _END_HOLDS)


def whose_hour_has_come(tx: Transaction, *, paused: bool = False) -> list[int]:
    """The launched broadcasts with an hour of their own that has come and that have not begun; `paused` ones too if asked."""
    numbers = list(tx.execute(_MAY_BEGIN, {"now": tx.now}).scalars())
    return numbers + (list(tx.execute(_PAUSED_AT_ITS_HOUR, {"now": tx.now}).scalars()) if paused else [])


def begin(tx: Transaction, number: int) -> Row[Any]:
    """The hour of a broadcast has come: what was confirmed is a rule, so it is for those who are in its groups now.

    One that is paused stays so, and goes on as one that has begun.
    """
    freeze(tx, number)
    if not move(tx, number, "expanding", came_from=("scheduled",)):
        stays = (broadcasts.c.id == number, broadcasts.c.state == "paused", broadcasts.c.paused_from == "scheduled")
        tx.execute(update(broadcasts).where(*stays).values(paused_from="expanding"))
    return broadcast(tx, number)


def hold_back(tx: Transaction, number: int) -> None:
    """Put a broadcast that was about to begin back to where it waits to be confirmed; its hour is over."""
    no_longer: dict[str, Any] = {"send_at": None, "launched_at": None, "hold_until": None, "expires_at": None}
    move(tx, number, "previewed", **no_longer)


def drop(tx: Transaction, number: int) -> None:
    """A broadcast that was never confirmed is put away, because somebody said so."""
    move(tx, number, "dropped")


def lapse(tx: Transaction, number: int) -> None:
    """A broadcast that nobody confirmed in time is over."""
    move(tx, number, "expired")


def put_away_unconfirmed(tx: Transaction) -> None:
    """What nobody confirmed within its fifteen minutes is over, and so is the broadcast that waited for it."""
    if operations.expire(tx):
        put_away_expired(tx)


# Asked of the few that wait, each by its number: of what ran out there are years.
_PUT_AWAY_EXPIRED = moving("expired").where(
    exists().where(operations_table.c.id == broadcasts.c.id, operations_table.c.state == "expired")
)


def put_away_expired(tx: Transaction) -> None:
    """End the previews whose operation ran out before anybody confirmed them."""
    tx.execute(_PUT_AWAY_EXPIRED)


def halt(tx: Transaction, number: int, *, by: Actor) -> Progress:
    """Stop what has not left yet; what is on its way to the gateway this instant cannot be called back."""
    row = broadcast(tx, number)
    if row.state == "previewed":
        operations.decide(tx, number, "dropped", by=by)
    if row.state in OPEN and move(tx, number, "halted", finished_at=tx.now):
        tx.execute(
            update(messages)
            .where(messages.c.broadcast_id == number, messages.c.state == "queued")
            .values(state="cancelled", reason="halted", settled_at=tx.now)
        )
        change = Change("broadcast", number, {"state": row.state}, {"state": "halted"})
        audit.record(tx, "broadcasts.halt", "broadcast", number, changes=[change], by=by)
    return progress(tx, number)


def pause(tx: Transaction, number: int, *, by: Actor) -> Progress:
    """Let nothing more of a broadcast leave until it is resumed; a second time changes nothing.

    What is on its way to the gateway this instant cannot be called back, and what a worker has only taken goes back.
    Its texts grow old meanwhile, and one whose time runs out is not sent.  Raises Problem `broadcast-unknown`, and
    `pause-not-running` for what is not confirmed, or over.
    """
    row = broadcast(tx, number)
    if row.state not in RUNNING:
        raise Problem("pause-not-running", number=number)
    if move(tx, number, "paused", paused_at=tx.now):
        waiting = (messages.c.broadcast_id == number, messages.c.state == "queued")
        tx.execute(update(messages).where(*waiting).values(paused=True))
        audit.record(tx, "broadcasts.pause", "broadcast", number, by=by)
    return progress(tx, number)


def resume(tx: Transaction, number: int, *, by: Actor) -> Progress:
    """Let a paused broadcast go on from the state that it was paused from, with what is still in time.

    Raises Problem `broadcast-unknown`, and `resume-not-paused` for what never was, was resumed, or is over or halted.
    """
    row = broadcast(tx, number)
    same = broadcasts.c.paused_from == row.paused_from
    if row.state != "paused" or not move(tx, number, row.paused_from, same, came_from=("paused",), paused_at=None):
        raise Problem("resume-not-paused", number=number)
    held = (messages.c.broadcast_id == number, messages.c.paused)
    tx.execute(update(messages).where(*held).values(paused=False))
    turned_back = (messages.c.broadcast_id == number, messages.c.state == "queued", messages.c.reason == "paused")
    tx.execute(update(messages).where(*turned_back).values(due_at=tx.now, reason=None))
    audit.record(tx, "broadcasts.resume", "broadcast", number, by=by)
    tx.wake()
    return progress(tx, number)
