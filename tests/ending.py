"""What a program of ours started ends with it.

A bench or a proof that is told to end raises an exception of its own, so that every `with` does its part.  A run of the
tests may be killed in a way that leaves it no last word: so each process of pytest starts a *watcher* in a session of its
own, which sees it end, and then ends every process that carries its mark.  The mark stands in the environment, which all
that is started hands on to what it starts, whoever that runs as.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Final

SIGNS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

MARK: Final = "ENDS_WITH_TESTS"
"""The variable of the environment in which the mark stands."""

SHORT: Final = "/tmp"
"""Where a socket goes whose path would be too long elsewhere."""

QUIETLY_S: Final = 5.0
"""So long a PostgreSQL may take to end by itself, as it does without leaving shared memory behind."""


def unwind_when_told() -> None:
    """From now on raise SystemExit at the first of these signals, with the status that a shell gives it, and heed no second."""
    for sign in SIGNS:
        signal.signal(sign, _unwind)


def _unwind(sign: int, _frame: FrameType | None) -> None:
    for each in SIGNS:
        signal.signal(each, signal.SIG_IGN)
    raise SystemExit(128 + sign)


# -- a run that is killed ----------------------------------------------------------------------------------------------


def end_with_me(*others: int) -> str:
    """End what this process starts from now on as soon as it ends, or one of the others does; the mark of all that."""
    os.environ[MARK] = mark = secrets.token_hex(6)
    watched = [str(pid) for pid in (os.getpid(), *others)]
    subprocess.Popen(
        [sys.executable, "-I", "-S", __file__, mark, tempfile.gettempdir(), *watched],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        env={},  # without the mark
    ).returncode = 0  # nobody waits for it: it outlives this process  # fmt: skip
    return mark


def makes_of(pid: int) -> list[int]:
    """The `make` that runs this process, if one does: nobody types Ctrl-C at one that was killed."""
    found = []
    for _ in range(2):  # a make may start a shell first
        with contextlib.suppress(OSError, ValueError):
            words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            pid = int(words[1])
            if Path(f"/proc/{pid}/comm").read_text().strip() in ("make", "gmake"):
                found.append(pid)
    return found


def marked(mark: str) -> Iterator[tuple[int, str]]:
    """The processes with this mark that live, and the name of what runs in each."""
    wanted = f"{MARK}={mark}".encode()
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and int(process.name) != os.getpid():
            with contextlib.suppress(OSError):
                state = (process / "stat").read_text().rpartition(")")[2].split()[0]
                if state != "Z" and wanted in (process / "environ").read_bytes().split(b"\0"):
                    yield int(process.name), (process / "comm").read_text().strip()


def _watch(mark: str, room: str, *pids: int) -> None:
    """Wait until one of these ends; then end all that carries the mark, the first of them too, and their files."""
    for sign in SIGNS:
        signal.signal(sign, signal.SIG_IGN)
    ends: list[int] = []
    with contextlib.suppress(ProcessLookupError):  # it ended before we came to watch
        for pid in pids:
            ends.append(os.pidfd_open(pid))
        select.select(ends, [], [])
    with contextlib.suppress(ProcessLookupError, IndexError):
        signal.pidfd_send_signal(ends[0], signal.SIGKILL)
    since = time.monotonic()
    while left := dict(marked(mark)):
        is_late = time.monotonic() - since > QUIETLY_S
        for pid, name in left.items():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGQUIT if name == "postgres" and not is_late else signal.SIGKILL)
        time.sleep(0.05)
    # What a server of many processes ends with may still be written for a moment.
    since = time.monotonic()
    while (
        left_over := [each for place in (room, SHORT) for each in Path(place).glob(f"jumbe-*-{mark}-*")]
    ) and time.monotonic() - since < QUIETLY_S:
        for folder in left_over:
            shutil.rmtree(folder, ignore_errors=True)
        time.sleep(0.05)


if __name__ == "__main__":
    _watch(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:]))
