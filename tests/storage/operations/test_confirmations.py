"""Who said ok to an operation: once each, the first and the second, and nobody else."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy.exc import IntegrityError

from storage.audit import Actor
from storage.errors import Problem
from storage.operations import confirmations, operations
from storage.schema import approvals as table
from tests.world import World

CLI = Actor("cli")


@pytest.fixture
def esi(world: World) -> Actor:
    return Actor("sms", world.person("Esi", "233241110001").id)


@pytest.fixture
def ato(world: World) -> Actor:
    return Actor("desk", world.person("Ato", "233241110002").id)


@pytest.fixture
def asked(world: World, esi: Actor) -> int:
    with world.db.transaction() as tx:
        return operations.ask(tx, "tell", words="tell anc hello", request={"cases": [1]}, by=esi)


def given(world: World, number: int) -> list[tuple[Any, ...]]:
    with world.db.reading() as tx:
        return [(row.place, row.person_id, row.door) for row in confirmations.of(tx, number)]


def test_the_first_and_the_second_ok_are_kept_in_their_places(world: World, asked: int, esi: Actor, ato: Actor) -> None:
    with world.db.transaction() as tx:
        assert [confirmations.add(tx, asked, by=by) for by in (esi, ato)] == [1, 2]
        digests = {row.digest for row in confirmations.of(tx, asked)}
        assert digests == {operations.digest_of(operations.operation(tx, asked))}  # type: ignore[arg-type]
    assert given(world, asked) == [(1, esi.person_id, "sms"), (2, ato.person_id, "desk")]


@pytest.mark.parametrize("by", ["esi", "the system"])
def test_nobody_says_both(world: World, asked: int, esi: Actor, by: str) -> None:
    who = esi if by == "esi" else CLI
    with world.db.transaction() as tx:
        confirmations.add(tx, asked, by=who)
        with pytest.raises(Problem, match="second-person"):
            confirmations.add(tx, asked, by=Actor("desk", who.person_id))
    assert len(given(world, asked)) == 1


def test_there_is_no_third_ok(world: World, asked: int, esi: Actor, ato: Actor) -> None:
    with world.db.transaction() as tx:
        for by in (CLI, ato):
            confirmations.add(tx, asked, by=by)
        with pytest.raises(Problem, match="second-person"):
            confirmations.add(tx, asked, by=esi)


@pytest.mark.parametrize(
    ("more", "name"),
    [
        ({"place": 3}, "first_or_second_approval"),
        ({"place": 1}, "one_approval_per_place|operation_id, approvals.place"),
        ({"place": 2, "person": "esi"}, "one_approval_per_person|operation_id, approvals.person_id"),
    ],
)
def test_the_database_holds_it_too(world: World, asked: int, esi: Actor, more: dict[str, Any], name: str) -> None:
    with world.db.transaction() as tx:
        confirmations.add(tx, asked, by=esi)
    person = esi.person_id if more.get("person") else None
    values = {"operation_id": asked, "person_id": person, "door": "x", "digest": "x", "at": world.db.clock()}
    with world.db.reading() as tx, pytest.raises(IntegrityError, match=name):
        tx.execute(table.insert().values(values | {"place": more["place"]}))


def test_the_database_knows_the_system_s_user_once_too(world: World, asked: int) -> None:
    with world.db.transaction() as tx:
        confirmations.add(tx, asked, by=CLI)
    values = {"operation_id": asked, "door": "x", "digest": "x", "place": 2, "at": world.db.clock()}
    with world.db.reading() as tx, pytest.raises(IntegrityError, match=r"one_approval_of_the_system|operation_id"):
        tx.execute(table.insert().values(values))
