"""Messages as people and monitors look at them: lists, counts, what does not leave, what is in doubt."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import (
    CompoundSelect,
    Integer,
    Row,
    Select,
    Table,
    Text,
    and_,
    bindparam,
    exists,
    func,
    literal,
    null,
    select,
    union_all,
)

from storage.database import Transaction
from storage.lately import is_since
from storage.messages.states import ARRIVED, LEASED, NOT_OVER, OPEN, unclear
from storage.rules import phone_keys
from storage.schema import Moment, attempts, gateways, messages

_NEWEST_TO = (
    select(messages)
    .where(
        messages.c.phone_key == bindparam("phone_key"),
        messages.c.direction == "out",
        messages.c.kind != "consent",
        messages.c.state.in_((*ARRIVED, "unknown", "sending")),
        messages.c.handed_over_at <= bindparam("before", type_=Moment),
    )
    .order_by(messages.c.handed_over_at.desc(), messages.c.id.desc())
    .limit(1)
)


def newest_to(tx: Transaction, phone: str, before: datetime) -> Row[Any] | None:
    """The message that a number got last before a moment, or may have got; None if none.

    Answers to STOP, START and HELP do not count: they end no conversation.
    """
    return tx.execute(_NEWEST_TO, {"phone_key": phone_keys.key(phone), "before": before}).first()


_recent = (
    select(*messages.c["id", "direction", "body", "handed_over_at"])
    .where(messages.c.phone_key == bindparam("phone_key"))
    .order_by(messages.c.id.desc())
    .limit(bindparam("rows", type_=Integer))
    .subquery("recent")
)

_BODIES_TO = (
    select(_recent.c.body)
    .where(
        _recent.c.direction == "out",
        _recent.c.handed_over_at > bindparam("since", type_=Moment),
        _recent.c.handed_over_at <= bindparam("before", type_=Moment),
    )
    .order_by(_recent.c.id.desc())
    .limit(bindparam("many", type_=Integer))
)


def bodies_to(tx: Transaction, phone: str, since: datetime, before: datetime, *, at_most: int) -> list[str]:
    """The last texts that were handed over for a number between two moments, newest first, with codes masked.

    Of all that the number got and wrote only the newest few times `at_most` are looked through.
    """
    window = {"since": since, "before": before, "rows": 3 * at_most, "many": at_most}
    return list(tx.execute(_BODIES_TO, {"phone_key": phone_keys.key(phone), **window}).scalars())


def message(tx: Transaction, message_id: int) -> Row[Any] | None:
    """One message, in or out."""
    return tx.execute(select(messages).where(messages.c.id == message_id)).first()


def list_all(
    tx: Transaction,
    *,
    state: str | None = None,
    phone: str | None = None,
    direction: str | None = None,
    at_most: int | None = None,
) -> list[Row[Any]]:
    """Messages, newest first."""
    query = select(messages).order_by(messages.c.id.desc()).limit(at_most)
    phone_key = None if phone is None else phone_keys.key(phone)
    asked = ((messages.c.state, state), (messages.c.phone_key, phone_key), (messages.c.direction, direction))
    for column, value in asked:
        if value is not None:
            query = query.where(column == value)
    return list(tx.execute(query))


def is_held(row: Row[Any]) -> bool:
    """Whether a message waits for its broadcast to be resumed; not what was halted or ran out of time meanwhile."""
    return bool(row.state == "queued" and (row.paused or row.reason == "paused"))


def list_queued_since(tx: Transaction, message_id: int) -> list[Row[Any]]:
    """The messages out with a greater id, oldest first."""
    since = select(messages).where(messages.c.id > message_id, messages.c.direction == "out")
    return list(tx.execute(since.order_by(messages.c.id)))


def attempts_of(tx: Transaction, message_id: int) -> list[Row[Any]]:
    """The calls for a message that were not simply accepted, in order, with what each came to."""
    return list(tx.execute(select(attempts).where(attempts.c.message_id == message_id).order_by(attempts.c.id)))


STANDSTILL = timedelta(minutes=2)


def not_leaving(tx: Transaction) -> list[Row[Any]]:
    """What is queued and does not leave: `gateway`, `reason`, how many (`many`), the oldest (`since`).

    The reason is the gateway's last refusal (`unreachable`, `throttled`); None where nothing at all was handed to that
    gateway for two minutes though it was due: no worker serves it, or it is paused.
    """
    counted = (messages.c.gateway, func.count().label("many"), func.min(messages.c.created_at).label("since"))
    waiting = and_(messages.c.direction == "out", messages.c.state == "queued", ~messages.c.paused)
    tried = and_(waiting, messages.c.attempts > 0, messages.c.reason.in_(("unreachable", "throttled")))
    refused = select(messages.c.reason, *counted).where(tried).group_by(messages.c.reason, messages.c.gateway)
    moving = exists().where(gateways.c.name == messages.c.gateway, gateways.c.handed_over_at > tx.now - STANDSTILL)
    due = and_(waiting, messages.c.due_at <= tx.now - STANDSTILL)
    still = select(null().label("reason"), *counted).where(due).group_by(messages.c.gateway).having(~moving)
    return [*tx.execute(refused.order_by(messages.c.gateway)), *tx.execute(still.order_by(messages.c.gateway))]


def in_doubt(tx: Transaction) -> Row[Any]:
    """What may or may not have been sent: how many (`many`) and the oldest (`since`, None where there is none)."""
    query = select(func.count().label("many"), func.min(messages.c.settled_at).label("since"))
    return tx.execute(query.where(unclear("unknown", "unresolved"))).one()


def count_states(tx: Transaction) -> dict[str, int]:
    """How many messages are in each state; it reads all there ever were."""
    return {row.state: row.n for row in tx.execute(select(messages.c.state, func.count().label("n")).group_by("state"))}


def _count_open() -> CompoundSelect[Any]:
    """Each state counted by the index that holds its rows and no others, which SQLite takes for a range of it."""
    ever = literal(datetime.min.replace(tzinfo=UTC), Moment)
    queued, expires = messages.c.state == "queued", messages.c.expires_at
    rows = [
        ("received", and_(messages.c.state == "received", messages.c.due_at >= ever)),
        ("queued", and_(queued, expires >= ever)),
        ("queued", and_(queued, expires.is_(None))),
        *((state, and_(LEASED, messages.c.lease_until >= ever, messages.c.state == state)) for state in OPEN[1:]),
        *((state, unclear(state)) for state in ("unknown", "unresolved", "set_aside")),
    ]
    return union_all(
        *(select(literal(state, Text).label("state"), func.count().label("n")).select_from(messages).where(where)
          for state, where in rows)
    )  # fmt: skip


_COUNT_OPEN = _count_open()


def count_open(tx: Transaction) -> dict[str, int]:
    """How many messages are in each state of `NOT_OVER`, also those in which there is none; what is over is not looked at."""
    counted = dict.fromkeys(NOT_OVER, 0)
    for row in tx.execute(_COUNT_OPEN):
        counted[row.state] += row.n
    return counted


def count_failed_calls(tx: Transaction, since: datetime) -> dict[str, int]:
    """How many calls to gateways were not simply accepted since then, by what their messages became."""
    return count_since(tx, attempts, since)


def _sent_since() -> Select[Any]:
    """Counted from the newest back to the first that is older, and no further: a phone may have years behind it."""
    phone, since = bindparam("phone_key", type_=Text), bindparam("since", type_=Moment)
    # Between and by phone, not equal: else PostgreSQL walks back through everybody's messages for one of a busy phone.
    past = select(messages.c.id).where(messages.c.phone_key.between(phone, phone), messages.c.created_at < since)
    older = past.order_by(messages.c.phone_key.desc(), messages.c.id.desc()).limit(1)
    return (
        select(func.count())
        .select_from(messages)
        .where(
            messages.c.phone_key == phone,
            messages.c.id > func.coalesce(older.correlate(None).scalar_subquery(), 0),
            messages.c.direction == "out",
            messages.c.kind == bindparam("kind", type_=Text),
            messages.c.created_at >= since,
        )
    )


_SENT_SINCE = _sent_since()

_SAID_SINCE = _SENT_SINCE.where(messages.c.body == bindparam("words", type_=Text))


def sent_since(tx: Transaction, phone: str, kind: str, since: datetime, *, body: str | None = None) -> int:
    """How many messages of a kind, with these very words if given, were queued to a number since then."""
    values = {"phone_key": phone_keys.key(phone), "kind": kind, "since": since}
    if body is None:
        return int(tx.scalar(_SENT_SINCE, values))
    return int(tx.scalar(_SAID_SINCE, {**values, "words": body}))


def count_since(tx: Transaction, table: Table, since: datetime) -> dict[str, int]:
    """Rows of a table with `at` and `state` since then, by state."""
    lately = is_since(tx, table.c.at, since)
    counted = select(table.c.state, func.count().label("n")).where(*lately).group_by(table.c.state)
    return {row.state: row.n for row in tx.execute(counted)}
