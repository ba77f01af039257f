"""Bulk changes from the rows of a sheet: first a plan, then apply.

Four steps, so that a sheet of 100,000 rows keeps a STOP waiting for SQLite's one writer for seconds and not for longer:

    read    what the cells say; slow, pure, and outside of every transaction
    plan    one verdict and a reason for every row; only looks, so `Database.reading` is enough
    ready   of a sheet of cases, all that is to be written, as the driver takes it; only looks
    apply   all of it or nothing, and only what the plan says

Apply first makes sure that the plan still holds.  Every verb that changes a case or a group leaves a line in the audit
log, so where no such line came since, nothing is compared twice; where one did, it plans again and refuses if anything
came out otherwise.  Doing it twice changes nothing the second time.  Rows go through the database as sets, never one
by one.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from array import array
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol, runtime_checkable

from sqlalchemy import Column, ColumnElement, Integer, MetaData, Row, Table, Text, case, null, select, true

from storage.audit import Actor
from storage.contacts import cases, consent, groups
from storage.contacts.cases import Wanted
from storage.database import Transaction
from storage.errors import Problem
from storage.rules import numbers, quiet_hours
from storage.rules.hours_and_limits import Rules, read_language
from storage.rules.identifiers import Identifier, fold, key
from storage.rules.identifiers import read as read_identifier
from storage.schema import audit, memberships
from storage.schema import cases as cases_table
from storage.sheets.packed_rows import Packed

Mode = Literal["add", "remove", "replace"]

_asked = Table("asked_cases", MetaData(), Column("id", Integer, primary_key=True), prefixes=["TEMPORARY"])
_keys = Table("wanted_keys", MetaData(), Column("key", Text, primary_key=True), prefixes=["TEMPORARY"])


class Cell(Protocol):
    """What a sheet gives for one cell: the text, and why it cannot be used, if so."""

    @property
    def text(self) -> str: ...  # noqa: D102
    @property
    def fault(self) -> str | None: ...  # noqa: D102


class SheetRow(Protocol):
    """One row of a sheet, with the row number that Excel shows."""

    @property
    def number(self) -> int: ...  # noqa: D102
    @property
    def cells(self) -> Mapping[str, Cell]: ...  # noqa: D102


@runtime_checkable
class SheetRows(Protocol):
    """The rows of a sheet that can tell one column by itself."""

    def column(self, name: str) -> Iterable[tuple[int, str, str | None]]:
        """Of each row its number, the text of one cell and why it cannot be used."""
        ...


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of one row.

    `row` is None for a member that a *replace* takes out.  `target` is the case's row id, `case_id` its public one.
    `changes` holds old and new value of each property of a case.  `more` are the further faults of a row, so that one
    round of mending is enough.
    """

    row: int | None
    identifier: str
    verdict: str
    reason: Problem | None = None
    suggestion: str | None = None
    target: int | None = None
    case_id: str | None = None
    warnings: tuple[Problem, ...] = ()
    changes: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)
    wanted: Wanted | None = None
    more: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """What a sheet would do; `counts` has only verdicts that occur, `refusal` says why none of it may be done.

    `basis` is what was planned (the sheet as read, and for which group), `seen` the last change that it knows of,
    `moves` whom it adds to a group and removes from it, by row id.
    """

    verdicts: Sequence[Verdict]
    counts: Mapping[str, int]
    refusal: Problem | None = None
    basis: tuple[object, ...] = ()
    seen: int = 0
    moves: Mapping[str, Sequence[int]] = field(default_factory=dict)
    ready: tuple[cases.Ready, Sequence[Verdict]] | None = None
    """What carrying it out will write, and the verdicts as they will be then."""

    @property
    def digest(self) -> str:
        """What two plans have in common only if they would do the same."""
        whole = hashlib.sha256()
        for v in self.verdicts:
            whole.update(f"{v.row}|{v.verdict}|{v.target}|{sorted(v.changes.items())!r}\n".encode("utf-8", "replace"))
        return whole.hexdigest()

    @property
    def acts(self) -> bool:
        """Whether carrying it out would change anything."""
        return any(self.counts.get(verdict) for verdict in ("add", "remove", "create", "update"))


