"""The rules by which a text to many goes, at whichever door it is asked for: once, as it was shown, and by two where it is large.

Here stands what must hold everywhere: the same wish twice is one broadcast, what was shown is what goes, a word that
others should not read is looked at, a large one has a second lead, one person texts single cases at most so often, and
one with an hour of its own is asked about again when its group has grown by then.  `broadcasts/broadcasts.py` writes it down and
lets it go.

`ask` and `confirm` are for a door where people have signed in; a phone has codes instead (`ok 482193`), which the bot
checks before it calls `go` or `wait_for_second`.  Whoever waits for a second lead, the worker asks the others by text
(`unasked`): a page sends nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Literal

from sqlalchemy import Row, exists, select

from storage.audit import Actor
from storage.broadcasts import broadcasts, content, previews, progress, states
from storage.broadcasts.recipients import freeze
from storage.contacts import people
from storage.database import Transaction
from storage.errors import Problem
from storage.messages import staff
from storage.operations import confirmations, operations, replies
from storage.rules import sensitive_words
from storage.schema import codes
from storage.schema import operations as operations_table

SINGLE_TEXTS_AN_HOUR = 30
TRIES_AN_HOUR = 20
TWIN = timedelta(hours=1)
"""Within it somebody else's broadcast to the same group is told of."""

Went = Literal["going", "seconding"]


# -- at every door -----------------------------------------------------------------------------------------------------


def same_wish(tx: Transaction, person_id: int | None, words: str) -> tuple[Row[Any], Literal["waits", "runs"]] | None:
    """What this person asked for in these very words within ten minutes, and whether it waits or runs, or ran.

    None where it was dropped: after a halt too the same words are a new wish.
    """
    same = operations.with_same_words(tx, person_id, words, kind="tell")
    if same is None:
        return None
    state = content.broadcast(tx, same.id).state
    if same.state == "waiting" and state == "previewed" and same.expires_at > tx.now:
        return same, "waits"
    if same.state == "seconding" or (same.state == "done" and state in (*states.RUNNING, "done")):
        return same, "runs"
    return None


def check_hour(tx: Transaction, at: datetime) -> None:
    """Raise Problem `time-quiet` for a wall-clock time at which nobody may be texted."""
    if (hours := tx.rules.hours) is not None and not hours.holds(at.time()):
        raise Problem("time-quiet", time=f"{at:%H:%M}", opens=f"{hours.opens:%H:%M}", closes=f"{hours.closes:%H:%M}")


def refuse_if_late(tx: Transaction, number: int) -> None:
    """Raise Problem `time-past` where the time of a broadcast that waits is over for some by now."""
    row = content.broadcast(tx, number)
    if row.state == "previewed" and row.send_at is not None:
        at = datetime.fromisoformat(row.send_at)
        if (zone := previews.past_in(tx, number, at)) is not None:
            raise Problem("time-past", time=f"{at:%H:%M}", zone=zone)


def may_text_single(tx: Transaction, person_id: int | None) -> None:
    """Raise Problem `tell-too-many` for one who texted too many single people within an hour; the system's own user may."""
    if person_id is not None and are_many_singles(tx, person_id):
        raise Problem("tell-too-many", count=SINGLE_TEXTS_AN_HOUR)


def are_many_singles(tx: Transaction, person_id: int) -> bool:
    """Whether a person has texted as many single people within an hour as go without a code."""
    hour = tx.now - timedelta(hours=1)
    texts = progress.count_texts(tx, person_id, hour) + operations.count(tx, person_id, "invite", hour)
    return texts >= SINGLE_TEXTS_AN_HOUR


def to_look_at(tx: Transaction, texts: Sequence[str]) -> list[str]:
    """The words of a text, in whatever language, that somebody should look at twice."""
    return sensitive_words.found_in(texts, tx.rules.health_words)


def twin(tx: Transaction, number: int) -> Row[Any] | None:
    """Somebody else's broadcast to one of the same groups within the hour: two people may have had the same idea."""
    return previews.twin(tx, number, tx.now - TWIN)


def needs_second(tx: Transaction, row: Row[Any]) -> bool:
    """Whether a broadcast is too large for the ok of one person."""
    return bool(row.sendable > tx.rules.second_person_above)


def wait_for_second(tx: Transaction, number: int, *, by: Actor) -> None:
    """A large broadcast has one ok: it waits for a second lead, fifteen minutes."""
    operations.decide(tx, number, "seconding", by=by)


def go(tx: Transaction, number: int, *, by: Actor) -> None:
    """Let a broadcast go that has as many oks as it needs, or needs none."""
    row, asked = content.broadcast(tx, number), operations.operation(tx, number)
    if asked is not None and operations.decide(tx, number, "done", by=by):
        broadcasts.launch(tx, number, hold_s=holds_s(tx, row), by=by)
        if (reply := asked.request.get("answers")) is not None:
            replies.close(tx, reply)


def holds_s(tx: Transaction, row: Row[Any]) -> int:
    """How many seconds a broadcast is held before the first text leaves: a text to one person is not."""
    return 0 if row.kind == "text" and row.send_at is None else tx.rules.hold_s


