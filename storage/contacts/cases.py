"""Cases: the people a programme texts, and which of them owns a number.

One owner per number: the first verified, open case owns its number two-way and the database refuses a second
(`one_owner_per_number`).  Later claimants keep the number one-way and stand in line in the order in which they claimed
it; the next in line becomes owner by itself when the owner changes number, is closed or loses verification.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Integer,
    MetaData,
    Row,
    Table,
    Text,
    and_,
    bindparam,
    exists,
    func,
    or_,
    select,
    union_all,
    update,
)

from storage import audit
from storage.audit import Actor, Change
from storage.database import Rows, Transaction, insert_lines, insert_many, insert_ready, ready_rows
from storage.errors import Problem
from storage.rules import numbers
from storage.rules.identifiers import Identifier, key, near, new_case_id
from storage.rules.identifiers import read as read_identifier
from storage.rules.normalize import searched
from storage.schema import cases, groups, memberships

PROPERTIES = (
    "external_id",
    "name",
    "status",
    "contact_phone_number",
    "contact_phone_number_is_verified",
    "commcare_email_address",
    "time_zone",
    "language_code",
    "contact_backend_id",
)
"""The columns of a case that a sheet or a person may set, with the names that CommCare exports use."""

_DIGITS = 4
"""Of a number that is searched by its end."""

_random = random.SystemRandom()

_wanted = Table(
    "wanted_identifiers",
    MetaData(),
    Column("n", Integer, primary_key=True),
    Column("key", Text, nullable=False),
    Column("phone", Text),
    prefixes=["TEMPORARY"],
)

_numbers = Table(
    "wanted_numbers",
    MetaData(),
    Column("phone", Text, primary_key=True),
    prefixes=["TEMPORARY"],
)


_near = Table(
    "near_identifiers",
    MetaData(),
    Column("n", Integer, nullable=False),
    Column("key", Text, nullable=False),
    Column("phone", Text),
    prefixes=["TEMPORARY"],
)

BY_PHONE = (
    select(cases)
    .where(cases.c.contact_phone_number == bindparam("phone"), cases.c.status == "open")
    .order_by(cases.c.two_way.desc(), cases.c.claimed_at.is_(None), cases.c.claimed_at, cases.c.id)
    .limit(1)
)

_ids = Table("wanted_cases", MetaData(), Column("id", Integer, primary_key=True), prefixes=["TEMPORARY"])


@dataclass(frozen=True, slots=True)
class Wanted:
    """One case as it should be: `id` None makes a new one; `values` holds only what is to be set.

    `properties` are merged into the free ones; a property set to None is taken away.
    """

    id: int | None
    values: Mapping[str, Any]
    properties: Mapping[str, str | None] = field(default_factory=dict)
    case_id: str | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """How a case stands to its number: who owns it, and who waits in which order."""

    owner: str | None
    waiting: tuple[str, ...]


def contact(tx: Transaction, case: int) -> Row[Any]:
    """The case with this row id; raises LookupError if there is none."""
    row = tx.execute(select(cases).where(cases.c.id == case)).first()
    if row is None:
        raise LookupError(f"no case {case}")
    return row


def find(
    tx: Transaction, identifiers: Sequence[Identifier], columns: Sequence[ColumnElement[Any]] = ()
) -> list[list[Row[Any]]]:
    """For each identifier the cases that it fits, in one question to the database.

    A case fits by phone number, external id or case id.  Of several cases on one phone only the open ones count, unless
    all are closed.  `columns` are what is told of a case, its `status` among them; without any, all of it.
    """
    if not identifiers:
        return []
    told = columns or cases.c
    tx.temporary(_wanted)
    insert_lines(tx, _wanted, ("n", "key", "phone"), [(n, i.key, i.phone) for n, i in enumerate(identifiers)])
    same = (
        cases.c.contact_phone_number == _wanted.c.phone,
        cases.c.external_id_key == _wanted.c.key,
        cases.c.case_id_key == _wanted.c.key,
    )
    # Each way by itself and in no order: to sort and to merge them costs as much as to look them up.
    fits = union_all(*(select(_wanted.c.n, cases.c.id.label("case"), *told).join(cases, way) for way in same))
    found: list[list[Row[Any]]] = [[] for _ in identifiers]
    for row in tx.execute(fits).all():
        found[row[0]].append(row)
    return [fitting if len(fitting) < 2 else _settled(fitting) for fitting in found]


def _settled(fitting: Sequence[Row[Any]]) -> list[Row[Any]]:
    """Each case once, the oldest first, and of several only the open ones, unless all are closed."""
    once = [row for _, row in sorted({row.case: row for row in fitting}.items())]
    return [row for row in once if row.status == "open"] or once


def find_one(tx: Transaction, typed: str) -> Row[Any]:
    """The one case that a typed identifier names.

    Raises Problem `case-unknown` (with the nearest identifier that exists, where one is near) or `case-ambiguous` (with
    the candidates).
    """
    identifier = read_identifier(typed, country=tx.rules.country)
    fitting = find(tx, [identifier])[0]
    if not fitting:
        nearest = suggest(tx, [identifier])[0]
        raise (
            Problem("case-unknown-near", typed=typed, near=nearest) if nearest else Problem("case-unknown", typed=typed)
        )
    if len(fitting) > 1:
        raise Problem("case-ambiguous", typed=typed, candidates=", ".join(row.case_id for row in fitting))
    return fitting[0]


def search(
    tx: Transaction, words: str, *, group_ids: Iterable[int] | None = None, at_most: int = 3
) -> tuple[int, list[Row[Any]]]:
    """The cases whose name has all of these words, or whose id or number has them: how many, and the first few.

    Without capitals and accents; a number whole, or by its last four digits.  `group_ids` keeps to the members of some
    groups.  Open cases come first, then by name.
    """
    keys = [key.strip("\"'.,:;!?()*#") for key in searched(words).split()]
    keys = [key for key in keys if key]
    if not keys:
        return 0, []
    named = and_(*(cases.c.name_key.contains(word, autoescape=True) for word in keys))
    whole = "".join(keys)
    fits = [named, cases.c.case_id_key == whole, cases.c.external_id_key == whole]
    number = whole.lstrip("+")
    if number.isdigit() and len(number) >= _DIGITS:
        if len(number) == _DIGITS:
            # The end of a number, and no longer piece of it: digit by digit a masked number could be asked out.
            fits.append(cases.c.contact_phone_number.endswith(number, autoescape=True))
        elif (read := numbers.find(whole, country=tx.rules.country)) is not None:
            fits.append(cases.c.contact_phone_number == read.digits)
    query = select(cases).where(or_(*fits))
    if group_ids is not None:
        inside = select(memberships.c.case_id).where(
            memberships.c.group_id.in_(list(group_ids)), memberships.c.removed_at.is_(None)
        )
        query = query.where(cases.c.id.in_(inside))
    count = int(tx.scalar(select(func.count()).select_from(query.subquery())))
    first = query.order_by(cases.c.status.desc(), cases.c.name_key, cases.c.id).limit(at_most)
    return count, list(tx.execute(first)) if count else []


SUGGESTED = 200
"""Identifiers for which a near one is looked up: a sheet with more unknown rows has another trouble than typing."""


def suggest(tx: Transaction, identifiers: Sequence[Identifier]) -> list[str | None]:
    """For each unknown identifier one that exists at edit distance 1, or None; only the first `SUGGESTED` are looked up."""
    variants = [
        {"n": n, "key": other, "phone": other if other.isdigit() else None}
        for n, identifier in enumerate(identifiers[:SUGGESTED])
        for other in {*near(identifier.key), *(near(identifier.phone) if identifier.phone else ())}
    ]
    suggestions: list[str | None] = [None] * len(identifiers)
    if not variants:
        return suggestions
    fill(tx, _near, variants)
    for column in (cases.c.case_id_key, cases.c.external_id_key, cases.c.contact_phone_number):
        variant = _near.c.phone if column is cases.c.contact_phone_number else _near.c.key
        shown = {cases.c.external_id_key: cases.c.external_id, cases.c.case_id_key: cases.c.case_id}.get(column, column)
        for row in tx.execute(
            select(_near.c.n, func.min(shown).label("nearest")).join(cases, column == variant).group_by(_near.c.n)
        ):
            suggestions[row.n] = row.nearest
    return suggestions


def by_phone(tx: Transaction, phone: str) -> Row[Any] | None:
    """The case that a text from this number is from: its owner, else the open case longest on that number."""
    return tx.execute(BY_PHONE, {"phone": phone}).first()


def on_phone(tx: Transaction, phone: str) -> list[Row[Any]]:
    """Every open case with this number, its owner first."""
    same = (cases.c.contact_phone_number == phone, cases.c.status == "open")
    return list(tx.execute(select(cases).where(*same).order_by(cases.c.two_way.desc(), cases.c.id)))


def standing(tx: Transaction, case: Row[Any]) -> Standing:
    """Who owns the number of this case, and who waits for it, in order."""
    if case.contact_phone_number is None:
        return Standing(None, ())
    same = cases.c.contact_phone_number == case.contact_phone_number
    owner = tx.scalar(select(cases.c.case_id).where(same, cases.c.two_way))
    waiting = tx.execute(
        select(cases.c.case_id)
        .where(same, cases.c.claimed_at.is_not(None), ~cases.c.two_way)
        .order_by(cases.c.claimed_at, cases.c.id)
    ).scalars()
    return Standing(owner, tuple(waiting))


def owners_of(tx: Transaction, numbers: Iterable[str]) -> dict[str, Row[Any]]:
    """For each number that has an owner, the owning case; in one question to the database."""
    if not _fill_numbers(tx, numbers):
        return {}
    rows = tx.execute(
        select(cases).join(_numbers, _numbers.c.phone == cases.c.contact_phone_number).where(cases.c.two_way)
    )
    return {row.contact_phone_number: row for row in rows}


def groups_of(tx: Transaction, case: int) -> list[str]:
    """Short names of the groups that a case is in."""
    return list(
        tx.execute(
            select(groups.c.short)
            .join(memberships, memberships.c.group_id == groups.c.id)
            .where(memberships.c.case_id == case, memberships.c.removed_at.is_(None), groups.c.deleted_at.is_(None))
            .order_by(groups.c.short)
        ).scalars()
    )


def by_number(tx: Transaction, *, at_most: int) -> dict[str, list[Row[Any]]]:
    """The cases on each of the first numbers, owner first, each with the short names of its `groups`."""
    number = cases.c.contact_phone_number
    first = (
        select(number.label("phone"), func.min(cases.c.id).label("oldest"))
        .where(number.is_not(None))
        .group_by(number)
        .order_by(func.min(cases.c.id))
        .limit(at_most)
        .subquery()
    )
    inside = (
        select(memberships.c.case_id, func.aggregate_strings(groups.c.short, " ").label("shorts"))
        .join(groups, groups.c.id == memberships.c.group_id)
        .where(memberships.c.removed_at.is_(None), groups.c.deleted_at.is_(None))
        .where(memberships.c.case_id.in_(select(cases.c.id).join(first, first.c.phone == number)))
        .group_by(memberships.c.case_id)
        .subquery()
    )
    rows = tx.execute(
        select(cases, func.coalesce(inside.c.shorts, "").label("groups"))
        .join(first, first.c.phone == number)
        .outerjoin(inside, inside.c.case_id == cases.c.id)
        .order_by(first.c.oldest, cases.c.two_way.desc(), cases.c.id)
    )
    found: dict[str, list[Row[Any]]] = {}
    for row in rows:
        found.setdefault(row.contact_phone_number, []).append(row)
    return found


def list_all(tx: Transaction) -> list[Row[Any]]:
    """Every case, oldest first."""
    return list(tx.execute(select(cases).order_by(cases.c.id)))


@dataclass(frozen=True, slots=True)
class Ready:
    """What `write` writes for some wishes, worked out beforehand: `ids` are the row ids in their order, `case_ids` the public
    ones of those that are new, by row id."""

    ids: Sequence[int]
    case_ids: Mapping[int, str]
    made: Rows | None
    updated: Sequence[Mapping[str, Any]]
    numbers: frozenset[str]
    changes: audit.Changes
    after: int | None
    """On SQLite the last row id before the new ones: they fit only while no other case was made."""


def make_ready(tx: Transaction, wanted: Sequence[Wanted]) -> Ready:
    """The slow part of `save`, which only looks: of a large sheet two thirds of the time, without the writer's turn."""
    before = _load(tx, [w.id for w in wanted if w.id is not None])
    made = [w for w in wanted if w.id is None]
    case_ids = iter(_unused_case_ids(tx, sum(w.case_id is None for w in made)))
    after_id, fresh_ids = _unused_ids(tx, len(made))
    new = [{"id": i, **_fresh(tx, w, w.case_id or next(case_ids))} for i, w in zip(fresh_ids, made, strict=True)]
    inserted = iter(new)
    ids: list[int] = []
    changes: list[Change] = []
    updated: list[dict[str, Any]] = []
    numbers: set[str | None] = set()
    for w in wanted:
        if w.id is None:
            case = next(inserted)
            ids.append(case["id"])
            changes.append(Change("case", case["id"], {}, _plain(case)))
            numbers.add(case["contact_phone_number"])
            continue
        ids.append(w.id)
        old = before[w.id]
        after = _changed(tx, old, w)
        numbers |= {old["contact_phone_number"], after["contact_phone_number"]}
        differing = [name for name in after if after[name] != old[name]]
        if differing:
            changes.append(
                Change("case", w.id, _plain({n: old[n] for n in differing}), _plain({n: after[n] for n in differing}))
            )
            updated.append({**after, "row": w.id, "modified_at": tx.now})
    return Ready(
        ids=ids,
        case_ids={case["id"]: case["case_id"] for case in new},
        made=ready_rows(tx, cases, new) if new else None,
        updated=updated,
        numbers=frozenset(n for n in numbers if n is not None),
        changes=audit.make_ready(tx, changes),
        after=after_id,
    )


