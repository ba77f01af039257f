"""What the tests of the desk share: a command line on a database of its own, and a rehearsal to look at."""

import contextlib

import pytest
from sqlalchemy import event

from bot.cli import main
from storage.database import Database
from storage.upkeep import migrate


@pytest.fixture
def jumbe(tmp_path, monkeypatch, capsys):
    """Run a command on a database of its own; returns exit status, what it printed, and what it complained of."""
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path}/desk.db")
    monkeypatch.chdir(tmp_path)
    db = Database(f"sqlite:///{tmp_path}/desk.db")
    migrate.upgrade(db)
    db.close()

    def run(*words):
        status = main([str(word) for word in words])
        out, err = capsys.readouterr()
        return status, out, err

    return run


@pytest.fixture
def statements_of():
    """What goes to the engine: `with statements_of(db) as ran`; an executemany is one."""

    @contextlib.contextmanager
    def counting(db):
        ran = []

        def note(_connection, _cursor, statement, *_more):
            ran.append(statement)

        event.listen(db.engine, "before_cursor_execute", note)
        try:
            yield ran
        finally:
            event.remove(db.engine, "before_cursor_execute", note)

    return counting


@pytest.fixture
def rehearsal(tmp_path):
    """A rehearsal with its worker and the virtual phones, on the programme of `tests.desks.populate`."""
    from tests.desks import RULES, populate  # here, for it needs the desk's libraries
    from tests.rehearsal import running

    with running(tmp_path, RULES, populate) as runs:
        yield runs
