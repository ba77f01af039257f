"""Cases as the desk's page shows them: found by whatever a person remembers, and one of them whole, in words.

Plain lists of dictionaries, as in `tables.py`.  Whoever is no lead finds the people of their own groups; another's case
and one that does not exist look the same, and so does the name of whoever else is on a phone.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import ColumnElement, Row, and_, func, or_, select, true

from admin_notebooks.deeds import FOR_LEADS, sentence_of
from admin_notebooks.desk import Desk
from admin_notebooks.sheets import writer
from admin_notebooks.tables import AT_ONCE, LAST_REPLY, SORTS, Counted, Record, fitting, numbers, plain
from storage import schema as s
from storage.contacts import consent, groups
from storage.contacts.cases import PROPERTIES
from storage.database import Transaction
from storage.messages import states
from storage.rules import numbers as phone_numbers
from storage.rules import phone_keys
from storage.rules.reasons import said
from storage.sheets import exports

TEXTS = 30
"""Texts and changes that a page fetches at once."""

_IN = {
    "received": "waits to be read by the system",
    "set_aside": "could not be read by the system: an operator has to look",
}
_TAKEN_FOR = {
    "stop": "a STOP",
    "start": "a START",
    "doubt": "perhaps a STOP: the phone was asked",
    "help": "a call for help",
    "answer": "the answer to a question of ours",
    "inbox": "a reply, passed on to the staff",
    "echo": "our own text come back: nothing was done",
    "reaction": "a reaction to a text of ours",
}
_DID = {
    "cases.import": "by a sheet",
    "cases.change": "by hand",
    "cases.own": "by handing the number over",
    "cases.save": "",
}


def find(
    desk: Desk, search: str = "", *, sort: str = "name", descending: bool = False, first: int = 0
) -> tuple[int, list[Record]]:
    """How many cases fit, and a hundred of them from the `first` on.

    By words of the name, the beginning of an external id or case id, or a number as anybody writes it, or a piece of it.
    Without `search` everybody.
    """
    with desk.db.reading() as tx:
        desk.allow(tx, "read")
        query = select(
            s.cases.c.case_id, *(s.cases.c[name] for name in PROPERTIES), s.cases.c.two_way,
            consent.said_last(s.cases.c.phone_key).label("consent"), LAST_REPLY.label("last_reply_at"),
        ).where(*_within(desk.scope(tx)), _fits(tx, search))  # fmt: skip
        count = int(tx.scalar(select(func.count()).select_from(query.with_only_columns(s.cases.c.id).subquery())))
        by = SORTS[sort] if sort in SORTS and sort != "added_at" else SORTS["name"]
        ordered = query.order_by(by.is_(None), by.desc() if descending else by, s.cases.c.id)
        rows = tx.execute(ordered.offset(max(0, first)).limit(AT_ONCE)).mappings()
        return count, [plain(row) for row in rows]


def describe(desk: Desk, typed: str) -> Record:
    """A case whole, by whatever names it.

    Its properties; `number`: whose it is and who waits, in words and as cases; `consent`, its `groups`, its last texts
    both ways, and `may_set`: what this person may change of it.  Raises Problem `case-unknown` or `case-ambiguous`.
    """
    with desk.db.reading() as tx:
        desk.allow(tx, "read")
        row, scope = desk.case(tx, typed), desk.scope(tx)
        heard = consent.history(tx, row.contact_phone_number) if row.contact_phone_number else []
        memberships = _memberships(tx, row.id, scope)
        return {
            "case_id": row.case_id,
            **{name: row._mapping[name] for name in PROPERTIES},
            "two_way": row.two_way,
            "created_at": row.created_at.isoformat(),
            "modified_at": row.modified_at.isoformat(),
            "warning": sentence_of(row.number_warning, row.contact_phone_number) if row.number_warning else None,
            "properties": row.properties,
            "number": _standing(tx, row, scope),
            "groups": [member["short"] for member in memberships],
            "memberships": memberships,
            "stopped": bool(heard) and heard[-1].kind in consent.HOLDING,
            "consent": [_event(tx, event) for event in reversed(heard)],
            "texts": _texts(tx, row.id, None),
            "may_set": _may_set(desk, tx),
            "may_own": desk.may(tx, "lead") and row.claimed_at is not None and not row.two_way,
        }


def list_texts(desk: Desk, typed: str, before: int | None = None) -> list[Record]:
    """The texts with a case, both ways, newest first, those older than the text with the id `before`."""
    with desk.db.reading() as tx:
        desk.allow(tx, "read")
        return _texts(tx, desk.case(tx, typed).id, before)


def list_changes(desk: Desk, typed: str) -> list[Record]:
    """What was changed of a case, newest first: `at`, `person`, `door`, `source`, and of each property old and new value.

    Of a change whose values were forgotten `did` is `forgotten`, and `changes` is empty.
    `number`, `takes_back` and `undoable` as in a group's history; `many` is how many cases were changed with it.
    """
    with desk.db.reading() as tx:
        desk.allow(tx, "read")
        row = desk.case(tx, typed)
        of_it, with_it = s.audit_changes, s.audit_changes.alias("with_it")
        many = select(func.count()).where(with_it.c.entry_id == s.audit.c.id, with_it.c.subject == "case")
        query = (
            select(
                s.audit, of_it.c.before, of_it.c.after, func.coalesce(s.people.c.name, "system").label("person"),
                many.scalar_subquery().label("many"),
            )
            .join_from(of_it, s.audit, s.audit.c.id == of_it.c.entry_id)
            .outerjoin(s.people, s.people.c.id == s.audit.c.person_id)
            .where(of_it.c.subject == "case", of_it.c.subject_id == row.id)
            .order_by(s.audit.c.id.desc())
        )  # fmt: skip
        lines = tx.execute(query.limit(TEXTS)).all()
        numbered = numbers(desk, tx, lines, s.operations.c.kind.in_(("case", "cases", "number")))
        return [
            {
                "at": line.at.isoformat(),
                "person": line.person,
                "door": line.door,
                "source": line.source,
                "did": _did(line),
                "how": _DID.get(line.verb, ""),
                "many": 1 if line.verb == "cases.own" else line.many,
                "changes": _both(line.before or {}, line.after or {}),
                **numbered[line.id],
            }
            for line in lines
        ]


def write_sheet(desk: Desk, path: Path) -> None:
    """Every case as a workbook that loads again and then changes nothing, and a line in the log; leads only."""
    with desk.db.reading_long() as read:
        with read() as tx:
            desk.allow(tx, "lead")
        table = exports.export(read, "cases")
        counted = Counted(table.rows)
        writer.write_table(path, "cases", table.columns, counted)
    desk.note_download("cases", counted.rows)


# -- in words ----------------------------------------------------------------------------------------------------------


def _standing(tx: Transaction, row: Row[Any], scope: Collection[int] | None) -> Record:
    """Whose a number is: `says` in words, the `owner`, the `line` of those who wait, and `others` who only get texts there."""
    number = row.contact_phone_number
    if number is None:
        return {"says": "It has no phone number, so it gets no texts.", "owner": None, "line": [], "others": []}
    same = select(s.cases).where(s.cases.c.phone_key == row.phone_key)
    on_it = list(tx.execute(same.order_by(s.cases.c.claimed_at, s.cases.c.id)))
    seen = {one.id for one in on_it} if scope is None else groups.members_of_any(tx, scope, [one.id for one in on_it])
    shown = {one.id: _other(tx, one, is_seen=one.id in seen) for one in on_it}
    owner = next((one for one in on_it if one.two_way), None)
    line = [one for one in on_it if one.claimed_at is not None and not one.two_way]
    others = [one for one in on_it if one not in line and one is not owner and one.id != row.id]
    place = next((n for n, one in enumerate(line, start=1) if one.id == row.id), None)
    return {
        "says": _whose(tx, row, owner, place, len(line)),
        "owner": shown[owner.id] if owner is not None else None,
        "line": [shown[one.id] for one in line],
        "others": [shown[one.id] for one in others],
    }


def _whose(tx: Transaction, row: Row[Any], owner: Row[Any] | None, place: int | None, waiting: int) -> str:
    if row.status == "closed":
        return "The case is closed: nobody texts it, and it owns no number."
    gets = "gets texts" if consent.may_text(tx, row.contact_phone_number) else "gets no texts since its STOP"
    if row.two_way:
        wait = (
            f" {waiting} other{'s' if waiting != 1 else ''} wait{'' if waiting != 1 else 's'} for it."
            if waiting
            else ""
        )
        return f"This case owns the number since {_day(tx, row.claimed_at)}: it {gets} and may reply.{wait}"
    if owner is None:
        return (
            f"Nobody has proved that the number is theirs, so nobody owns it: this case {gets}. "
            "A supervisor's text 'invite' asks the phone, and a yes makes this case the owner."
        )
    owned = f"Another case owns the number: this one {gets} there, and a reply counts as the owner's."
    if place is None:
        return f"{owned} It does not wait for it, because it is not verified."
    return f"{owned} It is number {place} of those who wait, and takes over by itself when its turn comes."


def _other(tx: Transaction, row: Row[Any], *, is_seen: bool) -> Record:
    """Another case on the same phone; of one that this person may not see only that it is there."""
    since = row.claimed_at and _day(tx, row.claimed_at)
    if not is_seen:
        return {"case_id": None, "name": "a case of another group", "since": since}
    return {"case_id": row.case_id, "name": row.name or row.external_id or row.case_id, "since": since}


def _event(tx: Transaction, event: Row[Any]) -> Record:
    meant = {
        "stop": "no more texts",
        "start": "texts again",
        "doubt": "perhaps no more texts: asked, nothing sent until it answers",
    }
    person = tx.scalar(select(s.people.c.name).where(s.people.c.id == event.person_id)) if event.person_id else None
    return {
        "at": event.at.isoformat(),
        "kind": event.kind,
        "says": meant[event.kind],
        "words": event.words,
        "by": f"{person}, for them" if person else "from the phone" if event.message_id else event.door,
    }


def _memberships(tx: Transaction, case: int, scope: Collection[int] | None) -> list[Record]:
    query = (
        select(s.groups.c.short, s.groups.c.name, s.memberships.c.added_at)
        .join(s.memberships, s.memberships.c.group_id == s.groups.c.id)
        .where(s.memberships.c.case_id == case, s.memberships.c.removed_at.is_(None), s.groups.c.deleted_at.is_(None))
        .order_by(s.groups.c.short)
    )
    if scope is not None:
        query = query.where(s.groups.c.id.in_(sorted(scope)))
    return [plain(row) for row in tx.execute(query).mappings()]


def _texts(tx: Transaction, case: int, before: int | None) -> list[Record]:
    query = select(s.messages).where(s.messages.c.case_id == case).order_by(s.messages.c.id.desc()).limit(TEXTS)
    rows = list(tx.execute(query if before is None else query.where(s.messages.c.id < before)))
    hidden = exports.hide_codes(tx) if any(map(exports.may_hold_a_code, rows)) else str
    return [
        {
            "id": row.id,
            "at": row.created_at.isoformat(),
            "direction": row.direction,
            "body": hidden(row.body) if exports.may_hold_a_code(row) else row.body,
            "state": row.state,
            "says": _state(row),
        }
        for row in rows
    ]


def _state(row: Row[Any]) -> str:
    """Where a text is and why, in words."""
    if row.direction == "in":
        return _IN.get(row.state) or _TAKEN_FOR.get(row.handled_as or "", "read")
    told = states.MEANINGS[row.state]
    return f"{told}: {said(row.reason, row.code)}" if row.reason else told


def _may_set(desk: Desk, tx: Transaction) -> list[str]:
    if not desk.may(tx, "change"):
        return []
    return [name for name in PROPERTIES if name not in FOR_LEADS or desk.may(tx, "lead")]


def _did(line: Row[Any]) -> str:
    if line.before is None or line.after is None:
        return "forgotten"
    return "made" if "case_id" in line.after else "changed"


def _both(before: Record, after: Record) -> Record:
    """Old and new value of each property, the free ones by their own names."""
    old, new = ({**one, **one.get("properties", {})} for one in (before, after))
    names = [name for name in {**old, **new} if name not in ("properties", "case_id")]
    return {name: [old.get(name), new.get(name)] for name in names if old.get(name) != new.get(name)}


def _day(tx: Transaction, at: datetime) -> str:
    return f"{at.astimezone(ZoneInfo(tx.rules.time_zone)):%-d %B %Y}"


# -- which -------------------------------------------------------------------------------------------------------------


def _within(scope: Collection[int] | None) -> Sequence[ColumnElement[bool]]:
    if scope is None:
        return ()
    inside = select(s.memberships.c.case_id).where(
        s.memberships.c.removed_at.is_(None), s.memberships.c.group_id.in_(sorted(scope))
    )
    return (s.cases.c.id.in_(inside),)


def _fits(tx: Transaction, search: str) -> ColumnElement[bool]:
    every = and_(true(), *fitting(search))
    number = phone_numbers.find(search, country=tx.rules.country)
    return every if number is None else or_(every, s.cases.c.phone_key == phone_keys.key(number.digits))
