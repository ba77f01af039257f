"""`jumbe cases` and `jumbe groups`: bulk work on the command line, by the same verbs as the desk and the texts."""

from __future__ import annotations

import contextlib
import difflib
import gc
import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
from sqlalchemy import Row

from admin_notebooks import deeds
from admin_notebooks.sheets import cells, reader, writer
from storage.audit import Actor
from storage.broadcasts import broadcasts, progress
from storage.console import (
    CLI,
    as_json,
    count_of,
    open_database,
    printable,
    sentence,
    show,
    show_one,
    show_rows,
    working,
)
from storage.contacts import cases as c
from storage.contacts import groups as g
from storage.contacts import lookup
from storage.contacts.cases import PROPERTIES
from storage.database import Database, Transaction
from storage.errors import Problem
from storage.operations import operations
from storage.rules import numbers
from storage.sheets import imports, members, plans
from storage.sheets.plans import Mode, Plan

KNOWN_COLUMNS = (*PROPERTIES, "case_id", "caseid", "closed")
"""The columns of a sheet of cases that mean something; any other is kept as a property."""


@click.group()
def cases() -> None:
    """The people the programme texts."""


@cases.command("import")
@click.argument("file")
@click.option("--plan", "only_plan", is_flag=True, help="Say what would happen, and change nothing.")
@click.option("--result", help="Write the sheet with verdict, reason and suggestion to this .xlsx.")
@as_json
def import_cases(file: str, result: str | None, *, only_plan: bool, json_: bool) -> None:
    """Create and update cases from a sheet (.xlsx or .csv), matched by case id or external id."""
    _check_result(file, result)
    db = open_database()
    with _without_collector():
        with working(f"reading {Path(file).name}", json_=json_) as step:
            sheet = reader.read(file, wanted=("external_id", "case_id", "caseid"), step=step)
            read = imports.read_cases(deeds.without_result_columns(sheet), db.rules, columns=sheet.columns)

        def plan_it(tx: Transaction) -> Plan:
            plan = imports.plan_cases(tx, read)
            return plan if only_plan else imports.make_ready(tx, plan)

        def apply_it(tx: Transaction, plan: Plan) -> Plan:
            return imports.apply_cases(tx, read, planned=plan, by=_by_sheet(file, sheet))

        plan = _look(db, plan_it, json_=json_) if only_plan else _carry_out(db, plan_it, apply_it, json_=json_)
    for told in _misspelt(sheet):
        click.echo(f"jumbe: {printable(told)}", err=True)
    _tell(plan, sheet, result, json_=json_, applied=not only_plan)


@cases.command("list")
@as_json
def list_cases(*, json_: bool) -> None:
    """Every case."""
    with open_database().reading() as tx:
        records = [_case(row) for row in lookup.list_all(tx)]
    show(records, json_=json_, columns=("case_id", "external_id", "name", "contact_phone_number", "two_way", "status"))


@cases.command("show")
@click.argument("identifier")
@as_json
def show_case(identifier: str, *, json_: bool) -> None:
    """One case, by phone, external id or case id: every property, who owns its number, its groups."""
    with open_database().reading() as tx:
        row = lookup.find_one(tx, identifier)
        standing = c.standing(tx, row)
        record = _case(row) | {
            "owner_of_number": standing.owner,
            "waiting": list(standing.waiting),
            "groups": lookup.groups_of(tx, row.id),
        }
    if row.number_warning and not json_:
        record["warning"] = sentence(numbers.warning(row.number_warning, row.contact_phone_number))
    show_one(record, json_=json_)


@cases.command("template")
@click.option("--to", "path", default="cases.xlsx", show_default=True)
def write_case_template(path: str) -> None:
    """Write an empty sheet of cases to fill in."""
    _check_free(path)
    writer.write_case_template(path)
    click.echo(f"wrote {path}: a case a row, each with an external_id of your own; give it to 'jumbe cases import'")


@click.group()
def groups() -> None:
    """Case groups and who is in them."""


@groups.command("create")
@click.argument("short")
@click.option("--name", help="The long name.")
@as_json
def create_group(short: str, name: str | None, *, json_: bool) -> None:
    """Make a group; SHORT is its name in a text, 2 to 12 letters or digits."""
    with open_database().transaction() as tx:
        row = g.create(tx, short, name, by=CLI)
    show_one({"short": row.short, "name": row.name, "members": 0}, json_=json_)


