"""Changing cases at the desk: old and new before anything happens, done once, taken back but for what others changed since."""

import pytest
from sqlalchemy import text

from admin_notebooks import case_views, deeds
from admin_notebooks import desk as desk_module
from admin_notebooks.desk import Desk
from storage import audit
from storage.contacts import cases as case_store
from storage.errors import Problem
from storage.operations import operations, undo
from tests.storage.tampering import FORGET
from tests.world import TEST


def pytest_generate_tests(metafunc):
    if "engine" in metafunc.fixturenames:
        metafunc.parametrize("engine", ("sqlite", "postgresql"))


PHONE = "233241234567"


@pytest.fixture
def ama(db, world):
    row = world.case("p-1", PHONE, name="Ama", language_code="en")
    with db.transaction() as tx:
        case_store.save(tx, [case_store.Wanted(row, {}, {"district": "Kisumu"})], by=TEST)
    return row


@pytest.fixture
def desk(db, world, ama, clock):
    clock.advance(minutes=1)
    world.group("anc", ama, world.case("p-2", PHONE, name="Kofi"))
    return Desk(db, world.person("Esi", "233241110001").id, "02_cases")


@pytest.fixture
def yaw_s(db, world, desk):
    return Desk(db, world.person("Yaw", "233241110002", "supervisor", "anc").id)


def told(act, *given):
    with pytest.raises(Problem) as caught:
        act(*given)
    return caught.value.key


def test_old_and_new_are_shown_and_nothing_is_changed_before_it_is_confirmed(db, desk, world, ama):
    proposal = desk.change_case("p-1", {"language_code": "sw", "district": "Siaya", "name": "Ama"})
    assert proposal.says == "Change 2 properties of Ama"
    assert proposal.records()[0]["changes"] == {"language_code": ["en", "sw"], "district": ["Kisumu", "Siaya"]}
    assert world.look(ama).language_code == "en"
    done = proposal.confirm()
    assert done.says == "Changed 2 properties of Ama."
    assert (world.look(ama).language_code, world.look(ama).properties) == ("sw", {"district": "Siaya"})
    assert proposal.confirm() == done
    with db.reading() as tx:
        assert [(line.verb, line.door, line.source) for line in audit.list_last(tx, 1)] == [
            ("cases.change", "desk", "02_cases")
        ]


def test_a_blank_takes_a_value_away_and_a_new_name_is_a_property_of_the_programme_s(desk, world, ama):
    desk.change_case("p-1", {"language_code": " ", "district": "", "next_visit": "Friday"}).confirm()
    assert (world.look(ama).language_code, world.look(ama).properties) == (None, {"next_visit": "Friday"})
    for name in ("", "case_id", "verdict", "a b", "9lives", "<b>"):
        assert told(desk.change_case, "p-1", {name: "x"}) == "property-name"


def test_a_property_that_is_called_like_a_column_of_another_export_stays_a_property(desk, world, ama):
    desk.change_case("p-1", {"email": "not an address", "phone": "the red one"}).confirm()
    assert world.look(ama).contact_phone_number == PHONE
    assert world.look(ama).properties["phone"] == "the red one"


def test_every_fault_is_told_and_nothing_is_done(desk):
    proposal = desk.change_case("p-1", {"time_zone": "Africa/Acra", "contact_phone_number": "12"})
    (row,) = proposal.records()
    assert (proposal.acts, row["verdict"]) == (False, "invalid")
    assert "Africa/Accra" in row["reason"] and "too few digits" in row["reason"]
    assert told(proposal.confirm) == "nothing-to-do"
    assert desk.change_case("p-1", {"name": "Ama"}).says == "Nothing to do"


def test_what_a_change_means_for_the_number_is_told_beforehand(desk, world, ama):
    proposal = desk.change_case("p-1", {"contact_phone_number": "+233 24 555 0000"})
    assert proposal.goes_with == (
        "the new number is not verified: texts go there, and it may not reply until its phone has said yes",
        f"the next in line becomes owner of {PHONE}",
    )
    proposal.confirm()
    assert world.look(ama + 1).two_way
    assert not world.look(ama).contact_phone_number_is_verified


