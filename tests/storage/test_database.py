"""Two doors to one database: what is kept, what is not, who waits, and which library may open a file."""

import random
import re
import sqlite3
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta, timezone

import pysqlite3
import pytest
from sqlalchemy import Column, Integer, MetaData, Table, bindparam, func, insert, select, text, update
from sqlalchemy.exc import IntegrityError, StatementError

from bot.cli import main
from storage import database, schema
from storage.bulk import COPIED, execute_many, insert_many, insert_new
from storage.database import Database, is_rehearsal, sqlite_is_safe, stamp
from storage.errors import Misconfigured
from storage.schema import cases, groups
from tests.benchmarks.ground import case_row
from tests.patience import work


def add(tx, short):
    tx.execute(insert(groups), {"short": short, "name": short, "created_at": tx.now})


def shorts(db):
    with db.reading() as tx:
        return list(tx.execute(select(groups.c.short).order_by(groups.c.id)).scalars())


@pytest.fixture
def other(db, address):
    """A second Database object on the same database, as another process has one."""
    second = Database(address, db.rules, db.clock)
    yield second
    second.close()


def faults(db, act=Database.check):
    with pytest.raises(Misconfigured) as refused:
        act(db)
    return " ".join(refused.value.faults)


# -- what is kept ------------------------------------------------------------------------------------------------------


def test_what_is_written_while_reading_is_never_kept(db):
    with db.reading() as tx:
        add(tx, "anc")
    assert shorts(db) == []


def test_a_transaction_keeps_all_that_was_done_in_it(db):
    with db.transaction() as tx:
        add(tx, "anc")
        add(tx, "tb")
    assert shorts(db) == ["anc", "tb"]


