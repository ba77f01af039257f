"""The life of a broadcast: launched, begun at its hour, halted, paused, put away.  `previews.py` makes one, `expansion.py` turns it into messages."""

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
from storage.broadcasts.progress import RUNNING, Progress, progress
from storage.broadcasts.recipients import WAITS_FOR_ITS_HOUR, first_leaves, freeze
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

    Launching twice changes nothing.
    """
    held_until = first_leaves(tx, number, hold_s=hold_s)
    expires_at = held_until + timedelta(hours=tx.rules.expiry_h)
    moved = tx.execute(
        update(broadcasts)
        .where(broadcasts.c.id == number, broadcasts.c.state == "previewed")
        .values(state="expanding", launched_at=tx.now, hold_until=held_until, expires_at=expires_at)
    )
    if moved.rowcount:
        change = Change("broadcast", number, {"state": "previewed"}, {"state": "expanding"})
        facts = {"recipients": broadcast(tx, number).recipients}
        audit.record(tx, "broadcasts.launch", "broadcast", number, facts=facts, changes=[change], by=by)
    return broadcast(tx, number).hold_until or held_until


# An idle worker asks these ten times a second, and building a statement takes longer than running it.
_HOUR_HAS_COME = (
    select(broadcasts.c.id)
    .where(
        broadcasts.c.state == "expanding",
        broadcasts.c.hold_until <= bindparam("now", type_=Moment),
        WAITS_FOR_ITS_HOUR,
    )
    .order_by(broadcasts.c.id)
)

_MAY_BEGIN = _HOUR_HAS_COME.where(broadcasts.c.paused_at.is_(None))


def whose_hour_has_come(tx: Transaction, *, paused: bool = False) -> list[int]:
    """The launched broadcasts with an hour of their own that has come and that have not begun; `paused` ones too if asked."""
    return list(tx.execute(_HOUR_HAS_COME if paused else _MAY_BEGIN, {"now": tx.now}).scalars())


def begin(tx: Transaction, number: int) -> Row[Any]:
    """The hour of a broadcast has come: what was confirmed is a rule, so it is for those who are in its groups now."""
    freeze(tx, number)
    return broadcast(tx, number)


def hold_back(tx: Transaction, number: int) -> None:
    """Put a broadcast that was about to begin back to where it waits to be confirmed; its hour is over."""
    waits = {"state": "previewed", "send_at": None, "launched_at": None, "hold_until": None, "expires_at": None}
    tx.execute(update(broadcasts).where(broadcasts.c.id == number, broadcasts.c.state == "expanding").values(waits))


def drop(tx: Transaction, number: int) -> None:
    """A broadcast that was never confirmed is put away."""
    tx.execute(
        update(broadcasts).where(broadcasts.c.id == number, broadcasts.c.state == "previewed").values(state="dropped")
    )


def put_away_unconfirmed(tx: Transaction) -> None:
    """What nobody confirmed within its fifteen minutes is over, and so is the broadcast that waited for it."""
    if operations.expire(tx):
        put_away_expired(tx)


def put_away_expired(tx: Transaction) -> None:
    """Drop the previews whose operation ran out before anybody confirmed them."""
    # Asked of the few that wait, each by its number: of what ran out there are years.
    over = exists().where(operations_table.c.id == broadcasts.c.id, operations_table.c.state == "expired")
    tx.execute(update(broadcasts).where(broadcasts.c.state == "previewed", over).values(state="dropped"))


def halt(tx: Transaction, number: int, *, by: Actor) -> Progress:
    """Stop what has not left yet; what is on its way to the gateway this instant cannot be called back."""
    row = broadcast(tx, number)
    if row.state == "previewed":
        operations.decide(tx, number, "dropped", by=by)
    if row.state in ("previewed", *RUNNING):
        tx.execute(update(broadcasts).where(broadcasts.c.id == number).values(state="halted", finished_at=tx.now))
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
    if row.paused_at is None:
        tx.execute(update(broadcasts).where(broadcasts.c.id == number).values(paused_at=tx.now))
        waiting = (messages.c.broadcast_id == number, messages.c.state == "queued")
        tx.execute(update(messages).where(*waiting).values(paused=True))
        audit.record(tx, "broadcasts.pause", "broadcast", number, by=by)
    return progress(tx, number)


def resume(tx: Transaction, number: int, *, by: Actor) -> Progress:
    """Let a paused broadcast go on, with what is still in time; a second time changes nothing.

    Raises Problem `broadcast-unknown`, and `resume-not-paused` for what never was, or is over or halted.
    """
    row = broadcast(tx, number)
    if row.state not in RUNNING or row.paused_at is None:
        raise Problem("resume-not-paused", number=number)
    tx.execute(update(broadcasts).where(broadcasts.c.id == number).values(paused_at=None))
    held = (messages.c.broadcast_id == number, messages.c.paused)
    tx.execute(update(messages).where(*held).values(paused=False))
    turned_back = (messages.c.broadcast_id == number, messages.c.state == "queued", messages.c.reason == "paused")
    tx.execute(update(messages).where(*turned_back).values(due_at=tx.now, reason=None))
    audit.record(tx, "broadcasts.resume", "broadcast", number, by=by)
    tx.wake()
    return progress(tx, number)


def is_paused(row: Row[Any]) -> bool:
    """Whether a broadcast is paused now: what is over or halted is not."""
    return row.paused_at is not None and row.state in RUNNING
