"""What a gateway's own lists prove: which of our doubtful messages it has, and up to when its inbound was read.

A message that is `unknown` may or may not have reached a phone.  It is asked about five times over some nine hours, never
at once, because a gateway may book late.  *Found* settles it.  *Absent* proves something only the second time, ten
minutes after the first; then the kinds in `Rules.resend_absent` are queued again and all others stay, as `unresolved`,
for a person.  What the gateway cannot tell is never guessed.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Integer, Row, Select, and_, bindparam, exists, func, insert, literal_column, or_, select, update

from storage.database import Transaction
from storage.lately import is_since
from storage.messages.outbox import Settled, settle
from storage.messages.states import unclear
from storage.operations import codes
from storage.programme.rate_limits import ensure_gateway
from storage.rules.channels import CHANNELS
from storage.schema import Moment, asks, attempts, broadcasts, gateways, messages, programme, receipts
from storage.schema import codes as codes_table

GRACE = timedelta(minutes=2)
"""After the hand-over, before the first question: a receipt settles most by itself, and a gateway may book late."""

AGAIN = (timedelta(minutes=11), timedelta(minutes=30), timedelta(hours=2), timedelta(hours=6))
"""After each vain question, until the next; after the last one a person decides."""

APART = timedelta(minutes=10)
"""Between two looks that both find nothing, before that is called a proof."""

GONE = timedelta(minutes=10)
"""Before a message of a gateway that is set no more is left to a person: another worker may have settings that are newer."""

LIST_BACK = timedelta(days=30)

OVERLAP = timedelta(minutes=10)

LEFT_AT_ONCE = 200


def _questions_due() -> Select[Any]:
    """The messages in doubt at the gateway `by` whose time to be asked about has come `now`, the oldest first."""
    first = and_(messages.c.ask_at.is_(None), messages.c.handed_over_at <= bindparam("left", type_=Moment))
    due = or_(messages.c.ask_at <= bindparam("now", type_=Moment), first)
    query = select(messages).where(messages.c.state == "unknown", messages.c.gateway == bindparam("by"), due)
    return query.order_by(messages.c.handed_over_at).limit(bindparam("many", type_=Integer))


@dataclass(frozen=True, slots=True)
class Question:
    """One message that is in doubt; `text` is as it left, None where that cannot be told any more.

    `not_it` are the gateway's ids of our other messages to that address; `has_twin` says that another message of ours with
    the same words to that address is in doubt or under way, so that one in a list may be either.
    """

    id: int
    attempt_id: str
    address: str
    text: str | None
    handed_over_at: datetime
    not_it: frozenset[str]
    has_twin: bool


# What an idle worker asks is built once.
_DUE = _questions_due()


def questions(tx: Transaction, gateway: str, at_most: int) -> list[Question]:
    """The messages in doubt whose time to be asked about has come, the oldest first."""
    return [_question(tx, row) for row in tx.execute(_DUE, _due(tx, gateway, at_most))]


_DUE_AND_FREE = _DUE.with_for_update(skip_locked=True)


def take_questions(tx: Transaction, gateway: str, at_most: int) -> list[Question]:
    """The same, and nobody else asks about them meanwhile: without an answer not before the first repeat is due."""
    rows = tx.execute(_DUE_AND_FREE, _due(tx, gateway, at_most)).all()
    ids = [row.id for row in rows]
    tx.execute(update(messages).where(messages.c.id.in_(ids)).values(ask_at=tx.now + AGAIN[0]))
    return [_question(tx, row) for row in rows]


def _due(tx: Transaction, gateway: str, at_most: int) -> dict[str, Any]:
    return {"by": gateway, "now": tx.now, "left": tx.now - GRACE, "many": at_most}


def _question(tx: Transaction, row: Row[Any]) -> Question:
    return Question(
        row.id, row.attempt_id, row.address or row.phone, _as_it_left(tx, row), row.handed_over_at,
        _ids_of_others(tx, row), _has_twin(tx, row),
    )  # fmt: skip


def found(
    tx: Transaction, message_id: int, attempt_id: str, *, gateway_id: str, state: str, code: str | None
) -> str | None:
    """The gateway has it: the message moves forward.  Returns its state now, None if it was not in doubt any more.

    Where another message of ours turns out to be the one that was found, or may be, nothing was found.
    """
    row = _doubtful(tx, message_id, attempt_id)
    if row is None:
        return None
    if gateway_id in _ids_of_others(tx, row) or _has_twin(tx, row):
        return cannot_tell(
            tx, message_id, attempt_id, "another message of ours with the same words may be the one found"
        )
    _note(tx, row, "found", None)
    reason = "gateway-code" if code else None
    settle(tx, [Settled(message_id, attempt_id, state, reason=reason, code=code, gateway_id=gateway_id)])
    return state


def absent(tx: Transaction, message_id: int, attempt_id: str) -> str | None:
    """The gateway does not have it.  Returns the state now, None if it was not in doubt any more."""
    row = _doubtful(tx, message_id, attempt_id)
    if row is None:
        return None
    before = and_(asks.c.message_id == row.id, asks.c.attempt_id == row.attempt_id, asks.c.answer == "absent")
    proved = tx.scalar(select(exists().where(before, asks.c.at <= tx.now - APART)))
    times = _note(tx, row, "absent", None)
    if not proved:
        return _ask_again(tx, row, times)
    alive = row.expires_at is None or row.expires_at > tx.now
    if row.kind not in tx.rules.resend_absent or not alive:
        return _leave(tx, row, "absent")
    again = {"state": "queued", "reason": "absent", "ask_at": None, "due_at": tx.now, "settled_at": tx.now}
    tx.execute(_still(row).values(**again))
    failed = {"message_id": row.id, "attempt_id": row.attempt_id, "state": "queued", "reason": "absent", "at": tx.now}
    tx.execute(insert(attempts), failed)
    return "queued"


def cannot_tell(tx: Transaction, message_id: int, attempt_id: str, reason: str) -> str | None:
    """The gateway cannot say.  Returns the state now, None if it was not in doubt any more."""
    row = _doubtful(tx, message_id, attempt_id)
    if row is None:
        return None
    return _ask_again(tx, row, _note(tx, row, "cannot_tell", reason))


_GONE = (
    select(messages)
    .where(
        messages.c.state == "unknown",
        messages.c.gateway.not_in(bindparam("there", expanding=True)),
        messages.c.handed_over_at <= bindparam("since", type_=Moment),
        messages.c.settled_at <= bindparam("since", type_=Moment),
    )
    .order_by(messages.c.gateway, messages.c.handed_over_at)  # as in the index of what is in doubt
    .limit(LEFT_AT_ONCE)
)


def leave_gone(tx: Transaction, there: Collection[str]) -> int:
    """Leave to a person what is in doubt at a gateway that is not among these; returns how many.

    Nobody can be asked about it.  Should that gateway be set again, a late receipt still settles it.
    """
    rows = tx.execute(_GONE, {"there": list(there), "since": tx.now - GONE}).all()
    for row in rows:
        _note(tx, row, "cannot_tell", "its gateway is not in the settings any more")
        _leave(tx, row, "gateway-gone")
    return len(rows)


def gone(tx: Transaction) -> list[Row[Any]]:
    """The gateways that could not be asked any more: `gateway`, and how many messages a person decides about (`many`)."""
    left = and_(unclear("unresolved"), messages.c.reason == "gateway-gone")
    query = select(messages.c.gateway, func.count().label("many")).where(left)
    return list(tx.execute(query.group_by(messages.c.gateway).order_by(messages.c.gateway)))


def asks_of(tx: Transaction, message_id: int) -> list[Row[Any]]:
    """Each time a gateway was asked about a message, in order."""
    return list(tx.execute(select(asks).where(asks.c.message_id == message_id).order_by(asks.c.id)))


def untold(tx: Transaction) -> list[Row[Any]]:
    """Broadcasts of which nothing more will come to light and some stayed in doubt: `id`, `many`.  Each is told once."""
    open_ = messages.alias("open")
    waits = exists().where(
        open_.c.broadcast_id == broadcasts.c.id, open_.c.state.in_(("queued", "claimed", "sending", "unknown"))
    )
    query = (
        select(broadcasts.c.id, func.count().label("many"))
        .join(messages, messages.c.broadcast_id == broadcasts.c.id)
        .where(unclear("unresolved"), broadcasts.c.doubt_told_at.is_(None), ~waits)
        .group_by(broadcasts.c.id)
        .order_by(broadcasts.c.id)
    )
    return list(tx.execute(query))


def told(tx: Transaction, broadcast: int) -> bool:
    """Note that the leads were told of a broadcast's doubts; False if they were told before."""
    once = and_(broadcasts.c.id == broadcast, broadcasts.c.doubt_told_at.is_(None))
    return tx.execute(update(broadcasts).where(once).values(doubt_told_at=tx.now)).rowcount > 0


