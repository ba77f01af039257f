"""Who did what, when, through which door: one table, each row carrying the hash of the one before.

The chained row holds nothing personal; what changed, row by row, stands in `audit_changes`, each change with a salted
digest of its own, and the chained row holds one digest over those.  So erasing a person never breaks the chain: a change
whose `before`, `after` and `salt` are set to NULL keeps its digest, and nothing else can be touched under that cover.

Lines of before revision 0011 hold a digest over the values themselves, which still tells which of them was edited.  Where
such a change is forgotten, the line REDIGESTED vouches for the digest that its migration gave it.

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
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import groupby
from typing import Any, NamedTuple

from sqlalchemy import (
    Column,
    ColumnElement,
    Row,
    Select,
    Text,
    cast,
    exists,
    insert,
    inspect,
    literal,
    null,
    select,
    true,
    tuple_,
    type_coerce,
)

from storage.bulk import Rows, insert_ready, ready_rows
from storage.database import TURN, Transaction, as_written
from storage.digests import OF_A_CHANGE, SALTED, UNREADABLE, Under, hash_of, salted, under
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
    digest = salted(rows)  # first: it says which value can stand in no line
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
    ready = changes if isinstance(changes, Changes) else make_ready(tx, changes)
    entry: dict[str, Any] = {
        "at": tx.now,
        "person_id": by.person_id,
        "door": by.door,
        "source": by.source,
        "verb": verb,
        "subject": subject,
        "subject_id": subject_id,
        "facts": dict(facts or {}),
        "changes_digest": ready.digest,
        "previous": tx.scalar(_LAST) or FIRST,
    }
    entry["hash"] = hash_of(entry)
    entry_id = int(tx.execute(_INSERT, entry).scalar_one())
    if ready.rows is not None:
        insert_ready(tx, ready.rows, entry_id=entry_id)
    return entry_id


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
    `forgotten` counts the changes under the lines that hold whose values were forgotten.
    """

    holds: int
    last: Line | None
    broken: Line | None = None
    breach: str | None = None
    noted: Line | None = None
    after: int | None = None
    unread: int | None = None
    forgotten: int = 0


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
    walk, last, found = _Walk(), None, None
    with contextlib.closing(_lines(read, has_digests=_has_digests(read))) as lines:
        for line, entry, beneath in lines:
            last, previous = line, walk.previous
            if breach := walk.breach(line, entry, beneath):
                # What follows only shows the same again; what comes next tells an edit from an insertion.
                following = next(lines, None)
                broken = line
                break
            if wanted and line.hash.startswith(wanted):
                found = line
        else:
            with read() as tx:
                return walk.found(_at_the_end(tx, walk.holds, last, wanted, found))
    with read() as tx, as_written(tx):
        end = head(tx)
        last = last if end is None or end.id == broken.id else Line(end.id, None, end.hash)
        told = _told_by(tx, entry, breach, previous, following)
        return walk.found(Finding(walk.holds, last, broken, told, found))


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
    after, first = (int(before.id), str(before.hash)) if before is not None else (None, FIRST)
    known: dict[str, Any] = {"after": after, "unread": unread if unread is not None and unread > (after or 0) else None}
    # What was redigested before is not added up again where not all of it is read.
    walk, last = _Walk(first, is_whole=after is None and known["unread"] is None), None
    with contextlib.closing(_lines(read, after or 0, unread or 0)) as found:
        for line, entry, beneath in found:
            previous = walk.previous
            if breach := walk.breach(line, entry, beneath):
                following = next(found, None)
                break
            last = line
        else:
            return walk.found(Finding(walk.holds, last, None, "orphan" if orphan else None, **known))
    with read() as tx, as_written(tx):
        return walk.found(Finding(walk.holds, line, line, _told_by(tx, entry, breach, previous, following), **known))


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

_Read = tuple[Line, _Entry, Under | None]


def _lines(read: Read, after: int = 0, unread: int = 0, *, has_digests: bool = True) -> Generator[_Read, None, None]:
    """Each line in order, after one: the line, its columns, and what stands under it now, None where nothing does.

    Through the line `unread` the changes are not read, and NOT_READ stands for them.  What an editor left may be no JSON and no time at all, so both are read as the text that they are stored as.
    """
    columns: list[ColumnElement[Any]] = [
        type_coerce(audit.c.at, Text).label("at"),
        type_coerce(audit.c.facts, Text).label("facts"),
    ]
    query = select(*columns, *(c for c in audit.c if c.name not in ("at", "facts")))
    for rows in _slices(read, query.where(audit.c.id > after) if after else query, audit.c.id):
        beneath = _beneath(read, max(int(rows[0]["id"]), unread + 1), int(rows[-1]["id"]), has_digests=has_digests)
        for row in rows:
            entry = {column.name: row[column.name] for column in audit.c}
            entry["at"], entry["facts"] = _moment_in(entry["at"]), _json_in(entry["facts"])
            at = entry["at"] if isinstance(entry["at"], datetime) else None
            number = int(entry["id"])
            yield Line(number, at, str(entry["hash"])), entry, beneath.get(number) if number > unread else NOT_READ


