"""Run the proof and print its table: `python -m tests.proof`.

`PROVE=night` is the long form, `PROVE_MINUTES=n` bounds either, and `PROVE_SEED=n` repeats one.  A seed repeats what was
chosen: whom to kill, after how many texts, and how the gateway fails.  It does not repeat the instant at which a process
was on its way, so a breach of the processes is run again with its seed more than once.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

import sqlalchemy

import storage  # noqa: F401  chooses the SQLite library
from tests.ending import unwind_when_told
from tests.processes import ROOT
from tests.proof import faults
from tests.proof.counting import Count
from tests.proof.days import Report
from tests.proof.parts import SETTLING_S, SIZES, Size, Tally, prove_beside, prove_on_sqlite


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
    """All that goes by in real time: on SQLite here, and beside it on PostgreSQL in a process of its own.

    Each part gets dice of its own, so that how long one takes changes nothing in the next.
    """
    from_there, there = multiprocessing.Pipe(duplex=False)
    beside = multiprocessing.get_context("spawn").Process(
        target=prove_beside, args=(there, size, minutes, random.Random(dice.random()))
    )
    beside.start()
    there.close()
    try:
        prove_on_sqlite(size, minutes, dice, tally)
        tally.take(from_there.recv())
    except EOFError:
        raise SystemExit("the proof on PostgreSQL ended with the fault above") from None
    finally:
        beside.terminate()
        beside.join()


@contextlib.contextmanager
def _virtual_days(seed: int, within_s: float, tally: Tally) -> Iterator[None]:
    """The virtual days go by beside the others, which mostly wait, in a process for each processor."""
    with contextlib.ExitStack() as stack:
        children = [stack.enter_context(_days_of(seed + n, within_s)) for n in range(os.cpu_count() or 1)]
        yield
        for child in children:
            told, _ = child.communicate(timeout=within_s + 300)
            found = Report(**json.loads(told))
            tally.days.take(found)
            tally.digests.append(f"{found.digest[:16]} of {found.runs} runs from {found.seed}")


@contextlib.contextmanager
def _days_of(seed: int, within_s: float) -> Iterator[subprocess.Popen[str]]:
    command = ["nice", sys.executable, "-W", "ignore", "-m", "tests.proof.days", str(seed), "--within", str(within_s)]
    with tempfile.TemporaryDirectory(prefix="jumbe-prove-") as folder:  # it has no time to tidy up where it is killed
        env = os.environ | {"TMPDIR": folder}
        child = subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True)
        try:
            yield child
        finally:
            child.kill()
            child.wait()


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
    print(f"Virtual gateway: {faults_met or 'none'}; digest {'; '.join(tally.digests)}")
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
    backups, restores = tally.backups, tally.restores
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
        ("a killed backup leaves the one before or a whole one", f"{backups.killed} killed, {backups.there} after it was there",
         backups.torn + backups.left + backups.stopped),
        ("a killed restore leaves the old database, or the backup behind its fence",
         f"{restores.killed} killed, {restores.there} after it was there", restores.half + restores.unfenced + restores.left),
        ("the audit log is whole", f"{len(tally.counts)} logs", whole.chain),
        ("in virtual days every promise holds after every commit",
         f"{days.days} days in {days.runs} programmes, {days.texts} texts, {days.inbound} in, {days.deaths} deaths,"
         f" {days.moves} moves, {days.checks} checks", int(days.breach is not None)),
    ]  # fmt: skip


if __name__ == "__main__":
    unwind_when_told()
    sys.exit(main())
