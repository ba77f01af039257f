"""Taking back what a person did to a group, through whichever door it was done, and to cases at the desk.

One's own for 24 hours, and a lead anybody's.  What somebody may not take back and what does not exist look the same.

What an operation keeps in `undoes` says how: `made` and `deleted` a group, `name` the one it had, `add` and `drop` the
cases of a text, and `lines` the lines of the audit log by which a sheet put cases in and took them out: a sheet of a
million rows is taken back by two numbers.
`cases` are the lines by which cases were made and changed, `owned` and `owns` who owned a number and who owns it since.
These are taken back at the desk alone, where it can be told
what somebody changed since and therefore stays.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import ColumnElement, Row, and_, func, select

from storage.audit import Actor
from storage.contacts import cases, groups, lookup, people
from storage.contacts.cases import PROPERTIES, Wanted
from storage.database import Transaction
from storage.errors import Problem
from storage.operations import operations
from storage.rules import numbers
from storage.schema import audit, audit_changes, memberships
from storage.schema import cases as cases_table
from storage.schema import groups as groups_table
from storage.schema import operations as operations_table
from storage.schema import people as people_table

What = Literal["name", "made", "deleted", "members"]


@dataclass(frozen=True, slots=True)
class TakenBack:
    """What was taken back: the group's short and long name, who left it again, who is back, how many are in it now."""

    what: What
    group: str
    name: str
    out: int = 0
    back: int = 0
    total: int = 0


@dataclass(frozen=True, slots=True)
class CasesBack:
    """How many cases are as they were before, how many that were made are closed, and how many stay as they are.

    `left` stay as somebody made them since, and `forgotten` because the values that they had were forgotten.
    """

    back: int
    closed: int
    left: int
    forgotten: int = 0


def undoable(tx: Transaction, number: int | None, person: Row[Any] | None) -> Row[Any]:
    """The operation with this number that this person may take back, or has; `None` is the system's own user.

    Raises Problem `undo-unknown`.
    """
    row = operations.operation(tx, number) if number is not None else None
    if row is None or row.state not in ("done", "undone") or not row.undoes:
        raise Problem("undo-unknown", number=number)
    if not _may(tx, row, person, _own(tx, person)):
        raise Problem("undo-unknown", number=number)
    return row


def undoable_among(tx: Transaction, rows: Iterable[Row[Any]], person: Row[Any] | None) -> set[int]:
    """The numbers of those operations that this person could take back now: what a page draws a button for."""
    own = _own(tx, person)
    return {row.id for row in rows if row.state == "done" and row.undoes and _may(tx, row, person, own)}


@dataclass(frozen=True, slots=True)
class Written:
    """By which operation a line of the audit log was written, and whether it was by taking that operation back."""

    operation: Row[Any]
    is_undo: bool


def written_by(tx: Transaction, lines: Sequence[Row[Any]], which: ColumnElement[bool]) -> dict[int, Written]:
    """For these lines of the audit log the operation behind each, by the line's id; `which` narrows the operations down.

    An operation and its lines are of one transaction, so they have the moment, the person and the door in common.  One
    that waited for an `ok`, and one that was taken back, has a line of its own that says when.
    """
    moments = {line.at for line in lines}
    at_once = select(operations_table).where(which, operations_table.c.asked_at.in_(moments))
    found: dict[tuple[Any, ...], list[Written]] = {}
    for row in tx.execute(at_once.order_by(operations_table.c.id)):
        found.setdefault((row.asked_at, row.person_id, row.door), []).append(Written(row, is_undo=False))
    decided = (
        select(
            operations_table, audit.c.verb, audit.c.at, audit.c.person_id.label("who"), audit.c.door.label("through")
        )
        .join(audit, and_(audit.c.subject == "operation", audit.c.subject_id == operations_table.c.id))
        .where(which, audit.c.verb.in_(("operations.done", "operations.undone")), audit.c.at.in_(moments))
    )
    for row in tx.execute(decided.order_by(audit.c.id)):
        found.setdefault((row.at, row.who, row.through), []).append(Written(row, row.verb == "operations.undone"))
    told = {line.id: found.get((line.at, line.person_id, line.door), []) for line in lines}
    return {number: next((w for w in ws if number in _lines(w)), ws[-1]) for number, ws in told.items() if ws}