@pytest.mark.parametrize("fault", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_transaction_that_fails_keeps_nothing(db, fault):
    with pytest.raises(fault), db.transaction() as tx:
        add(tx, "anc")
        raise fault
    assert shorts(db) == []


def test_the_clock_stands_still_within_a_transaction(db, clock):
    with db.transaction() as tx:
        began = tx.now
        clock.advance(hours=1)
        assert tx.now == began
    with db.transaction() as tx:
        assert tx.now == began + timedelta(hours=1)


# -- the savepoint rule ------------------------------------------------------------------------------------------------


def test_a_failed_savepoint_leaves_the_rest_of_the_transaction(db):
    with db.transaction() as tx:
        add(tx, "before")
        with pytest.raises(ValueError, match="a bug"), tx.savepoint():
            add(tx, "inside")
            raise ValueError("a bug")
        add(tx, "after")
    assert shorts(db) == ["before", "after"]


def test_the_release_of_a_savepoint_commits_nothing(db, other):
    with db.transaction() as tx:
        with tx.savepoint():
            add(tx, "first")
            with tx.savepoint():
                add(tx, "inner")
        with tx.savepoint():
            add(tx, "second")
        assert shorts(other) == []
    assert shorts(other) == ["first", "inner", "second"]


def test_what_was_released_goes_with_the_transaction_that_fails(db, other):
    with pytest.raises(ValueError, match="after the release"), db.transaction() as tx:
        with tx.savepoint():
            add(tx, "inside")
        raise ValueError("after the release")
    assert shorts(db) == shorts(other) == []


KILLED = """
import os, sys
from sqlalchemy import insert
from storage.database import Database
from storage.schema import groups
db = Database(sys.argv[1])
with db.transaction() as tx:
    with tx.savepoint():
        tx.execute(insert(groups), {"short": "anc", "name": "anc", "created_at": tx.now})
    os.kill(os.getpid(), 9)
"""


def test_a_process_killed_after_the_release_and_before_the_commit_leaves_nothing(db, address):
    ended = subprocess.run([sys.executable, "-c", KILLED, address], check=False, capture_output=True)
    assert ended.returncode == -9, ended.stderr.decode()
    assert shorts(db) == []


# -- who waits ---------------------------------------------------------------------------------------------------------


def test_a_second_writer_waits_its_turn_though_it_reads_first(db, other):
    """With a plain BEGIN the one that read first would fail with `database is locked` however long it may wait."""

    def count_and_add(which, times):
        for _ in range(times):
            with which.transaction() as tx:
                count = tx.scalar(select(func.count()).select_from(groups))
                work(0.002)
                add(tx, f"g{count}")

    threads = [threading.Thread(target=count_and_add, args=(which, 20)) for which in (db, other)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert shorts(db) == [f"g{n}" for n in range(40)]


def test_threads_of_one_process_take_turns(db):
    def add_some(name):
        for n in range(10):
            with db.transaction() as tx:
                add(tx, f"{name}{n}")

    threads = [threading.Thread(target=add_some, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(shorts(db)) == 40


def test_a_reader_waits_for_no_writer_and_sees_one_moment(db, other):
    with other.reading() as look:
        before = look.scalar(select(func.count()).select_from(groups))
        with db.transaction() as tx:
            add(tx, "anc")
        assert look.scalar(select(func.count()).select_from(groups)) == before == 0
    assert shorts(other) == ["anc"]


# -- one library -------------------------------------------------------------------------------------------------------


@pytest.mark.only("sqlite")
def test_the_whole_process_has_one_sqlite_library(db):
    assert sys.modules["sqlite3"] is pysqlite3
    assert sys.modules["sqlite3.dbapi2"] is pysqlite3.dbapi2
    with db.reading() as tx:
        assert type(tx.connection.connection.dbapi_connection) is pysqlite3.Connection
        assert tx.scalar(text("SELECT sqlite_version()")) == pysqlite3.sqlite_version
    assert sqlite_is_safe(pysqlite3.sqlite_version_info)


@pytest.mark.parametrize(
    "doors", ["bot.app, bot.worker.worker, admin_notebooks.cli.sheets", "storage.upkeep.commands", "bot.cli"]
)
def test_no_door_of_a_fresh_process_loads_the_other_library(doors, tmp_path):
    code = f"""
import {doors}
import sys, sqlite3
from storage.database import Database
from storage.upkeep import migrate
migrate.upgrade(Database("sqlite:///{tmp_path}/fresh.db"))
assert "_sqlite3" not in sys.modules, "the standard library's SQLite is loaded"
assert sqlite3.__name__ == "pysqlite3" and sys.modules["sqlite3.dbapi2"].__name__.startswith("pysqlite3")
"""
    ended = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize(
    ("version", "safe"),
    [
        ((3, 40, 1), False), ((3, 44, 5), False), ((3, 44, 6), True), ((3, 45, 0), False), ((3, 50, 6), False),
        ((3, 50, 7), True), ((3, 51, 0), False), ((3, 51, 2), False), ((3, 51, 3), True), ((3, 53, 4), True),
    ],
)  # fmt: skip
def test_a_library_is_safe_that_is_free_of_the_wal_reset_bug(version, safe):
    assert sqlite_is_safe(version) is safe


@pytest.mark.only("sqlite")
def test_a_safe_library_keeps_a_log_and_syncs_every_commit_and_every_key_is_held(db):
    with db.reading() as tx:
        kept = {
            name: tx.scalar(text(f"PRAGMA {name}"))
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    assert kept == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 5000}


@pytest.mark.only("sqlite")
def test_an_unsafe_library_refuses_a_file_with_a_log_and_keeps_a_journal_in_its_own(db, tmp_path, monkeypatch):
    shorts(db)
    monkeypatch.setattr(database, "sqlite_is_safe", lambda: False)
    assert "install pysqlite3" in faults(Database(str(db.url)))
    own = Database(f"sqlite:///{tmp_path}/own.db")
    with own.reading() as tx:
        assert tx.scalar(text("PRAGMA journal_mode")) == "delete"
    own.close()


# -- what is refused at the start --------------------------------------------------------------------------------------


def test_a_database_of_this_release_is_accepted(db):
    db.check()
    assert db.revision() == schema.REVISION


def test_a_missing_file_says_how_to_make_one_and_is_not_made(tmp_path):
    missing = Database(f"sqlite:///{tmp_path}/none.db")
    assert "there is no database at" in faults(missing) and "jumbe db upgrade" in faults(missing)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("url", "says"),
    [("jumbe.db", "no database address"), ("mysql://x/y", "for mysql"), ("sqlite://", "names no file"), ("", "no database address"),
     ("sqlite:///file:jumbe.db?uri=true", "names no file")],
)  # fmt: skip
def test_an_address_that_is_no_database_of_ours_is_refused_with_an_example(url, says):
    told = faults(url, Database)
    assert says in told and "sqlite:///" in told


def test_an_empty_database_says_so(tmp_path):
    (tmp_path / "empty.db").touch()
    empty = Database(f"sqlite:///{tmp_path}/empty.db")
    assert "is empty and this release needs" in faults(empty)
    empty.close()


def test_a_database_of_another_release_says_which_it_is_at(db):
    with db.transaction() as tx:
        tx.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    assert "made by a newer release" in faults(db)
    with db.transaction() as tx:
        tx.execute(text("UPDATE alembic_version SET version_num = '0000'"))
    told = faults(db)
    assert "is at revision 0000" in told and schema.REVISION in told


def test_a_file_that_is_no_database_says_so(tmp_path):
    (tmp_path / "letter.db").write_text("Dear Sir or Madam, " * 100)
    letter = Database(f"sqlite:///{tmp_path}/letter.db")
    assert "cannot be read: file is not a database" in faults(letter)


def test_a_password_in_the_query_of_an_address_is_not_shown_either():
    db = Database("postgresql://jumbe@db.example.org/jumbe?password=sesame&sslmode=require")
    assert "sesame" not in db.shown
    assert "sslmode=require" in db.shown
    assert "password=sesame" in db.address


@pytest.mark.only("postgresql")
def test_the_short_name_that_platforms_give_postgresql_opens_it(address, monkeypatch, capsys):
    short = re.sub(r"^postgresql(\+\w+)?:", "postgres:", address)
    assert short.startswith("postgres://")
    told = Database(short)
    told.check()
    assert told.shown == Database(address).shown and told.address == Database(address).address
    told.close()
    monkeypatch.setenv("DATABASE_URL", short)
    for command in (["db", "current"], ["db", "upgrade"], ["cases", "list"]):
        assert main(command) == 0, capsys.readouterr().err
    assert schema.REVISION in capsys.readouterr().out


@pytest.mark.parametrize("scheme", ["postgres", "postgres+psycopg", "postgresql", "postgresql+psycopg"])
def test_every_name_of_postgresql_is_read_as_one(scheme):
    db = Database(f"{scheme}://jumbe:sesame@db.example.org/jumbe?sslmode=require")
    assert db.url.drivername == "postgresql+psycopg"
    assert db.address == "postgresql://jumbe:sesame@db.example.org/jumbe?sslmode=require"
    assert "sesame" not in db.shown and not db.is_sqlite


def test_a_password_is_never_shown():
    db = Database("postgresql://jumbe:sesame@db.example.org/jumbe")
    assert "sesame" not in db.shown and "db.example.org" in db.shown
    assert not db.is_sqlite and db.file is None


# -- small rules -------------------------------------------------------------------------------------------------------


def test_a_time_without_a_zone_is_refused(db):
    with db.transaction() as tx, pytest.raises(StatementError, match="a time without a zone"):
        tx.execute(insert(groups), {"short": "anc", "name": "anc", "created_at": datetime(2026, 1, 1)})  # noqa: DTZ001


def test_a_time_comes_back_as_the_same_moment_in_utc(db):
    nairobi = datetime(2026, 1, 1, 12, 0, 0, 123456, tzinfo=timezone(timedelta(hours=3)))
    with db.transaction() as tx:
        tx.execute(insert(groups), {"short": "anc", "name": "anc", "created_at": nairobi})
    with db.reading() as tx:
        back = tx.scalar(select(groups.c.created_at))
    assert back == nairobi and back.tzinfo is UTC


def test_a_row_that_a_unique_key_already_has_is_skipped(db):
    row = {"name": "simulator", "tokens": 1.0, "refilled_at": db.clock()}
    with db.transaction() as tx:
        new = insert_new(tx, schema.gateways).returning(schema.gateways.c.name)
        assert tx.execute(new.values(row)).scalars().all() == ["simulator"]
        assert tx.execute(new.values(row | {"tokens": 9.0})).scalars().all() == []
        assert tx.scalar(select(schema.gateways.c.tokens)) == 1.0


def test_a_temporary_table_is_empty_for_each_who_asks_and_seen_by_nobody_else(db, other):
    table = Table("passing", MetaData(), Column("id", Integer, primary_key=True), prefixes=["TEMPORARY"])
    for _ in range(2):
        with db.transaction() as tx:
            tx.temporary(table)
            assert tx.execute(select(table)).all() == []
            tx.execute(insert(table), [{"id": 1}, {"id": 2}])
    with other.reading() as tx:
        assert not tx.connection.dialect.has_table(tx.connection, "passing")


def test_a_database_is_stamped_once(db):
    with db.transaction() as tx:
        before = tx.execute(select(schema.programme)).all()
        stamp(tx, rehearsal=True)
        assert tx.execute(select(schema.programme)).all() == before
        assert not is_rehearsal(tx)
        tx.execute(update(schema.programme).values(rehearsal=True))
        assert is_rehearsal(tx)
    assert len(before) == 1 and len(before[0].secret) == 32


def test_the_standard_name_of_the_library_is_what_the_tests_use_too():
    assert sqlite3 is pysqlite3


RENAME = update(groups).where(groups.c.short == bindparam("old"), groups.c.name != "kept").values(
    name=bindparam("new"), deleted_at=bindparam("at", type_=schema.Moment)
)  # fmt: skip


def test_a_statement_runs_for_many_rows_and_says_how_many_it_changed(db):
    with db.transaction() as tx:
        for short in ("anc", "tb"):
            add(tx, short)
        rows = [{"old": short, "new": short.upper(), "at": tx.now} for short in ("anc", "tb", "nobody")]
        assert execute_many(tx, RENAME, rows) == 2
        assert execute_many(tx, RENAME, []) == 0
    with db.reading() as tx:
        found = tx.execute(select(groups.c.name, groups.c.deleted_at).order_by(groups.c.id))
        assert [tuple(row) for row in found] == [("ANC", db.clock()), ("TB", db.clock())]


def many_cases(db, count):
    now = datetime(2026, 1, 5, 9, 30, 0, 123456, tzinfo=UTC)
    dice = random.Random(3)
    rows = [case_row(n, now, dice) for n in range(count)]
    return [row | {"name": "a\tb\\n\n'\u00e9", "properties": {"district": "Ho", "n": "\\N"}} for row in rows]


def test_many_rows_are_stored_as_one_by_one(db):
    """On PostgreSQL many go as a COPY, which has marks of its own for tabs, new lines and blanks."""
    rows = many_cases(db, COPIED + 1)
    with db.transaction() as tx:
        insert_many(tx, cases, rows)
        stored = tx.execute(select(*(cases.c[name] for name in rows[0])).order_by(cases.c.id)).mappings().all()
    assert [dict(row) for row in stored] == rows


def test_many_rows_of_which_one_is_refused_leave_none(db):
    rows = many_cases(db, COPIED + 1)
    rows[-1] = rows[-1] | {"case_id_key": rows[0]["case_id_key"]}
    with pytest.raises(IntegrityError), db.transaction() as tx:
        insert_many(tx, cases, rows)
    with db.reading() as tx:
        assert tx.scalar(select(func.count()).select_from(cases)) == 0
