"""What the desk's pages show: a page of a table at a time, searched and sorted by the database.

A group of a hundred thousand is looked at by the hundred; nothing is loaded that is not shown.  Plain lists of
dictionaries, so that a page opens without pandas.  Whoever is no lead sees their own groups and the people in them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, and_, case, func, or_, select

from admin_notebooks import deeds
from admin_notebooks.desk import Desk
from storage import schema as s
from storage.broadcasts import progress
from storage.contacts import groups
from storage.contacts.cases import PROPERTIES
from storage.contacts.consent import HOLDING, said_last
from storage.database import Transaction
from storage.operations import undo
from storage.rules.normalize import searched

AT_ONCE = 100
Record = dict[str, Any]

LAST_REPLY = (
    select(func.max(s.messages.c.created_at))
    .where(s.messages.c.case_id == s.cases.c.id, s.messages.c.direction == "in")
    .correlate(s.cases)
    .scalar_subquery()
)
"""When the case of a row last texted, in SQL."""

SORTS: dict[str, ColumnElement[Any]] = {
    "name": s.cases.c.name_key,
    "contact_phone_number": s.cases.c.contact_phone_number,
    "external_id": s.cases.c.external_id_key,
    "language_code": s.cases.c.language_code,
    "status": s.cases.c.status,
    "two_way": s.cases.c.two_way,
    "last_reply_at": LAST_REPLY,
    "added_at": s.memberships.c.added_at,
}
"""The columns by which members may be sorted."""


def list_groups(desk: Desk) -> list[Record]:
    """The groups of this person: `short`, `name`, `members`."""
    return [{"short": g.short, "name": g.name, "members": g.members} for g in desk.list_groups()]


def describe_group(desk: Desk, short: str) -> Record:
    """A group and its members in numbers: `two_way`, `unverified`, `no_number`, `stopped`, `closed`, and what runs to it."""
    with desk.db.reading() as tx:
        group = desk.group(tx, short)
        if not desk.may(tx, "read"):
            return {"short": group.short, "name": group.name, "members": groups.count_members(tx, group.id)}
        number = s.cases.c.contact_phone_number
        numbers = {
            "members": func.count(),
            "two_way": _count(s.cases.c.two_way),
            "unverified": _count(and_(number.is_not(None), ~s.cases.c.contact_phone_number_is_verified)),
            "no_number": _count(number.is_(None)),
            "stopped": _count(said_last(s.cases.c.phone_key).in_(HOLDING)),
            "closed": _count(s.cases.c.status == "closed"),
        }
        query = select(*(column.label(name) for name, column in numbers.items()))
        query = query.join_from(s.memberships, s.cases, s.cases.c.id == s.memberships.c.case_id)
        live = (s.memberships.c.group_id == group.id, s.memberships.c.removed_at.is_(None))
        counted = tx.execute(query.where(*live)).one()
        return {
            "short": group.short,
            "name": group.name,
            **{name: int(counted._mapping[name] or 0) for name in numbers},
            "running": progress.pending_for(tx, group.id),
        }


def list_members(
    desk: Desk,
    short: str,
    *,
    search: str = "",
    sort: str = "name",
    descending: bool = False,
    first: int = 0,
    as_of: str = "",
) -> tuple[int, list[Record]]:
    """How many members fit, and a hundred of them from the `first` on; `as_of` a day or moment by the programme's clock."""
    with desk.db.reading() as tx:
        desk.allow(tx, "read")
        group = desk.group(tx, short)
        query = (
            select(
                s.cases.c.case_id, *(s.cases.c[name] for name in PROPERTIES), s.cases.c.two_way,
                said_last(s.cases.c.phone_key).label("consent"), LAST_REPLY.label("last_reply_at"),
                s.memberships.c.added_at,
            )
            .join(s.memberships, s.memberships.c.case_id == s.cases.c.id)
            .where(s.memberships.c.group_id == group.id, _there(tx, as_of), *fitting(search))
        )  # fmt: skip
        count = int(tx.scalar(select(func.count()).select_from(query.with_only_columns(s.cases.c.id).subquery())))
        by = SORTS.get(sort, SORTS["name"])
        ordered = query.order_by(by.is_(None), by.desc() if descending else by, s.memberships.c.id)
        rows = tx.execute(ordered.offset(max(0, first)).limit(AT_ONCE)).mappings()
        return count, [plain(row) for row in rows]


