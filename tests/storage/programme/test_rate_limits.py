"""How fast texts leave: by gateway and by each of our numbers, over all workers; what slows them and what pauses them."""

from collections import Counter
from dataclasses import replace
from datetime import timedelta

import pytest

from storage.messages import gate, inbox, lookups, outbox
from storage.programme import rate_limits
from storage.programme.rate_limits import Wish
from storage.rules.hours_and_limits import Senders

GATEWAY = "simulator"
OURS = ("15005550006", "15005550016", "15005550026")
PHONES = [f"23324{n:07}" for n in range(60)]


@pytest.fixture
def several(db):
    db.rules = replace(db.rules, senders={GATEWAY: Senders(OURS, 1.0)})
    return db


def grant(db, wishes, rate=1000.0):
    with db.transaction() as tx:
        return rate_limits.grant(tx, GATEWAY, wishes, rate)


def wishes(phones=PHONES, own_number=None):
    return [Wish(n, phone, own_number) for n, phone in enumerate(phones, 1)]


def hold(db, what, number=None, **more):
    with db.transaction() as tx:
        return rate_limits.hold_up(tx, GATEWAY, number, what, "as told", **more)


def leave(db, many, seconds, clock, rate=1000.0):
    """What leaves in so many seconds, looked at ten times each: how many by each number."""
    waiting, left = wishes(PHONES[:many]), Counter()
    for _ in range(10 * seconds):
        granted = grant(db, waiting, rate)
        left.update(granted.values())
        waiting = [wish for wish in waiting if wish.id not in granted]
        clock.advance(seconds=0.1)
    return left


def test_a_gateway_sends_at_its_rate_whoever_asks(db, clock):
    assert leave(db, 60, 10, clock, rate=3.0) == {None: 33 - 1}  # three at once, and three a second after


def test_each_number_sends_at_its_own_rate_and_all_of_them_together(several, clock):
    left = leave(several, 60, 8, clock)
    assert set(left) == set(OURS)
    assert all(7 <= many <= 9 for many in left.values()), left


def test_the_rate_of_the_gateway_holds_over_all_its_numbers(several, clock):
    assert sum(leave(several, 60, 8, clock, rate=2.0).values()) in (16, 17)


def test_a_phone_is_texted_by_the_same_number_each_time_and_a_pause_moves_only_those_of_one(several, clock):
    first = {}
    for phone in PHONES:
        first |= {phone: grant(several, [Wish(1, phone)])[1]}
        clock.advance(seconds=2)
    hold(several, "person", OURS[0])
    for phone in PHONES:
        now = grant(several, [Wish(1, phone)])[1]
        assert now == first[phone] if first[phone] != OURS[0] else now in OURS[1:]
        clock.advance(seconds=2)
    assert min(Counter(first.values()).values()) >= 10, "each has its share"


def test_an_answer_leaves_by_the_number_that_was_texted_and_by_another_while_that_is_paused(several, clock):
    for ours in OURS:
        assert grant(several, [Wish(1, PHONES[0], ours)]) == {1: ours}
    hold(several, "while", OURS[1])
    clock.advance(seconds=2)
    assert grant(several, [Wish(1, PHONES[0], OURS[1])])[1] in (OURS[0], OURS[2])


def test_when_all_numbers_are_paused_nothing_leaves_until_one_may(several, clock):
    for ours in OURS:
        hold(several, "while", ours)
    assert grant(several, wishes()) == {}
    clock.advance(seconds=90)
    assert len(grant(several, wishes())) == 3


def test_a_hold_of_a_number_that_is_not_one_of_several_is_of_the_whole_gateway(db, several, clock):
    hold(several, "while", "15005559999")
    with several.reading() as tx:
        assert [row.paused_because for row in rate_limits.paused(tx)] == ["as told"]
    assert grant(several, wishes()) == {}


