"""Bulk changes from the rows of a sheet: first a plan, then apply.

A plan gives every row one verdict and a reason, and touches nothing.  Apply is one transaction: it plans again, refuses
if anything came out otherwise (somebody changed the group in between), and then does all of it or nothing.
Doing it twice changes nothing the second time.  Rows go through the database as sets, never one by one.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

from sqlalchemy import Column, Integer, MetaData, Row, Table, Text, insert, select

from storage import consent, contacts, groups, phones, schedules
from storage.audit import Actor
from storage.contacts import Wanted
from storage.database import Transaction
from storage.errors import Problem
from storage.identifiers import fold, key
from storage.identifiers import read as read_identifier
from storage.schema import cases

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


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of one row.

    `row` is None for a member that a *replace* takes out.  `target` is the case's row id, `case_id` its public one.
    `changes` holds old and new value of each property of a case.
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


@dataclass(frozen=True, slots=True)
class Plan:
    """What a sheet would do; `counts` has only verdicts that occur."""

    verdicts: Sequence[Verdict]
    counts: Mapping[str, int]
    digest: str


def _plan(verdicts: Sequence[Verdict]) -> Plan:
    whole = hashlib.sha256()
    for v in verdicts:
        whole.update(f"{v.row}|{v.verdict}|{v.target}|{sorted(v.changes.items())!r}\n".encode("utf-8", "replace"))
    return Plan(verdicts, dict(Counter(v.verdict for v in verdicts)), whole.hexdigest())


# -- members of a group ------------------------------------------------------------------------------------------------

IDENTIFIER = "case_identifier"


def plan_members(tx: Transaction, group_id: int, rows: Sequence[SheetRow], mode: Mode = "add") -> Plan:
    """What a sheet of identifiers would do to a group.

    Verdicts: add, already_in, duplicate, not_found, ambiguous, no_phone, closed, unreadable; and remove, not_member.
    """
    cells = [row.cells.get(IDENTIFIER) for row in rows]
    readable = [i for i, cell in enumerate(cells) if cell and not cell.fault and cell.text]
    identifiers = [read_identifier(cells[i].text, country=tx.rules.country) for i in readable]  # type: ignore[union-attr]
    fitting = dict(zip(readable, contacts.find(tx, identifiers), strict=True))
    found = {i: fits[0] for i, fits in fitting.items() if len(fits) == 1}
    inside = groups.members_among(tx, group_id, [c.id for c in found.values()])
    warnings = _warnings(tx, list(found.values()))
    first_row: dict[int, int] = {}
    verdicts: list[Verdict] = []
    for i, row in enumerate(rows):
        cell = cells[i]
        text = cell.text if cell else ""
        if i not in fitting:
            fault = cell.fault if cell and cell.fault else None
            why = Problem("cell-unreadable", fault=fault) if fault else Problem("cell-blank", column=IDENTIFIER)
            verdicts.append(Verdict(row.number, text, "unreadable", why))
        elif i not in found:
            verdicts.append(_unfound(row.number, text, fitting[i]))
        else:
            case = found[i]
            again = first_row.setdefault(case.id, row.number)
            known = {"target": case.id, "case_id": case.case_id, "warnings": warnings.get(case.id, ())}
            if again != row.number:
                verdicts.append(Verdict(row.number, text, "duplicate", Problem("row-duplicate", row=again), **known))
            else:
                word, reason = _member_verdict(case, mode, is_member=case.id in inside)
                verdicts.append(Verdict(row.number, text, word, reason, **known))
    verdicts = _with_suggestions(tx, verdicts)
    if mode == "replace":
        verdicts += _left_out(tx, group_id, keep={v.target for v in verdicts if v.verdict == "already_in"})
    return _plan(verdicts)


def apply_members(
    tx: Transaction,
    group_id: int,
    rows: Sequence[SheetRow],
    mode: Mode = "add",
    *,
    planned: Plan | None = None,
    by: Actor,
) -> Plan:
    """Carry out a plan for a group, all of it or nothing; returns what was done.

    Raises Problem `plan-stale` if the group or the cases changed since `planned`, and `replace-unsure` if a *replace*
    has rows that could not be read or found: a typing mistake must not drop a member.
    """
    plan = plan_members(tx, group_id, rows, mode)
    if planned is not None and planned.digest != plan.digest:
        raise Problem("plan-stale")
    unsure = [v for v in plan.verdicts if v.verdict in ("not_found", "unreadable", "ambiguous")]
    if mode == "replace" and unsure:
        shown = ", ".join(str(v.row) for v in unsure[:5])
        raise Problem("replace-unsure", count=len(unsure), rows=shown)
    groups.add(tx, group_id, [v.target for v in plan.verdicts if v.verdict == "add" and v.target], by=by)
    groups.remove(tx, group_id, [v.target for v in plan.verdicts if v.verdict == "remove" and v.target], by=by)
    return plan


def _member_verdict(case: Row[Any], mode: Mode, *, is_member: bool) -> tuple[str, Problem | None]:
    if mode == "remove":
        return ("remove", None) if is_member else ("not_member", Problem("row-not-member"))
    if is_member:
        return "already_in", Problem("row-already-in")
    if case.status == "closed":
        return "closed", Problem("row-closed")
    if case.contact_phone_number is None:
        return "no_phone", Problem("row-no-phone")
    return "add", None


def _unfound(number: int, text: str, fitting: Sequence[Row[Any]]) -> Verdict:
    if not fitting:
        return Verdict(number, text, "not_found", Problem("row-not-found", typed=text))
    candidates = ", ".join(c.case_id for c in fitting)
    return Verdict(number, text, "ambiguous", Problem("row-ambiguous", typed=text, candidates=candidates))


def _with_suggestions(tx: Transaction, verdicts: list[Verdict]) -> list[Verdict]:
    lost = [n for n, v in enumerate(verdicts) if v.verdict == "not_found"]
    identifiers = [read_identifier(verdicts[n].identifier, country=tx.rules.country) for n in lost]
    for n, suggestion in zip(lost, contacts.suggest(tx, identifiers), strict=True):
        if suggestion is not None:
            verdicts[n] = replace(verdicts[n], suggestion=suggestion)
    return verdicts


def _left_out(tx: Transaction, group_id: int, keep: set[int | None]) -> list[Verdict]:
    return [
        Verdict(None, c.external_id or c.case_id, "remove", Problem("row-left-out"), target=c.id, case_id=c.case_id)
        for c in groups.members(tx, group_id)
        if c.id not in keep
    ]


def _warnings(tx: Transaction, found: Sequence[Row[Any]]) -> dict[int, tuple[Problem, ...]]:
    """For each case what a person should know before texting it."""
    owners = contacts.owners_of(tx, [c.contact_phone_number for c in found if c.contact_phone_number])
    stopped = _stopped(tx, found)
    warnings: dict[int, tuple[Problem, ...]] = {}
    for c in found:
        notes = []
        if c.id in stopped:
            notes.append(Problem("case-stopped"))
        owner = owners.get(c.contact_phone_number)
        if owner is not None and owner.id != c.id:
            notes.append(Problem("number-owned", phone=c.contact_phone_number, owner=owner.case_id))
        if c.number_warning:
            notes.append(Problem(c.number_warning, typed=c.contact_phone_number))
        warnings[c.id] = tuple(notes)
    return warnings


def _stopped(tx: Transaction, found: Sequence[Row[Any]]) -> set[int]:
    tx.temporary(_asked)
    if not found:
        return set()
    tx.execute(insert(_asked), [{"id": i} for i in {c.id for c in found}])
    query = select(cases.c.id).join(_asked, _asked.c.id == cases.c.id)
    return set(tx.execute(query.where(consent.is_stopped(cases.c.contact_phone_number))).scalars())


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
}
"""Other names under which a sheet brings a column: those of CommCare's case export, and what people write."""