NOT_READ = Under(intact=True, plain="not read", salted="not read", forgotten=0)
"""What stands under a line whose changes nobody looked at."""


def _has_digests(read: Read) -> bool:
    """Whether each change has a digest: a backup that an older release made is verified before it is upgraded."""
    with read() as tx:
        columns = inspect(tx.connection).get_columns(audit_changes.name)
    return any(column["name"] == "digest" for column in columns)


def _beneath(read: Read, first: int, last: int, *, has_digests: bool) -> dict[int, Under]:
    """What stands under each of these lines that has changes."""
    found = groupby(_changes(read, first, last, has_digests=has_digests), lambda row: int(row["entry_id"]))
    return {line: _under(rows, has_digests=has_digests) for line, rows in found}


def _under(rows: Iterable[dict[str, Any]], *, has_digests: bool) -> Under:
    try:
        return under(map(_change_in, rows), has_digests=has_digests)
    except (TypeError, ValueError, RecursionError):
        return UNREADABLE


def _change_in(row: dict[str, Any]) -> _Entry:
    """A change with its values read; where both are NULL it is forgotten, which no JSON says of itself."""
    return row | {
        "is_forgotten": row["before"] is None and row["after"] is None,
        "before": _json_in(row["before"]),
        "after": _json_in(row["after"]),
    }


_JSON = ("before", "after")


def _changes(read: Read, first: int, last: int, *, has_digests: bool) -> Iterator[dict[str, Any]]:
    """The changes of the lines from the first through the last, in order."""
    c = audit_changes.c
    # PostgreSQL's driver would read the JSON, and a null that somebody wrote there would look like none.
    names: list[ColumnElement[Any]] = [cast(c[n], Text).label(n) if n in _JSON else c[n] for n in OF_A_CHANGE]
    names += [c[n] if has_digests else null().label(n) for n in ("salt", "digest")]
    query = select(c.entry_id, *names).where(c.entry_id.between(first, last))
    for rows in _slices(read, query, c.entry_id, c.position):
        yield from rows


def _slices(read: Read, query: Select[Any], *key: Column[int]) -> Iterator[list[dict[str, Any]]]:
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


REDIGESTED = "audit.redigested"
"""The verb of the line by which a migration gave a digest to each change that had none; its facts say over which."""


class _Walk:
    """What is known of the lines so far, as they are verified one after the other.

    `is_whole`: every line and change is read, from the first on.
    """

    def __init__(self, previous: str = FIRST, *, is_whole: bool = True) -> None:
        self.previous, self.holds, self.forgotten = previous, 0, 0
        self._total = hashlib.sha256() if is_whole else None
        self._unvouched: Finding | None = None

    def breach(self, line: Line, entry: _Entry, beneath: Under | None) -> str | None:
        """What is wrong with the next line by itself, with what stands under it, and with the one before it."""
        if _hash_found(entry) != entry["hash"]:
            return "edited"
        if entry["previous"] != self.previous:
            return "missing"
        if not (self._fits(line, entry, beneath) and self._vouches(entry)):
            return "changes"
        self.previous, self.holds = line.hash, self.holds + 1
        self.forgotten += beneath.forgotten if beneath is not None else 0
        return None

    def found(self, finding: Finding) -> Finding:
        """The finding, or the first line of an older release with forgotten changes for which no later line vouches."""
        if finding.breach is None and self._unvouched is not None:
            finding = replace(finding, holds=self._unvouched.holds, broken=self._unvouched.broken, breach="changes")
        return replace(finding, forgotten=self.forgotten)

    def _fits(self, line: Line, entry: _Entry, beneath: Under | None) -> bool:
        """Whether what stands under a line is what it was written with."""
        kept = entry["changes_digest"]
        if beneath is NOT_READ:
            return True
        if beneath is None or kept is None:
            return beneath is kept
        if not beneath.intact or kept.startswith(SALTED):
            return bool(beneath.intact and kept == beneath.salted)
        if self._total is not None:
            self._total.update(beneath.salted.encode())
        if beneath.forgotten and self._unvouched is None:
            self._unvouched = Finding(self.holds, line, line)
        return bool(beneath.forgotten or kept == beneath.plain)

    def _vouches(self, entry: _Entry) -> bool:
        """Whether a line that vouches for the changes before it names the digests that stand there."""
        if entry["verb"] != REDIGESTED:
            return True
        total, self._total, self._unvouched = self._total, hashlib.sha256(), None
        facts = entry["facts"] if isinstance(entry["facts"], Mapping) else {}
        return total is None or facts.get("digest") == total.hexdigest()


def _hash_found(entry: _Entry) -> str | None:
    """The hash of a line as it stands, or None where that could never have been written."""
    try:
        return hash_of(entry)
    except (TypeError, ValueError, RecursionError):
        return None


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