def holds(tx: Transaction, plan: Plan) -> bool:
    """Whether no case and no group was changed since this plan was made: then it need not be made again."""
    return plan.seen == _last_change(tx)


def _last_change(tx: Transaction) -> int:
    """The newest line of the audit log about a case or a group; ask before looking at either."""
    lines = select(audit.c.id).where(audit.c.subject.in_(("case", "group")))
    return int(tx.scalar(lines.order_by(audit.c.id.desc()).limit(1)) or 0)


def _unchanged(tx: Transaction, planned: Plan | None, basis: tuple[object, ...]) -> bool:
    return planned is not None and planned.basis == basis and holds(tx, planned)


def _refuse_if_stale(planned: Plan | None, plan: Plan) -> None:
    if planned is not None and planned.digest != plan.digest:
        raise Problem("plan-stale")


# -- members of a group ------------------------------------------------------------------------------------------------

IDENTIFIER = "case_identifier"

RANGE = 25_000
"""Identifiers that are looked up at once."""

_Told = tuple[str, dict[str, object]]
"""A Problem as plain values: its key, and what fills its holes."""


@dataclass(frozen=True, slots=True)
class MemberRow:
    """One row as read: its identifier, or why there is none."""

    number: int
    text: str
    identifier: Identifier | None
    why_not: Problem | None = None


@dataclass(frozen=True, slots=True, eq=False)
class MemberSheet:
    """A sheet of identifiers as read; give it to plan and to apply, and it is read once."""

    rows: Packed[MemberRow]


def read_members(rows: Iterable[SheetRow], rules: Rules) -> MemberSheet:
    """What the cells of a sheet of identifiers say.  The slow part of an import, and it needs no transaction."""
    cells = rows.column(IDENTIFIER) if isinstance(rows, SheetRows) else map(_cell_of, rows)
    return MemberSheet(Packed((_read_member(*cell, rules.country) for cell in cells), _member_row))


def _cell_of(row: SheetRow) -> tuple[int, str, str | None]:
    cell = row.cells.get(IDENTIFIER)
    return (row.number, cell.text, cell.fault) if cell else (row.number, "", None)


def _read_member(
    number: int, text: str, fault: str | None, country: str | None
) -> tuple[int, str, str, str | None, _Told | None]:
    """Number, text, key and phone of a row, and why it has none."""
    if fault:
        return number, text, "", None, ("cell-unreadable", {"fault": fault})
    if not text:
        return number, text, "", None, ("cell-blank", {"column": IDENTIFIER})
    identifier = read_identifier(text, country=country)
    return number, text, identifier.key, identifier.phone, None


def _member_row(number: int, text: str, same: str, phone: str | None, why_not: _Told | None) -> MemberRow:
    if why_not is not None:
        return MemberRow(number, text, None, _problem(why_not))
    return MemberRow(number, text, Identifier(text, same, phone))


def _problem(told: _Told) -> Problem:
    key, values = told
    return Problem(key, **values)


