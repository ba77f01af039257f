"""A backup made while everything works and verified before it counts, and its way back.

A backup is one SQLite file, made in one step by the library that this process uses, read from end to end, and only then
moved to its name.  A restore verifies it again, brings a copy of it to this release, puts up the fence (`upkeep/restore.py`) and
only then puts the copy in the place of the database; the file that stood there stays beside it.
"""

from __future__ import annotations

import contextlib
import fcntl
import glob
import os
import shutil
import sqlite3
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Any

from sqlalchemy import func, select, update
from sqlalchemy.exc import DatabaseError

from storage import audit, private_files, schema
from storage.audit import Actor
from storage.console import verified
from storage.database import Database, Transaction
from storage.errors import Misconfigured
from storage.upkeep import migrate
from storage.upkeep import restore as fence

_BESIDE = ("-wal", "-shm", "-journal")
_ROOM = ".jumbe-copy-"


@dataclass(frozen=True, slots=True)
class Made:
    """A backup that was verified: its file, its size in bytes, its revision, and the end of its audit log."""

    file: Path
    size: int
    revision: str | None
    lines: int | None
    head: str | None


@dataclass(frozen=True, slots=True)
class Restored:
    """A database that came back: when its backup was made, what the fence holds, and where the file before it is."""

    backed_up_at: datetime
    held: Mapping[str, int]
    kept: Path | None


@dataclass(frozen=True, slots=True)
class Checked:
    """A backup from which the database could come back: its revision, the end of its audit log, what the fence would hold."""

    backed_up_at: datetime
    revision: str | None
    lines: int | None
    head: str | None
    held: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class _Life:
    """Which programme a file is of, whether of virtual phones, and when something last happened in it."""

    secret: bytes
    rehearsal: bool
    until: datetime | None


def make(db: Database, to: Path) -> Made:
    """Back the database up to a file while it is in use; what stood there under that name stays until the new one is whole.

    Raises Misconfigured if it cannot be written, or if the copy does not hold.
    """
    db.check()
    to = Path(os.path.realpath(to))  # what a link leads to is replaced, and the link stays
    # A device (/dev/null) is no file either: whoever may would put the backup in its place.
    if (to.exists() and not to.is_file()) or to.is_symlink() or not to.parent.is_dir():
        raise Misconfigured([f"{to} cannot be written: name a file in a folder that is there"])
    if not db.is_sqlite:
        return _dump(db, to)
    assert db.file is not None
    if _is_same(to, db.file) or any(_named(to, end).exists() for end in _BESIDE):
        raise Misconfigured([f"{to} is a database in use: name another file for the backup"])
    with _room(to) as room:
        copy = room / "copy.db"
        now = db.clock()
        _copy(db, copy)
        found = _verify(copy, to.name)
        with _opened(copy) as staged, staged.transaction() as tx:
            tx.execute(update(schema.programme).values(backed_up_at=now, last_backup_at=now))
        _put(copy, to)
    _note(db, now)
    head = found.last.hash if found.last else None
    return Made(to, to.stat().st_size, schema.REVISION, found.holds, head)


def check(db: Database, source: Path, *, by: Actor) -> Checked:
    """Do all of a restore but its end, in a copy that goes again: what a backup is worth is known before it is needed.

    Raises Misconfigured if the backup does not hold, or is not of this programme.
    """
    if db.file is None:
        raise Misconfigured(["a PostgreSQL dump is checked by restoring it: pg_restore into an empty database"])
    if not source.is_file():
        raise Misconfigured([f"there is no file {source}"])
    with _room(source) as room:
        copy = private_files.copy(source, room / "copy.db")
        found = _verify(copy, str(source))
        with _opened(copy, db) as staged:
            revision = staged.revision()
            migrate.upgrade(staged)
            theirs = _life(staged)
            if db.file.exists() and _life(db).secret != theirs.secret:
                raise Misconfigured([f"{source} is a backup of another programme"])
            since = _made_at(staged)
            with staged.transaction() as tx:
                held = fence.put_up(tx, since, by=by)
    return Checked(since, revision, found.holds, found.last.hash if found.last else None, held)


def last_made(tx: Transaction) -> datetime | None:
    """When the last backup was made and verified; None if none ever was."""
    return tx.scalar(select(schema.programme.c.last_backup_at))  # type: ignore[no-any-return]


def restore(db: Database, source: Path, *, yes: bool, by: Actor) -> Restored:
    """Put a backup in the place of the database, behind the fence; the caller holds the lock of the worker.

    Raises Misconfigured if the backup does not hold, if anybody has the database open, or if something happened in it
    since the backup and `yes` was not said.
    """
    if db.file is None:
        raise Misconfigured(
            [
                "a PostgreSQL database comes back by its own pg_restore: then run 'jumbe restore --fence' before any worker"
            ]
        )
    if not source.is_file():
        raise Misconfigured([f"there is no file {source}"])
    target = Path(os.path.realpath(db.file))
    if _is_same(source, target):
        raise Misconfigured([f"{source} is the database itself: name a backup"])
    with _room(target) as room:
        copy = private_files.copy(source, room / "copy.db")
        _verify(copy, str(source))
        with _opened(copy, db) as staged:
            migrate.upgrade(staged)
            theirs = _life(staged)
            there = _may_be_replaced(target, theirs, room, yes=yes)
            since = _made_at(staged)
            with staged.transaction() as tx:
                held = fence.put_up(tx, since, by=by)
        kept = _set_aside(target, db.clock()) if there else None
        _put(copy, target)
    return Restored(since, held, kept)


