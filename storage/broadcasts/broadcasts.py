"""A text to groups and single cases: preview, launch, expand, halt, progress.

A broadcast holds its words per language and its recipients from the preview on: of a group it takes the memberships
that stood then, so a later member is never added, and one who was taken out since is skipped (`messages/audience.py`).  One that
has its hour is a rule, and takes those who are in when that hour comes.
Every recipient gets a row in `messages`, also one who is skipped, with the reason; therefore
recipients = sent + skipped + failed + unknown + still to go, always, and anyone can count it.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, NamedTuple

from sqlalchemy import (
    Boolean,
    ColumnElement,
    FromClause,
    Insert,
    Integer,
    Row,
    Select,
    Text,
    and_,
    bindparam,
    case,
    delete,
    exists,
    func,
    insert,
    literal,
    null,
    or_,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from storage import audit
from storage.audit import Actor, Change
from storage.contacts import consent
from storage.database import Transaction
from storage.errors import Problem
from storage.lately import first_since
from storage.messages import audience
from storage.messages.states import ARRIVED, KINDS, OPEN, unclear
from storage.operations import operations
from storage.programme import routing
from storage.rules import optout, quiet_hours, segments, templates
from storage.rules.hours_and_limits import Rules
from storage.schema import (
    Moment,
    broadcast_audience,
    broadcast_texts,
    broadcasts,
    cases,
    consent_events,
    groups,
    memberships,
    messages,
)
from storage.schema import operations as operations_table

RANGE = 10_000
"""Recipients of each group in one transaction while expanding, at most."""

RUNNING = ("expanding", "sending")
"""The states of a broadcast that was let go and is not over: it may be paused, resumed and halted."""

FEWEST, HELD_S = 100, 0.02
"""So few even where writing is slow: each range has a cost of its own.  And how long one may keep the writer."""

TOO_LONG = 1600
"""Characters that a gateway takes in one message (Twilio: error 21617 beyond)."""

_whom = broadcast_audience.alias("frozen")
_WAITS_FOR_ITS_HOUR = and_(
    broadcasts.c.send_at.is_not(None),
    ~exists().where(_whom.c.broadcast_id == broadcasts.c.id, _whom.c.frozen_at >= broadcasts.c.hold_until),
)
"""A broadcast with an hour of its own has not begun before its recipients are frozen at that hour."""

# An idle worker asks these ten times a second, and building a statement takes longer than running it.
_HOUR_HAS_COME = (
    select(broadcasts.c.id)
    .where(
        broadcasts.c.state == "expanding",
        broadcasts.c.hold_until <= bindparam("now", type_=Moment),
        _WAITS_FOR_ITS_HOUR,
    )
    .order_by(broadcasts.c.id)
)
_MAY_BEGIN = _HOUR_HAS_COME.where(broadcasts.c.paused_at.is_(None))
_UNEXPANDED = (
    select(broadcasts)
    .where(
        broadcasts.c.launched_at.is_not(None),
        broadcasts.c.expanded_at.is_(None),
        or_(broadcasts.c.state == "halted", and_(broadcasts.c.state == "expanding", ~_WAITS_FOR_ITS_HOUR)),
    )
    .order_by(broadcasts.c.id)
    .limit(1)
)
_twin, _written = cases.alias("twin"), messages.alias("written")
_NEXT_TO_EXPAND = _UNEXPANDED.with_for_update(skip_locked=True)
_IS_EXPANDING = _UNEXPANDED.with_only_columns(broadcasts.c.id)
_FINISH = (
    update(broadcasts)
    .where(
        broadcasts.c.state == "sending",
        ~exists().where(messages.c.broadcast_id == broadcasts.c.id, messages.c.state.in_(OPEN)),
        # What is in doubt may come back to the queue; of one that is paused it leaves only if somebody can resume that.
        or_(
            broadcasts.c.paused_at.is_(None),
            ~exists().where(messages.c.broadcast_id == broadcasts.c.id, messages.c.state == "unknown"),
        ),
    )
    .values(state="done", finished_at=bindparam("now", type_=Moment))
)
_TEXTS = select(broadcast_texts).where(broadcast_texts.c.broadcast_id == bindparam("number"))
_LANGUAGE_AND_FREEZING = (
    select(broadcasts.c.language, func.max(broadcast_audience.c.frozen_at).label("frozen_at"))
    .join(broadcast_audience, broadcast_audience.c.broadcast_id == broadcasts.c.id)
    .where(broadcasts.c.id == bindparam("number"))
    .group_by(broadcasts.c.id)
)
_whom_of_it = audience.of(bindparam("number", type_=Integer))
_whom_in_range = audience.of(
    bindparam("number", type_=Integer), after=bindparam("after", type_=Integer), upto=bindparam("upto", type_=Integer)
)
_ALL_ZONES, _ZONES = (
    select(cases.c.time_zone).distinct().join(whom, whom.c.case_id == cases.c.id)
    for whom in (_whom_of_it, _whom_in_range)
)
_EXPANDED_THROUGH = (
    update(broadcasts).where(broadcasts.c.id == bindparam("number")).values(expanded_through=bindparam("upto"))
)


@dataclass(frozen=True, slots=True)
class Preview:
    """Who would get it and who not, and what it costs: asked before every send."""

    number: int
    recipients: int
    skipped: Mapping[str, int]
    parts: int
    forced_by: str | None
    samples: Sequence[str]
    languages: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a broadcast is, by message state and by the reason for what was skipped."""

    row: Row[Any]
    states: Mapping[str, int]
    skipped: Mapping[str, int]

    @property
    def arrived(self) -> int:
        """Those who have it, as far as the gateway knows."""
        return sum(self.states.get(state, 0) for state in ARRIVED)

    @property
    def waiting(self) -> int:
        """Those whose message has not left yet; before the rows are written, everybody."""
        if self.row.state in ("previewed", "expanding") and not self.states:
            return int(self.row.sendable)
        return sum(self.states.get(state, 0) for state in OPEN)


