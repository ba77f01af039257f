"""Cases from a sheet: read, planned row by row, made ready and written, all of it or nothing (`sheets/plans.py` has the steps)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Column, MetaData, Row, Table, Text, select

from storage.audit import Actor
from storage.bulk import fill
from storage.contacts import cases
from storage.contacts.cases import Wanted
from storage.database import Transaction
from storage.errors import Problem
from storage.rules import numbers, quiet_hours
from storage.rules.hours_and_limits import Rules, read_language
from storage.rules.normalize import fold, key
from storage.schema import cases as cases_table
from storage.sheets.plans import Cell, Plan, SheetRow, Verdict, last_change, refuse_if_stale, unchanged

_wanted_keys = Table("wanted_keys", MetaData(), Column("key", Text, primary_key=True), prefixes=["TEMPORARY"])


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

_YES, _NO = ("1", "yes", "true"), ("0", "no", "false")

_EMAIL = re.compile(r"[^@\s]+@[^@\s.]+(\.[^@\s.]+)+")


def _yes_no(column: str, text: str) -> bool:
    if text.casefold() in _YES:
        return True
    if text.casefold() in _NO:
        return False
    raise Problem("not-yes-or-no", column=column, typed=text)


def _read_phone(rules: Rules, text: str) -> tuple[str, tuple[Problem, ...]]:
    number = numbers.read(text, country=rules.country, strict=rules.strict_numbers)
    return number.digits, tuple(numbers.warning(one, number.digits, typed=text) for one in number.warnings)


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
    case_id, external_id = text_of(named, "case_id"), text_of(named, "external_id")
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
    seen = last_change(tx)
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
    if plan is None or not unchanged(tx, plan, (rows,)):
        plan = plan_cases(tx, rows)
        refuse_if_stale(planned, plan)
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


def _invalid(row: CaseRow, faults: tuple[Problem, ...]) -> Verdict:
    near = next((str(fault.values["near"]) for fault in faults if fault.values.get("near")), None)
    return Verdict(row.number, row.identifier, "invalid", faults[0], near, more=faults[1:])


_ByKey = Mapping[str, Sequence[Row[Any]]]


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


_BLANK = ("", "---")
"""A blank leaves a value as it is; CommCare's export writes --- for a property that a case does not have."""

_CLEAR = "--"

_EMPTY: dict[str, Any] = {"name": "", "status": "open", "contact_phone_number_is_verified": False}


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


def _differs(old: Any, new: Any) -> bool:
    return (old or None) != (new or None)


def text_of(cells: Mapping[str, Cell], name: str) -> str:
    """What a cell says; blank where it is not there, says nothing or asks to clear."""
    text = fold(cells[name].text) if name in cells else ""
    return "" if text in (*_BLANK, _CLEAR) else text


def _existing(tx: Transaction, column: Column[Any], texts: Iterable[str]) -> dict[str, list[Row[Any]]]:
    """The cases that have one of these keys in a column, by key; one question to the database."""
    distinct = [{"key": k} for k in {key(text) for text in texts if text}]
    if not distinct:
        return {}
    fill(tx, _wanted_keys, distinct)
    found: dict[str, list[Row[Any]]] = {}
    for row in tx.execute(
        select(cases_table).join(_wanted_keys, _wanted_keys.c.key == column).order_by(cases_table.c.id)
    ):
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


_Reader = Callable[[Rules, str], tuple[Any, tuple[Problem, ...]]]
