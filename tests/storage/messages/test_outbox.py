"""The row is the queue: moves that only go forward, one in flight to a phone, and a gate just before the call."""

import re
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test
from sqlalchemy import event, select, text
from sqlalchemy.exc import IntegrityError

from storage.broadcasts import broadcasts, expansion, previews
from storage.contacts import consent
from storage.database import Lost
from storage.messages import gate, inbox, leases, lookups, outbox, receipts, states
from storage.messages.outbox import Settled
from storage.messages.states import MOVES
from storage.programme import rate_limits
from storage.rules.quiet_hours import Hours
from storage.schema import OUT_STATES
from storage.schema import receipts as receipts_table
from tests.storage.messages.sending import (
    BACK,
    GATEWAY,
    RANK,
    A,
    B,
    C,
    claim,
    force,
    hand_over,
    look,
    queue,
    receipt,
    send,
    settle,
    state,
)
from tests.world import TEST


def is_due(db):
    with db.reading() as tx:
        return outbox.is_due(tx, GATEWAY)


# -- the table of moves ------------------------------------------------------------------------------------------------


def _reachable(start):
    found, todo = set(), [start]
    while todo:
        todo += [to for to in MOVES[todo.pop()] if to not in found and not found.add(to)]
    return found


def test_every_state_has_its_moves_and_its_meaning():
    assert set(MOVES) == set(OUT_STATES) == set(states.MEANINGS)
    assert set().union(*MOVES.values()) <= set(MOVES)


def test_every_move_is_forward_but_those_of_a_message_that_was_certainly_not_sent():
    assert all(RANK[to] > RANK[s] for s, moves in MOVES.items() for to in moves if (s, to) not in BACK)


@pytest.mark.parametrize("taken", ["accepted", "sent", "delivered", "undelivered"])
def test_what_the_gateway_took_is_never_queued_again(taken):
    assert not {"queued", "claimed", "sending", "unknown"} & _reachable(taken)


def test_what_is_delivered_refused_withheld_expired_or_cancelled_stays_so():
    assert {s for s in MOVES if not MOVES[s]} == {"delivered", "refused", "withheld", "expired", "cancelled"}


def test_the_database_knows_no_other_state(db):
    number = queue(db)
    for wrong in ("lost", "received"):
        with pytest.raises(IntegrityError, match="message_state"):
            force(db, number, state=wrong)


class Life(RuleBasedStateMachine):
    """One message, and everything that gateways, workers and networks do to it, in any order."""

    new_db = None
    results = st.sampled_from(["accepted", "refused", "unknown", "queued"])
    words = st.sampled_from(["accepted", "sent", "delivered", "undelivered", "refused"])

    @initialize()
    def begin(self):
        self.room = type(self).new_db()
        self.db = self.room.__enter__()
        self.number = queue(self.db, kind="broadcast")
        self.attempts, self.calls, self.proofs = [], 0, 0
        self.was, self.taken = "queued", False

    def teardown(self):
        if hasattr(self, "room"):
            self.room.__exit__(None, None, None)

    @rule()
    def a_worker_claims(self):
        claim(self.db)
        self.moved()

    @rule()
    def a_worker_hands_over(self):
        going, _ = hand_over(self.db, [self.number])
        self.attempts += [h.attempt_id for h in going]
        self.calls += len(going)
        self.moved()

    @precondition(lambda self: self.attempts)
    @rule(result=results, late=st.booleans())
    def an_attempt_is_answered(self, result, late):
        attempt = self.attempts[0 if late else -1]
        before = look(self.db, self.number)
        settle(self.db, self.number, attempt, result, gateway_id="SM1" if result == "accepted" else None)
        if attempt != before.attempt_id:
            assert look(self.db, self.number) == before
        self.moved()

    @rule(word=words, gateway_id=st.sampled_from(["SM1", "SM2"]), again=st.booleans())
    def a_receipt_comes(self, word, gateway_id, again):
        before = look(self.db, self.number)
        for _ in range(1 + again):
            receipt(self.db, self.number, word, gateway_id)
            after = look(self.db, self.number)
            if before.gateway_id not in (None, gateway_id) or before.attempts == 0:
                assert after == before
            self.moved()

    @rule(minutes=st.sampled_from([1, 3]))
    def time_passes_and_leases_end(self, minutes):
        self.db.clock.advance(minutes=minutes)
        with self.db.transaction() as tx:
            leases.end_leases(tx)
        self.moved()

    def moved(self):
        now = state(self.db, self.number)
        if now != self.was:
            assert now in MOVES[self.was]
            assert RANK[now] > RANK[self.was] or (self.was, now) in BACK
            self.proofs += now == "queued" and self.was in ("sending", "unknown")
        assert not (self.taken and now in ("queued", "claimed", "sending"))
        assert self.calls <= 1 + self.proofs  # every call but the first needs its proof that the last was in vain
        self.taken |= now in ("accepted", "sent", "delivered", "undelivered")
        self.was = now