def draft(
    tx: Transaction,
    texts: Mapping[str, str],
    *,
    group_ids: Sequence[int] = (),
    case_ids: Sequence[int] = (),
    fixes: int | None = None,
    words: str = "",
    message_id: int | None = None,
    by: Actor,
) -> int:
    """Write a broadcast down with its words and whom it is for, not yet confirmed; returns its number.

    `texts` is by language; the programme's language, or else the first, serves whoever has no better one.  `fixes` is the
    broadcast that this one corrects.  Raises Problem `text-blank`, `text-too-long`, `text-reserved`, `field-unknown` or `brace-stray`.
    """
    for body in texts.values():
        check_text(body)
    language = tx.rules.language if tx.rules.language in texts else next(iter(texts))
    kind = "text" if case_ids and not group_ids and len(case_ids) == 1 else "broadcast"
    request: dict[str, Any] = {"texts": dict(texts), "groups": list(group_ids), "cases": list(case_ids)}
    if fixes is not None:
        request["fixes"] = fixes
    number = operations.ask(
        tx, "tell", words=words, request=request,
        group_id=group_ids[0] if group_ids else None, message_id=message_id, by=by,
    )  # fmt: skip
    tx.execute(
        insert(broadcasts),
        {"id": number, "state": "previewed", "kind": kind, "language": language, "recipients": 0, "sendable": 0},
    )
    tx.execute(insert(broadcast_texts), [{"broadcast_id": number, "language": k, "text": t} for k, t in texts.items()])
    newest = tx.scalar(select(func.coalesce(func.max(memberships.c.id), 0)))
    whom = [{"group_id": g, "case_id": None, "frozen_through": newest, "frozen_at": tx.now} for g in group_ids]
    whom += [{"group_id": None, "case_id": c, "frozen_through": None, "frozen_at": tx.now} for c in case_ids]
    tx.execute(insert(broadcast_audience), [{"broadcast_id": number, **row} for row in whom])
    _put_away_expired(tx)  # where one too many waited, the oldest has lapsed
    _count(tx, number)
    return number


def draft_again(tx: Transaction, number: int, *, message_id: int | None, by: Actor) -> int:
    """The same words to the same groups and cases once more, as a new broadcast to be previewed; returns its number."""
    asked = operations.operation(tx, number)
    assert asked is not None
    request = asked.request
    fresh = draft(
        tx, request["texts"], group_ids=request["groups"], case_ids=request["cases"], fixes=request.get("fixes"),
        words=asked.words, message_id=message_id, by=by,
    )  # fmt: skip
    if request.get("send_at"):
        amend(tx, fresh, send_at=datetime.fromisoformat(request["send_at"]))
    return fresh


def amend(
    tx: Transaction, number: int, *, text: tuple[str, str] | None = None, send_at: datetime | None = None
) -> None:
    """Change what a broadcast that waits will say or when, and freeze its recipients anew: it must be previewed again.

    `text` is a language and its words, added or put in place of those it has; `send_at` is a wall-clock time without a
    zone, which each recipient's own zone reads.  A code sent for it before confirms nothing any more.  Raises the
    Problems of `draft`, `broadcast-decided` if it does not wait any more, and `time-past` if that time is over where some
    of the recipients are.
    """
    operation, row = operations.operation(tx, number), broadcast(tx, number)
    if operation is None or operation.state != "waiting" or row.state != "previewed":
        raise Problem("broadcast-decided", number=number)
    request = dict(operation.request)
    if text is not None:
        language, body = text
        check_text(body)
        request["texts"] = {**request["texts"], language: body}
        tx.execute(
            delete(broadcast_texts).where(
                broadcast_texts.c.broadcast_id == number, broadcast_texts.c.language == language
            )
        )
        tx.execute(insert(broadcast_texts), {"broadcast_id": number, "language": language, "text": body})
    if send_at is not None:
        if (zone := past_in(tx, number, send_at)) is not None:
            raise Problem("time-past", time=f"{send_at:%H:%M}", zone=zone)
        request["send_at"] = send_at.isoformat(timespec="minutes")
        tx.execute(update(broadcasts).where(broadcasts.c.id == number).values(send_at=request["send_at"]))
    operations.change_request(tx, number, request)
    _freeze(tx, number)


