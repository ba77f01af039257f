"""The panels without a browser: every question of a page gets an answer or a sentence, and a click counts once."""

import io
import logging

import pytest
from openpyxl import load_workbook

from admin_notebooks.desk import Desk
from tests.parts import library
from tests.world import inside

library("anywidget")
from admin_notebooks.panels.case_groups import CaseGroups
from admin_notebooks.panels.cases import Cases
from tests.pages import ROOT

PANELS = ROOT / "admin_notebooks" / "panels"

pytestmark = pytest.mark.filterwarnings("default::DeprecationWarning")


@pytest.fixture
def anc(world):
    for n in range(3):
        world.case(f"p-{n}", f"23324412345{n}", name="<img src=x onerror=alert(1)>")
    return world.group("anc", world.case("p-8", "233244123458"), name="Antenatal care")


@pytest.fixture
def panel(db, anc):
    return CaseGroups(Desk(db, None, "01_case_groups"))


@pytest.fixture
def ask(panel):
    """A question as the page sends it; the result, or `problem` in words."""

    def asked(verb, data=None, **args):
        answer, buffers = panel.answer({"id": 1, "verb": verb, "args": args}, [data] if data else [])
        return buffers[0] if buffers else answer.get("result", answer.get("problem"))

    return asked


def test_a_page_draws_itself_from_a_few_questions(ask):
    assert ask("who")["role"] == "lead"
    assert ask("groups") == [{"short": "anc", "name": "Antenatal care", "members": 1}]
    assert ask("group", short="anc")["two_way"] == 1
    assert ask("members", short="anc", search="p-8")["count"] == 1
    assert ask("history", short="anc")[0]["did"] == "add"
    assert ask("case", case_id="p-8")["groups"] == ["anc"]
    assert ask("ping") is True


def test_what_the_panel_sends_carries_the_number_of_its_question(panel, monkeypatch):
    sent = []
    monkeypatch.setattr(panel, "send", lambda content, buffers=None: sent.append((content, buffers)))
    panel._hear(panel, {"id": 7, "verb": "ping", "args": {}}, [])
    panel._hear(panel, {"id": 8, "verb": "template", "args": {}}, [])
    panel._hear(panel, "not a question", [])
    assert sent[0] == ({"id": 7, "result": True}, [])
    assert sent[1][0] == {"id": 8, "result": {}}
    assert sent[1][1][0].startswith(b"PK")
    assert len(sent) == 2


def test_a_sheet_is_planned_confirmed_once_and_taken_back(db, ask, anc):
    told = ask("upload", short="anc", name="june.csv", mode="add", data=b"case_identifier\np-0\nnobody\np-8\n")
    assert (told["says"], told["counts"]) == (
        "Add 1 case to Antenatal care",
        {"not_found": 1, "add": 1, "already_in": 1},
    )
    assert [row["row"] for row in told["rows"]] == [3, 2, 4]
    assert [row["identifier"] for row in ask("rows", mark=told["mark"], verdict="not_found")] == ["nobody"]
    done = ask("confirm", mark=told["mark"])
    assert done == ask("confirm", mark=told["mark"])
    assert inside(db, anc) == ["p-8", "p-0"]
    checked = load_workbook(io.BytesIO(ask("result", mark=told["mark"]))).active
    assert [cell.value for cell in checked[3]][:2] == ["nobody", "not_found"]
    assert ask("undo", number=done["number"])["says"].startswith("1 case out of Antenatal care (anc) again")
    assert "taken back already" in ask("undo", number=done["number"])
    assert inside(db, anc) == ["p-8"]


def test_one_is_added_and_some_ticked_are_taken_out(db, ask, anc):
    (row,) = ask("add", short="anc", typed="nobody")["rows"]
    assert (row["verdict"], "nobody" in row["reason"]) == ("not_found", True)
    ask("confirm", mark=ask("add", short="anc", typed="p-0")["mark"])
    ids = [member["case_id"] for member in ask("members", short="anc")["rows"]]
    assert ask("confirm", mark=ask("remove", short="anc", case_ids=ids)["mark"])["says"].startswith("2 cases removed")
    assert inside(db, anc) == []


def test_what_another_changed_comes_back_as_a_plan_to_look_at_again(db, ask, anc):
    mine = ask("upload", b"case_identifier\np-0\n", short="anc", name="a.csv", mode="replace")
    Desk(db, None, "another page").add("anc", "p-1").confirm()

    again = ask("confirm", mark=mine["mark"])

    assert again["stale"].startswith("Somebody changed the group")
    assert again["meanwhile"][0] == "The system's own user added 1 case to it."
    assert [row["verdict"] for row in again["rows"]] == ["remove", "remove", "add"]
    assert inside(db, anc) == ["p-8", "p-1"]
    assert ask("outcome", mark=again["mark"]) is None
    done = ask("confirm", mark=again["mark"])
    assert inside(db, anc) == ["p-0"]
    assert ask("outcome", mark=again["mark"]) == done, "a page that never heard the answer can ask for it"


def test_a_group_is_made_renamed_and_deleted_by_its_typed_name(ask):
    assert (
        ask("confirm", mark=ask("create", short="tb", name="TB treatment")["mark"])["says"]
        == "TB treatment (tb) is made."
    )
    assert "already" in ask("confirm", mark=ask("create", short="tb", name="Other")["mark"])
    assert ask("confirm", mark=ask("rename", short="tb", name="Tuberculosis")["mark"])["undoable"]
    deletion = ask("delete", short="tb")
    assert ask("confirm", mark=deletion["mark"], typed="tp").startswith("Type tb to confirm")
    assert ask("confirm", mark=deletion["mark"], typed="tb")["says"] == "Tuberculosis is deleted."


