"""What the people who sign in at the desk prove themselves by: a hash for each, made and checked at the door.

Only those of active people count, so that an access which has ended ends here too.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row, delete, func, insert, or_, select

from storage import audit
from storage.audit import Actor
from storage.database import Transaction
from storage.rules import numbers, phone_keys
from storage.rules.normalize import fold
from storage.schema import passwords, people


def keep(tx: Transaction, person: Row[Any], hashed: str, *, by: Actor) -> None:
    """Give a person this password, in place of one they had."""
    tx.execute(delete(passwords).where(passwords.c.person_id == person.id))
    tx.execute(insert(passwords), {"person_id": person.id, "hash": hashed, "set_at": tx.now})
    audit.record(tx, "people.password", "person", person.id, by=by)


def forget(tx: Transaction, person: Row[Any], *, by: Actor) -> bool:
    """Take a person's password away: they cannot sign in any more.  Returns whether there was one."""
    gone = bool(tx.execute(delete(passwords).where(passwords.c.person_id == person.id)).rowcount)
    if gone:
        audit.record(tx, "people.password-forgotten", "person", person.id, by=by)
    return gone


_SIGNING_IN = (
    select(people, passwords.c.hash).join(passwords, passwords.c.person_id == people.c.id).where(people.c.active)
)


def list_for(tx: Transaction, typed: str) -> list[Row[Any]]:
    """The active people with a password who are called so, or have this number; each with `hash`."""
    number = numbers.find(typed, country=tx.rules.country)
    named = func.lower(people.c.name) == fold(typed).lower()
    theirs = or_(named, people.c.phone_key == phone_keys.key(number.digits)) if number is not None else named
    return list(tx.execute(_SIGNING_IN.where(theirs).order_by(people.c.id)))


def hash_of(tx: Transaction, person_id: int) -> str | None:
    """The hash of an active person's password; None without one."""
    kept: str | None = tx.scalar(_SIGNING_IN.with_only_columns(passwords.c.hash).where(people.c.id == person_id))
    return kept


def list_all(tx: Transaction) -> list[Row[Any]]:
    """The active people who can sign in, oldest first; each with `hash`."""
    return list(tx.execute(_SIGNING_IN.order_by(people.c.id)))
