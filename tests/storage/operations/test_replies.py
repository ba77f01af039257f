"""What a case wrote has a small number of its own, which is given to nobody else before a month after its answer."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text, update

from storage.operations import operations, replies
from storage.schema import programme
from storage.schema import replies as table
from storage.upkeep import migrate
from tests.world import TEST, World


@pytest.fixture
def ama(world: World) -> int:
    return world.case("ama", "233244123456")


def opened(world: World, case: int, many: int = 1) -> list[int]:
    numbers = []
    for _ in range(many):
        with world.db.transaction() as tx:
            numbers.append(replies.open_for(tx, case, [1], None))
    return numbers


def answered(world: World, number: int) -> None:
    with world.db.transaction() as tx:
        reply = replies.find(tx, number)
        assert reply is not None
        replies.close(tx, reply.id)


def test_replies_are_counted_from_one_whatever_the_operations_count(world: World, ama: int) -> None:
    with world.db.transaction() as tx:
        for _ in range(5):
            operations.note(tx, "caution", words="", undoes=None, by=TEST)
    assert opened(world, ama, 3) == [1, 2, 3]
    with world.db.transaction() as tx:
        assert operations.note(tx, "caution", words="", undoes=None, by=TEST) == 6


def test_a_number_rests_for_a_month_after_its_answer_and_an_open_one_is_never_given_again(
    world: World, ama: int, clock: Any
) -> None:
    assert opened(world, ama, 3) == [1, 2, 3]
    clock.advance(days=40)
    answered(world, 2)
    clock.advance(days=29)
    assert opened(world, ama) == [4]
    answered(world, 1)
    clock.advance(days=1)
    assert opened(world, ama, 2) == [2, 5], "3 is open, and 1 rests"
    with world.db.reading() as tx:
        found = replies.find(tx, 2)
    assert found is not None
    assert (found.opened_at, found.closed_at) == (clock(), None), "the newest is meant"
    clock.advance(days=31)
    assert opened(world, ama, 2) == [1, 6]


def test_a_second_answer_lets_the_number_rest_no_longer(world: World, ama: int, clock: Any) -> None:
    opened(world, ama)
    answered(world, 1)
    clock.advance(days=20)
    answered(world, 1)
    clock.advance(days=10)
    assert opened(world, ama) == [1]


@pytest.mark.parametrize(("through", "then"), [(99_999, 1_000_000), (999_999_999, 10_000_000_000)])
def test_no_reply_has_six_or_ten_digits(world: World, ama: int, through: int, then: int) -> None:
    with world.db.transaction() as tx:
        tx.execute(update(programme).values(replies_through=through))
    assert opened(world, ama) == [then]


def test_replies_of_before_the_counter_keep_their_numbers_and_new_ones_get_none_of_these(
    world: World, ama: int, clock: Any
) -> None:
    migrate.downgrade(world.db, "0009")
    with world.db.transaction() as tx:
        for number in (2, 3, 5, 4711):
            tx.execute(
                text(
                    "INSERT INTO operations (id, kind, door, state, words, request, wrong_tries, asked_at)"
                    f" VALUES ({number}, 'inbox', 'sms', 'done', '', :request, 0, '2026-11-01 10:00:00')"
                ),
                {"request": f'{{"case": {ama}, "told": [7]}}'},
            )
    migrate.upgrade(world.db)
    with world.db.reading() as tx:
        old = replies.find(tx, 4711)
    assert old is not None
    assert (old.case_id, old.told, old.closed_at) == (ama, [7], None)
    assert opened(world, ama, 4) == [1, 4, 6, 7]
    answered(world, 4711)
    clock.advance(seconds=timedelta(days=30).total_seconds())
    assert opened(world, ama, 2) == [4711, 8]


def test_the_next_free_number_is_found_in_few_statements_beyond_many_that_are_taken(
    world: World, ama: int, statements: Any
) -> None:
    with world.db.transaction() as tx:
        row = {"case_id": ama, "told": [], "opened_at": tx.now, "holds_number": True}
        tx.execute(table.insert(), [{**row, "number": number} for number in range(1, 2001)])
    with statements(world.db) as ran:
        assert opened(world, ama) == [2001]
    assert len(ran) < 12
