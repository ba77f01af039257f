"""The life of a message in words: who asked, by which text, what let it go or held it, attempts, receipts."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row

from bot.replies import sentences
from storage import broadcasts, messages, operations, people
from storage.database import Transaction
from storage.errors import Problem
from storage.messages import MEANINGS


def life(tx: Transaction, number: int) -> list[dict[str, Any]]:
    """What happened to a message, oldest first: `at` and `what`.  Raises Problem `message-unknown`."""
    row = messages.message(tx, number)
    if row is None:
        raise Problem("message-unknown", number=number)
    return _of_inbound(row) if row.direction == "in" else _of_outbound(tx, row)


def _of_inbound(row: Row[Any]) -> list[dict[str, Any]]:
    steps = [_step(row.created_at, f"came in by {row.gateway} as {row.gateway_id}")]
    if row.attempts:
        steps.append(_step(row.settled_at, f"handling failed {row.attempts} times ({row.reason})"))
    if row.state == "handled":
        steps.append(_step(row.settled_at, f"taken for: {row.handled_as}"))
    elif row.state == "set_aside":
        steps.append(_step(row.settled_at, "set aside after three tries: a person must look"))
    return steps


def _of_outbound(tx: Transaction, row: Row[Any]) -> list[dict[str, Any]]:
    steps = []
    if row.broadcast_id is not None:
        steps += _why_asked(tx, row.broadcast_id)
    elif row.reply_to is not None:
        steps.append(_step(row.created_at, f"answers text {row.reply_to}"))
    steps.append(_step(row.created_at, f"put into the outbox as {row.kind} for gateway {row.gateway}"))
    if row.handed_over_at is not None:
        steps.append(_step(row.handed_over_at, f"handed to the gateway, attempt {row.attempts} ({row.attempt_id})"))
    for receipt in messages.receipts_of(tx, row.id):
        code = f", code {receipt.code}" if receipt.code else ""
        moved = "" if receipt.moved else ", which changed nothing"
        steps.append(_step(receipt.at, f"receipt: {receipt.word}{code}{moved}"))
    steps.sort(key=lambda step: step["at"])
    why = sentences("en").reason(row.reason, row.code) if row.reason else MEANINGS[row.state]
    gateway_id = f" ({row.gateway_id})" if row.gateway_id else ""
    steps.append(_step(row.settled_at or row.created_at, f"now {row.state}{gateway_id}: {why}"))
    return steps


def _why_asked(tx: Transaction, number: int) -> list[dict[str, Any]]:
    operation = operations.operation(tx, number)
    assert operation is not None
    broadcast = broadcasts.broadcast(tx, number)
    asker = people.named(tx, operation.person_id)
    by_text = f", by text {operation.message_id}" if operation.message_id else ""
    steps = [_step(operation.asked_at, f"{asker} asked for {number} through {operation.door}{by_text}")]
    if broadcast.launched_at is not None:
        held = f"confirmed; held until {broadcast.hold_until:%H:%M:%S} UTC"
        steps.append(_step(broadcast.launched_at, held))
    return steps


def _step(at: object, what: str) -> dict[str, Any]:
    return {"at": at, "what": what}