def test_a_message_only_moves_forward_whatever_comes_in_whatever_order(new_db):
    Life.new_db = staticmethod(new_db)
    run_state_machine_as_test(Life, settings=settings(max_examples=40, stateful_step_count=18, deadline=None))


# -- receipts ----------------------------------------------------------------------------------------------------------


def test_a_receipt_may_come_before_the_answer(db):
    number = queue(db)
    attempt = send(db, number)
    assert receipt(db, number, "delivered")
    assert settle(db, number, attempt, "accepted", gateway_id="SM1") == 0
    assert (state(db, number), look(db, number).gateway_id) == ("delivered", "SM1")


def test_a_late_receipt_is_kept_and_moves_nothing(db):
    number = queue(db)
    settle(db, number, send(db, number), "accepted", gateway_id="SM1")
    assert [receipt(db, number, s) for s in ("delivered", "sent", "undelivered", "delivered")] == [True, False, False, False]  # fmt: skip
    with db.reading() as tx:
        kept = [(r.state, r.moved) for r in receipts.receipts_of(tx, number)]
    assert kept == [("delivered", True), ("sent", False), ("undelivered", False)]


def test_a_receipt_with_the_gateway_id_of_another_message_moves_nothing(db):
    number = queue(db)
    settle(db, number, send(db, number), "accepted", gateway_id="SM1")
    assert not receipt(db, number, "delivered", gateway_id="SM2")
    assert state(db, number) == "accepted"


def test_a_receipt_is_ours_by_our_number_and_the_gateways_id_whether_or_not_it_moves(db):
    number = queue(db)

    def ours(gateway_id="SM1", gateway=GATEWAY, row=number):
        with db.reading() as tx:
            return receipts.of_receipt(tx, gateway=gateway, message_id=row, gateway_id=gateway_id) is not None

    assert not ours()  # it never left
    settle(db, number, send(db, number), "accepted", gateway_id="SM1")
    receipt(db, number, "delivered")
    assert ours()
    assert not any((ours("SM2"), ours(gateway="twilio"), ours(row=number + 1)))


def test_a_receipt_for_a_message_that_never_left_moves_nothing(db):
    number = queue(db)
    assert not receipt(db, number, "refused")
    assert state(db, number) == "queued"


def test_a_receipt_for_no_message_of_ours_is_kept(db):
    assert not receipt(db, 4711, "delivered")
    with db.reading() as tx:
        assert [r.moved for r in tx.execute(select(receipts_table))] == [False]


def test_a_receipt_says_by_its_code_why(db):
    number = queue(db)
    settle(db, number, send(db, number), "accepted", gateway_id="SM1")
    receipt(db, number, "undelivered", code="30005")
    assert (look(db, number).reason, look(db, number).code) == ("gateway-code", "30005")


@pytest.mark.parametrize("doubt", ["unknown", "unresolved"])
def test_a_receipt_settles_a_doubt_however_late(db, doubt):
    number = queue(db)
    send(db, number)
    force(db, number, state=doubt)
    assert receipt(db, number, "delivered")
    assert state(db, number) == "delivered"