def test_asked_for_less_a_gateway_goes_at_half_its_speed_and_a_minute_later_at_full(db, clock):
    grant(db, wishes(PHONES[:20]), rate=10.0)
    assert hold(db, "slow") is None
    for _ in range(20):
        hold(db, "slow")  # what was under way together says one thing
    clock.advance(seconds=1)
    assert len(grant(db, wishes(), rate=10.0)) == 5
    clock.advance(seconds=5)
    hold(db, "slow")
    grant(db, wishes(), rate=10.0)
    clock.advance(seconds=1)
    assert len(grant(db, wishes(), rate=10.0)) == 2
    clock.advance(minutes=3)
    grant(db, wishes(), rate=10.0)
    clock.advance(seconds=1)
    assert len(grant(db, wishes(), rate=10.0)) == 10


def test_however_often_it_asks_for_less_something_still_leaves(db, clock):
    for _ in range(40):
        hold(db, "slow")
        clock.advance(seconds=6)
    left = leave(db, 60, 30, clock, rate=64.0)
    assert left[None] >= 20


def test_a_wait_that_the_gateway_asks_for_is_kept_and_not_to_the_second(db, clock):
    until = {hold(db, "slow", wait_s=30.0 * n) - clock() for n in range(1, 6)}
    assert all(
        timedelta(seconds=30 * n) <= kept <= timedelta(seconds=36 * n) for n, kept in enumerate(sorted(until), 1)
    )
    assert hold(db, "slow", wait_s=1.0) is None, "a pause is never made shorter"
    assert grant(db, wishes()) == {}
    clock.advance(seconds=181)
    assert grant(db, wishes()) != {}


def test_a_day_ends_by_the_clock_of_the_programme(db, clock):
    db.rules = replace(db.rules, time_zone="Africa/Nairobi")
    until = hold(db, "day")
    assert until.isoformat() == "2026-11-03T21:00:00+00:00"


def test_a_person_lets_it_go_on_and_what_left_before_holds_it_up_no_more(several, clock):
    left_at = clock()
    clock.advance(seconds=10)
    assert hold(several, "person", OURS[0], left_at=left_at) == rate_limits.UNTIL_MENDED
    with several.transaction() as tx:
        assert [row.number for row in rate_limits.paused_senders(tx)] == [OURS[0]]
        rate_limits.resume(tx, GATEWAY)
        assert rate_limits.paused_senders(tx) == []
    assert hold(several, "person", OURS[0], left_at=left_at) is None
    clock.advance(seconds=10)
    assert hold(several, "person", OURS[0], left_at=clock()) == rate_limits.UNTIL_MENDED


def test_a_start_tries_what_was_refused_and_not_what_a_receipt_says_is_lost(db, clock):
    with db.transaction() as tx:
        rate_limits.pause(tx, GATEWAY, until=rate_limits.UNTIL_RESUMED, because="a wrong token (20003)")
        assert rate_limits.try_again(tx) == [GATEWAY]
    clock.advance(hours=1)
    assert hold(db, "person", left_at=clock()) == rate_limits.UNTIL_MENDED
    clock.advance(hours=1)
    with db.transaction() as tx:
        assert rate_limits.try_again(tx) == []
        rate_limits.resume(tx, GATEWAY)
        assert rate_limits.paused(tx) == []


def test_what_waits_for_its_number_stays_claimed_and_the_next_of_another_number_passes(several, clock):
    with several.transaction() as tx:
        ids = [outbox.queue(tx, phone, "Hello", "notice") for phone in PHONES[:12]]
    with several.transaction(in_turn=False) as tx:
        claimed = outbox.claim(tx, GATEWAY, "w", 12)
    assert claimed == ids
    with several.transaction(in_turn=False) as tx:
        going, waiting = gate.hand_over(tx, claimed, "w", rate_per_s=100.0)
    assert {handed.own_number for handed in going} == set(OURS)
    assert (len(going), len(waiting)) == (3, 9)
    with several.reading() as tx:
        rows = {handed.id: lookups.message(tx, handed.id) for handed in going}
    assert all(rows[handed.id].own_number == handed.own_number for handed in going)


def test_a_reply_is_queued_for_the_number_that_was_texted(several):
    with several.transaction() as tx:
        text = inbox.record_inbound(
            tx, gateway=GATEWAY, gateway_id="SM1", sender=PHONES[0], text="menu", own_number=OURS[2]
        )
        answer = outbox.queue(tx, PHONES[0], "groups", "reply", reply_to=text.id)
        notice = outbox.queue(tx, PHONES[1], "to another", "notice", reply_to=text.id)
        told = {number: lookups.message(tx, number).own_number for number in (answer, notice)}
    assert told == {answer: OURS[2], notice: None}


