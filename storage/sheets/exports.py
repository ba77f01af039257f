"""What leaves the database as a table: the columns of each export and its rows, one after another.

The rows are read in slices as they are asked for, never all at once.  What opens a slice is the caller's
(`Database.reading_long`): an export is one moment of the database however long it takes, and only on SQLite without WAL,
where that would keep every writer out, each slice is a moment of its own.  Then too it holds what was there when it
began, and nothing that came later.  A cell is text, a whole number, or None for a blank; how a file writes it is for the
door.

An export of cases can be imported again and then changes nothing.  A code never leaves: what we sent stands masked in
the outbox, and `hide_codes` masks what somebody typed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, Table, case, func, select

from storage.broadcasts.content import ITS_WORDS
from storage.contacts.cases import PROPERTIES
from storage.database import Transaction
from storage.operations import codes
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

Read = Callable[[], AbstractContextManager[Transaction]]
"""What opens a slice."""

AT_ONCE = 2000
"""Rows fetched at once: more would only take more memory."""


@dataclass(frozen=True, slots=True)
class Export:
    """A table to be written: its columns, and its rows in a stable order."""

    columns: Sequence[str]
    rows: Iterator[list[Cell]]


def export(read: Read, what: str) -> Export:
    """One of `WHAT`; `read` opens each slice, and its rows are to be taken while it can."""
    return WHAT[what](read)


# -- cases -------------------------------------------------------------------------------------------------------------

_OF_A_CASE = ("case_id", *PROPERTIES)


def _cases(read: Read) -> Export:
    """What `cases import` reads, further properties as columns in alphabetical order; a property not set is blank."""
    query = select(*(cases.c[name] for name in _OF_A_CASE), cases.c.properties, cases.c.id)
    further: set[str] = set()
    for row in _sliced(read, select(cases.c.properties, cases.c.id), cases.c.id):
        further.update(row.properties)
    names = sorted(further)

    def rows() -> Iterator[list[Cell]]:
        for row in _sliced(read, query, cases.c.id):
            known = map(_case_cell, row[: len(_OF_A_CASE)])
            yield [*known, *(row.properties.get(name) for name in names)]

    return Export([*_OF_A_CASE, *names], rows())


def _case_cell(value: Any) -> Cell:
    """Everything in a sheet of cases is text: a phone number or an id must never become a number."""
    if isinstance(value, bool):
        return "1" if value else "0"
    return None if value is None else str(value)


# -- groups and members ------------------------------------------------------------------------------------------------


def _groups(read: Read) -> Export:
    """The live groups."""
    counted = select(func.count()).where(memberships.c.group_id == groups.c.id, memberships.c.removed_at.is_(None))
    query = select(groups.c.short, groups.c.name, counted.scalar_subquery().label("members"), groups.c.created_at)
    with read() as tx:
        found = tx.execute(query.where(groups.c.deleted_at.is_(None)).order_by(groups.c.short)).all()
    return Export([column.name for column in query.selected_columns], ([*map(_cell, row)] for row in found))


def _members(read: Read) -> Export:
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
            case((removed.c.id.is_not(None), func.coalesce(remover.c.name, "system"))).label("removed_by"),
            removed.c.door.label("removed_door"),
            removed.c.source.label("removed_source"),
            groups.c.deleted_at.label("group_deleted_at"),
            memberships.c.id,
        )
        .join_from(memberships, groups, groups.c.id == memberships.c.group_id)
        .join(cases, cases.c.id == memberships.c.case_id)
        .join(added, added.c.id == memberships.c.added_entry)
        .outerjoin(adder, adder.c.id == added.c.person_id)
        .outerjoin(removed, removed.c.id == memberships.c.removed_entry)
        .outerjoin(remover, remover.c.id == removed.c.person_id)
    )
    columns = [column.name for column in query.selected_columns][:-1]
    rows = ([*map(_cell, row[:-1])] for row in _sliced(read, query, memberships.c.id))
    return Export(columns, rows)


# -- messages, broadcasts, consent -------------------------------------------------------------------------------------

_OF_A_MESSAGE = (
    "id", "direction", "phone", "body", "state", "gateway", "gateway_id", "broadcast_id", "reason", "created_at",
    "channel", "address", "code", "kind", "handled_as", "reply_to", "language", "segments", "attempts",
    "due_at", "expires_at", "handed_over_at", "settled_at",
)  # fmt: skip


def _messages(read: Read) -> Export:
    """Every text in and out, oldest first, with the case and the person it is of."""
    query = select(
        *columns_of(messages, _OF_A_MESSAGE),
        cases.c.case_id,
        cases.c.external_id,
        people.c.name.label("person"),
        messages.c.person_id,
    )
    query = query.outerjoin(cases, cases.c.id == messages.c.case_id)
    query = query.outerjoin(people, people.c.id == messages.c.person_id)
    found = _sliced(read, query, messages.c.id)  # before the codes: whoever typed one of these had it by then
    with read() as tx:
        hidden = hide_codes(tx)
    body = _OF_A_MESSAGE.index("body")

    def rows() -> Iterator[list[Cell]]:
        for row in found:
            cells: list[Cell] = [*map(_cell, row[:-1])]
            if may_hold_a_code(row):
                cells[body] = hidden(row.body)
            yield cells

    return Export([column.name for column in query.selected_columns][:-1], rows())


def _broadcasts(read: Read) -> Export:
    """Every broadcast, oldest first; `counts` is how many of its messages are in each state, as JSON."""
    counts: dict[int, dict[str, int]] = {}
    counted = select(messages.c.broadcast_id, messages.c.state, func.count().label("n"))
    counted = counted.where(messages.c.broadcast_id.is_not(None)).group_by(messages.c.broadcast_id, messages.c.state)
    shorts: dict[int, list[str]] = {}
    whom = select(broadcast_audience.c.broadcast_id, groups.c.short)
    whom = whom.join(groups, groups.c.id == broadcast_audience.c.group_id).order_by(groups.c.short)
    with read() as tx:
        for row in tx.execute(counted):
            counts.setdefault(row.broadcast_id, {})[row.state] = row.n
        for row in tx.execute(whom):
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
        .join(texts, ITS_WORDS)
        .outerjoin(people, people.c.id == operations.c.person_id)
    )

    def rows() -> Iterator[list[Cell]]:
        for row in _sliced(read, query, broadcasts.c.id):
            state = row.operation_state if row.operation_state == "seconding" else row.state
            whose = ", ".join(shorts.get(row.id, ())) or None
            known: list[Any] = [row.id, whose, state, row.text, row.recipients, counts.get(row.id, {})]
            known += [row.asked_by, row.created_at, *row[-len(_OF_A_BROADCAST) :]]
            yield [_cell(value) for value in known]

    contract = ["id", "group", "state", "text", "recipients", "counts", "asked_by", "created_at"]
    return Export([*contract, *_OF_A_BROADCAST], rows())


_OF_A_BROADCAST = ("kind", "language", "sendable", "send_at", "launched_at", "hold_until", "expires_at", "finished_at")


def _consent(read: Read) -> Export:
    """Every event, in order of receipt: of one number the last holds."""
    names = ("id", "at", "phone", "kind", "words", "message_id", "door")
    query = select(
        *columns_of(consent_events, names),
        people.c.name.label("person"),
        *columns_of(consent_events, ("channel", "address")),
    )
    return _plain(read, query.outerjoin(people, people.c.id == consent_events.c.person_id), consent_events.c.id)


def _audit(read: Read) -> Export:
    """Every line in order, with all that its hash is made of."""
    names = [column.name for column in audit.c if column.name not in ("previous", "hash")]
    query = select(*(audit.c[name] for name in names), people.c.name.label("person"), audit.c.previous, audit.c.hash)
    return _plain(read, query.outerjoin(people, people.c.id == audit.c.person_id), audit.c.id)


WHAT: dict[str, Callable[[Read], Export]] = {
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

CONFIRMING = ("ok", "okay", "confirm", "confirma", "confirmar")
"""The words before a code, in every language that is spoken here."""

_CONFIRMS = re.compile(rf"(?<![^\W\d_])(?:{'|'.join(CONFIRMING)})(?![^\W\d_])", re.IGNORECASE)
_DIGITS = re.compile(r"\d+(?:[\W_]+\d+)*")
"""Digits with no letter between them: a code may be typed in pieces."""


def may_hold_a_code(row: Row[Any]) -> bool:
    """Whether a member of staff typed this text, or nobody knows yet who did; ours hold stars in place of a code."""
    return row.direction == "in" and (row.person_id is not None or row.handled_as in ("command", None))


def hide_codes(tx: Transaction) -> Callable[[str], str]:
    """A function that puts stars for every code in what a member of staff typed.

    A code that is still good wherever its digits stand one after another, and any that this database knows where they
    are a word or words of their own.  A code that was made anew is known no more: so six or ten digits that stand alone
    or behind a word that confirms are taken for one.
    """
    secret = codes.secret_of(tx)
    issued: set[str] = set()
    good: set[str] = set()
    for row in tx.execute(select(codes_table)):
        digits = codes.digits(secret, row.nonce, row.length)
        issued.add(digits)
        if row.used_at is None and row.expires_at > tx.now:
            good.add(digits)

    def hidden(text: str) -> str:
        confirms = _CONFIRMS.search(text)
        alone = not any(character.isalpha() for character in text)
        shown = list(text)
        for run in _DIGITS.finditer(text):
            any_code = alone or (confirms is not None and confirms.end() <= run.start())
            for places, whole in _windows(text, run):
                digits = "".join(str(int(text[place])) for place in places)
                if digits in good or (whole and (any_code or digits in issued)):
                    for place in places:
                        shown[place] = "*"
        return "".join(shown)

    return hidden


def _windows(text: str, run: re.Match[str]) -> Iterator[tuple[list[int], bool]]:
    """Every six and every ten digits that follow one another: their places, and whether they are whole words."""
    places = [place for place in range(*run.span()) if text[place].isdecimal()]
    for length in (codes.SHORT, codes.LONG):
        for first in range(len(places) - length + 1):
            window = places[first : first + length]
            before, behind = text[window[0] - 1 : window[0]], text[window[-1] + 1 : window[-1] + 2]
            yield window, not before.isdecimal() and not behind.isdecimal()


def columns_of(table: Table, names: Sequence[str]) -> list[ColumnElement[Any]]:
    """Columns of messages or consent events by name; `address` is that of every channel, for an SMS its phone."""
    address = func.coalesce(table.c.address, table.c.phone).label("address")
    return [address if name == "address" else table.c[name] for name in names]


# -- inside ------------------------------------------------------------------------------------------------------------


def _sliced(read: Read, query: Select[Any], key: ColumnElement[int]) -> Iterator[Row[Any]]:
    """The rows of a query that were there when this was called, by its key, which is among its columns."""
    with read() as tx:
        last = tx.scalar(select(func.coalesce(func.max(key), 0)))
    place = [column.shares_lineage(key) for column in query.selected_columns].index(True)
    query = query.where(key <= last).order_by(key).limit(AT_ONCE)

    def rows() -> Iterator[Row[Any]]:
        through: int | None = None
        while True:
            with read() as tx:
                part = tx.execute(query if through is None else query.where(key > through)).all()
            yield from part
            if len(part) < AT_ONCE:
                return
            through = part[-1][place]

    return rows()


def _plain(read: Read, query: Select[Any], key: ColumnElement[int]) -> Export:
    names = [column.name for column in query.selected_columns]
    return Export(names, ([*map(_cell, row)] for row in _sliced(read, query, key)))


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