def plan_members(
    tx: Transaction,
    group_id: int,
    rows: Sequence[SheetRow] | MemberSheet,
    mode: Mode = "add",
    *,
    suggest: bool = True,
    among: Collection[int] | None = None,
) -> Plan:
    """What a sheet of identifiers would do to a group.

    `among` are the groups whose members count as known, for a person who may not learn of anybody else; None: everybody.

    Verdicts: add, already_in, duplicate, not_found, ambiguous, no_phone, closed, unreadable; and remove, not_member.
    The plan of a *replace* has a refusal if rows could not be read or found (`replace-unsure`: a typing mistake must
    not drop a member) or if none names a case (`replace-empty`: nor must a sheet that was not filled in drop them all).
    """
    sheet = rows if isinstance(rows, MemberSheet) else read_members(rows, tx.rules)
    seen = _last_change(tx)
    found = _Found()
    verdicts = Packed(_judged(tx, group_id, sheet, mode, among, found), found.verdict)
    found.settle()
    if suggest and among is None:
        found.suggested = dict(zip(found.lost, cases.suggest(tx, list(found.lost.values())), strict=True))
    refusal = _why_not_replace(found) if mode == "replace" else None
    moves = {"add": array("q"), "remove": array("q")}
    counts: Counter[str] = Counter()
    for row, _text, word, _reason, target, *_ in verdicts.plain():
        judged = "duplicate" if row in found.repeated else word
        counts[judged] += 1
        if judged in moves:
            moves[judged].append(target)
    basis = (sheet, group_id, mode, among)
    return Plan(verdicts, dict(counts), refusal, basis, seen, moves=moves)


_Judged = tuple[int | None, str, str, _Told | None, int | None, str | None, tuple[_Told, ...]]
"""A verdict as plain values: row, identifier, verdict, reason, target, case id and warnings."""


@dataclass(slots=True)
class _Found:
    """What is known only when every row was looked at: who stands in the sheet twice, and whom a typing mistake may mean."""

    rows: array[int] = field(default_factory=lambda: array("q"))
    targets: array[int] = field(default_factory=lambda: array("q"))
    unsure: list[int] = field(default_factory=list)
    lost: dict[int, Identifier] = field(default_factory=dict)
    repeated: dict[int, int] = field(default_factory=dict)
    suggested: dict[int, str | None] = field(default_factory=dict)

    def settle(self) -> None:
        """Find the rows whose case stands in an earlier row."""
        order = sorted(range(len(self.targets)), key=self.targets.__getitem__)
        first = order[0] if order else 0
        for before, n in itertools.pairwise(order):
            if self.targets[n] != self.targets[before]:
                first = n
            else:
                self.repeated[self.rows[n]] = self.rows[first]

    def note_lost(self, row: int, identifier: Identifier) -> None:
        """Keep what was not found, to look for what is near; of a sheet with more than a few another thing is wrong."""
        if len(self.lost) < cases.SUGGESTED:
            self.lost[row] = identifier

    def verdict(
        self,
        row: int | None,
        identifier: str,
        word: str,
        reason: _Told | None,
        target: int | None,
        case_id: str | None,
        warnings: Sequence[_Told],
    ) -> Verdict:
        """One row's verdict as people see it."""
        if row is not None and row in self.repeated:
            word, reason = "duplicate", ("row-duplicate", {"row": self.repeated[row]})
        return Verdict(
            row,
            identifier,
            word,
            _problem(reason) if reason else None,
            self.suggested.get(row) if row is not None and self.suggested else None,
            target,
            case_id,
            tuple(map(_problem, warnings)) if warnings else (),
        )


def _judged(
    tx: Transaction, group_id: int, sheet: MemberSheet, mode: Mode, among: Collection[int] | None, found: _Found
) -> Iterator[_Judged]:
    """The verdict of each row, and below them of each member whom a *replace* takes out."""
    columns = _told_of_a_case(group_id, among)
    stays: list[int] = []
    rows = sheet.rows.plain()
    while part := list(itertools.islice(rows, RANGE)):
        asked = [Identifier(text, same, phone) for _, text, same, phone, why_not in part if why_not is None]
        fits = iter(cases.find(tx, asked, columns))
        for number, text, same, phone, why_not in part:
            if why_not is not None:
                found.unsure.append(number)
                yield number, text, "unreadable", why_not, None, None, ()
                continue
            fit = [one for one in next(fits) if one.is_known]
            if len(fit) != 1:
                found.unsure.append(number)
                if not fit:
                    found.note_lost(number, Identifier(text, same, phone))
                yield number, text, *_unfound(text, fit), None, None, ()
                continue
            (one,) = fit
            word, reason = _member_verdict(one, mode)
            if word == "already_in":
                stays.append(one.id)
            found.rows.append(number)
            found.targets.append(one.id)
            yield number, text, word, reason, one.id, one.case_id, _warnings(one)
    if mode == "replace":
        yield from _left_out(tx, group_id, stays)


