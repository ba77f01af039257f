"""Staff who may be texted now, and the only place where a notice to one of them is queued.

A notice is what a person on the staff is texted without an answer being due: a case's reply passed on, what became of
something they asked for, a digest, a trial of their own from the desk.  The rule: none is queued for somebody who is no
longer on the staff, nor for a phone that said STOP or of which it is in doubt whether it did.  So `queue` takes a
`Reachable`, and only the two look-ups here make one.  What was queued before a STOP the gate withholds (`gate.py`).

What a notice says is left to the doors: the bot's sentences are in `bot/notices.py`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from sqlalchemy import Integer, Select, bindparam, select

from storage.contacts import consent
from storage.database import Transaction
from storage.messages import outbox
from storage.schema import people


class Reachable(NamedTuple):
    """A person on the staff who may be texted in this transaction; `language` is theirs, else the programme's."""

    id: int
    name: str
    phone: str
    language: str


_REACHABLE = (
    select(*people.c["id", "name", "phone", "language_code"])
    .where(people.c.active, ~consent.is_stopped(people.c.phone_key))
    .order_by(people.c.id)
)
_AMONG = _REACHABLE.where(people.c.id.in_(bindparam("ids", expanding=True)))
_LEADS = _REACHABLE.where(people.c.role == "lead", people.c.id.is_distinct_from(bindparam("but", type_=Integer)))


def reachable(tx: Transaction, person_ids: Iterable[int | None]) -> list[Reachable]:
    """Those of these people who may be texted, oldest first; the system's own user (None) has no phone."""
    ids = [person_id for person_id in person_ids if person_id is not None]
    return _found(tx, _AMONG, {"ids": ids}) if ids else []


def reachable_leads(tx: Transaction, *, but: int | None = None) -> list[Reachable]:
    """The leads who may be texted, oldest first, without the person `but`."""
    return _found(tx, _LEADS, {"but": but})


def queue(
    tx: Transaction, person: Reachable, body: str, *, reply_to: int | None = None, code_id: int | None = None
) -> int:
    """Put a notice into the outbox; returns its message id."""
    return outbox.queue(tx, person.phone, body, "notice", person_id=person.id, reply_to=reply_to, code_id=code_id)


def _found(
    tx: Transaction, query: Select[tuple[int, str, str, str | None]], values: dict[str, object]
) -> list[Reachable]:
    rows = tx.execute(query, values)
    return [Reachable(row.id, row.name, row.phone, row.language_code or tx.rules.language) for row in rows]
