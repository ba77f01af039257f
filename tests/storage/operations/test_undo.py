"""What a person did to a group is taken back, by whichever door it was done."""

import pytest

from storage import audit
from storage.audit import Actor
from storage.contacts import groups
from storage.errors import Problem
from storage.operations import operations
from storage.operations import undo as undo_store
from storage.sheets import members
from tests.storage.rows import sheet
from tests.world import inside


@pytest.fixture
def anc(world):
    for n in range(4):
        world.case(f"p-{n}", f"23324412345{n}")
    return world.group("anc", world.case("p-8", "233244123458"), world.case("p-9", "233244123459"))


def loaded(db, anc, rows, mode, by):
    """A sheet was loaded, and the operation says by which lines of the log."""
    with db.transaction() as tx:
        before = audit.head(tx).id
        members.apply_members(tx, anc, sheet(*rows), mode, by=by)
        lines = [line.id for line in audit.list_since(tx, before, ("groups.add", "groups.remove"))]
        return operations.note(tx, "upload", words="desk:1", undoes={"lines": lines}, group_id=anc, by=by)


def undo(db, number, person, by):
    with db.transaction() as tx:
        return undo_store.take_back(tx, undo_store.undoable(tx, number, person), by=by)


def test_a_sheet_that_replaced_a_group_is_taken_back_whole(db, world, anc):
    lead = world.person("Esi", "233241110001")
    by = Actor("desk", lead.id, "sheet")
    number = loaded(db, anc, ["p-0", "p-1", "p-9"], "replace", by)
    assert inside(db, anc) == ["p-9", "p-0", "p-1"]

    done = undo(db, number, lead, by)

    assert (done.what, done.out, done.back, done.total) == ("members", 2, 1, 2)
    assert sorted(inside(db, anc)) == ["p-8", "p-9"]


def test_it_is_taken_back_once(db, world, anc):
    lead = world.person("Esi", "233241110001")
    by = Actor("desk", lead.id)
    number = loaded(db, anc, ["p-0"], "add", by)
    undo(db, number, lead, by)
    with pytest.raises(Problem) as told:
        undo(db, number, lead, by)
    assert told.value.key == "undone-before"
    assert sorted(inside(db, anc)) == ["p-8", "p-9"]


def test_who_left_and_came_again_since_stays_as_somebody_else_wanted(db, world, anc):
    """Only what the sheet itself put in is taken out again."""
    lead = world.person("Esi", "233241110001")
    by = Actor("desk", lead.id)
    number = loaded(db, anc, ["p-0", "p-1"], "add", by)
    with db.transaction() as tx:
        (p0,) = [row.id for row in groups.members(tx, anc) if row.external_id == "p-0"]
        groups.remove(tx, anc, [p0], by=by)
        groups.add(tx, anc, [p0], by=by)

    assert undo(db, number, lead, by).out == 1
    assert sorted(inside(db, anc)) == ["p-0", "p-8", "p-9"]


def test_one_s_own_for_a_day_and_a_lead_anybody_s(db, world, anc, clock):
    mine = world.person("Yaw", "233241110002", "supervisor", "anc")
    other = world.person("Efua", "233241110003", "supervisor", "anc")
    lead = world.person("Esi", "233241110001")
    number = loaded(db, anc, ["p-0"], "add", Actor("desk", mine.id))

    def may(person):
        with db.reading() as tx:
            try:
                return undo_store.undoable(tx, number, person).id == number
            except Problem as problem:
                assert problem.key == "undo-unknown"
                return False

    assert (may(mine), may(other), may(lead), may(None)) == (True, False, True, True)
    clock.advance(hours=25)
    assert (may(mine), may(lead)) == (False, False)


def test_what_carries_a_mark_is_known_again_by_who_did_it(db, world, anc):
    lead, other = world.person("Esi", "233241110001"), world.person("Efua", "233241110003")
    number = loaded(db, anc, ["p-0"], "add", Actor("desk", lead.id))
    with db.reading() as tx:
        assert operations.done_as(tx, "desk:1", by=Actor("desk", lead.id)).id == number
        assert operations.done_as(tx, "desk:1", by=Actor("desk", other.id)) is None
        assert operations.done_as(tx, "desk:1", by=Actor("sms", lead.id)) is None
        assert operations.done_as(tx, "desk:2", by=Actor("desk", lead.id)) is None
