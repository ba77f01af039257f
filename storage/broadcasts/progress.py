"""What became of a broadcast: counts, who was reached, who was left out and why, lists of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    Row,
    func,
    select,
)

from storage.broadcasts.content import broadcast, content_of
from storage.broadcasts.recipients import select_recipients
from storage.broadcasts.states import OPEN as NOT_OVER
from storage.broadcasts.states import RUNNING, UNWRITTEN
from storage.database import Transaction
from storage.messages import audience
from storage.messages.states import ARRIVED, OPEN, unclear
from storage.operations import operations
from storage.schema import (
    broadcast_audience,
    broadcasts,
    groups,
    messages,
)
from storage.schema import operations as operations_table


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a broadcast is, by message state and by the reason for what was skipped."""

    row: Row[Any]
    states: Mapping[str, int]
    skipped: Mapping[str, int]

    @property
    def arrived(self) -> int:
        """Those who have it, as far as the gateway knows."""
        return sum(self.states.get(state, 0) for state in ARRIVED)

    @property
    def waiting(self) -> int:
        """Those whose message has not left yet; before the rows are written, everybody."""
        if self.row.state in ("previewed", *UNWRITTEN) and not self.states:
            return int(self.row.sendable)
        return sum(self.states.get(state, 0) for state in OPEN)


def progress(tx: Transaction, number: int) -> Progress:
    """How far a broadcast is."""
    rows = tx.execute(
        select(messages.c.state, messages.c.reason, func.count().label("n"))
        .where(messages.c.broadcast_id == number)
        .group_by(messages.c.state, messages.c.reason)
    ).all()
    states: dict[str, int] = {}
    skipped: dict[str, int] = {}
    for row in rows:
        states[row.state] = states.get(row.state, 0) + row.n
        if row.state == "withheld":
            skipped[row.reason] = skipped.get(row.reason, 0) + row.n
    return Progress(broadcast(tx, number), states, skipped)


def running(tx: Transaction, *, of: int | None = None) -> list[Row[Any]]:
    """Broadcasts that were let go and are not over, newest first; `of` takes those that one person asked for."""
    query = select(broadcasts).where(broadcasts.c.state.in_(RUNNING))
    if of is not None:
        asked = operations_table.c.id == broadcasts.c.id
        query = query.join(operations_table, asked).where(operations_table.c.person_id == of)
    return list(tx.execute(query.order_by(broadcasts.c.id.desc())))


def pending_for(tx: Transaction, group_id: int) -> list[int]:
    """Numbers of the broadcasts to a group that wait or run: what goes with it when it is deleted."""
    query = (
        select(broadcasts.c.id)
        .join(broadcast_audience, broadcast_audience.c.broadcast_id == broadcasts.c.id)
        .where(
            broadcast_audience.c.group_id == group_id,
            broadcasts.c.state.in_(NOT_OVER),
        )
    )
    return list(tx.execute(query.order_by(broadcasts.c.id)).scalars())


def groups_of(tx: Transaction, number: int) -> list[Row[Any]]:
    """The groups a broadcast was previewed for, also those deleted since."""
    query = select(groups).join(broadcast_audience, broadcast_audience.c.group_id == groups.c.id)
    return list(tx.execute(query.where(broadcast_audience.c.broadcast_id == number).order_by(groups.c.short)))


def message_to(tx: Transaction, number: int, case_id: int) -> Row[Any] | None:
    """The message of a broadcast to one case: the answer to "why did she not get it?" starts here."""
    query = select(messages).where(messages.c.broadcast_id == number, messages.c.case_id == case_id)
    return tx.execute(query).first()


def is_for(tx: Transaction, number: int, case_id: int) -> bool:
    """Whether a broadcast was frozen for this case."""
    whom = audience.of(number)
    return tx.scalar(select(whom.c.case_id).where(whom.c.case_id == case_id)) is not None


def reached(tx: Transaction, number: int) -> list[int]:
    """The cases that a broadcast reached, as far as the gateway knows: whom a correction is for."""
    query = select(messages.c.case_id).where(messages.c.broadcast_id == number, messages.c.state.in_(ARRIVED))
    return list(tx.execute(query.order_by(messages.c.case_id)).scalars())


def doubtful(tx: Transaction, since: datetime) -> list[int]:
    """The broadcasts since then of which some messages may or may not have been sent, newest first."""
    query = select(messages.c.broadcast_id).where(
        unclear("unknown", "unresolved"),
        messages.c.created_at > since,
        messages.c.broadcast_id.is_not(None),
    )
    return list(tx.execute(query.distinct().order_by(messages.c.broadcast_id.desc())).scalars())


def last_arrived(tx: Transaction, case_id: int) -> Row[Any] | None:
    """The newest message that reached a case, as far as the gateway knows."""
    query = select(messages).where(messages.c.case_id == case_id, messages.c.state.in_(ARRIVED))
    return tx.execute(query.order_by(messages.c.id.desc()).limit(1)).first()


def list_all(tx: Transaction) -> list[Row[Any]]:
    """Every broadcast, newest first."""
    return list(tx.execute(select(broadcasts).order_by(broadcasts.c.id.desc())))


def count_texts(tx: Transaction, person_id: int, since: datetime) -> int:
    """How many texts to single cases a person has asked for since then."""
    query = (
        select(func.count())
        .select_from(broadcasts)
        .join(operations_table, operations_table.c.id == broadcasts.c.id)
        .where(
            broadcasts.c.kind == "text",
            broadcasts.c.launched_at >= since,
            operations.is_of(person_id, since - operations.UNDO),
        )
    )
    return int(tx.scalar(query))


def takes_s(tx: Transaction, number: int) -> float:
    """How many seconds its texts take at the rates of their gateways, which send side by side."""
    rules = tx.rules
    if len(rules.gateways) < 2:
        return float(broadcast(tx, number).sendable / rules.rate_per_s)
    each = select_recipients(tx.rules, content_of(tx, number)).order_by(None).subquery()
    counted = select(each.c.gateway, func.count().label("n")).where(each.c.reason.is_(None)).group_by(each.c.gateway)
    return max((row.n / rules.rates.get(row.gateway, rules.rate_per_s) for row in tx.execute(counted)), default=0.0)


def list_skipped(tx: Transaction, number: int, at_most: int) -> list[Row[Any]]:
    """The first recipients of a preview who would not get it: `case_id` (a row id) and `reason`, a key."""
    query = select_recipients(tx.rules, content_of(tx, number))
    reason = query.selected_columns.reason
    return list(tx.execute(query.where(reason.is_not(None)).limit(at_most)))