def put_fence_up(db: Database, *, by: Actor) -> Restored:
    """The fence alone, for a database that another tool brought back."""
    db.check()
    since = _made_at(db)
    with db.transaction() as tx:
        return Restored(since, fence.put_up(tx, since, by=by), None)


# -- inside ------------------------------------------------------------------------------------------------------------


def _note(db: Database, now: datetime) -> None:
    with db.transaction() as tx:
        tx.execute(update(schema.programme).values(last_backup_at=now))


def _copy(db: Database, to: Path) -> None:
    """One step: with several, each write of another process would make the copy begin anew."""
    private_files.make(to)
    held: Any = db.engine.raw_connection()
    try:
        with contextlib.closing(sqlite3.connect(to)) as into:
            held.driver_connection.backup(into)
    except (OSError, sqlite3.Error) as fault:
        raise Misconfigured([f"the backup cannot be written: {fault}"]) from fault
    finally:
        held.close()


def _verify(file: Path, named: str) -> audit.Finding:
    """Read a copy from end to end; raises Misconfigured where it does not hold."""
    try:
        with contextlib.closing(sqlite3.connect(file)) as copy:
            told = [row[0] for row in copy.execute("PRAGMA integrity_check(3)")]
    except sqlite3.Error as fault:
        raise Misconfigured([f"{named} is no database that can be read: {fault}"]) from None
    if told != ["ok"]:
        raise Misconfigured([f"{named} is damaged, and nothing was changed: {told[0]}"])
    with _opened(file) as db:
        revision = db.revision()
        if revision is None:
            raise Misconfigured([f"{named} is no backup of Jumbe: it has none of its tables"])
        if revision > schema.REVISION:
            raise Misconfigured([f"{named} was made by a newer release of Jumbe: use that one"])
        found = audit.verify(db.reading)
    if found.breach is not None:
        raise Misconfigured([f"the audit log in {named} does not hold, and nothing was changed: {verified(found)}"])
    return found


def _may_be_replaced(target: Path, theirs: _Life, room: Path, *, yes: bool) -> bool:
    """Whether a database stands at the target; raises Misconfigured where it must not be replaced.

    A file that somebody has open cannot leave the WAL mode, whoever it is: what they wrote would be lost without a word.
    That also writes everything into the one file, so that it is whole where it is kept.
    """
    if not target.exists():
        return False
    try:
        with contextlib.closing(sqlite3.connect(target, timeout=0.2, isolation_level=None)) as alone:
            alone.execute("PRAGMA journal_mode = DELETE")
            alone.execute("BEGIN EXCLUSIVE")
            alone.execute("ROLLBACK")
        with _opened(private_files.copy(target, room / "there.db")) as there:
            migrate.upgrade(there)
            ours: _Life | None = _life(there)
    except sqlite3.OperationalError as fault:
        if "locked" in str(fault):
            raise Misconfigured(
                [f"{target} is in use: stop web, worker and desk first, then restore, then start them again"]
            ) from None
        ours = None
    except (sqlite3.Error, DatabaseError, Misconfigured):
        ours = None
    if ours is not None and ours.rehearsal != theirs.rehearsal:
        raise Misconfigured(["one of the two is a rehearsal and the other is not: a restore does not mix them"])
    if not yes and (why := _lost_by(ours, theirs)) is not None:
        raise Misconfigured([f"{target} {why}: say --yes to put it aside and go back to the backup"])
    return True


def _lost_by(ours: _Life | None, theirs: _Life) -> str | None:
    """What a restore would take out of use, if anything."""
    if ours is None:
        return "cannot be read, so nobody knows what is in it"
    if ours.secret != theirs.secret:
        return "is another programme's database"
    if ours.until is not None and (theirs.until is None or ours.until > theirs.until):
        return f"has gone on since the backup, until {ours.until:%Y-%m-%d %H:%M:%S} UTC"
    return None


def _life(db: Database) -> _Life:
    a, m = schema.audit, schema.messages
    with db.reading() as tx:
        row = tx.execute(select(schema.programme.c.secret, schema.programme.c.rehearsal)).one()
        moments = [tx.scalar(select(func.max(column))) for column in (a.c.at, m.c.created_at, m.c.settled_at)]
    return _Life(bytes(row.secret), bool(row.rehearsal), max((at for at in moments if at is not None), default=None))


def _made_at(db: Database) -> datetime:
    """When a backup was made: as it says, or, where another tool made it, when something last happened in it."""
    with db.reading() as tx:
        row = tx.execute(select(schema.programme)).one()
    last = [at for at in (row.backed_up_at, _life(db).until) if at is not None]
    return max(last, default=row.created_at)


