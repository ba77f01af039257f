"""The fence of a restore holds on both databases, also where another tool brought one back."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select

from storage import backups, fence, messages, schema, workers
from storage.audit import Actor
from storage.database import Database, restored
from storage.errors import Misconfigured
from tests.world import broken_line

OPERATOR = Actor("cli", None, "a test")


def test_whatever_was_open_is_in_doubt_from_the_backup_on_and_nothing_is_claimed(db: Database, clock: Any) -> None:
    with db.transaction() as tx:
        queued, claimed, sending = (messages.queue(tx, f"23324400010{n}", "Hello", "notice") for n in range(3))
        workers.beat(tx, "w")
        ids = messages.claim(tx, "simulator", "w", 3)
        messages.hand_over(tx, [sending], "w", rate_per_s=10)
        messages.release(tx, [queued], "w")
    handed_over_at, made_at = clock.now, clock.advance(minutes=1)
    clock.advance(hours=1)
    with db.transaction() as tx:
        assert fence.put_up(tx, made_at, by=OPERATOR)["messages"] == len(ids)
    with db.reading() as tx:
        rows = {n: messages.message(tx, n) for n in (queued, claimed, sending)}
        assert {(row.state, row.reason, row.lease_owner) for row in rows.values()} == {("unknown", "restored", None)}
        assert [rows[n].handed_over_at for n in rows] == [made_at, made_at, handed_over_at]
        assert [messages.attempts_of(tx, n)[-1].reason for n in rows] == ["restored"] * 3
        assert not messages.is_due(tx, "simulator")
        assert restored(tx) == (made_at, clock.now)
        assert fence.holding(tx) == {"unknown": 3, "texts": 0}
        assert workers.last_seen(tx) is None
        assert broken_line(tx) is None


def test_a_late_receipt_settles_what_the_fence_holds(db: Database, clock: Any) -> None:
    with db.transaction() as tx:
        number = messages.queue(tx, "233244000101", "Hello", "notice")
        fence.put_up(tx, tx.now, by=OPERATOR)
    with db.transaction() as tx:
        assert messages.receive_receipt(
            tx, gateway="simulator", message_id=number, gateway_id="S1", state="delivered", word="delivered", code=None
        )
    with db.reading() as tx:
        assert fence.holding(tx) == {"texts": 0}


def test_what_no_gateway_can_be_asked_about_is_for_a_person_at_once(db: Database) -> None:
    with db.transaction() as tx:
        number = messages.queue(tx, "233244000101", "Hello", "notice")
        tx.execute(schema.messages.update().values(gateway=None))
        tx.rules = tx.rules.__class__(name="x")
        fence.put_up(tx, tx.now, by=OPERATOR)
    with db.reading() as tx:
        assert messages.message(tx, number).state == "unresolved"


def test_a_text_whose_handling_waited_is_set_aside(db: Database) -> None:
    with db.transaction() as tx:
        messages.record_inbound(tx, gateway="simulator", gateway_id="I1", sender="233244000101", text="tell anc hello")
        assert fence.put_up(tx, tx.now, by=OPERATOR)["texts"] == 1
    with db.reading() as tx:
        assert messages.unhandled(tx) == []
        assert tx.execute(select(schema.messages.c.state, schema.messages.c.reason)).one() == ("set_aside", "restored")


def test_the_fence_alone_stands_from_when_something_last_happened(db: Database, clock: Any) -> None:
    with db.transaction() as tx:
        messages.queue(tx, "233244000101", "Hello", "notice")
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
