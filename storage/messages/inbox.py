"""Texts that came in: each kept once for ever by the gateway's own id, handled, tried again, set aside."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    Row,
    and_,
    bindparam,
    case,
    func,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from storage.database import Lost, Transaction
from storage.rules import phone_keys
from storage.schema import Moment, messages

RETRY_INBOUND = timedelta(seconds=30)

MAX_TRIES = 3

_RECORD_ON_SQLITE, _RECORD = (
    dialect.insert(messages)
    .on_conflict_do_nothing()
    .returning(*messages.c["id", "phone", "phone_key", "body", "state", "told", "answered", "created_at", "sent_at"])
    for dialect in (sqlite, postgresql)
)


def record_inbound(
    tx: Transaction,
    *,
    gateway: str,
    gateway_id: str,
    sender: str,
    is_certain: bool = True,
    text: str,
    told: str | None = None,
    answered: bool = False,
    sent_at: datetime | None = None,
    own_number: str | None = None,
    set_aside: str | None = None,
) -> Row[Any] | None:
    """Keep a text; returns what its handling needs of its row, None if this gateway message id was seen before.

    `is_certain` is False where the number of its sender may be two people's (`rules/numbers.py`).
    `told` is stop, start or help where the gateway itself says so, and `answered` that it has replied: they are kept for
    the handling that comes later if the first one fails.  `sent_at` is given for a text that comes late: it is handled by
    the moment at which the phone sent it.  `set_aside` is why it is left to a person, unhandled.
    """
    row = {
        "direction": "in",
        "phone": sender,
        "phone_key": phone_keys.key(sender) if is_certain else None,
        "body": text,
        "kind": "text",
        "state": "received" if set_aside is None else "set_aside",
        "reason": set_aside,
        "settled_at": None if set_aside is None else tx.now,
        "gateway": gateway,
        "gateway_id": gateway_id,
        "told": told,
        "answered": answered,
        "sent_at": sent_at,
        "own_number": own_number,
        "due_at": tx.now,
        "created_at": tx.now,
    }
    return tx.execute(_RECORD_ON_SQLITE if tx.is_sqlite else _RECORD, row).first()


_HANDLED = (
    update(messages)
    .where(messages.c.id == bindparam("row"), messages.c.state == "received")
    .values(
        state="handled",
        reason=None,
        handled_as=bindparam("as_"),
        case_id=bindparam("case"),
        person_id=bindparam("person"),
        settled_at=bindparam("now"),
    )
)


def handled(tx: Transaction, message: int, taken_for: str, *, case_id: int | None, person_id: int | None) -> None:
    """Mark an inbound text as done with, and what it was taken for.

    Raises Lost if it is not there: the engine has given the transaction up (a full disk does that), and nothing of it may
    be acknowledged.
    """
    values = {"row": message, "as_": taken_for, "case": case_id, "person": person_id, "now": tx.now}
    if tx.execute(_HANDLED, values).rowcount != 1:
        raise Lost("the inbound text is not in the database")


def postpone(tx: Transaction, message: int, reference: str) -> str:
    """After a failed handling: try again a little later, after three tries set aside.  Returns the new state."""
    tries = messages.c.attempts + 1
    return str(
        tx.execute(
            update(messages)
            .where(messages.c.id == message, messages.c.state == "received")
            .values(
                attempts=tries,
                state=case((tries >= MAX_TRIES, "set_aside"), else_="received"),
                reason=f"fault {reference}",
                due_at=tx.now + RETRY_INBOUND,
                settled_at=tx.now,
            )
            .returning(messages.c.state)
        ).scalar_one()
    )


_UNHANDLED = (
    select(messages)
    .where(
        messages.c.direction == "in",
        messages.c.state == "received",
        messages.c.due_at <= bindparam("now", type_=Moment),
    )
    # In the order of their index: by id SQLite would read every message there ever was to find that none waits.
    .order_by(messages.c.due_at, messages.c.id)
    .limit(20)
)


def unhandled(tx: Transaction) -> list[Row[Any]]:
    """Inbound texts whose handling failed and whose time has come again, oldest first."""
    return list(tx.execute(_UNHANDLED, {"now": tx.now}))


def newest_id(tx: Transaction) -> int:
    """The id of the newest message; 0 if there is none."""
    return int(tx.scalar(select(func.max(messages.c.id))) or 0)


def known_inbound(tx: Transaction, gateway: str, gateway_ids: Iterable[str]) -> set[str]:
    """Those of these gateway ids under which a text has come in already."""
    same = and_(messages.c.direction == "in", messages.c.gateway == gateway)
    return set(
        tx.execute(select(messages.c.gateway_id).where(same, messages.c.gateway_id.in_(list(gateway_ids)))).scalars()
    )


def threads(tx: Transaction, phones: Iterable[str], *, at_most: int = 60) -> dict[str, list[Row[Any]]]:
    """For each of these numbers the last messages with it, both ways, oldest first; in one question."""
    by_key = {phone_keys.key(phone): phone for phone in phones}
    found: dict[str, list[Row[Any]]] = {phone: [] for phone in by_key.values()}
    newest = func.row_number().over(partition_by=messages.c.phone_key, order_by=messages.c.id.desc()).label("place")
    recent = select(messages.c.id, newest).where(messages.c.phone_key.in_(list(by_key))).subquery()
    last = select(messages).join(recent, recent.c.id == messages.c.id).where(recent.c.place <= at_most)
    for row in tx.execute(last.order_by(messages.c.id)):
        found[by_key[row.phone_key]].append(row)
    return found
