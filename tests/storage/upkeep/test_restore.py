"""The fence of a restore holds on both databases, also where another tool brought one back."""

from __future__ import annotations

import contextlib
import os
import stat
import subprocess
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from storage import audit, schema
from storage.audit import Actor
from storage.database import Database, restored
from storage.errors import Misconfigured
from storage.messages import gate, inbox, leases, lookups, outbox, receipts
from storage.programme import workers
from storage.upkeep import backups, restore
from tests.postgres import Postgres
from tests.storage.upkeep.pg_tools import fits, tools
from tests.world import World, broken_line

OPERATOR = Actor("cli", None, "a test")


def test_whatever_was_open_is_in_doubt_from_the_backup_on_and_nothing_is_claimed(db: Database, clock: Any) -> None:
    with db.transaction() as tx:
        queued, claimed, sending = (outbox.queue(tx, f"23324400010{n}", "Hello", "notice") for n in range(3))
        workers.beat(tx, "w")
        ids = outbox.claim(tx, "simulator", "w", 3)
        gate.hand_over(tx, [sending], "w", rate_per_s=10)
        leases.release(tx, [queued], "w")
    handed_over_at, made_at = clock.now, clock.advance(minutes=1)
    clock.advance(hours=1)
    with db.transaction() as tx:
        assert restore.put_up(tx, made_at, by=OPERATOR)["messages"] == len(ids)
    with db.reading() as tx:
        rows = {n: lookups.message(tx, n) for n in (queued, claimed, sending)}
        assert {(row.state, row.reason, row.lease_owner) for row in rows.values()} == {("unknown", "restored", None)}
        assert [rows[n].handed_over_at for n in rows] == [made_at, made_at, handed_over_at]
        assert [lookups.attempts_of(tx, n)[-1].reason for n in rows] == ["restored"] * 3
        assert not outbox.is_due(tx, "simulator")
        assert restored(tx) == (made_at, clock.now)
        assert restore.holding(tx) == {"unknown": 3, "texts": 0}
        assert workers.last_seen(tx) is None
        assert broken_line(tx) is None


def test_a_late_receipt_settles_what_the_fence_holds(db: Database, clock: Any) -> None:
    with db.transaction() as tx:
        number = outbox.queue(tx, "233244000101", "Hello", "notice")
        restore.put_up(tx, tx.now, by=OPERATOR)
    with db.transaction() as tx:
        assert receipts.receive_receipt(
            tx, gateway="simulator", message_id=number, gateway_id="S1", state="delivered", word="delivered", code=None
        )
    with db.reading() as tx:
        assert restore.holding(tx) == {"texts": 0}


def test_what_no_gateway_can_be_asked_about_is_for_a_person_at_once(db: Database) -> None:
    with db.transaction() as tx:
        number = outbox.queue(tx, "233244000101", "Hello", "notice")
        tx.execute(schema.messages.update().values(gateway=None))
        tx.rules = tx.rules.__class__(name="x")
        restore.put_up(tx, tx.now, by=OPERATOR)
    with db.reading() as tx:
        assert lookups.message(tx, number).state == "unresolved"


def test_a_text_whose_handling_waited_is_set_aside(db: Database) -> None:
    with db.transaction() as tx:
        inbox.record_inbound(tx, gateway="simulator", gateway_id="I1", sender="233244000101", text="tell anc hello")
        assert restore.put_up(tx, tx.now, by=OPERATOR)["texts"] == 1
    with db.reading() as tx:
        assert inbox.unhandled(tx) == []
        assert tx.execute(select(schema.messages.c.state, schema.messages.c.reason)).one() == ("set_aside", "restored")


def test_the_fence_alone_stands_from_when_something_last_happened(db: Database, clock: Any) -> None:
    with db.transaction() as tx:
        outbox.queue(tx, "233244000101", "Hello", "notice")
    last = clock.now
    clock.advance(days=1)
    done = backups.put_fence_up(db, by=OPERATOR)
    assert (done.backed_up_at, done.held["messages"]) == (last, 1)
    assert clock.now - last == timedelta(days=1)


@pytest.mark.only("postgresql")
def test_on_postgresql_a_restore_says_in_one_sentence_what_to_do(
    db: Database, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Misconfigured, match="pg_restore: then run 'jumbe restore --fence' before any worker"):
        backups.restore(db, tmp_path / "x", yes=True, by=OPERATOR)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Misconfigured, match="its own pg_dump, which is not here"):
        backups.make(db, tmp_path / "x.dump")


# -- PostgreSQL's own tools --------------------------------------------------------------------------------------------


@pytest.mark.only("postgresql")
def test_a_postgresql_database_goes_through_its_dump_and_comes_back_behind_the_fence(
    db: Database, postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: Any
) -> None:
    tool = next((tool for tool in tools() if fits(db, tool)), None)
    if tool is None:
        pytest.skip("no pg_dump here is as new as the server")
    monkeypatch.setenv("PATH", str(tool.parent), prepend=os.pathsep)
    world = World(db)
    world.group("anc", world.case("ama", "233244000101"))
    with db.transaction() as tx:
        number = outbox.queue(tx, "233244000101", "Hello", "notice")
        before = audit.head(tx)
    made = backups.make(db, tmp_path / "b.dump")
    assert (made.head, stat.S_IMODE(made.file.stat().st_mode)) == (before.hash, 0o600)
    with db.reading() as tx:
        assert backups.last_made(tx) == clock.now
    with postgres.database(upgraded=False) as address:
        subprocess.run(
            [tool.with_name("pg_restore"), "--exit-on-error", "--no-owner", f"--dbname={address}", made.file],
            check=True,
        )
        with contextlib.closing(Database(address, db.rules, clock)) as back:
            done = backups.put_fence_up(back, by=OPERATOR)
            assert done.held["messages"] == 1
            with back.reading() as tx:
                assert lookups.message(tx, number).state == "unknown"
                assert audit.list_since(tx, 0, ["programme.restore"])
                assert broken_line(tx) is None
    (tmp_path / "b.dump").write_bytes(b"PGDMP, but nothing more")
    with pytest.raises(Misconfigured, match="the dump cannot be read back"):
        backups._read_back(tmp_path / "b.dump", tool.with_name("pg_restore"))


@pytest.mark.only("postgresql")
def test_a_pg_dump_that_is_older_than_the_server_says_what_to_install(
    db: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = next((tool for tool in tools() if not fits(db, tool)), None)
    if tool is None:
        pytest.skip("no pg_dump here is older than the server")
    monkeypatch.setenv("PATH", str(tool.parent))
    with pytest.raises(Misconfigured, match=r"server version mismatch.* install the client of the server's version"):
        backups.make(db, tmp_path / "b.dump")
    assert list(tmp_path.iterdir()) == []
    with db.reading() as tx:
        assert backups.last_made(tx) is None
