"""What is done to which programme, in what order and for how long; one part after the other, each with dice of its own."""

from __future__ import annotations

import contextlib
import random
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

import pytest

from storage.database import Database
from storage.database import server as server_of
from tests.ending import unwind_when_told
from tests.postgres import running as postgres
from tests.proof import faults, scenes
from tests.proof.backups import Backups, Restores, kill_backups, kill_restores
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
    backups: int
    full: int
    since_backup: int
    people: int
    steps: bool
    """Whether the steps are gone through again and again."""


SIZES: Final = {
    "quick": Size(4.2, kills=200, uploads=20, backups=8, full=8, since_backup=200, people=150, steps=False),
    "night": Size(600, kills=10_000, uploads=500, backups=300, full=400, since_backup=1000, people=400, steps=True),
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
    backups: Backups = field(default_factory=Backups)
    restores: Restores = field(default_factory=Restores)
    restored: Restored = field(default_factory=Restored)
    days: Report = field(default_factory=lambda: Report(0, 0, runs=0))
    digests: list[str] = field(default_factory=list)
    steps: int = 0
    full: int = 0
    turned_away: int = 0
    refused: int = 0
    began: float = field(default_factory=time.monotonic)

    def take(self, other: Tally) -> None:
        """What was found on the other database."""
        self.counts |= other.counts
        self.modes += other.modes
        self.missed += other.missed
        self.absent += other.absent
        self.steps += other.steps

    def add(self, name: str, found: Count) -> None:
        """Keep what one part came to, and say it at once."""
        self.counts[name] = found
        at = time.monotonic() - self.began
        print(
            f"{at:4.0f} s  {name}: {found.kills} kills, {found.texts} texts, breaches {found.breaches or 'none'}",
            flush=True,
        )


def prove_on_sqlite(size: Size, minutes: float, dice: random.Random, tally: Tally) -> None:
    weights = {"steps": 2.0, "disk": 1.0, "uploads": 1.0, "backups": 1.0, "random": 5.0}
    budget = Budget(minutes, *weights.values())
    tally.writes = faults.every_write()
    _restore(_part(dice), size, tally)
    _refuse(_part(dice), tally)
    tally.add("SQLite, a death at each step", _labelled(_part(dice), budget.share(weights["steps"]), size, tally))
    _fill(_part(dice), size, budget.share(weights["disk"]), tally)
    _upload(_part(dice), size, budget.share(weights["uploads"]), tally)
    _back_up(_part(dice), size, budget.share(weights["backups"]), tally)
    found = _at_random(_part(dice), size, budget.share(weights["random"]), tally, ("worker",))
    tally.add("SQLite, deaths at random, 1 worker", found)


def prove_beside(told: Connection, size: Size, minutes: float, dice: random.Random) -> None:
    """What a process beside this one does: prove on PostgreSQL, tell what was found, and end what it started if told to."""
    unwind_when_told()
    told.send(_prove_on_postgres(size, minutes, dice))


def _prove_on_postgres(size: Size, minutes: float, dice: random.Random) -> Tally:
    weights = {"steps": 3.0, "1 worker": 3.0, "3 workers": 5.0}
    budget, tally = Budget(minutes, *weights.values()), Tally()
    with _server() as server:
        if server is None:
            tally.absent.append("PostgreSQL")
            return tally
        with server.database() as address:
            print(f"PostgreSQL {_version(address)}", flush=True)
            found = _labelled(_part(dice), budget.share(weights["steps"]), size, tally, address)
            tally.add("PostgreSQL, a death at each step", found)
        for name, workers in (("1 worker", ("worker",)), ("3 workers", ("worker1", "worker2", "worker3"))):
            with server.database() as address:
                found = _at_random(_part(dice), size, budget.share(weights[name]), tally, workers, address)
            tally.add(f"PostgreSQL, deaths at random, {name}", found)
    return tally


def _part(dice: random.Random) -> random.Random:
    return random.Random(dice.random())


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
        tally.add(
            "SQLite, uploads", Count(tally.uploads.killed, partial=tally.uploads.partial, chain=log_is_broken(jumbe))
        )


def _back_up(dice: random.Random, size: Size, within_s: float, tally: Tally) -> None:
    with _programme(_part(dice)) as jumbe:
        jumbe.gather(20)
        tally.backups = kill_backups(jumbe, size.backups, within_s / 2)
        found = jumbe.settle()
    with _programme(_part(dice)) as jumbe:
        jumbe.gather(20)
        tally.restores = kill_restores(jumbe, size.backups, within_s / 2)
    found.kills += tally.backups.killed + tally.restores.killed
    tally.add("SQLite, backups and restores", found)


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
