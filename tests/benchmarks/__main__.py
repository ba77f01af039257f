"""Measure and print the table: `python -m tests.benchmarks`; `BENCH=long` is the long form, `BENCH_SEED=n` repeats an order.

`BENCH_ONLY=outgoing,inbound,served,latency,expansion,bulk,sheets,audits,idle` measures some of it.  A goal that is missed is told in the table; the
exit code is 1 only where something went wrong, so that there is no figure.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import platform
import random
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, TypeVar

import pytest
import sqlalchemy

import storage  # noqa: F401  chooses the SQLite library
from tests.benchmarks import bulk, expansion, idle, inbound, outgoing, peers, serving, stub
from tests.benchmarks.measuring import Comparison
from tests.ending import unwind_when_told
from tests.postgres import Postgres
from tests.postgres import running as postgres

T = TypeVar("T")


@dataclass(frozen=True)
class Size:
    """How much is done in each of so many rounds."""

    rounds: int
    outgoing: int
    tasks: int
    inbound: int
    served: int
    latency_members: int
    latency_s: float
    latency_rounds: int
    members: int
    members_postgresql: int
    loop: int
    cases: int
    sheet: int
    naive: int
    audited: int
    past: int
    idle_s: float


SIZES: Final = {
    "toy": Size(1, 50, 10, 10, 20, 200, 1, 1, 300, 200, 20, 200, 2_000, 20, 300, 2_000, 1),
    "quick": Size(
        3, 10_000, 300, 300, 400, 10_000, 20, 3, 50_000, 20_000, 1_000, 20_000, 100_000, 500, 100_000, 200_000, 10
    ),
    "long": Size(
        7,
        50_000,
        5_000,
        2_000,
        5_000,
        1_000_000,
        60,
        1,
        1_000_000,
        200_000,
        10_000,
        1_000_000,
        1_000_000,
        2_000,
        1_000_000,
        3_000_000,
        20,
    ),
}


@dataclass
class Bench:
    """One run: what it works with, what was found, what was left out and what went wrong."""

    size: Size
    dice: random.Random
    folder: Path
    gateway: stub.Stub
    found: list[Comparison]
    left_out: list[str]
    broken: list[str]

    def outgoing(self) -> list[Comparison]:
        """The worker beside aiohttp alone and Celery."""
        with ExitStack() as stack:
            celery = self._peer("Celery", lambda: stack.enter_context(peers.celery(self.room("celery"))))
            return outgoing.compare(
                self.room("outgoing"), self.dice, self.gateway, celery,
                rounds=self.size.rounds, many=self.size.outgoing, tasks=self.size.tasks,
            )  # fmt: skip

    def inbound(self) -> list[Comparison]:
        """One text in this process."""
        return inbound.compare(self.room("inbound"), self.dice, rounds=self.size.rounds, many=self.size.inbound)

    def served(self) -> list[Comparison]:
        """Texts through the server beside RapidSMS."""
        room = self.room("served")
        compare = serving.beside_rapidsms
        found = self._peer(
            "RapidSMS", lambda: compare(room, self.dice, self.gateway, rounds=self.size.rounds, many=self.size.served)
        )
        return found or []

    def latency(self) -> list[Comparison]:
        """Texts while a broadcast goes out."""
        return serving.beside_a_broadcast(
            self.room("latency"), self.dice, self.gateway,
            rounds=self.size.latency_rounds, members=self.size.latency_members, seconds=self.size.latency_s,
        )  # fmt: skip

    def expansion(self) -> list[Comparison]:
        """A group becomes messages, on both databases."""
        rounds, loop = self.size.rounds, self.size.loop
        found = expansion.on_sqlite(
            self.room("expansion"), self.dice, rounds=rounds, members=self.size.members, loop=loop
        )
        with self._postgresql() as address:
            if address is not None:
                found += expansion.on_postgresql(
                    address, self.dice, rounds=rounds, members=self.size.members_postgresql, loop=loop
                )
        return found

    def bulk(self) -> list[Comparison]:
        """Cases are inserted, and identifiers resolved."""
        found = bulk.compare(self.room("bulk"), self.dice, rounds=self.size.rounds, many=self.size.cases)
        with self._postgresql() as address:
            if address is not None:
                found += bulk.on_postgresql(address, self.dice, rounds=self.size.rounds, many=self.size.cases)
        return found

    def sheets(self) -> list[Comparison]:
        """A sheet of identifiers is read, looked up, applied, and comes back with its verdicts."""
        size = self.size
        return self._of_the_desk(
            "sheets",
            lambda part, room: part.compare(room, self.dice, rounds=size.rounds, many=size.sheet, naive=size.naive),
        )

    def audits(self) -> list[Comparison]:
        """The memberships are audited."""
        size = self.size
        return self._of_the_desk(
            "audits", lambda part, room: part.compare(room, self.dice, rounds=size.rounds, members=size.audited)
        )

    def idle(self) -> list[Comparison]:
        """A worker with nothing to do, beside a short and a long history."""
        size = self.size
        known = {"rounds": size.rounds, "many": size.past, "seconds": size.idle_s}
        found = idle.on_sqlite(self.room("idle"), self.dice, **known)
        with self._server() as server:
            if server is not None:
                found += idle.on_postgresql(server, self.dice, **known)
        return found

    def room(self, name: str) -> Path:
        """A folder for one part."""
        room = self.folder / name
        room.mkdir()
        return room

    def _of_the_desk(self, name: str, compare: Callable[[Any, Path], list[Comparison]]) -> list[Comparison]:
        """A part that needs the desk's libraries."""
        try:
            part = importlib.import_module(f"tests.benchmarks.{name}")
        except ImportError as missing:
            self.left_out.append(f"{name}: {missing}")
            return []
        return compare(part, self.room(name))

    def _peer(self, name: str, get: Callable[[], T]) -> T | None:
        try:
            return get()
        except peers.Missing as missing:
            self.left_out.append(f"{name}: {missing}")
            return None

    @contextlib.contextmanager
    def _postgresql(self) -> Iterator[str | None]:
        """The address of an empty database, or a sentence that says that there is none."""
        with self._server() as server:
            if server is None:
                yield None
                return
            with server.database(upgraded=False) as address:
                yield address

    @contextlib.contextmanager
    def _server(self) -> Iterator[Postgres | None]:
        """A PostgreSQL, or a sentence that says that there is none."""
        with ExitStack() as stack:
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    server = stack.enter_context(postgres())
            except pytest.skip.Exception as missing:
                self.left_out.append(f"PostgreSQL: {missing}")
                server = None
            yield server


