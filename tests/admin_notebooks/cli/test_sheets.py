"""`jumbe cases` and `jumbe groups`: what a manager types and what comes back."""

import io
import json
import os
import shutil

import pytest
from openpyxl import Workbook, load_workbook

from admin_notebooks.sheets import cells
from storage import console
from storage.console import CLI
from storage.contacts import cases, groups, lookup
from storage.database import Database
from storage.sheets import imports, members
from tests.patience import HANG_S, until, work


def records(jumbe, *words):
    status, out, err = jumbe(*words, "--json")
    assert status == 0, err
    return json.loads(out)


@pytest.fixture
def programme(jumbe, tmp_path):
    (tmp_path / "people.csv").write_text(
        "external_id,name,contact_phone_number,contact_phone_number_is_verified,district\n"
        "p-1,Ama,233241234567,1,Kisumu\n"
        "p-2,Kofi,+233 24 123 4567,1,\n"
        "p-3,Binta,221771234567,0,\n"
        "p-4,Yaw,,,\n",
        encoding="utf-8",
    )
    jumbe("cases", "import", "people.csv")
    jumbe("groups", "create", "anc", "--name", "Antenatal")
    return jumbe


def test_a_sheet_of_cases_makes_them_once_and_changes_nothing_the_second_time(programme):
    again = records(programme, "cases", "import", "people.csv")
    assert again["counts"] == {"unchanged": 4}


def test_a_plan_says_what_would_happen_and_changes_nothing(programme, tmp_path):
    (tmp_path / "more.csv").write_text("external_id,name\np-1,Amma\np-9,New\n", encoding="utf-8")

    plan = records(programme, "cases", "import", "more.csv", "--plan")

    assert plan["counts"] == {"update": 1, "create": 1}
    assert plan["rows"][0]["changes"] == {"name": ["Ama", "Amma"]}
    assert records(programme, "cases", "show", "p-1")["name"] == "Ama"


def test_a_case_shows_its_properties_its_number_s_owner_and_who_waits(programme):
    ama, kofi = records(programme, "cases", "show", "p-1"), records(programme, "cases", "show", "P-2")

    assert set(ama) >= {
        "external_id", "name", "status", "contact_phone_number", "contact_phone_number_is_verified",
        "commcare_email_address", "time_zone", "language_code", "contact_backend_id",
        "case_id", "two_way", "owner_of_number", "waiting", "groups",
    }  # fmt: skip
    assert ama["two_way"] is True
    assert kofi["two_way"] is False
    assert kofi["owner_of_number"] == ama["case_id"]
    assert ama["waiting"] == [kofi["case_id"]]
    assert ama["properties"] == {"district": "Kisumu"}


def test_the_untouched_template_loads_as_no_rows(programme):
    programme("groups", "template")
    assert records(programme, "groups", "import", "anc", "cases_bulk_example.xlsx") == {"rows": [], "counts": {}}


def test_a_sheet_of_members_gives_each_row_its_verdict_and_its_excel_row(programme, tmp_path):
    book = Workbook()
    sheet = book.active
    for cell in ("Case Identifier", "p-1", None, 221771234567, "p-4", "nobody", "p1", "P-1", "1.55512E+10"):
        sheet.append([cell])
    book.save(tmp_path / "members.xlsx")

    told = records(programme, "groups", "import", "anc", "members.xlsx", "--result", "checked.xlsx")

    assert [(r["row"], r["verdict"]) for r in told["rows"]] == [
        (2, "add"), (4, "add"), (5, "no_phone"), (6, "not_found"), (7, "not_found"), (8, "duplicate"), (9, "unreadable"),
    ]  # fmt: skip
    assert told["rows"][4]["suggestion"] == "p-1"
    assert told["rows"][5]["reason"].startswith("The same case as in row 2")
    assert {m["external_id"] for m in records(programme, "groups", "members", "anc")} == {"p-1", "p-3"}
    checked = load_workbook(tmp_path / "checked.xlsx").active
    assert [cell.value for cell in checked[1]] == ["Case Identifier", "verdict", "reason", "suggestion"]
    assert checked["B6"].value == "not_found"
    again = records(programme, "groups", "import", "anc", "checked.xlsx")
    assert again["counts"]["already_in"] == 2


