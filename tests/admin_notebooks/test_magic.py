import pytest

from admin_notebooks import magic
from admin_notebooks.desk import Desk
from storage.errors import Problem

LEAD, VIEWER, CASE = "233244000001", "233244000002", "233244120101"


@pytest.fixture
def lead(db, world):
    world.group("anc", world.case("Ama", CASE))
    return Desk(db, world.person("Amina Yusuf", LEAD).id, "06_sms_lab")


def test_the_lab_shows_what_was_said_and_to_whom(lead):
    lines = magic.converse(lead, LEAD, ["who anc", "tell anc Clinic closed Friday", "ok CODE"])
    assert lines[0].startswith("a rehearsal")
    assert f"{LEAD}  >  who anc   (command)" in lines
    assert any(line.startswith(f"    to {LEAD}, 1 SMS: ") for line in lines)


def test_only_a_lead_speaks_for_every_phone(db, world, lead):
    viewer = Desk(db, world.person("Kofi", VIEWER, "viewer").id, "06_sms_lab")
    for live in (False, True):
        with pytest.raises(Problem, match="right-missing"):
            magic.converse(viewer, LEAD, ["menu"], live=live)


def test_for_good_stands_in_the_log_with_who_did_it(db, lead):
    magic.converse(lead, CASE, ["stop"], live=True)
    from storage import audit
    from storage.contacts import consent

    with db.reading() as tx:
        line = next(line for line in audit.list_last(tx) if line.verb == "lab.text")
        assert (line.person_id, line.facts) == (lead.person_id, {"texts": 1})
        assert not consent.may_text(tx, CASE)


@pytest.mark.parametrize("line", ["", "--from", "--to 12", "--live", "--from 1 2"])
def test_a_cell_that_is_written_otherwise_says_how(line, capsys):
    magic.sms(line, "menu")
    assert "%%sms --from PHONE" in capsys.readouterr().out
