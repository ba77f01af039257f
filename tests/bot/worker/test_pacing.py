"""The worker keeps the rates: of a gateway that asks for less, and of each number where a gateway has several."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from bot.gateways.base import Accepted, Capabilities, NotSent, Outgoing, SendResult
from bot.worker import dispatcher
from bot.worker.worker import Worker
from storage.database import Database
from storage.messages import leases, outbox
from storage.programme import rate_limits, workers
from storage.rules.hours_and_limits import Senders

OURS = ("15005550006", "15005550016", "15005550026")
PHONES = [f"23324{n:07}" for n in range(60)]


class Line:
    """A gateway with several numbers; `refuses` says what one of them, or all (None), is answered."""

    name = kind = "simulator"
    capabilities = Capabilities(False, False, False, False, concurrency=20)

    def __init__(self, rate_per_s: float) -> None:
        self.rate_per_s = rate_per_s
        self.refuses: dict[str | None, NotSent] = {}
        self.asked: list[Outgoing] = []
        self.took: list[Outgoing] = []

    async def send(self, outgoing: Outgoing) -> SendResult:
        self.asked.append(outgoing)
        no = self.refuses.get(outgoing.own_number) or self.refuses.get(None)
        if no is not None:
            return no
        self.took.append(outgoing)
        return Accepted(f"S{outgoing.id}")

    async def close(self) -> None:
        """Nothing is open."""


def play(db: Database, clock: Any, line: Line, seconds: float, step_s: float = 0.25) -> None:
    """A worker for so many seconds of the clock."""

    async def whole() -> None:
        worker = Worker(db, {"simulator": line}, "https://sms.example.org")  # type: ignore[dict-item]
        with db.transaction() as tx:
            leases.end_leases(tx, of_others_than=worker.owner)
        for _ in range(int(seconds / step_s)):
            await worker.drain()
            clock.advance(seconds=step_s)
        await worker.finish()

    asyncio.run(whole())


def queue(db: Database, phones: list[str], kind: str = "notice") -> list[int]:
    with db.transaction() as tx:
        return [outbox.queue(tx, phone, "Hello", kind) for phone in phones]


@pytest.fixture
def several(db: Database) -> Database:
    db.rules = replace(db.rules, senders={"simulator": Senders(OURS, 1.0)})
    return db


def test_three_numbers_send_three_times_as_much_and_none_more_than_its_own(several: Database, clock: Any) -> None:
    queue(several, PHONES)
    line = Line(3.0)
    play(several, clock, line, 10, step_s=0.1)
    by_number = Counter(one.own_number for one in line.took)
    assert sum(by_number.values()) >= 27, "nine tenths of what the three may send"
    assert max(by_number.values()) <= 11
    assert set(by_number) == set(OURS)


def test_a_reply_waits_behind_no_bulk_of_its_number(several: Database, clock: Any) -> None:
    queue(several, PHONES, "broadcast")
    line = Line(3.0)
    play(several, clock, line, 2)
    (reply,) = queue(several, ["233209999999"], "reply")
    before = len(line.took)
    play(several, clock, line, 2)
    assert reply in [one.id for one in line.took[before : before + 4]]


@pytest.mark.parametrize("ours", [(), OURS[:1], OURS])
@pytest.mark.parametrize("comes_after_s", [0.05, 0.45, 0.95])
def test_a_reply_leaves_by_the_next_token_and_before_all_bulk(
    db: Database, clock: Any, ours: tuple[str, ...], comes_after_s: float
) -> None:
    """Whatever waits: nothing is claimed before its token is there, so the next token is the reply's."""
    db.rules = replace(db.rules, senders={"simulator": Senders(ours, 1.0)} if ours else {})
    queue(db, PHONES, "broadcast")
    line = Line(float(max(1, len(ours))))

    async def whole() -> None:
        worker = Worker(db, {"simulator": line}, "https://sms.example.org")  # type: ignore[dict-item]

        async def pass_by(seconds: float) -> None:
            for _ in range(round(seconds / 0.05)):
                await worker.drain()
                clock.advance(seconds=0.05)

        await pass_by(3 + comes_after_s)
        (reply,) = queue(db, ["233209999999"], "reply")
        before = len(line.took)
        await pass_by(1.1 + dispatcher.LOOK_S)
        by = {one.id: one.own_number for one in line.took}
        assert reply in by, "it left within a second, and a look"
        since = [one.id for one in line.took[before:] if one.own_number == by[reply]]
        assert since[0] == reply, "and no bulk by its number since it came"
        await worker.finish()

    asyncio.run(whole())


