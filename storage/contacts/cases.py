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
    Integer,
    MetaData,
    Row,
    Table,
    Text,
    and_,
    bindparam,
    exists,
    func,
    select,
    update,
)

from storage import audit
from storage.audit import Actor, Change
from storage.bulk import Rows, fill, insert_ready, ready_rows
from storage.contacts.lookup import wanted_identifiers
from storage.database import Transaction
from storage.errors import Problem
from storage.rules import phone_keys
from storage.rules.identifiers import new_case_id
from storage.rules.normalize import key, searched
from storage.schema import cases

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


_wanted_phones = Table(
    "wanted_phones",
    MetaData(),
    Column("phone_key", Text, primary_key=True),
    prefixes=["TEMPORARY"],
)

_wanted_cases = Table("wanted_cases", MetaData(), Column("id", Integer, primary_key=True), prefixes=["TEMPORARY"])


@dataclass(frozen=True, slots=True)
class Ready:
    """What `write` writes for some wishes, worked out beforehand: `ids` are the row ids in their order, `case_ids` the public
    ones of those that are new, by row id."""

    ids: Sequence[int]
    case_ids: Mapping[int, str]
    made: Rows | None
    updated: Sequence[Mapping[str, Any]]
    phones: frozenset[str]
    """The keys of all phones that a case has, or had before."""
    changes: audit.Changes
    after: int | None
    """On SQLite the last row id before the new ones: they fit only while no other case was made."""


def standing(tx: Transaction, case: Row[Any]) -> Standing:
    """Who owns the number of this case, and who waits for it, in order."""
    if case.phone_key is None:
        return Standing(None, ())
    same = cases.c.phone_key == case.phone_key
    owner = tx.scalar(select(cases.c.case_id).where(same, cases.c.two_way))
    waiting = tx.execute(
        select(cases.c.case_id)
        .where(same, cases.c.claimed_at.is_not(None), ~cases.c.two_way)
        .order_by(cases.c.claimed_at, cases.c.id)
    ).scalars()
    return Standing(owner, tuple(waiting))


def owners_of(tx: Transaction, numbers: Iterable[str]) -> dict[str, Row[Any]]:
    """For each number that has an owner, the owning case; in one question to the database."""
    by_number = {number: phone_keys.key(number) for number in numbers}
    if not _fill_phones(tx, by_number.values()):
        return {}
    query = select(cases).join(_wanted_phones, _wanted_phones.c.phone_key == cases.c.phone_key).where(cases.c.two_way)
    owners = {row.phone_key: row for row in tx.execute(query)}
    return {number: owners[phone] for number, phone in by_number.items() if phone in owners}


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
    phones: set[str | None] = set()
    for w in wanted:
        if w.id is None:
            case = next(inserted)
            ids.append(case["id"])
            changes.append(Change("case", case["id"], {}, _plain(case)))
            phones.add(case["phone_key"])
            continue
        ids.append(w.id)
        old = before[w.id]
        after = _changed(tx, old, w)
        phones |= {old["phone_key"], after["phone_key"]}
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
        phones=frozenset(phone for phone in phones if phone is not None),
        changes=audit.make_ready(tx, changes),
        after=after_id,
    )


def save(tx: Transaction, wanted: Sequence[Wanted], *, verb: str = "cases.save", by: Actor) -> list[int]:
    """Create and update cases; returns their row ids in the order given.

    Settles who owns every number touched, and writes one audit line with each case's old and new values.
    Values are taken as they are: imports.py and the commands check them first.
    """
    return write(tx, make_ready(tx, wanted), verb=verb, by=by)


_SETTABLE = (
    *PROPERTIES, "name_key", "external_id_key", "phone_key", "number_warning", "claimed_at", "properties", "two_way",
)  # fmt: skip

_UPDATE = (
    update(cases)
    .where(cases.c.id == bindparam("row"))
    .values({name: bindparam(name) for name in (*_SETTABLE, "modified_at")})
)