def test_a_bug_is_a_reference_for_the_page_and_a_line_in_the_log(panel, ask, monkeypatch, caplog):
    monkeypatch.setattr(panel, "do_ping", lambda: 1 // 0)
    with caplog.at_level(logging.ERROR):
        told = ask("ping")
    reference = told.rstrip(".").rsplit(" ", 1)[-1]
    assert "nothing was changed" in told
    assert reference in caplog.text
    assert "ZeroDivisionError" in caplog.text


def test_a_question_that_nobody_answers_and_a_plan_that_is_gone_are_sentences(ask):
    assert ask("drop_everything").startswith("This page has no such button, so nothing was done.")
    assert ask("members", short="anc", wrong=1).startswith("The page sent a value that this button does not take")
    assert ask("confirm", mark="desk:forged") == "This plan is no longer kept: make it again."


def test_old_plans_are_forgotten(panel, ask):
    marks = [ask("rename", short="anc", name=f"N {n}")["mark"] for n in range(60)]
    assert len(panel._proposals) == 50
    assert ask("confirm", mark=marks[0]).startswith("This plan is no longer kept")


def test_a_page_of_a_case_draws_itself_and_changes_it(db, anc):
    panel = Cases(Desk(db, None, "02_cases"))

    def ask(verb, **args):
        answer, _ = panel.answer({"id": 1, "verb": verb, "args": args}, [])
        return answer.get("result", answer.get("problem"))

    assert ask("find", search="p-8")["count"] == 1
    assert ask("case", case_id="p-8")["number"]["says"].startswith("This case owns the number")
    assert "no case p-80" in ask("case", case_id="p-80")
    assert ask("texts", case_id="p-8", before=1) == []
    told = ask("change", case_id="p-8", values={"name": "<b>Ama</b>"})
    assert (told["says"], told["rows"][0]["changes"]) == ("Change the name of P-8", {"name": ["P-8", "<b>Ama</b>"]})
    done = ask("confirm", mark=told["mark"])
    assert done == ask("confirm", mark=told["mark"])
    assert ask("changes", case_id="p-8")[0]["changes"] == {"name": ["P-8", "<b>Ama</b>"]}
    assert ask("undo", number=done["number"])["says"] == "1 case is as before."


def test_a_sheet_of_cases_is_planned_done_once_and_comes_back_checked(db, anc):
    panel = Cases(Desk(db, None, "02_cases"))

    def ask(verb, data=None, **args):
        answer, buffers = panel.answer({"id": 1, "verb": verb, "args": args}, [data] if data else [])
        return buffers[0] if buffers else answer.get("result", answer.get("problem"))

    data = b"external_id,name,time_zone,owner_name\np-8,Ama,,Esi\nnew,=1+1,Africa/Accra,\np-0,,Africa/Acra,\np-1,--,,\n"
    told = ask("upload", data, name="export.csv")
    assert (told["says"], told["counts"]) == ("Create 1 case, change 2 cases", {"invalid": 1, "update": 2, "create": 1})
    assert [row["row"] for row in told["rows"]] == [4, 2, 3, 5]
    assert told["rows"][1]["changes"] == {"name": ["P-8", "Ama"], "owner_name": [None, "Esi"]}
    assert [row["identifier"] for row in ask("rows", mark=told["mark"], verdict="create")] == ["new"]
    done = ask("confirm", mark=told["mark"])
    assert done == ask("confirm", mark=told["mark"])
    assert ask("case", case_id="new")["name"] == "=1+1"
    checked = load_workbook(io.BytesIO(ask("result", mark=told["mark"]))).active
    assert [cell.value for cell in checked[4]][-3:-1][0] == "invalid"
    assert "Africa/Accra" in checked[4][-2].value
    assert checked[3][1].data_type == "s"
    everybody = ask("everybody")
    assert ask("upload", everybody, name="all.xlsx")["says"] == "Nothing to do"
    assert [cell.value for cell in load_workbook(io.BytesIO(ask("template"))).active[1]][:2] == ["external_id", "name"]
    assert ask("undo", number=done["number"])["says"] == "2 cases are as before, 1 case that was made is closed."


def test_all_cases_leave_for_leads_alone(db, world, anc):
    panel = Cases(Desk(db, world.person("Yaw", "233241110002", "supervisor", "anc").id))
    for verb in ("everybody", "upload"):
        args, data = ({"name": "a.csv"}, [b"external_id\np-8\n"]) if verb == "upload" else ({}, [])
        answer, buffers = panel.answer({"id": 1, "verb": verb, "args": args}, data)
        assert ("ask a lead" in answer["problem"], buffers) == (True, [])


def test_no_script_of_ours_reads_text_as_html_or_asks_another_host():
    for source in (CaseGroups._esm, CaseGroups._css, Cases._esm, Cases._css):
        text = str(source)
    for file in (*PANELS.glob("*.js"), *PANELS.glob("*.css")):
        text = file.read_text(encoding="utf-8")
        for word in (
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "http:",
            "https:",
            "@import",
            "//cdn",
        ):
            assert word not in text, word
