"""The process that sends: a fault stays where it is, one worker to a file, and no time lost at the gate."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, text, update

from bot.gateways.base import Accepted, Capabilities, NotSent, Outgoing, SendResult
from bot.worker import dispatcher
from bot.worker import worker as worker_module
from bot.worker.worker import Worker, only_one
from storage import schema
from storage.broadcasts import expansion
from storage.database import Database
from storage.errors import Misconfigured
from storage.messages import gate, lookups, outbox, receipts
from storage.programme import rate_limits
from storage.rules.hours_and_limits import Senders
from storage.rules.quiet_hours import Hours
from tests.patience import HANG_S, forward, on_forward, soon

PHONES = [f"23324{n:07}" for n in range(400)]


class Silent:
    """A gateway that takes everything, at once or when it is let."""

    kind = "simulator"
    capabilities = Capabilities(False, False, False, False, concurrency=20)

    def __init__(self, name: str = "simulator", rate_per_s: float = 1.0) -> None:
        self.name = name
        self.rate_per_s = rate_per_s
        self.sent: list[int] = []
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def send(self, outgoing: Outgoing) -> SendResult:
        self.sent.append(outgoing.id)
        await self.may_answer.wait()
        return Accepted(f"S{outgoing.id}")

    async def close(self) -> None:
        """Nothing is open."""


def queue(db: Database, *phones: str, kind: str = "notice", gateway: str | None = None) -> list[int]:
    with db.transaction() as tx:
        return [outbox.queue(tx, phone, "Hello", kind, gateway=gateway) for phone in phones]


def states(db: Database) -> dict[str, int]:
    with db.reading() as tx:
        return lookups.count_states(tx)


def play(db: Database, gateways: list[Any], act: Any) -> None:
    """Run `act(worker)`, and end the worker."""

    async def whole() -> None:
        worker = Worker(db, {gateway.name: gateway for gateway in gateways}, "http://127.0.0.1")
        worker.start()
        try:
            await act(worker)
        finally:
            await worker.finish()

    on_forward(whole())


async def answered(worker: Worker) -> None:
    """Until no call is under way."""
    await soon(lambda: not worker._under_way())


# -- a fault stays where it is -----------------------------------------------------------------------------------------


def test_a_fault_in_the_expansion_keeps_no_reply_from_leaving_and_no_answer_from_being_recorded(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue(db, PHONES[0], kind="reply")
    monkeypatch.setattr(expansion, "is_expanding", lambda _tx: 1 / 0)

    async def act(worker: Worker) -> None:
        for _ in range(2):
            with pytest.raises(ZeroDivisionError):
                await worker.turn()
            await answered(worker)

    play(db, [Silent()], act)
    assert states(db) == {"accepted": 1}


def test_a_fault_of_one_gateway_costs_another_nothing(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    queue(db, PHONES[0])
    queue(db, PHONES[1], gateway="other")
    real = outbox.claim

    def claim(tx: Any, gateway: str, *more: Any) -> list[int]:
        if gateway == "simulator":
            raise KeyError(gateway)
        return real(tx, gateway, *more)

    monkeypatch.setattr(outbox, "claim", claim)

    async def act(worker: Worker) -> None:
        for _ in range(2):
            with pytest.raises(KeyError):
                await worker.turn()
            await answered(worker)

    play(db, [Silent(), Silent("other")], act)
    assert states(db) == {"accepted": 1, "queued": 1}


def test_a_call_that_nobody_answers_is_cut_off_and_one_that_left_later_has_its_own_time(db: Database) -> None:
    gateway = Silent(rate_per_s=100)
    gateway.may_answer.clear()
    stuck = queue(db, PHONES[0])[0]

    async def act(worker: Worker) -> None:
        await worker.turn()
        forward(dispatcher.CALL_S * 0.7)
        queue(db, PHONES[1])
        await worker.turn()
        forward(dispatcher.CALL_S * 0.6)
        await soon(lambda: len(worker._under_way()) == 1, "the first is cut off")
        gateway.may_answer.set()
        await worker.drain()

    play(db, [gateway], act)
    with db.reading() as tx:
        assert [(row.id == stuck, row.state) for row in lookups.list_all(tx)] == [
            (False, "accepted"),
            (True, "unknown"),
        ]


def test_a_fault_that_stays_ends_the_worker_and_one_that_passes_does_not(
    db: Database, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(worker_module, "FAULT_PAUSE_S", 0.01)
    monkeypatch.setattr(expansion, "is_expanding", lambda _tx: 1 / 0)

    async def act(worker: Worker) -> None:
        with pytest.raises(ZeroDivisionError):
            await worker.run(asyncio.Event())

    async def whole() -> None:
        await act(Worker(db, {}, "http://127.0.0.1"))

    asyncio.run(whole())
    assert caplog.text.count("a turn failed") == worker_module.FAULTS_IN_A_ROW


def test_a_case_with_a_time_zone_that_nobody_knows_stops_no_worker(db: Database, world: Any) -> None:
    db.rules = replace(db.rules, hours=Hours(time(0), time(23, 59)))
    case = world.case("ama", PHONES[0], time_zone="Africa/Accra")
    with db.transaction() as tx:
        tx.execute(update(schema.cases).values(time_zone="Mars/Olympus"))
        outbox.queue(tx, PHONES[0], "Hello", "text", case_id=case)
    queue(db, PHONES[1], kind="reply")

    play(db, [Silent(rate_per_s=50)], lambda worker: worker.drain())
    assert states(db) == {"accepted": 2}


def test_an_answer_is_written_down_though_nothing_more_can_be_handed_over(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They share a transaction as long as all goes well; an answer is evidence, and waits for no fault but its own."""
    first, later = queue(db, PHONES[0])[0], queue(db, PHONES[0])[0]

    async def act(worker: Worker) -> None:
        await worker.turn()
        await answered(worker)
        monkeypatch.setattr(outbox, "claim", lambda *_: 1 / 0)
        for _ in range(2):
            with pytest.raises(ZeroDivisionError):
                await worker.turn()
        monkeypatch.undo()
        with db.reading() as tx:
            assert [lookups.message(tx, number).state for number in (first, later)] == ["accepted", "queued"]  # type: ignore[union-attr]
        await worker.drain()

    play(db, [Silent(rate_per_s=50)], act)
    assert states(db) == {"accepted": 2}


