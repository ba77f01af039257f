"""Who did what, when, through which door: one table, each row carrying the hash of the one before.

The chained row holds nothing personal, so that erasing a person never breaks the chain; what changed, row by row,
stands in `audit_changes`, and the chained row holds its digest.

`verify` finds what was edited, taken out, swapped or put in.  What no chain shows by itself is an end that was cut off
and a log that was made anew: for these, keep a `head` where whoever could edit the database cannot reach.
The ids are no part of it: they only say the order, and PostgreSQL leaves holes in them where a transaction was undone.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from typing import Any, NamedTuple

from sqlalchemy import (
    Column,
    ColumnElement,
    Row,
    Select,
    Text,
    exists,
    insert,
    literal,
    select,
    true,
    tuple_,
    type_coerce,
)

from storage.bulk import Rows, insert_ready, ready_rows
from storage.database import TURN, Transaction, as_written
from storage.errors import Problem
from storage.schema import audit, audit_changes, people

FIRST = "0" * 64


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts: a person, or the system's own user where `person_id` is None; through which door; from what."""

    door: str
    person_id: int | None = None
    source: str | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """One row that changed: only the columns that did, before and after."""

    subject: str
    subject_id: int
    before: Mapping[str, Any]
    after: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Changes:
    """The changes under a line, worked out before it is written; `rows` is None where there is none."""

    rows: Rows | None
    digest: str | None


def make_ready(tx: Transaction, changes: Iterable[Change]) -> Changes:
    """The slow part of `record`: it only looks, and needs no writer's turn."""
    rows = [
        {
            "position": n,
            "subject": c.subject,
            "subject_id": c.subject_id,
            "before": dict(c.before),
            "after": dict(c.after),
        }
        for n, c in enumerate(changes)
    ]
    if not rows:
        return Changes(None, None)
    digest = digest_of(rows)  # first: it says which value can stand in no line
    return Changes(ready_rows(tx, audit_changes, [{"entry_id": 0, **row} for row in rows]), digest)


_LAST = select(audit.c.hash).order_by(audit.c.id.desc()).limit(1)

_INSERT = insert(audit).returning(audit.c.id)


def record(
    tx: Transaction,
    verb: str,
    subject: str,
    subject_id: int | None = None,
    *,
    facts: Mapping[str, Any] | None = None,
    changes: Iterable[Change] | Changes = (),
    by: Actor,
) -> int:
    """Write one line of the audit log and the changes under it; returns its id."""
    tx.alone(TURN)
    under = changes if isinstance(changes, Changes) else make_ready(tx, changes)
    entry: dict[str, Any] = {
        "at": tx.now,
        "person_id": by.person_id,
        "door": by.door,
        "source": by.source,
        "verb": verb,
        "subject": subject,
        "subject_id": subject_id,
        "facts": dict(facts or {}),
        "changes_digest": under.digest,
        "previous": tx.scalar(_LAST) or FIRST,
    }
    entry["hash"] = hash_of(entry)
    entry_id = int(tx.execute(_INSERT, entry).scalar_one())
    if under.rows is not None:
        insert_ready(tx, under.rows, entry_id=entry_id)
    return entry_id


def hash_of(entry: Mapping[str, Any]) -> str:
    """The hash of a line: sha256 over the hash before it and its own columns in canonical JSON."""
    own = {name: value for name, value in entry.items() if name not in ("id", "hash")}
    return hashlib.sha256(_canonical(own)).hexdigest()


def digest_of(rows: Iterable[Mapping[str, Any]]) -> str:
    """One digest over the changes of a line, in order."""
    whole = hashlib.sha256()
    for row in rows:
        whole.update(_canonical(row) + b"\n")
    return whole.hexdigest()


class Head(NamedTuple):
    """The last line of the log: its id and its hash."""

    id: int
    hash: str


def head(tx: Transaction) -> Head | None:
    """The last line; None while the log is empty.

    Note it outside of the database: it is all that later shows a log that was cut at its end or wholly made anew.
    """
    last = tx.execute(select(audit.c.id, audit.c.hash).order_by(audit.c.id.desc()).limit(1)).first()
    return None if last is None else Head(int(last.id), str(last.hash))


@dataclass(frozen=True, slots=True)
class Line:
    """One line as found: its id, when, and its hash; `at` is None where even the time cannot be read."""

    id: int
    at: datetime | None
    hash: str


@dataclass(frozen=True, slots=True)
class Finding:
    """What `verify` found.

    `holds` counts the lines from the first on that hold and `last` is the last of the log.  `breach` is what happened,
    as far as can be told, and `broken` the line at which it shows:

        edited    a column of it was changed
        changes   the line holds, and what stands under it was touched
        missing   what stood before it was taken out or rewritten
        order     it does not stand where it was written
        inserted  it was put between two lines that belong together
        orphan    changes stand under no line (`broken` is None): their line was taken out at the end
        cut       no line has the noted hash (`broken` is None): the end was cut off, or the log was made anew

    `noted` is the line of the noted head, where it was asked for and is there.  `after` is the line after which
    `verify_newest` began and `unread` the last one whose changes it did not read, each None where there is none.
    """

    holds: int
    last: Line | None
    broken: Line | None = None
    breach: str | None = None
    noted: Line | None = None
    after: int | None = None
    unread: int | None = None


