"""Whatever is done to a broadcast, in whatever order: it makes only moves of the table, and what is over stays over."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy.exc import IntegrityError

from storage.broadcasts import approvals, broadcasts, content, expansion, previews, progress, states
from storage.contacts import groups
from storage.errors import Problem
from storage.messages import gate, outbox
from storage.messages.outbox import Settled
from storage.operations import operations
from storage.schema import broadcasts as table
from tests.storage.broadcasts.sending import draft, expand, launch
from tests.world import TEST, World

LEGAL = {
    "previewed": {"held", "scheduled", "expanding", "halted", "dropped", "expired"},
    "held": {"expanding", "sending", "paused", "halted"},
    "scheduled": {"expanding", "previewed", "paused", "halted"},
    "expanding": {"sending", "paused", "halted"},
    "sending": {"done", "paused", "halted"},
    "paused": {"held", "scheduled", "expanding", "sending", "done", "halted"},
    "done": set(), "halted": set(), "dropped": set(), "expired": set(),
}  # fmt: skip
"""Where a broadcast may go, told here a second time: the code's own table cannot vouch for itself."""

AT = datetime.fromisoformat("2026-11-03T11:00")
LEAVES = ("expanding", "sending")
"""The only states in which anything may be handed to a gateway."""


def row_of(world: World, number: int) -> Any:
    with world.db.reading() as tx:
        return content.broadcast(tx, number)


def state(world: World, number: int) -> str:
    return str(row_of(world, number).state)


@pytest.fixture
def anc(world: World) -> int:
    return world.group("anc", *(world.case(f"c-{n}", f"23324412{n:04}") for n in range(4)))