def _told_of_a_case(group_id: int, among: Collection[int] | None) -> list[ColumnElement[Any]]:
    """What a verdict needs to know of a case, in SQL."""
    owner = cases_table.alias("owner")
    number = cases_table.c.contact_phone_number
    other = (owner.c.contact_phone_number == number, owner.c.two_way, owner.c.id != cases_table.c.id)
    return [
        cases_table.c.id,
        cases_table.c.case_id,
        cases_table.c.status,
        number,
        cases_table.c.number_warning,
        case((cases_table.c.two_way, null()), else_=select(owner.c.case_id).where(*other).scalar_subquery()).label(
            "owner"
        ),
        consent.is_stopped(number).label("is_stopped"),
        groups.has_member([group_id], cases_table.c.id).label("is_member"),
        (true() if among is None else groups.has_member(among, cases_table.c.id)).label("is_known"),
    ]


def apply_members(
    tx: Transaction,
    group_id: int,
    rows: Sequence[SheetRow] | MemberSheet,
    mode: Mode = "add",
    *,
    planned: Plan | None = None,
    among: Collection[int] | None = None,
    by: Actor,
) -> Plan:
    """Carry out a plan for a group, all of it or nothing; returns what was done.

    Raises Problem `plan-stale` if the group or the cases changed since `planned`, and the plan's refusal if it has one.
    """
    if planned is None or not _unchanged(tx, planned, (rows, group_id, mode, among)):
        again = plan_members(tx, group_id, rows, mode, suggest=planned is None, among=among)
        _refuse_if_stale(planned, again)
        planned = planned or again
    if planned.refusal:
        raise planned.refusal
    groups.add(tx, group_id, planned.moves["add"], by=by)
    groups.remove(tx, group_id, planned.moves["remove"], by=by)
    return planned


def _why_not_replace(found: _Found) -> Problem | None:
    if found.unsure:
        rows = ", ".join(map(str, found.unsure[:5]))
        return Problem("replace-unsure", count=len(found.unsure), rows=rows)
    return None if found.targets else Problem("replace-empty", column=IDENTIFIER)


_ALREADY_IN: _Told = ("row-already-in", {})
_NOT_MEMBER: _Told = ("row-not-member", {})
_CLOSED: _Told = ("row-closed", {})
_NO_PHONE: _Told = ("row-no-phone", {})
_LEFT_OUT: _Told = ("row-left-out", {})


def _member_verdict(case: Row[Any], mode: Mode) -> tuple[str, _Told | None]:
    if mode == "remove":
        return ("remove", None) if case.is_member else ("not_member", _NOT_MEMBER)
    if case.is_member:
        return "already_in", _ALREADY_IN
    if case.status == "closed":
        return "closed", _CLOSED
    if case.contact_phone_number is None:
        return "no_phone", _NO_PHONE
    return "add", None


def _unfound(text: str, fitting: Sequence[Row[Any]]) -> tuple[str, _Told]:
    if not fitting:
        return "not_found", ("row-not-found", {"typed": text})
    candidates = ", ".join(c.case_id for c in fitting)
    return "ambiguous", ("row-ambiguous", {"typed": text, "candidates": candidates})


