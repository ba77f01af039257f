"""Numbered things a person asked for, and the six digits that confirm them."""

import re

import pytest
from sqlalchemy import inspect, text
from sqlalchemy.exc import IntegrityError

from storage.audit import Actor
from storage.errors import Problem
from storage.messages import gate, outbox
from storage.operations import codes, operations
from storage.schema import operations as table
from tests.world import TEST

PHONE = "233241110001"


@pytest.fixture
def lead(world):
    return world.person("Ama", PHONE)


@pytest.fixture
def asked(world, lead):
    """An operation of the lead that waits for a code: its number."""
    with world.db.transaction() as tx:
        return ask(tx, lead)


def ask(tx, person, words="tell anc hello"):
    return operations.ask(tx, "tell", words=words, request={"texts": {"en": "hello"}}, by=Actor("sms", person.id))


def digits_of(tx, code):
    row = tx.execute(text("SELECT nonce, length FROM codes WHERE id = :id"), {"id": code}).one()
    return codes.digits(codes.secret_of(tx), row.nonce, row.length)


def guess(tx, person):
    """A wrong code from this person's number, with nothing that it could have been meant for."""
    with pytest.raises(Problem, match="code-none-waiting"):
        codes.count_wrong(tx, person.id)


# -- codes -------------------------------------------------------------------------------------------------------------


def test_a_code_has_six_digits_and_is_the_same_whenever_it_is_derived(world, lead, asked):
    with world.db.transaction() as tx:
        code = operations.issue_code(tx, asked, lead.id)
        assert re.fullmatch(r"\d{6}", digits_of(tx, code))
        assert digits_of(tx, code) == digits_of(tx, code)
        assert codes.matching(tx, lead.id, digits_of(tx, code)).id == code


def test_a_code_is_another_for_another_secret_and_another_nonce():
    assert len({codes.digits(secret, nonce) for secret in (b"a", b"b") for nonce in (b"1", b"2")}) == 4


def test_the_digits_of_a_code_are_stored_nowhere_even_after_it_was_sent(world, lead, asked):
    db = world.db
    with db.transaction() as tx:
        code = operations.issue_code(tx, asked, lead.id)
        outbox.queue(tx, PHONE, f"Reply ok {codes.mask(codes.SHORT)} to send", "reply", person_id=lead.id, code_id=code)
        claimed = outbox.claim(tx, "simulator", "me", 10)
        (going,), _ = gate.hand_over(tx, claimed, "me", rate_per_s=1)
        digits = digits_of(tx, code)
    assert going.body == f"Reply ok {digits} to send"
    with db.reading() as tx:
        for table in inspect(tx.connection).get_table_names():
            for row in tx.execute(text(f"SELECT * FROM {table}")):
                assert digits not in [
                    part for value in row if isinstance(value, str) for part in re.findall(r"\d+", value)
                ]


def test_a_person_has_one_code_for_an_operation_and_a_newer_one_takes_its_place(world, lead, asked):
    with world.db.transaction() as tx:
        old = digits_of(tx, operations.issue_code(tx, asked, lead.id))
        new = digits_of(tx, operations.issue_code(tx, asked, lead.id))
        assert codes.matching(tx, lead.id, old) is None
        assert codes.matching(tx, lead.id, new) is not None
        assert len(codes.waiting_for(tx, lead.id)) == 1


def test_after_five_wrong_codes_in_a_day_the_codes_have_ten_digits_until_tomorrow(world, lead, asked, clock):
    with world.db.transaction() as tx:
        for _ in range(codes.WRONG_A_DAY - 1):
            guess(tx, lead)
        assert codes.next_length(tx, lead.id) == codes.SHORT
        guess(tx, lead)
        code = operations.issue_code(tx, asked, lead.id)
        outbox.queue(tx, PHONE, f"ok {codes.mask(codes.LONG)}", "reply", person_id=lead.id, code_id=code)
        claimed = outbox.claim(tx, "simulator", "me", 10)
        (going,), _ = gate.hand_over(tx, claimed, "me", rate_per_s=1)
        assert len(digits_of(tx, code)) == codes.LONG
        assert going.body == f"ok {digits_of(tx, code)}"
    clock.advance(days=1)
    with world.db.transaction() as tx:
        assert codes.next_length(tx, lead.id) == codes.SHORT


def test_a_code_of_one_person_is_of_no_use_to_another(world, lead, asked):
    other = world.person("Kofi", "233241110002")
    with world.db.transaction() as tx:
        digits = digits_of(tx, operations.issue_code(tx, asked, lead.id))
        assert codes.matching(tx, other.id, digits) is None
        assert codes.matching(tx, lead.id, "12345") is None


def test_a_code_is_spent_once_and_a_second_time_makes_no_phone_fresh(world, lead, asked, clock):
    with world.db.transaction() as tx:
        code = operations.issue_code(tx, asked, lead.id)
        assert [c.id for c in codes.waiting_for(tx, lead.id)] == [code]
        codes.spend(tx, code)
        assert codes.waiting_for(tx, lead.id) == []
    spent = clock()
    clock.advance(hours=13)
    with world.db.transaction() as tx:
        codes.spend(tx, code)
        assert codes.matching(tx, lead.id, digits_of(tx, code)).used_at == spent
        assert not codes.is_fresh(tx, lead.id)