def twin(tx: Transaction, number: int, since: datetime) -> Row[Any] | None:
    """The newest broadcast of somebody else since then to one of the same groups that waits, runs or went out.

    Two people who had the same idea at once learn of each other before the second one goes.
    """
    own, other = operations.operation(tx, number), operations_table.alias("other")
    assert own is not None
    mine, theirs = broadcast_audience.alias("mine"), broadcast_audience.alias("theirs")
    same_groups = select(mine.c.group_id).where(mine.c.broadcast_id == number, mine.c.group_id.is_not(None))
    query = (
        select(other)
        .join(broadcasts, broadcasts.c.id == other.c.id)
        .join(theirs, theirs.c.broadcast_id == other.c.id)
        .where(
            # From there on only: each group has years of broadcasts behind it.
            theirs.c.broadcast_id >= first_since(tx, operations_table.c.asked_at, since),
            theirs.c.group_id.in_(same_groups),
            other.c.person_id.is_distinct_from(own.person_id),
            other.c.asked_at > since,
            broadcasts.c.state.in_(("previewed", "expanding", "sending", "done")),
        )
    )
    return tx.execute(query.order_by(other.c.id.desc()).limit(1)).first()


def has_changed(tx: Transaction, number: int) -> bool:
    """Whether somebody would get it now who was not shown so in the preview: another number, a START since.

    A list that only shrank has not changed.
    """
    return any(row.reason == "changed" for row in _verdicts(tx, number))


def preview(tx: Transaction, number: int, *, language: str | None = None) -> Preview:
    """Who would get a broadcast, who not and why, and three real renderings: of one language, if it is named."""
    skipped = {row.reason: row.n for row in _verdicts(tx, number) if row.reason is not None}
    recipients = broadcast(tx, number).sendable
    query = _recipients(tx.rules, _content(tx, number))
    sendable = query.where(query.selected_columns.reason.is_(None))
    texts = _texts(tx, number)
    shown = sendable if language is None else sendable.where(query.selected_columns.language == language)
    unread = list(texts.values()) if language is None else [texts[language]]
    samples = [row.body for row in tx.execute(shown.limit(3))] or unread
    if any(not isinstance(part, str) for words in _texts(tx, number).values() for part in templates.parse(words)):
        # With names in it the dearest are among the longest, and among those with letters that force Unicode.
        body = query.selected_columns.body
        longest = sendable.order_by(None).order_by(func.length(body).desc()).limit(5)
        foreign = longest.where(func.octet_length(body) > func.length(body))
        priced = [*samples, *(row.body for each in (longest, foreign) for row in tx.execute(each))]
    else:
        priced = [*samples, *_texts(tx, number).values()]
    dearest = max((segments.count(text) for text in priced), key=lambda s: (s.parts, s.forced_by or ""))
    languages = _count_languages(tx, number) if len(texts) > 1 else {next(iter(texts)): recipients}
    return Preview(number, recipients, skipped, dearest.parts, dearest.forced_by, samples, languages)


def _count_languages(tx: Transaction, number: int) -> dict[str, int]:
    """How many would read it in which language."""
    each = _recipients(tx.rules, _content(tx, number)).order_by(None).subquery()
    counted = select(each.c.language, func.count().label("n")).where(each.c.reason.is_(None)).group_by(each.c.language)
    return {row.language: row.n for row in tx.execute(counted.order_by(func.count().desc()))}


def broadcast(tx: Transaction, number: int) -> Row[Any]:
    """One broadcast; raises Problem `broadcast-unknown`."""
    row = tx.execute(select(broadcasts).where(broadcasts.c.id == number)).first()
    if row is None:
        raise Problem("broadcast-unknown", number=number)
    return row


def launch(tx: Transaction, number: int, *, hold_s: int, by: Actor) -> datetime:
    """Let a confirmed broadcast go after its hold, or at its time; returns when the first may leave.

    Launching twice changes nothing.
    """
    held_until = first_leaves(tx, number, hold_s=hold_s)
    expires_at = held_until + timedelta(hours=tx.rules.expiry_h)
    moved = tx.execute(
        update(broadcasts)
        .where(broadcasts.c.id == number, broadcasts.c.state == "previewed")
        .values(state="expanding", launched_at=tx.now, hold_until=held_until, expires_at=expires_at)
    )
    if moved.rowcount:
        change = Change("broadcast", number, {"state": "previewed"}, {"state": "expanding"})
        facts = {"recipients": broadcast(tx, number).recipients}
        audit.record(tx, "broadcasts.launch", "broadcast", number, facts=facts, changes=[change], by=by)
    return broadcast(tx, number).hold_until or held_until