def test_remove_and_replace_do_what_they_say(programme, tmp_path):
    (tmp_path / "all.csv").write_text("case_identifier\np-1\np-3\n", encoding="utf-8")
    (tmp_path / "one.csv").write_text("case_identifier\np-1\np-2\n", encoding="utf-8")
    (tmp_path / "slip.csv").write_text("case_identifier\np-1\np-33\n", encoding="utf-8")
    programme("groups", "import", "anc", "all.csv")

    gone = records(programme, "groups", "import", "anc", "one.csv", "--mode", "remove")
    assert gone["counts"] == {"remove": 1, "not_member": 1}

    status, _, err = programme("groups", "import", "anc", "slip.csv", "--mode", "replace")
    assert status == 2
    assert "row 3" in err
    assert [m["external_id"] for m in records(programme, "groups", "members", "anc")] == ["p-3"]

    replaced = records(programme, "groups", "import", "anc", "one.csv", "--mode", "replace")
    assert replaced["counts"] == {"add": 2, "remove": 1}
    assert replaced["rows"][-1]["row"] is None


def test_a_result_that_cannot_be_written_is_said_before_anything_is_done(programme, tmp_path):
    (tmp_path / "more.csv").write_text("external_id\np-9\n", encoding="utf-8")
    for result in ("nowhere/out.xlsx", "."):
        status, _, err = programme("cases", "import", "more.csv", "--result", result)
        assert (status, err.startswith("jumbe: I could not write")) == (2, True)
    assert programme("cases", "show", "p-9")[0] == 2
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []


def test_a_result_that_fails_all_the_same_says_that_the_import_was_done(programme, tmp_path, monkeypatch):
    (tmp_path / "more.csv").write_text("external_id\np-9\n", encoding="utf-8")

    def full(*_):
        raise OSError("no space left")

    monkeypatch.setattr(os, "replace", full)
    status, out, err = programme("cases", "import", "more.csv", "--result", "out.xlsx")
    assert (status, "done: 1 create" in out, "The import WAS done (1 create)" in err) == (2, True, True)
    monkeypatch.undo()


def test_a_sheet_that_changes_nothing_never_takes_the_writer(programme, tmp_path, monkeypatch):
    (tmp_path / "all.csv").write_text("case_identifier\np-1\np-3\n", encoding="utf-8")
    programme("groups", "import", "anc", "all.csv")
    writer = Database(f"sqlite:///{tmp_path}/desk.db")
    with writer.transaction():
        assert records(programme, "cases", "import", "people.csv")["counts"] == {"unchanged": 4}
        assert records(programme, "groups", "import", "anc", "all.csv", "--mode", "replace")["counts"] == {
            "already_in": 2
        }
    writer.close()


def test_a_replace_by_the_untouched_template_is_refused(programme, tmp_path):
    (tmp_path / "all.csv").write_text("case_identifier\np-1\n", encoding="utf-8")
    programme("groups", "import", "anc", "all.csv")
    programme("groups", "template")
    words = ("groups", "import", "anc", "cases_bulk_example.xlsx", "--mode", "replace")

    assert "it would be refused: No row of the sheet names a case" in programme(*words, "--plan")[1]
    status, _, err = programme(*words)
    assert (status, "a replace would empty the group" in err) == (2, True)
    assert len(records(programme, "groups", "members", "anc")) == 1


