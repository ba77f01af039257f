"""A launched broadcast becomes messages, a range at a time: a webhook never waits long for the writer.

A range is one `INSERT .. SELECT`, unique per case, phone and channel, so that it goes on after a death where it stopped.
Every recipient gets a row in `messages`, also one who is skipped, with the reason; therefore
recipients = sent + skipped + failed + unknown + still to go, always, and anyone can count it.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from datetime import datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import (
    Boolean,
    Insert,
    Integer,
    Row,
    Text,
    and_,
    bindparam,
    case,
    exists,
    func,
    literal,
    or_,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from storage.broadcasts.content import Content, content_of
from storage.broadcasts.recipients import ZONES, due, select_recipients, valid_zones
from storage.broadcasts.states import move, moving
from storage.database import Transaction
from storage.messages import audience
from storage.messages.states import KINDS, OPEN
from storage.rules.hours_and_limits import Rules
from storage.schema import (
    Moment,
    broadcasts,
    messages,
)

RANGE = 10_000
"""Recipients of each group in one transaction while expanding, at most."""

FEWEST, HELD_S = 100, 0.02
"""So few even where writing is slow: each range has a cost of its own.  And how long one may keep the writer."""

_UNEXPANDED = (
    select(broadcasts)
    .where(
        broadcasts.c.launched_at.is_not(None),
        broadcasts.c.expanded_at.is_(None),
        or_(
            broadcasts.c.state.in_(("held", "expanding", "halted")),
            and_(broadcasts.c.state == "paused", broadcasts.c.paused_from != "scheduled"),
        ),
    )
    .order_by(broadcasts.c.id)
    .limit(1)
)

_IS_EXPANDING = _UNEXPANDED.with_only_columns(broadcasts.c.id)


def is_expanding(tx: Transaction) -> bool:
    """Whether a launched broadcast still has recipients to write."""
    return tx.scalar(_IS_EXPANDING) is not None


class Pace:
    """How many recipients an expansion writes at once: as many as keep webhooks waiting for a moment only.

    A laptop writes thousands in that time and a small server hundreds, so it goes by how long the last range took.
    """

    def __init__(self) -> None:
        self.many = 2 * FEWEST

    @contextlib.contextmanager
    def kept(self) -> Iterator[int]:
        """How many to write now, inside a transaction; what takes longer than it should makes the next ones fewer."""
        began = time.perf_counter()
        yield self.many
        fits = HELD_S / max(time.perf_counter() - began, HELD_S / 10)
        self.many = max(FEWEST, min(RANGE, int(self.many * min(2.0, fits))))


_NEXT_TO_EXPAND = _UNEXPANDED.with_for_update(skip_locked=True)

_EXPANDED_THROUGH = (
    update(broadcasts).where(broadcasts.c.id == bindparam("number")).values(expanded_through=bindparam("upto"))
)
_EXPANDED = (
    update(broadcasts).where(broadcasts.c.id == bindparam("number")).values(expanded_at=bindparam("now", type_=Moment))
)
_GOES_ON_AS_SENDING = (
    update(broadcasts)
    .where(
        broadcasts.c.id == bindparam("number"),
        broadcasts.c.state == "paused",
        broadcasts.c.paused_from == "expanding",
    )
    .values(paused_from="sending")
)
"""One that was paused while it was written has nothing to write any more when it is resumed."""


def expand_next(tx: Transaction, at_most: int | None = None) -> bool:
    """Write the messages of the next range of recipients of a launched broadcast; whether there was one.

    One `INSERT .. SELECT` for at most so many cases of each group, or RANGE; resumable, because a recipient has at most one row and the broadcast
    remembers how far it is.  It goes on during the hold and while the broadcast is paused.  Of one that was halted
    meanwhile the rest is written as cancelled: nobody is left uncounted.
    """
    row = tx.execute(_NEXT_TO_EXPAND).first()
    if row is None:
        return False
    upto = audience.next_range(tx, row.id, after=row.expanded_through, many=at_most or RANGE)
    if upto is None:
        tx.execute(_EXPANDED, {"number": row.id, "now": tx.now})
        if not move(tx, row.id, "sending", came_from=("expanding",)):
            tx.execute(_GOES_ON_AS_SENDING, {"number": row.id})
    else:
        _write_range(tx, row, row.expanded_through, upto)
        tx.execute(_EXPANDED_THROUGH, {"number": row.id, "upto": upto})
    return True


def _write_range(tx: Transaction, row: Row[Any], after: int, upto: int) -> None:
    by_zone = tx.rules.hours is not None or row.send_at is not None
    of_range = {"number": row.id, "after": after, "upto": upto}
    named = tx.execute(ZONES, of_range).scalars() if by_zone else ()
    written = _insertion(
        tx.rules, content_of(tx, row.id), row.kind, row.state == "halted", row.state == "paused", row.hold_until,
        row.send_at,
        tuple(sorted(valid_zones(tx, named))), tx.is_sqlite,
    )  # fmt: skip
    tx.execute(written, {"after": after, "upto": upto, "now": tx.now})


@lru_cache(maxsize=16)
def _insertion(
    rules: Rules,
    content: Content,
    kind: str,
    halted: bool,
    paused: bool,
    hold_until: datetime,
    send_at: str | None,
    zones: tuple[str, ...],
    on_sqlite: bool,
) -> Insert:
    """What writes the messages of the range between `after` and `upto` at the moment `now`; the same for all ranges."""
    after, upto = bindparam("after", type_=Integer), bindparam("upto", type_=Integer)
    part = select_recipients(rules, content, after=after, upto=upto).subquery()
    skipped = part.c.reason.is_not(None)
    state, because = ("cancelled", "halted") if halted else ("queued", None)
    # fmt: off
    rows = select(
        literal("out"), literal(content.channel.name), part.c.phone, part.c.phone_key, part.c.address, part.c.body, literal(kind),
        case((skipped, "withheld"), else_=state), func.coalesce(part.c.reason, literal(because, Text())),
        part.c.gateway, part.c.case_id, literal(content.number), part.c.language, literal(KINDS[kind].priority),
        *due(rules, content.channel, hold_until, send_at, part.c.time_zone, zones), bindparam("now", type_=Moment()), literal(paused, Boolean()),
    ).where(part.c.case_id.is_not(None))
    columns = [
        "direction", "channel", "phone", "phone_key", "address", "body", "kind", "state", "reason", "gateway", "case_id",
        "broadcast_id", "language", "priority", "due_at", "expires_at", "created_at", "paused",
    ]
    # fmt: on
    dialect = sqlite if on_sqlite else postgresql
    written: Insert = dialect.insert(messages).on_conflict_do_nothing().from_select(columns, rows)
    return written


_FINISH = (
    moving("done")
    .where(
        ~exists().where(messages.c.broadcast_id == broadcasts.c.id, messages.c.state.in_(OPEN)),
        # What is in doubt may come back to the queue; of one that is paused it leaves only if somebody can resume that.
        or_(
            broadcasts.c.state == "sending",
            and_(
                broadcasts.c.expanded_at.is_not(None),
                ~exists().where(messages.c.broadcast_id == broadcasts.c.id, messages.c.state == "unknown"),
            ),
        ),
    )
    .values(finished_at=bindparam("now", type_=Moment))
)


def finish(tx: Transaction) -> int:
    """Mark as done the broadcasts of which nothing is left to send; returns how many."""
    return tx.execute(_FINISH, {"now": tx.now}).rowcount