def save(tx: Transaction, wanted: Sequence[Wanted], *, verb: str = "cases.save", by: Actor) -> list[int]:
    """Create and update cases; returns their row ids in the order given.

    Settles who owns every number touched, and writes one audit line with each case's old and new values.
    Values are taken as they are: imports.py and the commands check them first.
    """
    return write(tx, make_ready(tx, wanted), verb=verb, by=by)


def fits(tx: Transaction, ready: Ready) -> bool:
    """Whether the new cases may still have the row ids that were thought of; that no case changed the caller knows."""
    return ready.after is None or ready.after == (tx.scalar(select(func.max(cases.c.id))) or 0)


def write(tx: Transaction, ready: Ready, *, verb: str, by: Actor) -> list[int]:
    """Write what was made ready; returns the row ids in the order of the wishes."""
    if ready.made is not None:
        insert_ready(tx, ready.made)
    if ready.updated:
        tx.execute(_UPDATE, ready.updated)
    settle_ownership(tx, ready.numbers)
    facts = {"created": len(ready.case_ids), "updated": len(ready.updated)}
    one = ready.ids[0] if len(ready.ids) == 1 else None
    audit.record(tx, verb, "case", one, facts=facts, changes=ready.changes, by=by)
    return list(ready.ids)


def _unused_ids(tx: Transaction, count: int) -> tuple[int | None, Sequence[int]]:
    """Row ids for so many new cases, and on SQLite the last one before them; a sequence of PostgreSQL never gives one twice."""
    if tx.is_sqlite:
        last = int(tx.scalar(select(func.max(cases.c.id))) or 0)
        return last, range(last + 1, last + 1 + count)
    if not count:
        return None, ()
    following = func.nextval(func.pg_get_serial_sequence(cases.name, "id"))
    drawn = select(following).select_from(func.generate_series(1, count).alias("n"))
    return None, sorted(tx.execute(drawn).scalars())


