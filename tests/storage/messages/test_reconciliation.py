"""What is in doubt is settled by evidence or shown to a person, in whatever order the evidence comes."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from storage.messages import leases, outbox, receipts, reconciliation
from storage.messages.outbox import Settled
from storage.messages.states import MOVES
from tests.storage.messages.sending import (
    BACK,
    GATEWAY,
    RANK,
    A,
    B,
    claim,
    force,
    hand_over,
    look,
    queue,
    receipt,
    send,
    settle,
    state,  # fmt: skip
)
from tests.texting import examples


def lose(db, phone=A, body="hello", kind="notice", **more):
    """A message whose answer was lost; returns its number and attempt."""
    number = queue(db, phone, body, kind, **more)
    attempt = send(db, number)
    settle(db, number, attempt, "unknown", reason="no-answer")
    return number, attempt


def due(db):
    with db.reading() as tx:
        return reconciliation.questions(tx, GATEWAY, 100)


def absent(db, number, attempt):
    with db.transaction() as tx:
        return reconciliation.absent(tx, number, attempt)


def cannot_tell(db, number, attempt):
    with db.transaction() as tx:
        return reconciliation.cannot_tell(tx, number, attempt, "it is away")


def found(db, number, attempt, gateway_id="SM1", to="sent", code=None):
    with db.transaction() as tx:
        return reconciliation.found(tx, number, attempt, gateway_id=gateway_id, state=to, code=code)


# -- when it is asked --------------------------------------------------------------------------------------------------


def test_a_message_in_doubt_is_asked_about_after_two_minutes_and_never_at_once(db, clock):
    number, attempt = lose(db)
    assert due(db) == []
    clock.advance(minutes=2)
    (question,) = due(db)
    assert (question.id, question.attempt_id, question.address, question.text) == (number, attempt, A, "hello")


def test_it_is_asked_five_times_over_nine_hours_and_then_shown_to_a_person(db, clock):
    number, attempt = lose(db)
    asked = []
    for minute in range(600):
        if due(db):
            asked.append(minute)
            cannot_tell(db, number, attempt)
        clock.advance(minutes=1)
    assert asked == [2, 13, 43, 163, 523]
    assert (state(db, number), look(db, number).reason) == ("unresolved", "no-answer")


def test_a_code_is_asked_for_in_its_digits_and_not_at_all_when_it_was_made_anew(db, world, clock):
    from storage.operations import operations
    from tests.world import TEST

    lead = world.person("Lena", B)
    with db.transaction() as tx:
        by = replace(TEST, person_id=lead.id)
        operation = operations.ask(tx, "delete", words="delete anc", request={}, group_id=None, message_id=None, by=by)
        code = operations.issue_code(tx, operation, lead.id)
    number, _ = lose(db, B, "To confirm: ok ******", "reply", code_id=code)
    clock.advance(minutes=2)
    (question,) = due(db)
    assert question.text is not None and question.text[-6:].isdigit()
    with db.transaction() as tx:
        operations.issue_code(tx, operation, lead.id)
    assert [q.text for q in due(db)] == [None]
    assert look(db, number).body.endswith("******")


# -- what the answer does ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("to", ["accepted", "sent", "delivered", "undelivered"])
def test_what_is_found_moves_forward_and_keeps_its_name(db, clock, to):
    number, attempt = lose(db)
    assert found(db, number, attempt, to=to) == to
    assert (state(db, number), look(db, number).gateway_id) == (to, "SM1")


def test_a_receipt_that_was_faster_than_the_answer_stays(db):
    number, attempt = lose(db)
    receipt(db, number, "delivered")
    assert found(db, number, attempt, to="sent") is None
    assert absent(db, number, attempt) is None
    assert state(db, number) == "delivered"


def test_what_is_not_there_the_first_time_may_only_be_late(db, clock):
    number, attempt = lose(db)
    assert absent(db, number, attempt) == "unknown"
    clock.advance(minutes=9)
    assert absent(db, number, attempt) == "unknown", "too soon to be a proof"


@pytest.mark.parametrize(
    ("kind", "then"),
    [
        ("notice", "queued"),
        ("reply", "queued"),
        ("text", "unresolved"),
        ("broadcast", "unresolved"),
        ("consent", "unresolved"),
    ],
)
def test_what_is_proved_absent_goes_again_or_waits_for_a_person_by_its_kind(db, clock, kind, then):
    number, attempt = lose(db, kind=kind)
    absent(db, number, attempt)
    clock.advance(minutes=11)
    assert absent(db, number, attempt) == then
    assert look(db, number).reason == "absent"


def test_what_ran_out_of_time_meanwhile_does_not_go_again(db, clock):
    number, attempt = lose(db, kind="reply")
    absent(db, number, attempt)
    clock.advance(minutes=61)
    assert absent(db, number, attempt) == "unresolved"


def test_a_programme_may_let_no_kind_go_again(db, clock):
    db.rules = replace(db.rules, resend_absent=frozenset())
    number, attempt = lose(db)
    absent(db, number, attempt)
    clock.advance(minutes=11)
    assert absent(db, number, attempt) == "unresolved"


def test_what_goes_again_has_its_own_questions(db, clock):
    number, attempt = lose(db)
    absent(db, number, attempt)
    clock.advance(minutes=11)
    absent(db, number, attempt)
    again = send(db, number)
    settle(db, number, again, "unknown")
    assert absent(db, number, attempt) is None, "the question of the first attempt"
    assert absent(db, number, again) == "unknown", "one look is no proof, whatever the first attempt had"
    assert look(db, number).attempts == 2


# -- whose it is -------------------------------------------------------------------------------------------------------


def test_the_gateways_ids_of_our_other_messages_to_that_phone_are_not_it(db, clock):
    first = queue(db, body="hello")
    settle(db, first, send(db, first), "accepted", gateway_id="SM7")
    number, attempt = lose(db)
    clock.advance(minutes=2)
    assert [q.not_it for q in due(db)] == [frozenset({"SM7"})]
    assert found(db, number, attempt, "SM7") == "unknown"
    assert look(db, number).gateway_id is None


def test_the_same_words_twice_in_doubt_to_one_phone_are_not_told_apart(db, clock):
    one, attempt = lose(db)
    two, other = lose(db)
    clock.advance(minutes=2)
    assert [q.has_twin for q in due(db)] == [True, True]
    assert found(db, one, attempt, "SM1") == "unknown"
    receipt(db, two, "delivered", "SM2")
    assert found(db, one, attempt, "SM2") == "unknown", "that is the other one"
    assert found(db, one, attempt, "SM1") == "sent", "now there is only one that it can be"
    assert found(db, two, other) is None


# -- parked receipts ---------------------------------------------------------------------------------------------------


def test_a_receipt_that_came_before_the_hand_over_was_written_counts_when_the_message_has_its_name(db):
    number = queue(db)
    assert not receipt(db, number, "delivered", "SM5")
    attempt = send(db, number)
    assert state(db, number) == "sending"
    settle(db, number, attempt, "accepted", gateway_id="SM5")
    assert state(db, number) == "delivered"
    with db.reading() as tx:
        assert [r.moved for r in receipts.receipts_of(tx, number)] == [True]


def test_a_receipt_of_another_message_with_our_number_never_counts(db):
    """After a restore the same number may stand for another text."""
    number = queue(db)
    receipt(db, number, "delivered", "SM-before-the-restore")
    settle(db, number, send(db, number), "accepted", gateway_id="SM5")
    assert state(db, number) == "accepted"


def test_parked_receipts_count_when_the_gateway_names_the_message(db, clock):
    number = queue(db)
    receipt(db, number, "undelivered", "SM5", code="30003")
    attempt = send(db, number)
    settle(db, number, attempt, "unknown")
    assert found(db, number, attempt, "SM5", "sent") == "sent"
    assert (state(db, number), look(db, number).code) == ("undelivered", "30003")


@pytest.mark.parametrize("word", ["accepted", "sent", "delivered", "undelivered"])
def test_what_was_to_go_again_and_was_taken_after_all_does_not_go_again(db, word):
    number = queue(db)
    settle(db, number, send(db, number), "queued", reason="throttled")
    assert receipt(db, number, word)
    assert state(db, number) == word
    assert claim(db) == []


def test_what_was_claimed_to_go_again_and_was_taken_after_all_does_not_pass_the_gate(db):
    number = queue(db)
    settle(db, number, send(db, number), "queued", reason="throttled")
    assert claim(db) == [number]
    assert receipt(db, number, "delivered")
    assert hand_over(db, [number]) == ([], [])


@pytest.mark.parametrize("now", ["queued", "claimed", "cancelled", "expired", "withheld"])
def test_a_receipt_for_what_never_left_by_our_own_book_is_kept_and_moves_nothing(db, now):
    number = queue(db)
    force(db, number, state=now)
    assert not receipt(db, number, "delivered")
    assert state(db, number) == now
    with db.reading() as tx:
        assert len(receipts.receipts_of(tx, number)) == 1


# -- in any order ------------------------------------------------------------------------------------------------------


class Truth(RuleBasedStateMachine):
    """One message and a gateway that knows what it took: answers get lost, workers die, receipts and lists come whenever."""

    new_db = None

    @initialize(kind=st.sampled_from(["notice", "broadcast"]))
    def begin(self, kind):
        self.room = type(self).new_db()
        self.db = self.room.__enter__()
        self.number = queue(self.db, kind=kind)
        self.attempts, self.taken, self.booked_at = [], {}, {}
        self.was = "queued"

    def teardown(self):
        if hasattr(self, "room"):
            try:
                if self.attempts:
                    self.all_evidence_comes()
            finally:
                self.room.__exit__(None, None, None)

    @rule(takes=st.booleans(), late_s=st.sampled_from([0, 90]))
    def it_is_handed_over(self, takes, late_s):
        going, _ = hand_over(self.db, claim(self.db))
        for one in going:
            self.attempts.append(one.attempt_id)
            if takes:
                self.taken[one.attempt_id] = f"SM{len(self.attempts)}"
                self.booked_at[one.attempt_id] = self.db.clock() + timedelta(seconds=late_s)
        self.moved()

    @precondition(lambda self: self.attempts)
    @rule(old=st.booleans())
    def the_answer_comes(self, old):
        attempt = self.attempts[0 if old else -1]
        if attempt in self.taken:
            settle(self.db, self.number, attempt, "accepted", gateway_id=self.taken[attempt])
        else:
            settle(self.db, self.number, attempt, "queued", reason="unreachable")
        self.moved()

    @precondition(lambda self: self.attempts)
    @rule(dies=st.booleans())
    def the_answer_is_lost(self, dies):
        if dies:
            self.db.clock.advance(minutes=3)
            with self.db.transaction() as tx:
                leases.end_leases(tx)
        else:
            settle(self.db, self.number, self.attempts[-1], "unknown", reason="no-answer")
        self.moved()

    @precondition(lambda self: self.taken)
    @rule(word=st.sampled_from(["sent", "delivered"]), again=st.booleans())
    def a_receipt_comes(self, word, again):
        for _ in range(1 + again):
            receipt(self.db, self.number, word, next(iter(self.taken.values())))
        self.moved()

    @rule(minutes=st.sampled_from([1, 12, 200]))
    def time_passes(self, minutes):
        self.db.clock.advance(minutes=minutes)

    @rule(away=st.booleans())
    def the_gateway_is_asked(self, away):
        for question in due(self.db):
            self.answer(question, away=away)
        self.moved()

    def answer(self, question, *, away=False):
        booked = self.booked_at.get(question.attempt_id)
        if away:
            cannot_tell(self.db, question.id, question.attempt_id)
        elif booked is not None and booked <= self.db.clock():
            found(self.db, question.id, question.attempt_id, self.taken[question.attempt_id])
        else:
            absent(self.db, question.id, question.attempt_id)

    def all_evidence_comes(self):
        """Receipts for all that the gateway took, and an answer to every question: then nothing is open any more."""
        for gateway_id in self.taken.values():
            receipt(self.db, self.number, "delivered", gateway_id)
        with self.db.transaction() as tx:
            self.db.clock.advance(minutes=3)
        with self.db.transaction() as tx:
            leases.end_leases(tx)
        for _ in range(8):
            self.db.clock.advance(hours=7)
            for question in due(self.db):
                self.answer(question)
        self.moved()
        if self.taken:
            assert state(self.db, self.number) == "delivered"
        else:
            assert state(self.db, self.number) in ("queued", "unresolved")

    def moved(self):
        now = state(self.db, self.number)
        if now != self.was:
            steps = {self.was}
            for _ in MOVES:  # a few moves may lie between two looks
                steps |= set().union(*(MOVES[s] for s in steps))
            assert now in steps
            assert RANK[now] > RANK[self.was] or now in {to for _, to in BACK}
        self.was = now
        assert len(self.taken) <= 1, "the gateway took it twice"
        if self.taken:
            # Late evidence, however it comes, ends what was to go again.
            assert not (now in ("accepted", "sent", "delivered") and claim(self.db))


def test_evidence_settles_a_doubt_in_whatever_order_it_comes_and_nothing_is_sent_twice(new_db):
    Truth.new_db = staticmethod(new_db)
    run_state_machine_as_test(
        Truth, settings=settings(max_examples=examples(14), stateful_step_count=14, deadline=None)
    )


# -- who is told -------------------------------------------------------------------------------------------------------


def test_settled_is_what_a_gateway_said_and_never_our_guess(db):
    number, attempt = lose(db)
    with db.transaction() as tx:
        assert outbox.settle(tx, [Settled(number, "another attempt", "accepted", gateway_id="SM9")]) == 0
    assert cannot_tell(db, number, attempt) == "unknown"
