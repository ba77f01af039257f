"""A gateway's signed request becomes rows: now, or from the spool once the database is back.

Nothing is acknowledged that is not on a disk.  While the database cannot keep a request it waits in the spool, and so do
those after it, so that all are acted on in the order in which they came.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from sqlalchemy import Row
from sqlalchemy.exc import DBAPIError

from bot.gateways.base import Forged, Gateway, Receipt, Request, Unreadable
from bot.inbound import listeners, opt_outs
from bot.inbound.spool import OUTAGES, Kept, Spool
from storage import private_files
from storage.audit import Actor
from storage.database import Database, Transaction
from storage.messages import receipts
from storage.programme import rate_limits

log = logging.getLogger(__name__)

T = TypeVar("T")


def spool_of(db: Database, file: str | None = None) -> Spool:
    """The spool of a database: the file named, or one beside a SQLite file, or one in the folder of the process."""
    return Spool(private_files.spool_of(db.file, file))


def take_inbound(db: Database, gateway: Gateway, request: Request) -> int:
    """Keep the texts of a signed request and act on each once; returns the HTTP status to answer."""
    return take(db, {gateway.name: gateway}, Kept(gateway.name, request, None, db.clock()), spool_of(db))


def take(db: Database, gateways: Mapping[str, Gateway], kept: Kept, spool: Spool) -> int:
    """Keep a signed request and act on it, now or as soon as the database can; returns the HTTP status to answer."""
    gateway = gateways[kept.gateway]
    try:
        gateway.verify(kept.request)
        parsed = _parsed(gateway, kept)
    except Forged:
        return 403
    except Unreadable as fault:
        # A gateway that is set up wrongly loses texts here, and only this line says so.
        log.warning("a webhook of %s was refused: %s", gateway.name, fault)
        return 400
    try:
        play_spool(db, gateways, spool)
        if spool.is_empty():
            parsed(db)
            return 200
    except OUTAGES as fault:
        log.error("a webhook of %s waits in the spool: %s", gateway.name, type(fault).__name__)
    except DBAPIError as fault:
        log.error("a webhook of %s could not be kept: %s", gateway.name, type(fault).__name__)
        return 503
    try:
        # Behind what waits already: a START must not overtake the STOP before it.
        spool.keep(kept)
    except OSError as fault:
        log.error("a webhook of %s could not be kept, nor spooled: %s", gateway.name, type(fault).__name__)
        return 503
    return 200


def play_spool(db: Database, gateways: Mapping[str, Gateway], spool: Spool) -> int:
    """Act on what waits in the spool, in order; returns how many.  Raises one of `OUTAGES` while the database is away."""

    def act(kept: Kept) -> None:
        # Verified before it was written: a secret that was changed since must not lose it.
        _parsed(gateways[kept.gateway], kept, late=True)(db)

    return spool.play(act)


def _parsed(gateway: Gateway, kept: Kept, *, late: bool = False) -> Callable[[Database], None]:
    """What a verified request asks for; raises Unreadable."""
    if kept.message_id is not None:
        receipts = gateway.parse_receipt(kept.request, kept.message_id)
        return lambda db: _each(receipts, lambda receipt: _keep(db, gateway.name, receipt))
    texts = gateway.parse_inbound(kept.request)
    if late:
        texts = [replace(text, sent_at=text.sent_at or kept.at) for text in texts]
    return lambda db: _each(texts, lambda text: listeners.take(db, gateway.name, text))


def _each(what: list[T], act: Callable[[T], object]) -> None:
    for one in what:
        act(one)


def _keep(db: Database, gateway: str, receipt: Receipt) -> bool:
    which: dict[str, Any] = {
        "gateway": gateway,
        "message_id": receipt.message_id,
        "gateway_id": receipt.gateway_id,
        "attempt_id": receipt.attempt_id,
    }
    with db.transaction(in_turn=receipt.opted_out) as tx:
        moved = receipts.receive_receipt(tx, **which, state=receipt.state, word=receipt.word, code=receipt.code)
        if receipt.opted_out or receipt.trouble is not None:
            # Only of our own message: after a restore the same number may stand for a text to another person.
            _act_on(tx, receipts.of_receipt(tx, **which), receipt, moved=moved)
    return moved


def _act_on(tx: Transaction, message: Row[Any] | None, receipt: Receipt, *, moved: bool) -> None:
    """What a receipt means beyond its message: its recipient told the gateway to stop, or it holds up what comes after."""
    if message is None:
        return
    if receipt.opted_out:
        opt_outs.note_opt_out(tx, message.id, by=Actor("gateway", None, f"receipt of {message.id}"))
    if receipt.trouble is not None and moved:
        because = f"{receipt.trouble.reason} ({receipt.code})"
        whole = receipt.trouble.scope == "gateway"
        left_at = message.handed_over_at
        own_number = None if whole else message.own_number
        until = rate_limits.hold_up(tx, message.gateway, own_number, receipt.trouble.hold, because, left_at=left_at)
        if until is not None:
            log.error("gateway %s holds back, by a receipt: %s", message.gateway, because)
