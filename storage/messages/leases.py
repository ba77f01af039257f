"""Messages in the hands of a worker, and what comes back from one that stops or dies.

A lease that ran out before the hand-over puts the message back into the queue; after it nobody knows, and it is `unknown`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import (
    ColumnElement,
    Text,
    Update,
    bindparam,
    select,
    update,
)

from storage.database import Transaction
from storage.messages.states import LEASED
from storage.schema import Moment, messages

LEASE = timedelta(seconds=120)
"""Well beyond the longest call to a gateway (30 s): what is still `sending` when it ends has lost its answer."""


def release(tx: Transaction, ids: Sequence[int], owner: str) -> None:
    """Give claimed messages back: they were certainly not sent."""
    if ids:
        tx.execute(
            update(messages)
            .where(messages.c.id.in_(ids), messages.c.state == "claimed", messages.c.lease_owner == owner)
            .values(state="queued", lease_owner=None, lease_until=None)
        )


def _ends(held: ColumnElement[bool]) -> tuple[Update, Update]:
    """What is `claimed` and so held goes back to the queue, and what is `sending` becomes unknown."""
    free = {"lease_owner": None, "lease_until": None, "settled_at": bindparam("now", type_=Moment)}

    def of_the_dead(state: str) -> Update:
        # What its worker is writing down this instant is not of a dead one.
        leased = select(messages.c.id).where(LEASED, messages.c.state == state, held)
        rows = leased.with_for_update(skip_locked=True)
        return update(messages).where(messages.c.id.in_(rows))

    back = of_the_dead("claimed").values(state="queued", **free)
    return back, of_the_dead("sending").values(state="unknown", reason="process-died", **free)


_END_LEASES = _ends(messages.c.lease_until <= bindparam("now", type_=Moment))

_END_OTHERS = _ends(messages.c.lease_owner != bindparam("mine", type_=Text))


def end_leases(tx: Transaction, *, of_others_than: str | None = None) -> tuple[int, int]:
    """Let go of what a dead worker held: claimed goes back to the queue, sending becomes unknown.

    By the lease's clock; or, where the caller knows that no other worker can be alive (SQLite's one worker holds a file
    lock), all that others held.  Returns how many went back and how many are now unknown.
    """
    back, doubtful = _END_LEASES if of_others_than is None else _END_OTHERS
    values = {"now": tx.now} if of_others_than is None else {"now": tx.now, "mine": of_others_than}
    return tx.execute(back, values).rowcount, tx.execute(doubtful, values).rowcount
