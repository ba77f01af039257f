"""A gateway that cannot, and the one that takes over: at the worker, with every answer that a gateway can give."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import get_args

import pytest
from sqlalchemy import update

from bot.explaining import life
from bot.gateways.base import Accepted, Capabilities, NotSent, Outgoing, Scope, SendResult, Unknown
from bot.worker.worker import Worker
from storage import schema
from storage.database import Database
from storage.messages import gate, lookups, outbox
from storage.messages.outbox import Settled
from storage.programme import rate_limits
from storage.rules.hours_and_limits import Rules
from tests.world import World

ANN = "15551234567"


class Says:
    """A gateway that gives one answer."""

    kind = "said"
    capabilities = Capabilities(False, False, False, False, concurrency=5)
    rate_per_s = 100.0

    def __init__(self, name: str, answer: SendResult) -> None:
        self.name = name
        self.answer = answer
        self.asked: list[int] = []

    async def send(self, outgoing: Outgoing) -> SendResult:
        self.asked.append(outgoing.id)
        return self.answer

    async def close(self) -> None:
        """Nothing is open."""


@pytest.fixture
def rules() -> Rules:
    return Rules(hours=None, default_gateway="one", gateways=frozenset({"one", "two"}), failover={"one": "two"})


def sent_by(
    db: Database, answer: SendResult, row: int | None = None
) -> tuple[str, str, list[int], list[int], list[str]]:
    if row is None:
        with db.transaction() as tx:
            row = outbox.queue(tx, ANN, "Hello", "notice")
    one, two = Says("one", answer), Says("two", Accepted("T1"))

    async def work() -> None:
        worker = Worker(db, {"one": one, "two": two}, "http://127.0.0.1")  # type: ignore[dict-item]
        worker.start()
        await worker.drain()
        await worker.finish()

    asyncio.run(work())
    with db.reading() as tx:
        kept = lookups.message(tx, row)
        told = [step["what"] for step in life(tx, row)]
    assert kept is not None
    return kept.state, kept.gateway, one.asked, two.asked, told


@pytest.mark.parametrize("scope", ["gateway", "sender", "destination"])
def test_what_a_gateway_refused_for_its_own_reasons_goes_by_the_other_and_is_told(db: Database, scope: Scope) -> None:
    state, gateway, one, two, told = sent_by(db, NotSent(scope, "no", "403"))
    assert (state, gateway, len(one), len(two)) == ("accepted", "two", 1, 1)
    assert any("passed on to gateway two, as the settings say" in step for step in told)
    assert any("goes by gateway two now" in step for step in told)


@pytest.mark.parametrize("scope", sorted(set(get_args(Scope)) - {"gateway", "sender", "destination"}))
def test_what_is_about_the_text_its_number_or_our_speed_goes_nowhere_else(db: Database, scope: Scope) -> None:
    _, gateway, _, two, _ = sent_by(db, NotSent(scope, "no", "400", retry_after_s=3600))
    assert (gateway, two) == ("one", [])


def test_what_may_have_been_sent_goes_nowhere_else(db: Database) -> None:
    state, gateway, one, two, _ = sent_by(db, Unknown("no answer"))
    assert (state, gateway, len(one), two) == ("unknown", "one", 1, [])


def test_what_was_in_doubt_once_is_refused_rather_than_sent_by_the_other(db: Database) -> None:
    with db.transaction() as tx:
        row = outbox.queue(tx, ANN, "Hello", "notice")
        outbox.claim(tx, "one", "w", 1)
        (handed,), _ = gate.hand_over(tx, [row], "w", rate_per_s=100.0)
        outbox.settle(tx, [Settled(row, handed.attempt_id, "unknown", "no-answer")])
        outbox.settle(tx, [Settled(row, handed.attempt_id, "queued", "absent", due_at=tx.now)])
    state, gateway, one, two, _ = sent_by(db, NotSent("destination", "no", "403"), row)
    assert (state, gateway, len(one), two) == ("refused", "one", 1, []), "late evidence comes from its own gateway only"


def test_a_case_that_is_set_to_its_gateway_is_texted_by_no_other(db: Database) -> None:
    case = World(db).case("p-1", ANN, contact_backend_id="one")
    with db.transaction() as tx:
        row = outbox.queue(tx, ANN, "Hello", "notice", case_id=case)
    state, gateway, _, two, _ = sent_by(db, NotSent("destination", "no", "403"), row)
    assert (state, gateway, two) == ("refused", "one", [])
    with db.transaction() as tx:
        other = outbox.queue(tx, ANN, "Hello", "notice", case_id=case)
        rate_limits.pause(tx, "one", until=tx.now + timedelta(hours=9), because="?")
        tx.execute(update(schema.messages).values(due_at=tx.now - timedelta(hours=1)))
        assert outbox.fail_over(tx) == 0
        assert lookups.message(tx, other).gateway == "one"  # type: ignore[union-attr]


@pytest.mark.parametrize("failover", [{}, {"one": "sold"}, {"two": "one"}])
def test_where_no_other_takes_over_it_is_as_ever(db: Database, failover: dict[str, str]) -> None:
    object.__setattr__(db.rules, "failover", failover)
    state, gateway, _, two, _ = sent_by(db, NotSent("destination", "no", "403"))
    assert (state, gateway, two) == ("refused", "one", [])
