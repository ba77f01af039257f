"""The fence that a restore puts up: nothing that may have been sent or done since the backup is sent or done again.

The restored database does not know what happened after its backup, and the phones do.  Whatever was open in it is
therefore in doubt: the gateway is asked, as about any message without an answer (`messages/reconciliation.py`), and what it cannot prove
is left to a person.  What is queued after the restore leaves as usual.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import and_, case, exists, func, insert, literal, select, update

from storage import audit
from storage.audit import Actor
from storage.broadcasts import broadcasts, expansion, progress
from storage.broadcasts.states import moving as broadcasts_moving
from storage.database import Transaction
from storage.messages import outbox, states
from storage.operations.states import moving as operations_moving
from storage.programme import workers
from storage.schema import attempts, codes, conversations, programme
from storage.schema import messages as messages_table

IN_DOUBT = (*states.OPEN, "unknown")
"""What was unknown already is asked about anew: an answer from before the backup proves nothing about what came after."""


def put_up(tx: Transaction, backed_up_at: datetime, *, by: Actor) -> Mapping[str, int]:
    """Put the fence up in a database that is as it was at `backed_up_at`; returns how many of what it holds.

    Broadcasts whose hold or hour is still to come are halted: none of theirs can have left.  Of the others every recipient
    is written down first, so that each is asked about and counted.
    """
    held = {"halted": _halt_what_waits(tx, by)}
    broadcasts.end_holds(tx)
    for number in broadcasts.whose_hour_has_come(tx, paused=True):
        broadcasts.begin(tx, number)
    while expansion.expand_next(tx):
        pass
    held["messages"] = _put_in_doubt(tx, backed_up_at)
    held["texts"] = _set_aside_unhandled(tx)
    held["questions"] = _close_conversations(tx) + _end_operations(tx)
    workers.forget(tx)
    facts = {"backup": backed_up_at.isoformat(), **held}
    line = audit.record(tx, "programme.restore", "programme", 1, facts=facts, by=by)
    # The leads were told since the backup of what others had done before it; they are not told again.
    mark = {
        "backed_up_at": backed_up_at,
        "restored_at": tx.now,
        "restore_told_at": None,
        "digested_at": tx.now,
        "digested_through": line,
    }
    tx.execute(update(programme).values(mark))
    return held


def holding(tx: Transaction) -> dict[str, int]:
    """How many messages the fence still holds, by state, and under `texts` how many texts it has set aside."""
    is_held = exists().where(attempts.c.message_id == messages_table.c.id, attempts.c.reason == "restored")
    doubtful = and_(states.unclear("unknown", "unresolved"), is_held)
    query = select(messages_table.c.state, func.count().label("n")).where(doubtful).group_by(messages_table.c.state)
    aside = and_(states.unclear("set_aside"), messages_table.c.reason == "restored")
    texts = int(tx.scalar(select(func.count()).select_from(messages_table).where(aside)))
    return {row.state: row.n for row in tx.execute(query)} | {"texts": texts}


def untold(tx: Transaction) -> datetime | None:
    """When the backup was made to which the programme went back, if the leads were not told of that yet."""
    row = tx.execute(select(programme.c.backed_up_at, programme.c.restored_at, programme.c.restore_told_at)).first()
    if row is None or row.restored_at is None or row.restore_told_at is not None:
        return None
    at: datetime = row.backed_up_at
    return at


def told(tx: Transaction) -> bool:
    """Note that the leads were told of the restore; False if they were told before."""
    once = update(programme).where(programme.c.restored_at.is_not(None), programme.c.restore_told_at.is_(None))
    return tx.execute(once.values(restore_told_at=tx.now)).rowcount > 0


def _halt_what_waits(tx: Transaction, by: Actor) -> int:
    waiting = [row.id for row in progress.running(tx) if row.hold_until > tx.now]
    for number in waiting:
        broadcasts.halt(tx, number, by=by)
    return len(waiting)


def _put_in_doubt(tx: Transaction, backed_up_at: datetime) -> int:
    """Everything that is open counts as handed over, at the earliest when the backup was made.

    So late receipts settle it, and no other gateway takes it over.  The made-up attempt is one of its own: what was
    answered about an earlier one does not count.  What no gateway can be asked about is for a person at once.
    """
    outbox.adopt(tx)
    m, attempt = messages_table.c, f"{states.RESTORED}{secrets.token_hex(8)}"
    left = m.state.in_(("sending", "unknown"))
    doubt = (
        update(messages_table)
        .where(m.direction == "out", m.state.in_(IN_DOUBT))
        .values(
            state=case((m.gateway.is_(None), "unresolved"), else_="unknown"),
            reason="restored",
            attempt_id=attempt,
            attempts=m.attempts + 1,
            handed_over_at=case((left, func.coalesce(m.handed_over_at, backed_up_at)), else_=backed_up_at),
            lease_owner=None,
            lease_until=None,
            ask_at=None,
            settled_at=tx.now,
        )
    )
    many = tx.execute(doubt).rowcount
    now = literal(tx.now, attempts.c.at.type)
    each = select(m.id, m.attempt_id, m.state, m.reason, now).where(m.attempt_id == attempt)
    tx.execute(insert(attempts).from_select(["message_id", "attempt_id", "state", "reason", "at"], each))
    return many


def _set_aside_unhandled(tx: Transaction) -> int:
    """A text whose handling waited for another try was handled since, perhaps, and answered."""
    waits = and_(messages_table.c.direction == "in", messages_table.c.state == "received")
    aside = {"state": "set_aside", "reason": "restored", "settled_at": tx.now}
    return tx.execute(update(messages_table).where(waits).values(aside)).rowcount


def _close_conversations(tx: Transaction) -> int:
    """No phone answers what it was asked before: another question may stand in its place."""
    over = {"state": "closed", "closed_at": tx.now, "outcome": "restored"}
    return tx.execute(update(conversations).where(conversations.c.state != "closed").values(over)).rowcount


def _end_operations(tx: Transaction) -> int:
    """What waited for a code was confirmed since, perhaps: it ends, and its code with it."""
    alive = and_(codes.c.used_at.is_(None), codes.c.expires_at > tx.now)
    tx.execute(update(codes).where(alive).values(expires_at=tx.now))
    ended = tx.execute(operations_moving("expired").values(decided_at=tx.now)).rowcount
    tx.execute(broadcasts_moving("expired"))
    return ended
