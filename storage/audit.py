"""Who did what, when, through which door: one table, each row carrying the hash of the one before.

The chained row holds nothing personal, so that erasing a person never breaks the chain; what changed, row by row,
stands in `audit_changes`, and the chained row holds its digest.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Any

from sqlalchemy import insert, select

from storage.database import Transaction, insert_many
from storage.schema import audit, audit_changes

FIRST = "0" * 64


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts: a person, or the system's own user where `person_id` is None; through which door; from what."""

    door: str
    person_id: int | None = None
    source: str | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """One row that changed: only the columns that did, before and after."""

    subject: str
    subject_id: int
    before: Mapping[str, Any]
    after: Mapping[str, Any]


_OF_A_CHANGE = ("position", "subject", "subject_id", "before", "after")
_LAST = select(audit.c.hash).order_by(audit.c.id.desc()).limit(1)
_INSERT = insert(audit).returning(audit.c.id)


def record(
    tx: Transaction,
    verb: str,
    subject: str,
    subject_id: int | None = None,
    *,
    facts: Mapping[str, Any] | None = None,
    changes: Iterable[Change] = (),
    by: Actor,
) -> int:
    """Write one line of the audit log and the changes under it; returns its id."""
    tx.alone("audit")
    rows = [
        {
            "position": n,
            "subject": c.subject,
            "subject_id": c.subject_id,
            "before": dict(c.before),
            "after": dict(c.after),
        }
        for n, c in enumerate(changes)
    ]
    entry: dict[str, Any] = {
        "at": tx.now,
        "person_id": by.person_id,
        "door": by.door,
        "source": by.source,
        "verb": verb,
        "subject": subject,
        "subject_id": subject_id,
        "facts": dict(facts or {}),
        "changes_digest": digest_of(rows) if rows else None,
        "previous": tx.scalar(_LAST) or FIRST,
    }
    entry["hash"] = hash_of(entry)
    entry_id = int(tx.execute(_INSERT, entry).scalar_one())
    if rows:
        insert_many(tx, audit_changes, [{"entry_id": entry_id, **row} for row in rows])
    return entry_id


def hash_of(entry: Mapping[str, Any]) -> str:
    """The hash of a line: sha256 over the hash before it and its own columns in canonical JSON."""
    own = {name: value for name, value in entry.items() if name not in ("id", "hash")}
    return hashlib.sha256(_canonical(own)).hexdigest()


def digest_of(rows: Iterable[Mapping[str, Any]]) -> str:
    """One digest over the changes of a line, in order."""
    whole = hashlib.sha256()
    for row in rows:
        whole.update(_canonical(row) + b"\n")
    return whole.hexdigest()


def first_broken(tx: Transaction) -> int | None:
    """The id of the first line that was edited, swapped, inserted or whose changes were touched; None if all hold.

    One question for lines and changes together, read a thousand rows at a time: a log of years fits into no memory.
    """
    previous = FIRST
    both = select(audit, *(audit_changes.c[name].label(f"changes.{name}") for name in _OF_A_CHANGE))
    both = both.outerjoin(audit_changes, audit_changes.c.entry_id == audit.c.id)
    found = tx.execute(both.order_by(audit.c.id, audit_changes.c.position).execution_options(yield_per=1000))
    for number, group in groupby(found.mappings(), key=lambda row: row["id"]):
        together = list(group)
        entry = {column.name: together[0][column.name] for column in audit.c}
        rows = [{name: row[f"changes.{name}"] for name in _OF_A_CHANGE} for row in together]
        digest = digest_of(rows) if rows[0]["position"] is not None else None
        if entry["previous"] != previous or entry["changes_digest"] != digest or hash_of(entry) != entry["hash"]:
            return int(number)
        previous = entry["hash"]
    return None


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, default=_plain).encode()


def _plain(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} cannot stand in an audit line")
