"""What leaves the database as a table: the columns of each export and its rows, one after another.

The rows are read as they are asked for, never all at once, and all of them inside the caller's one `reading()`: an
export is one moment of the database however long it takes.  A cell is text, a whole number, or None for a blank; how a
file writes it is for the door.

An export of cases can be imported again and then changes nothing.  A code never leaves: what we sent stands masked in
the outbox, and `hide_codes` masks what somebody typed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, Select, func, select

from storage import codes
from storage.contacts import PROPERTIES
from storage.database import Transaction
from storage.schema import (
    audit,
    broadcast_audience,
    broadcasts,
    cases,
    consent_events,
    groups,
    memberships,
    messages,
    operations,
    people,
)
from storage.schema import broadcast_texts as texts
from storage.schema import codes as codes_table

Cell = str | int | None

AT_ONCE = 2000
"""Rows fetched at once: more would only take more memory."""


@dataclass(frozen=True, slots=True)
class Export:
    """A table to be written: its columns, and its rows in a stable order."""

    columns: Sequence[str]
    rows: Iterator[list[Cell]]


def export(tx: Transaction, what: str) -> Export:
    """One of `WHAT`, to be read to its end before the transaction ends."""
    return WHAT[what](tx)


# -- cases -------------------------------------------------------------------------------------------------------------

_OF_A_CASE = ("case_id", *PROPERTIES)


def _cases(tx: Transaction) -> Export:
    """What `cases import` reads, further properties as columns in alphabetical order; a property not set is blank."""
    further: set[str] = set()
    for row in _stream(tx, select(cases.c.properties)):
        further.update(row.properties)
    names = sorted(further)
    query = select(*(cases.c[name] for name in _OF_A_CASE), cases.c.properties).order_by(cases.c.id)

    def rows() -> Iterator[list[Cell]]:
        for row in _stream(tx, query):
            yield [*map(_case_cell, row[:-1]), *(row.properties.get(name) for name in names)]

    return Export([*_OF_A_CASE, *names], rows())


def _case_cell(value: Any) -> Cell:
    """Everything in a sheet of cases is text: a phone number or an id must never become a number."""
    if isinstance(value, bool):
        return "1" if value else "0"
    return None if value is None else str(value)


# -- groups and members ------------------------------------------------------------------------------------------------


def _groups(tx: Transaction) -> Export:
    """The live groups."""
    counted = select(func.count()).where(memberships.c.group_id == groups.c.id, memberships.c.removed_at.is_(None))
    query = select(groups.c.short, groups.c.name, counted.scalar_subquery().label("members"), groups.c.created_at)
    return _plain(tx, query.where(groups.c.deleted_at.is_(None)).order_by(groups.c.short))


def _members(tx: Transaction) -> Export:
    """Who was in which group from when to when: the whole history, deleted groups too."""
    added, removed = audit.alias("added"), audit.alias("removed")
    adder, remover = people.alias("adder"), people.alias("remover")
    query = (
        select(
            groups.c.short.label("group"),
            groups.c.name.label("group_name"),
            cases.c.case_id,
            cases.c.external_id,
            cases.c.name,
            cases.c.contact_phone_number,
            memberships.c.added_at,
            func.coalesce(adder.c.name, "system").label("added_by"),
            added.c.door.label("added_door"),
            added.c.source.label("added_source"),
            memberships.c.removed_at,
            remover.c.name.label("removed_by"),
            removed.c.door.label("removed_door"),
            removed.c.source.label("removed_source"),
            groups.c.deleted_at.label("group_deleted_at"),
            removed.c.id.label("removed_entry"),
        )
        .join_from(memberships, groups, groups.c.id == memberships.c.group_id)
        .join(cases, cases.c.id == memberships.c.case_id)
        .join(added, added.c.id == memberships.c.added_entry)
        .outerjoin(adder, adder.c.id == added.c.person_id)
        .outerjoin(removed, removed.c.id == memberships.c.removed_entry)
        .outerjoin(remover, remover.c.id == removed.c.person_id)
        .order_by(memberships.c.id)
    )

    def rows() -> Iterator[list[Cell]]:
        by = columns.index("removed_by")
        for row in _stream(tx, query):
            cells: list[Cell] = list(map(_cell, row[:-1]))
            if row.removed_entry is not None and cells[by] is None:
                cells[by] = "system"
            yield cells

    columns = [column.name for column in query.selected_columns][:-1]
    return Export(columns, rows())


# -- messages, broadcasts, consent -------------------------------------------------------------------------------------

_OF_A_MESSAGE = (
    "id", "direction", "phone", "body", "state", "gateway", "gateway_id", "broadcast_id", "reason", "created_at",
    "code", "kind", "handled_as", "reply_to", "language", "segments", "attempts",
    "due_at", "expires_at", "handed_over_at", "settled_at",
)  # fmt: skip


def _messages(tx: Transaction) -> Export:
    """Every text in and out, oldest first, with the case and the person it is of."""
    query = select(
        *(messages.c[name] for name in _OF_A_MESSAGE),
        cases.c.case_id,
        cases.c.external_id,
        people.c.name.label("person"),
    )
    query = query.outerjoin(cases, cases.c.id == messages.c.case_id)
    query = query.outerjoin(people, people.c.id == messages.c.person_id).order_by(messages.c.id)
    hidden = hide_codes(tx)
    body, direction = _OF_A_MESSAGE.index("body"), _OF_A_MESSAGE.index("direction")

    def rows() -> Iterator[list[Cell]]:
        for row in _stream(tx, query):
            cells = [_cell(value) for value in row]
            if row[direction] == "in" and (row.person is not None or row.handled_as == "command"):
                cells[body] = hidden(row[body])
            yield cells

    return Export([column.name for column in query.selected_columns], rows())


def _broadcasts(tx: Transaction) -> Export:
    """Every broadcast, oldest first; `counts` is how many of its messages are in each state, as JSON."""
    counts: dict[int, dict[str, int]] = {}
    counted = select(messages.c.broadcast_id, messages.c.state, func.count().label("n"))
    counted = counted.where(messages.c.broadcast_id.is_not(None)).group_by(messages.c.broadcast_id, messages.c.state)
    for row in _stream(tx, counted):
        counts.setdefault(row.broadcast_id, {})[row.state] = row.n
    shorts: dict[int, list[str]] = {}
    whom = select(broadcast_audience.c.broadcast_id, groups.c.short)
    for row in _stream(tx, whom.join(groups, groups.c.id == broadcast_audience.c.group_id).order_by(groups.c.short)):
        shorts.setdefault(row.broadcast_id, []).append(row.short)
    query = (
        select(
            broadcasts.c.id,
            broadcasts.c.state,
            texts.c.text,
            broadcasts.c.recipients,
            func.coalesce(people.c.name, "system").label("asked_by"),
            operations.c.asked_at.label("created_at"),
            operations.c.state.label("operation_state"),
            *(broadcasts.c[name] for name in _OF_A_BROADCAST),
        )
        .join(operations, operations.c.id == broadcasts.c.id)
        .join(texts, (texts.c.broadcast_id == broadcasts.c.id) & (texts.c.language == broadcasts.c.language))
        .outerjoin(people, people.c.id == operations.c.person_id)
        .order_by(broadcasts.c.id)
    )

    def rows() -> Iterator[list[Cell]]:
        for row in _stream(tx, query):
            state = row.operation_state if row.operation_state == "seconding" else row.state
            whose = ", ".join(shorts.get(row.id, ())) or None
            known: list[Any] = [row.id, whose, state, row.text, row.recipients, counts.get(row.id, {})]
            known += [row.asked_by, row.created_at, *row[-len(_OF_A_BROADCAST) :]]
            yield [_cell(value) for value in known]

    contract = ["id", "group", "state", "text", "recipients", "counts", "asked_by", "created_at"]
    return Export([*contract, *_OF_A_BROADCAST], rows())


_OF_A_BROADCAST = ("kind", "language", "sendable", "launched_at", "hold_until", "expires_at", "finished_at")


def _consent(tx: Transaction) -> Export:
    """Every event, in order of receipt: of one number the last holds."""
    names = ("id", "at", "phone", "kind", "words", "message_id", "door")
    query = select(*(consent_events.c[name] for name in names), people.c.name.label("person"))
    query = query.outerjoin(people, people.c.id == consent_events.c.person_id).order_by(consent_events.c.id)
    return _plain(tx, query)


def _audit(tx: Transaction) -> Export:
    """Every line in order, with all that its hash is made of."""
    names = [column.name for column in audit.c if column.name not in ("previous", "hash")]
    query = select(*(audit.c[name] for name in names), people.c.name.label("person"), audit.c.previous, audit.c.hash)
    return _plain(tx, query.outerjoin(people, people.c.id == audit.c.person_id).order_by(audit.c.id))


WHAT: dict[str, Callable[[Transaction], Export]] = {
    "cases": _cases,
    "groups": _groups,
    "members": _members,
    "messages": _messages,
    "broadcasts": _broadcasts,
    "consent": _consent,
    "audit": _audit,
}
"""What can be exported."""


# -- codes -------------------------------------------------------------------------------------------------------------

_LIKE_A_CODE = re.compile(rf"(?<!\d)\d(?:[\s.-]?\d){{{codes.SHORT - 1},{codes.LONG - 1}}}(?!\d)")
_ONLY_A_CODE = re.compile(rf"\W*[^\W\d]*\W*({_LIKE_A_CODE.pattern})\W*")
"""A word at most, and digits: what somebody who confirms something types."""


def hide_codes(tx: Transaction) -> Callable[[str], str]:
    """A function that puts stars for every code in what a member of staff typed.

    Those that this database knows, wherever they stand; and digits that stand alone or behind one word, for a code that
    was made anew is known no more.
    """
    secret = codes.secret_of(tx)
    issued = {codes.digits(secret, row.nonce, row.length) for row in _stream(tx, select(codes_table))}

    def starred(found: re.Match[str]) -> str:
        digits = "".join(str(int(char)) for char in found[0] if char.isdecimal())
        return codes.mask(len(digits)) if digits in issued else found[0]

    def hidden(text: str) -> str:
        if alone := _ONLY_A_CODE.fullmatch(text):
            count = sum(char.isdecimal() for char in alone[1])
            return text[: alone.start(1)] + codes.mask(count) + text[alone.end(1) :]
        return _LIKE_A_CODE.sub(starred, text)

    return hidden


# -- inside ------------------------------------------------------------------------------------------------------------


def _stream(tx: Transaction, query: Select[Any]) -> Iterator[Row[Any]]:
    return iter(tx.execute(query.execution_options(yield_per=AT_ONCE)))


def _plain(tx: Transaction, query: Select[Any]) -> Export:
    names = [column.name for column in query.selected_columns]
    return Export(names, ([_cell(value) for value in row] for row in _stream(tx, query)))


def _cell(value: Any) -> Cell:
    """A value as a cell: a moment in ISO 8601, what is made of parts as JSON."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "1" if value else "0"
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return int(value)