# -- answers -----------------------------------------------------------------------------------------------------------


def test_the_answer_to_an_earlier_attempt_never_touches_a_later_one(db):
    number = queue(db)
    first = send(db, number)
    settle(db, number, first, "queued", reason="throttled")
    second = send(db, number)
    assert first != second
    assert settle(db, number, first, "accepted", gateway_id="SM0") == 0
    assert (state(db, number), look(db, number).gateway_id) == ("sending", None)


def test_an_answer_may_say_when_to_try_again(db, clock):
    number = queue(db)
    later = clock() + timedelta(seconds=30)
    settle(db, number, send(db, number), "queued", reason="throttled", due_at=later)
    assert claim(db) == []
    clock.advance(seconds=30)
    assert claim(db) == [number]


def test_many_answers_are_written_as_one_statement_for_each_state(db, statements):
    numbers = [queue(db, f"23324{n:07}") for n in range(60)]
    going, _ = hand_over(db, claim(db))
    results = [
        Settled(h.id, h.attempt_id, ("accepted", "refused", "unknown")[h.id % 3], gateway_id=str(h.id)) for h in going
    ]
    with statements(db) as ran, db.transaction() as tx:
        assert outbox.settle(tx, results) == len(numbers)
    assert len(ran) <= 6, "one more looks for receipts that came too early"
    with db.reading() as tx:
        kept = {result.id: lookups.attempts_of(tx, result.id) for result in results}
    for result in results:
        # One that the gateway took leaves its trace in the message; any other is kept as it came.
        assert [row.state for row in kept[result.id]] == ([] if result.state == "accepted" else [result.state])


# -- claiming ----------------------------------------------------------------------------------------------------------


def test_of_one_phone_one_message_is_claimed_and_the_next_when_that_is_settled(db):
    first, second, other = queue(db), queue(db), queue(db, B)
    assert claim(db) == [first, other]
    assert claim(db) == []
    (going, _), _ = hand_over(db, [first, other])
    assert claim(db) == []
    settle(db, first, going.attempt_id, "accepted", gateway_id="SM1")
    assert claim(db) == [second]


def test_replies_leave_before_bulk_and_bulk_in_the_order_it_was_queued(db):
    bulk = [queue(db, phone, kind="broadcast") for phone in (A, B)]
    reply = queue(db, C, kind="reply")
    assert claim(db, at_most=2) == [reply, bulk[0]]


def test_a_reply_overtakes_bulk_to_its_own_phone(db):
    bulk, reply = queue(db, kind="broadcast"), queue(db, kind="reply")
    assert claim(db) == [reply]
    assert state(db, bulk) == "queued"


def test_a_message_in_doubt_holds_back_bulk_to_its_phone_and_no_reply(db):
    doubtful = queue(db, kind="broadcast")
    settle(db, doubtful, send(db, doubtful), "unknown")
    bulk = queue(db, kind="broadcast")
    assert claim(db) == []
    assert not is_due(db)
    other, reply = queue(db, B, kind="broadcast"), queue(db, kind="reply")
    assert claim(db) == [reply, other]
    assert state(db, bulk) == "queued"


def test_nothing_is_claimed_before_its_time_or_for_another_gateway(db, clock):
    number = queue(db)
    force(db, number, due_at=clock() + timedelta(minutes=1))
    assert claim(db) == []
    clock.advance(minutes=1)
    assert claim(db, gateway="twilio") == []
    assert is_due(db)
    assert claim(db) == [number]
    assert not is_due(db)


def test_a_paused_gateway_waits(db, clock):
    number = queue(db)
    with db.transaction() as tx:
        rate_limits.pause(tx, GATEWAY, until=clock() + timedelta(minutes=5), because="gateway")
    assert claim(db) == []
    clock.advance(minutes=5)
    assert claim(db) == [number]