def settle_ownership(tx: Transaction, numbers: Iterable[str]) -> None:
    """Give each number to the first in its line, and take it from a case that may not hold it any more."""
    if not _fill_numbers(tx, numbers):
        return
    here = cases.c.contact_phone_number.in_(select(_numbers.c.phone))
    tx.execute(update(cases).where(here, cases.c.two_way, cases.c.claimed_at.is_(None)).values(two_way=False))
    other = cases.alias("other")
    line = select(
        cases.c.id,
        func.row_number()
        .over(partition_by=cases.c.contact_phone_number, order_by=(cases.c.claimed_at, cases.c.id))
        .label("place"),
    ).where(
        here,
        cases.c.claimed_at.is_not(None),
        ~exists().where(other.c.contact_phone_number == cases.c.contact_phone_number, other.c.two_way),
    )
    first = line.subquery()
    tx.execute(update(cases).where(cases.c.id.in_(select(first.c.id).where(first.c.place == 1))).values(two_way=True))


def hand_over(tx: Transaction, case: Row[Any], *, by: Actor) -> Row[Any]:
    """Make a case the owner of its number, which another one owns; returns who owned it, now waiting in its old place.

    Nobody asks the phone, so it is for a lead, who knows whose it is.  Raises Problem `hand-over-not-waiting` where the
    case does not stand in line for a number that somebody owns: it must be open and verified first.
    """
    owned = and_(cases.c.contact_phone_number == case.contact_phone_number, cases.c.two_way)
    owner = tx.execute(select(cases).where(owned)).first() if case.claimed_at is not None else None
    if owner is None or owner.id == case.id:
        raise Problem("hand-over-not-waiting", case=case.case_id)
    for one, owns in ((owner, False), (case, True)):  # in this order: a number has one owner at any moment
        tx.execute(update(cases).where(cases.c.id == one.id).values(two_way=owns, modified_at=tx.now))
    changes = [
        Change("case", one.id, {"two_way": not owns}, {"two_way": owns}) for one, owns in ((owner, False), (case, True))
    ]
    audit.record(tx, "cases.own", "case", case.id, facts={"handed_over": 1}, changes=changes, by=by)
    return owner