def _left_out(tx: Transaction, group_id: int, stays: Iterable[int]) -> Iterator[_Judged]:
    """The members who do not stay, in the order in which they came in."""
    cases.fill(tx, _asked, ({"id": i} for i in sorted(set(stays))))
    query = (
        select(cases_table.c.id, cases_table.c.external_id, cases_table.c.case_id)
        .join(memberships, memberships.c.case_id == cases_table.c.id)
        .where(memberships.c.group_id == group_id, memberships.c.removed_at.is_(None))
        .where(cases_table.c.id.not_in(select(_asked.c.id)))
        .order_by(memberships.c.id)
    )
    for one in tx.execute(query):
        yield None, one.external_id or one.case_id, "remove", _LEFT_OUT, one.id, one.case_id, ()


def _warnings(case: Row[Any]) -> tuple[_Told, ...]:
    """What a person should know before texting a case."""
    if not (case.is_stopped or case.owner or case.number_warning):
        return ()
    number = case.contact_phone_number
    notes: list[_Told] = []
    if case.is_stopped:
        notes.append(("case-stopped", {}))
    if case.owner:
        notes.append(("number-owned", {"phone": number, "owner": case.owner}))
    if case.number_warning:
        notes.append((case.number_warning, {"typed": number}))
    return tuple(notes)


# -- cases -------------------------------------------------------------------------------------------------------------

_KNOWN_AS = {
    "caseid": "case_id",
    "_id": "case_id",
    "case_name": "name",
    "phone": "contact_phone_number",
    "phone_number": "contact_phone_number",
    "email": "commcare_email_address",
    "language": "language_code",
    "timezone": "time_zone",
    "closed": "status",
}
"""Other names under which a sheet brings a column: those of CommCare's case export, and what people write."""

_BLANK = ("", "---")
"""A blank leaves a value as it is; CommCare's export writes --- for a property that a case does not have."""

_CLEAR = "--"
_YES, _NO = ("1", "yes", "true"), ("0", "no", "false")
_EMAIL = re.compile(r"[^@\s]+@[^@\s.]+(\.[^@\s.]+)+")

_Reader = Callable[[Rules, str], tuple[Any, tuple[Problem, ...]]]


@dataclass(frozen=True, slots=True)
class CaseRow:
    """One row as read: what it sets, or in `why_not` everything for which it cannot be used."""

    number: int
    case_id: str
    external_id: str
    values: Mapping[str, Any]
    properties: Mapping[str, str | None]
    warnings: tuple[Problem, ...] = ()
    why_not: tuple[Problem, ...] = ()

    @property
    def identifier(self) -> str:
        """What names the row to a person."""
        return self.case_id or self.external_id


@dataclass(frozen=True, slots=True, eq=False)
class CaseSheet:
    """A sheet of cases as read; give it to plan and to apply, and it is read once."""

    rows: Sequence[CaseRow]


def read_cases(rows: Sequence[SheetRow], rules: Rules, *, columns: Collection[str] | None = None) -> CaseSheet:
    """What the cells of a sheet of cases say.  The slow part of an import, and it needs no transaction.

    `columns` are those of the sheet, for rows leave blank cells out.  Raises Problem `column-two-names`.
    """
    known = _known_columns(columns or dict.fromkeys(name for row in rows for name in row.cells))
    return CaseSheet([_read_case(row, known, rules) for row in rows])


def _known_columns(columns: Collection[str]) -> dict[str, str]:
    """What each column that we know means: the name of a property, or `closed`; any other is a free property.

    Another name counts only in a sheet without the column itself, however blank that is: of two columns that could be
    the phone number, the wrong one would be texted.
    """
    known = {name: name for name in columns if name in _READERS or name == "case_id"}
    others: dict[str, list[str]] = {}
    for name in columns:
        if (meant := _KNOWN_AS.get(name)) and meant not in columns:
            others.setdefault(meant, []).append(name)
    for meant, names in others.items():
        if len(names) > 1:
            raise Problem("column-two-names", columns=" and ".join(names), meant=meant)
        known[names[0]] = "closed" if names[0] == "closed" else meant
    return known


