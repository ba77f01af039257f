"""Open the shared database, and the two doors to it: `reading()` and `transaction()`.

Everything that differs between SQLite and PostgreSQL is here.  Only `transaction()` commits.

On SQLite we send our own BEGIN.  With the driver's own transactions a RELEASE of a savepoint commits (tried, with the
defaults and with `isolation_level="IMMEDIATE"`), and a transaction that reads first and writes later fails with
"database is locked" however long it would wait.  So a writer says BEGIN IMMEDIATE at once and waits its turn.

On PostgreSQL a writer waits its turn too, by an advisory lock, so that what a verb has looked at still holds when it
writes, the audit log is one chain, and no two verbs wait for each other.  Only what is proved to be safe beside any other
writer says `in_turn=False`: claiming, handing over, settling and receipts, so that several workers send at once.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import (
    Connection,
    CursorResult,
    Engine,
    Executable,
    Table,
    create_engine,
    event,
    inspect,
    select,
    text,
)
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DatabaseError, OperationalError, PendingRollbackError
from sqlalchemy.pool import QueuePool

from storage import private_files, schema
from storage.errors import Misconfigured
from storage.rules.hours_and_limits import Rules

Clock = Callable[[], datetime]

BUSY_TIMEOUT_MS = 5_000
"""No lock, and no free connection, is waited for longer: a gateway gives a webhook some ten seconds."""

RETRY_S = 0.001
"""How soon a writer of SQLite tries again while another one writes."""

CONNECT_S = 5

STALLED_MS = 60_000
"""A writer that says nothing for so long has lost its network: PostgreSQL lets go of what it holds."""

SECRET = ("password", "sslpassword", "passfile")
"""What the query of an address may hold too and nobody should read."""

TURN = "audit"
"""The lock of those who write in turn."""

CHANNEL = "jumbe"
"""What PostgreSQL calls out on when something is there to be sent; workers listen to it."""


def utc_now() -> datetime:
    """The system's clock; everything else is handed its clock."""
    return datetime.now(UTC)


def is_within(now: datetime, since: datetime, span: timedelta) -> bool:
    """Whether a span of time that began `since` still runs; a clock that was set back ends it, instead of making it long."""
    return since <= now < since + span


class Lost(Exception):
    """The engine rolled the transaction back by itself (a full disk does that): nothing of it may be acknowledged."""


_HOLD = text(
    "SELECT pg_advisory_xact_lock(hashtextextended(:what, 0)),"
    " set_config('idle_in_transaction_session_timeout', :stalled, true)"
)


class Transaction:
    """One open transaction: run statements, read the clock, know the programme's rules.

    `now` stays the same from begin to commit, so that everything written together is dated together.
    """

    def __init__(self, connection: Connection, clock: Clock, rules: Rules, *, alone: str | None = None) -> None:
        self.connection = connection
        self.rules = rules
        self._held: set[str] = set()
        self.wakes = False
        if alone is not None:
            self.alone(alone)
        # Only now: who waited for the turn writes after those before it.
        self.now = clock()

    @property
    def is_sqlite(self) -> bool:
        """Whether this is SQLite, for the few statements that must differ."""
        return self.connection.dialect.name == "sqlite"

    @property
    def is_gone(self) -> bool:
        """Whether the engine rolled all of it back by itself, as SQLite does when its disk is full."""
        driver: Any = self.connection.connection.dbapi_connection if self.is_sqlite else None
        return driver is not None and not driver.in_transaction

    def execute(
        self, statement: Executable, values: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None
    ) -> CursorResult[Any]:
        """Run a statement; a list of values runs it once for each."""
        return self.connection.execute(statement, values)

    def scalar(self, statement: Executable, values: Mapping[str, Any] | None = None) -> Any:
        """The first column of the first row, or None."""
        return self.connection.execute(statement, values).scalar()

    @contextlib.contextmanager
    def savepoint(self) -> Iterator[None]:
        """What is done inside is kept as a whole or not at all; an exception passes on after the rollback."""
        with self.connection.begin_nested():
            yield

    def alone(self, what: str) -> None:
        """Wait until no other transaction holds `what`, and hold it to the end.

        SQLite has one writer anyhow; PostgreSQL takes an advisory lock.  The order is the turn first, or not at all:
        who holds anything else and then waits for the turn may wait for ever.
        """
        if not self.is_sqlite and what not in self._held:
            self.execute(_HOLD, {"what": what, "stalled": str(STALLED_MS)})
            self._held.add(what)

    def wake(self) -> None:
        """Let the workers look at once when this is committed; on SQLite they look often enough by themselves.

        Only in turn: who notifies commits one at a time on PostgreSQL, and those in turn do so anyway.
        """
        self.wakes = True

    def temporary(self, table: Table) -> None:
        """Make `table` ready and empty for this transaction; other connections never see it."""
        table.create(self.connection, checkfirst=True)
        self.execute(table.delete())


