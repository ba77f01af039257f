"""Whether a number may be texted: STOP and START events per number, kept apart from verification.

The last event holds, for the whole programme, across cases, groups, gateways and uploads.  A number is never opted in
again by an ordinary message.  `hear` is called outside the part of a transaction that can be rolled back, in order of
receipt, so that a START tried again later never undoes a STOP that came after it.
"""

from __future__ import annotations

from typing import Any, Literal

from sqlalchemy import ColumnElement, Row, insert, select

from storage import audit
from storage.audit import Actor
from storage.database import Transaction
from storage.schema import consent_events

Kind = Literal["stop", "start"]


def is_stopped(phone: ColumnElement[Any]) -> ColumnElement[bool]:
    """An SQL condition: the number in this column said stop, and no start came after it."""
    newest = (
        select(consent_events.c.kind)
        .where(consent_events.c.phone == phone)
        .order_by(consent_events.c.id.desc())
        .limit(1)
        .correlate_except(consent_events)
        .scalar_subquery()
    )
    return newest.is_not_distinct_from("stop")


def may_text(tx: Transaction, phone: str) -> bool:
    """Whether this number may be texted now."""
    newest = select(consent_events.c.kind).where(consent_events.c.phone == phone).order_by(consent_events.c.id.desc())
    return bool(tx.scalar(newest.limit(1)) != "stop")


def hear(tx: Transaction, phone: str, kind: Kind, *, words: str, message_id: int | None, by: Actor) -> bool:
    """Keep a STOP or START; returns whether it changed anything."""
    changed = may_text(tx, phone) == (kind == "stop")
    event = {
        "phone": phone,
        "kind": kind,
        "words": words[:200],
        "message_id": message_id,
        "person_id": by.person_id,
        "door": by.door,
        "at": tx.now,
    }
    event_id = tx.execute(insert(consent_events).returning(consent_events.c.id), event).scalar_one()
    audit.record(tx, f"consent.{kind}", "consent", event_id, by=by)
    return changed


def history(tx: Transaction, phone: str) -> list[Row[Any]]:
    """Every STOP and START of a number, oldest first."""
    return list(tx.execute(select(consent_events).where(consent_events.c.phone == phone).order_by(consent_events.c.id)))
