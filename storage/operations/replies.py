"""What a case wrote that somebody may answer: `re 31`.  Replies have small numbers of their own, beside those of operations.

A number is given again a month after its reply was closed, which it is once an answer to it was let go; so numbers stay
short, and an old `re 31` never answers somebody else.  A reply that is open keeps its number for ever.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import Row, exists, insert, select, update

from storage.database import Transaction
from storage.operations import codes
from storage.schema import programme, replies

REST = timedelta(days=30)
"""How long a number rests after its reply was closed."""


def open_for(tx: Transaction, case: int, told: Sequence[int], message: int | None) -> int:
    """Write down that a case wrote what somebody may answer, and who was told of it; returns the reply's number."""
    number = _rested(tx) or _fresh(tx)
    row = {"number": number, "case_id": case, "told": list(told), "message_id": message, "opened_at": tx.now}
    tx.execute(insert(replies), {**row, "holds_number": True})
    return number


def find(tx: Transaction, number: int) -> Row[Any] | None:
    """The newest reply with this number, open or closed; None if there is none."""
    return tx.execute(select(replies).where(replies.c.number == number, replies.c.holds_number)).first()


def close(tx: Transaction, reply: int) -> None:
    """An answer was let go: from now on the number rests.  Answering once more changes nothing."""
    once = (replies.c.id == reply, replies.c.closed_at.is_(None))
    tx.execute(update(replies).where(*once).values(closed_at=tx.now))


def of_message(tx: Transaction, message: int) -> list[Row[Any]]:
    """The replies that an inbound text opened."""
    return list(tx.execute(select(replies).where(replies.c.message_id == message).order_by(replies.c.id)))


def _rested(tx: Transaction) -> int | None:
    """A number whose reply was closed a month ago, the one that rested longest; its reply holds it no more."""
    over = select(replies).where(replies.c.holds_number, replies.c.closed_at <= tx.now - REST)
    row = tx.execute(over.order_by(replies.c.closed_at).limit(1)).first()
    if row is None:
        return None
    tx.execute(update(replies).where(replies.c.id == row.id).values(holds_number=False))
    return int(row.number)


def _fresh(tx: Transaction) -> int:
    """The next number that no reply holds; those of before the counter are the numbers of operations, here and there."""
    number = int(tx.scalar(select(programme.c.replies_through))) + 1
    while (free := _free_from(tx, number)) != number:
        number = free
    tx.execute(update(programme).values(replies_through=number))
    return number


def _free_from(tx: Transaction, number: int) -> int:
    """This number, if it is free and as long as no code; else the next that may be."""
    if len(str(number)) in (codes.SHORT, codes.LONG):
        return int(10 ** len(str(number)))
    if find(tx, number) is None:
        return number
    after = replies.alias("after")
    last_of_the_row = select(replies.c.number).where(
        replies.c.holds_number,
        replies.c.number >= number,
        ~exists().where(after.c.holds_number, after.c.number == replies.c.number + 1),
    )
    return int(tx.scalar(last_of_the_row.order_by(replies.c.number).limit(1))) + 1