def test_what_was_answered_and_what_leaves_next_are_one_commit(db: Database) -> None:
    """A commit waits for the disk; and the second text to a phone leaves with the answer to the first."""
    queue(db, PHONES[0])
    queue(db, PHONES[0])
    gateway = Silent(rate_per_s=50)
    commits: list[object] = []

    def note(connection: object) -> None:
        commits.append(connection)

    async def act(worker: Worker) -> None:
        await worker.turn()
        await answered(worker)
        event.listen(db.engine, "commit", note)
        await worker.turn()
        event.remove(db.engine, "commit", note)
        await worker.drain()

    play(db, [gateway], act)
    assert len(commits) == 1
    assert len(gateway.sent) == 2


# -- the gate ----------------------------------------------------------------------------------------------------------


def test_what_the_gate_turns_away_costs_no_token_and_no_time(db: Database, clock: Any) -> None:
    db.rules = replace(db.rules, hours=Hours(time(9), time(20)))
    clock.now = datetime(2026, 11, 3, 20, 30, tzinfo=UTC)
    queue(db, *PHONES, kind="broadcast")
    (reply,) = queue(db, "233209876543", kind="reply")
    gateway = Silent(rate_per_s=1)
    turns = 0

    async def act(worker: Worker) -> None:
        nonlocal turns
        for _ in range(2):
            while await worker.turn() or worker._has_answers:
                turns += 1
            clock.advance(seconds=1)  # the next token, which none of them takes

    play(db, [gateway], act)
    with db.reading() as tx:
        left = lookups.list_all(tx, state="queued")
    assert gateway.sent == [reply]
    assert {row.reason for row in left} == {"quiet-hours"}, "not one waits for a token that it does not need"
    assert turns < 40


def test_what_waits_for_a_token_waits_in_the_queue(db: Database, clock: Any) -> None:
    """Claimed, it would keep a reply waiting, and another gateway from taking it over."""
    db.rules = replace(db.rules, hours=Hours(time(9), time(20)))
    clock.now = datetime(2026, 11, 3, 20, 30, tzinfo=UTC)
    night = queue(db, *PHONES[:50], kind="broadcast")
    queue(db, *PHONES[50:150], kind="broadcast")
    with db.transaction() as tx:
        tx.execute(update(schema.messages).where(schema.messages.c.id > night[-1]).values(kind="notice"))
    gateway = Silent(rate_per_s=2)

    async def act(worker: Worker) -> None:
        for _ in range(20):
            await worker.turn()
            await answered(worker)
        now = states(db)
        assert "claimed" not in now
        assert now["accepted"] == len(gateway.sent) <= 2
        assert sum(now.values()) == 150

    play(db, [gateway], act)


def test_what_ran_out_of_time_behind_a_paused_gateway_expires(db: Database, clock: Any) -> None:
    queue(db, PHONES[0], kind="reply")

    async def act(worker: Worker) -> None:
        with db.transaction() as tx:
            rate_limits.pause(tx, "simulator", until=clock.advance(hours=2).replace(year=2027), because="gateway")
        await worker.drain()

    play(db, [Silent()], act)
    assert states(db) == {"expired": 1}


# -- what a start lifts ------------------------------------------------------------------------------------------------


class Refusing(Silent):
    """It refuses our account."""

    async def send(self, outgoing: Outgoing) -> SendResult:
        self.sent.append(outgoing.id)
        return NotSent("gateway", "the account was not accepted", "20003", lasting=True)