@groups.command("list")
@as_json
def list_groups(*, json_: bool) -> None:
    """Every group with its number of members."""
    with open_database().reading() as tx:
        records = [{"short": r.short, "name": r.name, "members": r.members} for r in g.list_all(tx)]
    show(records, json_=json_)


@groups.command("members")
@click.argument("short")
@click.option("--as-of", help="A moment such as 2026-11-03 or 2026-11-03T14:00.")
@as_json
def list_members(short: str, as_of: str | None, *, json_: bool) -> None:
    """Who is in a group, now or as of a moment."""
    with open_database().reading() as tx:
        moment = deeds.moment(as_of, tx.rules.time_zone) if as_of else None
        rows = g.members(tx, g.group(tx, short).id, as_of=moment)
        records = [_case(row) | {"added_at": row.added_at} for row in rows]
    show(records, json_=json_, columns=("case_id", "external_id", "name", "contact_phone_number", "status", "added_at"))


@groups.command("import")
@click.argument("short")
@click.argument("file")
@click.option(
    "--mode",
    type=click.Choice(["add", "remove", "replace"]),
    metavar="MODE",
    default="add",
    show_default=True,
    help="add, remove or replace.",
)
@click.option("--plan", "only_plan", is_flag=True, help="Say what would happen, and change nothing.")
@click.option("--result", help="Write the sheet with verdict, reason and suggestion to this .xlsx.")
@as_json
def import_members(short: str, file: str, mode: Mode, result: str | None, *, only_plan: bool, json_: bool) -> None:
    """Add, remove or replace the members of a group by a sheet with a column case_identifier."""
    _check_result(file, result)
    db = open_database()
    with _without_collector():
        with working(f"reading {Path(file).name}", json_=json_) as step:
            sheet = reader.read(file, wanted=(plans.IDENTIFIER,), step=step)
            read = members.read_members(sheet.rows, db.rules)

        def plan_it(tx: Transaction) -> Plan:
            return members.plan_members(tx, g.group(tx, short).id, read, mode)

        def apply_it(tx: Transaction, plan: Plan) -> Plan:
            group_id = g.group(tx, short).id
            return members.apply_members(tx, group_id, read, mode, planned=plan, by=_by_sheet(file, sheet))

        plan = _look(db, plan_it, json_=json_) if only_plan else _carry_out(db, plan_it, apply_it, json_=json_)
    _tell(plan, sheet, result, json_=json_, applied=not only_plan)


@groups.command("template")
@click.option("--to", "path", default="cases_bulk_example.xlsx", show_default=True)
def write_template(path: str) -> None:
    """Write an empty sheet of members to fill in."""
    _check_free(path)
    writer.write_template(path)
    click.echo(f"wrote {path}: fill in the column case_identifier and give it to 'jumbe groups import'")


@groups.command("delete")
@click.argument("short")
@click.option("--yes", is_flag=True, help="Do not ask: for scripts.")
def delete_group(short: str, *, yes: bool) -> None:
    """Delete a group; what is running for it is halted. Its history stays, and a lead can take it back for 24 hours."""
    db = open_database()
    with db.reading() as tx:
        row = g.group(tx, short)
        pending = progress.pending_for(tx, row.id)
        count = g.count_members(tx, row.id)
    goes = f" and halt {', '.join(map(str, pending))}" if pending else ""
    if not yes:
        click.confirm(f"Delete {row.short} with {count_of(count, 'member')}{goes}?", abort=True)
    with db.transaction() as tx:
        pending = progress.pending_for(tx, row.id)
        for number in pending:
            broadcasts.halt(tx, number, by=CLI)
        g.delete(tx, row.id, by=CLI)
        undo = operations.note(
            tx, "delete", words=f"delete {row.short}", undoes={"deleted": row.id}, group_id=row.id, by=CLI
        )
    halted = f"; halted: {', '.join(map(str, pending))}" if pending else ""
    click.echo(f"{row.short} is deleted{halted}. A lead who texts 'undo {undo}' within 24 hours has it back")


_TRIES = 3

LISTED = 200
"""Rows with something to say that a terminal is shown."""


def _look(db: Database, plan_it: Callable[[Transaction], Plan], *, json_: bool) -> Plan:
    with working("planning", json_=json_), db.reading() as tx:
        return plan_it(tx)