def first_leaves(tx: Transaction, number: int, *, hold_s: int) -> datetime:
    """When a broadcast begins if it is confirmed now: after the hold, or when the first of its zones reads its time."""
    held_until = tx.now + timedelta(seconds=hold_s)
    send_at = broadcast(tx, number).send_at
    if send_at is None:
        return held_until
    zones = _zones_of(tx, number) or {tx.rules.time_zone}
    return max(held_until, min(quiet_hours.instant(datetime.fromisoformat(send_at), zone) for zone in zones))


def past_in(tx: Transaction, number: int, send_at: datetime) -> str | None:
    """A zone of some recipients in which this wall-clock time is over; None if it is still to come for all."""
    return next((zone for zone in sorted(_zones_of(tx, number)) if quiet_hours.instant(send_at, zone) < tx.now), None)


def count_readers(tx: Transaction, number: int, language: str) -> int:
    """How many recipients would read a text in this language, if there were one."""
    whom = audience.of(number)
    code = func.lower(func.coalesce(cases.c.language_code, ""))
    reads = or_(code == language.lower(), code.like(f"{language.lower()}-%"))
    return int(tx.scalar(select(func.count()).select_from(cases).join(whom, whom.c.case_id == cases.c.id).where(reads)))


def whose_hour_has_come(tx: Transaction, *, paused: bool = False) -> list[int]:
    """The launched broadcasts with an hour of their own that has come and that have not begun; `paused` ones too if asked."""
    return list(tx.execute(_HOUR_HAS_COME if paused else _MAY_BEGIN, {"now": tx.now}).scalars())


def begin(tx: Transaction, number: int) -> Row[Any]:
    """The hour of a broadcast has come: what was confirmed is a rule, so it is for those who are in its groups now."""
    _freeze(tx, number)
    return broadcast(tx, number)


def hold_back(tx: Transaction, number: int) -> None:
    """Put a broadcast that was about to begin back to where it waits to be confirmed; its hour is over."""
    waits = {"state": "previewed", "send_at": None, "launched_at": None, "hold_until": None, "expires_at": None}
    tx.execute(update(broadcasts).where(broadcasts.c.id == number, broadcasts.c.state == "expanding").values(waits))


def drop(tx: Transaction, number: int) -> None:
    """A broadcast that was never confirmed is put away."""
    tx.execute(
        update(broadcasts).where(broadcasts.c.id == number, broadcasts.c.state == "previewed").values(state="dropped")
    )


def put_away_unconfirmed(tx: Transaction) -> None:
    """What nobody confirmed within its fifteen minutes is over, and so is the broadcast that waited for it."""
    if operations.expire(tx):
        _put_away_expired(tx)


def _put_away_expired(tx: Transaction) -> None:
    # Asked of the few that wait, each by its number: of what ran out there are years.
    over = exists().where(operations_table.c.id == broadcasts.c.id, operations_table.c.state == "expired")
    tx.execute(update(broadcasts).where(broadcasts.c.state == "previewed", over).values(state="dropped"))


def halt(tx: Transaction, number: int, *, by: Actor) -> Progress:
    """Stop what has not left yet; what is on its way to the gateway this instant cannot be called back."""
    row = broadcast(tx, number)
    if row.state == "previewed":
        operations.decide(tx, number, "dropped", by=by)
    if row.state in ("previewed", *RUNNING):
        tx.execute(update(broadcasts).where(broadcasts.c.id == number).values(state="halted", finished_at=tx.now))
        tx.execute(
            update(messages)
            .where(messages.c.broadcast_id == number, messages.c.state == "queued")
            .values(state="cancelled", reason="halted", settled_at=tx.now)
        )
        change = Change("broadcast", number, {"state": row.state}, {"state": "halted"})
        audit.record(tx, "broadcasts.halt", "broadcast", number, changes=[change], by=by)
    return progress(tx, number)


def pause(tx: Transaction, number: int, *, by: Actor) -> Progress:
    """Let nothing more of a broadcast leave until it is resumed; a second time changes nothing.

    What is on its way to the gateway this instant cannot be called back, and what a worker has only taken goes back.
    Its texts grow old meanwhile, and one whose time runs out is not sent.  Raises Problem `broadcast-unknown`, and
    `pause-not-running` for what is not confirmed, or over.
    """
    row = broadcast(tx, number)
    if row.state not in RUNNING:
        raise Problem("pause-not-running", number=number)
    if row.paused_at is None:
        tx.execute(update(broadcasts).where(broadcasts.c.id == number).values(paused_at=tx.now))
        waiting = (messages.c.broadcast_id == number, messages.c.state == "queued")
        tx.execute(update(messages).where(*waiting).values(paused=True))
        audit.record(tx, "broadcasts.pause", "broadcast", number, by=by)
    return progress(tx, number)