HEAD_DIGITS = 12
"""So many hex digits of a head are enough to name its line: what a text has room for."""

Read = Callable[[], AbstractContextManager[Transaction]]
"""What to open for each slice of a long look: `Database.reading`."""


def verify(read: Read, noted: str | None = None) -> Finding:
    """Whether every line holds, and where not, which is the first and what was done to it.

    `noted` is a head that was kept outside, whole or its first twelve hex digits; raises Problem `head-shape`.
    Without one, a log that was cut at its end or wholly recomputed looks whole: nothing inside it can tell.
    Read in slices, each a reading of its own: a log of years fits into no memory, and keeps nobody from writing.
    """
    wanted = None if noted is None else _head_shape(noted)
    previous, holds, last, found = FIRST, 0, None, None
    with contextlib.closing(_lines(read)) as lines:
        for line, entry, digest in lines:
            last = line
            if breach := _breach(entry, digest, previous):
                # What follows only shows the same again; what comes next tells an edit from an insertion.
                following = next(lines, None)
                broken = line
                break
            previous, holds = line.hash, holds + 1
            if wanted and line.hash.startswith(wanted):
                found = line
        else:
            with read() as tx:
                return _at_the_end(tx, holds, last, wanted, found)
    with read() as tx, as_written(tx):
        end = head(tx)
        last = last if end is None or end.id == broken.id else Line(end.id, None, end.hash)
        return Finding(holds, last, broken, _told_by(tx, entry, breach, previous, following), found)


NEWEST, CHANGES = 1000, 5000
"""Lines, and changes under them, that are read where somebody waits for a page."""


def verify_newest(read: Read, *, lines: int | None = None, changes: int | None = None) -> Finding:
    """The same of the newest lines alone, so that it takes no longer in a log of years; `holds` counts only them.

    The line before them is taken as it stands, and of the changes only the newest are read: one sheet may have written
    300,000.  So many `lines` and `changes`, or NEWEST and CHANGES.
    """
    with read() as tx, as_written(tx):
        end = head(tx)
        before = tx.execute(
            select(audit.c.id, audit.c.hash)
            .order_by(audit.c.id.desc())
            .limit(1)
            .offset(NEWEST if lines is None else lines)
        ).first()
        by_line = select(audit_changes.c.entry_id).order_by(
            audit_changes.c.entry_id.desc(), audit_changes.c.position.desc()
        )
        unread = tx.scalar(by_line.limit(1).offset(CHANGES if changes is None else changes))
        beyond = select(audit_changes.c.entry_id).where(audit_changes.c.entry_id > (end.id if end else 0)).limit(1)
        orphan = tx.scalar(beyond) is not None
    after, previous = (int(before.id), str(before.hash)) if before is not None else (None, FIRST)
    known: dict[str, Any] = {"after": after, "unread": unread if unread is not None and unread > (after or 0) else None}
    holds, last = 0, None
    with contextlib.closing(_lines(read, after or 0, unread or 0)) as found:
        for line, entry, digest in found:
            if breach := _breach(entry, digest, previous):
                following = next(found, None)
                break
            last, previous, holds = line, line.hash, holds + 1
        else:
            return Finding(holds, last, None, "orphan" if orphan else None, **known)
    with read() as tx, as_written(tx):
        return Finding(holds, line, line, _told_by(tx, entry, breach, previous, following), **known)


def list_last(tx: Transaction, at_most: int | None = None) -> list[Row[Any]]:
    """The newest lines, newest first, each with the `person` who acted."""
    query = select(audit, people.c.name.label("person")).outerjoin(people, people.c.id == audit.c.person_id)
    return list(tx.execute(query.order_by(audit.c.id.desc()).limit(at_most)))


def list_since(tx: Transaction, line: int, verbs: Sequence[str]) -> list[Row[Any]]:
    """The lines after one whose verb is among these, oldest first."""
    query = select(audit).where(audit.c.id > line, audit.c.verb.in_(verbs))
    return list(tx.execute(query.order_by(audit.c.id)))


def _head_shape(noted: str) -> str:
    wanted = "".join(noted.split()).lower()
    if not re.fullmatch(rf"[0-9a-f]{{{HEAD_DIGITS},64}}", wanted):
        raise Problem("head-shape", typed=noted, digits=HEAD_DIGITS)
    return wanted


def _at_the_end(tx: Transaction, holds: int, last: Line | None, wanted: str | None, noted: Line | None) -> Finding:
    """Every line holds; what may still be wrong is what is not there."""
    lost = exists().where(audit.c.id == audit_changes.c.entry_id)
    if tx.scalar(select(audit_changes.c.entry_id).where(~lost).limit(1)) is not None:
        return Finding(holds, last, None, "orphan", noted)
    return Finding(holds, last, None, "cut" if wanted and noted is None else None, noted)


SLICE = 1000
"""Lines, or changes, that are read at once."""