PARTS: Final = (
    Bench.outgoing, Bench.inbound, Bench.served, Bench.latency, Bench.expansion, Bench.bulk, Bench.sheets, Bench.audits,
    Bench.idle,
)  # fmt: skip


def run(size: Size, seed: int, only: frozenset[str] = frozenset()) -> Bench:
    """Measure all parts, or those named; a part that fails keeps no other from being measured."""
    with tempfile.TemporaryDirectory(prefix="jumbe-bench-") as folder, stub.running() as gateway:
        bench = Bench(size, random.Random(seed), Path(folder), gateway, [], [], [])
        for part in PARTS:
            name = part.__name__
            if only and name not in only:
                continue
            began = time.monotonic()
            try:
                bench.found += part(bench)
            except Exception:  # noqa: BLE001  the other parts are measured all the same
                traceback.print_exc()
                bench.broken.append(name)
            print(f"{name}: {time.monotonic() - began:.0f} s", flush=True)
    return bench


def table(found: list[Comparison]) -> str:
    """What was found, one comparison a line."""
    lines = ["| work | in | Jumbe | beside | its | ratio | goal | |", "|---|---|---|---|---|---|---|---|"]
    for one in found:
        theirs = "" if one.theirs is None else _shown(one.theirs)
        ratio = "" if one.theirs is None else f"{one.ratio:.2f}"
        told = (one.work, one.unit, _shown(one.ours), one.against, theirs, ratio, one.goal, one.verdict)
        lines.append(f"| {' | '.join(told)} |")
    return "\n".join(lines)


def _shown(figure: float) -> str:
    return f"{figure:,.0f}" if figure >= 100 else f"{figure:.3g}"


def main() -> int:
    """Measure, print, and return 1 if something went wrong."""
    name = os.environ.get("BENCH") or "quick"
    if name not in SIZES:
        print(f"BENCH is {name!r}; it is one of: {', '.join(SIZES)}")
        return 2
    only = frozenset(filter(None, os.environ.get("BENCH_ONLY", "").split(",")))
    if unknown := only - {part.__name__ for part in PARTS}:
        print(f"BENCH_ONLY has {', '.join(sorted(unknown))}; there are: {', '.join(part.__name__ for part in PARTS)}")
        return 2
    seed = int(os.environ.get("BENCH_SEED") or random.SystemRandom().randrange(10**9))
    print(f"BENCH={name} BENCH_SEED={seed}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} before")
    print(_versions(), flush=True)
    began = time.monotonic()
    bench = run(SIZES[name], seed, only)
    print()
    print(table(bench.found))
    print()
    for sentence in bench.left_out:
        print(f"Left out. {sentence}")
    if (peers.cache() / "installed").exists():
        print(f"Peers: {peers.versions()}")
    print(
        f"Load {os.getloadavg()[0]:.1f} after {time.monotonic() - began:.0f} s; medians of {bench.size.rounds} rounds"
    )
    if bench.broken:
        print(f"Went wrong, so there is no figure: {', '.join(bench.broken)}")
    return 1 if bench.broken else 0


def _versions() -> str:
    import sqlite3

    return (
        f"Python {platform.python_version()}, SQLAlchemy {sqlalchemy.__version__}, SQLite {sqlite3.sqlite_version},"
        f" aiohttp {version('aiohttp')}, Flask {version('flask')}"
    )


if __name__ == "__main__":
    unwind_when_told()
    sys.exit(main())