def inside(world: World, do: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    """One verb in a transaction of its own; what it says to a person is no matter here."""
    try:
        with world.db.transaction() as tx:
            return do(tx, *arguments, **named)
    except Problem:
        return None


def at_its_hour(world: World, number: int) -> None:
    with world.db.transaction() as tx:
        previews.amend(tx, number, send_at=AT)


def leave(world: World, at_most: int = 10) -> list[str]:
    """What a worker would hand over now; all of it is accepted."""
    with world.db.transaction() as tx:
        going, _ = gate.hand_over(tx, outbox.claim(tx, "simulator", "me", at_most), "me", rate_per_s=100)
        outbox.settle(tx, [Settled(h.id, h.attempt_id, "accepted", gateway_id=f"SM{h.id}") for h in going])
    return [handed.address for handed in going]


# -- one broadcast in each state ---------------------------------------------------------------------------------------


def _previewed(world: World, anc: int) -> int:
    return draft(world, anc)


def _held(world: World, anc: int) -> int:
    number = draft(world, anc)
    launch(world, number, hold_s=60)
    return number


def _scheduled(world: World, anc: int) -> int:
    number = draft(world, anc)
    at_its_hour(world, number)
    launch(world, number)
    return number


def _expanding(world: World, anc: int) -> int:
    number = draft(world, anc)
    launch(world, number)
    return number


def _sending(world: World, anc: int) -> int:
    number = _expanding(world, anc)
    expand(world)
    return number


def _done(world: World, anc: int) -> int:
    number = _sending(world, anc)
    leave(world)
    inside(world, expansion.finish)
    return number


def _after(begin: Callable[[World, int], int], verb: Callable[..., Any], **named: Any) -> Callable[[World, int], int]:
    def made(world: World, anc: int) -> int:
        number = begin(world, anc)
        inside(world, verb, number, **named)
        return number

    return made


IN: dict[str, Callable[[World, int], int]] = {
    "previewed": _previewed,
    "held": _held,
    "scheduled": _scheduled,
    "expanding": _expanding,
    "sending": _sending,
    "paused": _after(_sending, broadcasts.pause, by=TEST),
    "done": _done,
    "halted": _after(_sending, broadcasts.halt, by=TEST),
    "dropped": _after(_previewed, broadcasts.drop),
    "expired": _after(_previewed, broadcasts.lapse),
}


def test_the_table_is_the_one_that_was_agreed() -> None:
    assert {state: set(moves) for state, moves in states.MOVES.items()} == LEGAL
    assert states.MEANINGS.keys() == LEGAL.keys() == IN.keys()
    assert set(states.ENDS) == {"done", "halted", "dropped", "expired"}


@pytest.mark.parametrize("was", LEGAL)
def test_a_move_that_the_table_does_not_have_changes_nothing(world: World, anc: int, was: str) -> None:
    number = IN[was](world, anc)
    before = row_of(world, number)
    assert before.state == was
    for to in LEGAL.keys() - LEGAL[was]:
        assert not inside(world, states.move, number, to, finished_at=world.db.clock()), to
        assert row_of(world, number) == before, to


@pytest.mark.parametrize(("was", "to"), [(was, to) for was in LEGAL for to in sorted(LEGAL[was])])
def test_a_move_that_the_table_has_is_made_once(world: World, anc: int, was: str, to: str) -> None:
    number = IN[was](world, anc)
    assert inside(world, states.move, number, to)
    assert state(world, number) == to
    assert row_of(world, number).paused_from == (was if to == "paused" else None)
    assert not inside(world, states.move, number, to)


def test_a_move_from_where_it_never_comes_is_a_bug(world: World, anc: int) -> None:
    number = draft(world, anc)
    with world.db.transaction() as tx, pytest.raises(AssertionError, match="never becomes done"):
        states.move(tx, number, "done", came_from=("previewed",))
    assert state(world, number) == "previewed"


@pytest.mark.parametrize(
    "values",
    [{"state": "going"}, {"state": "paused"}, {"paused_from": "held"}, {"state": "paused", "paused_from": "done"}],
)
def test_the_database_refuses_what_is_no_state(world: World, anc: int, values: dict[str, str]) -> None:
    number = draft(world, anc)
    with world.db.reading() as tx, pytest.raises(IntegrityError, match=r"broadcast_state|paused_"):
        tx.execute(table.update().where(table.c.id == number).values(values))


# -- in any order ------------------------------------------------------------------------------------------------------


class Life:
    """One broadcast, and everything that people, workers and the clock do to it."""

    def __init__(self, world: World, anc: int, dice: random.Random) -> None:
        self.world, self.dice = world, dice
        self.number = draft(world, anc)
        self.left: list[str] = []
        self.acts: list[Callable[[], Any]] = [
            lambda: inside(world, self._wish_an_hour),
            lambda: inside(world, broadcasts.launch, self.number, hold_s=0, by=TEST),
            lambda: inside(world, broadcasts.launch, self.number, hold_s=60, by=TEST),
            lambda: inside(world, broadcasts.end_holds),
            lambda: inside(world, self._begin),
            lambda: inside(world, self._begin, grown=True),
            lambda: inside(world, expansion.expand_next, dice.choice((1, 2, 10))),
            lambda: self._leave(dice.choice((1, 2, 10))),
            lambda: inside(world, broadcasts.pause, self.number, by=TEST),
            lambda: inside(world, broadcasts.resume, self.number, by=TEST),
            lambda: inside(world, expansion.finish),
            lambda: inside(world, outbox.expire),
            lambda: world.db.clock.advance(seconds=dice.choice((1, 59, 600))),  # type: ignore[attr-defined]
        ]
        self.rare: list[Callable[[], Any]] = [
            lambda: inside(world, broadcasts.halt, self.number, by=TEST),
            lambda: inside(world, broadcasts.drop, self.number),
            lambda: inside(world, broadcasts.lapse, self.number),
            lambda: inside(world, broadcasts.put_away_unconfirmed),
            lambda: world.db.clock.advance(hours=25),  # type: ignore[attr-defined]
        ]

    def _wish_an_hour(self, tx: Any) -> None:
        at = (tx.now + timedelta(minutes=5)).replace(tzinfo=None, second=0, microsecond=0)
        previews.amend(tx, self.number, send_at=at)

    def _begin(self, tx: Any, *, grown: bool = False) -> None:
        if self.number in broadcasts.whose_hour_has_come(tx):
            tx.rules = replace(tx.rules, second_person_above=1 if grown else 500)
            approvals.begin(tx, self.number, by=TEST)

    def _leave(self, at_most: int) -> None:
        was = state(self.world, self.number)
        going = leave(self.world, at_most)
        assert was in LEAVES or not going, f"{len(going)} left while it was {was}"
        self.left += going

    def act(self) -> None:
        before = row_of(self.world, self.number)
        do = self.dice.choice(self.rare if self.dice.random() < 0.06 else self.acts)
        do()
        after = row_of(self.world, self.number)
        assert after.state == before.state or after.state in LEGAL[before.state], f"{before.state} > {after.state}"
        assert (after.paused_from is None) == (after.state != "paused")
        if after.state == "paused" and before.state != "paused":
            assert after.paused_from == before.state
        if before.state == "paused" and after.state in states.RUNNING and after.state != "paused":
            assert after.state == before.paused_from
        if before.state in states.ENDS:
            assert (after.state, after.finished_at) == (before.state, before.finished_at), "what is over stays over"


@pytest.mark.parametrize("seed", range(12))
def test_every_sequence_of_acts_makes_only_legal_moves_and_never_leaves_an_end(
    world: World, anc: int, seed: int
) -> None:
    dice = random.Random(seed)
    met: set[str] = set()
    for _ in range(4):
        life = Life(world, anc, dice)
        with world.db.transaction() as tx:
            for other in progress.running(tx):
                broadcasts.halt(tx, other.id, by=TEST)  # only one at a time is looked at
        for _ in range(45):
            life.act()
            met.add(state(world, life.number))
        assert len(life.left) == len(set(life.left)), "nobody gets it twice"
    assert len(met) >= 4


# -- what each state promises ------------------------------------------------------------------------------------------


def test_nothing_leaves_while_its_state_says_held_and_the_first_leaves_as_the_hold_ends(
    world: World, anc: int, clock: Any
) -> None:
    """It is written meanwhile; a message that falls due a moment before a worker ends the hold goes back to the queue."""
    number = _held(world, anc)
    with world.db.transaction() as tx:
        while expansion.expand_next(tx):
            pass
    assert state(world, number) == "held"
    clock.advance(seconds=60)
    assert leave(world) == []
    assert state(world, number) == "held"
    with world.db.transaction() as tx:
        assert broadcasts.holds_are_over(tx)
        assert broadcasts.end_holds(tx) == 1
        assert not broadcasts.holds_are_over(tx)
    assert state(world, number) == "sending"
    clock.advance(seconds=1)
    assert len(leave(world)) == 4


def test_what_is_not_written_when_its_hold_ends_is_expanding_until_it_is(world: World, anc: int, clock: Any) -> None:
    number = _held(world, anc)
    inside(world, expansion.expand_next, 1)
    clock.advance(seconds=60)
    inside(world, broadcasts.end_holds)
    assert state(world, number) == "expanding"
    assert len(leave(world)) == 1
    expand(world)
    assert state(world, number) == "sending"


def test_one_with_an_hour_waits_as_scheduled_also_beyond_its_hold_and_is_written_only_then(
    world: World, anc: int, clock: Any
) -> None:
    number = _scheduled(world, anc)
    clock.advance(minutes=59)
    assert expand(world) == 0
    assert (state(world, number), broadcasts_due(world)) == ("scheduled", [])
    late = world.case("late", "233244129999")
    with world.db.transaction() as tx:
        groups.add(tx, anc, [late], by=TEST)
    clock.advance(minutes=1)
    assert broadcasts_due(world) == [number]
    with world.db.transaction() as tx:
        assert approvals.begin(tx, number, by=TEST)
    assert state(world, number) == "expanding"
    expand(world)
    assert len(leave(world)) == 5, "for those who are in the group at its hour"


def broadcasts_due(world: World) -> list[int]:
    with world.db.reading() as tx:
        return broadcasts.whose_hour_has_come(tx)


@pytest.mark.parametrize("was", ["held", "scheduled", "expanding", "sending"])
def test_what_is_resumed_goes_back_to_the_state_that_it_was_paused_from(
    world: World, anc: int, was: str, clock: Any
) -> None:
    number = IN[was](world, anc)
    with world.db.transaction() as tx:
        broadcasts.pause(tx, number, by=TEST)
    paused = row_of(world, number)
    assert (paused.state, paused.paused_from, paused.paused_at) == ("paused", was, clock())
    clock.advance(seconds=30)
    with world.db.transaction() as tx:
        broadcasts.resume(tx, number, by=TEST)
    resumed = row_of(world, number)
    assert (resumed.state, resumed.paused_from, resumed.paused_at) == (was, None, None)


def test_what_was_written_to_its_end_while_it_was_paused_is_sending_when_it_is_resumed(world: World, anc: int) -> None:
    number = _expanding(world, anc)
    inside(world, broadcasts.pause, number, by=TEST)
    expand(world)
    assert (state(world, number), row_of(world, number).paused_from) == ("paused", "sending")
    inside(world, broadcasts.resume, number, by=TEST)
    assert state(world, number) == "sending"


def test_a_preview_that_nobody_confirmed_is_expired_and_one_that_somebody_dropped_is_dropped(
    world: World, anc: int, clock: Any
) -> None:
    lapsed, put_away = draft(world, anc), draft(world, anc, texts="Another")
    with world.db.transaction() as tx:
        operations.decide(tx, put_away, "dropped", by=TEST)
        broadcasts.drop(tx, put_away)
    clock.advance(hours=1)
    inside(world, broadcasts.put_away_unconfirmed)
    assert (state(world, lapsed), state(world, put_away)) == ("expired", "dropped")


def test_one_whose_group_grew_by_its_hour_waits_to_be_confirmed_again(world: World, anc: int, clock: Any) -> None:
    world.db.rules = replace(world.db.rules, second_person_above=3)
    number = _scheduled(world, anc)
    inside(world, operations.decide, number, "done", by=TEST)
    clock.advance(hours=1)
    with world.db.transaction() as tx:
        assert not approvals.begin(tx, number, by=TEST)
    again = row_of(world, number)
    assert (again.state, again.launched_at, again.hold_until) == ("previewed", None, None)
    with world.db.reading() as tx:
        row = operations.operation(tx, number)
    assert row is not None and row.state == "seconding"
