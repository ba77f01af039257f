"""What stands in the database round one message: all that its life is told by.

Only looks.  Who asked and who confirmed is read from the audit log, where it cannot be quietly edited.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Row, and_, or_, select

from storage.contacts import consent
from storage.database import Transaction
from storage.operations.codes import LIFE
from storage.rules.channels import CHANNELS
from storage.schema import (
    audit,
    cases,
    codes,
    consent_events,
    conversations,
    groups,
    memberships,
    messages,
    operations,
    people,
)


def deeds(tx: Transaction, number: int) -> list[Row[Any]]:
    """What was done with an operation and its broadcast, oldest first: `at`, `verb`, `door`, `source`, `person`."""
    about = and_(audit.c.subject.in_(("operation", "broadcast")), audit.c.subject_id == number)
    return _lines(tx, about)


def effects(tx: Transaction, message_id: int) -> list[Row[Any]]:
    """What an inbound text did, oldest first: `at`, `verb`, `subject`, `subject_id`, `facts`, `person`."""
    return _lines(tx, audit.c.source == f"message {message_id}")


def operations_of(tx: Transaction, message_id: int) -> list[Row[Any]]:
    """The operations that an inbound text opened."""
    query = select(operations).where(operations.c.message_id == message_id)
    return list(tx.execute(query.order_by(operations.c.id)))


def codes_of(tx: Transaction, number: int) -> list[Row[Any]]:
    """The codes of an operation, one for each person, never their digits: `person` and `used_at`."""
    query = select(codes.c.used_at, people.c.name.label("person")).join(people, people.c.id == codes.c.person_id)
    return list(tx.execute(query.where(codes.c.operation_id == number).order_by(codes.c.id)))


def previews_of(tx: Transaction, number: int) -> list[Row[Any]]:
    """Every message of ours that carried a code of an operation, oldest first.

    Each has `id`, `state`, `created_at`, `reply_to`, the `person` it was for, and the `code_expires_at` of the code as
    it is now, by which `is_replaced` tells whether this one still carried it.
    """
    query = (
        select(
            messages.c.id, messages.c.state, messages.c.created_at, messages.c.reply_to,
            people.c.name.label("person"), codes.c.expires_at.label("code_expires_at"),
        )
        .join(codes, codes.c.id == messages.c.code_id)
        .join(people, people.c.id == codes.c.person_id)
        .where(codes.c.operation_id == number)
    )  # fmt: skip
    return list(tx.execute(query.order_by(messages.c.id)))


def is_replaced(written_at: datetime, code_expires_at: datetime) -> bool:
    """Whether the code of a message written then was made anew since, for other words: as the gate asks it."""
    return written_at < code_expires_at - LIFE


def operation_of_code(tx: Transaction, code_id: int) -> Row[Any] | None:
    """For which operation a code is: `operation_id`, `used_at`, `expires_at`."""
    return tx.execute(select(codes).where(codes.c.id == code_id)).first()


def question_of(tx: Transaction, row: Row[Any]) -> Row[Any] | None:
    """The conversation that a message of ours is a turn of: `operation_id`, `kind`, `outcome`, `closed_at`, `waits_until`."""
    return tx.execute(select(conversations).where(conversations.c.id == row.conversation_id)).first()


def group_named(tx: Transaction, group_id: int) -> str:
    """The short name of a group, also of one that was deleted."""
    return str(tx.scalar(select(groups.c.short).where(groups.c.id == group_id)))


def answers_to(tx: Transaction, message_id: int) -> list[Row[Any]]:
    """What was queued because of an inbound text, oldest first, with the `person` it is to."""
    query = select(messages, people.c.name.label("person")).outerjoin(people, people.c.id == messages.c.person_id)
    query = query.where(messages.c.id > message_id, messages.c.reply_to == message_id)
    return list(tx.execute(query.order_by(messages.c.id)))


def consent_round(tx: Transaction, row: Row[Any]) -> list[Row[Any]]:
    """The consent events that bear on a message: the one that held when it was queued, and those until it was settled."""
    channel = CHANNELS[row.channel]
    theirs = consent.about(channel, row._mapping[channel.key_column])
    before = select(consent_events.c.id).where(theirs, consent_events.c.at < row.created_at)
    held = before.order_by(consent_events.c.id.desc()).limit(1).scalar_subquery()
    during = and_(consent_events.c.at >= row.created_at, consent_events.c.at <= (row.settled_at or tx.now))
    query = select(consent_events).where(theirs, or_(consent_events.c.id == held, during))
    return list(tx.execute(query.order_by(consent_events.c.id)))


def consent_in(tx: Transaction, message_id: int) -> list[Row[Any]]:
    """The consent events that an inbound text made."""
    query = select(consent_events).where(consent_events.c.message_id == message_id)
    return list(tx.execute(query.order_by(consent_events.c.id)))


def same_phone(tx: Transaction, row: Row[Any]) -> Row[Any] | None:
    """The message of the same broadcast that went to the same phone: its `id` and the `case_id` it is for."""
    query = select(messages.c.id, cases.c.case_id).join(cases, cases.c.id == messages.c.case_id)
    key = CHANNELS[row.channel].key_column
    same = and_(
        messages.c.broadcast_id == row.broadcast_id,
        messages.c.channel == row.channel,
        messages.c[key] == row._mapping[key],
        messages.c.id != row.id,
    )
    return tx.execute(query.where(same, messages.c.state != "withheld").limit(1)).first()


def left(tx: Transaction, row: Row[Any]) -> list[Row[Any]]:
    """Out of which groups of its broadcast a case was taken: `short`, `at`, `person`, `door`, `source`."""
    query = (
        select(groups.c.short, memberships.c.removed_at.label("at"), people.c.name.label("person"), audit.c.door, audit.c.source)
        .join_from(memberships, groups, groups.c.id == memberships.c.group_id)
        .join(audit, audit.c.id == memberships.c.removed_entry)
        .outerjoin(people, people.c.id == audit.c.person_id)
        .where(memberships.c.case_id == row.case_id, memberships.c.removed_at <= (row.settled_at or row.created_at))
    )  # fmt: skip
    return list(tx.execute(query.order_by(memberships.c.removed_at.desc()).limit(1)))


def case_of(tx: Transaction, row: Row[Any]) -> Row[Any] | None:
    """The case of a message, also a closed one."""
    return tx.execute(select(cases).where(cases.c.id == row.case_id)).first()


def _lines(tx: Transaction, which: Any) -> list[Row[Any]]:
    query = select(audit, people.c.name.label("person")).outerjoin(people, people.c.id == audit.c.person_id)
    return list(tx.execute(query.where(which).order_by(audit.c.id)))