_SETTABLE = (*PROPERTIES, "name_key", "external_id_key", "number_warning", "claimed_at", "properties", "two_way")
_UPDATE = (
    update(cases)
    .where(cases.c.id == bindparam("row"))
    .values({name: bindparam(name) for name in (*_SETTABLE, "modified_at")})
)


def _load(tx: Transaction, ids: list[int]) -> dict[int, dict[str, Any]]:
    """The settable columns of these cases, by row id, in one question for up to a whole sheet."""
    if not ids:
        return {}
    fill(tx, _ids, [{"id": i} for i in sorted(set(ids))])
    columns = [cases.c.id, *(cases.c[name] for name in _SETTABLE)]
    rows = tx.execute(select(*columns).join(_ids, _ids.c.id == cases.c.id)).mappings()
    return {row["id"]: {name: row[name] for name in _SETTABLE} for row in rows}


def _unused_case_ids(tx: Transaction, count: int) -> list[str]:
    """So many case ids that no case has: short enough to type, so chance alone would repeat one in a large sheet."""
    # A case id is a name and no secret: asking the system for every letter took two seconds of a large sheet's time.
    quick = random.Random(_random.getrandbits(128))  # noqa: S311
    fresh: set[str] = set()
    while len(fresh) < count:
        tried = {new_case_id(quick) for _ in range(count - len(fresh))}
        fill(tx, _wanted, [{"n": n, "key": case_id, "phone": None} for n, case_id in enumerate(tried)])
        taken = tx.execute(select(_wanted.c.key).join(cases, cases.c.case_id_key == _wanted.c.key)).scalars()
        fresh |= tried - set(taken)
    return list(fresh)