def begin(tx: Transaction, number: int, *, by: Actor) -> bool:
    """The hour of a broadcast has come: True if it begins, for those who are in its groups now.

    False where its group has grown beyond the one ok that it had: then it waits for a second lead.
    """
    freeze(tx, number)
    row = content.broadcast(tx, number)
    had_second = len(confirmations.of(tx, number)) > 1
    if had_second or not needs_second(tx, row):
        states.move(tx, number, "expanding", came_from=("scheduled",))
        return True
    broadcasts.hold_back(tx, number)
    wait_for_second(tx, number, by=by)
    return False


def unasked(tx: Transaction) -> list[int]:
    """The broadcasts that wait for a second lead of whom nobody was texted yet."""
    told = exists().where(
        codes.c.operation_id == operations_table.c.id,
        codes.c.person_id.is_distinct_from(operations_table.c.person_id),
        # An earlier question, before its hour, is over: each has fifteen minutes from when it was asked.
        codes.c.expires_at >= operations_table.c.expires_at,
    )
    waits = (operations_table.c.kind == "tell", operations.is_waiting("seconding"))
    query = select(operations_table.c.id).where(*waits, operations_table.c.expires_at > tx.now, ~told)
    return list(tx.execute(query.order_by(operations_table.c.id)).scalars())


# -- where people have signed in ---------------------------------------------------------------------------------------


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

    Its recipients are those of this moment.  Raises the Problems of `previews.draft` and `amend`, `broadcast-twice` where
    the same went within ten minutes, and `time-quiet` for a time at which nobody may be texted.
    """
    tx.alone("tell")
    if send_at is not None:
        check_hour(tx, send_at)
    wish = [dict(texts), sorted(group_ids), sorted(case_ids), fixes, send_at.isoformat() if send_at else None]
    words = f"{by.door}:{hashlib.sha256(json.dumps(wish, sort_keys=True).encode()).hexdigest()[:24]}"
    if (same := same_wish(tx, by.person_id, words)) is not None:
        operation, is_now = same
        if is_now == "runs":
            raise Problem("broadcast-twice", number=operation.id)
        previews.amend(tx, operation.id)
        return int(operation.id)
    number = previews.draft(tx, texts, group_ids=group_ids, case_ids=case_ids, fixes=fixes, words=words, by=by)
    if send_at is not None:
        previews.amend(tx, number, send_at=send_at)
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
    operation, row = operations.operation(tx, number), content.broadcast(tx, number)
    assert operation is not None
    if operation.state == "done" and row.state in (*states.RUNNING, "done"):
        return "going"
    is_second = operation.state == "seconding"
    if not is_second and (operation.person_id, operation.door) != (by.person_id, by.door):
        raise Problem("broadcast-unknown", number=number)  # somebody else's wish, or one that a phone's code confirms
    if is_second and by.person_id in {ok.person_id for ok in confirmations.of(tx, number)}:
        return "seconding"
    if operation.state not in ("waiting", "seconding") or row.state != "previewed" or operation.expires_at <= tx.now:
        raise Problem("broadcast-decided", number=number)
    if is_second and not _is_lead(tx, by):
        raise Problem("second-person", number=number)
    _refuse_unless_seen(tx, row, count, looked=looked)
    refuse_if_late(tx, number)
    if not is_second:
        if row.kind == "text":
            may_text_single(tx, by.person_id)
        if needs_second(tx, row):
            if not [lead for lead in people.leads(tx) if lead.id != by.person_id]:
                raise Problem("broadcast-no-other-lead", number=number, limit=tx.rules.second_person_above)
            confirmations.add(tx, number, by=by)
            wait_for_second(tx, number, by=by)
            return "seconding"
    confirmations.add(tx, number, by=by)
    go(tx, number, by=by)
    return "going"


def try_on(tx: Transaction, person: Row[Any], body: str, *, by: Actor) -> None:
    """Send a person a text on their own phone, as those it is for would read it.

    Raises Problem `try-stopped` where that phone said STOP, or may have, and `try-too-many` beyond so many an hour.
    """
    reachable = staff.reachable(tx, [person.id])
    if not reachable:
        raise Problem("try-stopped")
    if operations.count(tx, person.id, "try", tx.now - timedelta(hours=1)) >= TRIES_AN_HOUR:
        raise Problem("try-too-many", count=TRIES_AN_HOUR)
    operations.note(tx, "try", words="", undoes=None, by=by)
    staff.queue(tx, reachable[0], body)


def _refuse_unless_seen(tx: Transaction, row: Row[Any], count: int, *, looked: bool) -> None:
    """What goes is what was shown: to so many, with these words, and to nobody who was not shown."""
    if not row.sendable:
        raise Problem("broadcast-nobody-here")
    if count != row.sendable:
        raise Problem("count-otherwise", count=row.sendable)
    if previews.has_changed(tx, row.id):
        raise Problem("broadcast-changed", number=row.id)
    if not looked and (words := to_look_at(tx, list(content.texts_of(tx, row.id).values()))):
        raise Problem("look-twice", words=", ".join(words))


def _is_lead(tx: Transaction, by: Actor) -> bool:
    row = people.by_id(tx, by.person_id)
    return row is not None and people.may(row, "lead")