def test_a_code_lives_fifteen_minutes(world, lead, asked, clock):
    with world.db.transaction() as tx:
        operations.issue_code(tx, asked, lead.id)
        (code,) = codes.waiting_for(tx, lead.id)
    assert (code.expires_at - clock()).total_seconds() == 15 * 60


def test_a_phone_is_fresh_for_twelve_hours_after_a_code(world, lead, asked, clock):
    def is_fresh():
        with world.db.reading() as tx:
            return codes.is_fresh(tx, lead.id)

    assert not is_fresh()
    with world.db.transaction() as tx:
        codes.spend(tx, operations.issue_code(tx, asked, lead.id))
    clock.advance(hours=11, minutes=59)
    assert is_fresh()
    clock.advance(minutes=1)
    assert not is_fresh()


def test_a_code_confirms_these_very_words_for_these_very_recipients(world, lead):
    with world.db.transaction() as tx:
        one, other = ask(tx, lead), ask(tx, lead)
        rows = [operations.operation(tx, n) for n in (one, other)]
        digests = {operations.digest_of(row) for row in rows}
        operations.answered(tx, one, "12 people. Reply ok ******")
        operations.decide(tx, one, "done", by=TEST)
        assert operations.digest_of(operations.operation(tx, one)) in digests
    assert len(digests) == 2


# -- operations --------------------------------------------------------------------------------------------------------


def test_what_waits_is_listed_newest_first_and_runs_out_after_fifteen_minutes(world, lead, clock):
    with world.db.transaction() as tx:
        first = ask(tx, lead)
    clock.advance(minutes=10)
    with world.db.transaction() as tx:
        second = ask(tx, lead)
        assert [o.id for o in operations.waiting_of(tx, lead.id)] == [second, first]
    clock.advance(minutes=5)
    with world.db.reading() as tx:
        assert [o.id for o in operations.waiting_of(tx, lead.id)] == [second]


def test_the_third_wrong_code_ends_the_operation(world, lead, asked):
    with world.db.transaction() as tx:
        operations.issue_code(tx, asked, lead.id)
        assert [operations.wrong_try(tx, lead.id, by=TEST).state for _ in range(3)] == ["waiting", "waiting", "refused"]
        with pytest.raises(Problem, match="code-none-waiting"):
            operations.wrong_try(tx, lead.id, by=TEST)


def test_a_wrong_code_counts_against_all_that_wait_so_that_many_make_no_guess_likelier(world, lead):
    with world.db.transaction() as tx:
        first, second = ask(tx, lead), ask(tx, lead)
        operations.issue_code(tx, first, lead.id)
        operations.issue_code(tx, second, lead.id)
        assert operations.wrong_try(tx, lead.id, by=TEST).id == second
        assert [operations.operation(tx, n).wrong_tries for n in (first, second)] == [1, 1]


def test_a_wrong_code_of_a_second_person_counts_against_what_they_were_asked_for(world, lead, asked):
    other = world.person("Kofi", "233241110002")
    with world.db.transaction() as tx:
        operations.decide(tx, asked, "seconding", by=TEST)
        operations.issue_code(tx, asked, other.id)
        assert [operations.wrong_try(tx, other.id, by=TEST).state for _ in range(3)][-1] == "refused"


def test_a_wrong_code_with_nothing_waiting_is_told_so(world, lead):
    with world.db.transaction() as tx, pytest.raises(Problem, match="code-none-waiting"):
        operations.wrong_try(tx, lead.id, by=TEST)


def test_the_same_words_within_ten_minutes_are_the_same_question(world, lead, asked, clock):
    clock.advance(minutes=9)
    with world.db.reading() as tx:
        assert operations.with_same_words(tx, lead.id, "tell anc hello").id == asked
        assert operations.with_same_words(tx, lead.id, "tell anc hallo") is None
    clock.advance(minutes=1)
    with world.db.reading() as tx:
        assert operations.with_same_words(tx, lead.id, "tell anc hello") is None


def test_a_small_thing_done_at_once_keeps_what_takes_it_back(world, lead):
    with world.db.transaction() as tx:
        number = operations.note(tx, "add", words="add anc p-1", undoes={"cases": [1]}, by=Actor("sms", lead.id))
        row = operations.operation(tx, number)
    assert (row.state, row.undoes, row.decided_at, row.expires_at) == ("done", {"cases": [1]}, row.asked_at, None)


def test_what_waits_for_a_second_person_is_seen_by_all_and_by_its_own(world, lead, asked):
    other = world.person("Kofi", "233241110002")
    with world.db.transaction() as tx:
        operations.decide(tx, asked, "seconding", by=TEST)
        assert [o.id for o in operations.seconding(tx, None)] == [asked]
        assert operations.seconding(tx, other.id) == []
        assert operations.waiting_of(tx, lead.id) == []


def test_an_operation_that_is_not_there_is_none_to_look_at_and_a_bug_to_act_on(world):
    with world.db.transaction() as tx:
        assert operations.operation(tx, 99) is None
        with pytest.raises(LookupError):
            operations.decide(tx, 99, "done", by=TEST)
        with pytest.raises(LookupError):
            operations.issue_code(tx, 99, 1)


def test_the_database_knows_no_other_state_of_an_operation(world, asked):
    with world.db.reading() as tx, pytest.raises(IntegrityError, match="operation_state"):
        tx.execute(table.update().where(table.c.id == asked).values(state="half done"))
