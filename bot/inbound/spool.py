"""Signed webhooks that the database could not keep, in a file beside it until it can.

One line is one request as it came: the gateway, the address, the body and the moment.  A line is on the disk (fsync)
before the gateway hears 200, and only requests whose signature was verified are ever written.  The file is readable by its
owner only, because it holds texts and numbers.

The lines are played back in order through the same code as a request, by whichever process comes first: they are moved
aside under a lock, played, and the file is removed when all are in the database.  A death in the middle plays them again,
which changes nothing: a text counts once by its gateway id, and receipts only move forward.  What our own code fails at is
set aside beside it, for a person.
"""

from __future__ import annotations

import base64
import fcntl
import json
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from bot.gateways.base import Request
from storage import private_files
from storage.database import Lost

log = logging.getLogger(__name__)

OUTAGES = (OperationalError, InterfaceError, PoolTimeout, Lost)
"""What says that the database cannot keep anything now; every other fault is of the request or of our code."""

KEPT_HEADERS = ("content-type",)
LARGEST = 256 * 2**20
"""Bytes: some hundred thousand requests; a disk must not fill because a database is away."""


@dataclass(frozen=True, slots=True)
class Kept:
    """One request that waits: for a receipt, `message_id` is ours from its address."""

    gateway: str
    request: Request
    message_id: int | None
    at: datetime


class Spool:
    """The file of one web process and worker; nothing is made before the first request has to wait."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._playing = path.with_name(path.name + "-playing")
        self._lock = path.with_name(path.name + "-lock")
        self.aside = path.with_name(path.name + "-aside")

    def is_empty(self) -> bool:
        """Whether nothing waits: a look at two names."""
        return not self.path.exists() and not self._playing.exists()

    def keep(self, kept: Kept) -> None:
        """Write one request down; when this returns, it is durable.  Raises OSError if it cannot be."""
        while True:
            with _appending(self.path) as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                # Moved aside between the opening and the lock: what is written there now would be played, or removed.
                if not _is_still(file, self.path):
                    continue
                before = os.fstat(file).st_size
                if before > LARGEST:
                    raise OSError("the spool is full")
                try:
                    _write(file, b"\n" + _line(kept) + b"\n")
                except OSError:
                    os.ftruncate(file, before)
                    raise
            _sync_folder(self.path)
            return

    def play(self, take: Callable[[Kept], None]) -> int:
        """Hand every request that waits to `take`, in order; returns how many.

        Nothing happens where another process is at it.  One of `OUTAGES` passes on, and everything is played again later.
        """
        if self.is_empty():
            return 0
        with _only_one(self._lock) as alone:
            if not alone:
                return 0
            played = 0
            while self._move_aside():
                for line in self._playing.read_bytes().splitlines():
                    played += self._play_one(line, take)
                self._playing.unlink()
            return played

    def waiting(self) -> tuple[int, int]:
        """How many requests wait, and how many were set aside."""
        return _count(self.path) + _count(self._playing), _count(self.aside)

    def _move_aside(self) -> bool:
        """Whether there is something to play: what a death left first, then what was written since."""
        if self._playing.exists():
            return True
        try:
            with self.path.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX)  # until who writes now has written
                self.path.rename(self._playing)
        except FileNotFoundError:
            return False
        return True

    def _play_one(self, line: bytes, take: Callable[[Kept], None]) -> int:
        if not line:
            return 0
        try:
            kept = _read(line)
        except (ValueError, KeyError, TypeError):
            # Half a line is one that was never acknowledged: a death in the middle of writing it.
            return 0
        try:
            take(kept)
        except OUTAGES:
            raise
        except Exception as fault:  # noqa: BLE001  one request's fault must not keep the others waiting for ever
            log.error("a kept webhook of %s was set aside: %s", kept.gateway, type(fault).__name__)
            with _appending(self.aside) as file:
                _write(file, line + b"\n")
        return 1


def _line(kept: Kept) -> bytes:
    said = {
        "gateway": kept.gateway,
        "method": kept.request.method,
        "url": kept.request.url,
        "headers": {name: value for name, value in kept.request.headers.items() if name in KEPT_HEADERS},
        "body": base64.b64encode(kept.request.body).decode("ascii"),
        "message_id": kept.message_id,
        "at": kept.at.isoformat(),
    }
    return json.dumps(said).encode("ascii")


def _read(line: bytes) -> Kept:
    said = json.loads(line)
    body = base64.b64decode(said["body"], validate=True)
    request = Request(said["method"], said["url"], said["headers"], body)
    return Kept(said["gateway"], request, said["message_id"], datetime.fromisoformat(said["at"]))


@contextmanager
def _appending(path: Path) -> Iterator[int]:
    with private_files.append(path) as file:
        yield file.fileno()


def _write(file: int, line: bytes) -> None:
    left = memoryview(line)
    while left:
        left = left[os.write(file, left) :]
    os.fsync(file)


def _is_still(file: int, path: Path) -> bool:
    try:
        now = path.stat()
    except FileNotFoundError:
        return False
    opened = os.fstat(file)
    return (now.st_dev, now.st_ino) == (opened.st_dev, opened.st_ino)


def _sync_folder(path: Path) -> None:
    """The name of a new file is durable only when its folder is."""
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextmanager
def _only_one(lock: Path) -> Iterator[bool]:
    """Hold the lock of who plays; False where another holds it."""
    with _appending(lock) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
            return
        yield True


def _count(path: Path) -> int:
    try:
        return sum(1 for line in path.read_bytes().splitlines() if line)
    except FileNotFoundError:
        return 0