_VERSION, _OURS = "alembic_version", schema.programme.name
"""The tables by which a database is told: one that any program may have that uses Alembic, and one that ours has."""

_NOTIFY = text(f"NOTIFY {CHANNEL}")


class Database:
    """The shared database.  The engine is opened on first use, so that a forked process opens its own."""

    def __init__(self, url: str, rules: Rules | None = None, clock: Clock = utc_now) -> None:
        self.url = _read_url(url)
        self.rules = rules or Rules()
        self.clock = clock
        self._engine: Engine | None = None

    @property
    def is_sqlite(self) -> bool:
        """Whether this is one SQLite file."""
        return self.url.get_backend_name() == "sqlite"

    @property
    def file(self) -> Path | None:
        """The SQLite file; None on PostgreSQL."""
        return Path(self.url.database or "") if self.is_sqlite else None

    @property
    def engine(self) -> Engine:
        """SQLAlchemy's engine, for migrations and read-only work of analysts."""
        if self._engine is None:
            self._engine = _sqlite_engine(self.url) if self.is_sqlite else _postgresql_engine(self.url)
        return self._engine

    @contextlib.contextmanager
    def reading(self) -> Iterator[Transaction]:
        """Look at one moment of the database; whatever is written here is rolled back."""
        with self.engine.connect() as connection:
            if not self.is_sqlite:
                connection.execution_options(isolation_level="REPEATABLE READ")
            connection.begin()
            try:
                yield Transaction(connection, self.clock, self.rules)
            finally:
                connection.rollback()

    @contextlib.contextmanager
    def reading_long(self) -> Iterator[Callable[[], AbstractContextManager[Transaction]]]:
        """For a look that takes long and goes by slices: what to open for each slice.

        All slices see one moment; but on SQLite without WAL, where a reader that stays keeps every writer out, each slice
        sees its own.
        """
        if self._waits_for_readers():
            yield self.reading
            return
        with self.reading() as tx:
            yield lambda: contextlib.nullcontext(tx)

    def _waits_for_readers(self) -> bool:
        """Whether a writer cannot commit while somebody reads."""
        if not self.is_sqlite:
            return False
        with self.reading() as tx:
            return bool(tx.scalar(text("PRAGMA journal_mode")) != "wal")

    @contextlib.contextmanager
    def transaction(self, *, in_turn: bool = True) -> Iterator[Transaction]:
        """Change the database: all that is done inside, or nothing; one writer at a time.

        With `in_turn=False` PostgreSQL lets it run beside others: only for statements that hold whatever others write
        meanwhile, and that write no audit line.  Raises Lost if the engine gave the transaction up before our commit.
        """
        with self.engine.connect().execution_options(jumbe_writes=True) as connection, connection.begin():
            try:
                tx = Transaction(connection, self.clock, self.rules, alone=TURN if in_turn else None)
                yield tx
            except PendingRollbackError as fault:
                raise Lost("the connection to the database was lost") from fault
            if tx.is_gone or self._will_be_rolled_back(connection):
                raise Lost("the database gave this transaction up before it was committed")
            if tx.wakes and not self.is_sqlite:
                # Last of all, for what a savepoint takes back would take its call back too.
                connection.execute(_NOTIFY)

    def _will_be_rolled_back(self, connection: Connection) -> bool:
        """PostgreSQL takes a COMMIT after a failed statement for a ROLLBACK."""
        driver: Any = connection.connection.dbapi_connection
        return not self.is_sqlite and driver.info.transaction_status.name == "INERROR"

    def _is_anothers(self) -> str | None:
        """That the file is another user's, where this is why it cannot be read."""
        owner = private_files.shut_out_by(self.file) if self.file is not None and self.file.exists() else None
        if owner is None:
            return None
        return (
            f"the database {self.shown} belongs to {owner} alone and this process is {private_files.user(os.geteuid())}: run"
            " web, worker, desk and every command as one user, or use PostgreSQL"
        )

    def close(self) -> None:
        """Let go of every connection."""
        if self._engine is not None:
            self._engine.dispose()
            self._engine = None

    def check(self) -> None:
        """Raise Misconfigured unless the database is there, answers, and has the schema of this release."""
        if self.file is not None and not self.file.exists():
            raise Misconfigured(
                [f"there is no database at {self.file}: make one with 'jumbe db upgrade', or try 'jumbe demo'"]
            )
        found = self.revision()
        if found != schema.REVISION:
            if found is not None and found > schema.REVISION:
                raise Misconfigured([f"the database {self.shown} was made by a newer release of Jumbe: use that one"])
            state = f"is at revision {found}" if found else "is empty"
            raise Misconfigured(
                [f"the database {self.shown} {state} and this release needs {schema.REVISION}: run 'jumbe db upgrade'"]
            )
        with self.reading() as tx:
            if tx.scalar(select(schema.programme.c.id)) is None:
                raise Misconfigured([f"the database {self.shown} was not made to its end: run 'jumbe db upgrade'"])

    @property
    def address(self) -> str:
        """The address as PostgreSQL's own library reads it, with its password."""
        return self.url.set(drivername="postgresql").render_as_string(hide_password=False)

    @property
    def shown(self) -> str:
        """The address without its password."""
        if self.file:
            return str(self.file)
        return self.url.difference_update_query(SECRET).render_as_string(hide_password=True)

    def revision(self) -> str | None:
        """The schema's revision in the database, None where it has none.

        Raises Misconfigured if it cannot be read, or if it is another programme's.
        """
        try:
            with self.reading() as tx:
                tables = set(inspect(tx.connection).get_table_names())
                found = tx.scalar(text("SELECT version_num FROM alembic_version")) if _VERSION in tables else None
        except (OperationalError, DatabaseError) as error:
            raise Misconfigured(
                [self._is_anothers() or f"the database {self.shown} cannot be read: {_first_line(error)}"]
            ) from error
        # In a schema of PostgreSQL there may be tables of others beside ours; a file is all ours.
        begun = found is not None or (self.is_sqlite and tables - {_VERSION})
        if begun and _OURS not in tables:
            raise Misconfigured([f"the database {self.shown} is another program's: give Jumbe one of its own"])
        return found


