"""Case groups: names that no slip of the finger can mix up, and members with a memory."""

import tomllib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from storage.contacts import cases, groups, lookup
from storage.errors import Problem
from storage.rules.optout import GATEWAY_WORDS
from storage.schema import audit, memberships
from tests.world import TEST, World


def create(world, short, name=None):
    with world.db.transaction() as tx:
        return groups.create(tx, short, name, by=TEST)


def refusal(world, short, name=None):
    with pytest.raises(Problem) as refused:
        create(world, short, name)
    return refused.value


def members(world, group, **asked):
    with world.db.reading() as tx:
        return [row.external_id for row in groups.members(tx, group, **asked)]


# -- names -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("short", ["a", "thirteenchars", "an c", "an-c", "änc", "", "1234", "an_c"])
def test_a_short_name_has_two_to_twelve_letters_or_digits_and_not_digits_alone(world, short):
    assert refusal(world, short).key == "group-short-shape"


@pytest.mark.parametrize("short", ["tb", "twelvecharss", "3rdfloor", "m4"])
def test_a_short_name_of_the_right_shape_is_taken(world, short):
    assert create(world, short).short == short


def test_a_short_name_is_kept_as_it_is_compared(world):
    assert create(world, " ANC ").short == "anc"
    assert refusal(world, "Anc").key == "group-exists"


@pytest.mark.parametrize("word", sorted(w for w in groups.VERBS if len(w) > 1))
def test_no_group_is_called_like_a_verb(world, word):
    assert refusal(world, word).key == "group-short-word"


@pytest.mark.parametrize("word", ["stop", "start", "help", "end", "quit", "cancel"])
def test_no_group_is_called_like_a_word_that_the_gateway_acts_on(world, word):
    assert word in GATEWAY_WORDS
    assert refusal(world, word).key == "group-short-word"


def test_every_verb_of_the_bot_is_kept_from_the_names_of_groups():
    told = tomllib.loads(Path("bot/locales/en.toml").read_text(encoding="utf-8"))
    assert set(told["verbs"]) <= groups.VERBS


@pytest.mark.parametrize("near", ["ancx", "an", "nac", "abc", "anx"])
def test_a_name_one_slip_away_from_another_is_refused_and_the_other_is_named(world, near):
    create(world, "anc")
    refused = refusal(world, near)
    assert (refused.key, refused.values["other"]) == ("group-short-near", "anc")


def test_names_that_differ_in_a_digit_are_meant_to_be_alike(world):
    for short in ("ward1", "ward2", "ward12", "ward"):
        create(world, short)


def test_a_long_name_is_unique_among_the_groups_that_live(world):
    create(world, "anc", "Antenatal care")
    assert refusal(world, "mothers", " Antenatal  care ").key == "group-name-taken"


def test_without_a_long_name_the_short_one_serves(world):
    assert create(world, "anc").name == "anc"


def test_an_unknown_group_is_refused_with_the_nearest_names(world):
    for short in ("anc", "tb", "ward1"):
        create(world, short)
    with world.db.reading() as tx, pytest.raises(Problem) as refused:
        groups.group(tx, "ancc")
    assert refused.value.key == "group-unknown"
    assert refused.value.values["near"].split(", ")[0] == "anc"


def test_a_group_is_found_however_its_name_is_typed(world):
    made = create(world, "anc")
    with world.db.reading() as tx:
        assert groups.group(tx, " ＡＮＣ ").id == made.id


# -- members -----------------------------------------------------------------------------------------------------------


def test_members_come_in_once_and_in_the_order_given(world):
    a, b, c = (world.case(name) for name in "abc")
    anc = world.group("anc", b)
    with world.db.transaction() as tx:
        assert groups.add(tx, anc, [c, b, a, c], by=TEST) == [c, a]
        assert groups.add(tx, anc, [a, b, c], by=TEST) == []
    assert members(world, anc) == ["b", "c", "a"]


