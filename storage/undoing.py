"""Taking back what a person did to a group, through whichever door it was done.

One's own for 24 hours, and a lead anybody's.  What somebody may not take back and what does not exist look the same.

What an operation keeps in `undoes` says how: `made` and `deleted` a group, `name` the one it had, `add` and `drop` the
cases of a text, and `lines` the lines of the audit log by which a sheet put cases in and took them out: a sheet of a
million rows is taken back by two numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Row, select

from storage import groups, operations, people
from storage.audit import Actor
from storage.database import Transaction
from storage.errors import Problem
from storage.schema import memberships

What = Literal["name", "made", "deleted", "members"]


@dataclass(frozen=True, slots=True)
class TakenBack:
    """What was taken back: the group's short name, who left it again, who is back, and how many are in it now."""

    what: What
    group: str
    out: int = 0
    back: int = 0
    total: int = 0
    name: str = ""


def undoable(tx: Transaction, number: int | None, person: Row[Any] | None) -> Row[Any]:
    """The operation with this number that this person may take back, or has; `None` is the system's own user.

    Raises Problem `undo-unknown`.
    """
    row = operations.operation(tx, number) if number is not None else None
    if row is None or row.state not in ("done", "undone") or not row.undoes or not _may(tx, row, person):
        raise Problem("undo-unknown", number=number)
    return row


def take_back(tx: Transaction, row: Row[Any], *, by: Actor) -> TakenBack:
    """Take an operation back.

    Raises Problem `undone-before`, `undo-in-use`, `group-exists` or `group-name-taken`, and `undo-unknown` where its group
    was deleted since.
    """
    if row.state == "undone":
        raise Problem("undone-before", number=row.id)
    if "deleted" in row.undoes:
        group = groups.restore(tx, row.undoes["deleted"], by=by)
        done = TakenBack("deleted", group.short, total=groups.count_members(tx, group.id))
    else:
        done = _in_group(tx, row, by=by)
    operations.decide(tx, row.id, "undone", by=by)
    return done


def _may(tx: Transaction, row: Row[Any], person: Row[Any] | None) -> bool:
    if row.asked_at <= tx.now - operations.UNDO:
        return False
    if person is None or people.may(person, "lead"):
        return True
    # A deletion is taken back by a lead only.
    is_own = row.person_id == person.id and "deleted" not in row.undoes
    is_over = row.state == "undone"  # and what is over is only told of
    return is_own and (is_over or any(group.id == row.group_id for group in people.groups_of(tx, person)))


def _in_group(tx: Transaction, row: Row[Any], *, by: Actor) -> TakenBack:
    live = groups.list_all(tx, only=[row.group_id])
    if not live:
        raise Problem("undo-unknown", number=row.id)
    (group,) = live
    if "name" in row.undoes:
        groups.rename(tx, group.id, row.undoes["name"], by=by)
        return TakenBack("name", group.short, total=group.members, name=row.undoes["name"])
    if "made" in row.undoes:
        if group.members:
            raise Problem("undo-in-use", group=group.short, count=group.members)
        groups.delete(tx, group.id, by=by)
        return TakenBack("made", group.short)
    came, went = _moved(tx, row)
    out = groups.remove(tx, group.id, came, by=by)
    back = groups.add(tx, group.id, went, by=by)
    return TakenBack("members", group.short, len(out), len(back), groups.count_members(tx, group.id))


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
