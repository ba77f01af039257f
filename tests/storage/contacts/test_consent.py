"""STOP and START: the last event of a number holds, for the whole programme, until START from that number."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import insert, select
from sqlalchemy.exc import IntegrityError

from storage.contacts import consent
from storage.schema import cases, consent_events
from tests.world import TEST, World

NUMBER, OTHER = "233241234567", "233209876543"


def hear(world, kind, phone=NUMBER, words=None):
    with world.db.transaction() as tx:
        return consent.hear(tx, phone, kind, words=words or kind, message_id=None, by=TEST)


def may_text(world, phone=NUMBER):
    with world.db.reading() as tx:
        return consent.may_text(tx, phone)


def test_a_number_of_which_nothing_was_heard_may_be_texted(world):
    assert may_text(world)


def test_stop_holds_until_start(world, clock):
    assert hear(world, "stop")
    clock.advance(days=3650)
    assert not may_text(world)
    assert hear(world, "start")
    assert may_text(world)


def test_the_last_one_heard_holds_even_within_one_moment(world):
    for kind in ("start", "stop", "start", "stop"):
        hear(world, kind)
    assert not may_text(world)


def test_saying_it_again_changes_nothing_and_is_kept(world):
    assert [hear(world, kind) for kind in ("start", "stop", "stop", "start", "start")] == [
        False,
        True,
        False,
        True,
        False,
    ]
    with world.db.reading() as tx:
        assert [e.kind for e in consent.history(tx, NUMBER)] == ["start", "stop", "stop", "start", "start"]


def test_a_stop_is_of_the_number_and_outlives_every_case_on_it(world):
    ama = world.case("ama", NUMBER)
    hear(world, "stop")
    world.change(ama, status="closed")
    world.case("kofi", NUMBER)
    world.change(ama, status="open", contact_phone_number_is_verified=True)
    assert not may_text(world)
    world.change(ama, contact_phone_number=OTHER)
    assert may_text(world, OTHER)


def test_the_words_the_time_and_the_door_are_kept(world, clock):
    hear(world, "stop", words="Stop. Thank you")
    with world.db.reading() as tx:
        event = consent.history(tx, NUMBER)[0]
    assert (event.words, event.at, event.door) == ("Stop. Thank you", clock(), "test")


def test_a_long_text_is_kept_by_its_first_two_hundred_characters(world):
    hear(world, "stop", words="x" * 5000)
    with world.db.reading() as tx:
        assert len(consent.history(tx, NUMBER)[0].words) == 200


def test_the_database_knows_no_third_kind_of_event(world):
    with world.db.reading() as tx, pytest.raises(IntegrityError, match="consent_kind"):
        tx.execute(insert(consent_events), {"phone": NUMBER, "kind": "maybe", "door": "test", "at": tx.now})


_events = st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["stop", "start"])), max_size=12)


@settings(max_examples=25, deadline=None)
@given(_events)
def test_a_set_of_cases_and_a_single_number_are_judged_alike(new_db, events):
    numbers = [f"23324123456{n}" for n in range(4)]
    with new_db() as db:
        world = World(db)
        for n, number in enumerate(numbers):
            world.case(f"p{n}", number)
        world.case("nophone")
        last = {}
        for n, kind in events:
            hear(world, kind, numbers[n])
            last[numbers[n]] = kind
        with db.reading() as tx:
            stopped = set(
                tx.execute(
                    select(cases.c.contact_phone_number).where(consent.is_stopped(cases.c.contact_phone_number))
                ).scalars()
            )
            assert stopped == {n for n in numbers if last.get(n) == "stop"}
            assert stopped == {n for n in numbers if not consent.may_text(tx, n)}