_BLANK = ("", "---")
"""A blank leaves a value as it is; CommCare's export writes --- for a property that a case does not have."""

_CLEAR = "--"
_YES, _NO = ("1", "yes", "true"), ("0", "no", "false")
_EMAIL = re.compile(r"[^@\s]+@[^@\s.]+(\.[^@\s.]+)+")
_LANGUAGE = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*")

_Reader = Callable[[Transaction, str], tuple[Any, tuple[Problem, ...]]]


def plan_cases(tx: Transaction, rows: Sequence[SheetRow]) -> Plan:
    """What a sheet of cases would do.  Verdicts: create, update, unchanged, invalid.

    A row is matched by case id, else by external id, never by phone; one with neither is invalid, because the same
    sheet loaded twice would make the person twice.
    """
    named = [{_KNOWN_AS.get(name, name): cell for name, cell in row.cells.items()} for row in rows]
    by_case_id = _existing(tx, cases.c.case_id_key, [_text(cells, "case_id") for cells in named])
    by_external = _existing(tx, cases.c.external_id_key, [_text(cells, "external_id") for cells in named])
    first_row: dict[object, int] = {}
    verdicts: list[Verdict] = []
    for row, cells in zip(rows, named, strict=True):
        identifier = _text(cells, "case_id") or _text(cells, "external_id")
        try:
            verdict = _case_verdict(tx, row.number, identifier, cells, by_case_id, by_external)
            for claim in _claims(verdict, cells):
                if (again := first_row.setdefault(claim, row.number)) != row.number:
                    raise Problem("row-duplicate", row=again)
        except Problem as problem:
            verdict = Verdict(row.number, identifier, "invalid", problem, problem.values.get("near"))  # type: ignore[arg-type]
        verdicts.append(verdict)
    return _plan(_with_owner_warnings(tx, verdicts))


