"""The outbox: queue, claim, settle, pass on.  The row is the queue.

`settle` is one guarded UPDATE over the table of moves: a late, repeated or out-of-order result changes nothing.
A message is *handed over* when `claimed -> sending` commits (`gate.py`), with a fresh attempt id, before the gateway is called;
whatever dies after that leaves a message that is `unknown`, never one that is sent again.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    Integer,
    Select,
    Text,
    and_,
    bindparam,
    case,
    exists,
    insert,
    or_,
    select,
    tuple_,
    type_coerce,
    update,
)
from sqlalchemy.types import NullType

from storage.bulk import execute_many
from storage.database import Transaction
from storage.messages import leases
from storage.messages.gate import STAYS
from storage.messages.receipts import apply_parked
from storage.messages.states import KINDS, SETTLE
from storage.programme import routing
from storage.rules.channels import CHANNELS, SMS, Channel
from storage.schema import Moment, attempts, cases, gateways, messages

log = logging.getLogger(__name__)

EXPIRE_AT_ONCE = 1000

PASSED_ON_AFTER = timedelta(seconds=60)
"""So long a gateway may be mended before another takes its messages over, where the programme asked for that."""

PASSED_ON_AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class Settled:
    """What one attempt came to: the state, and when to try again if it is `queued`."""

    id: int
    attempt_id: str
    state: str
    reason: str | None = None
    code: str | None = None
    gateway_id: str | None = None
    segments: int | None = None
    due_at: datetime | None = None
    gateway: str | None = None
    """Another gateway that takes it over; only of what was certainly not sent."""


def _next_in_turn() -> Select[tuple[int]]:
    """The messages of the gateway `by` whose turn it is `now`.

    At most one message is in flight to a phone, and none overtakes another to the same phone: the guard asks both that
    no row of the phone is in flight and that none comes before it, for with the first alone one claim took three rows of
    one phone.  A message that stayed unknown holds back bulk to its phone, never a reply.
    """
    now, by = bindparam("now", type_=Moment), bindparam("by", type_=Text)
    ahead, flying, doubtful = messages.alias("ahead"), messages.alias("flying"), messages.alias("doubtful")
    due = and_(
        messages.c.direction == "out", messages.c.state == "queued", ~messages.c.paused, messages.c.due_at <= now
    )
    in_flight = exists().where(flying.c.phone_key == messages.c.phone_key, flying.c.state.in_(("claimed", "sending")))
    overtaken = exists().where(
        ahead.c.phone_key == messages.c.phone_key,
        ahead.c.state == "queued",
        ~ahead.c.paused,
        ahead.c.due_at <= now,
        tuple_(ahead.c.priority, ahead.c.due_at, ahead.c.id)
        < tuple_(messages.c.priority, messages.c.due_at, messages.c.id),
    )
    in_doubt = exists().where(doubtful.c.phone_key == messages.c.phone_key, doubtful.c.state == "unknown")
    paused = exists().where(gateways.c.name == messages.c.gateway, gateways.c.paused_until > now)
    return (
        select(messages.c.id)
        .where(due, messages.c.gateway == by, ~paused, ~in_flight, ~overtaken)
        .where(or_(messages.c.priority < KINDS["broadcast"].priority, ~in_doubt))
        .order_by(messages.c.priority, messages.c.due_at, messages.c.id)
    )


_QUEUE = insert(messages).returning(messages.c.id)


def queue(
    tx: Transaction,
    address: str,
    body: str,
    kind: str,
    *,
    channel: Channel = SMS,
    gateway: str | None = None,
    case_id: int | None = None,
    person_id: int | None = None,
    reply_to: int | None = None,
    code_id: int | None = None,
    expires_at: datetime | None = None,
) -> int:
    """Put one message into the outbox, to a number or another address of its channel; returns its id.

    Without `gateway` it goes the way its text came in where it answers one, else by its number (`programme/routing.py`), and without
    `expires_at` it lives as long as its kind.
    """
    life = KINDS[kind].life
    row = {
        "direction": "out",
        **channel.columns(address),
        "body": body,
        "kind": kind,
        "state": "queued",
        "gateway": gateway or _way_to(tx, address, case_id, reply_to, channel),
        "own_number": _number_of(tx, address, reply_to),
        "case_id": case_id,
        "person_id": person_id,
        "reply_to": reply_to,
        "code_id": code_id,
        "priority": KINDS[kind].priority,
        "due_at": tx.now,
        "expires_at": expires_at or (tx.now + life if life else None),
        "created_at": tx.now,
        "segments": channel.count(body).parts,
    }
    tx.wake()
    return int(tx.execute(_QUEUE, row).scalar_one())


# The statements of every message are built once: building one takes longer than running it.
_IN_TURN = _next_in_turn()

_IS_DUE = _IN_TURN.limit(1)


def is_due(tx: Transaction, gateway: str) -> bool:
    """Whether a gateway has anything to claim: a look that costs nobody the writer's turn."""
    return tx.scalar(_IS_DUE, {"by": gateway, "now": tx.now}) is not None


