"""Numbered things a person asked for: what waits for a code, what was done, and what can be taken back.

The number is what a person texts: `halt 42`, `no 42`, `undo 58`.  A broadcast's number is its operation's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import Row, and_, func, insert, select, update

from storage import audit, codes, tries
from storage.audit import Actor, Change
from storage.database import Transaction
from storage.errors import Problem
from storage.schema import codes as codes_table
from storage.schema import operations, programme

WRONG_TRIES = 3
WRONG_A_DAY = 5
"""Wrong codes from one number in a day, after which its codes have ten digits until tomorrow."""

SAME_WORDS = timedelta(minutes=10)
UNDO = timedelta(hours=24)


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
    """Open an operation that waits to be confirmed, with its audit line; returns its number."""
    number = _insert(tx, kind, "waiting", words, request, group_id, message_id, by=by, expires_at=tx.now + codes.LIFE)
    audit.record(tx, "operations.ask", "operation", number, facts={"kind": kind}, by=by)
    return number


def note(
    tx: Transaction,
    kind: str,
    *,
    words: str,
    undoes: Mapping[str, Any] | None,
    request: Mapping[str, Any] | None = None,
    group_id: int | None = None,
    message_id: int | None = None,
    by: Actor,
) -> int:
    """Write down a small operation that was done at once, with what takes it back; returns its number."""
    return _insert(
        tx, kind, "done", words, request or {}, group_id, message_id, by=by, undoes=undoes, decided_at=tx.now
    )


def operation(tx: Transaction, number: int) -> Row[Any] | None:
    """One operation, or None."""
    return tx.execute(select(operations).where(operations.c.id == number)).first()


def issue_code(tx: Transaction, number: int, person: int) -> int:
    """Send this person a code for the operation; returns the code's row id for the message that will carry it."""
    row = operation(tx, number)
    if row is None:
        raise LookupError(f"no operation {number}")
    return codes.issue(tx, number, person, digest_of(row), length=code_length(tx, person))


def code_length(tx: Transaction, person: int) -> int:
    """How many digits this person's next codes have: guessing gets hopeless, and nobody is locked out by a forger."""
    return codes.LONG if wrong_today(tx, person) >= WRONG_A_DAY else codes.SHORT


def wrong_today(tx: Transaction, person: int) -> int:
    """How many wrong codes came from this person's number today, by the programme's clock."""
    midnight = tx.now.astimezone(ZoneInfo(tx.rules.time_zone)).replace(hour=0, minute=0, second=0, microsecond=0)
    return tries.count(tx, person, "code", midnight)


def digest_of(row: Row[Any]) -> str:
    """What a code for this operation confirms: its words and its request, and nothing that can change later."""
    return hashlib.sha256(f"{row.id}|{row.kind}|{row.words}|{row.request}".encode()).hexdigest()


def waiting_of(tx: Transaction, person: int) -> list[Row[Any]]:
    """What waits for this person's confirmation and has not run out, newest first."""
    query = select(operations).where(
        operations.c.person_id == person, operations.c.state == "waiting", operations.c.expires_at > tx.now
    )
    return list(tx.execute(query.order_by(operations.c.id.desc())))


def seconding(tx: Transaction, person: int | None) -> list[Row[Any]]:
    """What waits for a second person's code: this person's, or everybody's, newest first."""
    query = select(operations).where(operations.c.state == "seconding").order_by(operations.c.id.desc())
    return list(tx.execute(query if person is None else query.where(operations.c.person_id == person)))


def with_same_words(tx: Transaction, person: int, words: str, *, kind: str | None = None) -> Row[Any] | None:
    """The newest operation, of one kind if given, that this person asked for in these very words within ten minutes."""
    query = select(operations).where(
        operations.c.person_id == person, operations.c.words == words, operations.c.asked_at > tx.now - SAME_WORDS
    )
    if kind is not None:
        query = query.where(operations.c.kind == kind)
    return tx.execute(query.order_by(operations.c.id.desc()).limit(1)).first()