def resume(tx: Transaction, number: int, *, by: Actor) -> Progress:
    """Let a paused broadcast go on, with what is still in time; a second time changes nothing.

    Raises Problem `broadcast-unknown`, and `resume-not-paused` for what never was, or is over or halted.
    """
    row = broadcast(tx, number)
    if row.state not in RUNNING or row.paused_at is None:
        raise Problem("resume-not-paused", number=number)
    tx.execute(update(broadcasts).where(broadcasts.c.id == number).values(paused_at=None))
    held = (messages.c.broadcast_id == number, messages.c.paused)
    tx.execute(update(messages).where(*held).values(paused=False))
    turned_back = (messages.c.broadcast_id == number, messages.c.state == "queued", messages.c.reason == "paused")
    tx.execute(update(messages).where(*turned_back).values(due_at=tx.now, reason=None))
    audit.record(tx, "broadcasts.resume", "broadcast", number, by=by)
    tx.wake()
    return progress(tx, number)


def is_paused(row: Row[Any]) -> bool:
    """Whether a broadcast is paused now: what is over or halted is not."""
    return row.paused_at is not None and row.state in RUNNING


def is_expanding(tx: Transaction) -> bool:
    """Whether a launched broadcast still has recipients to write."""
    return tx.scalar(_IS_EXPANDING) is not None


class Pace:
    """How many recipients an expansion writes at once: as many as keep webhooks waiting for a moment only.

    A laptop writes thousands in that time and a small server hundreds, so it goes by how long the last range took.
    """

    def __init__(self) -> None:
        self.many = 2 * FEWEST

    @contextlib.contextmanager
    def kept(self) -> Iterator[int]:
        """How many to write now, inside a transaction; what takes longer than it should makes the next ones fewer."""
        began = time.perf_counter()
        yield self.many
        fits = HELD_S / max(time.perf_counter() - began, HELD_S / 10)
        self.many = max(FEWEST, min(RANGE, int(self.many * min(2.0, fits))))


def expand_next(tx: Transaction, at_most: int | None = None) -> bool:
    """Write the messages of the next range of recipients of a launched broadcast; whether there was one.

    One `INSERT .. SELECT` for at most so many cases of each group, or RANGE; resumable, because a recipient has at most one row and the broadcast
    remembers how far it is.  Of one that was halted meanwhile the rest is written as cancelled: nobody is left uncounted.
    """
    row = tx.execute(_NEXT_TO_EXPAND).first()
    if row is None:
        return False
    upto = audience.next_range(tx, row.id, after=row.expanded_through, many=at_most or RANGE)
    if upto is None:
        state = "halted" if row.state == "halted" else "sending"
        tx.execute(update(broadcasts).where(broadcasts.c.id == row.id).values(expanded_at=tx.now, state=state))
    else:
        _write_range(tx, row, row.expanded_through, upto)
        tx.execute(_EXPANDED_THROUGH, {"number": row.id, "upto": upto})
    return True


def _write_range(tx: Transaction, row: Row[Any], after: int, upto: int) -> None:
    by_zone = tx.rules.hours is not None or row.send_at is not None
    of_range = {"number": row.id, "after": after, "upto": upto}
    named = tx.execute(_ZONES, of_range).scalars() if by_zone else ()
    written = _insertion(
        tx.rules, _content(tx, row.id), row.kind, row.state == "halted", row.paused_at is not None, row.hold_until,
        row.send_at,
        tuple(sorted(_valid_zones(tx, named))), tx.is_sqlite,
    )  # fmt: skip
    tx.execute(written, {"after": after, "upto": upto, "now": tx.now})


@lru_cache(maxsize=16)
def _insertion(
    rules: Rules,
    content: _Content,
    kind: str,
    halted: bool,
    paused: bool,
    hold_until: datetime,
    send_at: str | None,
    zones: tuple[str, ...],
    on_sqlite: bool,
) -> Insert:
    """What writes the messages of the range between `after` and `upto` at the moment `now`; the same for all ranges."""
    after, upto = bindparam("after", type_=Integer), bindparam("upto", type_=Integer)
    part = _recipients(rules, content, after=after, upto=upto).subquery()
    skipped = part.c.reason.is_not(None)
    state, because = ("cancelled", "halted") if halted else ("queued", None)
    # fmt: off
    rows = select(
        literal("out"), part.c.phone, part.c.body, literal(kind),
        case((skipped, "withheld"), else_=state), func.coalesce(part.c.reason, literal(because, Text())),
        part.c.gateway, part.c.case_id, literal(content.number), part.c.language, literal(KINDS[kind].priority),
        *_due(rules, hold_until, send_at, part.c.time_zone, zones), bindparam("now", type_=Moment()), literal(paused, Boolean()),
    ).where(part.c.case_id.is_not(None))
    columns = [
        "direction", "phone", "body", "kind", "state", "reason", "gateway", "case_id",
        "broadcast_id", "language", "priority", "due_at", "expires_at", "created_at", "paused",
    ]
    # fmt: on
    dialect = sqlite if on_sqlite else postgresql
    written: Insert = dialect.insert(messages).on_conflict_do_nothing().from_select(columns, rows)
    return written