def _set_aside(target: Path, now: datetime) -> Path:
    """Give the file that is replaced a name of its own, and what belongs to it: it never meets the new one."""
    for name in target.parent.glob(f"{glob.escape(target.name)}.before-restore-*"):
        if name.samefile(target):  # a restore that was killed before its end gave it to the file that is still in use
            name.unlink()
    kept = target.with_name(f"{target.name}.before-restore-{now:%Y%m%dT%H%M%SZ}")
    number = 1
    while kept.exists():
        number += 1
        kept = target.with_name(f"{target.name}.before-restore-{now:%Y%m%dT%H%M%SZ}-{number}")
    private_files.tighten([target, *(_named(target, end) for end in _BESIDE)])
    # A second name first: the database's own is at no moment without a file.
    os.link(target, kept)
    for end in _BESIDE:
        if _named(target, end).exists():
            _named(target, end).rename(_named(kept, end))
    return kept


def _put(copy: Path, to: Path) -> None:
    """Move a closed copy to its name, whole or not at all, also through a power cut."""
    with copy.open("rb") as written:
        os.fsync(written.fileno())
    copy.replace(to)
    folder = os.open(to.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextlib.contextmanager
def _room(beside: Path) -> Iterator[Path]:
    """A folder of our own on the same disk, that nobody else can read and that goes at the end.

    Who is killed leaves one behind, as large as the database: whoever comes next takes away what nobody holds any more.
    """
    try:
        for left in beside.parent.glob(f"{_ROOM}*"):
            _clear(left)
        room, lock = _new_room(beside.parent)
    except OSError as fault:
        raise Misconfigured([f"{beside.parent} cannot be written: {fault.strerror}"]) from None
    with lock:
        try:
            yield room
        finally:
            shutil.rmtree(room, ignore_errors=True)


def _new_room(folder: Path) -> tuple[Path, IO[bytes]]:
    while True:
        room = Path(tempfile.mkdtemp(prefix=_ROOM, dir=folder))
        if (lock := _take(room)) is not None:
            return room, lock  # else somebody cleared it away before it was held


def _clear(left: Path) -> None:
    with contextlib.suppress(OSError):
        if (lock := _take(left)) is not None:
            with lock:
                shutil.rmtree(left)


def _take(room: Path) -> IO[bytes] | None:
    """The lock of a room, which ends with the process that holds it, however that ends; None where another has it."""
    try:
        lock = private_files.append(room / "lock")
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(lock.fileno()).st_nlink:
            return lock
    except BlockingIOError:
        pass
    except OSError:
        lock.close()
        raise
    lock.close()
    return None


@contextlib.contextmanager
def _opened(file: Path, like: Database | None = None) -> Iterator[Database]:
    """A file of ours as a database; when it is closed everything is in the one file."""
    url = f"sqlite:///{file}"
    db = Database(url) if like is None else Database(url, like.rules, like.clock)
    try:
        yield db
    finally:
        db.close()


def _dump(db: Database, to: Path) -> Made:
    """What PostgreSQL's own tool writes, read back to its end; the audit log is verified in the database itself."""
    program = shutil.which("pg_dump")
    if program is None:
        raise Misconfigured(["a PostgreSQL database is backed up by its own pg_dump, which is not here: install it"])
    found = audit.verify(db.reading)
    if found.breach is not None:
        raise Misconfigured([f"the audit log does not hold: {verified(found)}"])
    now = db.clock()
    address = (
        db.url.set(drivername="postgresql", password=None).difference_update_query(["password"]).render_as_string()
    )
    # Not on the command line, where every user of the machine could read it.
    password = db.url.query.get("password", db.url.password)
    secret = {"PGPASSWORD": str(password)} if password else {}
    with _room(to) as room:
        copy = room / "copy.dump"
        private_files.make(copy)
        done = subprocess.run(  # noqa: S603  the program is found by us, and the address is the operator's own
            [program, "--format=custom", f"--file={copy}", f"--dbname={address}"],
            env=os.environ | secret, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            said = " ".join(done.stderr.split()) or "it said nothing"
            mend = ": install the client of the server's version, first in PATH" if "version mismatch" in said else ""
            raise Misconfigured([f"pg_dump could not back the database up: {said}{mend}"])
        _read_back(copy, Path(program).with_name("pg_restore"))
        _put(copy, to)
    _note(db, now)
    head = found.last.hash if found.last else None
    return Made(to, to.stat().st_size, schema.REVISION, found.holds, head)


def _read_back(dump: Path, program: Path) -> None:
    """Read a dump from end to end, by the tool beside the one that wrote it."""
    if not program.exists():
        raise Misconfigured([f"the dump cannot be read back: {program.name} is not beside pg_dump"])
    done = subprocess.run(  # noqa: S603  found beside pg_dump
        [program, f"--file={os.devnull}", dump], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise Misconfigured([f"the dump cannot be read back: {' '.join(done.stderr.split())}"])


def _named(file: Path, end: str) -> Path:
    return file.with_name(file.name + end)


def _is_same(one: Path, other: Path) -> bool:
    return one.exists() and other.exists() and one.samefile(other)
