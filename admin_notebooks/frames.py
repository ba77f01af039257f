"""Everything as data frames, by one set query each, on the shared engine.

Phone numbers and ids are text and a missing one is missing; moments are aware, by the programme's clock; a yes or no is
boolean.  Whoever is no lead gets their own groups and the people in them, and nothing of the others.

Never `pandas.read_sql` with an address, and never another library's own reader: each opens the file with a second
SQLite library, and two of them in one process lose committed rows (`storage/__init__.py`).  `query` runs any SELECT.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, TypeAlias
from zoneinfo import ZoneInfo

import pandas as pd
from sqlalchemy import JSON, Boolean, ColumnElement, Integer, Select, Text, and_, case, func, or_, select, text
from sqlalchemy.exc import DBAPIError

from admin_notebooks import delivery
from admin_notebooks.desk import Desk
from admin_notebooks.tables import told_of
from storage import schema as s
from storage.broadcasts.content import ITS_WORDS
from storage.contacts.cases import PROPERTIES
from storage.contacts.consent import said_last
from storage.database import Transaction
from storage.errors import Problem
from storage.rules.channels import CHANNELS
from storage.sheets import exports

Frame: TypeAlias = pd.DataFrame


def groups(desk: Desk) -> Frame:
    """The live groups: `short`, `name`, `members`, `two_way` (how many of them may reply), `created_at`."""
    with desk.db.reading() as tx:
        inside = (
            select(
                s.memberships.c.group_id,
                func.count().label("members"),
                func.sum(case((s.cases.c.two_way, 1), else_=0)).label("two_way"),
            )
            .join(s.cases, s.cases.c.id == s.memberships.c.case_id)
            .where(s.memberships.c.removed_at.is_(None), *_within(s.memberships.c.group_id, desk.scope(tx)))
            .group_by(s.memberships.c.group_id)
            .subquery()
        )
        g = s.groups
        query = (
            select(
                g.c.short,
                g.c.name,
                func.coalesce(inside.c.members, 0).label("members"),
                func.coalesce(inside.c.two_way, 0).label("two_way"),
                g.c.created_at,
            )
            .outerjoin(inside, inside.c.group_id == g.c.id)
            .where(g.c.deleted_at.is_(None), *_within(g.c.id, desk.scope(tx)))
            .order_by(g.c.short)
        )
        return frame(tx, query)


def members(desk: Desk, short: str | None = None, *, as_of: datetime | str | None = None) -> Frame:
    """Who is in a group, or in each of one's live groups, now or as of a moment, in the order in which they came in.

    `group` is its short name; with the properties of each case as they are now, `consent` (stop, start, doubt or
    missing), `last_reply_at`, and when and by whom they were added.
    """
    with desk.db.reading() as tx:
        desk.allow(tx, "read")
        of = (
            [s.groups.c.id == desk.group(tx, short).id]
            if short is not None
            else [s.groups.c.deleted_at.is_(None), *_within(s.groups.c.id, desk.scope(tx))]
        )
        adder, added = s.people.alias("adder"), s.audit.alias("added")
        query = (
            select(
                s.groups.c.short.label("group"),
                *_of_a_case(),
                said_last(s.cases.c.phone_key).label("consent"),
                last_reply(s.cases.c.id).label("last_reply_at"),
                s.memberships.c.added_at,
                func.coalesce(adder.c.name, "system").label("added_by"),
                added.c.door.label("added_door"),
                added.c.source.label("added_source"),
            )
            .join_from(s.memberships, s.cases, s.cases.c.id == s.memberships.c.case_id)
            .join(s.groups, s.groups.c.id == s.memberships.c.group_id)
            .join(added, added.c.id == s.memberships.c.added_entry)
            .outerjoin(adder, adder.c.id == added.c.person_id)
            .where(*of, there(tx, as_of))
            .order_by(s.memberships.c.id)
        )
        return frame(tx, query)


def cases(desk: Desk) -> Frame:
    """Every case with its properties, `consent` and `last_reply_at`; further properties are columns of their own."""
    with desk.db.reading() as tx:
        desk.allow(tx, "read")
        query = select(
            *_of_a_case(),
            said_last(s.cases.c.phone_key).label("consent"),
            last_reply(s.cases.c.id).label("last_reply_at"),
            s.cases.c.created_at,
            s.cases.c.modified_at,
            s.cases.c.properties,
        )
        query = query.where(*_people(s.cases.c.id, desk.scope(tx))).order_by(s.cases.c.id)
        found = frame(tx, query)
    further = pd.DataFrame.from_records(list(found["properties"]), index=found.index)
    fresh = [name for name in further if name not in found]
    return (
        pd.concat([found.drop(columns="properties"), further[fresh].astype("str")], axis=1)
        if fresh
        else found.drop(columns="properties")
    )


def messages(desk: Desk, *, since: datetime | str | None = None, direction: str | None = None) -> Frame:
    """Texts in and out, oldest first; a code that a member of staff typed stands there as stars."""
    with desk.db.reading() as tx:
        desk.allow(tx, "read")
        names = ("id", "direction", "phone", "body", "kind", "state", "reason", "code", "gateway", "broadcast_id",
                 "handled_as", "language", "segments", "attempts", "created_at", "due_at", "handed_over_at", "settled_at",
                 "channel", "address")  # fmt: skip
        query = (
            select(
                *exports.columns_of(s.messages, names),
                s.cases.c.case_id,
                s.cases.c.external_id,
                s.cases.c.name,
                s.messages.c.person_id,
            )
            .outerjoin(s.cases, s.cases.c.id == s.messages.c.case_id)
            .where(*_people(s.messages.c.case_id, desk.scope(tx)))
            .order_by(s.messages.c.id)
        )
        if since is not None:
            query = query.where(s.messages.c.created_at >= moment(tx, since))
        if direction is not None:
            query = query.where(s.messages.c.direction == direction)
        rows = tx.execute(query).all()
        hidden = exports.hide_codes(tx)
        bodies = [hidden(row.body) if exports.may_hold_a_code(row) else row.body for row in rows]
        found = _framed(tx, query, rows)
    found["body"] = pd.Series(bodies, index=found.index, dtype="str")
    return found.drop(columns="person_id")


def broadcasts(desk: Desk) -> Frame:
    """Every broadcast: who asked, to which groups, the words, and how many of its messages are in which state."""
    with desk.db.reading() as tx:
        desk.allow(tx, "read")
        shorts = (
            select(s.broadcast_audience.c.broadcast_id, func.aggregate_strings(s.groups.c.short, ", ").label("groups"))
            .join(s.groups, s.groups.c.id == s.broadcast_audience.c.group_id)
            .group_by(s.broadcast_audience.c.broadcast_id)
            .subquery()
        )
        query = (
            select(
                s.broadcasts.c.id,
                s.broadcasts.c.kind,
                s.broadcasts.c.state,
                shorts.c.groups,
                s.broadcast_texts.c.text,
                func.coalesce(s.people.c.name, "system").label("asked_by"),
                s.operations.c.door,
                s.operations.c.asked_at,
                s.broadcasts.c.launched_at,
                s.broadcasts.c.finished_at,
                s.broadcasts.c.recipients,
                s.broadcasts.c.sendable,
            )
            .join(s.operations, s.operations.c.id == s.broadcasts.c.id)
            .join(s.broadcast_texts, ITS_WORDS)
            .outerjoin(shorts, shorts.c.broadcast_id == s.broadcasts.c.id)
            .outerjoin(s.people, s.people.c.id == s.operations.c.person_id)
            .where(*told_of(desk, tx))
            .order_by(s.broadcasts.c.id)
        )
        found = frame(tx, query)
        counted = select(s.messages.c.broadcast_id, s.messages.c.state, func.count().label("n"))
        counted = counted.where(s.messages.c.broadcast_id.is_not(None)).group_by(
            s.messages.c.broadcast_id, s.messages.c.state
        )
        counts = frame(tx, counted)
    if counts.empty:
        return found
    wide = counts.pivot(index="broadcast_id", columns="state", values="n").fillna(0).astype("int64")
    return found.join(wide, on="id").fillna(dict.fromkeys(wide.columns, 0))


def funnels(desk: Desk, at_most: int = 200) -> Frame:
    """The newest broadcasts by the parts of their funnel, which add up to `recipients`: a row each, newest first."""
    rows: list[dict[str, Any]] = []
    while len(rows) < at_most:
        count, more = delivery.list_broadcasts(desk, first=len(rows))
        rows += more
        if not more or len(rows) >= count:
            break
    told = ("number", "whom", "text", "state", "asked_by", "asked_at", "recipients")
    found = pd.DataFrame.from_records([{name: row[name] for name in told} | row["parts"] for row in rows[:at_most]],
                                      columns=[*told, *delivery.PARTS])  # fmt: skip
    found["asked_at"] = _moments(found["asked_at"], desk.db.rules.time_zone)
    return found


def recipients(desk: Desk, number: int | None = None) -> Frame:
    """Each recipient of a broadcast, or of the newest: who, in which `part` of the funnel, and why; the text they got."""
    if number is None:
        _, newest = delivery.list_broadcasts(desk)
        if not newest:
            return pd.DataFrame(columns=list(delivery.COLUMNS), dtype="str")
        number = newest[0]["number"]
    found = pd.DataFrame.from_records(list(delivery.export(desk, number)), columns=list(delivery.COLUMNS))
    for name in ("handed_over_at", "settled_at"):
        found[name] = _moments(found[name], desk.db.rules.time_zone)
    return found


def consent(desk: Desk) -> Frame:
    """Every STOP, START and doubt in order of receipt; of one number the last holds."""
    with desk.db.reading() as tx:
        desk.allow(tx, "read")
        names = ("id", "at", "phone", "kind", "words", "message_id", "door")
        query = select(
            *exports.columns_of(s.consent_events, names),
            s.people.c.name.label("person"),
            *exports.columns_of(s.consent_events, ("channel", "address")),
        )
        query = query.outerjoin(s.people, s.people.c.id == s.consent_events.c.person_id).order_by(s.consent_events.c.id)
        if (scope := desk.scope(tx)) is not None:
            mine = _people(s.cases.c.id, scope)
            theirs = {c: select(s.cases.c[c.key_of_case]).where(*mine) for c in CHANNELS.values()}
            events = s.consent_events.c
            query = query.where(
                or_(*(and_(events.channel == c.name, events[c.key_column].in_(keys)) for c, keys in theirs.items()))
            )
        return frame(tx, query)


def history(desk: Desk, short: str) -> Frame:
    """What was done to a group, newest first: when, who, through which door, by which text or sheet, to how many."""
    with desk.db.reading() as tx:
        desk.allow(tx, "read")
        group = desk.group(tx, short)
        query = (
            select(
                s.audit.c.at,
                func.coalesce(s.people.c.name, "system").label("person"),
                s.audit.c.door,
                s.audit.c.source,
                s.audit.c.verb,
                s.audit.c.facts,
            )
            .outerjoin(s.people, s.people.c.id == s.audit.c.person_id)
            .where(s.audit.c.subject == "group", s.audit.c.subject_id == group.id)
            .order_by(s.audit.c.id.desc())
        )
        found = frame(tx, query)
    found["cases"] = [next((n for n in facts.values() if isinstance(n, int)), None) for facts in found["facts"]]
    return found.drop(columns="facts").astype({"cases": "Int64"})


def query(desk: Desk, sql: str, **values: Any) -> Frame:
    """The rows of a SELECT of your own, with `:name` for each value; nothing that it says can change the database.

    Leads and analysts only: SQL knows no groups of one's own.
    """
    with _only_looking(desk) as tx:
        desk.allow(tx, "lead")
        try:
            result = tx.execute(text(sql), values)
        except DBAPIError as error:
            raise Problem("query-refused", says=str(error.orig).splitlines()[0]) from error
        if not result.returns_rows:
            raise Problem("query-no-rows")
        names, rows = list(result.keys()), result.all()
        columns: list[Sequence[Any]] = list(zip(*rows, strict=True)) if rows else [() for _ in names]
        return pd.DataFrame(dict(zip(names, (_guessed(tx, values) for values in columns), strict=True)))


# -- what the others share ---------------------------------------------------------------------------------------------


def frame(tx: Transaction, query: Select[Any]) -> Frame:
    """The rows of a query, each column of the kind that it is in the database."""
    return _framed(tx, query, tx.execute(query).all())


def moment(tx: Transaction, when: datetime | str) -> datetime:
    """A moment, also as `2026-11-03` by the programme's clock: then the beginning of that day.  Raises `moment-shape`."""
    try:
        at = datetime.fromisoformat(when) if isinstance(when, str) else when
        return (at if at.tzinfo is not None else at.replace(tzinfo=ZoneInfo(tx.rules.time_zone))).astimezone(UTC)
    except (ValueError, OverflowError):
        raise Problem("moment-shape", typed=when) from None