def count(tx: Transaction, person: int, kind: str, since: datetime) -> int:
    """How many operations of a kind a person had done since then."""
    done = (operations.c.person_id == person, operations.c.kind == kind, operations.c.state == "done")
    return int(tx.scalar(select(func.count()).select_from(operations).where(*done, operations.c.decided_at >= since)))


def decided_since(tx: Transaction, kinds: Sequence[str], since: datetime) -> list[Row[Any]]:
    """The operations of these kinds that were confirmed or done since then, oldest first."""
    done = (
        operations.c.kind.in_(kinds),
        operations.c.state.in_(("done", "seconding")),
        operations.c.decided_at > since,
    )
    return list(tx.execute(select(operations).where(*done).order_by(operations.c.decided_at, operations.c.id)))


def digested_at(tx: Transaction) -> datetime | None:
    """Up to when the leads were told what others did; None if they never were."""
    at: datetime | None = tx.scalar(select(programme.c.digested_at))
    return at


def mark_digested(tx: Transaction, since: datetime | None) -> bool:
    """Note that they were told up to now; False if somebody else told them meanwhile."""
    same = programme.c.digested_at.is_not_distinct_from(since)
    return tx.execute(update(programme).where(same).values(digested_at=tx.now)).rowcount > 0


def keep_undo(tx: Transaction, number: int, undoes: Mapping[str, Any]) -> None:
    """Keep what takes back an operation that was confirmed."""
    tx.execute(update(operations).where(operations.c.id == number).values(undoes=dict(undoes)))


def change_request(tx: Transaction, number: int, request: Mapping[str, Any]) -> None:
    """Give an operation that waits another request: a code that was sent for the old one confirms nothing any more."""
    tx.execute(update(operations).where(operations.c.id == number).values(request=dict(request)))


def answered(tx: Transaction, number: int, answer: str) -> None:
    """Keep what was answered, so that the same words can be answered the same."""
    tx.execute(update(operations).where(operations.c.id == number).values(answer=answer))


def decide(tx: Transaction, number: int, state: str, *, by: Actor) -> None:
    """Confirm, drop, refuse or undo an operation, with its audit line."""
    row = operation(tx, number)
    if row is None:
        raise LookupError(f"no operation {number}")
    # A second person has fifteen minutes of their own.
    until = tx.now + codes.LIFE if state == "seconding" else row.expires_at
    decided = (
        update(operations).where(operations.c.id == number).values(state=state, decided_at=tx.now, expires_at=until)
    )
    tx.execute(decided)
    change = Change("operation", number, {"state": row.state}, {"state": state})
    audit.record(tx, f"operations.{state}", "operation", number, facts={"kind": row.kind}, changes=[change], by=by)


def expire(tx: Transaction) -> int:
    """End what waited longer than its codes live; returns how many."""
    late = and_(operations.c.state.in_(("waiting", "seconding")), operations.c.expires_at <= tx.now)
    return tx.execute(update(operations).where(late).values(state="expired", decided_at=tx.now)).rowcount


def wrong_try(tx: Transaction, person: int, *, by: Actor) -> Row[Any]:
    """Count a wrong code against the newest operation that this person holds a code for, somebody else's as well.

    After three the operation ends.  Returns it as it now is; raises Problem `code-none-waiting` if nothing waits, and
    then the try is counted all the same.
    """
    tries.note(tx, person, "code")
    held = (
        select(operations)
        .join(codes_table, codes_table.c.operation_id == operations.c.id)
        .where(
            codes_table.c.person_id == person,
            codes_table.c.used_at.is_(None),
            codes_table.c.expires_at > tx.now,
            operations.c.state.in_(("waiting", "seconding")),
        )
    )
    row = tx.execute(held.order_by(codes_table.c.id.desc()).limit(1)).first()
    if row is None:
        raise Problem("code-none-waiting")
    tx.execute(update(operations).where(operations.c.id == row.id).values(wrong_tries=row.wrong_tries + 1))
    if row.wrong_tries + 1 >= WRONG_TRIES:
        decide(tx, row.id, "refused", by=by)
    return tx.execute(select(operations).where(operations.c.id == row.id)).one()


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
    return int(tx.execute(insert(operations).returning(operations.c.id), row).scalar_one())