def list_deleted(tx: Transaction, person: Row[Any] | None) -> list[Row[Any]]:
    """The groups that were deleted within a day and that this person may bring back, newest first.

    Each has `number` of the deletion, `short`, `name`, `members`, `deleted_at` and the `person` who did it.
    """
    if person is not None and not people.may(person, "lead"):
        return []
    inside = select(func.count()).where(memberships.c.group_id == groups_table.c.id, memberships.c.removed_at.is_(None))
    done = operations_table
    query = (
        select(
            done.c.id.label("number"), done.c.undoes, groups_table.c.short, groups_table.c.name,
            groups_table.c.deleted_at, inside.scalar_subquery().label("members"),
            func.coalesce(people_table.c.name, "system").label("person"),
        )
        .join_from(done, groups_table, groups_table.c.id == done.c.group_id)
        .outerjoin(people_table, people_table.c.id == done.c.person_id)
        .where(done.c.state == "done", done.c.asked_at > tx.now - operations.UNDO, groups_table.c.deleted_at.is_not(None))
        .order_by(done.c.id.desc())
    )  # fmt: skip
    return [row for row in tx.execute(query) if "deleted" in (row.undoes or {})]


def counts_as(tx: Transaction, row: Row[Any]) -> dict[str, int]:
    """What taking an operation back would be by the names of `operations/caps.py`, and how much of it: who came goes, who went comes."""
    if "made" in row.undoes or "deleted" in row.undoes:
        return {"new": 1}
    if "name" in row.undoes:
        return {"name": 1}
    if "lines" in row.undoes:
        lines, here = row.undoes["lines"], memberships.c.group_id == row.group_id
        count = select(func.count()).select_from(memberships)
        came = tx.scalar(count.where(here, memberships.c.added_entry.in_(lines), memberships.c.removed_at.is_(None)))
        went = tx.scalar(count.where(here, memberships.c.removed_entry.in_(lines)))
    else:
        came, went = len(row.undoes.get("add") or ()), len(row.undoes.get("drop") or ())
    return {kind: many for kind, many in (("drop", came), ("add", went)) if many}


def take_back(tx: Transaction, row: Row[Any], *, by: Actor) -> TakenBack:
    """Take an operation back.

    Raises Problem `undone-before`, `undo-in-use`, `group-exists` or `group-name-taken`, and `undo-unknown` where its group
    was deleted since.
    """
    if row.state == "undone":
        raise Problem("undone-before", number=row.id)
    if "cases" in row.undoes or "owned" in row.undoes:
        raise Problem("undo-unknown", number=row.id)
    if "deleted" in row.undoes:
        group = groups.restore(tx, row.undoes["deleted"], by=by)
        done = TakenBack("deleted", group.short, group.name, total=groups.count_members(tx, group.id))
    else:
        done = _in_group(tx, row, by=by)
    operations.decide(tx, row.id, "undone", by=by)
    return done


def take_back_cases(tx: Transaction, row: Row[Any], *, among: Collection[int] | None = None, by: Actor) -> CasesBack:
    """Give cases the values back that they had before an operation, and close those that it made.

    A value that somebody changed since stays, and a case whose old values were forgotten stays as it is.  A case waits anew in the line of a number that it gets back.  `among` are
    the groups that the person may see: raises Problem `undo-unknown` where a case is in none of them, and `undone-before`.
    """
    if row.state == "undone":
        raise Problem("undone-before", number=row.id)
    found = tx.execute(
        select(audit_changes.c.before, audit_changes.c.after, cases_table)
        .join(cases_table, cases_table.c.id == audit_changes.c.subject_id)
        .where(audit_changes.c.entry_id.in_(row.undoes["cases"]), audit_changes.c.subject == "case")
        .order_by(audit_changes.c.entry_id, audit_changes.c.position)
    ).all()
    if among is not None and len(groups.members_of_any(tx, among, [case.id for case in found])) < len(found):
        raise Problem("undo-unknown", number=row.id)
    known = [case for case in found if case.before is not None and case.after is not None]
    made = [case for case in known if "case_id" in case.after]
    changed = [(case, _as_before(tx, case)) for case in known if "case_id" not in case.after]
    wanted = [Wanted(case.id, {"status": "closed"}) for case in made if case.status == "open"]
    wanted += [told for _case, told in changed if told.values or told.properties]
    cases.save(tx, wanted, verb="cases.undo", by=by)
    operations.decide(tx, row.id, "undone", by=by)
    back = sum(bool(told.values or told.properties) for _case, told in changed)
    return CasesBack(back, len(made), len(changed) - back, len(found) - len(known))