_Entry = Mapping[str, Any]

_Read = tuple[Line, _Entry, str | None]


def _lines(read: Read, after: int = 0, unread: int = 0) -> Generator[_Read, None, None]:
    """Each line in order, after one: the line, its columns, and the digest of the changes that stand under it now.

    Through the line `unread` the changes are not read, and the digest is the one that the line has.  What an editor left may be no JSON and no time at all, so both are read as the text that they are stored as.
    """
    columns: list[ColumnElement[Any]] = [
        type_coerce(audit.c.at, Text).label("at"),
        type_coerce(audit.c.facts, Text).label("facts"),
    ]
    query = select(*columns, *(c for c in audit.c if c.name not in ("at", "facts")))
    for rows in _slices(read, query.where(audit.c.id > after) if after else query, audit.c.id):
        digests = _digests(read, max(int(rows[0]["id"]), unread + 1), int(rows[-1]["id"]))
        for row in rows:
            entry = {column.name: row[column.name] for column in audit.c}
            entry["at"], entry["facts"] = _moment_in(entry["at"]), _json_in(entry["facts"])
            at = entry["at"] if isinstance(entry["at"], datetime) else None
            digest = digests.get(int(entry["id"])) if int(entry["id"]) > unread else entry["changes_digest"]
            yield Line(int(entry["id"]), at, str(entry["hash"])), entry, digest


_OF_A_CHANGE = ("position", "subject", "subject_id", "before", "after")


def _digests(read: Read, first: int, last: int) -> dict[int, str]:
    """The digest of what stands under each of these lines that has changes."""
    found = groupby(_changes(read, first, last), lambda row: int(row["entry_id"]))
    return {
        line: _safely(digest_of, ({n: _change_in(n, row[n]) for n in _OF_A_CHANGE} for row in rows))
        for line, rows in found
    }


_JSON = ("before", "after")


def _changes(read: Read, first: int, last: int) -> Iterator[_Entry]:
    """The changes of the lines from the first through the last, in order."""
    names = [type_coerce(audit_changes.c[n], Text).label(n) if n in _JSON else audit_changes.c[n] for n in _OF_A_CHANGE]
    query = select(audit_changes.c.entry_id, *names).where(audit_changes.c.entry_id.between(first, last))
    for rows in _slices(read, query, audit_changes.c.entry_id, audit_changes.c.position):
        yield from rows


def _slices(read: Read, query: Select[Any], *key: Column[int]) -> Iterator[Sequence[_Entry]]:
    """The rows of a query by its key, in slices that are never empty."""
    query = query.order_by(*key).limit(SLICE)
    further: ColumnElement[bool] = true()
    while True:
        with read() as tx, as_written(tx):
            rows = [dict(row) for row in tx.execute(query.where(further)).mappings()]
        if rows:
            yield rows
        if len(rows) < SLICE:
            return
        further = tuple_(*key) > tuple_(*(literal(rows[-1][column.name]) for column in key))


def _change_in(name: str, value: Any) -> Any:
    return _json_in(value) if name in _JSON else value


def _json_in(stored: Any) -> Any:
    """What JSON says, which PostgreSQL's driver has read already; no digest fits what is none."""
    try:
        return json.loads(stored) if isinstance(stored, str | bytes) else stored
    except (ValueError, RecursionError):
        return {"unreadable": repr(stored)}


def _moment_in(stored: Any) -> Any:
    """A stored moment, in UTC: SQLite keeps a text and PostgreSQL gives it in the session's zone."""
    try:
        moment = datetime.fromisoformat(stored) if isinstance(stored, str) else stored
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (AttributeError, ValueError, OverflowError):
        return repr(stored)


UNREADABLE = "unreadable"
"""The digest of what has none."""


def _safely(digest: Callable[[Any], str], what: Any) -> str:
    """A digest, or UNREADABLE where what stands there could never have been written."""
    try:
        return digest(what)
    except (TypeError, ValueError, RecursionError):
        return UNREADABLE


def _breach(entry: _Entry, digest: str | None, previous: str) -> str | None:
    """What is wrong with a line by itself and with the one before it, if anything is."""
    if (own := _safely(hash_of, entry)) == UNREADABLE or own != entry["hash"]:
        return "edited"
    if entry["previous"] != previous:
        return "missing"
    return "changes" if entry["changes_digest"] != digest else None


def _told_by(tx: Transaction, entry: _Entry, breach: str, previous: str, following: _Read | None) -> str:
    """What a breach was, by what stands round it."""
    if breach == "missing":
        written_after = tx.scalar(select(audit.c.id).where(audit.c.hash == entry["previous"]).limit(1))
        if written_after is not None:
            # The line that this one was written after still stands: further on, or above with others between.
            return "order" if written_after > entry["id"] else "inserted"
    if breach != "changes" and following is not None and following[1]["previous"] == previous:
        return "inserted"  # the next line fits where this one stands, so this one was not here
    return breach


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, default=_plain).encode()


def _plain(value: object) -> str:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    raise TypeError(f"{type(value).__name__} cannot stand in an audit line")
