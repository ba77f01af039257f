"""What came from a person's number and is counted, so that what is tried often gets slower and nobody is locked out.

People who were not found pause the looking up for a while; texts in which no command could be read, and those that were
refused, are answered a few times; `challenge` and `cap` are what we sent: the question whether the texts are the owner's,
and the word to the leads that small acts add up.  How many of a kind are too many is said where it is asked.  Wrong codes
are kept here as well, but only `operations/codes.py` counts them: what happens at one is a code's own matter.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from sqlalchemy import func, insert, select

from storage.database import Transaction
from storage.schema import tries

Kind = Literal["code", "lookup", "unread", "refused", "challenge", "cap"]


def note(tx: Transaction, person: int, kind: Kind, times: int = 1) -> None:
    """Count so many tries of a person."""
    if times:
        tx.execute(insert(tries), [{"person_id": person, "kind": kind, "at": tx.now}] * times)


def count(tx: Transaction, person: int, kind: Kind, since: datetime) -> int:
    """How many tries of a kind came from a person's number since then."""
    made = (tries.c.person_id == person, tries.c.kind == kind, tries.c.at >= since)
    return int(tx.scalar(select(func.count()).select_from(tries).where(*made)))


def last(tx: Transaction, person: int, kind: Kind, nth: int) -> datetime | None:
    """When the nth newest try of a kind was made; None if there are fewer."""
    made = select(tries.c.at).where(tries.c.person_id == person, tries.c.kind == kind)
    newest: datetime | None = tx.scalar(made.order_by(tries.c.at.desc(), tries.c.id.desc()).offset(nth - 1).limit(1))
    return newest