def apply_cases(tx: Transaction, rows: Sequence[SheetRow], *, planned: Plan | None = None, by: Actor) -> Plan:
    """Carry out a plan for cases, all good rows or nothing; returns what was done, with the case ids.

    Raises Problem `plan-stale` if a case changed since `planned`.
    """
    plan = plan_cases(tx, rows)
    if planned is not None and planned.digest != plan.digest:
        raise Problem("plan-stale")
    acting = [v for v in plan.verdicts if v.wanted is not None and v.verdict in ("create", "update")]
    if not acting:
        return plan
    ids = contacts.save(tx, [v.wanted for v in acting if v.wanted], verb="cases.import", by=by)
    made = dict(zip((v.row for v in acting), ids, strict=True))
    public = _public_ids(tx, ids)
    done = [
        replace(v, target=made[v.row], case_id=public[made[v.row]], wanted=None) if v.row in made else v
        for v in plan.verdicts
    ]
    return Plan(done, plan.counts, plan.digest)


def _case_verdict(
    tx: Transaction,
    number: int,
    identifier: str,
    cells: Mapping[str, Cell],
    by_case_id: Mapping[str, Sequence[Row[Any]]],
    by_external: Mapping[str, Sequence[Row[Any]]],
) -> Verdict:
    case_id, external_id = _text(cells, "case_id"), _text(cells, "external_id")
    if not case_id and not external_id:
        raise Problem("row-no-id")
    for name in ("case_id", "external_id"):
        if name in cells and (fault := cells[name].fault):
            raise Problem("cell-unreadable", fault=fault)
    case = _matched(case_id, external_id, by_case_id, by_external)
    values, properties, warnings = _read_values(tx, cells)
    if not values.get("contact_phone_number", case.contact_phone_number if case is not None else None):
        values.pop("contact_phone_number_is_verified", None)  # without a number there is nothing to verify
    old = case._mapping if case is not None else {}
    had = case.properties if case is not None else {}
    changes = {n: (old.get(n), v) for n, v in values.items() if _differs(old.get(n), v)}
    changes |= {n: (had.get(n), v) for n, v in properties.items() if had.get(n) != v}
    kept = {n: v for n, v in values.items() if n in changes or n == "contact_phone_number_is_verified"}
    if case is not None and values.get("contact_phone_number_is_verified"):
        kept.setdefault("contact_phone_number", case.contact_phone_number)  # so that its owner is named
    if "contact_phone_number" in changes:
        kept["number_warning"] = warnings[0].key if warnings else None
    wanted = Wanted(case.id if case is not None else None, kept, properties, case_id or None)
    if case is None:
        if key(case_id).startswith("c-"):
            raise Problem("row-case-id-unknown", typed=case_id)
        return Verdict(number, identifier, "create", warnings=warnings, changes=changes, wanted=wanted)
    word = "update" if changes else "unchanged"
    return Verdict(
        number,
        identifier,
        word,
        target=case.id,
        case_id=case.case_id,
        warnings=warnings,
        changes=changes,
        wanted=wanted,
    )


def _claims(verdict: Verdict, cells: Mapping[str, Cell]) -> Iterable[object]:
    """What no second row of a sheet may name: the case itself, and the ids that this row brings into the world."""
    if verdict.target or _text(cells, "case_id"):
        yield verdict.target or ("case_id", key(_text(cells, "case_id")))
    if "external_id" in verdict.changes and (external_id := _text(cells, "external_id")):
        yield ("external_id", key(external_id))