def test_a_case_that_somebody_changed_meanwhile_is_looked_at_again(desk, world, ama):
    proposal = desk.change_case("p-1", {"language_code": "sw"})
    other = Desk(desk.db, world.person("Efua", "233241110003").id)
    other.change_case("p-2", {"language_code": "fr"}).confirm()
    other.change_case("p-1", {"language_code": "fr"}).confirm()
    assert told(proposal.confirm) == "plan-stale"
    assert world.look(ama).language_code == "fr"
    fresh = proposal.anew()
    assert fresh.meanwhile == ("Efua changed a case.", "1 row of yours means something else now.")
    assert fresh.records()[0]["changes"] == {"language_code": ["fr", "sw"]}
    fresh.confirm()
    assert world.look(ama).language_code == "sw"


# ------------------------------------------------------------------------------------------ taking back


def test_a_change_is_taken_back_once_with_the_number_and_its_verification(desk, world, ama):
    values = {"contact_phone_number": "15551234567", "name": "A", "district": "", "status": "closed"}
    done = desk.change_case("p-1", values).confirm()
    assert done.undoable
    assert world.look(ama).number_warning == "number-unknown-range"
    assert desk.undo(done.number).says == "1 case is as before."
    now = world.look(ama)
    assert (now.contact_phone_number, now.contact_phone_number_is_verified, now.number_warning) == (PHONE, True, None)
    assert (now.name, now.status, now.properties) == ("Ama", "open", {"district": "Kisumu"})
    assert not now.two_way, "Kofi owns it since, and she waits anew"
    assert told(desk.undo, done.number) == "undone-before"


def test_what_somebody_changed_since_stays(desk, world, ama):
    data = b"external_id,language_code,district\np-1,sw,Siaya\np-2,sw,Siaya\nnew,sw,\n"
    done = desk.upload_cases("june.csv", data).confirm()
    world.change(ama, language_code="fr")
    world.change(ama + 1, language_code="fr")
    with desk.db.transaction() as tx:
        case_store.save(tx, [case_store.Wanted(ama + 1, {}, {"district": "Busia"})], by=TEST)
    assert desk.undo(done.number).says == (
        "1 case is as before, 1 case that was made is closed, 1 case that somebody changed since stays."
    )
    assert (world.look(ama).language_code, world.look(ama).properties) == ("fr", {"district": "Kisumu"})
    assert world.look(ama + 1).properties == {"district": "Busia"}
    assert world.look(ama + 2).status == "closed"


def test_a_new_case_that_is_called_as_another_says_so(desk, world, ama):
    """A person who comes in by a second sheet under another id is two cases, unless somebody looks."""
    data = b"external_id,name\nn-1,AMA\nn-2,Abla\np-1,Ama\n"
    proposal = desk.upload_cases("june.csv", data)
    warned = {row["identifier"]: row["warnings"] for row in proposal.records()}
    case_id = world.look(ama).case_id
    assert warned == {
        "n-1": [f"{case_id} is called AMA too: look whether it is the same person."],
        "n-2": [],
        "p-1": [],
    }
    assert proposal.confirm().says == "2 cases created."


def test_the_history_of_a_case_takes_a_change_back(desk, yaw_s, world, ama, clock):
    sheet = desk.upload_cases("june.csv", b"external_id,language_code\np-1,sw\np-2,sw\n").confirm()
    clock.advance(minutes=1)
    mine = yaw_s.change_case("p-1", {"name": "Ama M"}).confirm()

    def seen(by):
        return [(line["number"], line["undoable"], line["many"]) for line in case_views.list_changes(by, "p-1")[:2]]

    assert seen(desk) == [(mine.number, True, 1), (sheet.number, True, 2)]
    assert seen(yaw_s) == [(mine.number, True, 1), (sheet.number, False, 2)]
    clock.advance(minutes=1)
    desk.undo(sheet.number)
    assert world.look(ama).name == "Ama M"
    newest, _, oldest = case_views.list_changes(desk, "p-1")[:3]
    assert (newest["takes_back"], newest["number"], oldest["undoable"]) == (True, sheet.number, False)


def test_a_sheet_is_taken_back_but_for_whose_old_values_were_forgotten(db, desk, world, ama):
    sheet = desk.upload_cases("june.csv", b"external_id,name\np-1,Ama X\np-2,Kofi X\n").confirm()
    with db.transaction() as tx:
        tx.execute(text(f"{FORGET} subject_id = {ama + 1}"))
    assert desk.undo(sheet.number).says == "1 case is as before, 1 case whose old values were forgotten stays."
    assert [world.look(case).name for case in (ama, ama + 1)] == ["Ama", "Kofi X"]


