"""What a phone was asked and has not answered yet: one question at a time, newer ones in place of older ones.

`invite`: is this your phone?  `move`: the same, of a new number, before a case is given it.  Only what comes right after
the text that asks can answer it.  What an answer brings about is the business of whoever asked.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Literal

from sqlalchemy import Row, bindparam, insert, select, update

from storage.database import Transaction
from storage.rules import phone_keys
from storage.schema import Moment, questions

Kind = Literal["invite", "move"]
LIFE = timedelta(days=7)
OPEN_ON = select(questions).where(
    questions.c.phone_key == bindparam("phone_key"),
    questions.c.closed_at.is_(None),
    questions.c.expires_at > bindparam("now", type_=Moment),
)


def ask(tx: Transaction, phone: str, kind: Kind, *, case_id: int, operation_id: int, message_id: int) -> int:
    """Open a question to a phone for seven days, in place of any other; returns its row id."""
    phone_key = phone_keys.key(phone)
    still = (questions.c.phone_key == phone_key, questions.c.closed_at.is_(None))
    tx.execute(update(questions).where(*still).values(closed_at=tx.now))
    row = {
        "phone": phone,
        "phone_key": phone_key,
        "kind": kind,
        "case_id": case_id,
        "operation_id": operation_id,
        "message_id": message_id,
        "asked_at": tx.now,
        "expires_at": tx.now + LIFE,
    }
    return int(tx.execute(insert(questions).returning(questions.c.id), row).scalar_one())


def open_on(tx: Transaction, phone: str) -> Row[Any] | None:
    """The question that is open on a phone, or None."""
    return tx.execute(OPEN_ON, {"phone_key": phone_keys.key(phone), "now": tx.now}).first()


def ask_again(tx: Transaction, question: int, message_id: int) -> None:
    """Note the text by which a question was put once more."""
    tx.execute(update(questions).where(questions.c.id == question).values(message_id=message_id))


def close(tx: Transaction, question: int, answer: str | None) -> None:
    """End a question with its answer, `yes` or `no`, or with None where nobody will answer it any more."""
    tx.execute(update(questions).where(questions.c.id == question).values(closed_at=tx.now, answer=answer))


def asked_by(tx: Transaction, operation: int) -> Row[Any] | None:
    """The newest question that an operation asks, open or not."""
    query = select(questions).where(questions.c.operation_id == operation).order_by(questions.c.id.desc())
    return tx.execute(query.limit(1)).first()