def test_a_full_queue_of_one_number_is_passed_round_by_the_others(several: Database, clock: Any) -> None:
    ids = queue(several, PHONES[:12])
    line = Line(3.0)
    line.refuses[OURS[0]] = NotSent("throttled", "the queue is full", "21611", hold="while")
    play(several, clock, line, 12)
    assert len([one for one in line.asked if one.own_number == OURS[0]]) == 1, "it is asked once and left alone"
    assert sorted(one.id for one in line.took) == ids
    assert {one.own_number for one in line.took} == set(OURS[1:])


def test_one_number_that_is_refused_is_paused_and_says_why_and_the_others_send(several: Database, clock: Any) -> None:
    ids = queue(several, PHONES[:12])
    line = Line(3.0)
    line.refuses[OURS[1]] = NotSent("sender", "our sender number may not send texts", "21606")
    play(several, clock, line, 12)
    assert sorted(one.id for one in line.took) == ids
    with several.reading() as tx:
        assert rate_limits.paused(tx) == []
        (number,) = [row for row in rate_limits.list_senders(tx) if row.paused_because]
    assert (number.number, number.paused_because) == (OURS[1], "our sender number may not send texts (21606)")


def test_a_gateway_that_asks_for_less_gets_less_and_then_all_again(db: Database, clock: Any) -> None:
    queue(db, PHONES)
    line = Line(8.0)
    line.refuses[None] = NotSent("throttled", "slowly", "20429", hold="slow")
    play(db, clock, line, 20)
    assert len(line.asked) < 8 * 20 / 2, "the queue is not burnt at full speed"
    with db.reading() as tx:
        assert rate_limits.speed(rate_limits.list_gateways(tx)[0], tx.now) < 1
    line.refuses = {}
    play(db, clock, line, 400, step_s=5.0)
    assert sorted(one.to for one in line.took) == sorted(PHONES)
    with db.reading() as tx:
        assert rate_limits.speed(rate_limits.list_gateways(tx)[0], tx.now) == 1


def test_a_wait_that_the_gateway_asks_for_is_waited_by_all_and_ends_by_itself(db: Database, clock: Any) -> None:
    queue(db, PHONES[:5])
    line = Line(1.0)
    line.refuses[None] = NotSent("throttled", "slowly", "20429", retry_after_s=60.0, hold="slow")
    play(db, clock, line, 50)
    assert len(line.asked) == 1
    with db.reading() as tx:
        assert [row.paused_because for row in rate_limits.paused(tx)] == ["slowly (20429)"]
    line.refuses = {}
    play(db, clock, line, 40)
    assert len(line.took) == 5


def test_each_vain_try_waits_longer_and_no_two_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    waits = [[dispatcher._wait_s(None, attempt) for _ in range(50)] for attempt in range(1, 14)]
    for attempt, drawn in enumerate(waits, 1):
        longest = min(300.0, 2.0**attempt)
        assert all(longest / 2 <= wait <= longest for wait in drawn)
        assert len(set(drawn)) > 40
    asked = [dispatcher._wait_s(30.0, 1) for _ in range(50)]
    assert all(30 <= wait <= 36 for wait in asked)
    assert len(set(asked)) > 40
    assert timedelta(seconds=max(waits[-1])) <= timedelta(minutes=5)


def test_one_number_that_is_refused_on_trial_is_an_answer_of_the_gateway(several: Database, clock: Any) -> None:
    queue(several, PHONES[:12])
    with several.transaction() as tx:
        rate_limits.pause(tx, "simulator", until=tx.now - timedelta(minutes=1), because="no answers")
    line = Line(3.0)
    for number in OURS[:2]:
        line.refuses[number] = NotSent("sender", "our sender number may not send texts", "21606")
    play(several, clock, line, 20)
    assert len(line.took) == 12


def test_a_worker_whose_clock_is_set_back_goes_on(db: Database, clock: Any) -> None:
    """What was claimed, what comes in later, the heartbeat and the lease."""
    queue(db, PHONES[:2])
    line = Line(1.0)

    async def whole() -> None:
        worker = Worker(db, {"simulator": line}, "https://sms.example.org")  # type: ignore[dict-item]
        await worker.drain()
        clock.advance(hours=-3)
        late = queue(db, ["233209999999"])
        for _ in range(40):
            await worker.drain()
            clock.advance(seconds=0.25)
        assert late[0] in [one.id for one in line.took]
        with db.reading() as tx:
            assert workers.count_fresh(tx) == 1
            assert abs((workers.last_seen(tx) or tx.now) - tx.now) < timedelta(seconds=2)
        await worker.finish()

    asyncio.run(whole())
