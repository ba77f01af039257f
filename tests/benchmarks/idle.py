"""A worker with nothing to do, beside a short history and a long one: what it costs each second must not grow with the years.

Its CPU time counts, of this process and, on PostgreSQL, of the server's processes that serve it.
"""

from __future__ import annotations

import asyncio
import random
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Final

from sqlalchemy import text

from bot.gateways.base import CannotTell, Inbound
from bot.worker.worker import Worker
from storage.database import Database
from storage.rules.hours_and_limits import Rules
from storage.upkeep import migrate
from tests import history
from tests.benchmarks.measuring import Comparison, Rounds, in_turn, spending
from tests.benchmarks.outgoing import PUBLIC
from tests.postgres import Postgres
from tests.texting import Book

SHORT: Final = 1_000
RULES: Final = Rules(
    name="Demo clinic", time_zone="Africa/Accra", country="GH", hours=None, default_gateway=history.GATEWAY,
    gateways=frozenset({history.GATEWAY}),
)  # fmt: skip
TICKS_A_SECOND: Final = 100


class Quiet(Book):
    """A gateway by which nothing comes and nothing goes."""

    async def find(self, _doubtful: object) -> CannotTell:
        """It keeps no list."""
        return CannotTell("not today")

    async def sweep(self, _since: object) -> list[Inbound]:
        """Nobody texted."""
        return []


def made(address: str, many: int) -> Database:
    """A programme with so many messages behind it, with which a worker has nothing to do."""
    db = Database(address, RULES)
    migrate.upgrade(db)
    history.fill(db, many)
    with db.transaction() as tx:
        # What is in doubt would be asked about, and what waits would leave tomorrow.
        tx.execute(text("UPDATE messages SET state = 'unresolved' WHERE state = 'unknown'"))
        tx.execute(text("UPDATE broadcasts SET doubt_told_at = finished_at"))
    if not db.is_sqlite:
        history.analyze(db)
    return db


def on_sqlite(folder: Path, dice: random.Random, *, rounds: int, many: int, seconds: float) -> list[Comparison]:
    """The rows of SQLite."""
    with closing(made(f"sqlite:///{folder}/short.db", SHORT)) as short, closing(made(f"sqlite:///{folder}/long.db", many)) as long:  # fmt: skip
        return _compared("SQLite", short, long, dice, rounds=rounds, many=many, seconds=seconds)


def on_postgresql(server: Postgres, dice: random.Random, *, rounds: int, many: int, seconds: float) -> list[Comparison]:
    """The rows of PostgreSQL."""
    with ExitStack() as stack:
        short, long = (
            stack.enter_context(closing(made(stack.enter_context(server.database(upgraded=False)), size)))
            for size in (SHORT, many)
        )
        return _compared("PostgreSQL", short, long, dice, rounds=rounds, many=many, seconds=seconds)


def _compared(
    engine: str, short: Database, long: Database, dice: random.Random, *, rounds: int, many: int, seconds: float
) -> list[Comparison]:
    def of(db: Database, name: str) -> None:
        works[name] = lambda seen: seen.note(name, 1000 * idle(db, seconds) / seconds)

    works: dict[str, object] = {}
    of(short, "short")
    of(long, "long")
    found: Rounds = in_turn(rounds, dice, works, warm=False)  # type: ignore[arg-type]
    work = f"an idle worker with {many:,} messages behind it, {engine}"
    return [Comparison(work, "ms of CPU a s", found["long"], f"with {SHORT:,}", found["short"], at_most=1.5)]


def idle(db: Database, seconds: float) -> float:
    """CPU seconds that a worker takes in so many seconds with nothing to do."""
    spent_s = 0.0

    async def look() -> None:
        nonlocal spent_s
        stop = asyncio.Event()
        working = asyncio.create_task(Worker(db, {history.GATEWAY: Quiet(history.GATEWAY)}, PUBLIC).run(stop))  # type: ignore[dict-item]
        await asyncio.sleep(1)  # it starts
        before = _server_cpu_s(db)
        with spending() as spent:
            await asyncio.sleep(seconds)
        spent_s = spent.cpu_s + _server_cpu_s(db) - before
        stop.set()
        await working

    asyncio.run(look())
    return spent_s


def _server_cpu_s(db: Database) -> float:
    """CPU seconds of the server's processes that serve this database, where they are on this machine."""
    if db.is_sqlite:
        return 0.0
    with db.reading() as tx:
        serving = text(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        pids = [int(pid) for pid in tx.execute(serving).scalars()]
    ticks = 0
    for pid in pids:
        with suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
    return ticks / TICKS_A_SECOND