def unheard(tx: Transaction) -> list[Row[Any]]:
    """The gateways of which no receipt came in a day: `gateway`, how many it took before the last hour (`many`), `since` when.

    Of the messages of the last two days: what waited longer before it left is not counted.
    """
    day = tx.now - timedelta(days=1)
    made = select(messages).where(*is_since(tx, messages.c.created_at, day - timedelta(days=1)))
    # Else PostgreSQL would look for all that was ever accepted.
    m = made.cte("lately").prefix_with("MATERIALIZED", dialect="postgresql").c
    took = and_(m.direction == "out", m.state == "accepted", m.handed_over_at.between(day, tx.now - timedelta(hours=1)))
    came = exists().where(*is_since(tx, receipts.c.at, day), receipts.c.gateway == m.gateway)
    counted = select(m.gateway, func.count().label("many"), func.min(m.handed_over_at).label("since"))
    return list(tx.execute(counted.where(took, ~came).group_by(m.gateway).order_by(m.gateway)))


def count_unknown(tx: Transaction) -> int:
    """How many the gateways are asked about; found by their index, however many others there are."""
    unknown = messages.c.state == literal_column("'unknown'")
    return int(tx.scalar(select(func.count()).select_from(messages).where(unknown)))


def swept_until(tx: Transaction, gateway: str) -> datetime:
    """From when on a gateway's list of inbound texts must be read: a little before what is known to be complete.

    Never more than thirty days back, nor before this database was made: what came before was not for this programme.
    """
    until = tx.scalar(select(gateways.c.swept_until).where(gateways.c.name == gateway))
    made = tx.scalar(select(programme.c.created_at)) or tx.now
    since = until - OVERLAP if until is not None else made
    return min(tx.now, max(tx.now - LIST_BACK, since))


