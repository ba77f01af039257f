"""What is open between the programme and one phone: an invitation, a move, a doubt, or which of two a text was meant for.

One at most is open on a phone.  A conversation *waits* until the text that opens it is handed over, is *open* while the phone may
answer, is *suspended* while another one that interrupts is open, and is *closed* in the end, once.  What was suspended is put
to the phone again when that other one is over.  What an answer brings about is the business of whoever asked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, Row, and_, bindparam, exists, insert, or_, select, update

from storage.database import Transaction
from storage.messages import openings
from storage.rules import phone_keys
from storage.schema import Moment, conversations, messages

MOVES: Mapping[str, frozenset[str]] = {
    "waiting": frozenset({"open", "closed"}),
    "open": frozenset({"waiting", "suspended", "closed"}),
    "suspended": frozenset({"open", "closed"}),
    "closed": frozenset(),
}
"""What a conversation may become from each state."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What holds for a kind of conversation: whether it interrupts what is open, and how long it waits for an answer."""

    interrupts: bool
    life: timedelta | None


KINDS: dict[str, Kind] = {
    "invite": Kind(interrupts=True, life=timedelta(days=7)),
    "move": Kind(interrupts=True, life=timedelta(days=7)),
    "doubt": Kind(interrupts=True, life=None),
    "which": Kind(interrupts=True, life=timedelta(days=1)),
}
"""`invite`: is this your phone?  `move`: the same, of a new number.  `doubt`: did you mean STOP?  `which`: was that your answer?"""

LIVE = ("waiting", "open", "suspended")
NEVER_LEFT = ("refused", "withheld", "expired", "cancelled", "undelivered")
"""States of the text that puts a question in which nobody will answer it."""

_c = conversations.c
_not_over = or_(_c.waits_until.is_(None), _c.waits_until > bindparam("now", type_=Moment))

OPEN_ON = select(conversations).where(_c.phone_key == bindparam("phone_key"), _c.state == "open", _not_over)


def begin(
    tx: Transaction,
    phone: str,
    kind: str,
    *,
    message_id: int,
    case_id: int | None = None,
    operation_id: int | None = None,
    about: int | None = None,
    answer_id: int | None = None,
) -> int:
    """Write down a conversation that this text will open when it leaves; returns its row id.

    Of a `which`, `about` is the conversation that may have been meant and `answer_id` the text that may answer it.
    """
    life = KINDS[kind].life
    row = {
        "phone": phone,
        "phone_key": phone_keys.key(phone),
        "kind": kind,
        "case_id": case_id,
        "operation_id": operation_id,
        "about": about,
        "answer_id": answer_id,
        "message_id": message_id,
        "state": "waiting",
        "turn": 1,
        "asked_at": tx.now,
        "waits_until": None if life is None else tx.now + life,
    }
    number = int(tx.execute(insert(conversations).returning(_c.id), row).scalar_one())
    tx.execute(update(messages).where(messages.c.id == message_id).values(conversation_id=number))
    return number


def say_again(tx: Transaction, number: int, message_id: int) -> None:
    """Note the text by which a question is put once more; where it is suspended, that text opens it again."""
    tx.execute(update(conversations).where(_c.id == number).values(message_id=message_id, turn=_c.turn + 1))
    tx.execute(update(messages).where(messages.c.id == message_id).values(conversation_id=number))


def close(tx: Transaction, number: int, outcome: str) -> bool:
    """End a conversation, once: `yes`, `no`, `stopped`, `withdrawn`, `stale`, `expired` or `failed`; False if it was over."""
    return _move(tx, "closed", _c.id == number, closed_at=tx.now, outcome=outcome) > 0


def close_all(tx: Transaction, phone: str, outcome: str, *, but: str | None = None) -> None:
    """End all that is not over on a phone, but for one kind if named."""
    theirs = (_c.phone_key == phone_keys.key(phone), _c.state.in_(LIVE))
    others = () if but is None else (_c.kind != but,)
    _move(tx, "closed", and_(*theirs, *others), closed_at=tx.now, outcome=outcome)


def open_on(tx: Transaction, phone: str) -> Row[Any] | None:
    """The conversation that is open on a phone, or None."""
    return tx.execute(OPEN_ON, {"phone_key": phone_keys.key(phone), "now": tx.now}).first()


