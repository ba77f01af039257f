import pytest

from tests.parts import library

library("anywidget")

from admin_notebooks import lab
from admin_notebooks.desk import Desk
from admin_notebooks.panels import start_here
from storage.errors import Problem

LEAD, VIEWER = "233244000001", "233244000002"


@pytest.fixture
def desks(db, world):
    world.group("anc", world.case("Ama", "233244120101"))
    return {
        "lead": Desk(db, world.person("Amina Yusuf", LEAD).id, "00_start_here"),
        "viewer": Desk(db, world.person("Kofi", VIEWER, "viewer").id, "00_start_here"),
    }


def asked(desk, verb, **args):
    answer, _ = start_here.panel(desk).answer({"verb": verb, "args": args}, [])
    return answer


def test_a_lead_sees_whether_everything_is_well_and_others_who_they_are(desks):
    told = asked(desks["lead"], "start")["result"]
    assert (told["groups"], told["cases"], told["phone"]) == (1, 1, LEAD)
    lines = {line["name"]: line for line in told["lines"]}
    assert lines["database"]["well"] and not lines["worker"]["well"] and "jumbe worker" in lines["worker"]["says"]
    assert "01_case_groups" in told["pages"]
    assert asked(desks["viewer"], "start")["result"]["lines"] is None
    with pytest.raises(Problem, match="right-missing"):
        lab.examine(desks["viewer"])


def test_who_is_in_two_groups_counts_once(desks, world):
    ama = world.case("Abena", "233244120105")
    world.group("tb", ama)
    world.group("mothers", ama)
    told = asked(desks["lead"], "start")["result"]
    assert (told["groups"], told["cases"]) == (3, 2)


def test_the_bot_is_tried_from_ones_own_phone_and_by_a_lead_from_every(desks):
    assert asked(desks["viewer"], "converse", phone="+" + VIEWER, texts="menu\n\n")["result"][0]["out"]
    assert asked(desks["lead"], "converse", phone=VIEWER, texts="menu")["result"][0]["taken_for"] == "command"
    assert "problem" in asked(desks["viewer"], "converse", phone=LEAD, texts="menu")
    assert "problem" in asked(desks["lead"], "converse", phone="12", texts="menu")
    with pytest.raises(Problem, match="right-missing"):
        lab.converse(desks["viewer"], VIEWER, ["menu"], live=True)


def test_of_many_lines_ten_are_tried(desks):
    assert len(asked(desks["lead"], "converse", phone=LEAD, texts="menu\n" * 50)["result"]) == 10
