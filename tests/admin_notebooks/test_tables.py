"""What the pages show: searched and sorted by the database, a hundred at a time, and nothing of others."""

import pytest

from admin_notebooks import tables
from admin_notebooks.desk import Desk
from storage.contacts import cases, consent, groups
from storage.contacts.cases import Wanted
from storage.errors import Problem
from storage.messages import inbox
from tests.world import TEST


def pytest_generate_tests(metafunc):
    if "engine" in metafunc.fixturenames:
        metafunc.parametrize("engine", ("sqlite", "postgresql"))


@pytest.fixture
def desk(db, world, clock):
    ama = world.case("p-1", "233241234567", name="Ama Śliwa", language_code="en")
    kofi = world.case("p-2", "233209876543", name="Kofi", language_code="sw")
    yaw = world.case("q-3", name="yaw")
    anc = world.group("anc", kofi, ama, yaw, name="Antenatal care")
    world.group("tb", world.case("else", "233205550000"))
    clock.advance(days=1)
    with db.transaction() as tx:
        groups.remove(tx, anc, [yaw], by=TEST)
        consent.hear(tx, "233209876543", "stop", words="STOP", message_id=None, by=TEST)
        got = inbox.record_inbound(tx, gateway="simulator", gateway_id="1", sender="233241234567", text="I come")
        inbox.handled(tx, got.id, "reply", case_id=ama, person_id=None)
    return Desk(db)


def listed(desk, **asked):
    count, rows = tables.list_members(desk, "anc", **asked)
    assert count == len(rows)
    return [row["external_id"] for row in rows]


def test_a_group_in_numbers(desk):
    told = tables.describe_group(desk, "anc")
    assert told == {"short": "anc", "name": "Antenatal care", "members": 2, "two_way": 2, "unverified": 0,
                    "no_number": 0, "stopped": 1, "closed": 0, "running": []}  # fmt: skip


@pytest.mark.parametrize(
    ("search", "found"),
    [
        ("", ["p-1", "p-2"]),
        ("sliwa", ["p-1"]),
        ("AMA ś", ["p-1"]),
        ("p-2", ["p-2"]),
        ("+23320", ["p-2"]),
        ("9876", ["p-2"]),
        ("%", []),
        ("ama kofi", []),
    ],
)
def test_members_are_found_by_name_id_or_number(desk, search, found):
    assert listed(desk, search=search) == found


def test_members_are_sorted_by_any_column_and_what_is_missing_comes_last(desk):
    assert listed(desk, sort="contact_phone_number") == ["p-2", "p-1"]
    assert listed(desk, sort="contact_phone_number", descending=True) == ["p-1", "p-2"]
    assert listed(desk, sort="last_reply_at", descending=True) == ["p-1", "p-2"]
    assert listed(desk, sort="last_reply_at") == ["p-1", "p-2"]
    assert listed(desk, sort="; drop table cases") == ["p-1", "p-2"]
    for column in tables.SORTS:
        assert len(listed(desk, sort=column)) == 2


def test_members_as_of_a_day(desk):
    assert listed(desk, as_of="2026-11-03") == ["p-1", "p-2", "q-3"]
    with pytest.raises(Problem):
        listed(desk, as_of="yesterday")


def test_a_large_group_is_looked_at_by_the_hundred(db, desk):
    with db.transaction() as tx:
        wanted = [Wanted(None, {"external_id": f"m-{n:03}", "name": f"M {n:03}"}) for n in range(150)]
        ids = cases.save(tx, wanted, by=TEST)
        groups.add(tx, groups.group(tx, "anc").id, ids, by=TEST)
    count, first = tables.list_members(desk, "anc")
    assert (count, len(first)) == (152, 100)
    assert [row["external_id"] for row in tables.list_members(desk, "anc", first=100)[1]][-1] == "m-149"


def test_history_says_what_was_done(desk):
    assert [(line["did"], line["cases"]) for line in tables.list_history(desk, "anc")] == [
        ("remove", 1),
        ("add", 3),
        ("create", None),
    ]


