"""Numbered things a person asked for: what waits for a code, what was done, and what can be taken back.

The number is what a person texts: `halt 42`, `no 42`, `undo 58`.  A broadcast's number is its operation's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Row, and_, bindparam, func, insert, select, text, update

from storage import audit
from storage.audit import Actor, Change
from storage.database import Transaction
from storage.operations import codes
from storage.operations.states import moving
from storage.schema import Moment, operations, programme

WRONG_TRIES = 3

WAITING = 10
"""What may wait for a code of one person."""


SAME_WORDS = timedelta(minutes=10)

UNDO = timedelta(hours=24)


def is_waiting(*states: str) -> ColumnElement[bool]:
    """Operations in some of the states `waiting` and `seconding`, found by their index."""
    return and_(operations.c.state.in_(("waiting", "seconding")), operations.c.state.in_(states))


def is_of(person: int | None, since: datetime) -> ColumnElement[bool]:
    """What a person asked for since then, found from the newest back: a person may have years behind them."""
    past = operations.alias("past")
    # Between and by person, as `lookups.sent_since`.
    theirs = past.c.person_id.is_(None) if person is None else past.c.person_id.between(person, person)
    older = select(past.c.id).where(theirs, past.c.asked_at < since)
    newest = older.order_by(past.c.person_id.desc(), past.c.id.desc()).limit(1).scalar_subquery()
    return and_(
        operations.c.person_id == person,
        operations.c.id > func.coalesce(newest, 0),
        operations.c.asked_at >= since,
    )


def ask(
    tx: Transaction,
    kind: str,
    *,
    words: str,
    request: Mapping[str, Any],
    group_id: int | None = None,
    message_id: int | None = None,
    by: Actor,
) -> int:
    """Open an operation that waits to be confirmed, with its audit line; returns its number.

    Of one person at most ten wait for a code; then the oldest lapses, so that a guess has few to hit.
    """
    number = _insert(tx, kind, "waiting", words, request, group_id, message_id, by=by, expires_at=tx.now + codes.LIFE)
    audit.record(tx, "operations.ask", "operation", number, facts={"kind": kind}, by=by)
    if by.door == "sms" and by.person_id is not None and kind != codes.PROVE:
        _lapse(tx, by.person_id)
    return number


def _lapse(tx: Transaction, person: int) -> None:
    """End what has waited longest for a code of this person, where more than ten do."""
    waits = (is_waiting("waiting"), operations.c.person_id == person, operations.c.door == "sms")
    query = select(operations.c.id).where(*waits, operations.c.kind != codes.PROVE).order_by(operations.c.id.desc())
    if over := tx.execute(query.offset(WAITING)).scalars().all():
        tx.execute(moving("expired").where(operations.c.id.in_(over)).values(decided_at=tx.now))


def proving(tx: Transaction, person: int) -> Row[Any] | None:
    """The newest question to this person whether the phone is in their hand, if it waits."""
    waits = (is_waiting("waiting"), operations.c.person_id == person, operations.c.kind == codes.PROVE)
    return tx.execute(select(operations).where(*waits).order_by(operations.c.id.desc()).limit(1)).first()


def note(
    tx: Transaction,
    kind: str,
    *,
    words: str,
    undoes: Mapping[str, Any] | None,
    request: Mapping[str, Any] | None = None,
    group_id: int | None = None,
    message_id: int | None = None,
    at_once: int | None = None,
    by: Actor,
) -> int:
    """Write down a small operation that was done, with what takes it back; returns its number.

    `at_once` says how many it changed without a code (`operations/caps.py`).
    """
    done = {"undoes": undoes, "decided_at": tx.now, "at_once": at_once}
    return _insert(tx, kind, "done", words, request or {}, group_id, message_id, by=by, **done)


def operation(tx: Transaction, number: int) -> Row[Any] | None:
    """One operation, or None."""
    return tx.execute(select(operations).where(operations.c.id == number)).first()


def issue_code(tx: Transaction, number: int, person: int) -> int:
    """Send this person a code for the operation; returns the code's row id for the message that will carry it.

    One that only proves a phone has ten digits always: wrong codes that somebody forged must not end it.
    """
    row = operation(tx, number)
    if row is None:
        raise LookupError(f"no operation {number}")
    length = codes.LONG if row.kind == codes.PROVE else codes.next_length(tx, person)
    return codes.issue(tx, number, person, digest_of(row), length=length)


def digest_of(row: Row[Any]) -> str:
    """What a code for this operation confirms: its words and its request, and nothing that can change later."""
    return hashlib.sha256(f"{row.id}|{row.kind}|{row.words}|{row.request}".encode()).hexdigest()


def waiting_of(tx: Transaction, person: int) -> list[Row[Any]]:
    """What waits for this person's confirmation and has not run out, newest first."""
    waits = (is_waiting("waiting"), operations.c.expires_at > tx.now, operations.c.kind != codes.PROVE)
    query = select(operations).where(operations.c.person_id == person, *waits)
    return list(tx.execute(query.order_by(operations.c.id.desc())))


def seconding(tx: Transaction, person: int | None) -> list[Row[Any]]:
    """What waits for a second person's code: this person's, or everybody's, newest first."""
    query = select(operations).where(is_waiting("seconding")).order_by(operations.c.id.desc())
    return list(tx.execute(query if person is None else query.where(operations.c.person_id == person)))


def with_same_words(tx: Transaction, person: int | None, words: str, *, kind: str | None = None) -> Row[Any] | None:
    """The newest operation, of one kind if given, that this person asked for in these very words within ten minutes."""
    since = tx.now - SAME_WORDS
    query = select(operations).where(is_of(person, since), operations.c.words == words, operations.c.asked_at > since)
    if kind is not None:
        query = query.where(operations.c.kind == kind)
    return tx.execute(query.order_by(operations.c.id.desc()).limit(1)).first()