def stamp(tx: Transaction, *, rehearsal: bool) -> None:
    """Write the row that says what this database is for; a database is stamped once."""
    if tx.scalar(select(schema.programme.c.id)) is None:
        tx.execute(
            schema.programme.insert(),
            {"id": 1, "rehearsal": rehearsal, "secret": secrets.token_bytes(32), "created_at": tx.now},
        )


def is_rehearsal(tx: Transaction) -> bool:
    """Whether this database was made for rehearsing with virtual phones."""
    return bool(tx.scalar(select(schema.programme.c.rehearsal)))


def restored(tx: Transaction) -> tuple[datetime, datetime] | None:
    """When the backup was made from which this database came back, and when it came back; None if it never did."""
    row = tx.execute(select(schema.programme.c.backed_up_at, schema.programme.c.restored_at)).first()
    return None if row is None or row.restored_at is None else (row.backed_up_at, row.restored_at)


def born(tx: Transaction) -> datetime:
    """When this database was made."""
    at: datetime = tx.execute(select(schema.programme.c.created_at)).scalar_one()
    return at


def server(tx: Transaction) -> tuple[str, bool]:
    """Which PostgreSQL this is, and whether what it has committed survives a power cut."""
    version = str(tx.scalar(text("SHOW server_version"))).split()[0]
    synced = tx.scalar(text("SHOW fsync")) == "on" and tx.scalar(text("SHOW synchronous_commit")) != "off"
    return version, synced


@contextlib.contextmanager
def as_written(tx: Transaction) -> Iterator[None]:
    """Read every text inside as it stands, also one that is no UTF-8: SQLite holds what an editor put there.

    Bytes that are no letters come as lone surrogates, where the driver would give up the whole question.
    """
    if not tx.is_sqlite:
        yield
        return
    driver = tx.connection.connection.dbapi_connection
    driver.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")  # type: ignore[union-attr]
    try:
        yield
    finally:
        driver.text_factory = str  # type: ignore[union-attr]


def sqlite_is_safe(version: tuple[int, ...] = sqlite3.sqlite_version_info) -> bool:
    """Whether this SQLite library is free of the WAL-reset bug (fixed in 3.51.3, 3.50.7 and 3.44.6)."""
    return version >= (3, 51, 3) or (3, 50, 7) <= version < (3, 51) or (3, 44, 6) <= version < (3, 45)


