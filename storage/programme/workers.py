"""The heartbeat of the workers: who is there, and since when nobody was."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import bindparam, delete, func, select, update

from storage.bulk import insert_new
from storage.database import Transaction
from storage.schema import Moment, workers

FRESH = timedelta(seconds=20)

# Each worker says so once a second, so the statements are built once.
_SEEN = update(workers).where(workers.c.owner == bindparam("by")).values(seen_at=bindparam("now", type_=Moment))
_FORGET = delete(workers).where(workers.c.seen_at < bindparam("before", type_=Moment))


def beat(tx: Transaction, owner: str) -> None:
    """Say that this worker is alive; those not heard of for a day are forgotten."""
    if tx.execute(_SEEN, {"by": owner, "now": tx.now}).rowcount == 0:
        tx.execute(insert_new(tx, workers).values(owner=owner, started_at=tx.now, seen_at=tx.now))
    tx.execute(_FORGET, {"before": tx.now - timedelta(days=1)})


def leave(tx: Transaction, owner: str) -> None:
    """Say that this worker has stopped."""
    tx.execute(delete(workers).where(workers.c.owner == owner))


def forget(tx: Transaction) -> None:
    """Forget every worker: those of a backup are not at work in what is restored from it."""
    tx.execute(delete(workers))


def is_known(tx: Transaction, owner: str, since: datetime) -> bool:
    """Whether a worker of this name was heard of here since a moment by its own clock.

    The clock of who asks does not count: two machines may differ.  A copy of the database has the name too, and an older
    moment.
    """
    return tx.scalar(select(workers.c.owner).where(workers.c.owner == owner, workers.c.seen_at >= since)) is not None


def last_seen(tx: Transaction) -> datetime | None:
    """When a worker was last heard of."""
    return tx.execute(select(func.max(workers.c.seen_at))).scalar()


def count_fresh(tx: Transaction) -> int:
    """How many workers were heard of within twenty seconds."""
    fresh = select(func.count()).select_from(workers).where(workers.c.seen_at > tx.now - FRESH)
    return int(tx.scalar(fresh))


def is_fresh(tx: Transaction) -> bool:
    """Whether a worker was heard of within twenty seconds."""
    seen = last_seen(tx)
    return seen is not None and seen > tx.now - FRESH
