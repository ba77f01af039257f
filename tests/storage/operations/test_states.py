"""An operation makes only the moves of its table, once each, and whoever comes late changes nothing and writes no line."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import func, select

from storage.operations import operations, states
from storage.schema import OPERATION_STATES, audit
from storage.schema import operations as table
from tests.world import TEST, World

LEGAL = {
    "waiting": {"seconding", "done", "dropped", "expired", "refused"},
    "seconding": {"done", "dropped", "expired", "refused"},
    "done": {"undone", "seconding", "dropped"},
    "dropped": set(), "expired": set(), "refused": set(), "undone": set(),
}  # fmt: skip
"""Where an operation may go, told here a second time: the code's own table cannot vouch for itself."""

PAIRS = [(was, to) for was in sorted(LEGAL) for to in sorted(LEGAL)]


def test_the_table_is_the_one_that_was_agreed() -> None:
    assert {state: set(moves) for state, moves in states.MOVES.items()} == LEGAL
    assert states.MEANINGS.keys() == LEGAL.keys() == set(OPERATION_STATES)


def look(world: World, number: int) -> tuple[Any, int]:
    """The operation as it stands, and how many lines the log has."""
    with world.db.reading() as tx:
        return operations.operation(tx, number), int(tx.scalar(select(func.count()).select_from(audit)))


@pytest.mark.parametrize(("was", "to"), PAIRS)
def test_a_decision_is_made_where_the_table_has_it_and_else_changes_nothing(
    world: World, clock: Any, was: str, to: str
) -> None:
    with world.db.transaction() as tx:
        number = operations.ask(tx, "add", words="", request={}, by=TEST)
        tx.execute(table.update().where(table.c.id == number).values(state=was))
    before, lines = look(world, number)
    clock.advance(minutes=1)
    with world.db.transaction() as tx:
        assert operations.decide(tx, number, to, by=TEST) is (to in LEGAL[was])
    after, more = look(world, number)
    if to in LEGAL[was]:
        assert (after.state, after.decided_at, more) == (to, clock(), lines + 1)
    else:
        assert (after, more) == (before, lines)