def test_more_than_can_be_taken_back_in_seconds_is_said_beforehand(desk, world, ama, monkeypatch):
    for module in (deeds, desk_module):
        monkeypatch.setattr(module, "TAKES_BACK", 1)
    small = desk.upload_cases("a.csv", b"external_id,name\np-1,A\n")
    large = desk.upload_cases("a.csv", b"external_id,name\np-1,A\np-2,B\n")
    assert (small.goes_with, len(large.goes_with)) == ((), 1)
    done = large.confirm()
    assert not done.undoable
    assert told(desk.undo, done.number) == "undo-unknown"


def test_a_phone_does_not_take_a_change_of_cases_back(db, desk):
    number = desk.change_case("p-1", {"name": "A"}).confirm().number
    with db.transaction() as tx:
        row = operations.operation(tx, number)
        assert told(lambda: undo.take_back(tx, row, by=TEST)) == "undo-unknown"


def test_a_lead_hands_a_number_over_and_takes_it_back(desk, yaw_s, world, ama):
    kofi = ama + 1
    assert told(yaw_s.hand_over, "p-2") == "right-missing"
    assert told(desk.hand_over, "p-1") == "hand-over-not-waiting", "she owns it already"
    proposal = desk.hand_over("p-2")
    assert proposal.says == f"Hand {PHONE} over to Kofi"
    assert proposal.goes_with[1] == "Ama only gets texts there, and waits for the number"
    assert (world.look(ama).two_way, world.look(kofi).two_way) == (True, False)

    done = proposal.confirm()

    assert done == proposal.confirm()
    assert done.says == f"Kofi owns {PHONE} now, and Ama waits for it."
    assert (world.look(ama).two_way, world.look(kofi).two_way) == (False, True)
    line = case_views.list_changes(desk, "p-1")[0]
    assert (line["changes"], line["number"], line["undoable"]) == ({"two_way": [True, False]}, done.number, True)
    with desk.db.transaction() as tx:
        row = operations.operation(tx, done.number)
        assert told(lambda: undo.take_back(tx, row, by=TEST)) == "undo-unknown", "a text does not do it"
    assert desk.undo(done.number).says == "Ama owns the number again."
    assert (world.look(ama).two_way, world.look(kofi).two_way) == (True, False)
    assert told(desk.undo, done.number) == "undone-before"


def test_a_number_that_changed_hands_since_is_looked_at_again(desk, world, ama):
    world.case("p-3", PHONE, name="Abla")
    mine, theirs = desk.hand_over("p-2"), desk.hand_over("p-3")
    given = theirs.confirm()
    assert told(mine.confirm) == "plan-stale"
    fresh = mine.anew()
    assert fresh.meanwhile == ("Now this Abla only gets texts there, and waits for the number.",)
    fresh.confirm()
    assert told(desk.undo, given.number) == "hand-over-since"
    world.change(ama + 1, status="closed")
    assert world.look(ama).two_way, "the next in line owns it, by the old order"


def test_only_who_waits_for_a_number_can_be_given_it(desk, world, ama):
    world.case("p-4", PHONE, name="Esi", verified=False)
    world.case("p-5")
    for typed in ("p-4", "p-5"):
        assert told(desk.hand_over, typed) == "hand-over-not-waiting"


# ------------------------------------------------------------------------------------------ who may


def test_a_supervisor_changes_their_own_and_not_whose_phone_it_is(yaw_s, world, ama):
    done = yaw_s.change_case("p-1", {"name": "Ama M"}).confirm()
    assert world.look(ama).name == "Ama M"
    yaw_s.undo(done.number)
    assert world.look(ama).name == "Ama"
    for name in ("contact_phone_number", "contact_phone_number_is_verified", "external_id", "contact_backend_id"):
        assert told(yaw_s.change_case, "p-1", {name: "x"}) == "right-missing"


def test_another_s_case_is_not_there_before_and_after_the_click(db, yaw_s, world, ama):
    world.case("else", "233205550000")
    assert told(yaw_s.change_case, "else", {"name": "x"}) == "case-unknown"
    proposal = yaw_s.change_case("p-1", {"name": "x"})
    done = yaw_s.change_case("p-1", {"language_code": "sw"}).confirm()
    Desk(db).remove("anc", "p-1").confirm()
    assert told(proposal.confirm) == "case-unknown"
    assert told(yaw_s.undo, done.number) == "undo-unknown"
    assert world.look(ama).language_code == "sw"


def test_a_helper_and_a_viewer_change_nobody(db, world, desk):
    for n, role in enumerate(("helper", "viewer")):
        theirs = Desk(db, world.person(role.title(), f"23324111001{n}", role, "anc").id)
        assert told(theirs.change_case, "p-1", {"name": "x"}) == "right-missing"
