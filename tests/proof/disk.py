"""A disk that fails the n-th write of SQLite, for n = 1, 2, 3 and on until the step has no further write.

SQLite lets a program replace the calls by which it writes.  They are replaced in this process, so it is a process of its
own: `python -m tests.proof.disk` prints what it found as JSON.  After each failure the database is read by a connection
of its own: whoever was told of a failure must find nothing changed, whoever was told that all is well must find it there.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import itertools
import json
import logging
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from sqlalchemy import update

import storage  # noqa: F401  chooses the SQLite library
from bot.gateways.simulator import Simulator
from bot.inbound.intake import play_spool, spool_of, take
from bot.inbound.spool import Kept, Spool
from storage import audit, schema
from storage.broadcasts import broadcasts, expansion, previews
from storage.contacts import cases
from storage.contacts.cases import Wanted
from storage.database import Database
from storage.messages import gate, outbox
from storage.rules.hours_and_limits import Rules
from storage.upkeep import migrate
from tests.world import TEST, World

ROWS: Final = 60
MOST: Final = 400
"""Writes of one step; one that has more is not proved to its end, and that is a fault of this proof."""

URL: Final = "http://127.0.0.1"

Step = Callable[[], Callable[[], bool]]
"""What does it; it returns how to see that it was done, or raises."""


@dataclass
class Found:
    """How many writes failed, of how many kinds of step, and what must not be."""

    writes: int = 0
    steps: int = 0
    half: int = 0
    absent: int = 0
    broken: int = 0
    unfinished: int = 0


class Disk:
    """SQLite's writes, of which one may fail."""

    def __init__(self) -> None:
        self.fails_at = 0
        self.code = errno.EIO
        self.count = 0
        self.failed = False
        self._kept: list[Any] = []
        library = ctypes.CDLL(_library())
        library.sqlite3_vfs_find.restype = ctypes.c_void_p
        self._vfs = ctypes.cast(library.sqlite3_vfs_find(None), ctypes.POINTER(_Vfs))
        here = ctypes.CDLL(None, use_errno=True)
        sized = (ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t)
        for name, kinds in (
            ("write", sized),
            ("pwrite", (*sized, ctypes.c_int64)),
            ("pwrite64", (*sized, ctypes.c_int64)),
        ):
            real = getattr(here, name)
            real.argtypes, real.restype = kinds, ctypes.c_ssize_t
            shape = ctypes.CFUNCTYPE(ctypes.c_ssize_t, *kinds, use_errno=True)
            ours = shape(self._instead_of(real))
            self._kept.append(ours)
            self._vfs.contents.set_system_call(self._vfs, name.encode(), ctypes.cast(ours, ctypes.c_void_p))

    def fail(self, at: int, code: int) -> None:
        """From now on the write of this number fails, once; 0 for none."""
        self.fails_at, self.code, self.count, self.failed = at, code, 0, False

    def _instead_of(self, real: Callable[..., int]) -> Callable[..., int]:
        def write(*told: Any) -> int:
            self.count += 1
            if self.count == self.fails_at:
                self.failed = True
                ctypes.set_errno(self.code)
                return -1
            return real(*told)

        return write


class _Vfs(ctypes.Structure):
    """`struct sqlite3_vfs` of sqlite3.h, version 3."""


_SET = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(_Vfs), ctypes.c_char_p, ctypes.c_void_p)
_Vfs._fields_ = [
    ("version", ctypes.c_int),
    ("size_of_file", ctypes.c_int),
    ("longest_path", ctypes.c_int),
    ("next", ctypes.c_void_p),
    ("name", ctypes.c_char_p),
    ("data", ctypes.c_void_p),
    ("methods", ctypes.c_void_p * 13),
    ("set_system_call", _SET),
    ("get_system_call", ctypes.c_void_p),
    ("next_system_call", ctypes.c_void_p),
]


def _library() -> str:
    """The file of the SQLite that this process uses."""
    import _sqlite3
    import sqlite3

    own = sys.modules.get("pysqlite3._sqlite3", _sqlite3)
    assert own.sqlite_version == sqlite3.sqlite_version
    return str(own.__file__)


def prove() -> Found:
    """Every write of every kind of step fails once as broken and once as full."""
    found, disk = Found(), Disk()
    for code in (errno.EIO, errno.ENOSPC):
        with tempfile.TemporaryDirectory(prefix="jumbe-disk-") as folder:
            _try_all(Path(folder), disk, code, found)
    return found


def _try_all(folder: Path, disk: Disk, code: int, found: Found) -> None:
    rules = Rules(time_zone="Africa/Accra", hours=None, default_gateway="simulator", gateways=frozenset({"simulator"}))
    db = Database(f"sqlite:///{folder / 'jumbe.db'}", rules)
    migrate.upgrade(db)
    gateway = Simulator(book=folder / "book.db", public_url=URL)
    world, spool = World(db), spool_of(db)
    members = [world.case(f"case-{n}", f"2332400{n:05}") for n in range(12)]
    world.group("anc", *members)
    world.person("Rosa", "233209000001")
    with _connected(db):
        for name, step in _steps(db, gateway, spool, members):
            found.steps += 1
            _try(name, db.file, disk, code, step, found)
    db.close()
    said = [row[0] for row in _look(db.file, "PRAGMA integrity_check")]
    found.broken += said != ["ok"]
    with _connected(Database(f"sqlite:///{db.file}", rules)) as again:
        found.broken += audit.verify(again.reading).breach is not None