def done_as(tx: Transaction, mark: str, *, by: Actor) -> Row[Any] | None:
    """What this actor has done under this mark, however long ago; None if nothing.

    A click carries a mark of its own, kept in `words`: it counts once however often it comes.
    """
    same = (operations.c.person_id == by.person_id, operations.c.words == mark, operations.c.door == by.door)
    return tx.execute(select(operations).where(*same).order_by(operations.c.id.desc()).limit(1)).first()


def of_group(tx: Transaction, kind: str, group_id: int) -> int | None:
    """The number of the newest operation of a kind on a group that was done; None if there is none."""
    done = (operations.c.kind == kind, operations.c.group_id == group_id, operations.c.state.in_(("done", "undone")))
    number: int | None = tx.scalar(select(func.max(operations.c.id)).where(*done))
    return number


def count(tx: Transaction, person: int, kind: str, since: datetime) -> int:
    """How many operations of a kind a person had done since then."""
    done = (is_of(person, since - UNDO), operations.c.kind == kind, operations.c.state == "done")
    return int(tx.scalar(select(func.count()).select_from(operations).where(*done, operations.c.decided_at >= since)))


def digested(tx: Transaction) -> Row[Any]:
    """When the leads were last told what others did (`digested_at`), and through which line (`digested_through`)."""
    return tx.execute(select(programme.c.digested_at, programme.c.digested_through)).one()


def mark_digested(tx: Transaction, before: Row[Any], through: int) -> bool:
    """Note that they were told up to this line of the log; False if somebody else told them meanwhile."""
    same = programme.c.digested_at.is_not_distinct_from(before.digested_at)
    told = update(programme).where(same).values(digested_at=tx.now, digested_through=through)
    return tx.execute(told).rowcount > 0


def keep_undo(tx: Transaction, number: int, undoes: Mapping[str, Any]) -> None:
    """Keep what takes back an operation that was confirmed."""
    tx.execute(update(operations).where(operations.c.id == number).values(undoes=dict(undoes)))


def change_request(tx: Transaction, number: int, request: Mapping[str, Any]) -> None:
    """Give an operation that waits another request, and fifteen minutes more: a code for the old one confirms nothing."""
    changed = {"request": dict(request), "expires_at": tx.now + codes.LIFE}
    tx.execute(update(operations).where(operations.c.id == number).values(changed))


def answered(tx: Transaction, number: int, answer: str) -> None:
    """Keep what was answered, so that the same words can be answered the same."""
    tx.execute(update(operations).where(operations.c.id == number).values(answer=answer))


def decide(tx: Transaction, number: int, state: str, *, by: Actor) -> bool:
    """Confirm, drop, refuse or undo an operation, with its audit line; False, and no change, where it may not become that."""
    row = operation(tx, number)
    if row is None:
        raise LookupError(f"no operation {number}")
    # A second person has fifteen minutes of their own.
    until = tx.now + codes.LIFE if state == "seconding" else row.expires_at
    decided = moving(state).where(operations.c.id == number).values(decided_at=tx.now, expires_at=until)
    if not tx.execute(decided).rowcount:
        return False
    change = Change("operation", number, {"state": row.state}, {"state": state})
    audit.record(tx, f"operations.{state}", "operation", number, facts={"kind": row.kind}, changes=[change], by=by)
    return True


_EXPIRE = (
    moving("expired")
    .where(operations.c.expires_at <= bindparam("late", type_=Moment))
    .values(decided_at=bindparam("now", type_=Moment))
)


def expire(tx: Transaction) -> int:
    """End what waited longer than its codes live; returns how many.

    Somewhat later than that: a code that was sent in time may have lost its way (`codes.LATE`).
    """
    return tx.execute(_EXPIRE, {"now": tx.now, "late": tx.now - codes.LATE}).rowcount


def wrong_try(tx: Transaction, person: int, *, by: Actor) -> Row[Any]:
    """Count a wrong code (`codes.count_wrong`), and end each operation that it was the third for.

    Returns the newest operation that it counts against as it now is; raises the Problems of the count.
    """
    charged = codes.count_wrong(tx, person)
    for row in charged:
        if row.wrong_tries >= WRONG_TRIES:
            decide(tx, row.id, "refused", by=by)
    return tx.execute(select(operations).where(operations.c.id == charged[-1].id)).one()


_INSERT = insert(operations).returning(operations.c.id)


def _insert(
    tx: Transaction,
    kind: str,
    state: str,
    words: str,
    request: Mapping[str, Any],
    group_id: int | None,
    message_id: int | None,
    *,
    by: Actor,
    **more: Any,
) -> int:
    row = {
        "kind": kind,
        "person_id": by.person_id,
        "door": by.door,
        "state": state,
        "group_id": group_id,
        "words": words,
        "request": dict(request),
        "message_id": message_id,
        "asked_at": tx.now,
        **more,
    }
    number = int(tx.execute(_INSERT, row).scalar_one())
    return _beyond_codes(tx, number) if len(str(number)) in (codes.SHORT, codes.LONG) else number


def _beyond_codes(tx: Transaction, number: int) -> int:
    """Give an operation that was made just now the next number that is as long as no code, and return it.

    So that six or ten digits are always a code.  Whatever comes after counts on from there.
    """
    beyond = int(10 ** len(str(number)))
    if not tx.is_sqlite:  # SQLite counts on from the greatest number there is
        tx.execute(_COUNT_ON, {"beyond": beyond})
    tx.execute(update(operations).where(operations.c.id == number).values(id=beyond))
    return beyond


_COUNT_ON = text("SELECT setval(pg_get_serial_sequence('operations', 'id'), :beyond)")