def _matched(
    case_id: str,
    external_id: str,
    by_case_id: Mapping[str, Sequence[Row[Any]]],
    by_external: Mapping[str, Sequence[Row[Any]]],
) -> Row[Any] | None:
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
    tx: Transaction, cells: Mapping[str, Cell]
) -> tuple[dict[str, Any], dict[str, str | None], tuple[Problem, ...]]:
    """What a row sets: the properties we know, the free ones, and warnings about the number."""
    values: dict[str, Any] = {}
    properties: dict[str, str | None] = {}
    warnings: tuple[Problem, ...] = ()
    for name, cell in cells.items():
        text = fold(cell.text)
        if cell.fault and (name in _READERS or name == "closed"):
            raise Problem("cell-unreadable", fault=cell.fault)
        if text in _BLANK or name == "case_id":
            continue
        if name == "closed":
            values["status"] = "closed" if _yes_no(name, text) else "open"
        elif name in _READERS:
            values[name], notes = (_EMPTY.get(name), ()) if text == _CLEAR else _READERS[name](tx, text)
            warnings += notes
        else:
            properties[name] = None if text == _CLEAR else cell.text.strip()
    return values, properties, warnings


def _yes_no(column: str, text: str) -> bool:
    if text.casefold() in _YES:
        return True
    if text.casefold() in _NO:
        return False
    raise Problem("not-yes-or-no", column=column, typed=text)


def _read_phone(tx: Transaction, text: str) -> tuple[str, tuple[Problem, ...]]:
    number = phones.read(text, country=tx.rules.country, strict=tx.rules.strict_numbers)
    return number.digits, tuple(Problem(warning, typed=text, digits=number.digits) for warning in number.warnings)


def _read_status(_tx: Transaction, text: str) -> tuple[str, tuple[Problem, ...]]:
    if text.casefold() not in ("open", "closed"):
        raise Problem("status-unknown", typed=text)
    return text.casefold(), ()


def _read_email(_tx: Transaction, text: str) -> tuple[str, tuple[Problem, ...]]:
    if not _EMAIL.fullmatch(text):
        raise Problem("email-shape", typed=text)
    return text, ()


def _read_zone(_tx: Transaction, text: str) -> tuple[str, tuple[Problem, ...]]:
    if not schedules.valid_zone(text):
        raise Problem("zone-unknown", typed=text, near=", ".join(schedules.nearest_zones(text)))
    return text, ()


def _read_language(_tx: Transaction, text: str) -> tuple[str, tuple[Problem, ...]]:
    if not _LANGUAGE.fullmatch(text):
        raise Problem("language-shape", typed=text)
    return text, ()


_READERS: dict[str, _Reader] = {
    "external_id": lambda _tx, text: (text, ()),
    "name": lambda _tx, text: (text, ()),
    "status": _read_status,
    "contact_phone_number": _read_phone,
    "contact_phone_number_is_verified": lambda _tx, text: (_yes_no("contact_phone_number_is_verified", text), ()),
    "commcare_email_address": _read_email,
    "time_zone": _read_zone,
    "language_code": _read_language,
    "contact_backend_id": lambda _tx, text: (text, ()),
}
_EMPTY: dict[str, Any] = {"name": "", "status": "open", "contact_phone_number_is_verified": False}


def _differs(old: Any, new: Any) -> bool:
    return (old or None) != (new or None)


def _text(cells: Mapping[str, Cell], name: str) -> str:
    text = fold(cells[name].text) if name in cells else ""
    return "" if text in (*_BLANK, _CLEAR) else text


def _existing(tx: Transaction, column: Column[Any], texts: Iterable[str]) -> dict[str, list[Row[Any]]]:
    """The cases that have one of these keys in a column, by key; one question to the database."""
    tx.temporary(_keys)
    distinct = [{"key": k} for k in {key(text) for text in texts if text}]
    if not distinct:
        return {}
    tx.execute(insert(_keys), distinct)
    found: dict[str, list[Row[Any]]] = {}
    for row in tx.execute(select(cases).join(_keys, _keys.c.key == column).order_by(cases.c.id)):
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
    owners = contacts.owners_of(tx, wanting.values())
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


def _public_ids(tx: Transaction, ids: Sequence[int]) -> dict[int, str]:
    tx.temporary(_asked)
    tx.execute(insert(_asked), [{"id": i} for i in set(ids)])
    rows = tx.execute(select(cases.c.id, cases.c.case_id).join(_asked, _asked.c.id == cases.c.id))
    return {row.id: row.case_id for row in rows}
