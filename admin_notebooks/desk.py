"""What a notebook calls: who acts, what they may see, and every change as a proposal.

A proposal says what it will do before anything is done: the words for its button, a verdict for every row, what goes
with it.  `confirm` does it once, however often it is asked (a double click, two open pages, a page that was reloaded),
and returns a result with the number by which it is taken back, here or by `undo 58` from a phone.

Roles are enforced here, whatever a page shows: a button that is not drawn can still be pressed.  Whoever is no lead
sees and touches their own groups; another's and one that does not exist look the same.
Plain objects without a widget and without a data frame, so that the command line shares them.
"""

from __future__ import annotations

import heapq
import os
import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import Row, and_, exists, func, or_, select

from admin_notebooks.sheets import cells, reader, writer
from storage import audit
from storage.audit import Actor
from storage.broadcasts import broadcasts, progress
from storage.console import count_of, named_database, sentence, sentences_of
from storage.contacts import cases, groups, lookup, people
from storage.contacts.cases import PROPERTIES
from storage.database import Database, Transaction
from storage.errors import Problem
from storage.operations import operations, undo
from storage.programme import settings
from storage.rules.identifiers import key
from storage.rules.identifiers import read as read_identifier
from storage.rules.normalize import searched
from storage.schema import audit as audit_table
from storage.schema import audit_changes
from storage.schema import cases as cases_table
from storage.schema import people as people_table
from storage.sheets import imports, members, plans
from storage.sheets.plans import IDENTIFIER, Mode, Plan, Verdict

PERSON = "DESK_PERSON"
"""The variable in which the desk's server tells a notebook who signed in: a person's row id; blank: nobody."""

FOR_LEADS = frozenset({"external_id", "contact_phone_number", "contact_phone_number_is_verified", "contact_backend_id"})
"""The properties of a case that a lead alone sets: who somebody is and whose phone it is, which `move` and `invite` ask of
the phone itself."""

TAKES_BACK = 20_000
"""Cases of a sheet that are taken back at most: it takes the writer's turn, some seconds for so many, and a STOP waits."""

NAMESAKES = 20_000
"""Names of new cases in a sheet that are looked up among those that are there, at most."""

SPLITS = 500
"""Lines with spaces in them that are looked at whether they name several cases."""

_PROPERTY = re.compile(r"[^\W\d][\w.]{0,63}")
_TAKEN = frozenset({"case_id", "caseid", "_id", *writer.RESULT_COLUMNS, *writer.RENAMED_RESULT_COLUMNS})
"""Names that mean something else in a sheet."""

TRIES = 3
PROBLEMS = ("unreadable", "invalid", "not_found", "ambiguous", "no_phone", "closed", "duplicate")
"""The verdicts that somebody has to look at, the worst first."""


@dataclass(frozen=True, slots=True)
class Result:
    """What was done: in words, under which number, and whether it can be taken back."""

    number: int
    says: str
    undoable: bool