def test_a_later_worker_s_earlier_clock_fills_no_bucket_twice(db, clock):
    grant(db, wishes(), rate=10.0)
    clock.advance(seconds=1)
    assert len(grant(db, wishes(), rate=10.0)) == 10
    clock.advance(seconds=-1)
    grant(db, wishes(), rate=10.0)
    clock.advance(seconds=1)
    assert grant(db, wishes(), rate=10.0) == {}
    with db.reading() as tx:
        assert [row.refilled_at for row in rate_limits.list_gateways(tx)] == [clock()]


def test_a_clock_that_is_set_back_stops_nothing(db, clock):
    grant(db, wishes(), rate=10.0)
    clock.advance(hours=-3)
    grant(db, wishes(), rate=10.0)
    clock.advance(seconds=1)
    assert len(grant(db, wishes(), rate=10.0)) == 10


def test_a_pause_is_never_made_shorter(db, clock):
    assert hold(db, "while", wait_s=180) is not None
    with db.transaction() as tx:
        assert not rate_limits.pause(tx, GATEWAY, until=clock() + timedelta(minutes=1), because="no answers")
        assert rate_limits.pause(tx, GATEWAY, until=clock() + timedelta(minutes=9), because="no answers")
    with db.reading() as tx:
        assert [row.paused_because for row in rate_limits.paused(tx)] == ["no answers"]


def test_a_trial_is_begun_once_and_its_end_lets_everybody_go_on_unless_something_else_paused_the_gateway(db, clock):
    assert hold(db, "while", wait_s=60) is not None
    with db.transaction() as tx:
        assert not rate_limits.may_begin_trial(tx, GATEWAY)
    clock.advance(minutes=5)
    until = clock() + timedelta(minutes=1)
    with db.transaction() as tx:
        assert rate_limits.may_begin_trial(tx, GATEWAY)
        rate_limits.begin_trial(tx, GATEWAY, until)
    with db.transaction() as tx:
        assert not rate_limits.may_begin_trial(tx, GATEWAY)
        assert rate_limits.paused_until(tx, GATEWAY) == until
    other = hold(db, "while", wait_s=600)
    with db.transaction() as tx:
        rate_limits.end_trial(tx, GATEWAY, until)
        assert rate_limits.paused_until(tx, GATEWAY) == other
        rate_limits.begin_trial(tx, GATEWAY, until)
        rate_limits.end_trial(tx, GATEWAY, until)
        assert rate_limits.paused_until(tx, GATEWAY) is None


def test_what_ends_one_reason_ends_no_other(several, clock):
    hold(several, "person", OURS[0])
    with several.transaction() as tx:
        rate_limits.pause(tx, GATEWAY, until=clock() + timedelta(minutes=1), because="a copy")
        rate_limits.end_pause(tx, "a copy")
        assert rate_limits.paused(tx) == []
        assert [row.number for row in rate_limits.paused_senders(tx)] == [OURS[0]]


def test_when_all_numbers_are_paused_their_messages_go_another_way(several, clock):
    several.rules = replace(several.rules, failover={GATEWAY: "other"})
    with several.transaction() as tx:
        number = outbox.queue(tx, PHONES[0], "Hello", "notice")
    for ours in OURS:
        with several.reading() as tx:
            assert rate_limits.paused(tx) == []
        hold(several, "person", ours)
    clock.advance(minutes=2)
    with several.transaction() as tx:
        assert "all our numbers there are paused" in rate_limits.paused(tx)[0].paused_because
        outbox.fail_over(tx)
        assert lookups.message(tx, number).gateway == "other"
        rate_limits.resume(tx, GATEWAY)
    assert len(grant(several, wishes())) == 3


def test_to_wait_no_seconds_is_to_go_more_slowly(db):
    assert hold(db, "slow", wait_s=0.0) is None
    with db.reading() as tx:
        assert rate_limits.paused(tx) == []
        assert [rate_limits.speed(row, tx.now) for row in rate_limits.list_gateways(tx)] == [0.5]