def mark_swept(tx: Transaction, gateway: str, until: datetime) -> None:
    """Note that all that came in before then is here."""
    ensure_gateway(tx, gateway, 1.0)
    tx.execute(update(gateways).where(gateways.c.name == gateway).values(swept_until=until))


def _doubtful(tx: Transaction, message_id: int, attempt_id: str) -> Row[Any] | None:
    """The message if it is still in doubt by that attempt: a receipt may have been faster than the answer."""
    same = and_(messages.c.id == message_id, messages.c.attempt_id == attempt_id, messages.c.state == "unknown")
    return tx.execute(select(messages).where(same)).first()


def _still(row: Row[Any]) -> Any:
    same = and_(messages.c.id == row.id, messages.c.attempt_id == row.attempt_id, messages.c.state == "unknown")
    return update(messages).where(same)


def _note(tx: Transaction, row: Row[Any], answer: str, reason: str | None) -> int:
    """Keep an answer; returns how often the gateway was asked about this attempt."""
    asked = {"message_id": row.id, "attempt_id": row.attempt_id, "answer": answer, "reason": reason, "at": tx.now}
    tx.execute(insert(asks), asked)
    same = and_(asks.c.message_id == row.id, asks.c.attempt_id == row.attempt_id)
    return int(tx.scalar(select(func.count()).select_from(asks).where(same)))


def _ask_again(tx: Transaction, row: Row[Any], times: int) -> str:
    if times > len(AGAIN):
        return _leave(tx, row, row.reason)
    tx.execute(_still(row).values(ask_at=tx.now + AGAIN[times - 1]))
    return "unknown"


def _leave(tx: Transaction, row: Row[Any], reason: str | None) -> str:
    """To a person."""
    tx.execute(_still(row).values(state="unresolved", reason=reason, ask_at=None, settled_at=tx.now))
    return "unresolved"


def _as_it_left(tx: Transaction, row: Row[Any]) -> str | None:
    """The text with its code, if it carried one; None if the code was made anew since."""
    if row.code_id is None:
        return str(row.body)
    code = tx.execute(select(codes_table).where(codes_table.c.id == row.code_id)).first()
    if code is None or row.created_at < code.expires_at - codes.LIFE:
        return None
    return str(row.body).replace(codes.mask(code.length), codes.digits(codes.secret_of(tx), code.nonce, code.length))


def _others(row: Row[Any]) -> Any:
    key = CHANNELS[row.channel].key_column
    return and_(
        messages.c[key] == row._mapping[key],
        messages.c.direction == "out",
        messages.c.gateway == row.gateway,
        messages.c.id != row.id,
    )


def _ids_of_others(tx: Transaction, row: Row[Any]) -> frozenset[str]:
    named = select(messages.c.gateway_id).where(_others(row), messages.c.gateway_id.is_not(None))
    return frozenset(tx.execute(named).scalars())


def _has_twin(tx: Transaction, row: Row[Any]) -> bool:
    nameless = and_(messages.c.gateway_id.is_(None), messages.c.state.in_(("sending", "unknown", "unresolved")))
    return bool(tx.scalar(select(exists().where(_others(row), messages.c.body == row.body, nameless))))