def finish(tx: Transaction) -> int:
    """Mark as done the broadcasts of which nothing is left to send; returns how many."""
    return tx.execute(_FINISH, {"now": tx.now}).rowcount


def progress(tx: Transaction, number: int) -> Progress:
    """How far a broadcast is."""
    rows = tx.execute(
        select(messages.c.state, messages.c.reason, func.count().label("n"))
        .where(messages.c.broadcast_id == number)
        .group_by(messages.c.state, messages.c.reason)
    ).all()
    states: dict[str, int] = {}
    skipped: dict[str, int] = {}
    for row in rows:
        states[row.state] = states.get(row.state, 0) + row.n
        if row.state == "withheld":
            skipped[row.reason] = skipped.get(row.reason, 0) + row.n
    return Progress(broadcast(tx, number), states, skipped)


def running(tx: Transaction, *, of: int | None = None) -> list[Row[Any]]:
    """Broadcasts that are expanding or sending, newest first; `of` takes those that one person asked for."""
    query = select(broadcasts).where(broadcasts.c.state.in_(RUNNING))
    if of is not None:
        asked = operations_table.c.id == broadcasts.c.id
        query = query.join(operations_table, asked).where(operations_table.c.person_id == of)
    return list(tx.execute(query.order_by(broadcasts.c.id.desc())))


def pending_for(tx: Transaction, group_id: int) -> list[int]:
    """Numbers of the broadcasts to a group that wait or run: what goes with it when it is deleted."""
    query = (
        select(broadcasts.c.id)
        .join(broadcast_audience, broadcast_audience.c.broadcast_id == broadcasts.c.id)
        .where(
            broadcast_audience.c.group_id == group_id,
            broadcasts.c.state.in_(("previewed", "expanding", "sending")),
        )
    )
    return list(tx.execute(query.order_by(broadcasts.c.id)).scalars())


def groups_of(tx: Transaction, number: int) -> list[Row[Any]]:
    """The groups a broadcast was previewed for, also those deleted since."""
    query = select(groups).join(broadcast_audience, broadcast_audience.c.group_id == groups.c.id)
    return list(tx.execute(query.where(broadcast_audience.c.broadcast_id == number).order_by(groups.c.short)))


def message_to(tx: Transaction, number: int, case_id: int) -> Row[Any] | None:
    """The message of a broadcast to one case: the answer to "why did she not get it?" starts here."""
    query = select(messages).where(messages.c.broadcast_id == number, messages.c.case_id == case_id)
    return tx.execute(query).first()


def is_for(tx: Transaction, number: int, case_id: int) -> bool:
    """Whether a broadcast was frozen for this case."""
    whom = audience.of(number)
    return tx.scalar(select(whom.c.case_id).where(whom.c.case_id == case_id)) is not None


def reached(tx: Transaction, number: int) -> list[int]:
    """The cases that a broadcast reached, as far as the gateway knows: whom a correction is for."""
    query = select(messages.c.case_id).where(messages.c.broadcast_id == number, messages.c.state.in_(ARRIVED))
    return list(tx.execute(query.order_by(messages.c.case_id)).scalars())


def doubtful(tx: Transaction, since: datetime) -> list[int]:
    """The broadcasts since then of which some messages may or may not have been sent, newest first."""
    query = select(messages.c.broadcast_id).where(
        unclear("unknown", "unresolved"),
        messages.c.created_at > since,
        messages.c.broadcast_id.is_not(None),
    )
    return list(tx.execute(query.distinct().order_by(messages.c.broadcast_id.desc())).scalars())


def last_arrived(tx: Transaction, case_id: int) -> Row[Any] | None:
    """The newest message that reached a case, as far as the gateway knows."""
    query = select(messages).where(messages.c.case_id == case_id, messages.c.state.in_(ARRIVED))
    return tx.execute(query.order_by(messages.c.id.desc()).limit(1)).first()


def list_all(tx: Transaction) -> list[Row[Any]]:
    """Every broadcast, newest first."""
    return list(tx.execute(select(broadcasts).order_by(broadcasts.c.id.desc())))


def count_texts(tx: Transaction, person_id: int, since: datetime) -> int:
    """How many texts to single cases a person has asked for since then."""
    query = (
        select(func.count())
        .select_from(broadcasts)
        .join(operations_table, operations_table.c.id == broadcasts.c.id)
        .where(
            broadcasts.c.kind == "text",
            broadcasts.c.launched_at >= since,
            operations.is_of(person_id, since - operations.UNDO),
        )
    )
    return int(tx.scalar(query))


