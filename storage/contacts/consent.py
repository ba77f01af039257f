"""Whether a number may be texted: STOP and START events per number, kept apart from verification.

The last event holds, for the whole programme, across cases, groups, gateways and uploads.  A number is never opted in
again by an ordinary message.  A text that may mean STOP is a `doubt`: the phone is asked, and until it answers nothing
else is sent to it, however long that takes (47 CFR 64.1200(a)(12) takes silence after a clarification for a STOP).  `hear` is called outside the part of a transaction that can be rolled back, in order of
receipt, so that a START tried again later never undoes a STOP that came after it.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import ColumnElement, Row, bindparam, func, insert, select

from storage import audit
from storage.audit import Actor
from storage.database import Transaction
from storage.rules import phone_keys
from storage.schema import consent_events, messages

Kind = Literal["stop", "start", "doubt"]
HOLDING = ("stop", "doubt")

NEWEST = (
    select(consent_events.c.kind)
    .where(consent_events.c.phone_key == bindparam("phone_key"))
    .order_by(consent_events.c.id.desc())
    .limit(1)
)


def is_stopped(phone_key: ColumnElement[Any]) -> ColumnElement[bool]:
    """An SQL condition: the phone whose key is in this column said stop, or may have, and no start came after it."""
    return func.coalesce(said_last(phone_key), "start").in_(HOLDING)


def said_last(phone_key: ColumnElement[Any]) -> ColumnElement[Any]:
    """The newest event of the phone whose key is in this column, in SQL: stop, start or doubt; NULL if there is none."""
    return (
        select(consent_events.c.kind)
        .where(consent_events.c.phone_key == phone_key)
        .order_by(consent_events.c.id.desc())
        .limit(1)
        .correlate_except(consent_events)
        .scalar_subquery()
    )


def may_text(tx: Transaction, phone: str) -> bool:
    """Whether this number may be texted now."""
    return newest(tx, phone) not in HOLDING


def newest(tx: Transaction, phone: str) -> Kind | None:
    """What this number said last; None if it never said anything."""
    return _newest(tx, phone_keys.key(phone))


def _newest(tx: Transaction, phone_key: str) -> Kind | None:
    found: Kind | None = tx.scalar(NEWEST, {"phone_key": phone_key})
    return found


def hear(
    tx: Transaction,
    phone: str,
    kind: Kind,
    *,
    words: str,
    message_id: int | None,
    may_be: Iterable[str] = (),
    by: Actor,
) -> bool:
    """Keep a STOP, a START or a doubt; returns whether it changed what the number last said.

    `may_be` are the keys of other phones that this one may be: they are stopped with it, and started again only where it was
    this number that stopped them.
    """
    own, last = phone_keys.key(phone), newest(tx, phone)
    event = {
        "phone": phone,
        "phone_key": own,
        "kind": kind,
        "words": words[:200],
        "message_id": message_id,
        "person_id": by.person_id,
        "door": by.door,
        "at": tx.now,
    }
    for other in sorted({*may_be, *phone_keys.may_be(phone)} - {own}):
        if kind != "start" or _said_by(tx, other) == phone:
            tx.execute(insert(consent_events), {**event, "phone_key": other})
    event_id = tx.execute(insert(consent_events).returning(consent_events.c.id), event).scalar_one()
    audit.record(tx, f"consent.{kind}", "consent", event_id, by=by)
    return last != kind and not (kind == "start" and last is None)


def _said_by(tx: Transaction, phone_key: str) -> str | None:
    """From which number the newest word about a phone came."""
    newest = select(consent_events.c.phone).where(consent_events.c.phone_key == phone_key)
    found: str | None = tx.scalar(newest.order_by(consent_events.c.id.desc()).limit(1))
    return found


def said_since(tx: Transaction, phone: str, since: datetime) -> set[Kind]:
    """What a number said after a moment, by when each text was sent: a text that comes late must not undo it."""
    said_at = func.coalesce(messages.c.sent_at, consent_events.c.at)
    heard = consent_events.outerjoin(messages, messages.c.id == consent_events.c.message_id)
    theirs = consent_events.c.phone_key == phone_keys.key(phone)
    query = select(consent_events.c.kind).select_from(heard).where(theirs, said_at > since)
    return set(tx.execute(query).scalars())


def heard_in(tx: Transaction, phone: str, message_id: int) -> Kind | None:
    """What was heard in one text of a number; None if that text said nothing of it."""
    query = select(consent_events.c.kind).where(
        consent_events.c.phone_key == phone_keys.key(phone), consent_events.c.message_id == message_id
    )
    found: Kind | None = tx.scalar(query.order_by(consent_events.c.id.desc()).limit(1))
    return found


def history(tx: Transaction, phone: str) -> list[Row[Any]]:
    """Every STOP and START of a number, oldest first."""
    theirs = consent_events.c.phone_key == phone_keys.key(phone)
    return list(tx.execute(select(consent_events).where(theirs).order_by(consent_events.c.id)))