def _fresh(tx: Transaction, w: Wanted, case_id: str) -> dict[str, Any]:
    """The row of a case to be made."""
    empty = dict.fromkeys(_SETTABLE) | {
        "name": "",
        "name_key": "",
        "status": "open",
        "contact_phone_number_is_verified": False,
        "two_way": False,
        "properties": {},
    }
    stamps = {"case_id": case_id, "case_id_key": key(case_id), "created_at": tx.now, "modified_at": tx.now}
    return {**stamps, **_changed(tx, empty, w)}


def _changed(tx: Transaction, old: Mapping[str, Any], w: Wanted) -> dict[str, Any]:
    """The columns of a case after a change, with what follows from it: a changed number is no longer verified."""
    after = {**old, **w.values}
    moved = after["contact_phone_number"] != old["contact_phone_number"]
    if moved and "contact_phone_number_is_verified" not in w.values:
        after["contact_phone_number_is_verified"] = False
    if after["contact_phone_number"] is None:
        after["contact_phone_number_is_verified"] = False
        after["number_warning"] = None
    after["external_id_key"] = key(after["external_id"]) if after["external_id"] else None
    after["name_key"] = searched(after["name"])
    merged = {**old["properties"], **w.properties}
    after["properties"] = {name: value for name, value in merged.items() if value is not None}
    claims = after["contact_phone_number_is_verified"] and after["status"] == "open"
    after["claimed_at"] = _claim(tx.now, old["claimed_at"], claims=claims, moved=moved)
    if moved or not claims:
        after["two_way"] = False
    return after


def _claim(now: datetime, since: datetime | None, *, claims: bool, moved: bool) -> datetime | None:
    """Since when a case stands in line: kept while it keeps the number, renewed when the number changes."""
    if not claims:
        return None
    return now if moved or since is None else since


def _fill_numbers(tx: Transaction, numbers: Iterable[str]) -> bool:
    distinct = [{"phone": phone} for phone in sorted(set(numbers))]
    fill(tx, _numbers, distinct)
    return bool(distinct)


def fill(tx: Transaction, table: Table, rows: Iterable[Mapping[str, Any]]) -> None:
    """Make a temporary table hold these rows and no others."""
    tx.temporary(table)
    insert_many(tx, table, rows)


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a row that an audit line keeps: what a person set, as JSON can hold it."""
    kept = {n: v for n, v in values.items() if n in PROPERTIES or n in ("properties", "case_id")}
    return {n: v for n, v in kept.items() if v not in (None, "", {})}