def test_a_change_in_the_middle_of_an_import_makes_it_plan_again(programme, tmp_path, monkeypatch):
    (tmp_path / "all.csv").write_text("case_identifier\np-1\np-3\n", encoding="utf-8")
    plans = []
    plan_members = members.plan_members

    def disturbed(tx, *told, **more):
        plan = plan_members(tx, *told, **more)
        plans.append(plan)
        if len(plans) == 1:
            tx.connection.rollback()
            tx.connection.close()
            other = Database(f"sqlite:///{tmp_path}/desk.db")
            with other.transaction() as meanwhile:
                close = cases.Wanted(lookup.find_one(meanwhile, "p-3").id, {"status": "closed"})
                cases.save(meanwhile, [close], by=CLI)
            other.close()
        return plan

    monkeypatch.setattr(members, "plan_members", disturbed)
    told = records(programme, "groups", "import", "anc", "all.csv")
    assert [plan.counts for plan in plans] == [{"add": 2}, {"add": 1, "closed": 1}]
    assert told["counts"] == {"add": 1, "closed": 1}


def test_a_deleted_group_halts_what_waits_for_it_and_frees_its_name(programme, tmp_path):
    (tmp_path / "all.csv").write_text("case_identifier\np-1\n", encoding="utf-8")
    programme("groups", "import", "anc", "all.csv")
    sent = records(programme, "broadcasts", "launch", "--group", "anc", "--text", "hello", "--yes")

    status, out, _ = programme("groups", "delete", "anc", "--yes")

    assert status == 0
    assert f"halted: {sent['id']}" in out
    assert records(programme, "broadcasts", "show", sent["id"])["state"] == "halted"
    programme("groups", "create", "anc", "--name", "Antenatal")
    assert records(programme, "groups", "list") == [{"short": "anc", "name": "Antenatal", "members": 0}]