def takes_s(tx: Transaction, number: int) -> float:
    """How many seconds its texts take at the rates of their gateways, which send side by side."""
    rules = tx.rules
    if len(rules.gateways) < 2:
        return float(broadcast(tx, number).sendable / rules.rate_per_s)
    each = _recipients(tx.rules, _content(tx, number)).order_by(None).subquery()
    counted = select(each.c.gateway, func.count().label("n")).where(each.c.reason.is_(None)).group_by(each.c.gateway)
    return max((row.n / rules.rates.get(row.gateway, rules.rate_per_s) for row in tx.execute(counted)), default=0.0)


def text_of(tx: Transaction, number: int) -> str:
    """The words of a broadcast in its own language."""
    return _texts(tx, number)[broadcast(tx, number).language]


def texts_of(tx: Transaction, number: int) -> dict[str, str]:
    """The words of a broadcast by language."""
    return _texts(tx, number)


def dearest(tx: Transaction, number: int, language: str) -> segments.Segments:
    """What the dearest rendering of one language costs: among the longest, and those with letters that force Unicode."""
    query = _recipients(tx.rules, _content(tx, number))
    column = query.selected_columns
    mine = query.where(column.reason.is_(None), column.language == language)
    longest = mine.order_by(None).order_by(func.length(column.body).desc()).limit(5)
    foreign = longest.where(func.octet_length(column.body) > func.length(column.body))
    bodies = [row.body for each in (longest, foreign) for row in tx.execute(each)] or [_texts(tx, number)[language]]
    return max((segments.count(body) for body in bodies), key=lambda s: (s.parts, s.forced_by or ""))


def list_skipped(tx: Transaction, number: int, at_most: int) -> list[Row[Any]]:
    """The first recipients of a preview who would not get it: `case_id` (a row id) and `reason`, a key."""
    query = _recipients(tx.rules, _content(tx, number))
    reason = query.selected_columns.reason
    return list(tx.execute(query.where(reason.is_not(None)).limit(at_most)))


def check_text(body: str) -> None:
    """Refuse words that cannot be sent: Problem `text-blank`, `text-too-long`, `text-reserved`, `field-unknown` or `brace-stray`."""
    if not body.strip():
        raise Problem("text-blank")
    if len(body) > TOO_LONG:
        raise Problem("text-too-long", length=len(body), limit=TOO_LONG)
    if (word := optout.read(body)) is not None:
        # A text that is a gateway word alone is acted on by the network, at our end or at theirs.
        raise Problem("text-reserved", word=body.strip()[:20], kind=word)
    templates.parse(body)


# -- inside ------------------------------------------------------------------------------------------------------------


def _texts(tx: Transaction, number: int) -> dict[str, str]:
    return {row.language: row.text for row in tx.execute(_TEXTS, {"number": number})}


class _Content(NamedTuple):
    """What a broadcast says to whom: its words by language, the language of whoever has no better one, and since when."""

    number: int
    texts: tuple[tuple[str, str], ...]
    language: str
    frozen_at: datetime


def _content(tx: Transaction, number: int) -> _Content:
    frozen = tx.execute(_LANGUAGE_AND_FREEZING, {"number": number}).one()
    return _Content(number, tuple(_texts(tx, number).items()), frozen.language, frozen.frozen_at)


def _recipients(
    rules: Rules, content: _Content, *, after: audience.Bound = None, upto: audience.Bound = None
) -> Select[Any]:
    """Each case of the audience with its words, its gateway and the reason to skip it, or NULL.

    This is the one definition, which the preview counts and the expansion writes.
    """
    number, frozen_at = content.number, content.frozen_at
    whom = audience.of(number, after=after, upto=upto)
    texted_already = exists().where(
        _written.c.broadcast_id == number,
        _written.c.phone == cases.c.contact_phone_number,
        _written.c.state != "withheld",
    )
    same_phone = exists().where(
        _twin.c.contact_phone_number == cases.c.contact_phone_number,
        _twin.c.status == "open",
        ~_has_no_gateway(rules, _twin),
        audience.is_in(_twin.c.id, number),
        or_(and_(_twin.c.two_way, ~cases.c.two_way), and_(_twin.c.two_way == cases.c.two_way, _twin.c.id < cases.c.id)),
    )
    language = _by_language({name: literal(name, Text()) for name, _ in content.texts}, content.language)
    body = _by_language({name: _body(words) for name, words in content.texts}, content.language)
    said_start = exists().where(
        consent_events.c.phone == cases.c.contact_phone_number,
        consent_events.c.kind == "start",
        consent_events.c.at > frozen_at,
    )
    said = consent.said_last(cases.c.contact_phone_number)
    reason = case(
        (whom.c.stays == 0, "left"),
        (cases.c.status == "closed", "closed"),
        (cases.c.contact_phone_number.is_(None), "no-number"),
        (said.in_(consent.HOLDING), case((said == "doubt", "doubt"), else_="stopped")),
        (_has_no_gateway(rules, cases), "gateway-unknown"),
        (or_(cases.c.modified_at > frozen_at, said_start), "changed"),
        (func.trim(body) == "", "text-blank"),
        (func.length(body) > TOO_LONG, "text-too-long"),
        (or_(same_phone, texted_already), "same-phone"),
        else_=null(),
    )
    return (
        select(
            cases.c.id.label("case_id"),
            cases.c.contact_phone_number.label("phone"),
            cases.c.time_zone,
            language.label("language"),
            body.label("body"),
            routing.by_case(rules, cases).label("gateway"),
            reason.label("reason"),
        )
        .join(whom, whom.c.case_id == cases.c.id)
        .order_by(cases.c.id)
    )


