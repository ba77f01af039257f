"""Who is at the desk, and what they may see and do: asked again in every transaction, whatever a page shows.

Whoever is no lead sees and touches their own groups; another's and one that does not exist look the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Row

from storage.audit import Actor
from storage.contacts import groups, lookup, people
from storage.database import Database, Transaction
from storage.errors import Problem
from storage.operations import undo
from storage.rules.identifiers import read as read_identifier


class Access:
    """One person at the desk: `person_id` None is the system's own user, who may do everything.

    `notebook` stands in the audit log as where a change was made.
    """

    def __init__(self, db: Database, person_id: int | None = None, notebook: str = "notebook") -> None:
        self.db = db
        self.person_id = person_id
        self.notebook = notebook

    def person(self, tx: Transaction) -> Row[Any] | None:
        """Who acts, as they are registered now; raises Problem `nobody-signed-in` once their access has ended."""
        if self.person_id is None:
            return None
        row = people.by_id(tx, self.person_id)
        if row is None:
            raise Problem("nobody-signed-in")
        return row

    def may(self, tx: Transaction, right: str) -> bool:
        """Whether this person's role has a right."""
        row = self.person(tx)
        return row is None or people.may(row, right)

    def allow(self, tx: Transaction, right: str) -> None:
        """Raise Problem `right-missing` unless this person's role has a right."""
        row = self.person(tx)
        if row is not None and not people.may(row, right):
            raise Problem("right-missing", name=row.name, role=row.role)

    def scope(self, tx: Transaction) -> frozenset[int] | None:
        """The groups that this person may see; None: every group, and every case."""
        row = self.person(tx)
        return None if row is None or people.may(row, "lead") else frozenset(g.id for g in people.groups_of(tx, row))

    def group(self, tx: Transaction, short: str) -> Row[Any]:
        """A live group that this person may see; raises Problem `group-unknown`, with near names among their own."""
        found, scope = groups.find(tx, short), self.scope(tx)
        if found is not None and (scope is None or found.id in scope):
            return found
        near = groups.close(short, [g.short for g in groups.list_all(tx, only=scope)])
        raise Problem("group-unknown", group=short, near=", ".join(near))

    def case(self, tx: Transaction, typed: str) -> Row[Any]:
        """The one case that this person may see and that a phone number, external id or case id names.

        Raises Problem `case-unknown` or `case-ambiguous`; of others' cases neither says anything.
        """
        scope = self.scope(tx)
        if scope is None:
            return lookup.find_one(tx, typed)
        (found,) = lookup.find(tx, [read_identifier(typed, country=tx.rules.country)])
        own = groups.members_of_any(tx, scope, [row.id for row in found])
        seen = [row for row in found if row.id in own]
        if not seen:
            raise Problem("case-unknown", typed=typed)
        if len(seen) > 1:
            raise Problem("case-ambiguous", typed=typed, candidates=", ".join(row.case_id for row in seen))
        return seen[0]

    def undoable(self, tx: Transaction, rows: Iterable[Row[Any]]) -> set[int]:
        """The numbers of those operations that this person could take back now: what a page draws a button for."""
        if not self.may(tx, "add"):
            return set()
        changes = self.may(tx, "change")
        rows = [row for row in rows if row.undoes and (changes or "cases" not in row.undoes)]
        return undo.undoable_among(tx, rows, self.person(tx))

    def by(self, source: str | None = None) -> Actor:
        """Who acts, and from where: the notebook, or the name of a file."""
        return Actor("desk", self.person_id, source or self.notebook)
