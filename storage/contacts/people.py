"""Supervisors and other staff: who may do what, for which groups.

A lead may do everything for every group; the others act within their own groups.  What a person may not touch and what
does not exist look the same from outside.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, and_, bindparam, delete, func, insert, select, update

from storage import audit
from storage.audit import Actor, Change
from storage.contacts import groups
from storage.database import Transaction
from storage.errors import Problem
from storage.rules import numbers, phone_keys
from storage.rules.hours_and_limits import read_language
from storage.rules.normalize import fold
from storage.schema import ROLES, memberships, people, person_groups

RIGHTS: dict[str, frozenset[str]] = {
    "viewer": frozenset({"see", "read"}),
    "helper": frozenset({"see", "add"}),
    "supervisor": frozenset({"see", "read", "add", "change", "tell"}),
    "lead": frozenset({"see", "read", "add", "change", "tell", "lead"}),
}
"""see: menu and groups; read: who is in them and what ran; add: put cases in; change: take out, make groups;
tell: text cases; lead: everything, for every group."""

# Asked for every text that comes in, so they are built once.
BY_PHONE = select(people).where(people.c.phone_key == bindparam("phone_key"), people.c.active)


def may(person: Row[Any], right: str) -> bool:
    """Whether this person's role has a right."""
    return right in RIGHTS[person.role]


def by_phone(tx: Transaction, phone: str) -> Row[Any] | None:
    """The active person registered with this number."""
    return tx.execute(BY_PHONE, {"phone_key": phone_keys.key(phone)}).first()


def by_id(tx: Transaction, person_id: int | None) -> Row[Any] | None:
    """The active person with this row id."""
    return tx.execute(select(people).where(people.c.id == person_id, people.c.active)).first()


def person(tx: Transaction, phone: str) -> Row[Any]:
    """The active person registered with this number; raises Problem `person-unknown`."""
    number = numbers.read(phone, country=tx.rules.country)
    found = by_phone(tx, number.digits)
    if found is None:
        raise Problem("person-unknown", phone=phone)
    return found


def named(tx: Transaction, person_id: int | None) -> str:
    """A person's name; the system's own user is `system`."""
    return str(tx.scalar(select(people.c.name).where(people.c.id == person_id)) or "system")


def groups_of(tx: Transaction, person: Row[Any]) -> list[Row[Any]]:
    """The live groups that a person may see, by short name; all of them for a lead."""
    if may(person, "lead"):
        return groups.list_live(tx)
    own = set(tx.execute(select(person_groups.c.group_id).where(person_groups.c.person_id == person.id)).scalars())
    return groups.list_live(tx, only=own)


_CARING_FOR = select(people).where(
    people.c.active,
    people.c.role == "supervisor",
    people.c.id.in_(
        select(person_groups.c.person_id)
        .join(memberships, and_(memberships.c.group_id == person_groups.c.group_id, memberships.c.removed_at.is_(None)))
        .where(memberships.c.case_id == bindparam("case_id"))
    ),
)


def caring_for(tx: Transaction, case_id: int) -> list[Row[Any]]:
    """The supervisors of the groups that a case is in."""
    return list(tx.execute(_CARING_FOR, {"case_id": case_id}))


def list_all(tx: Transaction) -> list[Row[Any]]:
    """Every active person, oldest first."""
    return list(tx.execute(select(people).where(people.c.active).order_by(people.c.id)))


def leads(tx: Transaction) -> list[Row[Any]]:
    """The active leads."""
    return [p for p in list_all(tx) if p.role == "lead"]


def add(
    tx: Transaction,
    name: str,
    phone: str,
    role: str,
    *,
    shorts: Sequence[str] = (),
    language: str | None = None,
    by: Actor,
) -> Row[Any]:
    """Register a person.

    Raises Problem `person-exists`, `person-role`, `person-name`, `language-shape`, `group-unknown` or a number's.
    """
    number = numbers.read(phone, country=tx.rules.country, strict=tx.rules.strict_numbers)
    if role not in ROLES:
        raise Problem("person-role", role=role, roles=", ".join(ROLES))
    if not fold(name):
        raise Problem("person-name")
    if by_phone(tx, number.digits) is not None:
        raise Problem("person-exists", phone=number.digits)
    scope = _ids_of(tx, shorts)
    row = {
        "name": fold(name),
        "phone": number.digits,
        "phone_key": phone_keys.key(number.digits),
        "role": role,
        "language_code": read_language(language) if language else None,
        "active": True,
        "created_at": tx.now,
    }
    person_id = tx.execute(insert(people).returning(people.c.id), row).scalar_one()
    _set_groups(tx, person_id, scope)
    after = {"name": row["name"], "phone": row["phone"], "role": role, "groups": sorted(shorts)}
    audit.record(tx, "people.add", "person", person_id, changes=[Change("person", person_id, {}, after)], by=by)
    return tx.execute(select(people).where(people.c.id == person_id)).one()


def change(
    tx: Transaction,
    person: Row[Any],
    *,
    role: str | None = None,
    shorts: Sequence[str] | None = None,
    language: str | None = None,
    by: Actor,
) -> None:
    """Change a person's role, groups or language.

    The last lead stays a lead: Problem `person-last-lead`.  Raises also `person-role`, `language-shape`, `group-unknown`.
    """
    if role is not None and role not in ROLES:
        raise Problem("person-role", role=role, roles=", ".join(ROLES))
    if role not in (None, "lead"):
        _keep_a_lead(tx, person)
    scope = None if shorts is None else _ids_of(tx, shorts)
    new = {"role": role or person.role, "language_code": read_language(language) if language else person.language_code}
    tx.execute(update(people).where(people.c.id == person.id).values(**new))
    before = {"role": person.role, "language_code": person.language_code}
    if shorts is not None and scope is not None:
        before["groups"] = [g.short for g in groups_of(tx, person)]
        _set_groups(tx, person.id, scope)
        new["groups"] = sorted(shorts)
    audit.record(tx, "people.change", "person", person.id, changes=[Change("person", person.id, before, new)], by=by)


def remove(tx: Transaction, person: Row[Any], *, by: Actor) -> None:
    """End a person's access; what they did stays under their name.  The last lead cannot go."""
    _keep_a_lead(tx, person)
    tx.execute(update(people).where(people.c.id == person.id).values(active=False))
    change = Change("person", person.id, {"active": True}, {"active": False})
    audit.record(tx, "people.remove", "person", person.id, changes=[change], by=by)


def _keep_a_lead(tx: Transaction, person: Row[Any]) -> None:
    others = select(func.count()).select_from(people).where(people.c.role == "lead", people.c.active)
    if person.role == "lead" and tx.scalar(others.where(people.c.id != person.id)) == 0:
        raise Problem("person-last-lead", name=person.name)


def _ids_of(tx: Transaction, shorts: Sequence[str]) -> set[int]:
    """The groups of these short names; asked before anything is written, so that a refusal leaves nothing behind."""
    return {int(groups.group(tx, short).id) for short in shorts}


def _set_groups(tx: Transaction, person_id: int, ids: set[int]) -> None:
    tx.execute(delete(person_groups).where(person_groups.c.person_id == person_id))
    if ids:
        tx.execute(insert(person_groups), [{"person_id": person_id, "group_id": g} for g in sorted(ids)])
