import pytest
from sqlalchemy import func, select

from bot.inbound import rehearsal
from storage import schema
from storage.contacts import consent, groups
from storage.errors import Problem

CASE, LEAD = "233244120101", "233244000001"


@pytest.fixture
def programme(world):
    world.group("anc", world.case("Ama", CASE))
    return world.person("Amina Yusuf", LEAD)


def rows(db):
    with db.reading() as tx:
        return {t.name: tx.scalar(select(func.count()).select_from(t)) for t in schema.metadata.sorted_tables}


def test_a_rehearsal_shows_the_whole_conversation_and_leaves_nothing(db, programme):
    before = rows(db)
    turns = rehearsal.rehearse(db, "+" + LEAD, ["tell anc Clinic closed Friday", "ok CODE", "halt"])
    assert [turn.taken_for for turn in turns] == ["command"] * 3
    assert turns[1].text != "ok CODE" and turns[1].text.removeprefix("ok ").isdigit()
    ((to, shown),) = turns[0].out
    assert to == LEAD and turns[1].text.removeprefix("ok ") in shown
    assert rows(db) == before
    with db.reading() as tx:
        assert consent.may_text(tx, CASE)


def test_a_stop_that_was_rehearsed_stops_nobody(db, programme):
    (turn,) = rehearsal.rehearse(db, CASE, ["stop"])
    assert turn.out
    with db.reading() as tx:
        assert consent.may_text(tx, CASE)


def test_for_good_it_counts_and_shows_no_code(db, programme):
    rehearsal.text(db, LEAD, ["new lab Lab group"])
    with db.reading() as tx:
        assert groups.find(tx, "lab") is not None
    (told,) = rehearsal.text(db, LEAD, ["tell anc Clinic closed Friday"])
    assert "******" in told.out[0][1]
    before = rows(db)["operations"]
    assert rehearsal.text(db, LEAD, ["ok CODE"])[0].text == "ok CODE" and rows(db)["operations"] == before


def test_a_number_that_is_none_is_a_problem(db):
    with pytest.raises(Problem, match="number-"):
        rehearsal.rehearse(db, "12", ["menu"])