@dataclass(frozen=True, slots=True)
class _Done:
    """What one change came to, to be written down as an operation."""

    says: str
    undoes: Mapping[str, Any] | None
    group_id: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """Something that could be done and is not done yet.

    `says` names the effect ("Add 10 cases to Antenatal care"), `goes_with` what else would follow, `must_type` what has to
    be typed first.  Of a sheet or a list `plan` has the verdict of every row.  `meanwhile` is what others did, in words,
    where it was made anew because of that; `seen` the last line of the log that it knows of, `about` the group's row id.
    """

    desk: Desk
    kind: str
    says: str
    goes_with: tuple[str, ...] = ()
    must_type: str | None = None
    plan: Plan | None = None
    sheet: cells.Sheet | None = None
    source: str | None = None
    meanwhile: tuple[str, ...] = ()
    seen: int = 0
    about: int | None = None
    mark: str = field(default_factory=lambda: f"desk:{secrets.token_hex(12)}")
    _do: Callable[[Transaction, Plan | None, Actor], _Done]
    _again: Callable[[Transaction], Plan] | None = None
    _anew: Callable[[], Proposal] | None = None

    @property
    def acts(self) -> bool:
        """Whether confirming would change anything."""
        return self.plan is None or (self.plan.acts and self.plan.refusal is None)

    @property
    def refusal(self) -> str | None:
        """Why none of it may be done, in words."""
        return sentence(self.plan.refusal) if self.plan and self.plan.refusal else None

    @property
    def counts(self) -> dict[str, int]:
        """How many rows have which verdict, what needs looking at first."""
        counts = self.plan.counts if self.plan else {}
        return {verdict: counts[verdict] for verdict in sorted(counts, key=_rank)}

    def records(self, at_most: int | None = None, *, verdict: str = "") -> list[dict[str, Any]]:
        """Every row, or so many, with number, identifier, verdict, reason, suggestion, case id and warnings; problems first.

        With `verdict` only those that have it.
        """
        every = self.plan.verdicts if self.plan else ()
        asked = (v for v in every if not verdict or v.verdict == verdict)
        first = heapq.nsmallest(at_most or len(every), asked, key=lambda v: (_rank(v.verdict), v.row or 0))
        return [record(v) for v in first]

    def confirm(self, typed: str = "") -> Result:
        """Do it, or all of it or nothing; a second time changes nothing and says the same.

        Raises Problem `typed-otherwise`, `nothing-to-do`, `plan-stale` if somebody changed the group or the cases since,
        the plan's own refusal, and `right-missing` or `group-unknown` for whom it is not.
        """
        if self.must_type is not None and key(typed) != key(self.must_type):
            raise Problem("typed-otherwise", wanted=self.must_type)
        return self.desk._carry_out(self)

    def anew(self) -> Proposal:
        """The same wish as things are now, with `meanwhile`: what follows one that was refused as `plan-stale`."""
        assert self._anew is not None, "what knows nothing of others is never stale"
        fresh = self._anew()
        return replace(fresh, meanwhile=self.desk._meanwhile(self, fresh))


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