def test_what_was_claimed_can_be_given_back_by_its_owner_only(db):
    number = queue(db)
    claim(db)
    for owner, after in (("other", "claimed"), ("me", "queued")):
        with db.transaction() as tx:
            leases.release(tx, [number], owner)
        assert state(db, number) == after


# -- leases ------------------------------------------------------------------------------------------------------------


def end_leases(db, **more):
    with db.transaction() as tx:
        return leases.end_leases(tx, **more)


def test_a_lease_that_ran_out_gives_the_claimed_back_and_leaves_the_handed_over_unknown(db, clock):
    claimed, sending = queue(db), queue(db, B)
    claim(db)
    hand_over(db, [sending])
    assert end_leases(db) == (0, 0)
    clock.advance(seconds=121)
    assert end_leases(db) == (1, 1)
    assert (state(db, claimed), state(db, sending)) == ("queued", "unknown")
    assert look(db, sending).reason == "process-died"
    assert claim(db) == [claimed]


def test_a_message_whose_worker_died_while_sending_is_never_claimed_again(db, clock):
    number = queue(db)
    send(db, number)
    for _ in range(5):
        clock.advance(hours=1)
        end_leases(db)
        assert claim(db) == []
    assert state(db, number) == "unknown"


def test_a_hand_over_that_is_never_answered_becomes_unknown_and_gags_its_phone_no_longer(db, clock):
    number, later = queue(db), queue(db)
    send(db, number)
    for _ in range(13):
        clock.advance(seconds=10)
    assert end_leases(db) == (0, 1)
    assert state(db, number) == "unknown"
    assert claim(db) == [later]


def expire(db):
    with db.transaction() as tx:
        return outbox.expire(tx)


def test_what_waits_behind_another_until_its_time_is_over_expires(db, clock):
    first, behind, ahead = queue(db, kind="reply"), queue(db, kind="reply"), queue(db, B, kind="notice")
    hand_over(db, claim(db, at_most=1))
    assert expire(db) == 0
    clock.advance(hours=1)
    assert expire(db) == 1
    assert [state(db, n) for n in (first, behind, ahead)] == ["sending", "expired", "queued"]
    assert look(db, behind).reason == "expired"


def test_what_ran_out_of_time_is_ended_a_bounded_number_at_once(db, clock, monkeypatch):
    monkeypatch.setattr(outbox, "EXPIRE_AT_ONCE", 2)
    for n in range(3):
        queue(db, f"23324{n:07}", kind="reply")
    clock.advance(hours=1)
    assert [expire(db) for _ in range(3)] == [2, 1, 0]


def test_the_only_worker_ends_what_another_held_at_once(db):
    number = queue(db)
    claim(db, owner="the dead one")
    assert end_leases(db, of_others_than="me") == (1, 0)
    assert claim(db) == [number]
    assert end_leases(db, of_others_than="me") == (0, 0)


# -- the gate ----------------------------------------------------------------------------------------------------------


def test_the_gate_lets_go_what_it_was_handed_by_its_owner_only(db):
    number = queue(db)
    claim(db)
    assert hand_over(db, [number], owner="other") == ([], [])
    (going,), waiting = hand_over(db, [number])
    assert (going.address, going.body, going.attempts, waiting) == (A, "hello", 1, [])
    assert state(db, number) == "sending"
    assert hand_over(db, [number]) == ([], [])


@pytest.mark.parametrize(("kind", "after"), [("broadcast", "withheld"), ("text", "withheld"), ("notice", "withheld"), ("reply", "withheld"), ("consent", "sending")])  # fmt: skip
def test_a_number_that_said_stop_after_the_claim_gets_nothing_but_the_answer_to_it(db, kind, after):
    number = queue(db, kind=kind)
    claim(db)
    with db.transaction() as tx:
        consent.hear(tx, A, "stop", words="stop", message_id=None, by=TEST)
    hand_over(db, [number])
    assert state(db, number) == after
    assert look(db, number).reason == ("stopped" if after == "withheld" else None)