_CLAIM = (
    update(messages)
    .where(
        messages.c.id.in_(
            _IN_TURN.limit(bindparam("many", type_=Integer)).with_for_update(skip_locked=True, of=messages)
        )
    )
    .values(state="claimed", lease_owner=bindparam("owner", type_=Text), lease_until=bindparam("until", type_=Moment))
    # The time as the driver gives it: it only says who comes first.
    .returning(messages.c.id, messages.c.priority, type_coerce(messages.c.due_at, NullType()).label("due_at"))
)


def claim(tx: Transaction, gateway: str, owner: str, at_most: int) -> list[int]:
    """Take up to `at_most` due messages of a gateway under a lease; returns their ids in the order to be sent.

    One statement for both databases, and one claim at a time: two that do not see each other's could each take a message
    to the same phone.
    """
    tx.alone("claim")
    values = {"by": gateway, "now": tx.now, "many": at_most, "owner": owner, "until": tx.now + leases.LEASE}
    return [row.id for row in sorted(tx.execute(_CLAIM, values), key=lambda row: (row.priority, row.due_at, row.id))]


def settle(tx: Transaction, results: Iterable[Settled]) -> int:
    """Write what attempts came to; returns how many messages moved.

    Each move is guarded by MOVES and by the attempt id, so the answer to an earlier attempt never touches a later one.
    An attempt that was not simply accepted is kept as it came, for whoever asks why.
    """
    results = list(results)
    by_state: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for r in results:
        by_state[r.state].append(
            {"row": r.id, "attempt": r.attempt_id, "because": r.reason, "their_code": r.code, "their_id": r.gateway_id,
             "parts": r.segments, "due": r.due_at, "by": r.gateway, "now": tx.now}
        )  # fmt: skip
    failed = [
        {
            "message_id": r.id,
            "attempt_id": r.attempt_id,
            "state": r.state,
            "reason": r.reason,
            "code": r.code,
            "at": tx.now,
        }
        for r in results
        if r.state != "accepted"
    ]
    failed += [_passed_on(r.id, r.attempt_id, r.gateway, tx.now) for r in results if r.gateway is not None]
    if failed:
        tx.execute(insert(attempts), failed)
    moved = sum(execute_many(tx, SETTLE[state], rows) for state, rows in by_state.items())
    apply_parked(tx, [r.id for r in results if r.gateway_id is not None])
    return moved


_ORPHANED = and_(messages.c.state == "queued", messages.c.gateway.is_(None))

_AN_ORPHAN = select(messages.c.id).where(_ORPHANED, ~messages.c.paused).limit(1)  # as in the index of what is due


def adopt(tx: Transaction) -> None:
    """Give a gateway to messages that were queued where none was set, on a command line for example."""
    defaults = [channel for channel in CHANNELS.values() if channel.default_gateway(tx.rules) is not None]
    if defaults and tx.scalar(_AN_ORPHAN) is not None:
        for channel in defaults:
            chosen = routing.by_number(tx.rules, messages.c.phone, channel)
            tx.execute(update(messages).where(_ORPHANED, messages.c.channel == channel.name).values(gateway=chosen))


