"""Who a text is from: all that the database knows of its number, in one question.

A text is handled by the person, the case, the last word on consent and the open question of one number; asked one by one
that takes longer than anything else that is done for a text.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Integer, Row, literal, select

from storage.contacts import consent, lookup, people
from storage.conversations import conversations
from storage.database import Transaction
from storage.rules import phone_keys
from storage.schema import cases as cases_table

_CALLER = (
    select(
        cases_table,
        consent.NEWEST.scalar_subquery().label("said_last"),
        people.BY_PHONE.with_only_columns(people.BY_PHONE.selected_columns.id).scalar_subquery().label("staff"),
        conversations.OPEN_ON.with_only_columns(conversations.OPEN_ON.selected_columns.id)
        .scalar_subquery()
        .label("asked"),
    )
    .select_from(select(literal(1, Integer()).label("number")).subquery("one"))
    .outerjoin(
        cases_table,
        cases_table.c.id == lookup.BY_PHONE.with_only_columns(cases_table.c.id).correlate(None).scalar_subquery(),
    )
)


@dataclass(frozen=True, slots=True)
class Caller:
    """The member of staff with a number, the case that a text from it is from, what it said last, and what is open with it."""

    person: Row[Any] | None
    case: Row[Any] | None
    said_last: consent.Kind | None
    conversation: Row[Any] | None


def caller(tx: Transaction, phone: str, *, is_certain: bool = True) -> Caller:
    """Who a text from this number is from, as of now; nobody we know where it is not certain whose number that is.

    Of staff, and of a conversation that is open, there are few: their rows are fetched where there are any.
    """
    if not is_certain:
        return Caller(person=None, case=None, said_last=consent.newest(tx, phone), conversation=None)
    row = tx.execute(_CALLER, {"phone_key": phone_keys.key(phone), "now": tx.now}).one()
    return Caller(
        person=people.by_phone(tx, phone) if row.staff is not None else None,
        case=row if row.id is not None else None,
        said_last=row.said_last,
        conversation=conversations.open_on(tx, phone) if row.asked is not None else None,
    )
