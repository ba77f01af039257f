"""The digits that confirm an operation.

Caller id is not proof; a code sent to the registered number is.  The digits are stored nowhere: they are derived from the
database's own secret and a nonce, and put into the text only when it is handed to the gateway.  So the same question can
be asked again with the same code, and no list, export or backup shows one.
A code is bound to a digest of what was shown, lives 15 minutes and works once.
Wrong ones count against all that they may have been meant for, and many in a day make the next codes longer: guessing gets
hopeless, and nobody is locked out.  What ends an operation is decided in `operations/operations.py`.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import Row, and_, func, insert, select, update

from storage.contacts import attempts
from storage.database import Transaction
from storage.errors import Problem
from storage.schema import codes, operations, programme

LIFE = timedelta(minutes=15)
LATE = timedelta(minutes=30)
"""How long after it was sent a text still confirms: what comes later was meant for another hour."""

FRESH = timedelta(hours=12)
PROVE = "prove"
"""The kind of an operation that asks nothing but whether the phone is in its owner's hand."""

SHORT, LONG = 6, 10
"""Digits of a code; a phone from which many wrong ones came gets the long ones (`next_length`)."""

WRONG_A_DAY = 5
"""Wrong codes from one number in a day, after which its codes have ten digits until tomorrow."""


def issue(tx: Transaction, operation: int, person: int, digest: str, *, length: int = SHORT) -> int:
    """Make a code for this person and operation, or make it anew; returns its row id, never its digits."""
    row = {
        "operation_id": operation,
        "person_id": person,
        "nonce": secrets.token_bytes(16),
        "length": length,
        "digest": digest,
        "expires_at": tx.now + LIFE,
    }
    same = and_(codes.c.operation_id == operation, codes.c.person_id == person, codes.c.used_at.is_(None))
    renewed = tx.execute(update(codes).where(same).values(row).returning(codes.c.id)).scalar()
    if renewed is not None:
        return int(renewed)
    return int(tx.execute(insert(codes).returning(codes.c.id), row).scalar_one())


def digits(secret: bytes, nonce: bytes, length: int = SHORT) -> str:
    """The digits of a code."""
    mac = hmac.new(secret, b"code" + nonce, hashlib.sha256).digest()
    return f"{int.from_bytes(mac[:8]) % 10**length:0{length}}"


def mask(length: int) -> str:
    """What stands in a text for the digits until it is handed over: as long as they are."""
    return "*" * length


def secret_of(tx: Transaction) -> bytes:
    """The secret from which this database derives its codes."""
    return bytes(tx.scalar(select(programme.c.secret)))


def shown(tx: Transaction, code: int) -> str:
    """The digits of one code."""
    row = tx.execute(select(codes).where(codes.c.id == code)).one()
    return digits(secret_of(tx), row.nonce, row.length)


def waiting_for(tx: Transaction, person: int) -> list[Row[Any]]:
    """The codes that this person was sent and has not used, newest first, expired ones too."""
    return list(
        tx.execute(
            select(codes).where(codes.c.person_id == person, codes.c.used_at.is_(None)).order_by(codes.c.id.desc())
        )
    )


def matching(tx: Transaction, person: int, typed: str) -> Row[Any] | None:
    """The code of this person with these digits: one that waits, else the newest, used or not."""
    secret = secret_of(tx)
    rows = [*_waiting(tx, person), *_newest(tx, person)]
    same = (row for row in rows if hmac.compare_digest(digits(secret, row.nonce, row.length), typed))
    return next(same, None)


def sent(tx: Transaction, person: int) -> set[str]:
    """The digits of the newest codes of this person, used and over ones too: what no answer of ours may quote."""
    secret = secret_of(tx)
    return {digits(secret, row.nonce, row.length) for row in [*_waiting(tx, person), *_newest(tx, person)]}


def _waiting(tx: Transaction, person: int) -> list[Row[Any]]:
    """The codes of what waits: however many questions somebody else asks from this number, none of these is passed over."""
    waits = operations.c.state.in_(("waiting", "seconding"))
    query = select(codes).join(operations, operations.c.id == codes.c.operation_id)
    return list(tx.execute(query.where(codes.c.person_id == person, codes.c.used_at.is_(None), waits)))


def _newest(tx: Transaction, person: int) -> list[Row[Any]]:
    query = select(codes).where(codes.c.person_id == person).order_by(codes.c.id.desc())
    return list(tx.execute(query.limit(50)))


def spend(tx: Transaction, code: int) -> bool:
    """Mark a code as used; False if it was used before, and then it keeps its moment and makes no phone fresh again."""
    spent = update(codes).where(codes.c.id == code, codes.c.used_at.is_(None)).values(used_at=tx.now)
    return tx.execute(spent).rowcount > 0


def next_length(tx: Transaction, person: int) -> int:
    """How many digits this person's next codes have: guessing gets hopeless, and nobody is locked out by a forger."""
    return LONG if wrong_today(tx, person) >= WRONG_A_DAY else SHORT


def wrong_today(tx: Transaction, person: int) -> int:
    """How many wrong codes came from this person's number today, by the programme's clock."""
    midnight = tx.now.astimezone(ZoneInfo(tx.rules.time_zone)).replace(hour=0, minute=0, second=0, microsecond=0)
    return attempts.count(tx, person, "code", midnight)


def count_wrong(tx: Transaction, person: int) -> list[Row[Any]]:
    """Count a wrong code against every operation that this person holds a code for, somebody else's as well.

    It may have been meant for any of them, and many open at once must not make a guess likelier.  Once the codes of this
    number are long no guess can hit, and so none is charged.  Returns `id` and `wrong_tries` of each operation, the newest
    last; raises Problem `code-none-waiting` if nothing waits, and `code-long` once codes are long: it is counted all the same.
    """
    long_already = next_length(tx, person) == LONG
    attempts.note(tx, person, "code")
    if long_already:
        raise Problem("code-long")
    held = select(codes.c.operation_id).where(
        codes.c.person_id == person, codes.c.used_at.is_(None), codes.c.expires_at > tx.now, codes.c.length < LONG
    )
    charged = (
        update(operations)
        .where(operations.c.id.in_(held), operations.c.state.in_(("waiting", "seconding")))
        .values(wrong_tries=operations.c.wrong_tries + 1)
        .returning(operations.c.id, operations.c.wrong_tries)
    )
    rows = sorted(tx.execute(charged).all(), key=lambda row: row.id)
    if not rows:
        raise Problem("code-none-waiting")
    return rows


def is_fresh(tx: Transaction, person: int) -> bool:
    """Whether this person confirmed something of their own within twelve hours: the phone is in the right hand.

    An answer to our question whose texts these are does not count: it is asked when somebody may be using the number.
    """
    used = select(codes.c.id).join(operations, operations.c.id == codes.c.operation_id)
    mine = (codes.c.person_id == person, codes.c.used_at > tx.now - FRESH, operations.c.kind != PROVE)
    return tx.execute(used.where(*mine).limit(1)).first() is not None


def proved_at(tx: Transaction, person: int) -> datetime | None:
    """When a code was last confirmed from this person's phone, of whatever kind; None if never.

    What came before is not held against what comes after: whoever forges the number cannot confirm a code.
    """
    newest: datetime | None = tx.scalar(select(func.max(codes.c.used_at)).where(codes.c.person_id == person))
    return newest


def since(tx: Transaction, person: int, within: timedelta) -> datetime:
    """From when on the texts of a number are counted that may be counted for so long: after it was last proved."""
    window = tx.now - within
    proved = proved_at(tx, person)
    return window if proved is None else max(window, proved + timedelta(microseconds=1))
