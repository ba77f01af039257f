"""`jumbe backup` and `jumbe restore` killed at each of their steps, then at random, while the programme goes on."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, repeat
from pathlib import Path
from typing import Final

from storage.errors import Misconfigured
from storage.upkeep.backups import _ROOM as ROOM
from tests.patience import by_chance, ended, until
from tests.processes import Process
from tests.proof.counting import log_is_broken
from tests.proof.nursery import Child
from tests.proof.scenes import Programme, traffic

BACKUP: Final = ("copy:verified", "copy:put:before", "copy:put:after")
DUMP: Final = ("copy:read back", "copy:put:before", "copy:put:after")
RESTORE: Final = ("copy:verified", "copy:fenced", "copy:set aside", "copy:put:before", "copy:put:after")
AT_RANDOM: Final = ""

LATER: Final = "after-the-backup"
"""The external id of a case that is in the database and not in the backup."""


@dataclass
class Backups:
    """Backups that were killed: how many, after how many the new one was there, and what was broken."""

    killed: int = 0
    there: int = 0
    torn: int = 0
    """What stood under the name was neither the one before nor a whole new one."""

    left: int = 0
    """Copies that lay in the folder after the next backup."""

    stopped: int = 0
    """The programme did not answer, or its worker was not heard of."""


@dataclass
class Restores:
    """Restores that were killed: how many, after how many the backup was in place, and what was broken."""

    killed: int = 0
    there: int = 0
    half: int = 0
    """The database was neither as before nor as in the backup."""

    unfenced: int = 0
    left: int = 0
    """Copies, or second names of one file, that lay in the folder after the next restore."""


def kill_backups(jumbe: Programme, times: int, within_s: float) -> Backups:
    """Web and worker go on while backups are killed; there are texts coming in all the time.

    The first is over no other; then each is over the one before, which must be there until a new one is whole.
    """
    found, end = Backups(), time.monotonic() + within_s
    folder = jumbe.folder / "backups"
    folder.mkdir()
    target = folder / "nightly"
    jumbe.start("web", "worker")
    with traffic(jumbe):
        if jumbe.people and not jumbe.launched:
            jumbe.say()
        for step in _steps(BACKUP if _is_sqlite(jumbe) else DUMP, times):
            if time.monotonic() > end:
                break
            before = _digest(target)
            found.killed += _dies(jumbe, folder, step, "backup", "--to", str(target))
            after = _digest(target)
            found.there += after != before
            found.torn += after != before and not _holds(jumbe, target)
            if step in (
                "copy:put:after",
                AT_RANDOM,
            ):  # the next, which is not killed, takes away what all of these left
                jumbe.quickly("backup", "--to", str(target))
                found.torn += not _holds(jumbe, target)
                found.left += len(_others(folder, target.name))
            found.stopped += jumbe.get("/readyz")[0] != 200
    return found


def kill_restores(jumbe: Programme, times: int, within_s: float) -> Restores:
    """A restore over a database that has gone on is killed; what is there then is the old one or the backup behind its fence."""
    found, end = Restores(), time.monotonic() + within_s
    backup, went_on, file = jumbe.folder / "old.db", jumbe.folder / "went-on.db", jumbe.file
    if jumbe.people:
        jumbe.say()
    jumbe.quickly("backup", "--to", str(backup))
    (jumbe.folder / "later.csv").write_text(f"external_id,name\n{LATER},Later\n", "utf-8")
    jumbe.quickly("cases", "import", str(jumbe.folder / "later.csv"))
    jumbe.quickly("backup", "--to", str(went_on))
    for step in _steps(RESTORE, times):
        if time.monotonic() > end:
            break
        for old in jumbe.folder.glob(f"{file.name}*"):
            old.unlink()
        shutil.copyfile(went_on, file)
        found.killed += _dies(jumbe, jumbe.folder, step, "restore", str(backup), "--yes")
        _look(jumbe, found)
        jumbe.quickly("restore", str(backup), "--yes")
        assert not _went_on(jumbe)
        kept = [name.stat().st_ino for name in jumbe.folder.glob(f"{file.name}.before-restore-*")]
        found.left += len(kept) - len({*kept} - {file.stat().st_ino}) + len([*jumbe.folder.glob(f"{ROOM}*")])
    return found


def _look(jumbe: Programme, found: Restores) -> None:
    """Count what a killed restore left in the place of the database."""
    try:
        with jumbe.database() as db:
            db.check()
        if jumbe.one("PRAGMA integrity_check") != "ok" or log_is_broken(jumbe):
            found.half += 1
            return
    except Misconfigured:
        found.half += 1
        return
    restored = jumbe.one("SELECT restored_at FROM programme")
    if _went_on(jumbe):
        found.half += restored is not None
        return
    found.there += 1
    open_ = "SELECT count(*) FROM messages WHERE state IN ('queued', 'claimed', 'sending')"
    found.unfenced += restored is None or jumbe.one(open_) > 0


def _went_on(jumbe: Programme) -> bool:
    return bool(jumbe.one("SELECT count(*) FROM cases WHERE external_id = :later", later=LATER))


def _steps(named: tuple[str, ...], times: int) -> Iterator[str]:
    return chain(named, repeat(AT_RANDOM, max(0, times - len(named))))


def _dies(jumbe: Programme, folder: Path, step: str, *args: str) -> bool:
    """Run a command that is killed at a step, or at random once it has begun to copy; returns whether it was."""
    told = {} if step == AT_RANDOM else {"PROOF_DIE": f"{step}:1"}
    process = Child(args, jumbe.env | told, jumbe.folder / "commands.log")
    try:
        if step == AT_RANDOM:
            _kill_amid(jumbe, process, folder)
        ended(process)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            ended(process)
    died = process.returncode == -signal.SIGKILL
    assert died or step == AT_RANDOM, f"{args[0]} did not come to {step!r}, and ended with {process.returncode}"
    return died


def _kill_amid(jumbe: Programme, process: Process, folder: Path) -> None:
    """kill -9 within the time that a copy takes; half the time of the process alone, and what it started lives on."""
    there = {one.name for one in folder.iterdir()}
    until(
        lambda: process.poll() is not None or any(one.name not in there for one in folder.glob(f"{ROOM}*")),
        "it copies, or has ended", every_s=0.001,
    )  # fmt: skip
    by_chance(jumbe.dice, 0.2)
    if process.poll() is None:
        (os.kill if jumbe.dice.random() < 0.5 else os.killpg)(process.pid, signal.SIGKILL)


def _is_sqlite(jumbe: Programme) -> bool:
    return jumbe.env["DATABASE_URL"].startswith("sqlite")


def _digest(file: Path) -> str | None:
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.exists() else None


def _holds(jumbe: Programme, file: Path) -> bool:
    """Whether a backup is whole, by the command that tries it or by PostgreSQL's own tool."""
    if _is_sqlite(jumbe):
        try:
            jumbe.quickly("restore", str(file), "--check")
        except AssertionError:
            return False
        return True
    restore = shutil.which("pg_restore", path=jumbe.env.get("PATH"))
    assert restore is not None
    return subprocess.run([restore, f"--file={os.devnull}", file], capture_output=True, check=False).returncode == 0


def _others(folder: Path, name: str) -> list[str]:
    return [one.name for one in folder.iterdir() if one.name != name]
