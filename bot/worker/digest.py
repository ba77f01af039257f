"""What others told and deleted, texted to the leads at most once an hour.

Only in the hours of the day, only when there was something, and never about a lead's own acts.  It ends with the head of
the audit log: whoever keeps it can show later that the log was not cut (`jumbe audit verify --head`).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import Row

from bot import notices
from bot.replies import Sentences, names, shorten
from storage import audit
from storage.broadcasts import content, progress
from storage.contacts import groups, people
from storage.database import Database, Transaction
from storage.messages import staff
from storage.operations import operations
from storage.rules import quiet_hours

EVERY = timedelta(hours=1)
VERBS = ("broadcasts.launch", "groups.delete")
HEAD = 12
"""Digits of the head: enough to find the line by, short enough to be copied."""


def send(db: Database) -> bool:
    """Text the digest if an hour has passed since the last one; returns whether there was anything to tell."""
    with db.reading() as tx:
        if not _is_time(tx):
            return False
    with db.transaction() as tx:
        # The log is written one line at a time, so no line comes in before one that was told of.
        tx.alone("audit")
        before, head = operations.digested(tx), audit.head(tx)
        if not _is_time(tx) or not operations.mark_digested(tx, before, head.id if head is not None else 0):
            return False
        if before.digested_through is None or head is None:
            return False
        lines = audit.list_since(tx, before.digested_through, VERBS)
        return _tell(tx, before.digested_at, head.hash[:HEAD], [_Act.of(tx, line) for line in lines])


def _is_time(tx: Transaction) -> bool:
    since = operations.digested(tx).digested_at
    if not tx.rules.digest or (since is not None and tx.now < since + EVERY):
        return False
    return quiet_hours.next_allowed(tx.now, (tx.rules.time_zone,), tx.rules.hours) <= tx.now


@dataclass(frozen=True, slots=True)
class _Act:
    """One thing that was done: who asked for it, what, to which groups, the number to ask by."""

    person_id: int | None
    verb: str
    group: str
    count: int
    number: int | None

    @classmethod
    def of(cls, tx: Transaction, line: Row[Any]) -> _Act:
        if line.verb == "groups.delete":
            return cls(
                line.person_id,
                "delete",
                groups.short_of(tx, line.subject_id),
                0,
                operations.of_group(tx, "delete", line.subject_id),
            )
        asked = operations.operation(tx, line.subject_id)
        shorts = ", ".join(group.short for group in progress.groups_of(tx, line.subject_id))
        sendable = content.broadcast(tx, line.subject_id).sendable
        return cls(asked.person_id if asked is not None else None, "tell", shorts, sendable, line.subject_id)


def _tell(tx: Transaction, since: datetime, head: str, done: list[_Act]) -> bool:
    is_told = False
    for lead in staff.reachable_leads(tx):
        if of_others := [act for act in done if act.person_id != lead.id]:
            notices.tell(tx, lead, "digest", partial(_values, tx, since, head, of_others))
            is_told = True
    return is_told


def _values(tx: Transaction, since: datetime, head: str, done: list[_Act], language: Sentences) -> dict[str, Any]:
    return {
        "time": f"{since.astimezone(ZoneInfo(tx.rules.time_zone)):%H:%M}",
        "did": names(_act_shown(tx, language, act) for act in done),
        "head": head,
    }


def _act_shown(tx: Transaction, language: Sentences, act: _Act) -> str:
    """One act: who, what, for whom, and the number to ask by."""
    whom = act.group or language.say(("one-person", {}) if act.count == 1 else ("people", {"count": act.count}))
    values = {"person": shorten(people.named(tx, act.person_id), 20), "group": whom, "number": act.number}
    return language.sentences[f"digest-{act.verb}"].format_map(values)