def test_what_was_halted_after_the_claim_is_cancelled(world):
    db = world.db
    anc = world.group("anc", world.case("ama", A))
    with db.transaction() as tx:
        number = previews.draft(tx, {"en": "hello"}, group_ids=[anc], by=TEST)
        broadcasts.launch(tx, number, hold_s=0, by=TEST)
        expansion.expand_next(tx)
    (message,) = claim(db)
    with db.transaction() as tx:
        broadcasts.halt(tx, number, by=TEST)
    assert hand_over(db, [message]) == ([], [])
    assert (state(db, message), look(db, message).reason) == ("cancelled", "halted")


@pytest.mark.parametrize(("kind", "minutes"), [("consent", 5), ("reply", 60), ("notice", 24 * 60)])
def test_what_comes_too_late_expires(db, clock, kind, minutes):
    number = queue(db, kind=kind)
    clock.advance(minutes=minutes)
    claim(db)
    assert hand_over(db, [number]) == ([], [])
    assert state(db, number) == "expired"


@pytest.fixture
def quiet(db, clock):
    """Texting from 9 to 20; it is half past eight in the evening in Accra."""
    db.rules = replace(db.rules, hours=Hours(time(9), time(20)))
    clock.now = datetime(2026, 11, 3, 20, 30, tzinfo=UTC)
    return db


def test_what_would_come_at_night_waits_for_the_morning(quiet, clock):
    number = queue(quiet, kind="broadcast")
    claim(quiet)
    hand_over(quiet, [number])
    row = look(quiet, number)
    assert (row.state, row.reason, row.due_at) == ("queued", "quiet-hours", datetime(2026, 11, 4, 9, 0, tzinfo=UTC))
    assert claim(quiet) == []
    clock.now = row.due_at
    assert send(quiet, number)


def test_what_would_die_before_the_morning_expires_in_the_evening(quiet, clock):
    number = queue(quiet, kind="broadcast")
    force(quiet, number, expires_at=clock() + timedelta(hours=12))
    claim(quiet)
    hand_over(quiet, [number])
    assert (state(quiet, number), look(quiet, number).reason) == ("expired", "quiet-hours")


@pytest.mark.parametrize("kind", ["consent", "reply", "notice"])
def test_an_answer_is_given_at_night_as_well(quiet, kind):
    number = queue(quiet, kind=kind)
    claim(quiet)
    hand_over(quiet, [number])
    assert state(quiet, number) == "sending"


def test_a_case_whose_time_zone_is_no_longer_known_holds_up_nobody(quiet, world, clock):
    clock.now = datetime(2026, 11, 3, 19, 0, tzinfo=UTC)
    lost = queue(quiet, kind="text", case_id=world.case("ama", A, time_zone="Mars/Olympus"))
    other = queue(quiet, B, kind="text")
    claim(quiet)
    assert [h.id for h in hand_over(quiet, [lost, other])[0]] == [lost, other]


def test_a_row_at_which_our_code_fails_is_refused_and_costs_no_other_row_anything(quiet, clock, monkeypatch, caplog):
    clock.now = datetime(2026, 11, 3, 19, 0, tzinfo=UTC)
    bad, other = queue(quiet, kind="text"), queue(quiet, B, kind="text")
    real = gate._zones

    def zones(tx, row):
        if row.phone == A:
            raise KeyError(row.phone)
        return real(tx, row)

    monkeypatch.setattr(gate, "_zones", zones)
    claim(quiet)
    going, waiting = hand_over(quiet, [bad, other])
    assert ([h.id for h in going], waiting) == ([other], [])
    assert (state(quiet, bad), look(quiet, bad).reason) == ("refused", "fault")
    assert f"message {bad} is refused, reference " in caplog.text
    assert A not in caplog.text


def test_the_gateway_is_told_when_the_day_ends(quiet, clock):
    clock.now = datetime(2026, 11, 3, 19, 0, tzinfo=UTC)
    number = queue(quiet, kind="broadcast")
    claim(quiet)
    (going,), _ = hand_over(quiet, [number])
    assert going.validity_s == 3600