def list_history(desk: Desk, short: str, at_most: int = 200) -> list[Record]:
    """What was done to a group, newest first: `at`, `person`, `door`, `source`, `did`, `cases`.

    `number` is the operation's, which `takes_back` says that this line took back; `undoable` whether this person may take
    it back now, said once where it wrote several lines.
    """
    with desk.db.reading() as tx:
        desk.allow(tx, "read")
        group = desk.group(tx, short)
        query = select(s.audit, func.coalesce(s.people.c.name, "system").label("person"))
        query = query.outerjoin(s.people, s.people.c.id == s.audit.c.person_id)
        query = query.where(s.audit.c.subject == "group", s.audit.c.subject_id == group.id)
        lines = tx.execute(query.order_by(s.audit.c.id.desc()).limit(at_most)).all()
        numbered = numbers(desk, tx, lines, s.operations.c.group_id == group.id)
        return [
            {
                "at": line.at.isoformat(),
                "person": line.person,
                "door": line.door,
                "source": line.source,
                "did": line.verb.removeprefix("groups."),
                "cases": next((n for n in line.facts.values() if isinstance(n, int)), None),
                **numbered[line.id],
            }
            for line in lines
        ]


def numbers(desk: Desk, tx: Transaction, lines: Sequence[Row[Any]], which: ColumnElement[bool]) -> dict[int, Record]:
    """For each line of the audit log, newest first, `number`, `takes_back` and `undoable`, by the line's id."""
    written = undo.written_by(tx, lines, which)
    may = desk.undoable(tx, [one.operation for one in written.values()])
    told: dict[int, Record] = {}
    for line in lines:
        one = written.get(line.id)
        number = one.operation.id if one else None
        told[line.id] = {
            "number": number,
            "takes_back": bool(one and one.is_undo),
            "undoable": number in may and not any(other["undoable"] and other["number"] == number for other in told.values()),
        }  # fmt: skip
    return told


def list_deleted(desk: Desk) -> list[Record]:
    """The groups deleted within a day that this person may bring back: `number`, `short`, `name`, `members`, who, when."""
    return [
        {
            "number": row.number, "short": row.short, "name": row.name, "members": row.members,
            "person": row.person, "deleted_at": row.deleted_at.isoformat(),
        }
        for row in desk.list_deleted()
    ]  # fmt: skip


def told_of(desk: Desk, tx: Transaction) -> list[ColumnElement[bool]]:
    """A condition on broadcasts joined with their operations: it is this person's own, or all of its groups are."""
    scope = desk.scope(tx)
    if scope is None:
        return []
    whom = s.broadcast_audience
    of_it = whom.c.broadcast_id == s.broadcasts.c.id
    some = select(whom.c.id).where(of_it, whom.c.group_id.is_not(None)).exists()
    foreign = or_(whom.c.group_id.is_(None), whom.c.group_id.not_in(sorted(scope)))
    others = select(whom.c.id).where(of_it, foreign).exists()
    return [or_(s.operations.c.person_id == desk.person_id, and_(some, ~others))]


def _count(condition: ColumnElement[bool]) -> ColumnElement[int]:
    return func.sum(case((condition, 1), else_=0))


def _there(tx: Transaction, as_of: str) -> ColumnElement[bool]:
    if not as_of:
        return s.memberships.c.removed_at.is_(None)
    at = deeds.moment(as_of, tx.rules.time_zone)
    gone = or_(s.memberships.c.removed_at.is_(None), s.memberships.c.removed_at > at)
    return and_(s.memberships.c.added_at <= at, gone)


def fitting(search: str) -> Sequence[ColumnElement[bool]]:
    """Each word stands in the name, begins an id, or is a piece of the number."""
    return [
        or_(
            s.cases.c.name_key.contains(word, autoescape=True),
            s.cases.c.external_id_key.startswith(word, autoescape=True),
            s.cases.c.case_id_key.startswith(word, autoescape=True),
            s.cases.c.contact_phone_number.contains(word.lstrip("+"), autoescape=True),
        )
        for word in searched(search).split()
        if word.lstrip("+")
    ]


class Counted:
    """Rows on their way to somewhere, and how many have passed."""

    def __init__(self, rows: Iterable[list[Any]]) -> None:
        self._rows = rows
        self.rows = 0

    def __iter__(self) -> Iterator[list[Any]]:  # noqa: D105 (it is said above)
        for row in self._rows:
            self.rows += 1
            yield row


def plain(row: Any) -> Record:
    """A row as a page gets it: a moment is text."""
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in dict(row).items()}
