"""What gateways report of a message afterwards: every receipt is kept, and moves the message only forward.

A receipt may come before the answer to the call that it reports on; then it waits for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Row,
    and_,
    bindparam,
    exists,
    func,
    or_,
    select,
    true,
    update,
)

from storage.audit import Actor
from storage.bulk import insert_new
from storage.contacts import consent
from storage.database import Transaction
from storage.messages.lookups import count_since
from storage.messages.states import MOVES, RESTORED
from storage.rules.channels import CHANNELS
from storage.schema import attempts, messages, receipts


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
    row = tx.execute(select(*messages.c["channel", "phone", "address"]).where(messages.c.id == message_id)).first()
    if row is None or (address := row.address or row.phone) is None:
        return
    channel = CHANNELS[row.channel]
    if consent.newest(tx, address, channel) != "stop":
        consent.hear(tx, address, "stop", words="(told by the gateway)", message_id=message_id, channel=channel, by=by)


def receipts_of(tx: Transaction, message_id: int) -> list[Row[Any]]:
    """The receipts of a message, in the order in which they came."""
    return list(tx.execute(select(receipts).where(receipts.c.message_id == message_id).order_by(receipts.c.id)))


def count_receipts(tx: Transaction, since: datetime) -> dict[str, int]:
    """How many receipts have come since then, by the state of which they tell."""
    return count_since(tx, receipts, since)


def newest_receipt(tx: Transaction) -> int:
    """The id of the newest receipt; 0 if there is none."""
    return int(tx.scalar(select(func.max(receipts.c.id))) or 0)


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