def _try(name: str, file: Path | None, disk: Disk, code: int, step: Callable[[int], Step], found: Found) -> None:
    """Fail the first write of a step, then the second, until it has no more; each time on a fresh matter."""
    n = 0
    while n < MOST:
        n += 1
        is_there = None
        act = step(n)
        prepared = _whole(file)
        disk.fail(n, code)
        try:
            is_there = act()
        except Exception as fault:  # noqa: BLE001  whoever calls is told
            told = type(fault).__name__
        else:
            told = "well"
        failed = disk.failed
        disk.fail(0, code)
        found.writes += failed
        changed = _whole(file) != prepared
        if told != "well" and changed:
            found.half += 1
            print(f"{name}: {told} at write {n}, and something was changed", file=sys.stderr)
        if told == "well" and not is_there():  # type: ignore[misc]
            found.absent += 1
            print(f"{name}: all was well at write {n}, and it is not there", file=sys.stderr)
        if not failed:
            return
        if told == "well" and changed:
            n += 9  # committed before: what fails now is the copying of the log into the file, page by page
    found.unfinished += 1


def _steps(
    db: Database, gateway: Simulator, spool: Spool, members: list[int]
) -> Iterator[tuple[str, Callable[[int], Step]]]:
    """Each kind of step: what makes one ready, which returns what does it, which returns how to see that it was done."""

    def heard(words: str, sender: Callable[[int], str]) -> Callable[[int], Step]:
        def ready(n: int) -> Step:
            request = gateway.originate(sender(n), words)
            sid = json.loads(request.body)["id"]

            def act() -> Callable[[], bool]:
                kept = Kept("simulator", request, None, db.clock())
                if take(db, {"simulator": gateway}, kept, spool) != 200:
                    raise OSError("not acknowledged, so it comes again")

                def seen() -> bool:
                    play_spool(db, {"simulator": gateway}, spool)
                    there = "SELECT count(*) FROM messages WHERE gateway_id = ? AND state = 'handled'"
                    return list(_look(db.file, there, sid)) == [(1,)]

                return seen

            return act

        return ready

    fresh = itertools.count(1)

    def launched(_n: int) -> Step:
        with db.transaction() as tx:
            number = previews.draft(tx, {"en": f"Visit {next(fresh)}"}, case_ids=members, by=TEST)

        def act() -> Callable[[], bool]:
            with db.transaction() as tx:
                broadcasts.launch(tx, number, hold_s=0, by=TEST)
                while expansion.expand_next(tx):
                    pass
            return lambda: list(
                _look(db.file, "SELECT count(*) FROM messages WHERE broadcast_id = ?", number)
            ) == [(12,)]  # fmt: skip

        return act

    def sent(_n: int) -> Step:
        with db.transaction() as tx:
            tx.execute(update(schema.messages).where(schema.messages.c.state == "queued").values(state="cancelled"))
            ids = [outbox.queue(tx, f"2332055{next(fresh):05}", "Hello", "notice") for _ in range(8)]

        def act() -> Callable[[], bool]:
            with db.transaction() as tx:
                taken = outbox.claim(tx, "simulator", "me", 1000)
                going, _ = gate.hand_over(tx, taken, "me", rate_per_s=1e6)
                answers = [outbox.Settled(h.id, h.attempt_id, "accepted", gateway_id=h.attempt_id) for h in going]
                outbox.settle(tx, answers)
            count = f"SELECT count(*) FROM messages WHERE state = 'accepted' AND id IN ({','.join(map(str, ids))})"
            return lambda: list(_look(db.file, count)) == [(8,)]

        return act

    def uploaded(_n: int) -> Step:
        prefix = f"u{next(fresh)}"

        def act() -> Callable[[], bool]:
            with db.transaction() as tx:
                cases.save(tx, [Wanted(None, {"external_id": f"{prefix}-{i}"}) for i in range(ROWS)], by=TEST)
            there = "SELECT count(*) FROM cases WHERE external_id LIKE ?"
            return lambda: list(_look(db.file, there, f"{prefix}-%")) == [(ROWS,)]

        return act

    yield "a STOP", heard("STOP", lambda n: f"2332477{n:05}")
    yield "a question", heard("Where is the clinic?", lambda n: f"2332400{n % 12:05}")
    yield "a command", heard("who anc", lambda _n: "233209000001")
    yield "a broadcast", launched
    yield "a send", sent
    yield "an upload", uploaded


@contextmanager
def _connected(db: Database) -> Iterator[Database]:
    """No power is cut here, so nothing need wait for a disk."""
    held: Any = db.engine.raw_connection()
    held.driver_connection.execute("PRAGMA synchronous = OFF")
    held.driver_connection.execute("PRAGMA wal_autocheckpoint = 60")
    held.close()
    try:
        yield db
    finally:
        db.close()


def _look(file: Path | None, query: str, *values: Any) -> Iterator[Any]:
    import sqlite3

    connection = sqlite3.connect(str(file))
    try:
        yield from connection.execute(query, values).fetchall()
    finally:
        connection.close()


def _whole(file: Path | None) -> str:
    """Everything that the database holds, in one number."""
    import sqlite3

    digest, connection = hashlib.sha256(), sqlite3.connect(str(file))
    for table in schema.metadata.sorted_tables:
        digest.update(repr(connection.execute(f'SELECT * FROM "{table.name}"').fetchall()).encode())
    connection.close()
    return digest.hexdigest()


def main() -> int:
    logging.disable(logging.CRITICAL)
    print(json.dumps(asdict(prove())))
    return 0


if __name__ == "__main__":
    sys.exit(main())
