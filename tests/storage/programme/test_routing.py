"""By which gateway a number is texted, and who takes over."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import select

from storage.broadcasts import broadcasts, expansion, previews, progress
from storage.database import Database
from storage.messages import gate, inbox, lookups, outbox
from storage.messages.outbox import Settled
from storage.programme import rate_limits, routing
from storage.rules.hours_and_limits import Rules
from storage.schema import cases
from storage.schema import messages as table
from tests.conftest import Clock
from tests.world import TEST, World

AMA, KOFI, ANN = "233244000101", "233209000102", "15551234567"


@pytest.fixture
def rules() -> Rules:
    return Rules(
        name="Demo clinic", time_zone="Africa/Accra", country="GH", hours=None, default_gateway="main",
        gateways=frozenset({"main", "mtn", "vodafone", "twilio"}), rates={"main": 1.0, "mtn": 10.0, "twilio": 2.0},
        routes=(("23324", "mtn"), ("233", "vodafone"), ("1", "twilio")), failover={"twilio": "main", "mtn": "vodafone"},
    )  # fmt: skip


def states(db: Database, ids: list[int]) -> list[tuple[str, str, str | None]]:
    with db.reading() as tx:
        rows = tx.execute(select(table).where(table.c.id.in_(ids)).order_by(table.c.id))
        return [(row.state, row.gateway, row.reason) for row in rows]


def sent(db: Database, gateway: str, *, settled: Settled | None = None) -> list[gate.HandOver]:
    with db.transaction() as tx:
        going, _ = gate.hand_over(tx, outbox.claim(tx, gateway, "me", 10), "me", rate_per_s=100)
    return going


def test_the_case_decides_then_the_longest_prefix_then_the_default(rules: Rules) -> None:
    choose = routing.choose
    assert choose(rules, AMA, "twilio") == routing.Choice("twilio", "case")
    assert choose(rules, AMA, "nokia") == routing.Choice("nokia", "case", is_known=False)
    assert choose(rules, AMA) == routing.Choice("mtn", "prefix", "23324")
    assert choose(rules, KOFI, "") == routing.Choice("vodafone", "prefix", "233")
    assert choose(rules, "4477") == routing.Choice("main", "default")
    assert choose(Rules(), AMA) == routing.Choice(None, "none")


def test_a_broadcast_chooses_in_the_set_as_one_chooses_alone(db: Database, world: World, rules: Rules) -> None:
    told = {"ama": (AMA, None), "kofi": (KOFI, None), "ann": (ANN, ""), "far": ("447700900123", None), "own": ("233244000999", "twilio"),
            "lost": ("233244000998", "nokia")}  # fmt: skip
    ids = [world.case(name, phone, contact_backend_id=own) for name, (phone, own) in told.items()]
    group = world.group("anc", *ids)
    with db.transaction() as tx:
        number = previews.draft(tx, {"en": "Hello"}, group_ids=[group], by=TEST)
        assert previews.preview(tx, number).skipped == {"gateway-unknown": 1}
        assert progress.takes_s(tx, number) == 1.0, "the slowest: one at one a second, two by twilio at two"
        broadcasts.launch(tx, number, hold_s=0, by=TEST)
        while expansion.expand_next(tx):
            pass
        rows = tx.execute(select(table.c.gateway, table.c.reason, cases.c.external_id).join(cases)).all()
        found = {row.external_id: (row.gateway, row.reason) for row in rows}
        assert found == {"ama": ("mtn", None), "kofi": ("vodafone", None), "ann": ("twilio", None), "far": ("main", None),
                         "own": ("twilio", None), "lost": ("nokia", "gateway-unknown")}  # fmt: skip
        for name, (phone, own) in told.items():
            assert found[name][0] == routing.choose(rules, phone, own).gateway


def test_an_answer_leaves_the_way_its_text_came_and_everything_else_by_its_number(db: Database, world: World) -> None:
    case = world.case("ama", AMA, contact_backend_id="twilio")
    with db.transaction() as tx:
        came = inbox.record_inbound(tx, gateway="main", gateway_id="1", sender=AMA, text="menu")
        gone = inbox.record_inbound(tx, gateway="sold", gateway_id="1", sender=AMA, text="menu")
        assert came is not None and gone is not None
        ids = [
            outbox.queue(tx, AMA, "x", "reply", reply_to=came.id),
            outbox.queue(tx, KOFI, "x", "notice", reply_to=came.id),
            outbox.queue(tx, AMA, "x", "reply", reply_to=gone.id),
            outbox.queue(tx, AMA, "x", "reply", reply_to=gone.id, case_id=case),
            outbox.queue(tx, ANN, "x", "notice"),
            outbox.queue(tx, ANN, "x", "notice", gateway="mtn"),
        ]
    assert [gateway for _, gateway, _ in states(db, ids)] == ["main", "vodafone", "mtn", "twilio", "twilio", "mtn"]


def test_what_was_queued_where_no_gateway_was_set_is_given_one_by_its_number(db: Database, clock: Clock) -> None:
    bare = Database(db.url.render_as_string(hide_password=False), Rules(hours=None), clock)
    with bare.transaction() as tx:
        ids = [outbox.queue(tx, phone, "x", "notice") for phone in (AMA, ANN, "4477")]
    bare.close()
    with db.transaction() as tx:
        outbox.adopt(tx)
    assert [gateway for _, gateway, _ in states(db, ids)] == ["mtn", "twilio", "main"]


# -- failover ----------------------------------------------------------------------------------------------------------


def test_what_was_certainly_not_sent_is_queued_for_the_other_and_says_so(db: Database) -> None:
    with db.transaction() as tx:
        row = outbox.queue(tx, ANN, "x", "notice")
    (handed,) = sent(db, "twilio")
    with db.transaction() as tx:
        outbox.settle(
            tx, [Settled(row, handed.attempt_id, "queued", "destination", "21408", due_at=tx.now, gateway="main")]
        )
        told = [(a.reason, a.code) for a in lookups.attempts_of(tx, row)]
    assert states(db, [row]) == [("queued", "main", "destination")]
    assert told == [("destination", "21408"), ("failover", "main")]
    assert [h.id for h in sent(db, "main")] == [row]


def test_an_unknown_one_never_goes_another_way(db: Database, clock: Clock) -> None:
    with db.transaction() as tx:
        row = outbox.queue(tx, ANN, "x", "notice")
    (handed,) = sent(db, "twilio")
    with db.transaction() as tx:
        outbox.settle(tx, [Settled(row, handed.attempt_id, "unknown", "no-answer")])
        rate_limits.pause(tx, "twilio", until=tx.now + timedelta(hours=9), because="?")
    clock.advance(hours=1)
    with db.transaction() as tx:
        assert outbox.fail_over(tx) == 0
    assert states(db, [row]) == [("unknown", "twilio", "no-answer")]


def test_what_waits_for_a_paused_gateway_is_passed_on_after_a_minute(db: Database, clock: Clock) -> None:
    with db.transaction() as tx:
        ids = [outbox.queue(tx, f"1555123{n:04}", "x", "notice") for n in range(3)]
        other = outbox.queue(tx, KOFI, "x", "notice")
        rate_limits.pause(tx, "twilio", until=tx.now + timedelta(minutes=5), because="?")
        rate_limits.pause(tx, "vodafone", until=tx.now + timedelta(minutes=5), because="?")
        assert outbox.fail_over(tx) == 0
    clock.advance(seconds=61)
    with db.transaction() as tx:
        assert outbox.fail_over(tx) == 3
        assert outbox.fail_over(tx) == 0
        assert [(a.reason, a.code) for a in lookups.attempts_of(tx, ids[0])] == [("failover", "main")]
    assert states(db, ids) == [("queued", "main", "failover")] * 3
    assert states(db, [other]) == [("queued", "vodafone", None)], "nobody takes over for vodafone"


def test_what_was_in_doubt_once_waits_for_its_own_gateway(db: Database, clock: Clock) -> None:
    with db.transaction() as tx:
        row = outbox.queue(tx, ANN, "x", "notice")
    (handed,) = sent(db, "twilio")
    with db.transaction() as tx:
        outbox.settle(tx, [Settled(row, handed.attempt_id, "unknown", "no-answer")])
        outbox.settle(tx, [Settled(row, handed.attempt_id, "queued", "absent", due_at=tx.now)])
        rate_limits.pause(tx, "twilio", until=tx.now + timedelta(hours=9), because="?")
    clock.advance(hours=1)
    with db.transaction() as tx:
        assert outbox.fail_over(tx) == 0
    assert states(db, [row]) == [("queued", "twilio", "absent")]


def test_what_could_not_be_handed_over_for_a_minute_is_passed_on(db: Database, clock: Clock) -> None:
    with db.transaction() as tx:
        row = outbox.queue(tx, ANN, "x", "notice")
    for _ in range(2):
        (handed,) = sent(db, "twilio")
        with db.transaction() as tx:
            due = tx.now + timedelta(seconds=40)
            outbox.settle(tx, [Settled(row, handed.attempt_id, "queued", "unreachable", due_at=due)])
            assert outbox.fail_over(tx) == 0
        clock.advance(seconds=41)
    with db.transaction() as tx:
        assert outbox.fail_over(tx) == 1
    assert states(db, [row]) == [("queued", "main", "failover")]
    assert [h.id for h in sent(db, "main")] == [row], "and it leaves at once"