def there(tx: Transaction, as_of: datetime | str | None) -> ColumnElement[bool]:
    """An SQL condition: the membership stands now, or stood at a moment."""
    if as_of is None:
        return s.memberships.c.removed_at.is_(None)
    at = moment(tx, as_of)
    return and_(
        s.memberships.c.added_at <= at, or_(s.memberships.c.removed_at.is_(None), s.memberships.c.removed_at > at)
    )


def last_reply(case_id: ColumnElement[Any]) -> ColumnElement[Any]:
    """When the case in this column last texted, in SQL."""
    return (
        select(func.max(s.messages.c.created_at))
        .where(s.messages.c.case_id == case_id, s.messages.c.direction == "in")
        .correlate_except(s.messages)
        .scalar_subquery()
    )


def _of_a_case() -> list[ColumnElement[Any]]:
    return [s.cases.c.case_id, *(s.cases.c[name] for name in PROPERTIES), s.cases.c.two_way, s.cases.c.number_warning]


def _within(column: ColumnElement[Any], scope: Collection[int] | None) -> list[ColumnElement[bool]]:
    return [] if scope is None else [column.in_(sorted(scope))]


def _people(column: ColumnElement[Any], scope: Collection[int] | None) -> list[ColumnElement[bool]]:
    """A condition: the case in this column is in one of these groups."""
    if scope is None:
        return []
    inside = select(s.memberships.c.case_id).where(
        s.memberships.c.removed_at.is_(None), s.memberships.c.group_id.in_(sorted(scope))
    )
    return [column.in_(inside)]


