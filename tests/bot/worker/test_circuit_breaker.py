"""A gateway of which most calls come to nothing is left alone, and tried with one message before the others go."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from bot.gateways.base import Accepted, Capabilities, NotSent, Outgoing, SendResult, Unknown
from bot.worker.circuit_breaker import LAST, LONGEST_PAUSE, Breaker
from bot.worker.dispatcher import NO_ANSWERS
from bot.worker.worker import Worker
from storage.database import Database
from storage.messages import lookups, outbox
from storage.programme import rate_limits

GOOD, LOST, AWAY = Accepted("S1"), Unknown("no answer"), NotSent("unreachable", "away")
PHONES = [f"23324{n:07}" for n in range(200)]


def told(breaker: Breaker, clock: Any, *results: SendResult, on_trial: bool = False) -> None:
    for result in results:
        breaker.note(clock(), result, on_trial=on_trial)


@pytest.mark.parametrize("bad", [LOST, AWAY])
def test_half_of_the_last_twenty_without_an_answer_are_enough_and_nine_are_not(clock: Any, bad: SendResult) -> None:
    breaker = Breaker()
    told(breaker, clock, *[bad] * 9, *[GOOD] * 11)
    assert breaker.pause_for is None
    told(breaker, clock, *[GOOD, bad] * 10)
    assert breaker.pause_for == timedelta(minutes=1)


def test_failures_that_are_far_apart_do_not_count_together(clock: Any) -> None:
    breaker = Breaker()
    for _ in range(60):
        told(breaker, clock, LOST)
        clock.advance(seconds=20)
    assert breaker.pause_for is None


def test_a_refusal_is_an_answer(clock: Any) -> None:
    breaker = Breaker()
    told(breaker, clock, *[NotSent("recipient", "no phone")] * LAST, *[NotSent("throttled", "slowly")] * LAST)
    assert breaker.pause_for is None


def test_each_vain_trial_doubles_the_pause_and_one_that_is_answered_ends_it(clock: Any) -> None:
    breaker = Breaker()
    told(breaker, clock, *[LOST] * LAST)
    pauses = [breaker.pause_for]
    for _ in range(6):
        breaker.pause_for = None
        told(breaker, clock, *[LOST] * 5)  # what was still under way
        assert breaker.pause_for is None
        told(breaker, clock, LOST, on_trial=True)
        pauses.append(breaker.pause_for)
    assert pauses == [*(timedelta(minutes=n) for n in (1, 2, 4, 8)), *[LONGEST_PAUSE] * 3]
    breaker.pause_for = None
    told(breaker, clock, GOOD, on_trial=True)
    assert not breaker.is_trying
    told(breaker, clock, *[LOST] * LAST)
    assert breaker.pause_for == timedelta(minutes=1)


class Weak:
    """A gateway that answers as it is told; `asked` are the messages that it was handed."""

    name = kind = "simulator"
    rate_per_s = 1000.0
    capabilities = Capabilities(False, False, False, False, concurrency=20)

    def __init__(self) -> None:
        self.answer: SendResult = LOST
        self.asked: list[int] = []

    async def send(self, outgoing: Outgoing) -> SendResult:
        self.asked.append(outgoing.id)
        return self.answer

    async def close(self) -> None:
        """Nothing is open."""


def test_an_outage_costs_a_few_messages_and_not_the_queue(db: Database, clock: Any) -> None:
    gateway = Weak()
    with db.transaction() as tx:
        for phone in PHONES:
            outbox.queue(tx, phone, "Hello", "notice")

    async def whole() -> None:
        worker = Worker(db, {"simulator": gateway}, "http://127.0.0.1")  # type: ignore[dict-item]
        worker.start()
        await worker.drain()
        assert len(gateway.asked) <= 2 * LAST, "what was under way when it was seen"
        with db.reading() as tx:
            assert [row.paused_because for row in rate_limits.paused(tx)] == [NO_ANSWERS]
        before = len(gateway.asked)
        clock.advance(seconds=61)
        await worker.drain()
        assert len(gateway.asked) == before + 1, "one message tries it"
        clock.advance(seconds=61)
        await worker.drain()
        assert len(gateway.asked) == before + 1, "the pause is two minutes now"
        gateway.answer = GOOD
        clock.advance(seconds=61)
        await worker.drain()
        assert len(gateway.asked) == len(PHONES)
        await worker.finish()

    asyncio.run(whole())
    with db.reading() as tx:
        states = lookups.count_states(tx)
    assert sum(states.values()) == len(PHONES) == states["unknown"] + states["accepted"]


@pytest.mark.parametrize(("lasting", "again"), [(True, 0), (False, 1)])
def test_what_a_person_must_mend_waits_for_a_person(db: Database, clock: Any, lasting: bool, again: int) -> None:
    gateway = Weak()
    gateway.answer = NotSent("gateway", "a wrong token", "20003", lasting=lasting)
    with db.transaction() as tx:
        for phone in PHONES[:5]:
            outbox.queue(tx, phone, "Hello", "notice")

    async def whole() -> None:
        worker = Worker(db, {"simulator": gateway}, "http://127.0.0.1")  # type: ignore[dict-item]
        worker.start()
        await worker.drain()
        before = len(gateway.asked)
        clock.advance(minutes=6)
        await worker.drain()
        assert len(gateway.asked) == before + again, "and if it is tried, by one message"
        gateway.answer = GOOD
        with db.transaction() as tx:
            rate_limits.resume(tx, "simulator")
        clock.advance(minutes=6)
        await worker.drain()
        await worker.finish()

    asyncio.run(whole())
    with db.reading() as tx:
        assert lookups.count_states(tx) == {"accepted": 5}