def live_on(tx: Transaction, phone: str) -> list[Row[Any]]:
    """All that is not over on a phone: what waits, what is open and what is suspended, oldest first."""
    query = select(conversations).where(_c.phone_key == phone_keys.key(phone), _c.state.in_(LIVE), _not_over)
    return list(tx.execute(query.order_by(_c.id), {"now": tx.now}))


def conversation(tx: Transaction, number: int) -> Row[Any] | None:
    """One conversation, or None."""
    return tx.execute(select(conversations).where(_c.id == number)).first()


def asked_by(tx: Transaction, operation: int) -> Row[Any] | None:
    """The newest conversation that an operation began, over or not."""
    query = select(conversations).where(_c.operation_id == operation).order_by(_c.id.desc())
    return tx.execute(query.limit(1)).first()


def to_resume(tx: Transaction, phone: str | None = None) -> list[Row[Any]]:
    """What is suspended with nothing else open on its phone and is not put again yet, the newest of each phone.

    Of one phone if it is named, else of all; looked for by state, so that a death in between forgets none.
    """
    other, text = conversations.alias("other"), messages.alias("text")
    busy = exists().where(
        other.c.phone_key == _c.phone_key,
        other.c.id != _c.id,
        or_(other.c.state.in_(("open", "waiting")), and_(other.c.state == "suspended", other.c.id > _c.id)),
    )
    on_its_way = exists().where(text.c.id == _c.message_id, text.c.state.in_(("queued", "claimed", "sending")))
    query = select(conversations).where(_c.state == "suspended", ~busy, ~on_its_way, _not_over)
    if phone is not None:
        query = query.where(_c.phone_key == phone_keys.key(phone))
    return list(tx.execute(query.order_by(_c.id), {"now": tx.now}))


def tend(tx: Transaction) -> int:
    """End what ran out of time and what never reached its phone, and let wait what certainly did not leave; returns how many."""
    over = _move(tx, "closed", and_(_c.state.in_(LIVE), _c.waits_until <= tx.now), closed_at=tx.now, outcome="expired")
    text = messages.alias("text")
    failed = exists().where(text.c.id == _c.message_id, text.c.state.in_(NEVER_LEFT))
    unasked = and_(_c.state.in_(("waiting", "open")), failed)
    over += _move(tx, "closed", unasked, closed_at=tx.now, outcome="failed")
    back = exists().where(text.c.id == _c.message_id, text.c.state == "queued", text.c.attempts > 0)
    return over + _move(tx, "waiting", and_(_c.state == "open", _c.turn == 1, back), opened_at=None)


def open_by(tx: Transaction, turns: Sequence[openings.Turn]) -> set[int]:
    """Open what these texts open as they leave; returns the texts that must wait, for another is open on their phone."""
    return {turn.message_id for turn in turns if not _open(tx, turn)}


def _open(tx: Transaction, turn: openings.Turn) -> bool:
    row = conversation(tx, turn.conversation_id)
    if row is None or row.state == "closed" or row.message_id != turn.message_id:
        return True  # it opens nothing any more: what is over is not asked again by a text that was on its way
    if row.state == "open":
        return True
    others = and_(_c.phone_key == row.phone_key, _c.state == "open", _c.id != row.id)
    _move(tx, "closed", and_(others, _c.waits_until <= tx.now), closed_at=tx.now, outcome="expired")
    if KINDS[row.kind].interrupts:
        _move(tx, "suspended", others)
    free = ~exists().where(_others_open(row))
    return _move(tx, "open", and_(_c.id == row.id, free), opened_at=tx.now) > 0


def _others_open(row: Row[Any]) -> ColumnElement[bool]:
    other = conversations.alias("other_open")
    return and_(other.c.phone_key == row.phone_key, other.c.state == "open", other.c.id != row.id)


def _move(tx: Transaction, to: str, which: ColumnElement[bool], **values: Any) -> int:
    """One guarded move: only from a state that may become this one; returns how many moved."""
    froms = sorted(state for state, may_become in MOVES.items() if to in may_become)
    moved = update(conversations).where(_c.state.in_(froms), which).values(state=to, **values)
    return tx.execute(moved).rowcount


openings.register(open_by)
