"""The page of a case: found by whatever somebody remembers, told whole and in words, and nothing of others."""

import pytest
from sqlalchemy import text

from admin_notebooks import case_views
from admin_notebooks.desk import Desk
from storage.contacts import consent, groups, lookup
from storage.errors import Problem
from storage.messages import inbox, outbox
from tests.storage.tampering import FORGET
from tests.world import TEST


def pytest_generate_tests(metafunc):
    if "engine" in metafunc.fixturenames:
        metafunc.parametrize("engine", ("sqlite", "postgresql"))


AMA, SHARED = "233241234567", "233209876543"


@pytest.fixture
def ama(world):
    return world.case("p-1", AMA, name="Ama Śliwa", language_code="en", time_zone="Africa/Accra")


@pytest.fixture
def desk(db, world, clock, ama):
    kofi = world.case("p-2", SHARED, name="Kofi")
    world.group("anc", kofi, ama, world.case("q-3", name="yaw"), name="Antenatal care")
    clock.advance(hours=1)
    waiting = world.case("p-4", SHARED, name="Abena")
    world.group("tb", world.case("else", "233205550000", name="Esi"), waiting)
    world.case("p-5", SHARED, name="Efua", verified=False)
    with db.transaction() as tx:
        consent.hear(tx, SHARED, "stop", words="Stop. Thank you", message_id=None, by=TEST)
        got = inbox.record_inbound(tx, gateway="simulator", gateway_id="1", sender=AMA, text="I come")
        inbox.handled(tx, got.id, "inbox", case_id=ama, person_id=None)
    return Desk(db)


@pytest.fixture
def yaw_s(db, world, desk):
    return Desk(db, world.person("Yaw", "233241110002", "supervisor", "tb").id)


@pytest.mark.parametrize(
    ("search", "found"),
    [
        ("", ["p-4", "p-1", "p-5", "else", "p-2", "q-3"]),
        ("sliwa", ["p-1"]),
        ("P-2", ["p-2"]),
        ("+233 24 123 4567", ["p-1"]),
        ("024-123-4567", ["p-1"]),
        ("9876", ["p-4", "p-5", "p-2"]),
        ("ama kofi", []),
        ("%", []),
    ],
)
def test_a_case_is_found_by_name_id_or_number_as_anybody_writes_it(desk, search, found):
    count, rows = case_views.find(desk, search)
    assert ([row["external_id"] for row in rows], count) == (found, len(found))


def test_found_cases_are_sorted_by_what_is_there(desk):
    for column in (*case_views.SORTS, "; drop table cases"):
        assert case_views.find(desk, sort=column, descending=True)[0] == 6


def test_whose_a_number_is_stands_there_in_words(desk):
    def number(external_id):
        return case_views.describe(desk, external_id)["number"]

    assert number("p-1")["says"] == "This case owns the number since 3 November 2026: it gets texts and may reply."
    assert number("p-2")["says"].endswith("it gets no texts since its STOP and may reply. 1 other waits for it.")
    waiting = number("p-4")
    assert waiting["says"].endswith("It is number 1 of those who wait, and takes over by itself when its turn comes.")
    assert (waiting["owner"]["name"], [one["name"] for one in waiting["line"]]) == ("Kofi", ["Abena"])
    assert "not verified" in number("p-5")["says"]
    assert [one["name"] for one in number("p-2")["others"]] == ["Efua"]
    assert number("q-3")["says"] == "It has no phone number, so it gets no texts."


def test_a_closed_case_and_a_number_that_nobody_proved_say_so(desk, world, ama):
    world.change(ama, contact_phone_number_is_verified=False)
    assert case_views.describe(desk, "p-1")["number"]["says"].startswith("Nobody has proved that the number is theirs")
    world.change(ama, status="closed")
    assert case_views.describe(desk, "p-1")["number"]["says"].startswith("The case is closed")


def test_a_case_is_told_with_its_consent_its_groups_and_its_texts_both_ways(db, desk, ama, clock):
    clock.advance(hours=1)
    with db.transaction() as tx:
        outbox.queue(tx, AMA, "Come on Friday", "text", case_id=ama)
    told = case_views.describe(desk, AMA)
    assert [(m["short"], m["name"]) for m in told["memberships"]] == [("anc", "Antenatal care")]
    assert [(t["direction"], t["body"], t["says"]) for t in told["texts"]] == [
        ("out", "Come on Friday", "waits for its time or its turn"),
        ("in", "I come", "a reply, passed on to the staff"),
    ]
    assert (told["stopped"], told["consent"]) == (False, [])
    (event,) = case_views.describe(desk, "p-4")["consent"]  # of the number, whoever on it said so
    assert (event["kind"], event["words"], event["says"]) == ("stop", "Stop. Thank you", "no more texts")


def test_texts_are_turned_over_by_the_page(db, desk, ama):
    with db.transaction() as tx:
        for n in range(40):
            outbox.queue(tx, AMA, f"Text {n}", "text", case_id=ama)
    first = case_views.describe(desk, "p-1")["texts"]
    older = case_views.list_texts(desk, "p-1", first[-1]["id"])
    assert [t["body"] for t in (*first, *older)] == [*(f"Text {n}" for n in reversed(range(40))), "I come"]


def test_what_was_changed_is_told_with_old_and_new(desk, world, ama):
    world.change(ama, name="Ama Mensah")
    changed, made = case_views.list_changes(desk, "p-1")
    assert (changed["did"], changed["changes"]) == ("changed", {"name": ["Ama Śliwa", "Ama Mensah"]})
    assert (made["did"], made["changes"]["contact_phone_number"]) == ("made", [None, AMA])


def test_a_change_whose_values_were_forgotten_is_shown_as_such(db, desk, world, ama):
    """The page of a case opened with a fault instead."""
    world.change(ama, name="Ama Mensah")
    with db.transaction() as tx:
        tx.execute(text(f"{FORGET} subject_id = {ama}"))
    assert [(line["did"], line["changes"]) for line in case_views.list_changes(desk, "p-1")] == [("forgotten", {})] * 2


def test_another_s_people_do_not_exist(yaw_s):
    assert [row["name"] for row in case_views.find(yaw_s)[1]] == ["Abena", "Esi"]
    for typed in ("p-1", "p-2", AMA, "nobody", "else-1"):
        for act in (case_views.describe, case_views.list_texts, case_views.list_changes):
            with pytest.raises(Problem) as told:
                act(yaw_s, typed)
            assert (told.value.key, told.value.values) == ("case-unknown", {"typed": typed})
    number = case_views.describe(yaw_s, "p-4")["number"]
    assert number["owner"] == {"case_id": None, "name": "a case of another group", "since": "3 November 2026"}
    assert case_views.describe(yaw_s, SHARED)["name"] == "Abena", "of three on the phone she is the one he knows"


def test_several_of_one_s_own_on_a_phone_are_named(db, yaw_s):
    with db.transaction() as tx:
        kofi = lookup.find_one(tx, "p-2")
        groups.add(tx, groups.group(tx, "tb").id, [kofi.id], by=TEST)
    with pytest.raises(Problem) as told:
        case_views.describe(yaw_s, SHARED)
    assert told.value.key == "case-ambiguous"
    assert len(told.value.values["candidates"].split(", ")) == 2


def test_a_helper_looks_nobody_up(db, world, desk):
    helper = Desk(db, world.person("Abena", "233241110003", "helper", "anc").id)
    for act in (lambda: case_views.find(helper), lambda: case_views.describe(helper, "p-1")):
        with pytest.raises(Problem) as told:
            act()
        assert told.value.key == "right-missing"
