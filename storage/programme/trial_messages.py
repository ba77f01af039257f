"""A gateway that was left alone is tried with one message, by one of all workers, before the others go.

`gateways.paused_until` says it all: none means that it works, a moment to come that nobody sends, and one that is over
that it waits to be tried.  Who tries it moves that moment on, as a lease: if the worker dies, another tries.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import bindparam, select, update

from storage.database import Transaction
from storage.schema import gateways

_PAUSED_UNTIL = select(gateways.c.paused_until).where(gateways.c.name == bindparam("gateway"))


def paused_until(tx: Transaction, gateway: str) -> datetime | None:
    """Until when nobody sends by a gateway; a moment that is over where it waits to be tried, None where it works."""
    until: datetime | None = tx.scalar(_PAUSED_UNTIL, {"gateway": gateway})
    return until


def is_mine(tx: Transaction, gateway: str) -> bool:
    """Whether a gateway still waits to be tried; if so no other worker can try it before the end of this transaction."""
    waits = (gateways.c.name == gateway, gateways.c.paused_until <= tx.now)
    return tx.execute(select(gateways.c.name).where(*waits).with_for_update()).first() is not None


def begin(tx: Transaction, gateway: str, until: datetime) -> None:
    """One message is on its way: nobody else sends until it is answered, or until then."""
    tx.execute(update(gateways).where(gateways.c.name == gateway).values(paused_until=until))


def passed(tx: Transaction, gateway: str, until: datetime) -> None:
    """It is over: everybody goes on, unless the gateway was paused for another reason meanwhile, or is by what came of it."""
    same = (gateways.c.name == gateway, gateways.c.paused_until == until)
    tx.execute(update(gateways).where(*same).values(paused_until=None, paused_because=None))