def test_members_are_taken_out_once_and_in_the_order_given(world):
    a, b, c = (world.case(name) for name in "abc")
    anc = world.group("anc", a, b)
    with world.db.transaction() as tx:
        assert groups.remove(tx, anc, [c, b, a, b], by=TEST) == [b, a]
        assert groups.remove(tx, anc, [a, b], by=TEST) == []
        assert groups.count_members(tx, anc) == 0


def test_adding_or_removing_nothing_writes_no_audit_line(world):
    a = world.case("a")
    anc = world.group("anc", a)
    with world.db.transaction() as tx:
        before = tx.execute(select(audit.c.id)).all()
        groups.add(tx, anc, [a], by=TEST)
        groups.remove(tx, anc, [], by=TEST)
        assert tx.execute(select(audit.c.id)).all() == before


def test_one_who_was_taken_out_and_put_back_stands_at_the_end(world):
    a, b = world.case("a"), world.case("b")
    anc = world.group("anc", a, b)
    with world.db.transaction() as tx:
        groups.remove(tx, anc, [a], by=TEST)
        groups.add(tx, anc, [a], by=TEST)
    assert members(world, anc) == ["b", "a"]


def test_each_membership_names_the_audit_line_that_began_and_ended_it(world):
    a = world.case("a")
    anc = world.group("anc", a)
    with world.db.transaction() as tx:
        groups.remove(tx, anc, [a], by=TEST)
        row = tx.execute(select(memberships)).one()
        verbs = dict(tx.execute(select(audit.c.id, audit.c.verb)).all())
    assert (verbs[row.added_entry], verbs[row.removed_entry]) == ("groups.add", "groups.remove")


def test_the_groups_are_listed_by_short_name_with_their_counts(world):
    a, b = world.case("a"), world.case("b")
    world.group("tb", a)
    world.group("anc", a, b)
    world.group("empty")
    with world.db.reading() as tx:
        assert [(g.short, g.members) for g in groups.list_all(tx)] == [("anc", 2), ("empty", 0), ("tb", 1)]


def test_two_thousand_members_come_in_and_go_by_a_bounded_number_of_statements(db, statements):
    world = World(db)
    anc = world.group("anc")
    with db.transaction() as tx:
        ids = cases.save(tx, [cases.Wanted(None, {}) for _ in range(2000)], by=TEST)
    with statements(db) as ran, db.transaction() as tx:
        groups.add(tx, anc, ids, by=TEST)
        groups.remove(tx, anc, ids, by=TEST)
    assert len(ran) < 30


_history = st.lists(st.tuples(st.booleans(), st.lists(st.integers(0, 4), max_size=4)), max_size=12)


@settings(max_examples=25, deadline=None)
@given(_history)
def test_who_was_in_as_of_any_moment_is_who_was_in_at_that_moment(new_db, history):
    with new_db() as db:
        world = World(db)
        ids = [world.case(f"p{n}") for n in range(5)]
        anc = world.group("anc")
        inside: list[int] = []
        told = [(db.clock(), [])]
        for adding, picked in history:
            db.clock.advance(minutes=1)
            change = groups.add if adding else groups.remove
            with db.transaction() as tx:
                change(tx, anc, [ids[n] for n in picked], by=TEST)
            moved = list(dict.fromkeys(picked))
            kept = [n for n in inside if adding or n not in moved]
            inside = kept + [n for n in moved if adding and n not in inside]
            told.append((db.clock(), list(inside)))
        with db.reading() as tx:
            for moment, then in told:
                assert [row.id for row in groups.members(tx, anc, as_of=moment)] == [ids[n] for n in then]
            assert [row.id for row in groups.members(tx, anc)] == [ids[n] for n in inside]


# -- deleting ----------------------------------------------------------------------------------------------------------


def test_a_deleted_group_frees_its_names_and_keeps_its_history(world, clock):
    a = world.case("a")
    old = world.group("anc", a, name="Antenatal")
    moment = clock()
    clock.advance(days=1)
    with world.db.transaction() as tx:
        groups.delete(tx, old, by=TEST)
        assert groups.find(tx, "anc") is None
        assert lookup.groups_of(tx, a) == []

    new = world.group("anc", name="Antenatal")

    assert new != old
    assert members(world, old, as_of=moment) == ["a"]
    assert members(world, new) == []
