"""Who said ok to an operation: the first, and the second where one is not enough.

Written by whatever confirms (`ok CODE`, the desk, `broadcasts launch --yes`) and read by whatever asks for the first or the
second ok.  The audit log tells the same to people; a decision asks here.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row, insert, select

from storage.audit import Actor
from storage.database import Transaction
from storage.errors import Problem
from storage.operations import operations
from storage.schema import approvals


def add(tx: Transaction, number: int, *, by: Actor) -> int:
    """Write down that somebody said ok to an operation as it stands now; returns whether it is the 1st or the 2nd ok.

    Raises Problem `second-person` for one who has said ok to it before, and where two have.
    """
    before, asked = of(tx, number), operations.operation(tx, number)
    if asked is None:
        raise LookupError(f"no operation {number}")
    if len(before) > 1 or by.person_id in {row.person_id for row in before}:
        raise Problem("second-person", number=number)
    row = {
        "operation_id": number,
        "person_id": by.person_id,
        "door": by.door,
        "place": len(before) + 1,
        "digest": operations.digest_of(asked),
        "at": tx.now,
    }
    tx.execute(insert(approvals), row)
    return len(before) + 1


def of(tx: Transaction, number: int) -> list[Row[Any]]:
    """Each ok to an operation, the first one first: `person_id` (None: the system's own user), `door`, `place`, `at`."""
    query = select(approvals).where(approvals.c.operation_id == number)
    return list(tx.execute(query.order_by(approvals.c.place)))
