"""A world to act in: cases, groups and people made by the verbs of storage, named as a test needs them."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

from storage import audit
from storage.audit import Actor
from storage.contacts import cases, groups, lookup, people
from storage.contacts.cases import Wanted
from storage.database import Database, Transaction

TEST = Actor("test", None, "a test")


def broken_line(tx: Transaction) -> int | None:
    """The line of the audit log that does not hold, or its last where its end was touched; None if all is well."""
    found = audit.verify(lambda: nullcontext(tx))
    if found.breach is None:
        return None
    line = found.broken or found.last
    return line.id if line is not None else 0


class World:
    """Every verb opens its own transaction, so that a test reads as a story."""

    def __init__(self, db: Database) -> None:
        self.db = db

    def case(self, external_id: str, phone: str | None = None, *, verified: bool = True, **values: Any) -> int:
        """A case, verified on its phone unless told otherwise; returns its row id."""
        wanted = {"external_id": external_id, "name": external_id.title(), **values}
        if phone is not None:
            wanted |= {"contact_phone_number": phone, "contact_phone_number_is_verified": verified}
        with self.db.transaction() as tx:
            return cases.save(tx, [Wanted(None, wanted)], by=TEST)[0]

    def change(self, case: int, **values: Any) -> None:
        """Set properties of a case."""
        with self.db.transaction() as tx:
            cases.save(tx, [Wanted(case, values)], by=TEST)

    def group(self, short: str, *members: int, name: str | None = None) -> int:
        """A group with these members; returns its row id."""
        with self.db.transaction() as tx:
            group = groups.create(tx, short, name, by=TEST)
            groups.add(tx, group.id, members, by=TEST)
            return int(group.id)

    def person(self, name: str, phone: str, role: str = "lead", *shorts: str, language: str | None = None) -> Any:
        """A member of staff."""
        with self.db.transaction() as tx:
            return people.add(tx, name, phone, role, shorts=shorts, language=language, by=TEST)

    def look(self, case: int) -> Any:
        """The case as it is now."""
        with self.db.reading() as tx:
            return lookup.contact(tx, case)


def inside(db: Database, group: int) -> list[str]:
    """The external ids of the members of a group, in their order."""
    with db.reading() as tx:
        return [row.external_id for row in groups.members(tx, group)]
