"""The audit as a page: what was found with what mends it, which ones, the pictures, and one's own groups only."""

import io
import re
import zipfile

import pytest

from storage.audit import Actor
from storage.contacts import consent, groups
from tests.parts import library
from tests.world import TEST

library("anywidget")
library("pandas")
from admin_notebooks.desk import Desk
from admin_notebooks.panels import audit

HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture
def lead(world, clock):
    """A lead, and two groups: in one somebody said STOP and somebody has no number; in the other everything is well."""
    row = world.person("Esi", "233241110001")
    ids = [world.case("p-1", "233241234567", name=HOSTILE), world.case("p-2", "233209876543"), world.case("p-3")]
    anc = world.group("anc", *ids, name="Antenatal care")
    world.group("tb", world.case("p-4", "233205550000"))
    clock.advance(days=2)
    with world.db.transaction() as tx:
        consent.hear(tx, "233209876543", "stop", words="STOP", message_id=None, by=TEST)
        groups.remove(tx, anc, ids[:1], by=Actor("desk", row.id, "01_case_groups"))
    return row


@pytest.fixture
def panel(db, lead):
    return audit.panel(Desk(db, lead.id, "05_membership_audit"))


def ask(panel, verb, **args):
    answer, data = panel.answer({"id": 1, "verb": verb, "args": args}, [])
    return data[0] if data else answer.get("result", answer.get("problem"))


def found(told):
    return {one["check"]: one["count"] for one in told["findings"] if one["count"]}


def test_a_finding_says_how_many_what_mends_it_and_which_ones(panel):
    assert [group["short"] for group in ask(panel, "groups")] == ["anc", "tb"]
    told = ask(panel, "audit", group="anc")
    assert found(told) == {"stopped": 1, "no_number": 1, "never_texted": 1}
    assert all(one["mend"] for one in told["findings"])
    which = ask(panel, "which", key="stopped")
    (row,) = which["rows"]
    assert row[which["columns"].index("name")] == "P-2"
    assert row[which["columns"].index("contact_phone_number")] == "233209876543"
    assert found(ask(panel, "audit", group="tb")) == {"never_texted": 1}
    assert [row[0] for row in ask(panel, "which", key="never_texted")["rows"]] != [], "of the group asked for last"
    assert "audit" not in ask(panel, "which", key="no such check")


def test_since_a_day_leaves_out_what_was_before(panel):
    by_whom = ask(panel, "audit", group="anc")["by_whom"]
    assert [row[:4] for row in by_whom["rows"]] == [["system", "test", 3, 0], ["Esi", "desk", 0, 1]]
    assert [row[:4] for row in ask(panel, "audit", since="2026-11-05")["by_whom"]["rows"]] == [["Esi", "desk", 0, 1]]


@pytest.mark.parametrize("name", ["over_time", "overlaps", "language_code", "time_zone", "gateway"])
def test_a_picture_is_as_wide_as_its_place_and_its_letters_as_large(panel, name):
    wide, narrow = (ask(panel, "picture", name=name, width=width, group="anc").decode() for width in (5000, 358))
    assert 'width="518.4pt"' in wide and 'width="257.76pt"' in narrow
    wide_letters, narrow_letters = (set(re.findall(r"font-size: ([\d.]+px)", svg)) for svg in (wide, narrow))
    assert wide_letters == narrow_letters != set()


def test_the_report_leaves_with_the_middle_of_every_number_hidden(panel):
    page = ask(panel, "report", group="anc").decode()
    assert "Membership audit: Antenatal care" in page and "233209876543" not in page and "2332" in page
    book = zipfile.ZipFile(io.BytesIO(ask(panel, "report", ending=".xlsx")))
    assert not any(b"233209876543" in book.read(name) for name in book.namelist())


def test_whoever_is_no_lead_sees_their_own_groups_and_who_may_not_read_sees_nothing(db, world, lead):
    kofi = audit.panel(Desk(db, world.person("Kofi", "233241110002", "supervisor", "tb").id, "05"))
    assert [group["short"] for group in ask(kofi, "groups")] == ["tb"]
    assert found(ask(kofi, "audit")) == {"never_texted": 1}
    for told in (ask(kofi, "audit", group="anc"), ask(kofi, "picture", name="over_time", width=500, group="anc")):
        assert told == ask(kofi, "audit", group="nosuch").replace("nosuch", "anc")
    helper = audit.panel(Desk(db, world.person("Abla", "233241110003", "helper", "tb").id, "05"))
    assert isinstance(ask(helper, "audit"), str)
