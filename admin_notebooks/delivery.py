"""What became of broadcasts: the list, the funnel of one, its recipients, and why somebody did not get it.

Every recipient stands in exactly one part of the funnel, so the parts add up to the recipients, and whoever looks can
count them.  Only looks, but for `gather`, which makes a group of the people in a part.  Plain lists of dictionaries, and
a page at a time; whoever is no lead sees their own broadcasts and those to their own groups.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, Text, and_, func, select, type_coerce

from admin_notebooks.desk import Desk
from admin_notebooks.proposals import Proposal
from admin_notebooks.sheets import writer
from admin_notebooks.tables import AT_ONCE, Counted, fitting, told_of
from storage import schema as s
from storage.broadcasts import content, progress, states
from storage.contacts import groups, lookup, people
from storage.database import Transaction
from storage.errors import Problem
from storage.messages import history, lookups, receipts
from storage.messages.states import ARRIVED, MEANINGS, OPEN
from storage.rules.reasons import said

Record = dict[str, Any]

PARTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "delivered": ("the phone has it", ("delivered",)),
    "on_its_way": ("the gateway has it, no receipt yet", ("accepted", "sent")),
    "to_go": ("still to go", OPEN),
    "unclear": ("may or may not have been sent", ("unknown", "unresolved")),
    "failed": ("failed", ("undelivered", "refused", "expired")),
    "skipped": ("skipped", ("withheld",)),
    "halted": ("halted before it left", ("cancelled",)),
}
"""The parts of a funnel, in words, with the states of a message that each one holds."""

NO_REPLY = "no_reply"
"""A part across the others: those who have it, as far as the gateway knows, and have not texted since."""


def list_broadcasts(desk: Desk, *, first: int = 0, lapsed: bool = True) -> tuple[int, list[Record]]:
    """How many broadcasts this person may see, and fifty of them, newest first.

    What somebody dropped unconfirmed is left out, and without `lapsed` what nobody confirmed in time, too.
    """
    left_out = ("dropped",) if lapsed else ("dropped", "expired")
    with desk.db.reading() as tx:
        desk.allow(tx, "read")
        query = _seen(desk, tx).where(s.broadcasts.c.state.not_in(left_out))
        count = int(tx.scalar(select(func.count()).select_from(query.with_only_columns(s.broadcasts.c.id).subquery())))
        rows = tx.execute(query.order_by(s.broadcasts.c.id.desc()).offset(max(0, first)).limit(50)).all()
        counted = _counted(tx, [row.id for row in rows])
        return count, [line(tx, row, counted.get(row.id, {})) for row in rows]


def describe(desk: Desk, number: int) -> Record:
    """One broadcast whole: its words by language, its funnel, and every reason in words.  Raises `broadcast-unknown`."""
    with desk.db.reading() as tx:
        row = one(desk, tx, number)
        counted = progress.progress(tx, number).states
        texts = dict(sorted(content.texts_of(tx, number).items()))
        told = line(tx, row, counted)
        replied = told["arrived"] - _count(tx, number, NO_REPLY) if told["arrived"] else 0
        return {
            **told,
            "texts": texts,
            "reasons": _reasons(tx, number),
            "replied": replied,
            "adds_up": sum(told["parts"].values()) == told["recipients"],
            "may_halt": desk.may(tx, "tell") and row.state in states.OPEN,
            "may_pause": desk.may(tx, "tell") and row.state in states.RUNNING and row.state != "paused",
            "may_resume": desk.may(tx, "tell") and row.state == "paused",
            "may_fix": desk.may(tx, "tell") and told["arrived"] > 0,
        }


def list_recipients(
    desk: Desk, number: int, *, part: str = "", reason: str = "", search: str = "", first: int = 0
) -> tuple[int, list[Record]]:
    """How many recipients fit, and a hundred of them: who, where it is, and why, in words."""
    with desk.db.reading() as tx:
        one(desk, tx, number)
        query = _recipients(number, part, reason).where(*fitting(search))
        count = int(tx.scalar(select(func.count()).select_from(query.with_only_columns(s.messages.c.id).subquery())))
        rows = tx.execute(query.order_by(s.messages.c.id).offset(max(0, first)).limit(AT_ONCE))
        return count, [_recipient(row) for row in rows]


COLUMNS = (
    "case_id",
    "external_id",
    "name",
    "phone",
    "language",
    "part",
    "state",
    "why",
    "text",
    "handed_over_at",
    "settled_at",
)


SLICE = 2_000
"""Recipients that an export holds in memory at once."""


def export(desk: Desk, number: int, part: str = "") -> Iterator[list[Any]]:
    """Every recipient as a row of `COLUMNS`, case by case; moments are ISO 8601 in UTC."""
    # By the case and not by the text: an index has a broadcast's cases in order, so that each slice begins where the last one ended.
    by_case, last = s.messages.c.case_id, 0
    with desk.db.reading_long() as read:
        with read() as tx:
            one(desk, tx, number)
        while True:
            query = _recipients(number, part, "").add_columns(by_case.label("row_id")).where(by_case > last)
            with read() as tx:
                rows = tx.execute(query.order_by(by_case).limit(SLICE)).all()
            for row in rows:
                told = _recipient(row)
                yield [told[name] for name in COLUMNS]
            if len(rows) < SLICE:
                return
            last = rows[-1].row_id


def write_sheet(desk: Desk, path: Path, number: int, part: str = "") -> None:
    """Every recipient as a workbook, and a line in the log of who took it away."""
    counted = Counted(export(desk, number, part))
    writer.write_table(path, f"broadcast {number}", COLUMNS, counted)
    desk.note_download("recipients", counted.rows, number)


def over_time(desk: Desk, number: int) -> list[Record]:
    """For each minute (each second of a short one) in which anything happened: how many were `sent` and `delivered`.

    Counted in the database; `at` is a moment in UTC.
    """
    with desk.db.reading() as tx:
        one(desk, tx, number)
        m, of_it = s.messages, s.messages.c.broadcast_id == number
        # What was withheld has no hand-over; what failed at once has one, and was sent as far as we can know.
        span = tx.execute(
            select(func.min(m.c.handed_over_at).label("first"), func.max(m.c.settled_at).label("last")).where(of_it)
        ).one()
        if span.first is None:
            return []
        is_short = (span.last - span.first).total_seconds() < 600
        found: dict[str, Record] = {}
        delivered = and_(of_it, m.c.state == "delivered")
        for name, column, which in (("sent", m.c.handed_over_at, of_it), ("delivered", m.c.settled_at, delivered)):
            slot = _slot(tx, column, by_second=is_short)
            counted = select(slot.label("slot"), func.count().label("n")).where(which, column.is_not(None))
            for row in tx.execute(counted.group_by(slot)):
                found.setdefault(row.slot, {"at": f"{row.slot}+00:00", "sent": 0, "delivered": 0})[name] = row.n
        return [found[slot] for slot in sorted(found)]


def why(desk: Desk, number: int, typed: str) -> Record:
    """Why a case got a broadcast or not: `says` in one sentence, and the `steps` that led there, oldest first.

    Raises Problem `case-unknown` also for a case that is in nobody's group of this person's.
    """
    with desk.db.reading() as tx:
        row = one(desk, tx, number)
        found = lookup.find_one(tx, typed)
        message = progress.message_to(tx, number, found.id)
        scope = desk.scope(tx)
        if message is None and scope is not None and found.id not in groups.members_of_any(tx, scope, [found.id]):
            raise Problem("case-unknown", typed=typed)
        name = found.name or found.external_id or found.case_id
        steps = [*_decided(tx, number), *(_life(tx, message) if message is not None else ())]
        steps.sort(key=lambda step: step["at"])
        told = [{"at": step["at"].isoformat(), "what": step["what"]} for step in steps]
        return {
            "case_id": found.case_id,
            "name": name,
            "says": f"{name} {_outcome(tx, row, found, message)}.",
            "steps": told,
        }


def gather(desk: Desk, number: int, part: str, short: str, name: str = "", *, reason: str = "") -> Proposal:
    """A group of those who stand in a part of the funnel, or in all of it; open cases only."""

    def whom(tx: Transaction) -> list[int]:
        one(desk, tx, number)
        query = _recipients(number, part, reason).with_only_columns(s.cases.c.id)
        open_ones = query.where(s.cases.c.status == "open").order_by(s.cases.c.id)
        return list(dict.fromkeys(tx.execute(open_ones).scalars()))

    with desk.db.reading() as tx:
        many = len(whom(tx))
    if not many:
        raise Problem("gather-nobody")
    return desk.gather(short, name, whom, many)


# -- inside ------------------------------------------------------------------------------------------------------------


def _seen(desk: Desk, tx: Transaction) -> Select[Any]:
    b, o = s.broadcasts, s.operations
    return (
        select(
            b, o.c.asked_at, o.c.door, o.c.request, o.c.person_id, o.c.state.label("asked"),
            s.broadcast_texts.c.text,
        )
        .join(o, o.c.id == b.c.id)
        .join(s.broadcast_texts, content.ITS_WORDS)
        .where(*told_of(desk, tx))
    )  # fmt: skip


def one(desk: Desk, tx: Transaction, number: int) -> Row[Any]:
    """A broadcast that this person may see; another and one that does not exist look the same: `broadcast-unknown`."""
    desk.allow(tx, "read")
    row = find(desk, tx, number)
    if row is None:
        raise Problem("broadcast-unknown", number=number)
    return row


def find(desk: Desk, tx: Transaction, number: int) -> Row[Any] | None:
    """A broadcast that this person may see, or None."""
    return tx.execute(_seen(desk, tx).where(s.broadcasts.c.id == number)).first()


def _counted(tx: Transaction, numbers: list[int]) -> dict[int, dict[str, int]]:
    m = s.messages
    query = select(m.c.broadcast_id, m.c.state, func.count().label("n")).where(m.c.broadcast_id.in_(numbers))
    counts: dict[int, dict[str, int]] = {}
    for row in tx.execute(query.group_by(m.c.broadcast_id, m.c.state)):
        counts.setdefault(row.broadcast_id, {})[row.state] = row.n
    return counts


def line(tx: Transaction, row: Row[Any], counted: Mapping[str, int]) -> Record:
    """A broadcast in a list: whom it is for, where it is, and its recipients by part."""
    parts = {part: sum(counted.get(state, 0) for state in held) for part, (_, held) in PARTS.items()}
    if row.state in states.UNWRITTEN and not counted:
        # Nobody has a row in the outbox yet: as it was counted when they were frozen.
        parts |= {"to_go": row.sendable, "skipped": row.recipients - row.sendable}
    # Those who have no row yet are still to go, or it ended before they had one.
    parts["halted" if row.state in states.ENDS else "to_go"] += max(0, row.recipients - sum(parts.values()))
    return {
        "number": row.id,
        "whom": _whom(tx, row),
        "text": row.text,
        "state": _state(row),
        "is_open": row.state in states.OPEN,
        "asked_by": people.named(tx, row.person_id),
        "door": row.door,
        "asked_at": row.asked_at.isoformat(),
        "hold_until": row.hold_until.isoformat() if row.hold_until else None,
        "recipients": row.recipients,
        "arrived": sum(counted.get(state, 0) for state in ARRIVED),
        "parts": parts,
    }


def _whom(tx: Transaction, row: Row[Any]) -> str:
    """To whom, in few words: groups, a case by its name, or the broadcast that it corrects."""
    if row.request.get("fixes"):
        return f"those whom {row.request['fixes']} reached"
    shorts = [group.name for group in progress.groups_of(tx, row.id)]
    singles = row.request.get("cases") or []
    if len(singles) == 1:
        one = lookup.contact(tx, int(singles[0]))
        shorts.append(one.name or one.external_id or one.case_id)
    elif singles:
        shorts.append(f"{len(singles):,} cases")
    return ", ".join(shorts)


def _state(row: Row[Any]) -> str:
    if row.state == "previewed" and row.asked == "seconding":
        return "waits for a second person"
    if row.state == "scheduled":
        return f"waits for {row.send_at.replace('T', ' ')} by each person's clock"
    return _STATES[row.state]


_STATES = {
    "previewed": "not confirmed",
    "held": "held, and can still be halted",
    "expanding": "beginning",
    "sending": "being sent",
    "paused": "paused",
    "done": "over",
    "halted": "halted",
    "dropped": "dropped, so nothing was sent",
    "expired": "not confirmed in time, so nothing was sent",
}


def _recipients(number: int, part: str, reason: str) -> Select[Any]:
    m, c = s.messages, s.cases
    query = (
        select(
            m.c.id, m.c.phone, m.c.state, m.c.reason, m.c.code, m.c.language, m.c.body, m.c.handed_over_at,
            m.c.settled_at, m.c.due_at, c.c.case_id, c.c.external_id, c.c.name,
        )
        .join(c, c.c.id == m.c.case_id)
        .where(m.c.broadcast_id == number)
    )  # fmt: skip
    if part == NO_REPLY:
        return query.where(m.c.state.in_(ARRIVED), ~_answered())
    if part:
        query = query.where(m.c.state.in_(PARTS[part][1] if part in PARTS else ()))
    if reason:
        key, _, code = reason.partition("|")
        query = query.where(func.coalesce(m.c.reason, m.c.state) == key, func.coalesce(m.c.code, "") == code)
    return query


def _answered() -> ColumnElement[bool]:
    heard = s.messages.alias("heard")
    since = heard.c.created_at >= func.coalesce(s.messages.c.handed_over_at, s.messages.c.created_at)
    return select(heard.c.id).where(heard.c.case_id == s.messages.c.case_id, heard.c.direction == "in", since).exists()


def _count(tx: Transaction, number: int, part: str) -> int:
    query = _recipients(number, part, "").with_only_columns(s.messages.c.id)
    return int(tx.scalar(select(func.count()).select_from(query.subquery())))


def _reasons(tx: Transaction, number: int) -> list[Record]:
    """Why those who did not get it did not, the most frequent first; `key` names it to `list_recipients`."""
    m = s.messages
    query = select(m.c.state, m.c.reason, m.c.code, func.count().label("n"))
    told = m.c.state.in_([state for part in ("unclear", "failed", "skipped", "halted") for state in PARTS[part][1]])
    query = query.where(m.c.broadcast_id == number, told).group_by(m.c.state, m.c.reason, m.c.code)
    return [
        {
            "part": part_of(row.state),
            "key": f"{row.reason or row.state}|{row.code or ''}",
            "why": said(row.reason or row.state, row.code),
            "count": row.n,
        }
        for row in tx.execute(query.order_by(func.count().desc(), m.c.state, m.c.reason))
    ]


def part_of(state: str) -> str:
    """The part of the funnel in which a message of this state stands."""
    return next(part for part, (_, held) in PARTS.items() if state in held)


def _recipient(row: Row[Any]) -> Record:
    part = part_of(row.state)
    return {
        "case_id": row.case_id,
        "external_id": row.external_id,
        "name": row.name,
        "phone": row.phone,
        "language": row.language,
        "part": PARTS[part][0],
        "state": row.state,
        "why": said(row.reason, row.code) if row.reason and part not in ("delivered", "on_its_way") else "",
        "text": row.body,
        "handed_over_at": row.handed_over_at.isoformat() if row.handed_over_at else None,
        "settled_at": row.settled_at.isoformat() if row.settled_at else None,
    }


def _slot(tx: Transaction, column: ColumnElement[Any], *, by_second: bool) -> ColumnElement[str]:
    """The second or the minute of a moment as text that sorts."""
    slot: ColumnElement[str]
    if tx.is_sqlite:
        slot = func.substr(type_coerce(column, Text), 1, 19 if by_second else 16)
    else:
        shape = "YYYY-MM-DD HH24:MI:SS" if by_second else "YYYY-MM-DD HH24:MI"
        slot = func.to_char(func.timezone("UTC", column), shape)
    return slot


_DEEDS = {
    "operations.ask": "asked for {number}",
    "operations.done": "confirmed {number}",
    "operations.seconding": "confirmed {number}, and a second person had to as well",
    "broadcasts.launch": "let {number} go",
    "broadcasts.pause": "paused {number}",
    "broadcasts.resume": "resumed {number}",
    "broadcasts.halt": "halted {number}",
}


def _decided(tx: Transaction, number: int) -> Iterator[Record]:
    for deed in history.deeds(tx, number):
        if deed.verb in _DEEDS:
            what = _DEEDS[deed.verb].format(number=number)
            yield {"at": deed.at, "what": f"{deed.person or 'The system'} {what} ({deed.door})."}


_SAID = {"stop": "said STOP", "start": "said START", "doubt": "may have said STOP, and was asked"}


def _life(tx: Transaction, row: Row[Any]) -> Iterator[Record]:
    yield {"at": row.created_at, "what": f"Its text was written down: “{row.body}”"}
    if row.due_at > row.created_at and row.state != "withheld":
        yield {"at": row.due_at, "what": "From then on it could leave, by the hold and the recipient's own clock."}
    for event in history.consent_round(tx, row):
        yield {"at": event.at, "what": f"The number {_SAID[event.kind]}."}
    for attempt in lookups.attempts_of(tx, row.id):
        yield {"at": attempt.at, "what": f"An attempt: {said(attempt.reason, attempt.code)}."}
    if row.handed_over_at is not None:
        yield {"at": row.handed_over_at, "what": f"It was handed to the gateway {row.gateway or ''}".rstrip() + "."}
    for receipt in receipts.receipts_of(tx, row.id):
        code = f": {said('gateway-code', receipt.code)}" if receipt.code else ""
        late = "" if receipt.moved else " (it changed nothing)"
        yield {"at": receipt.at, "what": f"The gateway said {receipt.word}{code}{late}."}
    at = row.settled_at or row.created_at
    if row.reason == "left":
        for end in history.left(tx, row):
            yield {"at": end.at, "what": f"{end.person or 'The system'} took the case out of {end.short} ({end.door})."}
    if row.reason == "same-phone" and (other := history.same_phone(tx, row)) is not None:
        yield {"at": at, "what": f"The same phone got it for {other.case_id}."}


def _outcome(tx: Transaction, row: Row[Any], found: Row[Any], message: Row[Any] | None) -> str:
    """What became of it, after the name."""
    number = row.id
    if message is None:
        if progress.is_for(tx, number, found.id) and (because := states.NOBODY_HAS_A_ROW.get(row.state)):
            got = "has not got" if row.state in states.OPEN else "did not get"
            return f"{got} {number}{' yet' if row.state in states.OPEN else ''}: {said(because)}"
        return f"is not among those for whom {number} was"
    if message.state == "delivered":
        return f"got {number}: the phone has it"
    if message.state in ("accepted", "sent"):
        return f"should get {number}: {MEANINGS[message.state]}, and there is no receipt of the phone"
    told = said("paused" if lookups.is_held(message) else message.reason or message.state, message.code)
    if message.state in ("unknown", "unresolved"):
        return f"may or may not have got {number}: {told}"
    if message.state in OPEN:
        return f"has not got {number} yet: {told}"
    return f"did not get {number}: {told}"