def test_the_time_zone_of_the_case_counts(quiet, world):
    case = world.case("ama", A, time_zone="America/New_York")
    number = queue(quiet, kind="text", case_id=case)
    claim(quiet)
    hand_over(quiet, [number])
    assert state(quiet, number) == "sending"


def test_a_gateway_gets_no_more_than_its_rate(db, clock):
    numbers = [queue(db, f"23324{n:07}") for n in range(30)]
    waiting = claim(db)
    gone = []
    for _ in range(40):
        going, waiting = hand_over(db, waiting, rate=2)
        gone += [(clock(), h.id) for h in going]
        clock.advance(seconds=0.25)
    assert [number for _, number in gone] == numbers[: len(gone)]
    assert 18 <= len(gone) <= 22  # ten seconds at two a second, and at most one second's worth in store
    for moment, _ in gone:
        assert sum(moment <= other < moment + timedelta(seconds=1) for other, _ in gone) <= 4


def test_a_gateway_that_rested_has_one_second_in_store_and_no_more(db, clock):
    for n in range(30):
        queue(db, f"23324{n:07}")
    waiting = claim(db)
    hand_over(db, waiting[:1], rate=5)
    clock.advance(hours=1)
    going, _ = hand_over(db, waiting[1:], rate=5)
    assert len(going) == 5


def test_a_slow_gateway_still_gets_one(db, clock):
    first, second = queue(db), queue(db, B)
    claim(db)
    going, waiting = hand_over(db, [first, second], rate=0.1)
    assert ([h.id for h in going], waiting) == ([first], [second])
    clock.advance(seconds=9.5)
    assert hand_over(db, waiting, rate=0.1) == ([], [second])
    clock.advance(seconds=0.5)
    assert [h.id for h in hand_over(db, waiting, rate=0.1)[0]] == [second]


# -- in ----------------------------------------------------------------------------------------------------------------


def record(db, gateway_id="SM1", gateway=GATEWAY):
    with db.transaction() as tx:
        row = inbox.record_inbound(tx, gateway=gateway, gateway_id=gateway_id, sender=A, text="hi")
        return row and row.id


def test_a_text_is_recorded_once_for_ever(db, clock):
    assert record(db)
    clock.advance(days=4000)
    assert record(db) is None
    assert record(db, "SM2")
    assert record(db, gateway="twilio")


def test_what_the_gateway_said_of_a_text_is_kept_with_it(db):
    with db.transaction() as tx:
        inbox.record_inbound(
            tx, gateway=GATEWAY, gateway_id="SM1", sender=A, text="no more", told="stop", answered=True
        )
    with db.reading() as tx:
        (row,) = inbox.unhandled(tx)
    assert (row.told, row.answered) == ("stop", True)


def test_an_outbound_message_with_the_same_gateway_id_stands_in_nobodys_way(db):
    number = queue(db)
    settle(db, number, send(db, number), "accepted", gateway_id="SM1")
    assert record(db, "SM1")


def postpone(db, number):
    with db.transaction() as tx:
        return inbox.postpone(tx, number, "ab12")


def waiting(db):
    with db.reading() as tx:
        return [row.id for row in inbox.unhandled(tx)]


def test_a_text_that_cannot_be_handled_is_tried_again_and_set_aside_after_three_times(db, clock):
    number = record(db)
    assert waiting(db) == [number]
    assert postpone(db, number) == "received"
    assert waiting(db) == []
    clock.advance(seconds=30)
    assert waiting(db) == [number]
    assert [postpone(db, number), postpone(db, number)] == ["received", "set_aside"]
    clock.advance(days=1)
    assert waiting(db) == []
    assert look(db, number).reason == "fault ab12"


def test_a_text_that_was_handled_is_done_with(db):
    number = record(db)
    with db.transaction() as tx:
        inbox.handled(tx, number, "reply", case_id=None, person_id=None)
        with pytest.raises(Lost):
            inbox.handled(tx, number + 1, "reply", case_id=None, person_id=None)
    assert (state(db, number), look(db, number).handled_as, waiting(db)) == ("handled", "reply", [])


