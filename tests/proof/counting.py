"""The gateway's book held against the database: what was lost, sent twice, not seen, moved backwards, or edited."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from typing import Any

from storage import audit
from tests.processes import Jumbe

HELD = {"accepted", "sent", "delivered", "undelivered"}
DOUBTFUL = {"unknown", "unresolved"}
SHOWN_UNSENT = {"refused", "expired", "withheld", "cancelled"}


@dataclass
class Count:
    """What one programme came to; every field after `unknown` must be 0."""

    kills: int = 0
    texts: int = 0
    booked: int = 0
    inbound: int = 0
    receipts: int = 0
    unknown: int = 0
    lost: int = 0
    twice: int = 0
    unseen: int = 0
    backwards: int = 0
    absent: int = 0
    effects_twice: int = 0
    partial: int = 0
    chain: int = 0

    def __add__(self, other: Count) -> Count:
        return Count(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    @property
    def breaches(self) -> dict[str, int]:
        """What must not be, and how often it was."""
        names = [f.name for f in fields(self)]
        return {n: getattr(self, n) for n in names[names.index("lost") :] if getattr(self, n)}


def count(
    jumbe: Jumbe,
    book: Collection[Mapping[str, Any]],
    *,
    kills: int = 0,
    launched: Mapping[int, int] | None = None,
    acknowledged: Collection[str] = (),
    delivered: Collection[int] = (),
) -> Count:
    """Hold them against each other.

    `launched` says how many each broadcast was for, `acknowledged` which inbound texts were answered 200, `delivered` of
    which messages a receipt that the phone has it was answered 200.
    """
    out = {
        row.id: row
        for row in jumbe.rows("SELECT id, state, phone, broadcast_id, case_id FROM messages WHERE direction = 'out'")
    }
    times = Counter(_ours(message) for message in book)
    each = Counter(
        (row.broadcast_id, row.case_id) for row in out.values() if row.broadcast_id for _ in range(times[row.id])
    )
    written = Counter(row.broadcast_id for row in out.values())
    inbound = jumbe.rows("SELECT gateway_id, state FROM messages WHERE direction = 'in'")
    handled = {row.gateway_id for row in inbound if row.state == "handled"}
    lost = sum(abs(many - written[number]) for number, many in (launched or {}).items())
    lost += sum(row.state not in HELD | DOUBTFUL | SHOWN_UNSENT for row in out.values())
    lost += sum(row.state in HELD and not times[row.id] for row in out.values())
    return Count(
        kills=kills,
        texts=len(out),
        booked=len(book),
        inbound=len(set(acknowledged)),
        receipts=len(set(delivered)),
        unknown=sum(row.state in DOUBTFUL for row in out.values()),
        lost=lost,
        twice=max(sum(n - 1 for n in times.values()), sum(n - 1 for n in each.values())),
        unseen=sum(id_ not in out or out[id_].state not in HELD | DOUBTFUL for id_ in times),
        backwards=sum(id_ in out and out[id_].state != "delivered" for id_ in set(delivered)),
        absent=len(set(acknowledged) - handled),
        effects_twice=_effects_twice(jumbe) + len(inbound) - len({row.gateway_id for row in inbound}),
        chain=log_is_broken(jumbe),
    )


def _ours(message: Mapping[str, Any]) -> int:
    """Our id stands in the address of the receipts."""
    return int(message["status_callback"].partition("?")[0].rpartition("/")[2])


def _effects_twice(jumbe: Jumbe) -> int:
    answers = (
        "SELECT count(*) - 1 FROM messages WHERE direction = 'out' AND reply_to IS NOT NULL"
        " GROUP BY reply_to, phone, kind HAVING count(*) > 1"
    )
    heard = (
        "SELECT count(*) - 1 FROM consent_events WHERE message_id IS NOT NULL"
        " GROUP BY message_id, kind HAVING count(*) > 1"
    )
    return sum(row[0] for query in (answers, heard) for row in jumbe.rows(query))


def log_is_broken(jumbe: Jumbe) -> int:
    """1 if a line of the audit log does not hold."""
    with jumbe.database() as db:
        return int(audit.verify(db.reading).breach is not None)