def _read_url(url: str) -> URL:
    """`sqlite:///file` or `postgresql://...`; anything else is the operator's mistake.

    `postgres://` is the same as `postgresql://`: PostgreSQL's own library takes both, and platforms set the short one.
    """
    try:
        read = make_url(url)
    except (ArgumentError, ValueError) as error:  # ValueError: a port that is no number
        raise Misconfigured(["DATABASE_URL is no database address: sqlite:///jumbe.db or postgresql://..."]) from error
    scheme, plus, driver = read.drivername.partition("+")
    if scheme == "postgres":
        read = read.set(drivername=f"postgresql{plus}{driver}")
    name = read.get_backend_name()
    if name == "sqlite" and (read.database in (None, "", ":memory:") or "uri" in read.query):
        raise Misconfigured(["DATABASE_URL names no file: sqlite:///jumbe.db"])
    if name == "postgresql" and read.drivername == "postgresql":
        return read.set(drivername="postgresql+psycopg")
    if name not in ("sqlite", "postgresql"):
        raise Misconfigured([f"DATABASE_URL is for {name}: Jumbe runs on sqlite:///... or postgresql://..."])
    return read


def _postgresql_engine(url: URL) -> Engine:
    """A pool of connections; none waits longer for a lock than SQLite does, and all tell the time in UTC."""
    patience = {"connect_timeout": CONNECT_S, "application_name": "jumbe"}
    try:
        engine = create_engine(
            url,
            isolation_level="READ COMMITTED",
            pool_pre_ping=True,
            pool_timeout=BUSY_TIMEOUT_MS / 1000,
            connect_args={name: value for name, value in patience.items() if name not in url.query},
        )
    except ModuleNotFoundError as error:
        raise Misconfigured(
            ["DATABASE_URL is for PostgreSQL and its driver is not here: pip install 'jumbe[postgres]'"]
        ) from error

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _record: Any) -> None:
        connection.execute(f"SET lock_timeout = {BUSY_TIMEOUT_MS}; SET TIME ZONE 'UTC'")
        connection.commit()

    return engine


def _sqlite_engine(url: URL) -> Engine:
    """One connection a process: SQLite has one writer, and threads that queue in Python wait less than in SQLite."""
    engine = create_engine(
        url,
        poolclass=QueuePool,
        pool_size=1,
        max_overflow=0,
        pool_timeout=BUSY_TIMEOUT_MS / 1000,
        connect_args={"check_same_thread": False, "isolation_level": None},
    )

    @event.listens_for(engine, "do_connect")
    def _make(_dialect: Any, _record: Any, _where: Any, _how: Any) -> None:
        with contextlib.suppress(OSError):  # SQLite says it better
            private_files.make(os.path.realpath(url.database or ""))

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _record: Any) -> None:
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
        mode = cursor.execute("PRAGMA journal_mode").fetchone()[0]
        if sqlite_is_safe():
            # Only a file of ours: one that DATABASE_URL names by mistake stays as it is.
            if cursor.execute("SELECT count(*) FROM sqlite_master WHERE name = ?", (_OURS,)).fetchone()[0]:
                cursor.execute("PRAGMA journal_mode = WAL")
        elif mode == "wal":
            raise Misconfigured(
                [f"SQLite {sqlite3.sqlite_version} can damage this file (WAL-reset bug): install pysqlite3"]
            )
        cursor.execute("PRAGMA synchronous = FULL")
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.execute("PRAGMA temp_store = MEMORY")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        if connection.get_execution_options().get("jumbe_writes"):
            _begin_to_write(connection)
        else:
            driver: Any = connection.connection.dbapi_connection
            driver.execute("BEGIN")

    return engine


def _begin_to_write(connection: Connection) -> None:
    """Begin as soon as nobody else writes.

    SQLite itself sleeps up to a tenth of a second between two tries, and wakes when the writer is taken again.
    """
    driver: Any = connection.connection.dbapi_connection
    until = time.monotonic() + BUSY_TIMEOUT_MS / 1000
    driver.execute("PRAGMA busy_timeout = 0")
    try:
        while time.monotonic() < until:
            try:
                driver.execute("BEGIN IMMEDIATE")
                return
            except sqlite3.DatabaseError as fault:
                if fault.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                    break
            time.sleep(RETRY_S)
        connection.exec_driver_sql("BEGIN IMMEDIATE")  # it raises as every statement does
    finally:
        driver.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")


def _first_line(error: Exception) -> str:
    return str(getattr(error, "orig", error)).splitlines()[0]
