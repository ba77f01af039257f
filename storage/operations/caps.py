"""How much goes without a code within an hour: small acts add up.

Caller id is not proof, and what is small may be asked for often: ten people dropped by each of three texts are thirty.
So whatever a text does at once is counted, per person and per group, and beyond its cap the same text asks for a code, as
a large one does.  What a code confirmed is not counted: its owner works on, at the price of a code each.
The whole policy is the table `CAPS`; what an act changed is kept in `operations.at_once`, and what was taken back since
counts as well, and so does the taking back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, func, select

from storage.contacts import groups
from storage.database import Transaction
from storage.schema import operations

HOUR = timedelta(hours=1)
ALWAYS = 3
"""People who may leave a group at once however small it is: a slip in a new group is fixed without a code."""


@dataclass(frozen=True, slots=True)
class Cap:
    """What one person may do at once in an hour, over all groups; of one group `a_group` per cent for all people together.

    A group's share is never less than a person's.  With `keeps_half` at most half of a group goes, or three.
    """

    a_person: int
    a_group: int | None = None
    keeps_half: bool = False


CAPS: Mapping[str, Cap] = {
    "add": Cap(10, a_group=10),
    "drop": Cap(10, a_group=10, keeps_half=True),
    "new": Cap(10),
    "name": Cap(10),
}
"""By the kind of an act; those with `a_group` are counted in people, the others in times.  `undo` counts as what it takes back."""


@dataclass(frozen=True, slots=True)
class Over:
    """A cap that an act would pass, and how much had gone at once within the hour before it."""

    kind: str
    cap: int
    used: int


def over(
    tx: Transaction,
    person: int,
    kind: str,
    amount: int,
    *,
    group: int | None = None,
) -> Over | None:
    """The cap that so much more of a kind would pass, or None if it may go at once.

    `group` is the group that it changes; without one it is held to the person's own cap alone.
    """
    cap = CAPS[kind]
    used = _used(tx, kind, operations.c.person_id == person)
    if used + amount > cap.a_person:
        return Over(kind, cap.a_person, used)
    if cap.a_group is None or group is None:
        return None
    members = groups.count_members(tx, group)
    together = _used(tx, kind, operations.c.group_id == group)
    share = max(cap.a_person, members * cap.a_group // 100)
    if cap.keeps_half:
        share = min(share, max(ALWAYS, (members + together) // 2))
    return Over(kind, share, together) if together + amount > share else None


def _used(tx: Transaction, kind: str, whose: ColumnElement[bool]) -> int:
    """How much of a kind went at once within the hour."""
    since: datetime = tx.now - HOUR
    counted = (operations.c.at_once.is_not(None), operations.c.asked_at > since, operations.c.kind == kind)
    return int(tx.scalar(select(func.coalesce(func.sum(operations.c.at_once), 0)).where(whose, *counted)))