@contextlib.contextmanager
def _only_looking(desk: Desk) -> Iterator[Transaction]:
    """A reading in which the database itself refuses to write."""
    with desk.db.reading() as tx:
        if not tx.is_sqlite:
            tx.execute(text("SET TRANSACTION READ ONLY"))
            yield tx
            return
        tx.execute(text("PRAGMA query_only = ON"))
        try:
            yield tx
        finally:
            # The connection is the process's only one, and others write by it.
            tx.execute(text("PRAGMA query_only = OFF"))


def _framed(tx: Transaction, query: Select[Any], rows: Sequence[Any]) -> Frame:
    described = list(query.selected_columns)
    columns: list[Sequence[Any]] = list(zip(*rows, strict=True)) if rows else [() for _ in described]
    made = {c.name: _column(c.type, values, tx.rules.time_zone) for c, values in zip(described, columns, strict=True)}
    return pd.DataFrame(made)


def _column(kind: Any, values: Sequence[Any], zone: str) -> Any:
    if isinstance(kind, s.Moment):
        return _moments(values, zone)
    if isinstance(kind, JSON):
        return pd.Series(values, dtype="object")
    if isinstance(kind, Boolean):
        return pd.Series(values, dtype="boolean")
    if isinstance(kind, Integer):
        return pd.Series(values, dtype="int64" if None not in values else "Int64")
    return pd.Series(values, dtype="str") if isinstance(kind, Text) else pd.Series(values)


def _moments(values: Iterable[Any], zone: str) -> Any:
    return pd.Series(pd.to_datetime(list(values), utc=True), dtype="datetime64[us, UTC]").dt.tz_convert(zone)


_STORED = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6}")
"""A moment as SQLite keeps it."""


def _guessed(tx: Transaction, values: Sequence[Any]) -> Any:
    """A column of a query of one's own: text stays text, and a moment gets the programme's clock on either database."""
    known = [value for value in values if value is not None]
    if known and all(
        isinstance(value, datetime) or (isinstance(value, str) and _STORED.fullmatch(value)) for value in known
    ):
        return _column(s.Moment(), values, tx.rules.time_zone)
    if all(isinstance(value, str) for value in known):
        return pd.Series(values, dtype="str")
    is_whole = all(type(value) is int for value in known)
    return pd.Series(values, dtype="Int64" if is_whole and len(known) < len(values) else None)
