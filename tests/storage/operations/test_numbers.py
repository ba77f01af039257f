"""Six and ten digits are always a code: no operation ever has such a number."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from storage.broadcasts import broadcasts, content, expansion, previews, progress
from storage.messages import gate, history, outbox
from storage.operations import confirmations, operations
from storage.upkeep import migrate
from tests.world import TEST, World


def count_from(world: World, number: int) -> None:
    """Let the next operation have this number, as in a programme of many years."""
    with world.db.transaction() as tx:
        row = {"n": number - 1, "at": f"{tx.now:%Y-%m-%d %H:%M:%S.%f}"}
        tx.execute(
            text(
                "INSERT INTO operations (id, kind, door, state, words, request, wrong_tries, asked_at)"
                " VALUES (:n, 'caution', 'sms', 'done', '', '{}', 0, :at)"
            ),
            row,
        )
        if not tx.is_sqlite:
            tx.execute(text("SELECT setval('operations_id_seq', :n)"), {"n": number - 1})


def numbers(world: World, many: int) -> list[int]:
    made = []
    for _ in range(many):
        with world.db.transaction() as tx:
            made.append(operations.note(tx, "caution", words="", undoes=None, by=TEST))
    return made


@pytest.mark.parametrize(
    ("first", "then"),
    [
        (99_998, [99_998, 99_999, 1_000_000, 1_000_001]),
        (999_999_998, [999_999_998, 999_999_999, 10_000_000_000, 10_000_000_001]),
        (123_456, [1_000_000, 1_000_001]),
        (482_193_000, [482_193_000, 482_193_001]),
    ],
)
def test_the_numbers_of_six_and_of_ten_digits_are_skipped(world: World, first: int, then: list[int]) -> None:
    count_from(world, first)
    assert numbers(world, len(then)) == then


def test_a_number_that_is_asked_for_is_skipped_too_and_its_log_names_the_right_one(world: World) -> None:
    count_from(world, 100_000)
    with world.db.transaction() as tx:
        number = operations.ask(tx, "tell", words="x", request={}, by=TEST)
        assert operations.decide(tx, number, "done", by=TEST)
    with world.db.reading() as tx:
        assert number == 1_000_000
        assert [line.verb for line in history.deeds(tx, number)] == ["operations.ask", "operations.done"]
        assert operations.operation(tx, 100_000) is None


def test_a_broadcast_beyond_ten_digits_does_all_that_any_other_does(world: World) -> None:
    """Its number is beyond 32 bits, which is what PostgreSQL's integer holds."""
    anc = world.group("anc", world.case("ama", "233244123456"), world.case("kofi", "233244123457"))
    count_from(world, 1_000_000_000)
    with world.db.transaction() as tx:
        number = previews.draft(tx, {"en": "Hello"}, group_ids=[anc], by=TEST)
        assert number == 10_000_000_000
        assert previews.preview(tx, number).recipients == 2
        confirmations.add(tx, number, by=TEST)
        operations.decide(tx, number, "done", by=TEST)
        broadcasts.launch(tx, number, hold_s=0, by=TEST)
    with world.db.transaction() as tx:
        while expansion.expand_next(tx):
            pass
        broadcasts.pause(tx, number, by=TEST)
        broadcasts.resume(tx, number, by=TEST)
        going, _ = gate.hand_over(tx, outbox.claim(tx, "simulator", "me", 10), "me", rate_per_s=100)
        assert len(going) == 2
    with world.db.transaction() as tx:
        assert broadcasts.halt(tx, number, by=TEST).states == {"sending": 2}
        assert progress.is_for(tx, number, 1)
        assert content.broadcast(tx, number).state == "halted"
        assert [line.verb for line in history.deeds(tx, number)][-1] == "broadcasts.halt"


def test_a_database_in_use_counts_beyond_after_its_upgrade(world: World) -> None:
    migrate.downgrade(world.db, "0009")
    migrate.upgrade(world.db)
    count_from(world, 1_000_000_000)
    assert numbers(world, 1) == [10_000_000_000]
