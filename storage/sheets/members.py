"""Members of a group from a sheet of identifiers: read, planned row by row, and added, taken out or replaced as a whole."""

from __future__ import annotations

import itertools
from array import array
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Column, ColumnElement, Integer, MetaData, Row, Table, case, null, select, true

from storage.audit import Actor
from storage.bulk import fill
from storage.contacts import consent, groups, lookup
from storage.database import Transaction
from storage.errors import Problem
from storage.rules import numbers
from storage.rules.hours_and_limits import Rules
from storage.rules.identifiers import Identifier
from storage.rules.identifiers import read as read_identifier
from storage.schema import cases as cases_table
from storage.schema import memberships
from storage.sheets.packed_rows import PackedRows
from storage.sheets.plans import (
    IDENTIFIER,
    Mode,
    Plan,
    SheetRow,
    SheetRows,
    Verdict,
    last_change,
    refuse_if_stale,
    unchanged,
)

_asked_cases = Table("asked_cases", MetaData(), Column("id", Integer, primary_key=True), prefixes=["TEMPORARY"])

RANGE = 25_000
"""Identifiers that are looked up at once."""

Fault = tuple[str, dict[str, object]]
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

    rows: PackedRows[MemberRow]


def read_members(rows: Iterable[SheetRow], rules: Rules) -> MemberSheet:
    """What the cells of a sheet of identifiers say.  The slow part of an import, and it needs no transaction."""
    cells = rows.column(IDENTIFIER) if isinstance(rows, SheetRows) else map(_cell_of, rows)
    return MemberSheet(PackedRows((_read_member(*cell, rules.country) for cell in cells), _member_row))


def _read_member(
    number: int, text: str, fault: str | None, country: str | None
) -> tuple[int, str, str, str | None, Fault | None]:
    """Number, text, key and phone of a row, and why it has none."""
    if fault:
        return number, text, "", None, ("cell-unreadable", {"fault": fault})
    if not text:
        return number, text, "", None, ("cell-blank", {"column": IDENTIFIER})
    identifier = read_identifier(text, country=country)
    return number, text, identifier.key, identifier.phone, None


def _member_row(number: int, text: str, same: str, phone: str | None, why_not: Fault | None) -> MemberRow:
    if why_not is not None:
        return MemberRow(number, text, None, _problem(why_not))
    return MemberRow(number, text, Identifier(text, same, phone))