def _read_case(row: SheetRow, known: Mapping[str, str], rules: Rules) -> CaseRow:
    named = {known[name]: cell for name, cell in row.cells.items() if name in known}
    free = {name: cell for name, cell in row.cells.items() if name not in known}
    case_id, external_id = _text(named, "case_id"), _text(named, "external_id")
    values, warnings, faults = _read_values(rules, named)
    if not case_id and not external_id:
        faults = (Problem("row-no-id"), *faults)
    if faults:
        return CaseRow(row.number, case_id, external_id, {}, {}, why_not=faults)
    return CaseRow(row.number, case_id, external_id, values, _read_properties(free), warnings)


def plan_cases(tx: Transaction, rows: Sequence[SheetRow] | CaseSheet) -> Plan:
    """What a sheet of cases would do.  Verdicts: create, update, unchanged, invalid.

    A row is matched by case id, else by external id, never by phone; one with neither is invalid, because the same
    sheet loaded twice would make the person twice.
    """
    sheet = rows if isinstance(rows, CaseSheet) else read_cases(rows, tx.rules)
    seen = _last_change(tx)
    by_case_id = _existing(tx, cases_table.c.case_id_key, [row.case_id for row in sheet.rows])
    by_external = _existing(tx, cases_table.c.external_id_key, [row.external_id for row in sheet.rows])
    first_row: dict[object, int] = {}
    verdicts: list[Verdict] = []
    for row in sheet.rows:
        if row.why_not:
            verdicts.append(_invalid(row, row.why_not))
            continue
        try:
            verdict = _case_verdict(row, by_case_id, by_external)
            for claim in _claims(verdict, row):
                if (again := first_row.setdefault(claim, row.number)) != row.number:
                    raise Problem("row-duplicate", row=again)
        except Problem as problem:
            verdict = _invalid(row, (problem,))
        verdicts.append(verdict)
    told = _with_owner_warnings(tx, verdicts)
    return Plan(told, dict(Counter(v.verdict for v in told)), basis=(sheet,), seen=seen)


def apply_cases(
    tx: Transaction,
    rows: Sequence[SheetRow] | CaseSheet,
    *,
    planned: Plan | None = None,
    verb: str = "cases.import",
    by: Actor,
) -> Plan:
    """Carry out a plan for cases, all good rows or nothing; returns what was done, with the case ids.

    `verb` is how the audit log calls it.  Raises Problem `plan-stale` if a case changed since `planned`.
    """
    plan = planned
    if plan is None or not _unchanged(tx, plan, (rows,)):
        plan = plan_cases(tx, rows)
        _refuse_if_stale(planned, plan)
    if plan.ready is None or not cases.fits(tx, plan.ready[0]):
        plan = make_ready(tx, plan)
    if plan.ready is None:
        return plan
    ready, done = plan.ready
    cases.write(tx, ready, verb=verb, by=by)
    return replace(plan, verdicts=done, ready=None)


def make_ready(tx: Transaction, plan: Plan) -> Plan:
    """The plan with all that it will write worked out; it only looks, and applying takes the writer for far less time."""
    acting = [v for v in plan.verdicts if v.wanted is not None and v.verdict in ("create", "update")]
    if not acting:
        return plan
    ready = cases.make_ready(tx, [v.wanted for v in acting if v.wanted])
    made = dict(zip((v.row for v in acting), ready.ids, strict=True))
    done = [
        replace(v, target=made[v.row], case_id=ready.case_ids.get(made[v.row], v.case_id), wanted=None)
        if v.row in made
        else v
        for v in plan.verdicts
    ]
    return replace(plan, ready=(ready, done))


_ByKey = Mapping[str, Sequence[Row[Any]]]


def _invalid(row: CaseRow, faults: tuple[Problem, ...]) -> Verdict:
    near = next((str(fault.values["near"]) for fault in faults if fault.values.get("near")), None)
    return Verdict(row.number, row.identifier, "invalid", faults[0], near, more=faults[1:])


