"""What others told and deleted, texted to the leads at most once an hour.

Only in the hours of the day, only when there was something, and never about a lead's own acts.  It ends with the head of
the audit log: whoever keeps it can show later that the log was not cut (`jumbe audit verify --head`).
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import Row

from bot.replies import Sentences, names, sentences, shorten
from storage import audit, broadcasts, consent, groups, messages, operations, people, schedules
from storage.database import Database, Transaction

EVERY = timedelta(hours=1)
KINDS = ("tell", "ask", "delete")
HEAD = 12
"""Digits of the head: enough to find the line by, short enough to be copied."""


def tell_leads(db: Database) -> bool:
    """Text the digest if an hour has passed since the last one; returns whether there was anything to tell."""
    with db.reading() as tx:
        if not _is_time(tx):
            return False
    with db.transaction() as tx:
        since = operations.digested_at(tx)
        if not _is_time(tx) or not operations.mark_digested(tx, since):
            return False
        return since is not None and _tell(tx, since, operations.decided_since(tx, KINDS, since))


def _is_time(tx: Transaction) -> bool:
    since = operations.digested_at(tx)
    if not tx.rules.digest or (since is not None and tx.now < since + EVERY):
        return False
    return schedules.next_allowed(tx.now, (tx.rules.time_zone,), tx.rules.hours) <= tx.now


def _tell(tx: Transaction, since: datetime, done: list[Row[Any]]) -> bool:
    told_any = False
    head = audit.head(tx)
    for lead in people.leads(tx):
        of_others = [row for row in done if row.person_id != lead.id]
        if of_others and consent.may_text(tx, lead.phone):
            told = sentences(lead.language_code or tx.rules.language)
            values = {
                "time": f"{since.astimezone(ZoneInfo(tx.rules.time_zone)):%H:%M}",
                "did": names(_shown(tx, told, row) for row in of_others),
                "head": head[1][:HEAD] if head is not None else "-",
            }
            messages.queue(tx, lead.phone, told.say(("digest", values)), "notice", person_id=lead.id)
            told_any = True
    return told_any


def _shown(tx: Transaction, told: Sentences, row: Row[Any]) -> str:
    """One act: who, what, for whom, and the number to ask by."""
    shorts = [group.short for group in broadcasts.groups_of(tx, row.id)] if row.kind != "delete" else []
    if row.kind == "delete" and row.group_id is not None:
        shorts = [groups.short_of(tx, row.group_id)]
    values = {
        "person": shorten(people.named(tx, row.person_id), 20),
        "group": ", ".join(shorts) or told.say(("one-person", {})),
        "number": row.id,
    }
    return told.say((f"digest-{'delete' if row.kind == 'delete' else 'tell'}", values))