def test_history_takes_back_what_was_done_once_and_says_so(db, world, desk, clock):
    """Each line has the number of its operation and whose it is; of two clicks one counts."""
    world.case("p-5", "233205550005")
    esi = Desk(db, world.person("Esi", "233241110001").id)
    added = esi.add("anc", "else").confirm()
    clock.advance(minutes=1)
    replaced = esi.upload("anc", "june.csv", b"case_identifier\np-1\np-5\n", "replace").confirm()

    newest = tables.list_history(esi, "anc")[:3]

    assert [(line["did"], line["number"], line["undoable"]) for line in newest] == [
        ("remove", replaced.number, True), ("add", replaced.number, False), ("add", added.number, True)
    ]  # fmt: skip
    assert tables.list_history(esi, "anc")[3]["number"] is None, "what a test did with the store itself has no number"
    clock.advance(minutes=1)
    assert esi.undo(replaced.number).says.endswith("back in Antenatal care (anc). It has 3 cases now.")
    with pytest.raises(Problem) as told:
        esi.undo(replaced.number)
    assert told.value.key == "undone-before"
    after = tables.list_history(esi, "anc")
    assert [(line["did"], line["takes_back"], line["undoable"]) for line in after[:5]] == [
        ("add", True, False), ("remove", True, False), ("remove", False, False), ("add", False, False), ("add", False, True)
    ]  # fmt: skip
    clock.advance(hours=24)
    assert not any(line["undoable"] for line in tables.list_history(esi, "anc"))


def test_who_may_not_take_something_back_sees_no_button_and_is_refused(db, world, desk):
    done = Desk(db, world.person("Esi", "233241110001").id).add("anc", "else").confirm()
    for n, role in enumerate(("supervisor", "viewer")):
        other = Desk(db, world.person(role, f"23324111000{n + 5}", role, "anc").id)
        assert not any(line["undoable"] for line in tables.list_history(other, "anc"))
        assert tables.list_deleted(other) == []
        with pytest.raises(Problem):
            other.undo(done.number)


def test_a_deleted_group_stands_in_a_list_for_a_day(db, world, desk, clock):
    esi = Desk(db, world.person("Esi", "233241110001").id)
    mine = Desk(db, world.person("Yaw", "233241110002", "supervisor", "anc").id)
    done = mine.delete("anc").confirm("anc")

    (gone,) = tables.list_deleted(esi)

    assert (gone["number"], gone["short"], gone["members"], gone["person"]) == (done.number, "anc", 2, "Yaw")
    assert tables.list_deleted(mine) == [], "a deletion is taken back by a lead"
    assert esi.undo(gone["number"]).says == "Antenatal care (anc) is back with its 2 cases."
    assert tables.list_deleted(esi) == []
    assert tables.list_history(esi, "anc")[0] | {"at": None} == {
        "at": None, "person": "Esi", "door": "desk", "source": "notebook", "did": "restore", "cases": None,
        "number": done.number, "takes_back": True, "undoable": False,
    }  # fmt: skip
    esi.delete("anc").confirm("anc")
    clock.advance(hours=24)
    assert tables.list_deleted(esi) == []


def test_another_s_people_do_not_exist(db, world, desk):
    mine = Desk(db, world.person("Yaw", "233241110002", "supervisor", "tb").id)
    assert [g["short"] for g in tables.list_groups(mine)] == ["tb"]
    for act in (tables.describe_group, tables.list_members, tables.list_history):
        with pytest.raises(Problem) as told:
            act(mine, "anc")
        assert told.value.key == "group-unknown"


def test_a_helper_learns_how_many_and_not_who(db, world, desk):
    helper = Desk(db, world.person("Abena", "233241110003", "helper", "anc").id)
    assert tables.describe_group(helper, "anc") == {"short": "anc", "name": "Antenatal care", "members": 2}
    with pytest.raises(Problem) as told:
        tables.list_members(helper, "anc")
    assert told.value.key == "right-missing"