def write(tx: Transaction, ready: Ready, *, verb: str, by: Actor) -> list[int]:
    """Write what was made ready; returns the row ids in the order of the wishes."""
    if ready.made is not None:
        insert_ready(tx, ready.made)
    if ready.updated:
        tx.execute(_UPDATE, ready.updated)
    settle_ownership(tx, ready.phones)
    facts = {"created": len(ready.case_ids), "updated": len(ready.updated)}
    one = ready.ids[0] if len(ready.ids) == 1 else None
    audit.record(tx, verb, "case", one, facts=facts, changes=ready.changes, by=by)
    return list(ready.ids)


def fits(tx: Transaction, ready: Ready) -> bool:
    """Whether the new cases may still have the row ids that were thought of; that no case changed the caller knows."""
    return ready.after is None or ready.after == (tx.scalar(select(func.max(cases.c.id))) or 0)


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


def settle_ownership(tx: Transaction, phones: Iterable[str]) -> None:
    """Give each phone, by its key, to the first in its line, and take it from a case that may not hold it any more."""
    if not _fill_phones(tx, phones):
        return
    here = cases.c.phone_key.in_(select(_wanted_phones.c.phone_key))
    tx.execute(update(cases).where(here, cases.c.two_way, cases.c.claimed_at.is_(None)).values(two_way=False))
    other = cases.alias("other")
    line = select(
        cases.c.id,
        func.row_number()
        .over(partition_by=cases.c.phone_key, order_by=(cases.c.claimed_at, cases.c.id))
        .label("place"),
    ).where(
        here,
        cases.c.claimed_at.is_not(None),
        ~exists().where(other.c.phone_key == cases.c.phone_key, other.c.two_way),
    )
    first = line.subquery()
    tx.execute(update(cases).where(cases.c.id.in_(select(first.c.id).where(first.c.place == 1))).values(two_way=True))


def hand_over(tx: Transaction, case: Row[Any], *, by: Actor) -> Row[Any]:
    """Make a case the owner of its number, which another one owns; returns who owned it, now waiting in its old place.

    Nobody asks the phone, so it is for a lead, who knows whose it is.  Raises Problem `hand-over-not-waiting` where the
    case does not stand in line for a number that somebody owns: it must be open and verified first.
    """
    owned = and_(cases.c.phone_key == case.phone_key, cases.c.two_way)
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


def _load(tx: Transaction, ids: list[int]) -> dict[int, dict[str, Any]]:
    """The settable columns of these cases, by row id, in one question for up to a whole sheet."""
    if not ids:
        return {}
    fill(tx, _wanted_cases, [{"id": i} for i in sorted(set(ids))])
    columns = [cases.c.id, *(cases.c[name] for name in _SETTABLE)]
    rows = tx.execute(select(*columns).join(_wanted_cases, _wanted_cases.c.id == cases.c.id)).mappings()
    return {row["id"]: {name: row[name] for name in _SETTABLE} for row in rows}


_random = random.SystemRandom()


def _unused_case_ids(tx: Transaction, count: int) -> list[str]:
    """So many case ids that no case has: short enough to type, so chance alone would repeat one in a large sheet."""
    # A case id is a name and no secret: asking the system for every letter took two seconds of a large sheet's time.
    quick = random.Random(_random.getrandbits(128))  # noqa: S311
    fresh: set[str] = set()
    while len(fresh) < count:
        tried = {new_case_id(quick) for _ in range(count - len(fresh))}
        fill(tx, wanted_identifiers, [{"n": n, "key": case_id, "phone_key": None} for n, case_id in enumerate(tried)])
        taken = tx.execute(
            select(wanted_identifiers.c.key).join(cases, cases.c.case_id_key == wanted_identifiers.c.key)
        ).scalars()
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
    number = after["contact_phone_number"]
    after["phone_key"] = phone_keys.key(number) if number is not None else None
    moved = after["phone_key"] != old["phone_key"]
    if moved and "contact_phone_number_is_verified" not in w.values:
        after["contact_phone_number_is_verified"] = False
    if number is None:
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


def _fill_phones(tx: Transaction, phones: Iterable[str]) -> bool:
    distinct = [{"phone_key": phone} for phone in sorted(set(phones))]
    fill(tx, _wanted_phones, distinct)
    return bool(distinct)


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a row that an audit line keeps: what a person set, as JSON can hold it."""
    kept = {n: v for n, v in values.items() if n in PROPERTIES or n in ("properties", "case_id")}
    return {n: v for n, v in kept.items() if v not in (None, "", {})}