def _has_no_gateway(rules: Rules, whose: FromClause) -> ColumnElement[bool]:
    """Whether a case is set to a gateway that this programme does not have."""
    if not rules.gateways:
        return literal(False, Boolean())
    return routing.by_case(rules, whose).not_in(sorted(rules.gateways))


def _verdicts(tx: Transaction, number: int) -> Sequence[Row[Any]]:
    each = _recipients(tx.rules, _content(tx, number)).order_by(None).subquery()
    return tx.execute(select(each.c.reason, func.count().label("n")).group_by(each.c.reason)).all()


def _by_language(each: Mapping[str, ColumnElement[str]], default: str) -> ColumnElement[str]:
    """What goes with the language that a case reads: its own, else its base (`pt-BR` reads `pt`), else the default."""
    if len(each) == 1:
        return each[default]
    code = func.lower(func.coalesce(cases.c.language_code, ""))
    exactly = [(code == name.lower(), what) for name, what in each.items()]
    by_base = [(code.like(f"{name.lower()}-%"), what) for name, what in each.items()]
    return case(*exactly, *by_base, else_=each[default])


def _body(words: str) -> ColumnElement[str]:
    """A text with its fields, as one SQL concatenation: rendered in the set, and no value is ever rendered again."""
    body: ColumnElement[str] = literal("", Text())
    for part in templates.parse(words):
        if isinstance(part, str):
            body = body.concat(part)
        else:
            body = body.concat(
                func.coalesce(case((func.trim(cases.c[part.name]) != "", cases.c[part.name])), part.default)
            )
    return body


def _due(
    rules: Rules, hold_until: datetime, send_at: str | None, zone: ColumnElement[Any], zones: Iterable[str]
) -> tuple[ColumnElement[datetime], ...]:
    """When each recipient's message may leave and when it dies, by the recipient's own zone.

    After the hold, or at the broadcast's time as that zone's clock shows it, in the hours of the day.  A case without a
    zone goes by the programme's clock, and the gate reads the zones of its number.
    """
    at = None if send_at is None else datetime.fromisoformat(send_at)

    def leaves(name: str) -> datetime:
        return hold_until if at is None else max(hold_until, quiet_hours.instant(at, name))

    base = leaves(rules.time_zone)
    waves = {name: leaves(name) for name in zones}
    due = [(zone == name, quiet_hours.next_allowed(from_, (name,), rules.hours)) for name, from_ in waves.items()]
    life = timedelta(hours=rules.expiry_h)
    dies = [(zone == name, from_ + life) for name, from_ in waves.items()]
    return _moment(due, base), _moment(dies, base + life)


def _moment(waves: Sequence[tuple[ColumnElement[bool], datetime]], base: datetime) -> ColumnElement[datetime]:
    otherwise = literal(base, Moment())
    return case(*((zone, literal(at, Moment())) for zone, at in waves), else_=otherwise) if waves else otherwise


def _zones_of(tx: Transaction, number: int) -> set[str]:
    """The zones by which recipients go: their own, or the programme's."""
    return _valid_zones(tx, tx.execute(_ALL_ZONES, {"number": number}).scalars())


def _valid_zones(tx: Transaction, named: Iterable[str | None]) -> set[str]:
    return {name if name and quiet_hours.valid_zone(name) else tx.rules.time_zone for name in named}


def _count(tx: Transaction, number: int) -> None:
    """Write down how many it is for, and how many of them can be texted."""
    counted = {row.reason: row.n for row in _verdicts(tx, number)}
    counts = {"recipients": sum(counted.values()), "sendable": counted.get(None, 0)}
    tx.execute(update(broadcasts).where(broadcasts.c.id == number).values(**counts))


def _freeze(tx: Transaction, number: int) -> None:
    """Let the recipients be those of this moment."""
    newest = tx.scalar(select(func.coalesce(func.max(memberships.c.id), 0)))
    of_it = broadcast_audience.c.broadcast_id == number
    tx.execute(update(broadcast_audience).where(of_it).values(frozen_at=tx.now))
    of_groups = and_(of_it, broadcast_audience.c.group_id.is_not(None))
    tx.execute(update(broadcast_audience).where(of_groups).values(frozen_through=newest))
    _count(tx, number)