def take_back_number(tx: Transaction, row: Row[Any], *, by: Actor) -> Row[Any]:
    """Give a number back to the case that owned it before it was handed over; returns that case.

    Raises Problem `undone-before`, and `hand-over-since` where somebody else owns it by now or the old owner left the line.
    """
    if row.state == "undone":
        raise Problem("undone-before", number=row.id)
    before, now = lookup.contact(tx, row.undoes["owned"]), lookup.contact(tx, row.undoes["owns"])
    same = before.phone_key == now.phone_key
    if not same or not now.two_way or before.claimed_at is None:
        raise Problem("hand-over-since")
    cases.hand_over(tx, before, by=by)
    operations.decide(tx, row.id, "undone", by=by)
    return before


_EMPTY: Mapping[str, Any] = {"name": "", "status": "open", "contact_phone_number_is_verified": False}


def _as_before(tx: Transaction, case: Row[Any]) -> Wanted:
    """What a case has to become to be as it was before a change, of what nobody changed since."""
    values = {
        name: case.before.get(name, _EMPTY.get(name))
        for name in PROPERTIES
        if (name in case.before or name in case.after)
        and (case._mapping[name] or None) == (case.after.get(name) or None)
    }
    if "contact_phone_number" in values:
        phone = values["contact_phone_number"]
        read = numbers.find(f"+{phone}", country=None) if phone else None
        values["number_warning"] = read.warnings[0] if read is not None and read.warnings else None
        values.setdefault("contact_phone_number_is_verified", case.contact_phone_number_is_verified)
    old, new = case.before.get("properties", {}), case.after.get("properties", {})
    differing = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    untouched = [name for name in differing if case.properties.get(name) == new.get(name)]
    return Wanted(case.id, values, {name: old.get(name) for name in untouched})


def _lines(written: Written) -> Sequence[int]:
    """The lines by which an operation says that it wrote, where it says so and was not taken back by them."""
    undoes = written.operation.undoes or {}
    return () if written.is_undo else undoes.get("lines") or undoes.get("cases") or ()


def _own(tx: Transaction, person: Row[Any] | None) -> Collection[int] | None:
    """The groups within which a person may take their own back; None for a lead, who may everywhere."""
    if person is None or people.may(person, "lead"):
        return None
    return {group.id for group in people.groups_of(tx, person)}


def _may(tx: Transaction, row: Row[Any], person: Row[Any] | None, own: Collection[int] | None) -> bool:
    if row.asked_at <= tx.now - operations.UNDO:
        return False
    if person is None or own is None:
        return True
    # A deletion is taken back by a lead only.
    is_own = row.person_id == person.id and "deleted" not in row.undoes
    is_over = row.state == "undone"  # and what is over is only told of
    return is_own and (is_over or "cases" in row.undoes or row.group_id in own)


def _in_group(tx: Transaction, row: Row[Any], *, by: Actor) -> TakenBack:
    live = groups.list_all(tx, only=[row.group_id])
    if not live:
        raise Problem("undo-unknown", number=row.id)
    (group,) = live
    if "name" in row.undoes:
        groups.rename(tx, group.id, row.undoes["name"], by=by)
        return TakenBack("name", group.short, row.undoes["name"], total=group.members)
    if "made" in row.undoes:
        if group.members:
            raise Problem("undo-in-use", group=group.short, count=group.members)
        groups.delete(tx, group.id, by=by)
        return TakenBack("made", group.short, group.name)
    came, went = _moved(tx, row)
    out = groups.remove(tx, group.id, came, by=by)
    back = groups.add(tx, group.id, went, by=by)
    return TakenBack("members", group.short, group.name, len(out), len(back), groups.count_members(tx, group.id))


def _moved(tx: Transaction, row: Row[Any]) -> tuple[Sequence[int], Sequence[int]]:
    """Who came in by an operation and is to leave again, and who left by it."""
    if "lines" not in row.undoes:
        return row.undoes.get("add") or (), row.undoes.get("drop") or ()
    lines = row.undoes["lines"]
    here = memberships.c.group_id == row.group_id
    came = select(memberships.c.case_id).where(here, memberships.c.added_entry.in_(lines))
    went = select(memberships.c.case_id).where(here, memberships.c.removed_entry.in_(lines))
    return (
        tx.execute(came.where(memberships.c.removed_at.is_(None)).order_by(memberships.c.id)).scalars().all(),
        tx.execute(went.order_by(memberships.c.id)).scalars().all(),
    )