def fail_over(tx: Transaction) -> int:
    """Pass on what its gateway has not taken for a while, a bounded number at once; returns how many.

    Only where the programme asked for it, and only what is queued, which is certainly not sent: it is due and its gateway
    is paused, or it could not be reached with it.  What was in doubt once stays, though it is queued again, and so does
    what its case is set to.
    """
    since = tx.now - PASSED_ON_AFTER
    moved = 0
    for one, other in tx.rules.failover.items():
        paused = exists().where(gateways.c.name == one, gateways.c.paused_until > tx.now)
        tried = exists().where(
            attempts.c.message_id == messages.c.id, attempts.c.reason == "unreachable", attempts.c.at <= since
        )
        unreached = and_(messages.c.reason == "unreachable", tried)
        queued = and_(messages.c.state == "queued", ~messages.c.paused)  # as in the index of what is due
        waits = and_(queued, messages.c.direction == "out", messages.c.gateway == one)
        stuck = and_(waits, ~STAYS, or_(and_(paused, messages.c.due_at <= since), unreached))
        query = (
            select(messages.c.id, messages.c.attempt_id).where(stuck).order_by(messages.c.id).limit(PASSED_ON_AT_ONCE)
        )
        rows = tx.execute(query.with_for_update(skip_locked=True)).all()
        if rows:
            sooner = case((messages.c.due_at > tx.now, tx.now), else_=messages.c.due_at)
            tx.execute(
                update(messages)
                .where(messages.c.id.in_([row.id for row in rows]))
                .values(gateway=other, reason="failover", code=other, due_at=sooner, settled_at=tx.now)
            )
            tx.execute(insert(attempts), [_passed_on(row.id, row.attempt_id, other, tx.now) for row in rows])
            log.warning("%d messages of gateway %s were passed on to %s", len(rows), one, other)
        moved += len(rows)
    return moved


def _passed_on(message_id: int, attempt_id: str | None, other: str, now: datetime) -> dict[str, Any]:
    """The line among the attempts by which anybody sees that a message went another way: `code` names the gateway."""
    told = {"message_id": message_id, "attempt_id": attempt_id or "", "state": "queued", "at": now}
    return told | {"reason": "failover", "code": other}


_EXPIRE = (
    update(messages)
    .where(
        messages.c.id.in_(
            select(messages.c.id)
            .where(messages.c.state == "queued", messages.c.expires_at <= bindparam("now", type_=Moment))
            .limit(bindparam("many", type_=Integer))
            .with_for_update(skip_locked=True)
        )
    )
    .values(state="expired", reason="expired", settled_at=bindparam("now", type_=Moment))
)


def expire(tx: Transaction) -> int:
    """End what waits and whose time ran out, a bounded number at once; returns how many.

    The gate does so too, but a text that waits behind another, or for a paused gateway, never comes to the gate.
    """
    return tx.execute(_EXPIRE, {"now": tx.now, "many": EXPIRE_AT_ONCE}).rowcount


def _way_to(tx: Transaction, address: str, case_id: int | None, reply_to: int | None, channel: Channel) -> str | None:
    """The gateway of a message: that by which the text it answers came, else as the number and its case say.

    A person answers the number they were texted from and expects the answer from the number they texted.
    """
    rules = tx.rules
    if len(rules.gateways) < 2 or not channel.by_phone:
        return channel.default_gateway(rules)
    if reply_to is not None:
        came = select(messages.c.gateway).where(messages.c.id == reply_to, messages.c.phone == address)
        if (by := tx.scalar(came)) in rules.gateways:
            return str(by)
    own = tx.scalar(select(cases.c.contact_backend_id).where(cases.c.id == case_id)) if case_id is not None else None
    return routing.choose(rules, address, own if own in rules.gateways else None, channel).gateway


def _number_of(tx: Transaction, phone: str, reply_to: int | None) -> str | None:
    """Our number that a person texted, where a gateway has several: from that one they expect the answer."""
    if reply_to is None or not tx.rules.senders:
        return None
    came_to: str | None = tx.scalar(
        select(messages.c.own_number).where(messages.c.id == reply_to, messages.c.phone == phone)
    )
    return came_to
