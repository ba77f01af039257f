"""Run the proof and print its table: `python -m tests.proof`; `PROVE=night` is the long form, `PROVE_SEED=n` repeats one.

A seed repeats what was chosen: whom to kill, after how many texts, and how the gateway fails.  It does not repeat the
instant at which a process was on its way, so a breach is run again with its seed more than once.
"""

from __future__ import annotations

import contextlib
import os
import platform
import random
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
import sqlalchemy

import storage  # noqa: F401  chooses the SQLite library
from tests.postgres import running as postgres
from tests.proof import scenes
from tests.proof.counting import Count
from tests.proof.scenes import IMPORT, SPOOL, WEB, WORKER, Moody, Programme


@dataclass(frozen=True)
class Size:
    """How much is done."""

    times: int
    times_postgres: int
    kills: int
    within_s: float
    kills_postgres: int
    within_postgres_s: float
    people: int


SIZES: Final = {
    "quick": Size(1, 0, 120, 80, 80, 50, 150),
    "night": Size(20, 5, 7000, 5 * 3600, 3000, 3 * 3600, 400),
}


def main() -> int:
    """Do all of it, print the table, and return 1 if any promise was broken."""
    name = os.environ.get("PROVE") or "quick"
    if name not in SIZES:
        print(f"PROVE is {name!r}; it is one of: {', '.join(SIZES)}")
        return 2
    size = SIZES[name]
    seed = int(os.environ.get("PROVE_SEED") or random.SystemRandom().randrange(10**9))
    dice = random.Random(seed)
    print(f"PROVE={name} PROVE_SEED={seed}")
    print(f"Python {platform.python_version()}, SQLAlchemy {sqlalchemy.__version__}, {_sqlite()}", flush=True)
    began = time.monotonic()
    faults: Counter[str] = Counter()
    missed: list[str] = []
    counts: dict[str, Count] = {}
    counts["SQLite, a death at each step"] = _labelled(dice, size.times, missed)
    counts["SQLite, deaths at random, 1 worker"] = _at_random(dice, size, faults)
    with _server() as server:
        if server is not None:
            if size.times_postgres:
                with server.database() as address:
                    counts["PostgreSQL, a death at each step"] = _labelled(dice, size.times_postgres, missed, address)
            with server.database() as address:
                counts["PostgreSQL, deaths at random, 3 workers"] = _at_random(dice, size, faults, address)
    _tell(counts, faults, missed, time.monotonic() - began)
    return 1 if missed or any(found.breaches for found in counts.values()) else 0


def _labelled(dice: random.Random, times: int, missed: list[str], address: str | None = None) -> Count:
    """Every step in turn, on one programme; PostgreSQL has no lock of the whole database that would fill the spool."""
    kinds: list[tuple[tuple[str, ...], Callable[[Programme, str], bool]]] = [
        (WORKER, scenes.worker_dies_at), (WEB, scenes.web_dies_at),
        (SPOOL, scenes.spool_dies_at), (IMPORT, scenes.import_dies_at),
    ]  # fmt: skip
    steps = [(label, act) for labels, act in kinds for label in labels if address is None or labels is not SPOOL]
    with _programme(dice, address) as jumbe:
        jumbe.gather(8)
        for _ in range(times):
            for label, act in steps:
                if not act(jumbe, label):
                    missed.append(label)
        return _said(f"a death at each step on {'SQLite' if address is None else 'PostgreSQL'}", jumbe.settle())


def _at_random(dice: random.Random, size: Size, faults: Counter[str], address: str | None = None) -> Count:
    kills = size.kills if address is None else size.kills_postgres
    within_s = size.within_s if address is None else size.within_postgres_s
    workers = ("worker",) if address is None else ("worker1", "worker2", "worker3")
    with _programme(dice, address, one_in=12) as jumbe:
        jumbe.gather(size.people)
        scenes.kill_at_random(jumbe, kills, within_s, workers)
        found = jumbe.settle(*workers)
        faults.update(jumbe.moody.met)
    return _said(f"deaths at random on {'SQLite' if address is None else 'PostgreSQL'}", found)


def _said(what: str, found: Count) -> Count:
    print(f"{what}: {found.kills} kills, {found.texts} texts, breaches {found.breaches or 'none'}", flush=True)
    return found


@contextlib.contextmanager
def _programme(dice: random.Random, address: str | None = None, one_in: int = 0) -> Iterator[Programme]:
    settings = {} if address is None else {"DATABASE_URL": address}
    with (
        tempfile.TemporaryDirectory(prefix="jumbe-prove-") as folder,
        Moody(dice, one_in) as stub,
        Programme(Path(folder), stub, dice, **settings) as jumbe,
    ):
        yield jumbe


@contextlib.contextmanager
def _server() -> Iterator[object]:
    """A PostgreSQL of our own, or a sentence that says that there is none."""
    with contextlib.ExitStack() as stack:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                server = stack.enter_context(postgres())
        except pytest.skip.Exception as missing:
            print(f"PostgreSQL: not proved. {missing}", flush=True)
            server = None
        yield server


def _sqlite() -> str:
    import sqlite3

    return f"SQLite {sqlite3.sqlite_version}"


def _tell(counts: dict[str, Count], faults: Counter[str], missed: list[str], took_s: float) -> None:
    whole = sum(counts.values(), Count())
    print()
    print("| | kills | texts | in the book | unknown shown | lost | twice | unseen |")
    print("|---|---|---|---|---|---|---|---|")
    for name, found in [*counts.items(), ("all", whole)]:
        print(
            f"| {name} | {found.kills} | {found.texts} | {found.booked} | {found.unknown}"
            f" | {found.lost} | {found.twice} | {found.unseen} |"
        )
    print()
    print("| promise | tried | broken |")
    print("|---|---|---|")
    for promise, tried, broken in (
        ("nothing accepted into the outbox is lost", f"{whole.texts} texts", whole.lost),
        ("nothing is sent twice", f"{whole.kills} kills", whole.twice),
        ("what left is seen as sent or as unknown", f"{whole.booked} in the book", whole.unseen),
        ("receipts never move a message backwards", f"{whole.receipts} delivered, out of order", whole.backwards),
        ("acknowledged inbound is stored and handled", f"{whole.inbound} texts", whole.absent),
        ("an inbound text acts once", f"{whole.inbound} texts, each sent again", whole.effects_twice),
        ("an upload is all or nothing, and repeatable", f"{len(IMPORT)} steps", whole.partial),
        ("the audit log is whole", f"{len(counts)} logs", whole.chain),
    ):
        print(f"| {promise} | {tried} | {broken} |")
    print()
    print(f"Gateway faults: {', '.join(f'{mode} {n}' for mode, n in sorted(faults.items())) or 'none'}")
    if missed:
        print(f"Steps at which nothing died, so nothing was proved: {', '.join(missed)}")
    broken = whole.breaches
    print(f"{'BROKEN: ' + str(broken) if broken else 'No promise was broken'}, in {took_s:.0f} s")


if __name__ == "__main__":
    sys.exit(main())