def _case_verdict(row: CaseRow, by_case_id: _ByKey, by_external: _ByKey) -> Verdict:
    case = _matched(row.case_id, row.external_id, by_case_id, by_external)
    if case is None and key(row.case_id).startswith("c-"):
        raise Problem("row-case-id-unknown", typed=row.case_id)
    old = case._mapping if case is not None else {}
    had = case.properties if case is not None else {}
    values = dict(row.values)
    if not values.get("contact_phone_number", old.get("contact_phone_number")):
        values.pop("contact_phone_number_is_verified", None)  # without a number there is nothing to verify
    changes = {n: (old.get(n), v) for n, v in values.items() if _differs(old.get(n), v)}
    changes |= {n: (had.get(n), v) for n, v in row.properties.items() if had.get(n) != v}
    kept = {n: v for n, v in values.items() if n in changes or n == "contact_phone_number_is_verified"}
    if case is not None and values.get("contact_phone_number_is_verified"):
        kept.setdefault("contact_phone_number", case.contact_phone_number)  # so that its owner is named
    if "contact_phone_number" in changes:
        kept["number_warning"] = row.warnings[0].key if row.warnings else None
    return Verdict(
        row.number,
        row.identifier,
        "create" if case is None else "update" if changes else "unchanged",
        target=old.get("id"),
        case_id=old.get("case_id"),
        warnings=row.warnings,
        changes=changes,
        wanted=Wanted(old.get("id"), kept, row.properties, row.case_id or None),
    )


def _claims(verdict: Verdict, row: CaseRow) -> Iterable[object]:
    """What no second row of a sheet may name: the case itself, and the ids that this row brings into the world."""
    if verdict.target or row.case_id:
        yield verdict.target or ("case_id", key(row.case_id))
    if "external_id" in verdict.changes and row.external_id:
        yield ("external_id", key(row.external_id))


def _matched(case_id: str, external_id: str, by_case_id: _ByKey, by_external: _ByKey) -> Row[Any] | None:
    same = by_external.get(key(external_id), ()) if external_id else ()
    if case_id:
        found = by_case_id.get(key(case_id), ())
        if same and not any(c.id == f.id for c in same for f in found):
            # a case id with the external id of another case: one of the two is a mistake
            raise Problem("row-other-case-id", typed=external_id, candidates=", ".join(c.case_id for c in same))
        return found[0] if found else None
    if len(same) > 1:
        raise Problem("row-ambiguous", typed=external_id, candidates=", ".join(c.case_id for c in same))
    return same[0] if same else None


def _read_values(
    rules: Rules, cells: Mapping[str, Cell]
) -> tuple[dict[str, Any], tuple[Problem, ...], tuple[Problem, ...]]:
    """What a row sets of the properties we know, warnings about the number, and each cell that cannot be used."""
    values: dict[str, Any] = {}
    warnings: tuple[Problem, ...] = ()
    faults: list[Problem] = []
    for name, cell in cells.items():
        try:
            if cell.fault:
                raise Problem("cell-unreadable-in", column=name, fault=cell.fault)
            text = fold(cell.text)
            if text in _BLANK or name == "case_id":
                continue
            if name == "closed":
                values["status"] = "closed" if _yes_no(name, text) else "open"
            else:
                values[name], notes = (_EMPTY.get(name), ()) if text == _CLEAR else _READERS[name](rules, text)
                warnings += notes
        except Problem as fault:
            faults.append(fault)
    return values, warnings, tuple(faults)


def _read_properties(cells: Mapping[str, Cell]) -> dict[str, str | None]:
    """What a row sets of the free properties; None takes one away."""
    folded = {name: fold(cell.text) for name, cell in cells.items()}
    return {
        name: None if folded[name] == _CLEAR else cell.text.strip()
        for name, cell in cells.items()
        if folded[name] not in _BLANK
    }