class Desk:
    """One person's desk: `person_id` None is the system's own user, who may do everything.

    `notebook` stands in the audit log as where a change was made.
    """

    def __init__(self, db: Database, person_id: int | None = None, notebook: str = "notebook") -> None:
        self.db = db
        self.person_id = person_id
        self.notebook = notebook

    # -- who -----------------------------------------------------------------------------------------------------------

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
            audit.record(tx, "desk.download", "download", subject_id, facts=facts, by=self._by(None))

    # -- groups --------------------------------------------------------------------------------------------------------

    def create(self, short: str, name: str = "") -> Proposal:
        """Make a group; a supervisor's new group is their own.  Its names are checked when it is confirmed."""

        def do(tx: Transaction, _plan: Plan | None, by: Actor) -> _Done:
            self.allow(tx, "change")
            row = self._make(tx, short, name, by)
            return _Done(f"{row.name} ({row.short}) is made.", {"made": row.id}, row.id)

        return Proposal(desk=self, kind="new", says=f"Make the group {short.strip() or '...'}", _do=do)

    def _make(self, tx: Transaction, short: str, name: str, by: Actor) -> Row[Any]:
        own = self.person_id if self.scope(tx) is not None else None
        try:
            return groups.create(tx, short, name, for_person=own, by=by)
        except Problem as problem:
            raise self._discreet(tx, problem) from None

    def gather(self, short: str, name: str, whom: Callable[[Transaction], list[int]], many: int) -> Proposal:
        """Make a group of the cases that `whom` finds when it is confirmed; `many` is how many it found now."""

        def do(tx: Transaction, _plan: Plan | None, by: Actor) -> _Done:
            self.allow(tx, "change")
            row = self._make(tx, short, name, by)
            came = groups.add(tx, row.id, whom(tx), by=by)
            return _Done(f"{row.name} ({row.short}) is made, with {count_of(len(came), 'case')}.", None, row.id)

        return Proposal(desk=self, kind="new", says=f"Make a group of {count_of(many, 'case')}", _do=do)

    def rename(self, short: str, name: str) -> Proposal:
        """Give a group another long name."""
        with self.db.reading() as tx:
            before, seen = self.group(tx, short), _last_line(tx)

        def do(tx: Transaction, _plan: Plan | None, by: Actor) -> _Done:
            self.allow(tx, "change")
            row = self.group(tx, short)
            if row.name != before.name:
                raise Problem("plan-stale")  # somebody else called it something: that must be seen first
            old = groups.rename(tx, row.id, name, by=by)
            return _Done(f"{old} is called {name.strip()} now.", {"name": old}, row.id)

        return Proposal(
            desk=self, kind="name", says=f"Call it {name.strip()}", seen=seen, about=before.id,
            _do=do, _anew=lambda: self.rename(short, name),
        )  # fmt: skip

    def delete(self, short: str) -> Proposal:
        """Delete a group: says what is halted with it, and wants its short name typed.  A lead takes it back for 24 hours."""
        with self.db.reading() as tx:
            row = self.group(tx, short)
            count, seen = groups.count_members(tx, row.id), _last_line(tx)
            pending = progress.pending_for(tx, row.id)

        def do(tx: Transaction, _plan: Plan | None, by: Actor) -> _Done:
            self.allow(tx, "change")
            group = self.group(tx, short)
            halted = progress.pending_for(tx, group.id)
            if set(halted) - set(pending):
                raise Problem("plan-stale")  # somebody asked for more to it since: that must be seen first
            for number in halted:
                broadcasts.halt(tx, number, by=by)
            groups.delete(tx, group.id, by=by)
            also = f" Halted: {', '.join(map(str, halted))}." if halted else ""
            return _Done(f"{group.name} is deleted.{also}", {"deleted": group.id}, group.id)

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

        def do(tx: Transaction, plan: Plan | None, by: Actor) -> _Done:
            self.allow(tx, "add" if mode == "add" else "change")
            group = self.group(tx, short)
            before = audit.head(tx)
            done = members.apply_members(tx, group.id, read, mode, planned=plan, among=self._known(tx, mode), by=by)
            lines = audit.list_since(tx, before.id if before else 0, ("groups.add", "groups.remove"))
            total = groups.count_members(tx, group.id)
            says = f"{_effect(done, group.name, is_done=True)}. It has {count_of(total, 'case')} now."
            return _Done(says, {"lines": [line.id for line in lines]}, group.id)

        with self.db.reading() as tx:
            seen, plan, group = _last_line(tx), again(tx), self.group(tx, short)
        return Proposal(
            desk=self, kind={"add": "add", "remove": "drop", "replace": "replace"}[mode],
            says=_effect(plan, group.name) or "Nothing to do", plan=plan, sheet=sheet, source=source, seen=seen,
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

        def do(tx: Transaction, plan: Plan | None, by: Actor) -> _Done:
            self.allow(tx, "lead")
            done, undoes = self._apply(tx, read, plan, "cases.import", by)
            return _Done(f"{_cases_effect(done, is_done=True)}.", undoes, None)

        with self.db.reading() as tx:
            seen = _last_line(tx)
            plan = _with_namesakes(tx, again(tx))
        source = f"sheet {name} {sheet.digest[:16]}"
        says = _cases_effect(plan) or "Nothing to do"
        large = f"More than {TAKES_BACK:,} cases are not taken back by a button: keep all cases as a sheet first."
        return Proposal(
            desk=self, kind="cases", says=says, goes_with=(large,) if _is_large(plan) else (),
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

        def do(tx: Transaction, plan: Plan | None, by: Actor) -> _Done:
            self.allow(tx, "lead" if FOR_LEADS & set(values) else "change")
            self.case(tx, before.case_id)
            _, undoes = self._apply(tx, read, plan, "cases.change", by)
            return _Done(f"{says.replace('Change', 'Changed', 1)}.", undoes, None)

        with self.db.reading() as tx:
            seen, plan = _last_line(tx), again(tx)
            follows = _follows(tx, before, plan)
        says = _change_of(before, plan)
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
            seen, case = _last_line(tx), self.case(tx, typed)
            owner = cases.standing(tx, case).owner
            if owner is None or owner == case.case_id or case.claimed_at is None:
                raise Problem("hand-over-not-waiting", case=case.case_id)
            before = lookup.find_one(tx, owner)

        def do(tx: Transaction, _plan: Plan | None, by: Actor) -> _Done:
            self.allow(tx, "lead")
            now = lookup.contact(tx, case.id)
            if cases.standing(tx, now).owner != owner or now.contact_phone_number != case.contact_phone_number:
                raise Problem("plan-stale")  # it changed hands since: that must be seen first
            cases.hand_over(tx, now, by=by)
            undoes = {"owned": before.id, "owns": case.id}
            return _Done(
                f"{_called(case)} owns {case.contact_phone_number} now, and {_called(before)} waits for it.",
                undoes,
                None,
            )

        return Proposal(
            desk=self, kind="number", says=f"Hand {case.contact_phone_number} over to {_called(case)}",
            goes_with=(
                f"replies from that phone count as those of {_called(case)} from then on",
                f"{_called(before)} only gets texts there, and waits for the number",
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
        return done, None if _is_large(done) else {"cases": [line.id for line in lines]}

    # -- doing and taking back -----------------------------------------------------------------------------------------

    def undo(self, number: int) -> Result:
        """Take an operation back.  Raises Problem `undo-unknown`, `undone-before`, `undo-in-use` or a name's."""
        with self.db.transaction() as tx:
            self.allow(tx, "add")
            row = undo.undoable(tx, number, self.person(tx))
            if row.undoes and "cases" in row.undoes:
                self.allow(tx, "change")
                says = _cases_undone(undo.take_back_cases(tx, row, among=self.scope(tx), by=self._by(None)))
            elif row.undoes and "owned" in row.undoes:
                self.allow(tx, "lead")
                says = f"{_called(undo.take_back_number(tx, row, by=self._by(None)))} owns the number again."
            else:
                says = _undone(undo.take_back(tx, row, by=self._by(None)))
        return Result(number, says, undoable=False)

    def undoable(self, tx: Transaction, rows: Iterable[Row[Any]]) -> set[int]:
        """The numbers of those operations that this person could take back now: what a page draws a button for."""
        if not self.may(tx, "add"):
            return set()
        changes = self.may(tx, "change")
        rows = [row for row in rows if row.undoes and (changes or "cases" not in row.undoes)]
        return undo.undoable_among(tx, rows, self.person(tx))

    def list_deleted(self) -> list[Row[Any]]:
        """The groups deleted within a day that this person may bring back, newest first, each with its `number`."""
        with self.db.reading() as tx:
            return undo.list_deleted(tx, self.person(tx))

    def outcome(self, mark: str) -> Result | None:
        """What a click with this mark came to, also one to which a page never heard an answer; None: it was not done."""
        with self.db.reading() as tx:
            before = operations.done_as(tx, mark, by=self._by(None))
            return None if before is None else self._result(tx, before)

    def _meanwhile(self, old: Proposal, fresh: Proposal) -> tuple[str, ...]:
        """What others did to the group or the cases of a proposal since it was made, in words, the last five first."""
        otherwise = _otherwise(old.plan, fresh.plan)
        line, under = audit_table.c, audit_changes.c
        hit = exists().where(under.entry_id == line.id, under.subject == "case", under.subject_id.in_(otherwise[:500]))
        of_it = or_(and_(line.subject == "group", line.subject_id == old.about), and_(line.subject == "case", hit))
        query = select(audit_table, func.coalesce(people_table.c.name, "The system's own user").label("person"))
        query = query.outerjoin(people_table, people_table.c.id == line.person_id).where(line.id > old.seen, of_it)
        with self.db.reading() as tx:
            told = [f"{row.person} {_deed(row)}." for row in tx.execute(query.order_by(line.id.desc()).limit(5))]
        told += [f"Now this {more}." for more in fresh.goes_with if more not in old.goes_with]
        if otherwise:
            told.append(
                f"{count_of(len(otherwise), 'row')} of yours {'means' if len(otherwise) == 1 else 'mean'} something else now."
            )
        return tuple(told)

    def _carry_out(self, proposal: Proposal) -> Result:
        """Do a proposal that was looked at, once.

        Where others wrote meanwhile a large sheet is compared again before the writer is taken, not while it is held: a
        STOP that waits for the writer so long is lost to the gateway.
        """
        plan = proposal.plan
        for attempt in range(TRIES):
            with self.db.transaction() as tx:
                by = self._by(proposal.source)
                if (before := operations.done_as(tx, proposal.mark, by=by)) is not None:
                    return self._result(tx, before)
                if plan is None or plans.holds(tx, plan) or attempt == TRIES - 1:
                    return self._write(tx, proposal, plan, by)
            if proposal._again is not None:
                with self.db.reading() as tx:
                    again = proposal._again(tx)
                if again.digest != plan.digest:
                    raise Problem("plan-stale")
                plan = again
        raise AssertionError("the last try either does it or raises")

    def _write(self, tx: Transaction, proposal: Proposal, plan: Plan | None, by: Actor) -> Result:
        if plan is not None and plan.refusal is not None:
            raise plan.refusal
        if plan is not None and not plan.acts:
            raise Problem("nothing-to-do")
        done = proposal._do(tx, plan, by)
        number = operations.note(
            tx, proposal.kind, words=proposal.mark, undoes=done.undoes, group_id=done.group_id, by=by
        )
        operations.answered(tx, number, done.says)
        return self._result(tx, operations.operation(tx, number))

    def _result(self, tx: Transaction, done: Row[Any] | None) -> Result:
        """The result of an operation as it was told then; an undo is offered to whom it would not be refused."""
        assert done is not None
        return Result(done.id, done.answer or "", bool(self.undoable(tx, [done])))

    def _by(self, source: str | None) -> Actor:
        return Actor("desk", self.person_id, source or self.notebook)


def _last_line(tx: Transaction) -> int:
    head = audit.head(tx)
    return 0 if head is None else head.id


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


def _otherwise(old: Plan | None, fresh: Plan | None) -> list[int]:
    """The row ids of the cases of which a plan says something else than it did."""
    if old is None or fresh is None:
        return []
    before = {(v.row, v.identifier): (v.verdict, v.target, v.changes) for v in old.verdicts}
    now = {(v.row, v.identifier): (v.verdict, v.target, v.changes) for v in fresh.verdicts}
    differing = [before.get(key_) or now[key_] for key_ in {**before, **now} if before.get(key_) != now.get(key_)]
    return [target or 0 for _verdict, target, _changes in differing]


# -- in words ----------------------------------------------------------------------------------------------------------


def _deed(line: Row[Any]) -> str:
    """What a line of the log says that somebody did: `added 2 cases to it`."""
    many = next((n for n in line.facts.values() if isinstance(n, int)), 0)
    told = {
        "groups.add": f"added {count_of(many, 'case')} to it",
        "groups.remove": f"removed {count_of(many, 'case')} from it",
        "groups.rename": "renamed it",
        "groups.restore": "brought it back",
        "cases.import": "loaded a sheet of cases",
        "cases.undo": "took a change of cases back",
        "cases.own": "handed a number over",
    }
    return told.get(line.verb, "changed a case" if line.subject == "case" else "changed it")


def record(v: Verdict) -> dict[str, Any]:
    """A verdict as people and scripts read it; `changes` only where something changes."""
    shown: dict[str, Any] = {
        "row": v.row,
        "identifier": v.identifier,
        "verdict": v.verdict,
        "reason": " ".join(faults_of(v)) or None,
        "suggestion": v.suggestion,
        "case_id": v.case_id,
        "warnings": sentences_of(v.warnings),
    }
    if v.changes:
        shown["changes"] = {name: list(change) for name, change in v.changes.items()}
    return shown


def faults_of(v: Verdict) -> list[str]:
    """Every fault of a row in words, so that one round of mending is enough."""
    return sentences_of([v.reason, *v.more]) if v.reason else []


def told_of(plan: Plan) -> Iterator[writer.Told]:
    """For each row of a sheet, in order, what its result workbook says: verdict, reason and suggestion."""
    for v in plan.verdicts:
        if v.row is not None:
            why = " ".join([*faults_of(v), *sentences_of(v.warnings)]) if v.reason or v.warnings else ""
            yield v.row, v.verdict, why, v.suggestion or ""


def without_result_columns(sheet: cells.Sheet) -> list[cells.Row]:
    """A result workbook may be loaded again: its own columns are no properties of a case."""
    ours = sheet.columns[-3:]
    if ours not in (writer.RESULT_COLUMNS, writer.RENAMED_RESULT_COLUMNS):
        return list(sheet.rows)
    return [cells.Row(r.number, {n: c for n, c in r.cells.items() if n not in ours}) for r in sheet.rows]


def sentence_of(warning: str, number: str | None) -> str:
    """What a person should know of a number that is kept."""
    return sentence(Problem(warning, typed=number))


def moment(text: str, zone: str) -> datetime:
    """A moment as typed, by the clock of a zone; a day alone means its end.  Raises Problem `moment-shape`."""
    try:
        at = datetime.fromisoformat(text)
        if len(text) <= 10:
            at = at.replace(hour=23, minute=59, second=59)
        return (at if at.tzinfo is not None else at.replace(tzinfo=ZoneInfo(zone))).astimezone(UTC)
    except (ValueError, OverflowError):  # the latter: before the first year or after the last in UTC
        raise Problem("moment-shape", typed=text) from None


def _rank(verdict: str) -> int:
    return PROBLEMS.index(verdict) if verdict in PROBLEMS else len(PROBLEMS)


def _effect(plan: Plan, name: str, *, is_done: bool = False) -> str:
    """`Add 10 cases to Patients`, `10 cases added to Patients`; both for a replace that does both; blank for nothing."""
    add, remove = plan.counts.get("add", 0), plan.counts.get("remove", 0)
    came, left = count_of(add, "case"), count_of(remove, "case")
    if is_done:
        told = [f"{came} added to {name}" if add else "", f"{left} removed from {name}" if remove else ""]
    else:
        told = [f"Add {came} to {name}" if add else "", f"Remove {left} from {name}" if remove else ""]
    return ", ".join(part for part in told if part)


def _is_large(plan: Plan) -> bool:
    return plan.counts.get("create", 0) + plan.counts.get("update", 0) > TAKES_BACK


def _cases_effect(plan: Plan, *, is_done: bool = False) -> str:
    made, changed = plan.counts.get("create", 0), plan.counts.get("update", 0)
    if is_done:
        told = [
            f"{count_of(made, 'case')} created" if made else "",
            f"{count_of(changed, 'case')} changed" if changed else "",
        ]
    else:
        told = [
            f"Create {count_of(made, 'case')}" if made else "",
            f"change {count_of(changed, 'case')}" if changed else "",
        ]
    joined = ", ".join(part for part in told if part)
    return joined[:1].upper() + joined[1:]


_LABELS = {
    "name": "name",
    "external_id": "external id",
    "status": "status",
    "contact_phone_number": "phone number",
    "contact_phone_number_is_verified": "verification",
    "commcare_email_address": "e-mail address",
    "time_zone": "time zone",
    "language_code": "language",
    "contact_backend_id": "gateway",
}


def _change_of(case: Row[Any], plan: Plan) -> str:
    """`Change the language of Ama`; blank changes are nothing to do."""
    (verdict,) = plan.verdicts
    if not plan.acts:
        return "Nothing to do"
    names = [_LABELS.get(name, name) for name in verdict.changes]
    what = f"the {names[0]}" if len(names) == 1 else f"{len(names)} properties"
    return f"Change {what} of {_called(case)}"


def _called(case: Row[Any]) -> str:
    return str(case.name or case.external_id or case.case_id)


def _follows(tx: Transaction, case: Row[Any], plan: Plan) -> tuple[str, ...]:
    """What comes of a change besides itself: whether the case is texted, and whose its number is then."""
    (verdict,) = plan.verdicts
    if not plan.acts or verdict.wanted is None:
        return ()
    new = {name: value for name, (_old, value) in verdict.changes.items()}
    proved = bool(verdict.wanted.values.get("contact_phone_number_is_verified"))
    closes, loses = new.get("status") == "closed", new.get("contact_phone_number_is_verified") is False
    told = []
    if "status" in new:
        told.append("nobody texts a closed case" if closes else "the case is texted again")
    if new.get("contact_phone_number") and not proved:
        told.append("the new number is not verified: texts go there, and it may not reply until its phone has said yes")
    if case.two_way and (closes or loses or "contact_phone_number" in new):
        waits, number = cases.standing(tx, case).waiting, case.contact_phone_number
        told.append(f"the next in line becomes owner of {number}" if waits else f"nobody owns {number} then")
    return tuple(told)


def _cases_undone(done: undo.CasesBack) -> str:
    back = f"{count_of(done.back, 'case')} {'is' if done.back == 1 else 'are'} as before"
    closed = f"{count_of(done.closed, 'case')} that {'was' if done.closed == 1 else 'were'} made {'is' if done.closed == 1 else 'are'} closed"
    left = f"{count_of(done.left, 'case')} that somebody changed since {'stays' if done.left == 1 else 'stay'}"
    told = [words for words, n in ((back, done.back), (closed, done.closed), (left, done.left)) if n]
    return f"{', '.join(told) or 'Nothing had to be changed'}."


def _undone(done: undo.TakenBack) -> str:
    group = done.name if done.name == done.group else f"{done.name} ({done.group})"
    if done.what == "name":
        return f"{done.group} is called {done.name} again."
    if done.what == "made":
        return f"{group} is gone."
    if done.what == "deleted":
        return f"{group} is back with its {count_of(done.total, 'case')}."
    told = [f"{count_of(done.out, 'case')} out of {group} again" if done.out else "",
            f"{count_of(done.back, 'case')} back in {group}" if done.back else ""]  # fmt: skip
    return f"{', '.join(part for part in told if part) or 'Nobody had to be moved'}. It has {count_of(done.total, 'case')} now."
