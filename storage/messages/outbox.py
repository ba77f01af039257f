"""Inbox and outbox: record, queue, claim, hand over, settle.  The row is the queue.

`MOVES` is the one table of what a message may become, and `settle` is one guarded UPDATE: a late, repeated or
out-of-order receipt changes nothing.  A message is *handed over* when `claimed -> sending` commits, with a fresh attempt
id, before the gateway is called; whatever dies after that leaves a message that is `unknown`, never one that is sent
again.
"""

from __future__ import annotations

import logging
import secrets
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import (
    ColumnElement,
    CompoundSelect,
    Integer,
    Row,
    Select,
    Table,
    Text,
    Update,
    and_,
    bindparam,
    case,
    exists,
    func,
    insert,
    literal,
    literal_column,
    null,
    or_,
    select,
    true,
    tuple_,
    type_coerce,
    union_all,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.types import NullType

from storage.audit import Actor
from storage.contacts import consent
from storage.database import Lost, Transaction, execute_many, insert_new
from storage.lately import is_since
from storage.messages import audience
from storage.operations import codes
from storage.programme import rate_limits, routing
from storage.rules import quiet_hours, segments
from storage.schema import Moment, attempts, broadcasts, cases, gateways, messages, programme, receipts
from storage.schema import codes as codes_table

log = logging.getLogger(__name__)

TAKEN = ("accepted", "sent", "delivered", "undelivered")
"""What a message may be once the gateway has it."""

MOVES: dict[str, frozenset[str]] = {
    "queued": frozenset({"claimed", "withheld", "expired", "cancelled", "refused", *TAKEN}),
    "claimed": frozenset({"queued", "sending", "withheld", "expired", "cancelled", "refused", *TAKEN}),
    "sending": frozenset({"queued", "accepted", "refused", "unknown", "sent", "delivered", "undelivered"}),
    "accepted": frozenset({"sent", "delivered", "undelivered", "refused"}),
    "sent": frozenset({"delivered", "undelivered"}),
    "unknown": frozenset({"accepted", "sent", "delivered", "undelivered", "refused", "queued", "unresolved"}),
    "unresolved": frozenset({"accepted", "sent", "delivered", "undelivered", "refused"}),
    "undelivered": frozenset({"delivered"}),
    "delivered": frozenset(),
    "refused": frozenset(),
    "withheld": frozenset(),
    "expired": frozenset(),
    "cancelled": frozenset(),
}
"""What a message may become.  `unknown -> queued` only when it is proved that the gateway never took it; `queued` or
`claimed` to what the gateway has only for one that was handed over before, where late evidence says that it was taken after
all: it must not leave again.  A restore alone moves what is open to `unknown` (`upkeep/restore.py`).  `undelivered -> delivered` because some networks report both for a long text, and then a person has it."""

MEANINGS: dict[str, str] = {
    "queued": "waits for its time or its turn",
    "claimed": "a worker has taken it; certainly not sent",
    "sending": "handed to the gateway, no answer yet",
    "accepted": "the gateway took it",
    "sent": "the gateway passed it on",
    "delivered": "the phone has it",
    "undelivered": "the network could not deliver it",
    "refused": "the gateway, or a rule of ours, refused it: not sent",
    "unknown": "it may or may not have been sent; never sent again without proof",
    "unresolved": "still unknown after every question was asked: a person decides",
    "withheld": "not sent, and the reason says why",
    "expired": "its time ran out before it could leave",
    "cancelled": "halted before it left",
}


def _settled_to(to: str) -> Update:
    """The move of an attempt to a state.  What is not queued again keeps its time and its gateway.

    They are left out of the statement then: SQLite writes anew every index of a column that a statement names.
    """
    again: dict[str, Any] = {
        "due_at": func.coalesce(bindparam("due", type_=Moment), messages.c.due_at),
        "gateway": func.coalesce(bindparam("by", type_=Text), messages.c.gateway),
    }
    return (
        update(messages)
        .where(
            messages.c.id == bindparam("row"),
            messages.c.attempt_id == bindparam("attempt"),
            # Not IN: SQLAlchemy expands its list at run time, which a statement for many rows cannot do.
            or_(*(messages.c.state == state for state, moves in MOVES.items() if to in moves)),
        )
        .values(
            state=to,
            reason=bindparam("because"),
            code=bindparam("their_code"),
            gateway_id=func.coalesce(messages.c.gateway_id, bindparam("their_id", type_=Text)),
            segments=func.coalesce(bindparam("parts", type_=Integer), messages.c.segments),
            lease_owner=None,
            lease_until=None,
            settled_at=bindparam("now"),
            **(again if to == "queued" else {}),
        )
    )


_SETTLE = {to: _settled_to(to) for to in sorted({to for moves in MOVES.values() for to in moves})}

OPEN = ("queued", "claimed", "sending")
ARRIVED = ("accepted", "sent", "delivered")
LEASE = timedelta(seconds=120)
"""Well beyond the longest call to a gateway (30 s): what is still `sending` when it ends has lost its answer."""

EXPIRE_AT_ONCE = 1000
RESTORED = "restored-"
"""How the attempt of a message begins that a restore holds back: it stands for whatever was done since the backup."""

LOOK_AGAIN = timedelta(minutes=5)
"""Until a text is looked at again that waits for the answer of its phone."""
PASSED_ON_AFTER = timedelta(seconds=60)
"""So long a gateway may be mended before another takes its messages over, where the programme asked for that."""

PASSED_ON_AT_ONCE = 1000
RETRY_INBOUND = timedelta(seconds=30)
MAX_TRIES = 3


@dataclass(frozen=True, slots=True)
class Kind:
    """How a kind of message is treated: lower priority leaves first."""

    priority: int
    needs_consent: bool
    keeps_quiet_hours: bool
    life: timedelta | None


KINDS: dict[str, Kind] = {
    # The one answer to STOP, START or HELP; late is worse than never (47 CFR 64.1200(a)(12): within five minutes).
    "consent": Kind(0, needs_consent=False, keeps_quiet_hours=False, life=timedelta(minutes=5)),
    "reply": Kind(0, needs_consent=True, keeps_quiet_hours=False, life=timedelta(hours=1)),
    "notice": Kind(1, needs_consent=True, keeps_quiet_hours=False, life=timedelta(hours=24)),
    "text": Kind(2, needs_consent=True, keeps_quiet_hours=True, life=None),
    "broadcast": Kind(5, needs_consent=True, keeps_quiet_hours=True, life=None),
}


@dataclass(frozen=True, slots=True)
class HandOver:
    """One message that is now `sending`: the call to the gateway must follow, once."""

    id: int
    attempt_id: str
    phone: str
    body: str
    validity_s: int | None
    attempts: int
    segments: int
    own_number: str | None = None
    """Ours by which it leaves, where its gateway has several."""
    stays: bool = False
    """Whether no other gateway may take it over."""


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
    in_flight = exists().where(flying.c.phone == messages.c.phone, flying.c.state.in_(("claimed", "sending")))
    overtaken = exists().where(
        ahead.c.phone == messages.c.phone,
        ahead.c.state == "queued",
        ~ahead.c.paused,
        ahead.c.due_at <= now,
        tuple_(ahead.c.priority, ahead.c.due_at, ahead.c.id)
        < tuple_(messages.c.priority, messages.c.due_at, messages.c.id),
    )
    in_doubt = exists().where(doubtful.c.phone == messages.c.phone, doubtful.c.state == "unknown")
    paused = exists().where(gateways.c.name == messages.c.gateway, gateways.c.paused_until > now)
    return (
        select(messages.c.id)
        .where(due, messages.c.gateway == by, ~paused, ~in_flight, ~overtaken)
        .where(or_(messages.c.priority < KINDS["broadcast"].priority, ~in_doubt))
        .order_by(messages.c.priority, messages.c.due_at, messages.c.id)
    )


# The statements of every message are built once: building one takes longer than running it.
_IN_TURN = _next_in_turn()
_IS_DUE = _IN_TURN.limit(1)
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
_SEND = (
    update(messages)
    .where(
        messages.c.id == bindparam("row"), messages.c.state == "claimed", messages.c.lease_owner == bindparam("owner")
    )
    .values(
        state="sending",
        attempt_id=bindparam("attempt"),
        attempts=messages.c.attempts + 1,
        lease_until=bindparam("until", type_=Moment),
        handed_over_at=bindparam("now", type_=Moment),
        settled_at=bindparam("now", type_=Moment),
        segments=bindparam("parts"),
        own_number=bindparam("ours", type_=Text),
    )
)

_whose = cases.alias("whose")
_STAYS = or_(
    exists().where(
        attempts.c.message_id == messages.c.id, or_(attempts.c.state == "unknown", attempts.c.reason == "absent")
    ),
    exists().where(_whose.c.id == messages.c.case_id, _whose.c.contact_backend_id == messages.c.gateway),
)
"""Never goes by another gateway: what was in doubt once, for late evidence of it comes from its own gateway only, and what
its case is set to."""

_GATE = (
    select(
        *messages.c["id", "kind", "phone", "body", "gateway", "attempts", "created_at", "expires_at", "own_number"],
        consent.said_last(messages.c.phone).label("said"),
        and_(messages.c.broadcast_id.is_not(None), ~audience.is_in(messages.c.case_id, messages.c.broadcast_id)).label(
            "left"
        ),
        and_(
            messages.c.broadcast_id.is_not(None), messages.c.phone.is_distinct_from(cases.c.contact_phone_number)
        ).label("changed"),
        broadcasts.c.state.label("broadcast_state"),
        broadcasts.c.paused_at,
        cases.c.time_zone,
        _STAYS.label("stays"),
        codes_table.c.nonce,
        codes_table.c.length,
        codes_table.c.expires_at.label("code_expires_at"),
        programme.c.secret,
    )
    .select_from(messages)
    .join(programme, programme.c.id == 1)
    .outerjoin(broadcasts, broadcasts.c.id == messages.c.broadcast_id)
    .outerjoin(cases, cases.c.id == messages.c.case_id)
    .outerjoin(codes_table, codes_table.c.id == messages.c.code_id)
    .where(
        messages.c.id.in_(bindparam("ids", expanding=True)),
        messages.c.state == "claimed",
        messages.c.lease_owner == bindparam("owner", type_=Text),
    )
    .order_by(messages.c.priority, messages.c.due_at, messages.c.id)
    # Held to the end: a worker that was thought dead must not hand over what another one has claimed since.
    .with_for_update(of=messages)
)

_RECORD_ON_SQLITE, _RECORD = (
    dialect.insert(messages)
    .on_conflict_do_nothing()
    .returning(*messages.c["id", "phone", "body", "state", "told", "answered", "created_at", "sent_at"])
    for dialect in (sqlite, postgresql)
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
_ORPHANED = and_(messages.c.state == "queued", messages.c.gateway.is_(None))
_AN_ORPHAN = select(messages.c.id).where(_ORPHANED, ~messages.c.paused).limit(1)  # as in the index of what is due
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


# Word for word the condition of their index, else every message there ever was would be looked through each second.
_LEASED = messages.c.state.in_([literal_column("'claimed'", Text), literal_column("'sending'", Text)])
_UNCLEAR = messages.c.state.in_(("unknown", "unresolved", "set_aside"))


def unclear(*states: str) -> ColumnElement[bool]:
    """Messages in some of the states `unknown`, `unresolved` and `set_aside`, found by their index."""
    return and_(_UNCLEAR, messages.c.state.in_(states))


def _ends(held: ColumnElement[bool]) -> tuple[Update, Update]:
    """What is `claimed` and so held goes back to the queue, and what is `sending` becomes unknown."""
    free = {"lease_owner": None, "lease_until": None, "settled_at": bindparam("now", type_=Moment)}

    def of_the_dead(state: str) -> Update:
        # What its worker is writing down this instant is not of a dead one.
        leased = select(messages.c.id).where(_LEASED, messages.c.state == state, held)
        rows = leased.with_for_update(skip_locked=True)
        return update(messages).where(messages.c.id.in_(rows))

    back = of_the_dead("claimed").values(state="queued", **free)
    return back, of_the_dead("sending").values(state="unknown", reason="process-died", **free)


_END_LEASES = _ends(messages.c.lease_until <= bindparam("now", type_=Moment))
_END_OTHERS = _ends(messages.c.lease_owner != bindparam("mine", type_=Text))
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
_QUEUE = insert(messages).returning(messages.c.id)
_NEWEST_TO = (
    select(messages)
    .where(
        messages.c.phone == bindparam("phone"),
        messages.c.direction == "out",
        messages.c.kind != "consent",
        messages.c.state.in_((*ARRIVED, "unknown", "sending")),
        messages.c.handed_over_at <= bindparam("before", type_=Moment),
    )
    .order_by(messages.c.handed_over_at.desc(), messages.c.id.desc())
    .limit(1)
)
_recent = (
    select(*messages.c["id", "direction", "body", "handed_over_at"])
    .where(messages.c.phone == bindparam("phone"))
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
_PARKED = (
    select(receipts)
    .join(
        messages,
        and_(
            receipts.c.message_id == messages.c.id,
            receipts.c.gateway == messages.c.gateway,
            receipts.c.gateway_id == messages.c.gateway_id,
        ),
    )
    .where(messages.c.id.in_(bindparam("ids", expanding=True)), ~receipts.c.moved)
    .order_by(receipts.c.id)
)
NOT_OVER = ("received", *OPEN, "unknown", "unresolved", "set_aside")
"""The states in which something is still to be done, by us or by a person."""


def _count_open() -> CompoundSelect[Any]:
    """Each state counted by the index that holds its rows and no others, which SQLite takes for a range of it."""
    ever = literal(datetime.min.replace(tzinfo=UTC), Moment)
    queued, expires = messages.c.state == "queued", messages.c.expires_at
    rows = [
        ("received", and_(messages.c.state == "received", messages.c.due_at >= ever)),
        ("queued", and_(queued, expires >= ever)),
        ("queued", and_(queued, expires.is_(None))),
        *((state, and_(_LEASED, messages.c.lease_until >= ever, messages.c.state == state)) for state in OPEN[1:]),
        *((state, unclear(state)) for state in ("unknown", "unresolved", "set_aside")),
    ]
    return union_all(
        *(select(literal(state, Text).label("state"), func.count().label("n")).select_from(messages).where(where)
          for state, where in rows)
    )  # fmt: skip


def _sent_since() -> Select[Any]:
    """Counted from the newest back to the first that is older, and no further: a phone may have years behind it."""
    phone, since = bindparam("phone", type_=Text), bindparam("since", type_=Moment)
    # Between and by phone, not equal: else PostgreSQL walks back through everybody's messages for one of a busy phone.
    past = select(messages.c.id).where(messages.c.phone.between(phone, phone), messages.c.created_at < since)
    older = past.order_by(messages.c.phone.desc(), messages.c.id.desc()).limit(1)
    return (
        select(func.count())
        .select_from(messages)
        .where(
            messages.c.phone == phone,
            messages.c.id > func.coalesce(older.correlate(None).scalar_subquery(), 0),
            messages.c.direction == "out",
            messages.c.kind == bindparam("kind", type_=Text),
            messages.c.created_at >= since,
        )
    )


_COUNT_OPEN = _count_open()
_SENT_SINCE = _sent_since()
_SAID_SINCE = _SENT_SINCE.where(messages.c.body == bindparam("words", type_=Text))


# -- in ----------------------------------------------------------------------------------------------------------------


def record_inbound(
    tx: Transaction,
    *,
    gateway: str,
    gateway_id: str,
    sender: str,
    text: str,
    told: str | None = None,
    answered: bool = False,
    sent_at: datetime | None = None,
    own_number: str | None = None,
    set_aside: str | None = None,
) -> Row[Any] | None:
    """Keep a text; returns what its handling needs of its row, None if this gateway message id was seen before.

    `told` is stop, start or help where the gateway itself says so, and `answered` that it has replied: they are kept for
    the handling that comes later if the first one fails.  `sent_at` is given for a text that comes late: it is handled by
    the moment at which the phone sent it.  `set_aside` is why it is left to a person, unhandled.
    """
    row = {
        "direction": "in",
        "phone": sender,
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


def unhandled(tx: Transaction) -> list[Row[Any]]:
    """Inbound texts whose handling failed and whose time has come again, oldest first."""
    return list(tx.execute(_UNHANDLED, {"now": tx.now}))


# -- out ---------------------------------------------------------------------------------------------------------------


def queue(
    tx: Transaction,
    phone: str,
    body: str,
    kind: str,
    *,
    gateway: str | None = None,
    case_id: int | None = None,
    person_id: int | None = None,
    reply_to: int | None = None,
    code_id: int | None = None,
    expires_at: datetime | None = None,
) -> int:
    """Put one message into the outbox; returns its id.

    Without `gateway` it goes the way its text came in where it answers one, else by its number (`programme/routing.py`), and without
    `expires_at` it lives as long as its kind.
    """
    life = KINDS[kind].life
    row = {
        "direction": "out",
        "phone": phone,
        "body": body,
        "kind": kind,
        "state": "queued",
        "gateway": gateway or _way_to(tx, phone, case_id, reply_to),
        "own_number": _number_of(tx, phone, reply_to),
        "case_id": case_id,
        "person_id": person_id,
        "reply_to": reply_to,
        "code_id": code_id,
        "priority": KINDS[kind].priority,
        "due_at": tx.now,
        "expires_at": expires_at or (tx.now + life if life else None),
        "created_at": tx.now,
        "segments": segments.count(body).parts,
    }
    tx.wake()
    return int(tx.execute(_QUEUE, row).scalar_one())


def newest_to(tx: Transaction, phone: str, before: datetime) -> Row[Any] | None:
    """The message that a number got last before a moment, or may have got; None if none.

    Answers to STOP, START and HELP do not count: they end no conversation.
    """
    return tx.execute(_NEWEST_TO, {"phone": phone, "before": before}).first()


def bodies_to(tx: Transaction, phone: str, since: datetime, before: datetime, *, at_most: int) -> list[str]:
    """The last texts that were handed over for a number between two moments, newest first, with codes masked.

    Of all that the number got and wrote only the newest few times `at_most` are looked through.
    """
    window = {"phone": phone, "since": since, "before": before, "rows": 3 * at_most, "many": at_most}
    return list(tx.execute(_BODIES_TO, window).scalars())


def is_due(tx: Transaction, gateway: str) -> bool:
    """Whether a gateway has anything to claim: a look that costs nobody the writer's turn."""
    return tx.scalar(_IS_DUE, {"by": gateway, "now": tx.now}) is not None


def claim(tx: Transaction, gateway: str, owner: str, at_most: int) -> list[int]:
    """Take up to `at_most` due messages of a gateway under a lease; returns their ids in the order to be sent.

    One statement for both databases, and one claim at a time: two that do not see each other's could each take a message
    to the same phone.
    """
    tx.alone("claim")
    values = {"by": gateway, "now": tx.now, "many": at_most, "owner": owner, "until": tx.now + LEASE}
    return [row.id for row in sorted(tx.execute(_CLAIM, values), key=lambda row: (row.priority, row.due_at, row.id))]


def hand_over(
    tx: Transaction, ids: Sequence[int], owner: str, *, rate_per_s: float, at_most: int | None = None
) -> tuple[list[HandOver], list[int]]:
    """The gate, just before the call: consent, halt, quiet hours and expiry once more, and a token of the gateway.

    Returns what may be sent now, `at_most` so many, each with a fresh attempt id and already `sending`, and the ids that
    still wait for a token.  What may not be sent is moved to the state that says why, and so is a row at which our own code fails: it
    would fail in every batch after this one, and nobody else's text would ever leave.
    """
    rows = _at_the_gate(tx, ids, owner) if ids else []
    passing: list[HandOver] = []
    for row in rows:
        judged = _judged(tx, row)
        if isinstance(judged, HandOver):
            passing.append(judged)
        else:
            _move(tx, row.id, "claimed", **judged)
    wishes = [rate_limits.Wish(handed.id, handed.phone, handed.own_number) for handed in passing]
    granted = rate_limits.grant(tx, rows[0].gateway, wishes, rate_per_s, at_most=at_most) if passing else {}
    going = [
        handed if (number := granted[handed.id]) == handed.own_number else replace(handed, own_number=number)
        for handed in passing
        if handed.id in granted
    ]
    if going:
        same = {"owner": owner, "now": tx.now, "until": tx.now + LEASE}
        execute_many(
            tx,
            _SEND,
            [{"row": h.id, "attempt": h.attempt_id, "parts": h.segments, "ours": h.own_number, **same} for h in going],
        )
    return going, [h.id for h in passing if h.id not in granted]


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
    moved = sum(execute_many(tx, _SETTLE[state], rows) for state, rows in by_state.items())
    apply_parked(tx, [r.id for r in results if r.gateway_id is not None])
    return moved


def adopt(tx: Transaction) -> None:
    """Give a gateway to messages that were queued where none was set, on a command line for example."""
    if tx.rules.default_gateway is not None and tx.scalar(_AN_ORPHAN) is not None:
        tx.execute(update(messages).where(_ORPHANED).values(gateway=routing.by_number(tx.rules, messages.c.phone)))


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
        stuck = and_(waits, ~_STAYS, or_(and_(paused, messages.c.due_at <= since), unreached))
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


def release(tx: Transaction, ids: Sequence[int], owner: str) -> None:
    """Give claimed messages back: they were certainly not sent."""
    if ids:
        tx.execute(
            update(messages)
            .where(messages.c.id.in_(ids), messages.c.state == "claimed", messages.c.lease_owner == owner)
            .values(state="queued", lease_owner=None, lease_until=None)
        )


def expire(tx: Transaction) -> int:
    """End what waits and whose time ran out, a bounded number at once; returns how many.

    The gate does so too, but a text that waits behind another, or for a paused gateway, never comes to the gate.
    """
    return tx.execute(_EXPIRE, {"now": tx.now, "many": EXPIRE_AT_ONCE}).rowcount


def end_leases(tx: Transaction, *, of_others_than: str | None = None) -> tuple[int, int]:
    """Let go of what a dead worker held: claimed goes back to the queue, sending becomes unknown.

    By the lease's clock; or, where the caller knows that no other worker can be alive (SQLite's one worker holds a file
    lock), all that others held.  Returns how many went back and how many are now unknown.
    """
    back, doubtful = _END_LEASES if of_others_than is None else _END_OTHERS
    values = {"now": tx.now} if of_others_than is None else {"now": tx.now, "mine": of_others_than}
    return tx.execute(back, values).rowcount, tx.execute(doubtful, values).rowcount


def receive_receipt(
    tx: Transaction,
    *,
    gateway: str,
    message_id: int,
    gateway_id: str,
    state: str,
    word: str,
    code: str | None,
    attempt_id: str | None = None,
) -> bool:
    """Keep a receipt, and move the message if that is forward; returns whether it moved.

    A receipt that is not of our message, by its gateway id or by the attempt in its address, is kept and moves nothing:
    after a restore the same number may stand for another message.
    """
    moved = _move_by_receipt(tx, gateway, message_id, gateway_id, state, code, attempt_id)
    row = {
        "gateway": gateway,
        "message_id": message_id,
        "gateway_id": gateway_id,
        "state": state,
        "word": word,
        "code": code or "",
        "moved": moved,
        "at": tx.now,
    }
    tx.execute(insert_new(tx, receipts).values(row))
    return moved


def apply_parked(tx: Transaction, ids: Sequence[int]) -> int:
    """Let receipts that came too early move these messages now; returns how many moved.

    A receipt is kept whatever becomes of it.  One that came before its message could move (the hand-over was not yet
    written, or the gateway's name for it not yet known) is asked once more when the message is settled.
    """
    if not ids:
        return 0
    moved = 0
    for parked in tx.execute(_PARKED, {"ids": ids}).all():
        one = (parked.gateway, parked.message_id, parked.gateway_id, parked.state, parked.code or None)
        if _move_by_receipt(tx, *one):
            tx.execute(update(receipts).where(receipts.c.id == parked.id).values(moved=True))
            moved += 1
    return moved


def of_receipt(
    tx: Transaction, *, gateway: str, message_id: int, gateway_id: str, attempt_id: str | None = None
) -> Row[Any] | None:
    """The message of ours that a receipt is of, whether or not it moved it; None if of none."""
    return tx.execute(select(messages).where(_is_of_receipt(gateway, message_id, gateway_id, attempt_id))).first()


def note_opt_out(tx: Transaction, message_id: int, *, by: Actor) -> None:
    """A gateway says that this recipient opted out there: the same as STOP."""
    phone = tx.scalar(select(messages.c.phone).where(messages.c.id == message_id))
    if phone is not None and consent.newest(tx, phone) != "stop":
        consent.hear(tx, phone, "stop", words="(told by the gateway)", message_id=message_id, by=by)


# -- to look at --------------------------------------------------------------------------------------------------------


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
    for column, value in ((messages.c.state, state), (messages.c.phone, phone), (messages.c.direction, direction)):
        if value is not None:
            query = query.where(column == value)
    return list(tx.execute(query))


def is_held(row: Row[Any]) -> bool:
    """Whether a message waits for its broadcast to be resumed; not what was halted or ran out of time meanwhile."""
    return bool(row.state == "queued" and (row.paused or row.reason == "paused"))


def newest_id(tx: Transaction) -> int:
    """The id of the newest message; 0 if there is none."""
    return int(tx.scalar(select(func.max(messages.c.id))) or 0)


def list_queued_since(tx: Transaction, message_id: int) -> list[Row[Any]]:
    """The messages out with a greater id, oldest first."""
    since = select(messages).where(messages.c.id > message_id, messages.c.direction == "out")
    return list(tx.execute(since.order_by(messages.c.id)))


def known_inbound(tx: Transaction, gateway: str, gateway_ids: Iterable[str]) -> set[str]:
    """Those of these gateway ids under which a text has come in already."""
    same = and_(messages.c.direction == "in", messages.c.gateway == gateway)
    return set(
        tx.execute(select(messages.c.gateway_id).where(same, messages.c.gateway_id.in_(list(gateway_ids)))).scalars()
    )


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


def receipts_of(tx: Transaction, message_id: int) -> list[Row[Any]]:
    """The receipts of a message, in the order in which they came."""
    return list(tx.execute(select(receipts).where(receipts.c.message_id == message_id).order_by(receipts.c.id)))


def threads(tx: Transaction, phones: Iterable[str], *, at_most: int = 60) -> dict[str, list[Row[Any]]]:
    """For each of these numbers the last messages with it, both ways, oldest first; in one question."""
    found: dict[str, list[Row[Any]]] = {phone: [] for phone in phones}
    newest = func.row_number().over(partition_by=messages.c.phone, order_by=messages.c.id.desc()).label("place")
    recent = select(messages.c.id, newest).where(messages.c.phone.in_(list(found))).subquery()
    last = select(messages).join(recent, recent.c.id == messages.c.id).where(recent.c.place <= at_most)
    for row in tx.execute(last.order_by(messages.c.id)):
        found[row.phone].append(row)
    return found


def count_states(tx: Transaction) -> dict[str, int]:
    """How many messages are in each state; it reads all there ever were."""
    return {row.state: row.n for row in tx.execute(select(messages.c.state, func.count().label("n")).group_by("state"))}


def count_open(tx: Transaction) -> dict[str, int]:
    """How many messages are in each state of `NOT_OVER`, also those in which there is none; what is over is not looked at."""
    counted = dict.fromkeys(NOT_OVER, 0)
    for row in tx.execute(_COUNT_OPEN):
        counted[row.state] += row.n
    return counted


def count_receipts(tx: Transaction, since: datetime) -> dict[str, int]:
    """How many receipts have come since then, by the state of which they tell."""
    return _count_since(tx, receipts, since)


def count_failed_calls(tx: Transaction, since: datetime) -> dict[str, int]:
    """How many calls to gateways were not simply accepted since then, by what their messages became."""
    return _count_since(tx, attempts, since)


def newest_receipt(tx: Transaction) -> int:
    """The id of the newest receipt; 0 if there is none."""
    return int(tx.scalar(select(func.max(receipts.c.id))) or 0)


def sent_since(tx: Transaction, phone: str, kind: str, since: datetime, *, body: str | None = None) -> int:
    """How many messages of a kind, with these very words if given, were queued to a number since then."""
    values = {"phone": phone, "kind": kind, "since": since}
    if body is None:
        return int(tx.scalar(_SENT_SINCE, values))
    return int(tx.scalar(_SAID_SINCE, {**values, "words": body}))


# -- inside ------------------------------------------------------------------------------------------------------------


def _count_since(tx: Transaction, table: Table, since: datetime) -> dict[str, int]:
    lately = is_since(tx, table.c.at, since)
    counted = select(table.c.state, func.count().label("n")).where(*lately).group_by(table.c.state)
    return {row.state: row.n for row in tx.execute(counted)}


def _way_to(tx: Transaction, phone: str, case_id: int | None, reply_to: int | None) -> str | None:
    """The gateway of a message: that by which the text it answers came, else as the number and its case say.

    A person answers the number they were texted from and expects the answer from the number they texted.
    """
    rules = tx.rules
    if len(rules.gateways) < 2:
        return rules.default_gateway
    if reply_to is not None:
        came = select(messages.c.gateway).where(messages.c.id == reply_to, messages.c.phone == phone)
        if (by := tx.scalar(came)) in rules.gateways:
            return str(by)
    own = tx.scalar(select(cases.c.contact_backend_id).where(cases.c.id == case_id)) if case_id is not None else None
    return routing.choose(rules, phone, own if own in rules.gateways else None).gateway


def _number_of(tx: Transaction, phone: str, reply_to: int | None) -> str | None:
    """Our number that a person texted, where a gateway has several: from that one they expect the answer."""
    if reply_to is None or not tx.rules.senders:
        return None
    came_to: str | None = tx.scalar(
        select(messages.c.own_number).where(messages.c.id == reply_to, messages.c.phone == phone)
    )
    return came_to


def _at_the_gate(tx: Transaction, ids: Sequence[int], owner: str) -> list[Row[Any]]:
    """The claimed rows with all that the gate asks: whether stopped, whether halted, in which zone, which code."""
    return list(tx.execute(_GATE, {"ids": ids, "owner": owner}))


def _is_of_receipt(gateway: str, message_id: int, gateway_id: str, attempt_id: str | None) -> ColumnElement[bool]:
    """The message that a receipt is of: handed over at least once, by that attempt, and known to the gateway by no other id.

    By which attempt a message left that a restore holds back is not known, so it may be any.
    """
    known = exists().where(
        attempts.c.message_id == messages.c.id,
        or_(attempts.c.attempt_id == attempt_id, attempts.c.attempt_id.startswith(RESTORED)),
    )
    by_attempt = true() if attempt_id is None else or_(messages.c.attempt_id == attempt_id, known)
    return and_(
        by_attempt,
        messages.c.id == message_id,
        messages.c.direction == "out",
        messages.c.gateway == gateway,
        or_(messages.c.gateway_id.is_(None), messages.c.gateway_id == gateway_id),
        messages.c.attempts > 0,
    )


def _move_by_receipt(
    tx: Transaction,
    gateway: str,
    message_id: int,
    gateway_id: str,
    state: str,
    code: str | None,
    attempt_id: str | None = None,
) -> bool:
    """Move the message of a receipt if that is forward; returns whether it moved."""
    came_from = [s for s, to in MOVES.items() if state in to]
    forward = (
        update(messages)
        .where(_is_of_receipt(gateway, message_id, gateway_id, attempt_id), messages.c.state.in_(came_from))
        .values(
            state=state,
            gateway_id=gateway_id,
            code=code,
            reason="gateway-code" if code else None,
            lease_owner=None,
            lease_until=None,
            settled_at=tx.now,
        )
    )
    return tx.execute(forward).rowcount > 0


def _judged(tx: Transaction, row: Row[Any]) -> HandOver | dict[str, Any]:
    """What leaves, or the columns that say why it does not; a fault is of this row alone."""
    try:
        return _verdict(tx, row) or _leaving(tx, row)
    except Exception as fault:  # noqa: BLE001  one row's fault must cost no other row anything
        # The type alone: the sentence of a fault may quote a number or a text.
        reference = secrets.token_hex(4)
        log.error("message %s is refused, reference %s: %s", row.id, reference, type(fault).__name__)
        return {"state": "refused", "reason": "fault"}


def _verdict(tx: Transaction, row: Row[Any]) -> dict[str, Any] | None:
    """Why a claimed message may not leave now, as the columns to set; None if it may."""
    kind = KINDS[row.kind]
    if row.broadcast_state in ("halted", "dropped"):
        return {"state": "cancelled", "reason": "halted"}
    if row.expires_at is not None and row.expires_at <= tx.now:
        return {"state": "expired", "reason": "expired"}
    if row.nonce is not None and row.created_at < row.code_expires_at - codes.LIFE:
        # The code was issued anew since for other words, and must not leave under the old ones.
        return {"state": "cancelled", "reason": "replaced"}
    if row.paused_at is not None:
        # It was claimed when its broadcast was paused, and goes back to wait with the others.
        return {"state": "queued", "due_at": tx.now + LOOK_AGAIN, "reason": "paused"}
    if kind.needs_consent and row.said == "stop":
        return {"state": "withheld", "reason": "stopped"}
    if kind.needs_consent and row.said == "doubt":
        # It waits for the answer to our question, and dies with its own time if none comes.
        return {"state": "queued", "due_at": tx.now + LOOK_AGAIN, "reason": "doubt"}
    if row.left or row.changed:
        # Taken out of the group, or another number, since it was queued: the old number may be a stranger's by now.
        return {"state": "withheld", "reason": "left" if row.left else "changed"}
    if kind.keeps_quiet_hours and tx.rules.hours is not None:
        allowed = quiet_hours.next_allowed(tx.now, _zones(tx, row), tx.rules.hours)
        if row.expires_at is not None and allowed >= row.expires_at:
            return {"state": "expired", "reason": "quiet-hours"}
        if allowed > tx.now:
            return {"state": "queued", "due_at": allowed, "reason": "quiet-hours"}
    return None


def _leaving(tx: Transaction, row: Row[Any]) -> HandOver:
    body = row.body
    if row.nonce is not None:
        body = body.replace(codes.mask(row.length), codes.digits(bytes(row.secret), row.nonce, row.length))
    ends = [row.expires_at]
    if KINDS[row.kind].keeps_quiet_hours and tx.rules.hours is not None:
        # A gateway may queue for hours: told when the day ends, it cannot deliver into the night.
        ends.append(quiet_hours.closes_at(tx.now, _zones(tx, row), tx.rules.hours))
    seconds = [int((end - tx.now).total_seconds()) for end in ends if end is not None]
    return HandOver(
        id=row.id,
        attempt_id=secrets.token_hex(8),
        phone=row.phone,
        body=body,
        validity_s=max(1, min(seconds)) if seconds else None,
        attempts=row.attempts + 1,
        segments=segments.count(body).parts,
        own_number=row.own_number,
        stays=row.stays,
    )


def _zones(tx: Transaction, row: Row[Any]) -> tuple[str, ...]:
    return quiet_hours.zones_of(row.time_zone, row.phone, home_zone=tx.rules.time_zone)


def _move(tx: Transaction, message_id: int, came_from: str, **columns: Any) -> None:
    assert columns["state"] in MOVES[came_from]
    tx.execute(
        update(messages)
        .where(messages.c.id == message_id, messages.c.state == came_from)
        .values(lease_owner=None, lease_until=None, settled_at=tx.now, **columns)
    )
