"""The rules by which a broadcast goes at a door where people have signed in: asked for, looked at, confirmed, once.

The phone has codes instead (`ok 482193`); what must hold is the same: what was shown is what goes, the same wish twice
is one broadcast, a word that others should not read is looked at, a large one has a second lead, and one person texts
single cases at most so often.  `broadcasts.py` writes it down and lets it go.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Literal

from sqlalchemy import Row

from storage import broadcasts, cautions, consent, messages, operations, people
from storage.audit import Actor
from storage.database import Transaction
from storage.errors import Problem

SINGLE_TEXTS_AN_HOUR = 30
TRIES_AN_HOUR = 20
TWIN = timedelta(hours=1)
"""Within it somebody else's broadcast to the same group is told of."""

Went = Literal["going", "seconding"]


def ask(
    tx: Transaction,
    texts: Mapping[str, str],
    *,
    group_ids: Sequence[int] = (),
    case_ids: Sequence[int] = (),
    fixes: int | None = None,
    send_at: datetime | None = None,
    by: Actor,
) -> int:
    """Write down what a person wishes to send, and return its number; the same wish within ten minutes is the same number.

    Its recipients are those of this moment.  Raises the Problems of `broadcasts.draft` and `amend`, `broadcast-twice` where
    the same went within ten minutes, and `time-quiet` for a time at which nobody may be texted.
    """
    tx.alone("tell")
    if send_at is not None and (hours := tx.rules.hours) is not None and not hours.holds(send_at.time()):
        opens, closes = f"{hours.opens:%H:%M}", f"{hours.closes:%H:%M}"
        raise Problem("time-quiet", time=f"{send_at:%H:%M}", opens=opens, closes=closes)
    wish = [dict(texts), sorted(group_ids), sorted(case_ids), fixes, send_at.isoformat() if send_at else None]
    words = f"{by.door}:{hashlib.sha256(json.dumps(wish, sort_keys=True).encode()).hexdigest()[:24]}"
    same = operations.with_same_words(tx, by.person_id, words, kind="tell")
    if same is not None:
        state = broadcasts.broadcast(tx, same.id).state
        if same.state == "waiting" and state == "previewed" and same.expires_at > tx.now:
            broadcasts.amend(tx, same.id)
            return int(same.id)
        if same.state == "seconding" or (same.state == "done" and state in ("expanding", "sending", "done")):
            raise Problem("broadcast-twice", number=same.id)
    number = broadcasts.draft(tx, texts, group_ids=group_ids, case_ids=case_ids, fixes=fixes, words=words, by=by)
    if send_at is not None:
        broadcasts.amend(tx, number, send_at=send_at)
    return number


def drop(tx: Transaction, number: int, *, by: Actor) -> None:
    """Put away what this person wished and did not confirm; anything else stays as it is."""
    row = operations.operation(tx, number)
    if row is not None and row.kind == "tell" and row.state == "waiting" and row.person_id == by.person_id:
        broadcasts.drop(tx, number)
        operations.decide(tx, number, "dropped", by=by)


def confirm(tx: Transaction, number: int, *, count: int, looked: bool = False, by: Actor) -> Went:
    """Let a broadcast go that was looked at, or ask for a second lead where it is large; a second time changes nothing.

    `count` is how many people the person said it goes to, `looked` that its words were looked at twice.  Raises Problem
    `broadcast-unknown`, `broadcast-decided` if it does not wait any more, `broadcast-changed` where somebody would get it
    who was not shown so, `count-otherwise`, `broadcast-nobody-here`, `look-twice`, `time-past`, `tell-too-many`,
    `broadcast-no-other-lead` and `second-person` where the second is the first again, or no lead.
    """
    tx.alone("tell")
    operation, row = operations.operation(tx, number), broadcasts.broadcast(tx, number)
    assert operation is not None
    if operation.state == "done" and row.state in ("expanding", "sending", "done"):
        return "going"
    is_second = operation.state == "seconding"
    if not is_second and (operation.person_id, operation.door) != (by.person_id, by.door):
        raise Problem("broadcast-unknown", number=number)  # somebody else's wish, or one that a phone's code confirms
    if is_second and operation.person_id == by.person_id:
        return "seconding"
    if operation.state not in ("waiting", "seconding") or row.state != "previewed" or operation.expires_at <= tx.now:
        raise Problem("broadcast-decided", number=number)
    if is_second and not _is_lead(tx, by):
        raise Problem("second-person", number=number)
    if not row.sendable:
        raise Problem("broadcast-nobody-here")
    if count != row.sendable:
        raise Problem("count-otherwise", count=row.sendable)
    if broadcasts.has_changed(tx, number):
        raise Problem("broadcast-changed", number=number)
    if (words := to_look_at(tx, number)) and not looked:
        raise Problem("look-twice", words=", ".join(words))
    _in_time(tx, row)
    if not is_second:
        _not_too_many(tx, row, by)
        if row.sendable > tx.rules.second_person_above:
            if not [lead for lead in people.leads(tx) if lead.id != by.person_id]:
                raise Problem("broadcast-no-other-lead", number=number, limit=tx.rules.second_person_above)
            operations.decide(tx, number, "seconding", by=by)
            return "seconding"
    operations.decide(tx, number, "done", by=by)
    broadcasts.launch(tx, number, hold_s=holds_s(tx, row), by=by)
    return "going"


def holds_s(tx: Transaction, row: Row[Any]) -> int:
    """How many seconds a broadcast is held before the first text leaves: a text to one person is not."""
    return 0 if row.kind == "text" and row.send_at is None else tx.rules.hold_s


def to_look_at(tx: Transaction, number: int) -> list[str]:
    """The words of a broadcast that somebody should look at twice, in whatever language they stand."""
    return cautions.found_in(broadcasts.texts_of(tx, number).values(), tx.rules.health_words)


def try_on(tx: Transaction, person: Row[Any], body: str, *, by: Actor) -> None:
    """Send a person a text on their own phone, as those it is for would read it.

    Raises Problem `try-stopped` where that phone said STOP, and `try-too-many` beyond so many an hour.
    """
    if not consent.may_text(tx, person.phone):
        raise Problem("try-stopped")
    if operations.count(tx, person.id, "try", tx.now - timedelta(hours=1)) >= TRIES_AN_HOUR:
        raise Problem("try-too-many", count=TRIES_AN_HOUR)
    operations.note(tx, "try", words="", undoes=None, by=by)
    messages.queue(tx, person.phone, body, "notice", person_id=person.id)


def _is_lead(tx: Transaction, by: Actor) -> bool:
    row = people.by_id(tx, by.person_id)
    return row is not None and people.may(row, "lead")


def _in_time(tx: Transaction, row: Row[Any]) -> None:
    if row.send_at is not None:
        at = datetime.fromisoformat(row.send_at)
        if (zone := broadcasts.past_in(tx, row.id, at)) is not None:
            raise Problem("time-past", time=f"{at:%H:%M}", zone=zone)


def _not_too_many(tx: Transaction, row: Row[Any], by: Actor) -> None:
    if row.kind != "text" or by.person_id is None:
        return
    hour = tx.now - timedelta(hours=1)
    texts = broadcasts.count_texts(tx, by.person_id, hour) + operations.count(tx, by.person_id, "invite", hour)
    if texts >= SINGLE_TEXTS_AN_HOUR:
        raise Problem("tell-too-many", count=SINGLE_TEXTS_AN_HOUR)