def _yes_no(column: str, text: str) -> bool:
    if text.casefold() in _YES:
        return True
    if text.casefold() in _NO:
        return False
    raise Problem("not-yes-or-no", column=column, typed=text)


def _read_phone(rules: Rules, text: str) -> tuple[str, tuple[Problem, ...]]:
    number = numbers.read(text, country=rules.country, strict=rules.strict_numbers)
    return number.digits, tuple(Problem(warning, typed=text, digits=number.digits) for warning in number.warnings)


def _read_status(_rules: Rules, text: str) -> tuple[str, tuple[Problem, ...]]:
    if text.casefold() not in ("open", "closed"):
        raise Problem("status-unknown", typed=text)
    return text.casefold(), ()


def _read_email(_rules: Rules, text: str) -> tuple[str, tuple[Problem, ...]]:
    if not _EMAIL.fullmatch(text):
        raise Problem("email-shape", typed=text)
    return text, ()


def _read_zone(_rules: Rules, text: str) -> tuple[str, tuple[Problem, ...]]:
    if not quiet_hours.valid_zone(text):
        raise Problem("zone-unknown", typed=text, near=", ".join(quiet_hours.nearest_zones(text)))
    return text, ()


def _read_language(_rules: Rules, text: str) -> tuple[str, tuple[Problem, ...]]:
    return read_language(text), ()


_READERS: dict[str, _Reader] = {
    "external_id": lambda _rules, text: (text, ()),
    "name": lambda _rules, text: (text, ()),
    "status": _read_status,
    "contact_phone_number": _read_phone,
    "contact_phone_number_is_verified": lambda _rules, text: (_yes_no("contact_phone_number_is_verified", text), ()),
    "commcare_email_address": _read_email,
    "time_zone": _read_zone,
    "language_code": _read_language,
    "contact_backend_id": lambda _rules, text: (text, ()),
}
_EMPTY: dict[str, Any] = {"name": "", "status": "open", "contact_phone_number_is_verified": False}


def _differs(old: Any, new: Any) -> bool:
    return (old or None) != (new or None)


def _text(cells: Mapping[str, Cell], name: str) -> str:
    text = fold(cells[name].text) if name in cells else ""
    return "" if text in (*_BLANK, _CLEAR) else text


def _existing(tx: Transaction, column: Column[Any], texts: Iterable[str]) -> dict[str, list[Row[Any]]]:
    """The cases that have one of these keys in a column, by key; one question to the database."""
    distinct = [{"key": k} for k in {key(text) for text in texts if text}]
    if not distinct:
        return {}
    cases.fill(tx, _keys, distinct)
    found: dict[str, list[Row[Any]]] = {}
    for row in tx.execute(select(cases_table).join(_keys, _keys.c.key == column).order_by(cases_table.c.id)):
        found.setdefault(row._mapping[column], []).append(row)
    return found


def _with_owner_warnings(tx: Transaction, verdicts: list[Verdict]) -> list[Verdict]:
    """Say on every row that wants a number two-way which another case owns, who that is."""
    wanting = {}
    for n, v in enumerate(verdicts):
        if v.wanted is not None and v.verdict != "invalid":
            phone = (
                v.wanted.values.get("contact_phone_number") or v.changes.get("contact_phone_number", (None, None))[1]
            )
            if phone:
                wanting[n] = phone
    owners = cases.owners_of(tx, wanting.values())
    first: dict[str, Verdict] = {}
    for n, phone in wanting.items():
        v = verdicts[n]
        owner = owners.get(phone)
        note = None
        if owner is not None and owner.id != v.target:
            note = Problem("number-owned", phone=phone, owner=owner.external_id or owner.case_id)
        elif owner is None and phone in first:
            note = Problem("number-shared-in-sheet", phone=phone, row=first[phone].row)
        first.setdefault(phone, v)
        if note:
            verdicts[n] = replace(v, warnings=(*v.warnings, note))
    return verdicts