@pytest.mark.parametrize(
    "words",
    [
        ("cases", "import", "nowhere.csv"),
        ("cases", "show", "nobody"),
        ("groups", "create", "a"),
        ("groups", "create", "help"),
        ("groups", "members", "nowhere"),
        ("groups", "members", "anc", "--as-of", "yesterday"),
        ("groups", "import", "anc", "people.csv"),
        ("groups", "import", "nowhere", "people.csv"),
        ("people", "add", "--name", "X", "--phone", "banana", "--role", "lead"),
        ("messages", "explain", "99"),
        ("messages", "list", "--state", "lost"),
        ("broadcasts", "show", "99"),
        ("broadcasts", "launch", "--group", "anc", "--text", "hi {nme}", "--yes"),
        ("nonsense",),
        ("cases", "import"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_2(programme, words):
    status, out, err = programme(*words)

    assert status == 2
    assert err.startswith("jumbe: ")
    assert "Traceback" not in out + err
    assert err.count("\n") == 1


def test_people_are_added_changed_and_removed(jumbe):
    jumbe("groups", "create", "anc")
    added = records(jumbe, "people", "add", "--name", "Lena", "--phone", "15550100001", "--role", "lead")
    assert (added["name"], added["role"], added["groups"]) == ("Lena", "lead", "all")
    jumbe("people", "add", "--name", "Samuel", "--phone", "+1 555 010 0002", "--role", "helper", "--groups", "anc")

    changed = records(jumbe, "people", "change", "15550100002", "--role", "supervisor")
    assert (changed["role"], changed["groups"]) == ("supervisor", ["anc"])
    assert jumbe("people", "remove", "15550100001")[0] == 2
    assert jumbe("people", "remove", "15550100002")[0] == 0
    assert [p["name"] for p in records(jumbe, "people", "list")] == ["Lena"]


def test_a_large_broadcast_from_the_command_line_needs_a_lead_s_ok(programme, tmp_path, monkeypatch):
    monkeypatch.setenv("JUMBE_SECOND_PERSON_ABOVE", "1")
    (tmp_path / "all.csv").write_text("case_identifier\np-1\np-3\n", encoding="utf-8")
    programme("groups", "import", "anc", "all.csv")

    status, _, err = programme("broadcasts", "launch", "--group", "anc", "--text", "hello", "--yes")
    assert status == 2
    assert "no lead" in err

    programme("people", "add", "--name", "Lena", "--phone", "15550100001", "--role", "lead")
    asked = records(programme, "broadcasts", "launch", "--group", "anc", "--text", "hello again", "--yes")
    assert asked["state"] == "seconding"
    told = records(programme, "messages", "list", "--to", "15550100001")
    assert "Reply ok ******" in told[0]["body"]


def test_a_result_is_never_written_over_the_sheet_nor_under_another_kind_s_name(programme, tmp_path):
    before = (tmp_path / "people.csv").read_bytes()
    (tmp_path / "people.xlsx").write_bytes(before)
    assert "the sheet itself" in programme("cases", "import", "people.xlsx", "--plan", "--result", "people.xlsx")[2]
    assert (tmp_path / "people.xlsx").read_bytes() == before
    assert "must end in .xlsx" in programme("cases", "import", "people.csv", "--result", "checked.csv")[2]
    assert not (tmp_path / "checked.csv").exists()


def test_the_empty_sheet_of_cases_has_the_columns_that_the_import_reads(programme, tmp_path):
    programme("cases", "template", "--to", "people.xlsx")
    assert records(programme, "cases", "import", "people.xlsx") == {"rows": [], "counts": {}}

    book = load_workbook(tmp_path / "people.xlsx")
    columns = [cell.value for cell in book["cases"][1]]
    filled = {"external_id": "p-70", "name": "Esi", "contact_phone_number": "233244120370", "language_code": "en"}
    for column, value in filled.items():
        book["cases"].cell(2, columns.index(column) + 1, value)
    book.save(tmp_path / "people.xlsx")
    assert records(programme, "cases", "import", "people.xlsx")["counts"] == {"create": 1}
    esi = records(programme, "cases", "show", "p-70")
    assert ({column: esi[column] for column in filled}, esi["properties"]) == (filled, {})


@pytest.mark.parametrize("of", ["groups", "cases"])
def test_a_template_is_never_written_over_a_filled_one(programme, of):
    programme(of, "template")
    status, _, err = programme(of, "template")
    assert status == 2
    assert "is there already" in err


def test_a_misspelt_column_is_pointed_out(programme, tmp_path):
    (tmp_path / "slip.csv").write_text("external_id,contact_phone_nmber\np-7,233244120304\n", encoding="utf-8")
    status, _, err = programme("cases", "import", "slip.csv")
    assert status == 0
    assert "Did you mean contact_phone_number" in err


def test_every_fault_of_a_row_is_told_at_once(jumbe, tmp_path):
    (tmp_path / "bad.csv").write_text(
        "external_id,contact_phone_number,time_zone,contact_phone_number_is_verified,status\n"
        "x-1,12,Africa/Acra,maybe,gone\n",
        encoding="utf-8",
    )
    (row,) = records(jumbe, "cases", "import", "bad.csv", "--plan")["rows"]
    for part in (
        "too few digits",
        "Africa/Acra is no time zone",
        "contact_phone_number_is_verified is maybe",
        "gone is no status",
    ):
        assert part in row["reason"]
    assert row["suggestion"].startswith("Africa/Accra")
    jumbe("cases", "import", "bad.csv", "--plan", "--result", "out.xlsx")
    told = [cell.value for cell in load_workbook("out.xlsx").active[2]]
    assert "too few digits" in told[-2]
    assert "gone is no status" in told[-2]


def test_a_cell_that_cannot_be_read_is_named_by_its_column(jumbe, tmp_path):
    (tmp_path / "bad.csv").write_text("external_id,name,contact_phone_number\nx-1,#N/A,1.5E+10\n", encoding="utf-8")
    (row,) = records(jumbe, "cases", "import", "bad.csv", "--plan")["rows"]
    assert "In the column name: " in row["reason"]
    assert "In the column contact_phone_number: Excel shortened" in row["reason"]


def test_rows_that_are_fine_are_counted_and_not_listed(programme, tmp_path):
    (tmp_path / "more.csv").write_text("external_id,status\nn-1,open\nn-2,open\nn-3,gone\n", encoding="utf-8")
    _, out, _ = programme("cases", "import", "more.csv")
    assert "n-3" in out
    assert "n-1" not in out
    assert out.splitlines()[-2:] == ["2 rows are fine and not listed", "done: 2 create, 1 invalid"]


def test_a_terminal_is_not_flooded_by_a_sheet_full_of_troubled_rows(programme, tmp_path):
    rows = "".join(f"b-{n},gone\n" for n in range(300))
    (tmp_path / "bad.csv").write_text(f"external_id,status\n{rows}", encoding="utf-8")
    _, out, _ = programme("cases", "import", "bad.csv")
    assert len(out.splitlines()) == 203
    assert "... and 100 rows more: --result writes every one beside what was typed" in out


class Terminal(io.StringIO):
    """What a person sees: a stream that says it is a screen."""

    def isatty(self):
        return True


def test_long_work_is_told_on_a_terminal_in_one_line_that_goes(monkeypatch):
    screen = Terminal()
    monkeypatch.setattr("sys.stderr", screen)
    monkeypatch.setattr(console, "QUIET_S", 0.05)
    with console.working("reading people.xlsx") as step:
        step(41_000)
        until(screen.getvalue, "it is told")
    assert "\rreading people.xlsx, 41,000 rows, 0 s" in screen.getvalue()
    assert screen.getvalue().endswith("\r\x1b[K")


def test_short_work_and_work_into_a_pipe_say_nothing(monkeypatch):
    for screen, quiet_s in ((Terminal(), HANG_S), (io.StringIO(), 0.0)):
        monkeypatch.setattr("sys.stderr", screen)
        monkeypatch.setattr(console, "QUIET_S", quiet_s)
        with console.working("reading") as step:
            step(1)
            work(0.02)
        assert screen.getvalue() == ""


def counted(statements_of, count, tmp_path, empty_file, kind):
    """How many statements a sheet of so many rows takes, plan and apply, cases that are there and new ones."""
    shutil.copy(empty_file, tmp_path / f"{kind}{count}.db")
    db = Database(f"sqlite:///{tmp_path}/{kind}{count}.db")
    people = [{"external_id": f"e{n}", "name": f"N{n}", "contact_phone_number": f"2332{n:08}", "contact_phone_number_is_verified": "1"} for n in range(count)]  # fmt: skip
    with db.transaction() as tx:
        imports.apply_cases(tx, rows_of(people[: count // 2]), by=CLI)
        group = groups.create(tx, "anc", by=CLI).id
    if kind == "members":
        with db.transaction() as tx:
            imports.apply_cases(tx, rows_of(people), by=CLI)
    changed = [person | {"name": "Other", "contact_phone_number": f"2335{n:08}"} for n, person in enumerate(people)]
    wanted = [{"case_identifier": person["external_id"]} for person in people]
    with statements_of(db) as ran, db.transaction() as tx:
        if kind == "cases":
            done = imports.apply_cases(tx, rows_of(changed), by=CLI)
            assert done.counts == {"update": count // 2, "create": count - count // 2}
        else:
            assert members.apply_members(tx, group, rows_of(wanted), by=CLI).counts == {"add": count}
            assert members.apply_members(tx, group, rows_of(wanted), "remove", by=CLI).counts == {"remove": count}
    db.close()
    return len(ran)


@pytest.mark.parametrize("kind", ["cases", "members"])
def test_ten_times_the_rows_take_no_statement_more(statements_of, tmp_path, empty_file, kind):
    few, many = (counted(statements_of, count, tmp_path, empty_file, kind) for count in (300, 3000))
    assert many == few


def rows_of(records):
    return [
        cells.Row(n, {name: cells.Cell(text) for name, text in record.items()})
        for n, record in enumerate(records, start=2)
    ]