def _carry_out(
    db: Database,
    plan_it: Callable[[Transaction], Plan],
    apply_it: Callable[[Transaction, Plan], Plan],
    *,
    json_: bool,
) -> Plan:
    """Plan while others write, and take the writer only for a plan that has something to do and still holds.

    Planning a large sheet takes seconds, and a STOP that waits for the writer that long is lost to the gateway.  If
    somebody keeps changing cases or groups meanwhile, the last try plans again while it holds the writer.
    """
    for _ in range(_TRIES):
        plan = _look(db, plan_it, json_=json_)
        if plan.refusal:
            raise plan.refusal
        if not plan.acts:
            return plan
        with working(f"carrying out {count_of(len(plan.verdicts), 'row')}", json_=json_), db.transaction() as tx:
            if plans.holds(tx, plan):
                return apply_it(tx, plan)
    with working(f"carrying out {count_of(len(plan.verdicts), 'row')}", json_=json_), db.transaction() as tx:
        return apply_it(tx, plan)


@contextlib.contextmanager
def _without_collector() -> Iterator[None]:
    """No garbage collection inside: walking the millions of cells of a large sheet doubles the time, to find nothing."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _check_free(path: str) -> None:
    """Refuse to write an empty sheet over one that somebody may have filled in."""
    if Path(path).exists():
        raise Problem("file-is-there", path=path)


def _check_result(file: str, result: str | None) -> None:
    """Refuse a result that could not be written, or that would be written over the sheet itself, before anything is done."""
    if result is None:
        return
    if os.path.realpath(result) == os.path.realpath(file):
        raise Problem("result-over-sheet", path=result)
    writer.check_writable(result)
    if Path(result).suffix.lower() != ".xlsx":
        raise Problem("result-not-xlsx", path=result)


def _misspelt(sheet: cells.Sheet) -> Iterator[str]:
    """What to say of a column that is kept as a property and looks like one that means something."""
    for column in sheet.columns:
        near = difflib.get_close_matches(column, [c for c in KNOWN_COLUMNS if c not in sheet.columns], n=1, cutoff=0.8)
        if column not in KNOWN_COLUMNS and near:
            yield sentence(Problem("column-misspelt", column=column, near=near[0]))


def _by_sheet(file: str, sheet: cells.Sheet) -> Actor:
    return Actor("cli", None, f"sheet {Path(file).name} {sheet.digest[:16]}")


def _case(row: Row[Any]) -> dict[str, Any]:
    known = {"case_id": row.case_id} | {name: row._mapping[name] for name in PROPERTIES}
    return known | {"two_way": row.two_way, "properties": row.properties}


def _tell(plan: Plan, sheet: cells.Sheet, result: str | None, *, json_: bool, applied: bool) -> None:
    """Write the result, then say what was done, and only then that the result could not be written."""
    unwritten = _write_result(plan, sheet, result, json_=json_) if result else None
    counts = ", ".join(f"{n} {verdict}" for verdict, n in plan.counts.items()) or "no rows"
    if json_:
        show_rows("rows", map(deeds.record, plan.verdicts), {"counts": dict(plan.counts)})
    else:
        _show(plan, f"{'done' if applied else 'plan, nothing changed'}: {counts}")
    if unwritten and applied:
        raise Problem("import-done-result-not", path=result, counts=counts) from unwritten
    if unwritten:
        raise unwritten
    if result and not json_:
        click.echo(f"wrote {result}")


def _show(plan: Plan, summary: str) -> None:
    remarkable = (v for v in plan.verdicts if v.reason or v.warnings)
    listed = [deeds.record(v) for v in itertools.islice(remarkable, LISTED)]
    if listed:
        columns = ("row", "identifier", "verdict", "reason", "suggestion", "warnings")
        show(listed, json_=False, columns=columns)
        if more := sum(1 for _ in remarkable):
            click.echo(f"... and {count_of(more, 'row')} more: --result writes every one beside what was typed")
        if fine := len(plan.verdicts) - len(listed) - more:
            click.echo(f"{fine:,} {'row is' if fine == 1 else 'rows are'} fine and not listed")
    click.echo(summary)
    if plan.refusal:
        click.echo(f"it would be refused: {sentence(plan.refusal)}")


def _write_result(plan: Plan, sheet: cells.Sheet, result: str, *, json_: bool) -> Problem | None:
    """What kept the result from being written, if anything did."""
    told = deeds.told_of(plan)
    try:
        with working(f"writing {Path(result).name}", json_=json_):
            writer.write_result(result, sheet, told)
    except Problem as problem:
        return problem
    return None
