"""Whether a number may be texted: STOP and START events per number, kept apart from verification.

The last event holds, for the whole programme, across cases, groups, gateways and uploads.  It holds on its channel alone:
a phone that says STOP has said nothing of e-mail.  A number is never opted in again by an ordinary message.  A text that may mean STOP is a `doubt`: the phone is asked, and until it answers nothing
else is sent to it, however long that takes (47 CFR 64.1200(a)(12) takes silence after a clarification for a STOP).  `hear` is called outside the part of a transaction that can be rolled back, in order of
receipt, so that a START tried again later never undoes a STOP that came after it.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from functools import cache
from typing import Any, Literal

from sqlalchemy import ColumnElement, Row, Select, Text, and_, bindparam, func, insert, select

from storage import audit
from storage.audit import Actor
from storage.database import Transaction
from storage.rules import phone_keys
from storage.rules.channels import SMS, Channel
from storage.schema import consent_events, messages

Kind = Literal["stop", "start", "doubt"]
HOLDING = ("stop", "doubt")


def about(channel: Channel, key: Any) -> ColumnElement[bool]:
    """An SQL condition: an event is of this channel, and of the address whose key this is, a value or a column."""
    return and_(consent_events.c.channel == channel.name, consent_events.c[channel.key_column] == key)


@cache
def _newest_of(channel: Channel) -> Select[Any]:
    """What the address `phone_key` said last on a channel; built once, for it is asked at every text."""
    theirs = about(channel, bindparam("phone_key", type_=Text))
    return select(consent_events.c.kind).where(theirs).order_by(consent_events.c.id.desc()).limit(1)


NEWEST = _newest_of(SMS)


def is_stopped(phone_key: ColumnElement[Any]) -> ColumnElement[bool]:
    """An SQL condition: the phone whose key is in this column said stop, or may have, and no start came after it."""
    return func.coalesce(said_last(phone_key), "start").in_(HOLDING)


def said_last(key: ColumnElement[Any], channel: Channel = SMS) -> ColumnElement[Any]:
    """The newest event of the phone, or other address, whose key is in this column, in SQL: stop, start or doubt; NULL if there is none."""
    return (
        select(consent_events.c.kind)
        .where(about(channel, key))
        .order_by(consent_events.c.id.desc())
        .limit(1)
        .correlate_except(consent_events)
        .scalar_subquery()
    )


def may_text(tx: Transaction, address: str, channel: Channel = SMS) -> bool:
    """Whether this number, or other address, may be texted now."""
    return newest(tx, address, channel) not in HOLDING


def newest(tx: Transaction, address: str, channel: Channel = SMS) -> Kind | None:
    """What this number, or other address, said last; None if it never said anything."""
    found: Kind | None = tx.scalar(_newest_of(channel), {"phone_key": channel.compared(address)})
    return found


def hear(
    tx: Transaction,
    address: str,
    kind: Kind,
    *,
    words: str,
    message_id: int | None,
    may_be: Iterable[str] = (),
    channel: Channel = SMS,
    by: Actor,
) -> bool:
    """Keep a STOP, a START or a doubt; returns whether it changed what the number, or other address, last said.

    `may_be` are the keys of other phones that this one may be: they are stopped with it, and started again only where it was
    this number that stopped them.
    """
    last = newest(tx, address, channel)
    event = {
        **channel.columns(address),
        "kind": kind,
        "words": words[:200],
        "message_id": message_id,
        "person_id": by.person_id,
        "door": by.door,
        "at": tx.now,
    }
    others = {*may_be, *phone_keys.may_be(address)} - {event["phone_key"]} if channel.by_phone else set()
    for other in sorted(others):
        if kind != "start" or _said_by(tx, other, channel) == address:
            tx.execute(insert(consent_events), {**event, "phone_key": other})
    event_id = tx.execute(insert(consent_events).returning(consent_events.c.id), event).scalar_one()
    audit.record(tx, f"consent.{kind}", "consent", event_id, by=by)
    return last != kind and not (kind == "start" and last is None)


def _said_by(tx: Transaction, phone_key: str, channel: Channel) -> str | None:
    """From which number the newest word about a phone came."""
    newest = select(consent_events.c.phone).where(about(channel, phone_key))
    found: str | None = tx.scalar(newest.order_by(consent_events.c.id.desc()).limit(1))
    return found


def said_since(tx: Transaction, phone: str, since: datetime) -> set[Kind]:
    """What a number said after a moment, by when each text was sent: a text that comes late must not undo it."""
    said_at = func.coalesce(messages.c.sent_at, consent_events.c.at)
    heard = consent_events.outerjoin(messages, messages.c.id == consent_events.c.message_id)
    theirs = about(SMS, phone_keys.key(phone))
    query = select(consent_events.c.kind).select_from(heard).where(theirs, said_at > since)
    return set(tx.execute(query).scalars())


def heard_in(tx: Transaction, phone: str, message_id: int) -> Kind | None:
    """What was heard in one text of a number; None if that text said nothing of it."""
    query = select(consent_events.c.kind).where(
        about(SMS, phone_keys.key(phone)), consent_events.c.message_id == message_id
    )
    found: Kind | None = tx.scalar(query.order_by(consent_events.c.id.desc()).limit(1))
    return found


def history(tx: Transaction, address: str, channel: Channel = SMS) -> list[Row[Any]]:
    """Every STOP and START of a number, or other address, oldest first."""
    theirs = about(channel, channel.compared(address))
    return list(tx.execute(select(consent_events).where(theirs).order_by(consent_events.c.id)))
