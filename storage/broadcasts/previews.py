"""A broadcast before it is confirmed: drafted, looked at, worded again, and compared with what was shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    Row,
    delete,
    func,
    insert,
    or_,
    select,
    update,
)

from storage.audit import Actor
from storage.broadcasts.broadcasts import put_away_expired
from storage.broadcasts.content import broadcast, channel_of, check_text, content_of, texts_of
from storage.broadcasts.recipients import freeze, recount, select_recipients, verdicts, zones_of
from storage.broadcasts.states import OPEN
from storage.database import Transaction
from storage.errors import Problem
from storage.lately import first_since
from storage.messages import audience
from storage.operations import operations
from storage.rules import quiet_hours, templates
from storage.rules.channels import SMS, Channel, Cost
from storage.schema import (
    broadcast_audience,
    broadcast_texts,
    broadcasts,
    cases,
    memberships,
)
from storage.schema import operations as operations_table


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


def draft(
    tx: Transaction,
    texts: Mapping[str, str],
    *,
    group_ids: Sequence[int] = (),
    case_ids: Sequence[int] = (),
    fixes: int | None = None,
    answers: int | None = None,
    channel: Channel = SMS,
    words: str = "",
    message_id: int | None = None,
    by: Actor,
) -> int:
    """Write a broadcast down with its words and whom it is for, not yet confirmed; returns its number.

    `texts` is by language; the programme's language, or else the first, serves whoever has no better one.  `fixes` is the
    broadcast that this one corrects, `answers` the reply that it answers.  Raises Problem `text-blank`, `text-too-long`, `text-reserved`, `field-unknown` or `brace-stray`.
    """
    for body in texts.values():
        check_text(body, channel)
    language = tx.rules.language if tx.rules.language in texts else next(iter(texts))
    kind = "text" if case_ids and not group_ids and len(case_ids) == 1 else "broadcast"
    request: dict[str, Any] = {"texts": dict(texts), "groups": list(group_ids), "cases": list(case_ids)}
    if fixes is not None:
        request["fixes"] = fixes
    if answers is not None:
        request["answers"] = answers
    if channel is not SMS:
        request["channel"] = channel.name
    number = operations.ask(
        tx, "tell", words=words, request=request,
        group_id=group_ids[0] if group_ids else None, message_id=message_id, by=by,
    )  # fmt: skip
    tx.execute(
        insert(broadcasts),
        {"id": number, "state": "previewed", "kind": kind, "language": language, "recipients": 0, "sendable": 0},
    )
    same = {"broadcast_id": number, "channel": channel.name}
    tx.execute(insert(broadcast_texts), [{**same, "language": k, "text": t} for k, t in texts.items()])
    newest = tx.scalar(select(func.coalesce(func.max(memberships.c.id), 0)))
    whom = [{"group_id": g, "case_id": None, "frozen_through": newest, "frozen_at": tx.now} for g in group_ids]
    whom += [{"group_id": None, "case_id": c, "frozen_through": None, "frozen_at": tx.now} for c in case_ids]
    tx.execute(insert(broadcast_audience), [{"broadcast_id": number, **row} for row in whom])
    put_away_expired(tx)  # where one too many waited, the oldest has lapsed
    recount(tx, number)
    return number


def draft_again(tx: Transaction, number: int, *, message_id: int | None, by: Actor) -> int:
    """The same words to the same groups and cases once more, as a new broadcast to be previewed; returns its number."""
    asked = operations.operation(tx, number)
    assert asked is not None
    request = asked.request
    fresh = draft(
        tx, request["texts"], group_ids=request["groups"], case_ids=request["cases"], fixes=request.get("fixes"),
        answers=request.get("answers"), channel=channel_of(tx, number), words=asked.words, message_id=message_id, by=by,
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
        channel = channel_of(tx, number)
        check_text(body, channel)
        request["texts"] = {**request["texts"], language: body}
        own = {"broadcast_id": number, "channel": channel.name, "language": language}
        tx.execute(delete(broadcast_texts).where(*(broadcast_texts.c[name] == value for name, value in own.items())))
        tx.execute(insert(broadcast_texts), {**own, "text": body})
    if send_at is not None:
        if (zone := past_in(tx, number, send_at)) is not None:
            raise Problem("time-past", time=f"{send_at:%H:%M}", zone=zone)
        request["send_at"] = send_at.isoformat(timespec="minutes")
        tx.execute(update(broadcasts).where(broadcasts.c.id == number).values(send_at=request["send_at"]))
    operations.change_request(tx, number, request)
    freeze(tx, number)


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
            broadcasts.c.state.in_((*OPEN, "done")),
        )
    )
    return tx.execute(query.order_by(other.c.id.desc()).limit(1)).first()


def has_changed(tx: Transaction, number: int) -> bool:
    """Whether somebody would get it now who was not shown so in the preview: another number, a START since.

    A list that only shrank has not changed.
    """
    return any(row.reason == "changed" for row in verdicts(tx, number))


def preview(tx: Transaction, number: int, *, language: str | None = None) -> Preview:
    """Who would get a broadcast, who not and why, and three real renderings: of one language, if it is named."""
    skipped = {row.reason: row.n for row in verdicts(tx, number) if row.reason is not None}
    recipients = broadcast(tx, number).sendable
    content = content_of(tx, number)
    query = select_recipients(tx.rules, content)
    sendable = query.where(query.selected_columns.reason.is_(None))
    texts = texts_of(tx, number)
    shown = sendable if language is None else sendable.where(query.selected_columns.language == language)
    unread = list(texts.values()) if language is None else [texts[language]]
    samples = [row.body for row in tx.execute(shown.limit(3))] or unread
    if any(not isinstance(part, str) for words in texts_of(tx, number).values() for part in templates.parse(words)):
        # With names in it the dearest are among the longest, and among those with letters that force Unicode.
        body = query.selected_columns.body
        longest = sendable.order_by(None).order_by(func.length(body).desc()).limit(5)
        foreign = longest.where(func.octet_length(body) > func.length(body))
        priced = [*samples, *(row.body for each in (longest, foreign) for row in tx.execute(each))]
    else:
        priced = [*samples, *texts_of(tx, number).values()]
    dearest = max((content.channel.count(text) for text in priced), key=lambda s: (s.parts, s.forced_by or ""))
    languages = _count_languages(tx, number) if len(texts) > 1 else {next(iter(texts)): recipients}
    return Preview(number, recipients, skipped, dearest.parts, dearest.forced_by, samples, languages)


def _count_languages(tx: Transaction, number: int) -> dict[str, int]:
    """How many would read it in which language."""
    each = select_recipients(tx.rules, content_of(tx, number)).order_by(None).subquery()
    counted = select(each.c.language, func.count().label("n")).where(each.c.reason.is_(None)).group_by(each.c.language)
    return {row.language: row.n for row in tx.execute(counted.order_by(func.count().desc()))}


def past_in(tx: Transaction, number: int, send_at: datetime) -> str | None:
    """A zone of some recipients in which this wall-clock time is over; None if it is still to come for all."""
    return next((zone for zone in sorted(zones_of(tx, number)) if quiet_hours.instant(send_at, zone) < tx.now), None)


def count_readers(tx: Transaction, number: int, language: str) -> int:
    """How many recipients would read a text in this language, if there were one."""
    whom = audience.of(number)
    code = func.lower(func.coalesce(cases.c.language_code, ""))
    reads = or_(code == language.lower(), code.like(f"{language.lower()}-%"))
    return int(tx.scalar(select(func.count()).select_from(cases).join(whom, whom.c.case_id == cases.c.id).where(reads)))


def dearest(tx: Transaction, number: int, language: str) -> Cost:
    """What the dearest rendering of one language costs: among the longest, and those with letters that force Unicode."""
    content = content_of(tx, number)
    query = select_recipients(tx.rules, content)
    column = query.selected_columns
    mine = query.where(column.reason.is_(None), column.language == language)
    longest = mine.order_by(None).order_by(func.length(column.body).desc()).limit(5)
    foreign = longest.where(func.octet_length(column.body) > func.length(column.body))
    bodies = [row.body for each in (longest, foreign) for row in tx.execute(each)] or [texts_of(tx, number)[language]]
    return max((content.channel.count(body) for body in bodies), key=lambda s: (s.parts, s.forced_by or ""))