def test_a_platform_that_starts_a_worker_again_and_again_costs_a_refused_account_a_message_in_a_quarter_of_an_hour(
    db: Database, clock: Any
) -> None:
    queue(db, *PHONES[:20])
    gateway = Refusing(rate_per_s=50)
    play(db, [gateway], lambda worker: worker.drain())
    refused = len(gateway.sent)
    assert refused <= 20
    for _ in range(30):
        clock.advance(minutes=1)
        play(db, [gateway], lambda worker: worker.drain())
    assert len(gateway.sent) - refused == 2
    mended = Silent(rate_per_s=50)
    clock.advance(minutes=15)
    play(db, [mended], lambda worker: worker.drain())
    assert states(db) == {"accepted": 20}


def test_a_start_lifts_no_pause_that_ends_by_itself_nor_that_of_a_number_that_waits_for_a_person(
    db: Database, clock: Any
) -> None:
    db.rules = replace(db.rules, senders={"simulator": Senders(("15005550006", "15005550016"), 10.0)})
    with db.transaction() as tx:
        rate_limits.hold_up(tx, "simulator", "15005550006", "person", "not registered (30034)")
        rate_limits.pause(tx, "other", until=tx.now + timedelta(minutes=5), because="no answers")
    play(db, [Silent(rate_per_s=10), Silent("other")], lambda worker: worker.drain())
    with db.reading() as tx:
        assert [row.name for row in rate_limits.paused(tx)] == ["other"]
        assert [row.number for row in rate_limits.paused_senders(tx)] == ["15005550006"]
    with db.transaction() as tx:
        rate_limits.hold_up(tx, "simulator", "15005550016", "person", "not registered (30034)")
    play(db, [Silent(rate_per_s=10), Silent("other")], lambda worker: worker.drain())
    with db.reading() as tx:
        assert [row.name for row in rate_limits.paused(tx)] == ["other", "simulator"], (
            "by none of its numbers can it send"
        )


# -- beside receipts ---------------------------------------------------------------------------------------------------


def test_an_answer_and_a_receipt_that_pause_a_gateway_at_once_do_not_wait_for_each_other(
    postgres: Any, rules: Any, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A receipt holds its message and then the gateway, so an answer must not hold the gateway and then a message."""
    held, paused = threading.Event(), threading.Event()
    real = rate_limits.pause

    def pause(tx: Any, name: str, **more: Any) -> bool:
        done = real(tx, name, **more)
        paused.set()
        return done

    monkeypatch.setattr(rate_limits, "pause", pause)

    def receipt(beside: Database, number: int) -> None:
        told = {"gateway": "simulator", "message_id": number, "gateway_id": "S9", "state": "undelivered"}
        with beside.transaction(in_turn=False) as tx:
            assert receipts.receive_receipt(tx, **told, word="undelivered", code="30002")
            held.set()
            assert paused.wait(HANG_S)
            rate_limits.hold_up(tx, "simulator", None, "person", "suspended (30002)")

    with postgres.database() as address, closing(Database(address, rules, clock)) as db:
        (again,) = queue(db, PHONES[1])
        with db.transaction() as tx:
            (before,), _ = gate.hand_over(tx, outbox.claim(tx, "simulator", "w", 1), "w", rate_per_s=1.6)
            outbox.settle(tx, [outbox.Settled(again, before.attempt_id, "queued", "throttled", due_at=tx.now)])
        clock.advance(seconds=2)
        (refused,) = queue(db, PHONES[0], kind="reply")

        async def act(worker: Worker) -> None:
            await worker.turn()
            await answered(worker)
            with closing(Database(address, rules, clock)) as beside, ThreadPoolExecutor(1) as pool:
                told = pool.submit(receipt, beside, again)
                assert held.wait(HANG_S)
                await worker.turn()
                told.result(HANG_S)

        play(db, [Refusing(rate_per_s=1.6)], act)
        with db.reading() as tx:
            found = {number: lookups.message(tx, number).state for number in (again, refused)}  # type: ignore[union-attr]
    assert found == {again: "undelivered", refused: "queued"}


# -- one worker --------------------------------------------------------------------------------------------------------


def test_there_is_one_worker_on_a_file_by_whatever_name_it_is_opened(tmp_path: Path) -> None:
    (tmp_path / "jumbe.db").touch()
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "elsewhere" / "link.db"
    link.symlink_to(tmp_path / "jumbe.db")
    with only_one(tmp_path / "jumbe.db"), pytest.raises(Misconfigured, match="another worker serves"), only_one(link):
        pass
    with only_one(link):
        pass


def test_a_lock_that_cannot_be_made_is_said_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="cannot be made"), only_one(tmp_path / "nowhere" / "x.db"):
        pass


def test_a_database_is_left_without_leases_when_a_worker_has_ended(db: Database) -> None:
    queue(db, *PHONES[:5])
    play(db, [Silent(rate_per_s=3)], lambda worker: worker.turn())
    with db.reading() as tx:
        assert tx.scalar(text("SELECT count(*) FROM messages WHERE lease_owner IS NOT NULL")) == 0
