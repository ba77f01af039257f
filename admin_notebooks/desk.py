"""What a notebook and a page call: each change of groups and cases as a proposal, and what takes it back.

Roles are enforced here, whatever a page shows: a button that is not drawn can still be pressed.
Plain objects without a widget and without a data frame, so that the command line shares them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from sqlalchemy import Row, func, select

from admin_notebooks.access import Access
from admin_notebooks.deeds import (
    FOR_LEADS,
    TAKES_BACK,
    cases_undone,
    change_of_case,
    effect_on_cases,
    effect_on_group,
    is_large,
    name_of,
    undone,
    what_follows,
    without_result_columns,
)
from admin_notebooks.proposals import Done, Proposal, Result, last_line, outcome
from admin_notebooks.sheets import cells, reader, writer
from storage import audit
from storage.audit import Actor
from storage.broadcasts import broadcasts, progress
from storage.console import count_of, named_database
from storage.contacts import cases, groups, lookup, people
from storage.contacts.cases import PROPERTIES
from storage.database import Transaction
from storage.errors import Problem
from storage.operations import undo
from storage.programme import settings
from storage.rules.identifiers import read as read_identifier
from storage.rules.normalize import searched
from storage.schema import cases as cases_table
from storage.sheets import imports, members
from storage.sheets.plans import IDENTIFIER, Mode, Plan, Verdict

PERSON = "DESK_PERSON"
"""The variable in which the desk's server tells a notebook who signed in: a person's row id; blank: nobody."""

NAMESAKES = 20_000
"""Names of new cases in a sheet that are looked up among those that are there, at most."""

SPLITS = 500
"""Lines with spaces in them that are looked at whether they name several cases."""


def open_desk(notebook: str = "notebook") -> Desk:
    """The desk on the shared database that the environment names, for whoever signed in.

    Without a server, in a notebook that somebody opened beside the database, it is the system's own user.
    Raises Misconfigured, and Problem `nobody-signed-in` where the server told of nobody.
    """
    told = settings.read()
    db = named_database(told)
    db.check()
    person = os.environ.get(PERSON)
    if person is not None and not person.isdigit():
        raise Problem("nobody-signed-in")
    desk = Desk(db, int(person) if person else None, notebook)
    with db.reading() as tx:
        desk.person(tx)
    return desk


_PROPERTY = re.compile(r"[^\W\d][\w.]{0,63}")

_TAKEN = frozenset({"case_id", "caseid", "_id", *writer.RESULT_COLUMNS, *writer.RENAMED_RESULT_COLUMNS})
"""Names that mean something else in a sheet."""


class Desk(Access):
    """One person's desk: every change is a proposal, and what is asked first is who asks."""

    def describe(self) -> dict[str, Any]:
        """Who is at this desk: `name`, `role`, and the `rights` of that role."""
        with self.db.reading() as tx:
            row = self.person(tx)
        name, role = ("the system's own user", "lead") if row is None else (row.name, row.role)
        return {"name": name, "role": role, "rights": sorted(people.RIGHTS[role]), "programme": self.db.rules.name}

    def list_groups(self) -> list[Row[Any]]:
        """The groups that this person may see, with their `members`, by short name."""
        with self.db.reading() as tx:
            return groups.list_all(tx, only=self.scope(tx))

    def note_download(self, what: str, rows: int, subject_id: int | None = None) -> None:
        """Write into the log that this person took a table away: what it was and how many rows it had."""
        with self.db.transaction() as tx:
            self.person(tx)
            facts = {"what": what, "rows": rows}
            audit.record(tx, "desk.download", "download", subject_id, facts=facts, by=self.by())

    # -- groups --------------------------------------------------------------------------------------------------------

    def create(self, short: str, name: str = "") -> Proposal:
        """Make a group; a supervisor's new group is their own.  Its names are checked when it is confirmed."""

        def do(tx: Transaction, _plan: Plan | None, by: Actor) -> Done:
            self.allow(tx, "change")
            row = self._make(tx, short, name, by)
            return Done(f"{row.name} ({row.short}) is made.", {"made": row.id}, row.id)

        return Proposal(desk=self, kind="new", says=f"Make the group {short.strip() or '...'}", _do=do)

    def _make(self, tx: Transaction, short: str, name: str, by: Actor) -> Row[Any]:
        own = self.person_id if self.scope(tx) is not None else None
        try:
            return groups.create(tx, short, name, for_person=own, by=by)
        except Problem as problem:
            raise self._discreet(tx, problem) from None

    def gather(self, short: str, name: str, whom: Callable[[Transaction], list[int]], many: int) -> Proposal:
        """Make a group of the cases that `whom` finds when it is confirmed; `many` is how many it found now."""

        def do(tx: Transaction, _plan: Plan | None, by: Actor) -> Done:
            self.allow(tx, "change")
            row = self._make(tx, short, name, by)
            came = groups.add(tx, row.id, whom(tx), by=by)
            return Done(f"{row.name} ({row.short}) is made, with {count_of(len(came), 'case')}.", None, row.id)

        return Proposal(desk=self, kind="new", says=f"Make a group of {count_of(many, 'case')}", _do=do)

    def rename(self, short: str, name: str) -> Proposal:
        """Give a group another long name."""
        with self.db.reading() as tx:
            before, seen = self.group(tx, short), last_line(tx)

        def do(tx: Transaction, _plan: Plan | None, by: Actor) -> Done:
            self.allow(tx, "change")
            row = self.group(tx, short)
            if row.name != before.name:
                raise Problem("plan-stale")  # somebody else called it something: that must be seen first
            old = groups.rename(tx, row.id, name, by=by)
            return Done(f"{old} is called {name.strip()} now.", {"name": old}, row.id)

        return Proposal(
            desk=self, kind="name", says=f"Call it {name.strip()}", seen=seen, about=before.id,
            _do=do, _anew=lambda: self.rename(short, name),
        )  # fmt: skip

    def delete(self, short: str) -> Proposal:
        """Delete a group: says what is halted with it, and wants its short name typed.  A lead takes it back for 24 hours."""
        with self.db.reading() as tx:
            row = self.group(tx, short)
            count, seen = groups.count_members(tx, row.id), last_line(tx)
            pending = progress.pending_for(tx, row.id)

        def do(tx: Transaction, _plan: Plan | None, by: Actor) -> Done:
            self.allow(tx, "change")
            group = self.group(tx, short)
            halted = progress.pending_for(tx, group.id)
            if set(halted) - set(pending):
                raise Problem("plan-stale")  # somebody asked for more to it since: that must be seen first
            for number in halted:
                broadcasts.halt(tx, number, by=by)
            groups.delete(tx, group.id, by=by)
            also = f" Halted: {', '.join(map(str, halted))}." if halted else ""
            return Done(f"{group.name} is deleted.{also}", {"deleted": group.id}, group.id)

        stops = f"halts {count_of(len(pending), 'broadcast')} to it: {', '.join(map(str, pending))}"
        return Proposal(
            desk=self,
            kind="delete",
            says=f"Delete {row.name}",
            goes_with=(
                f"takes {count_of(count, 'case')} out of it; the cases themselves stay",
                *([stops] if pending else []),
            ),
            must_type=row.short,
            seen=seen,
            about=row.id,
            _do=do,
            _anew=lambda: self.delete(short),
        )

    def _discreet(self, tx: Transaction, problem: Problem) -> Problem:
        """The same problem, without the name of a group that this person may not see."""
        other = problem.values.get("other") or (problem.values["group"] if problem.key == "group-exists" else None)
        if other is None or any(g.short == other for g in groups.list_all(tx, only=self.scope(tx))):
            return problem
        return Problem("group-short-taken", group=problem.values["group"])

    # -- members -------------------------------------------------------------------------------------------------------

    def add(self, short: str, typed: str) -> Proposal:
        """Put cases into a group by whatever names them: phone, external id or case id.

        One a line, or with commas or semicolons between; with spaces where every piece names a case by itself.
        """
        return self._members(short, self._pieces(typed, "add"), "add", None)

    def remove(self, short: str, typed: str) -> Proposal:
        """Take cases out of a group by whatever names them, as in `add`."""
        return self._members(short, self._pieces(typed, "remove"), "remove", None)

    def _pieces(self, typed: str, mode: Mode) -> cells.Sheet:
        """What was typed, a row for each case: a number may have spaces in it, so a line is split only where it names nobody."""
        sheet = reader.typed(typed, IDENTIFIER)
        lines = [row.cells[IDENTIFIER].text for row in sheet.rows]
        spaced = [line for line in lines if len(line.split()) > 1][:SPLITS]
        if not spaced:
            return sheet
        with self.db.reading() as tx:
            words = [*spaced, *(piece for line in spaced for piece in line.split())]
            found = lookup.find(tx, [read_identifier(word, country=tx.rules.country) for word in words])
            known = self._known(tx, mode)
            seen = (
                None if known is None else groups.members_of_any(tx, known, [row.id for rows in found for row in rows])
            )
        names = {
            w
            for w, rows in zip(words, found, strict=True)
            if len([r for r in rows if seen is None or r.id in seen]) == 1
        }
        split = {line for line in spaced if line not in names and names.issuperset(line.split())}
        return reader.typed("\n".join("\n".join(line.split()) if line in split else line for line in lines), IDENTIFIER)

    def upload(self, short: str, name: str, data: bytes, mode: Mode = "add") -> Proposal:
        """What a sheet of identifiers would do to a group; raises a Problem `sheet-...` for a file that is none."""
        sheet = reader.read_bytes(name, data, wanted=(IDENTIFIER,))
        return self._members(short, sheet, mode, f"sheet {name} {sheet.digest[:16]}")

    def _members(self, short: str, sheet: cells.Sheet, mode: Mode, source: str | None) -> Proposal:
        read = members.read_members(sheet.rows, self.db.rules)

        def again(tx: Transaction) -> Plan:
            self.allow(tx, "add" if mode == "add" else "change")
            return members.plan_members(tx, self.group(tx, short).id, read, mode, among=self._known(tx, mode))

        def do(tx: Transaction, plan: Plan | None, by: Actor) -> Done:
            self.allow(tx, "add" if mode == "add" else "change")
            group = self.group(tx, short)
            before = audit.head(tx)
            done = members.apply_members(tx, group.id, read, mode, planned=plan, among=self._known(tx, mode), by=by)
            lines = audit.list_since(tx, before.id if before else 0, ("groups.add", "groups.remove"))
            total = groups.count_members(tx, group.id)
            says = f"{effect_on_group(done, group.name, is_done=True)}. It has {count_of(total, 'case')} now."
            return Done(says, {"lines": [line.id for line in lines]}, group.id)

        with self.db.reading() as tx:
            seen, plan, group = last_line(tx), again(tx), self.group(tx, short)
        return Proposal(
            desk=self, kind={"add": "add", "remove": "drop", "replace": "replace"}[mode],
            says=effect_on_group(plan, group.name) or "Nothing to do", plan=plan, sheet=sheet, source=source, seen=seen,
            about=group.id, _do=do, _again=again, _anew=lambda: self._members(short, sheet, mode, source),
        )  # fmt: skip

    def _known(self, tx: Transaction, mode: Mode) -> frozenset[int] | None:
        """Whom a person may name: everybody for a lead; to take out, and where the programme says so, only their own."""
        return self.scope(tx) if mode != "add" or tx.rules.add_only_own else None

    # -- cases ---------------------------------------------------------------------------------------------------------

    def upload_cases(self, name: str, data: bytes) -> Proposal:
        """What a sheet of cases would create and change, with old and new values; leads only."""
        sheet = reader.read_bytes(name, data, wanted=("external_id", "case_id", "caseid"))
        read = imports.read_cases(without_result_columns(sheet), self.db.rules, columns=sheet.columns)

        def again(tx: Transaction) -> Plan:
            self.allow(tx, "lead")
            return imports.plan_cases(tx, read)

        def do(tx: Transaction, plan: Plan | None, by: Actor) -> Done:
            self.allow(tx, "lead")
            done, undoes = self._apply(tx, read, plan, "cases.import", by)
            return Done(f"{effect_on_cases(done, is_done=True)}.", undoes, None)

        with self.db.reading() as tx:
            seen = last_line(tx)
            plan = _with_namesakes(tx, again(tx))
        source = f"sheet {name} {sheet.digest[:16]}"
        says = effect_on_cases(plan) or "Nothing to do"
        large = f"More than {TAKES_BACK:,} cases are not taken back by a button: keep all cases as a sheet first."
        return Proposal(
            desk=self, kind="cases", says=says, goes_with=(large,) if is_large(plan) else (),
            plan=plan, sheet=sheet, source=source, seen=seen, _do=do, _again=again,
            _anew=lambda: self.upload_cases(name, data),
        )  # fmt: skip

    def change_case(self, typed: str, values: Mapping[str, str]) -> Proposal:
        """What setting properties of one case would do, as a sheet of one row would: old and new values, and what follows.

        A blank takes a value away; a name that is no property of ours is one of the programme's own.  Who somebody is and
        whose phone it is, leads set alone.  Raises Problem `property-name`, `case-unknown` or `right-missing`.
        """
        for name in set(values) - set(PROPERTIES):
            if not _PROPERTY.fullmatch(name) or name in _TAKEN:
                raise Problem("property-name", name=name)
        with self.db.reading() as tx:
            self.allow(tx, "change")
            before = self.case(tx, typed)
        texts = {"case_id": before.case_id, **{name: text if text.strip() else "--" for name, text in values.items()}}
        row = cells.Row(1, {name: cells.Cell(text) for name, text in texts.items()})
        read = imports.read_cases([row], self.db.rules, columns=["case_id", *PROPERTIES, *values])

        def again(tx: Transaction) -> Plan:
            self.allow(tx, "lead" if FOR_LEADS & set(values) else "change")
            self.case(tx, before.case_id)
            return imports.plan_cases(tx, read)

        def do(tx: Transaction, plan: Plan | None, by: Actor) -> Done:
            self.allow(tx, "lead" if FOR_LEADS & set(values) else "change")
            self.case(tx, before.case_id)
            _, undoes = self._apply(tx, read, plan, "cases.change", by)
            return Done(f"{says.replace('Change', 'Changed', 1)}.", undoes, None)

        with self.db.reading() as tx:
            seen, plan = last_line(tx), again(tx)
            follows = what_follows(tx, before, plan)
        says = change_of_case(before, plan)
        return Proposal(
            desk=self, kind="case", says=says, goes_with=follows, plan=plan, seen=seen, _do=do, _again=again,
            _anew=lambda: self.change_case(before.case_id, values),
        )  # fmt: skip

    def hand_over(self, typed: str) -> Proposal:
        """Make a case the owner of its number instead of another one that waits from then on; leads only.

        Raises Problem `case-unknown`, `case-ambiguous`, `hand-over-not-waiting` or `right-missing`.
        """
        with self.db.reading() as tx:
            self.allow(tx, "lead")
            seen, case = last_line(tx), self.case(tx, typed)
            owner = cases.standing(tx, case).owner
            if owner is None or owner == case.case_id or case.claimed_at is None:
                raise Problem("hand-over-not-waiting", case=case.case_id)
            before = lookup.find_one(tx, owner)

        def do(tx: Transaction, _plan: Plan | None, by: Actor) -> Done:
            self.allow(tx, "lead")
            now = lookup.contact(tx, case.id)
            if cases.standing(tx, now).owner != owner or now.phone_key != case.phone_key:
                raise Problem("plan-stale")  # it changed hands since: that must be seen first
            cases.hand_over(tx, now, by=by)
            undoes = {"owned": before.id, "owns": case.id}
            return Done(
                f"{name_of(case)} owns {case.contact_phone_number} now, and {name_of(before)} waits for it.",
                undoes,
                None,
            )

        return Proposal(
            desk=self, kind="number", says=f"Hand {case.contact_phone_number} over to {name_of(case)}",
            goes_with=(
                f"replies from that phone count as those of {name_of(case)} from then on",
                f"{name_of(before)} only gets texts there, and waits for the number",
            ),
            seen=seen, _do=do, _anew=lambda: self.hand_over(case.case_id),
        )  # fmt: skip

    def _apply(
        self, tx: Transaction, read: imports.CaseSheet, plan: Plan | None, verb: str, by: Actor
    ) -> tuple[Plan, Mapping[str, Any] | None]:
        """Carry a plan for cases out; also what takes it back, unless there are too many."""
        before = audit.head(tx)
        done = imports.apply_cases(tx, read, planned=plan, verb=verb, by=by)
        lines = audit.list_since(tx, before.id if before else 0, (verb,))
        return done, None if is_large(done) else {"cases": [line.id for line in lines]}

    # -- doing and taking back -----------------------------------------------------------------------------------------

    def undo(self, number: int) -> Result:
        """Take an operation back.  Raises Problem `undo-unknown`, `undone-before`, `undo-in-use` or a name's."""
        with self.db.transaction() as tx:
            self.allow(tx, "add")
            row = undo.undoable(tx, number, self.person(tx))
            if row.undoes and "cases" in row.undoes:
                self.allow(tx, "change")
                says = cases_undone(undo.take_back_cases(tx, row, among=self.scope(tx), by=self.by()))
            elif row.undoes and "owned" in row.undoes:
                self.allow(tx, "lead")
                says = f"{name_of(undo.take_back_number(tx, row, by=self.by()))} owns the number again."
            else:
                says = undone(undo.take_back(tx, row, by=self.by()))
        return Result(number, says, undoable=False)

    def outcome(self, mark: str) -> Result | None:
        """What a click with this mark came to, also one to which a page never heard an answer; None: it was not done."""
        return outcome(self, mark)

    def list_deleted(self) -> list[Row[Any]]:
        """The groups deleted within a day that this person may bring back, newest first, each with its `number`."""
        with self.db.reading() as tx:
            return undo.list_deleted(tx, self.person(tx))


def _with_namesakes(tx: Transaction, plan: Plan) -> Plan:
    """A plan in which a case that would be made says who is called so already: a person loaded twice is two cases."""
    made = {
        v.row: searched(v.wanted.values.get("name") or "") for v in plan.verdicts if v.verdict == "create" and v.wanted
    }
    named = sorted({name for name in made.values() if name})[:NAMESAKES]
    others: dict[str, str] = {}
    for at in range(0, len(named), 500):
        query = select(cases_table.c.name_key, func.min(cases_table.c.case_id).label("case_id"))
        query = query.where(cases_table.c.name_key.in_(named[at : at + 500]), cases_table.c.status == "open")
        others |= {row.name_key: row.case_id for row in tx.execute(query.group_by(cases_table.c.name_key))}
    if not others:
        return plan

    def told(v: Verdict) -> Verdict:
        other = others.get(made.get(v.row, ""))
        if other is None or v.wanted is None:
            return v
        return replace(v, warnings=(*v.warnings, Problem("name-exists", name=v.wanted.values["name"], case=other)))

    return replace(plan, verdicts=[told(v) for v in plan.verdicts])
