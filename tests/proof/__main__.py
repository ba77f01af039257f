"""Run the proof and print its table: `python -m tests.proof`.

`PROVE=night` is the long form, `PROVE_MINUTES=n` bounds either, and `PROVE_SEED=n` repeats one.  A seed repeats what was
chosen: whom to kill, after how many texts, and how the gateway fails.  It does not repeat the instant at which a process
was on its way, so a breach of the processes is run again with its seed more than once.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest
import sqlalchemy

import storage  # noqa: F401  chooses the SQLite library
from storage.database import Database
from storage.database import server as server_of
from tests.ending import unwind_when_told
from tests.postgres import running as postgres
from tests.processes import ROOT
from tests.proof import faults, scenes
from tests.proof.counting import Count, log_is_broken
from tests.proof.days import Report
from tests.proof.disk import Found
from tests.proof.faults import Restored, Uploads
from tests.proof.scenes import IMPORT, SPOOL, WEB, WORKER, Moody, Programme

SETTLING_S: Final = 12
"""Set aside for what follows deaths at random: until all is settled and counted."""


@dataclass(frozen=True)
class Size:
    """How much is done at most; what is done at random shares the minutes that the rest leaves."""

    minutes: float
    kills: int
    uploads: int
    full: int
    since_backup: int
    people: int
    steps: bool
    """Whether the steps are gone through again and again, and on PostgreSQL too."""


SIZES: Final = {
    "quick": Size(4.2, kills=200, uploads=20, full=8, since_backup=200, people=150, steps=False),
    "night": Size(600, kills=10_000, uploads=500, full=400, since_backup=1000, people=400, steps=True),
}


class Budget:
    """The time that is left, shared out by weight."""

    def __init__(self, minutes: float, *weights: float) -> None:
        self.end = time.monotonic() + 60 * minutes
        self.weights = sum(weights)

    def share(self, weight: float) -> float:
        """The seconds of the next part."""
        left = max(0.0, self.end - time.monotonic()) * weight / self.weights
        self.weights -= weight
        return left


@dataclass
class Tally:
    """All that was found."""

    counts: dict[str, Count] = field(default_factory=dict)
    modes: Counter[str] = field(default_factory=Counter)
    missed: list[str] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)
    writes: Found = field(default_factory=Found)
    uploads: Uploads = field(default_factory=Uploads)
    restored: Restored = field(default_factory=Restored)
    days: Report = field(default_factory=lambda: Report(0, 0))
    steps: int = 0
    full: int = 0
    turned_away: int = 0
    refused: int = 0

    def add(self, name: str, found: Count) -> None:
        """Keep what one part came to, and say it at once."""
        self.counts[name] = found
        print(f"{name}: {found.kills} kills, {found.texts} texts, breaches {found.breaches or 'none'}", flush=True)


def main() -> int:
    """Do all of it, print the table, and return 1 if any promise was broken."""
    name = os.environ.get("PROVE") or "quick"
    if name not in SIZES:
        print(f"PROVE is {name!r}; it is one of: {', '.join(SIZES)}")
        return 2
    size = SIZES[name]
    minutes = float(os.environ.get("PROVE_MINUTES") or size.minutes)
    seed = int(os.environ.get("PROVE_SEED") or random.SystemRandom().randrange(10**9))
    print(f"PROVE={name} PROVE_SEED={seed} PROVE_MINUTES={minutes:g}")
    print(f"Python {platform.python_version()}, SQLAlchemy {sqlalchemy.__version__}, {_sqlite()}", flush=True)
    began, tally = time.monotonic(), Tally()
    with _virtual_days(seed, 60 * minutes - 2 * SETTLING_S, tally):
        _prove(size, minutes, random.Random(seed), tally)
    return _tell(tally, time.monotonic() - began)


def _prove(size: Size, minutes: float, dice: random.Random, tally: Tally) -> None:
    """Each part gets dice of its own, so that how long one takes changes nothing in the next."""
    weights = {"steps": 2.0, "disk": 1.0, "uploads": 1.5, "sqlite": 5.0, "postgres 1": 3.0, "postgres 3": 4.0}
    if size.steps:
        weights["steps on postgres"] = 2.0
    budget = Budget(minutes, *weights.values())

    def part() -> random.Random:
        return random.Random(dice.random())

    tally.writes = faults.every_write()
    _restore(part(), size, tally)
    _refuse(part(), tally)
    tally.add("SQLite, a death at each step", _labelled(part(), budget.share(weights["steps"]), size, tally))
    _fill(part(), size, budget.share(weights["disk"]), tally)
    _upload(part(), size, budget.share(weights["uploads"]), tally)
    found = _at_random(part(), size, budget.share(weights["sqlite"]), tally, ("worker",))
    tally.add("SQLite, deaths at random, 1 worker", found)
    with _server() as server:
        if server is None:
            tally.absent.append("PostgreSQL")
            return
        with server.database() as address:
            print(f"PostgreSQL {_version(address)}", flush=True)
            tally.add("PostgreSQL, the spool", _spool(part(), address, size, tally))
        if size.steps:
            within_s = budget.share(weights["steps on postgres"])
            with server.database() as address:
                tally.add("PostgreSQL, a death at each step", _labelled(part(), within_s, size, tally, address))
        for workers in (("worker",), ("worker1", "worker2", "worker3")):
            many = len(workers)
            within_s = budget.share(weights[f"postgres {many}"])
            with server.database() as address:
                found = _at_random(part(), size, within_s, tally, workers, address)
            tally.add(f"PostgreSQL, deaths at random, {many} worker{'s' if many > 1 else ''}", found)


@contextlib.contextmanager
def _virtual_days(seed: int, within_s: float, tally: Tally) -> Iterator[None]:
    """The virtual days go by in a process beside the others, which mostly wait."""
    command = ["nice", sys.executable, "-W", "ignore", "-m", "tests.proof.days", str(seed), "--within", str(within_s)]
    with tempfile.TemporaryDirectory(prefix="jumbe-prove-") as folder:  # it has no time to tidy up where it is killed
        env = os.environ | {"TMPDIR": folder}
        child = subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True)
        try:
            yield
            told, _ = child.communicate(timeout=within_s + 300)
            tally.days = Report(**json.loads(told))
        finally:
            child.kill()
            child.wait()


def _labelled(dice: random.Random, within_s: float, size: Size, tally: Tally, address: str | None = None) -> Count:
    """Every step in turn, on one programme, and again while there is time."""
    kinds: list[tuple[tuple[str, ...], Callable[[Programme, str], bool]]] = [
        (WORKER, scenes.worker_dies_at), (WEB, scenes.web_dies_at),
        (SPOOL, scenes.spool_dies_at), (IMPORT, scenes.import_dies_at),
    ]  # fmt: skip
    steps = [(label, act) for labels, act in kinds for label in labels]
    end, first = time.monotonic() + within_s, True
    with _programme(dice, address) as jumbe:
        jumbe.gather(8)
        while first or (size.steps and time.monotonic() < end):
            for label, act in steps:
                if not first and time.monotonic() > end:
                    break
                tally.steps += 1
                if not act(jumbe, label):
                    tally.missed.append(label)
            first = False
        return jumbe.settle()


def _at_random(
    dice: random.Random, size: Size, within_s: float, tally: Tally, workers: tuple[str, ...], address: str | None = None
) -> Count:
    with _programme(dice, address, one_in=12) as jumbe:
        jumbe.gather(size.people)
        scenes.kill_at_random(jumbe, size.kills, within_s - SETTLING_S, workers)
        found = jumbe.settle(*workers)
        tally.modes.update(jumbe.moody.met)
    return found


def _spool(dice: random.Random, address: str, size: Size, tally: Tally) -> Count:
    """Somebody keeps every writer waiting for longer than a gateway waits."""
    with _programme(dice, address) as jumbe:
        jumbe.gather(8)
        for label in SPOOL if size.steps else SPOOL[-1:]:
            tally.steps += 1
            if not scenes.spool_dies_at(jumbe, label):
                tally.missed.append(label)
        return jumbe.settle()


def _fill(dice: random.Random, size: Size, within_s: float, tally: Tally) -> None:
    with tempfile.TemporaryDirectory(prefix="jumbe-prove-") as folder, faults.small_disk(Path(folder)) as disk:
        if disk is None:
            tally.absent.append("a full disk under running processes (this user may mount no small disk)")
            return
        with _programme(dice, f"sqlite:///{disk / 'jumbe.db'}") as jumbe:
            jumbe.gather(30)
            tally.full, tally.turned_away = faults.fill_the_disk(jumbe, disk, size.full, within_s)
            tally.add("SQLite, a full disk", jumbe.settle())


def _refuse(dice: random.Random, tally: Tally) -> None:
    with _programme(dice) as jumbe:
        jumbe.gather(20)
        tally.refused = faults.refuse_the_port(jumbe)
        tally.add("SQLite, a port that refuses", jumbe.settle())


def _upload(dice: random.Random, size: Size, within_s: float, tally: Tally) -> None:
    with _programme(dice) as jumbe:
        tally.uploads = faults.kill_uploads(jumbe, size.uploads, within_s)
        tally.add("SQLite, uploads", Count(partial=tally.uploads.partial, chain=log_is_broken(jumbe)))


def _restore(dice: random.Random, size: Size, tally: Tally) -> None:
    with _programme(dice) as jumbe:
        jumbe.env["TWILIO_RATE"] = "300"
        jumbe.gather(150)
        tally.restored = faults.restore_an_old_backup(jumbe, size.since_backup)


@contextlib.contextmanager
def _programme(dice: random.Random, address: str | None = None, one_in: int = 0) -> Iterator[Programme]:
    with tempfile.TemporaryDirectory(prefix="jumbe-prove-") as folder, Moody(dice, one_in) as stub:
        settings = {} if address is None else {"DATABASE_URL": address}
        if address is not None and not address.startswith("sqlite"):
            settings["JUMBE_SPOOL"] = str(Path(folder) / "spool")
        with Programme(Path(folder), stub, dice, **settings) as jumbe:
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


def _version(address: str) -> str:
    db = Database(address)
    try:
        with db.reading() as tx:
            return server_of(tx)[0]
    finally:
        db.close()


def _sqlite() -> str:
    import sqlite3

    return f"SQLite {sqlite3.sqlite_version}"


def _tell(tally: Tally, took_s: float) -> int:
    """Print the table; returns 1 if any promise was broken or a step was not come to."""
    whole = sum(tally.counts.values(), Count())
    print()
    print("| | kills | texts | in the book | unknown shown | lost | twice | unseen |")
    print("|---|---|---|---|---|---|---|---|")
    for name, found in [*tally.counts.items(), ("all", whole)]:
        print(
            f"| {name} | {found.kills} | {found.texts} | {found.booked} | {found.unknown}"
            f" | {found.lost} | {found.twice} | {found.unseen} |"
        )
    print()
    print("| promise | tried | broken |")
    print("|---|---|---|")
    rows = _promises(tally, whole)
    for promise, tried, broken in rows:
        print(f"| {promise} | {tried} | {broken} |")
    print()
    print(f"Gateway faults: {', '.join(f'{mode} {n}' for mode, n in sorted(tally.modes.items())) or 'none'}")
    faults_met = ", ".join(f"{mode} {n}" for mode, n in sorted(tally.days.met.items()))
    print(f"Virtual gateway: {faults_met or 'none'}; digest {tally.days.digest[:16]} of {tally.days.runs} runs")
    for what in tally.absent:
        print(f"Not proved here: {what}")
    if tally.missed:
        print(f"Steps at which nothing died, so nothing was proved: {', '.join(tally.missed)}")
    broken_ones = [promise for promise, _, broken in rows if broken]
    said = f"BROKEN: {'; '.join(broken_ones)}" if broken_ones else "No promise was broken"
    for name, found in tally.counts.items():
        if not (found.texts or found.kills or (name.endswith("uploads") and tally.uploads.killed)):
            print(f"Not tried in these minutes: {name}")
    print(f"{said}, in {took_s:.0f} s")
    return 1 if broken_ones or tally.missed else 0


def _promises(tally: Tally, whole: Count) -> list[tuple[str, str, int]]:
    """Each promise of integrity, what it was tried by, and how often it was broken."""
    writes, uploads, restored, days = tally.writes, tally.uploads, tally.restored, tally.days
    held = f"{restored.since} sent since the backup, {restored.held} held back, {restored.alive} sent after it"
    return [
        ("nothing accepted into the outbox is lost", f"{whole.texts} texts", whole.lost),
        ("nothing is sent twice", f"{whole.kills} kills, {tally.steps} of them at named steps", whole.twice),
        ("what left is seen as sent or as unknown", f"{whole.booked} in the book", whole.unseen),
        ("receipts never move a message backwards", f"{whole.receipts} delivered, out of order", whole.backwards),
        ("acknowledged inbound is stored and handled", f"{whole.inbound} texts", whole.absent),
        ("an inbound text acts once", f"{whole.inbound} texts, each sent again", whole.effects_twice),
        ("an upload is all or nothing", f"{uploads.killed} killed at random, {uploads.whole} of them after it was whole",
         whole.partial),
        ("an upload repeated changes nothing", f"{faults.ROWS} rows each", uploads.changed),
        ("a write that fails leaves nothing half done", f"{writes.writes} writes of {writes.steps} steps, broken and full",
         writes.half + writes.absent + writes.broken + writes.unfinished),
        ("a full disk loses nothing that was acknowledged", f"{tally.full} times full, {tally.turned_away} refused, all came again",
         sum(tally.counts.get("SQLite, a full disk", Count()).breaches.values())),
        ("a port that refuses leaves nothing in doubt", f"{tally.refused} calls refused",
         sum(tally.counts.get("SQLite, a port that refuses", Count()).breaches.values())),
        ("a restored backup sends nothing again", held, restored.again),
        ("the audit log is whole", f"{len(tally.counts)} logs", whole.chain),
        ("in virtual days every promise holds after every commit",
         f"{days.days} days in {days.runs} programmes, {days.texts} texts, {days.inbound} in, {days.deaths} deaths,"
         f" {days.moves} moves, {days.checks} checks", int(days.breach is not None)),
    ]  # fmt: skip


if __name__ == "__main__":
    unwind_when_told()
    sys.exit(main())
