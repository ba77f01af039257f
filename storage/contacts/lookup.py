"""Cases found by whatever a person typed: phone, external id, case id or name; who has a number, and what is near a mistake."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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
    func,
    or_,
    select,
    union_all,
)

from storage.bulk import fill, insert_lines
from storage.database import Transaction
from storage.errors import Problem
from storage.rules import numbers, phone_keys
from storage.rules.identifiers import Identifier, near
from storage.rules.identifiers import read as read_identifier
from storage.rules.normalize import searched
from storage.schema import cases, groups, memberships

wanted_identifiers = Table(
    "wanted_identifiers",
    MetaData(),
    Column("n", Integer, primary_key=True),
    Column("key", Text, nullable=False),
    Column("phone_key", Text),
    prefixes=["TEMPORARY"],
)

BY_PHONE = (
    select(cases)
    .where(cases.c.phone_key == bindparam("phone_key"), cases.c.status == "open")
    .order_by(cases.c.two_way.desc(), cases.c.claimed_at.is_(None), cases.c.claimed_at, cases.c.id)
    .limit(1)
)


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
    tx.temporary(wanted_identifiers)
    lines = [(n, i.key, i.phone and phone_keys.key(i.phone)) for n, i in enumerate(identifiers)]
    insert_lines(tx, wanted_identifiers, ("n", "key", "phone_key"), lines)
    same = (
        cases.c.phone_key == wanted_identifiers.c.phone_key,
        cases.c.external_id_key == wanted_identifiers.c.key,
        cases.c.case_id_key == wanted_identifiers.c.key,
    )
    # Each way by itself and in no order: to sort and to merge them costs as much as to look them up.
    fits = union_all(
        *(select(wanted_identifiers.c.n, cases.c.id.label("case"), *told).join(cases, way) for way in same)
    )
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


_DIGITS = 4
"""Of a number that is searched by its end."""


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
            fits.append(cases.c.phone_key == phone_keys.key(read.digits))
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

_near = Table(
    "near_identifiers",
    MetaData(),
    Column("n", Integer, nullable=False),
    Column("key", Text, nullable=False),
    Column("phone_key", Text),
    prefixes=["TEMPORARY"],
)


def suggest(tx: Transaction, identifiers: Sequence[Identifier]) -> list[str | None]:
    """For each unknown identifier one that exists at edit distance 1, or None; only the first `SUGGESTED` are looked up."""
    variants = [
        {"n": n, "key": other, "phone_key": phone_keys.key(other) if other.isdigit() else None}
        for n, identifier in enumerate(identifiers[:SUGGESTED])
        for other in {*near(identifier.key), *(near(identifier.phone) if identifier.phone else ())}
    ]
    suggestions: list[str | None] = [None] * len(identifiers)
    if not variants:
        return suggestions
    fill(tx, _near, variants)
    for column, variant, shown in (
        (cases.c.case_id_key, _near.c.key, cases.c.case_id),
        (cases.c.external_id_key, _near.c.key, cases.c.external_id),
        (cases.c.phone_key, _near.c.phone_key, cases.c.contact_phone_number),
    ):
        for row in tx.execute(
            select(_near.c.n, func.min(shown).label("nearest")).join(cases, column == variant).group_by(_near.c.n)
        ):
            suggestions[row.n] = row.nearest
    return suggestions


def by_phone(tx: Transaction, phone: str) -> Row[Any] | None:
    """The case that a text from this number is from: its owner, else the open case longest on that number."""
    return tx.execute(BY_PHONE, {"phone_key": phone_keys.key(phone)}).first()


def on_phone(tx: Transaction, phone: str) -> list[Row[Any]]:
    """Every open case with this number, its owner first."""
    same = (cases.c.phone_key == phone_keys.key(phone), cases.c.status == "open")
    return list(tx.execute(select(cases).where(*same).order_by(cases.c.two_way.desc(), cases.c.id)))


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
    """The cases on each of the first phones, by the number of its first: the owner first, each with the short names of its `groups`."""
    phone = cases.c.phone_key
    first = (
        select(phone.label("phone_key"), func.min(cases.c.id).label("oldest"))
        .where(phone.is_not(None))
        .group_by(phone)
        .order_by(func.min(cases.c.id))
        .limit(at_most)
        .subquery()
    )
    inside = (
        select(memberships.c.case_id, func.aggregate_strings(groups.c.short, " ").label("shorts"))
        .join(groups, groups.c.id == memberships.c.group_id)
        .where(memberships.c.removed_at.is_(None), groups.c.deleted_at.is_(None))
        .where(memberships.c.case_id.in_(select(cases.c.id).join(first, first.c.phone_key == phone)))
        .group_by(memberships.c.case_id)
        .subquery()
    )
    rows = tx.execute(
        select(cases, func.coalesce(inside.c.shorts, "").label("groups"))
        .join(first, first.c.phone_key == phone)
        .outerjoin(inside, inside.c.case_id == cases.c.id)
        .order_by(first.c.oldest, cases.c.two_way.desc(), cases.c.id)
    )
    found: dict[str, list[Row[Any]]] = {}
    for row in rows:
        found.setdefault(row.phone_key, []).append(row)
    return {sharing[0].contact_phone_number: sharing for sharing in found.values()}


def list_all(tx: Transaction) -> list[Row[Any]]:
    """Every case, oldest first."""
    return list(tx.execute(select(cases).order_by(cases.c.id)))