def test_a_gateway_that_says_opted_out_is_heard_as_a_stop_once(db):
    number = queue(db)
    for _ in range(2):
        with db.transaction() as tx:
            receipts.note_opt_out(tx, number, by=TEST)
    with db.reading() as tx:
        assert [(e.kind, e.message_id) for e in consent.history(tx, A)] == [("stop", number)]


# -- to look at --------------------------------------------------------------------------------------------------------


def test_messages_are_listed_newest_first_by_state_phone_and_direction(db):
    first, second, inbound = queue(db), queue(db, B), record(db)
    with db.reading() as tx:
        assert [m.id for m in lookups.list_all(tx)] == [inbound, second, first]
        assert [m.id for m in lookups.list_all(tx, phone=A, direction="out")] == [first]
        assert [m.id for m in lookups.list_all(tx, state="received")] == [inbound]
        assert len(lookups.list_all(tx, at_most=1)) == 1
        assert lookups.count_states(tx) == {"queued": 2, "received": 1}
        assert {p: [m.id for m in rows] for p, rows in inbox.threads(tx, [A, B, C], at_most=1).items()} == {A: [inbound], B: [second], C: []}  # fmt: skip


def test_the_questions_that_are_asked_all_the_time_read_an_index(db):
    """A queue of a million rows must cost no more than one of ten."""
    with db.reading() as tx:
        if not db.is_sqlite:
            tx.execute(text("SET LOCAL enable_seqscan = off"))  # of an empty table it would read the whole
        for question in (
            "SELECT id FROM messages WHERE state = 'queued' AND gateway = 'x' ORDER BY priority, due_at, id LIMIT 1",
            "SELECT id FROM messages WHERE state = 'received' AND due_at <= '2026-11-03'",
            "SELECT id FROM messages WHERE state = 'queued' AND expires_at <= '2026-11-03' LIMIT 1000",
            "SELECT id FROM messages WHERE broadcast_id = 1 AND state = 'queued'",
        ):
            explain = "EXPLAIN QUERY PLAN" if db.is_sqlite else "EXPLAIN"
            plan = " ".join(str(row[-1]) for row in tx.execute(text(f"{explain} {question}")))
            assert re.search(r"USING.* INDEX (messages|one)_|Index.* (messages|one)_", plan), plan


@pytest.mark.only("sqlite")
def test_what_a_worker_does_each_second_looks_through_no_table_of_messages(db):
    """As it is asked, with its parameters: a partial index is taken only where the question holds its very words."""
    db.rules = replace(db.rules, failover={GATEWAY: "other"})
    plans = []

    @event.listens_for(db.engine, "before_cursor_execute")
    def explain(connection, _cursor, statement, parameters, *_):
        if statement.startswith(("SELECT", "UPDATE")):
            told = connection.connection.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)
            plans.extend(f"{row[3]}: {statement}" for row in told)

    for step in (leases.end_leases, outbox.expire, outbox.adopt, outbox.fail_over, expansion.finish):
        with db.transaction() as tx:
            step(tx)
    assert plans
    assert [plan for plan in plans if plan.startswith("SCAN messages")] == []


def test_a_gateway_by_which_something_left_just_now_does_not_stand_still(db, clock):
    numbers = [queue(db, f"2332412{n:05}", gateway=GATEWAY if n % 2 else "other") for n in range(6)]
    clock.advance(minutes=3)
    with db.reading() as tx:
        assert [(row.gateway, row.many) for row in lookups.not_leaving(tx)] == [("other", 3), (GATEWAY, 3)]
    assert claim(db, at_most=1) == [numbers[1]]
    hand_over(db, [numbers[1]])
    with db.reading() as tx:
        assert [(row.gateway, row.many) for row in lookups.not_leaving(tx)] == [("other", 3)]
