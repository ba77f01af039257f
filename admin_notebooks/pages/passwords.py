"""Who may sit at the desk: passwords by argon2, and tries that get slower.

Five wrong passwords for one name from one address, or twenty from one address, and that address waits a quarter of an
hour; whoever signs in from elsewhere is not kept out by it.  Nothing tells whether a name is known: an unknown one
costs as long as a wrong password and reads the same.
The counts live in the server's memory, and end with it: who guesses cannot start it again, and a table of strangers' tries
would be theirs to fill.
"""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Callable
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any, Final

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error
from sqlalchemy import Row

from storage import audit
from storage.audit import Actor
from storage.contacts import passwords as store
from storage.database import Database
from storage.errors import Problem
from storage.rules.normalize import key

LEAST: Final = 10
"""Characters of a password."""

MOST: Final = 200
"""Characters that are hashed at all, so that nobody has a novel hashed."""

WAIT: Final = timedelta(minutes=15)
PER_NAME: Final = 5
PER_ADDRESS: Final = 20

_HASHER: Final = PasswordHasher()
_NOBODY: Final = _HASHER.hash(secrets.token_hex(16))


def hashed(password: str, person: Row[Any]) -> str:
    """The hash to keep of a person's new password; raises Problem `password-short`, `password-long`, `password-theirs`."""
    if len(password) < LEAST:
        raise Problem("password-short", least=LEAST)
    if len(password) > MOST:
        raise Problem("password-long", most=MOST)
    if key(password) in {key(person.name), person.phone, "".join(key(person.name).split()) + person.phone}:
        raise Problem("password-theirs")
    return str(_HASHER.hash(password))


def made_up() -> str:
    """A password to read out over a telephone: four words of no language, some 50 bits."""
    syllables = [a + b for a in "bdfgklmnprstvz" for b in "aeiou"]
    return "-".join(secrets.choice(syllables) + secrets.choice(syllables) for _ in range(4))


def stamp(kept: str) -> str:
    """What a sign-in is bound to: it changes with the hash of the password, and whoever used the old one is signed out."""
    return sha256(kept.encode()).hexdigest()[:16]


class Tries:
    """Wrong passwords of the last quarter of an hour, by name and address."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._wrong: deque[tuple[datetime, str, str]] = deque()

    def until(self, name: str, address: str) -> datetime | None:
        """The moment before which this address is not listened to for this name; None if it is."""
        self._forget()
        of_address = [at for at, _, where in self._wrong if where == address]
        of_name = [at for at, who, where in self._wrong if where == address and who == name]
        waits = [
            made[-most] + WAIT for made, most in ((of_name, PER_NAME), (of_address, PER_ADDRESS)) if len(made) >= most
        ]
        return max(waits, default=None)

    def wrong(self, name: str, address: str) -> None:
        """Count one."""
        self._forget()
        self._wrong.append((self._clock(), name, address))

    def right(self, name: str, address: str) -> None:
        """Forget the slips of who then knew it."""
        self._wrong = deque(one for one in self._wrong if one[1:] != (name, address))

    def _forget(self) -> None:
        while self._wrong and self._wrong[0][0] <= self._clock() - WAIT:
            self._wrong.popleft()


def sign_in(db: Database, tries: Tries, name: str, password: str, address: str) -> Row[Any]:
    """The person of this name (or phone number) and password.

    Raises Problem `sign-in-wrong`, or `sign-in-wait` with the moment `until` before which nothing is looked at.
    """
    meant = sha256(key(name).encode()).hexdigest()
    if (until := tries.until(meant, address)) is not None:
        raise Problem("sign-in-wait", until=until)
    with db.reading() as tx:
        known = store.list_for(tx, name[:MOST])
    typed = password[: MOST + 1]
    right = [person for person in known if _fits(person.hash, typed)]
    if not known:
        _fits(_NOBODY, typed)
    if len(right) != 1:  # two of one name with one password: neither is proved
        tries.wrong(meant, address)
        raise Problem("sign-in-wrong")
    tries.right(meant, address)
    with db.transaction() as tx:
        audit.record(tx, "people.sign-in", "person", right[0].id, by=Actor("desk", right[0].id, "sign-in"))
    return right[0]


def _fits(kept: str, password: str) -> bool:
    try:
        return bool(_HASHER.verify(kept, password))
    except Argon2Error:
        return False