def _problem(told: Fault) -> Problem:
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
    seen = last_change(tx)
    found = _Found()
    verdicts = PackedRows(_judged(tx, group_id, sheet, mode, among, found), found.verdict)
    found.settle()
    if suggest and among is None:
        found.suggested = dict(zip(found.lost, lookup.suggest(tx, list(found.lost.values())), strict=True))
    refusal = _why_not_replace(found) if mode == "replace" else None
    moves = {"add": array("q"), "remove": array("q")}
    counts: Counter[str] = Counter()
    for row, _, word, _reason, target, *_ in verdicts.plain():
        judged = "duplicate" if row in found.repeated else word
        counts[judged] += 1
        if judged in moves:
            moves[judged].append(target)
    basis = (sheet, group_id, mode, among)
    return Plan(verdicts, dict(counts), refusal, basis, seen, moves=moves)


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
        if len(self.lost) < lookup.SUGGESTED:
            self.lost[row] = identifier

    def verdict(
        self,
        row: int | None,
        identifier: str,
        word: str,
        reason: Fault | None,
        target: int | None,
        case_id: str | None,
        warnings: Sequence[Fault],
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


_Judged = tuple[int | None, str, str, Fault | None, int | None, str | None, tuple[Fault, ...]]
"""A verdict as plain values: row, identifier, verdict, reason, target, case id and warnings."""


def _judged(
    tx: Transaction, group_id: int, sheet: MemberSheet, mode: Mode, among: Collection[int] | None, found: _Found
) -> Iterator[_Judged]:
    """The verdict of each row, and below them of each member whom a *replace* takes out."""
    columns = _told_of_a_case(group_id, among)
    stays: list[int] = []
    rows = sheet.rows.plain()
    while part := list(itertools.islice(rows, RANGE)):
        asked = [Identifier(text, same, phone) for _, text, same, phone, why_not in part if why_not is None]
        fits = iter(lookup.find(tx, asked, columns))
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
    other = (owner.c.phone_key == cases_table.c.phone_key, owner.c.two_way, owner.c.id != cases_table.c.id)
    return [
        cases_table.c.id,
        cases_table.c.case_id,
        cases_table.c.status,
        number,
        cases_table.c.number_warning,
        case((cases_table.c.two_way, null()), else_=select(owner.c.case_id).where(*other).scalar_subquery()).label(
            "owner"
        ),
        consent.is_stopped(cases_table.c.phone_key).label("is_stopped"),
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
    if planned is None or not unchanged(tx, planned, (rows, group_id, mode, among)):
        again = plan_members(tx, group_id, rows, mode, suggest=planned is None, among=among)
        refuse_if_stale(planned, again)
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


_ALREADY_IN: Fault = ("row-already-in", {})

_NOT_MEMBER: Fault = ("row-not-member", {})

_CLOSED: Fault = ("row-closed", {})

_NO_PHONE: Fault = ("row-no-phone", {})


def _member_verdict(case: Row[Any], mode: Mode) -> tuple[str, Fault | None]:
    if mode == "remove":
        return ("remove", None) if case.is_member else ("not_member", _NOT_MEMBER)
    if case.is_member:
        return "already_in", _ALREADY_IN
    if case.status == "closed":
        return "closed", _CLOSED
    if case.contact_phone_number is None:
        return "no_phone", _NO_PHONE
    return "add", None


def _unfound(text: str, fitting: Sequence[Row[Any]]) -> tuple[str, Fault]:
    if not fitting:
        return "not_found", ("row-not-found", {"typed": text})
    candidates = ", ".join(c.case_id for c in fitting)
    return "ambiguous", ("row-ambiguous", {"typed": text, "candidates": candidates})


_LEFT_OUT: Fault = ("row-left-out", {})


def _left_out(tx: Transaction, group_id: int, stays: Iterable[int]) -> Iterator[_Judged]:
    """The members who do not stay, in the order in which they came in."""
    fill(tx, _asked_cases, ({"id": i} for i in sorted(set(stays))))
    query = (
        select(cases_table.c.id, cases_table.c.external_id, cases_table.c.case_id)
        .join(memberships, memberships.c.case_id == cases_table.c.id)
        .where(memberships.c.group_id == group_id, memberships.c.removed_at.is_(None))
        .where(cases_table.c.id.not_in(select(_asked_cases.c.id)))
        .order_by(memberships.c.id)
    )
    for one in tx.execute(query):
        yield None, one.external_id or one.case_id, "remove", _LEFT_OUT, one.id, one.case_id, ()


def _warnings(case: Row[Any]) -> tuple[Fault, ...]:
    """What a person should know before texting a case."""
    if not (case.is_stopped or case.owner or case.number_warning):
        return ()
    number = case.contact_phone_number
    notes: list[Fault] = []
    if case.is_stopped:
        notes.append(("case-stopped", {}))
    if case.owner:
        notes.append(("number-owned", {"phone": number, "owner": case.owner}))
    if case.number_warning:
        notes.append((case.number_warning, numbers.warning(case.number_warning, number).values))
    return tuple(notes)


def _cell_of(row: SheetRow) -> tuple[int, str, str | None]:
    """The number of a row, the identifier in it, and why that cannot be read, if so."""
    cell = row.cells.get(IDENTIFIER)
    return (row.number, cell.text, cell.fault) if cell else (row.number, "", None)
