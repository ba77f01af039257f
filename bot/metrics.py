"""What `/metrics` says, in the text format of Prometheus: what is open, what failed lately, who works; never a total of all time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta

from storage.database import Transaction
from storage.messages import inbox, lookups, receipts
from storage.programme import workers

RECENT = timedelta(minutes=5)
"""What is over is counted for so long: counting all of it would take longer with each year."""


def exposition(tx: Transaction) -> Iterator[str]:
    """What a scrape reads: what is open, what came of the last minutes, and how far the numbering of rows is.

    Nothing here costs more with a longer history, for a scrape holds SQLite's one connection of this process meanwhile.
    """
    yield "# HELP jumbe_messages Messages in each state that is not over, now."
    yield "# TYPE jumbe_messages gauge"
    yield from (f'jumbe_messages{{state="{state}"}} {n}' for state, n in sorted(lookups.count_open(tx).items()))
    since = tx.now - RECENT
    yield from _recent("receipts", "Receipts", receipts.count_receipts(tx, since))
    yield from _recent(
        "failed_calls", "Calls that the gateway did not simply accept", lookups.count_failed_calls(tx, since)
    )
    for name, newest in (("messages", inbox.newest_id(tx)), ("receipts", receipts.newest_receipt(tx))):
        yield f"# HELP jumbe_{name}_total The number of the newest row; on PostgreSQL some numbers are left out."
        yield f"# TYPE jumbe_{name}_total counter"
        yield f"jumbe_{name}_total {newest}"
    seen = workers.last_seen(tx)
    yield "# HELP jumbe_worker_heartbeat_age_seconds Since a worker was last heard of; -1: never."
    yield "# TYPE jumbe_worker_heartbeat_age_seconds gauge"
    yield f"jumbe_worker_heartbeat_age_seconds {(tx.now - seen).total_seconds() if seen else -1:.1f}"


def _recent(name: str, what: str, counted: Mapping[str, int]) -> Iterator[str]:
    yield f"# HELP jumbe_{name}_recent {what} in the last five minutes, by what the message became."
    yield f"# TYPE jumbe_{name}_recent gauge"
    yield from (f'jumbe_{name}_recent{{state="{state}"}} {n}' for state, n in sorted(counted.items()))
