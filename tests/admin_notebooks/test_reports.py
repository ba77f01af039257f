"""`jumbe audit`: one file to send or to print, in which nothing runs and nobody's number stands whole unasked."""

import json
import re

import pytest
from openpyxl import load_workbook

from admin_notebooks.cli import audits
from storage.database import Database
from tests.parts import library
from tests.world import World

library("pandas")
from admin_notebooks import reports

HOSTILE = '<img src=x onerror="alert(1)">'


@pytest.fixture
def programme(jumbe, tmp_path):
    db = Database(f"sqlite:///{tmp_path}/desk.db")
    world = World(db)
    ama, kofi = world.case("p-1", "233241234567", name=HOSTILE), world.case("p-2", "233241234567", name="=1+1")
    world.group("anc", ama, kofi, world.case("p-3"), name="Antenatal care")
    world.group("tb", ama)
    db.close()
    return jumbe


def test_a_report_is_one_page_that_asks_no_host_and_runs_nothing(programme, tmp_path):
    status, out, _ = programme("audit", "--group", "anc", "--to", "report.html")
    assert (status, out) == (0, "wrote report.html: Membership audit: Antenatal care: 4 findings, 0 of them urgent\n")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert HOSTILE not in page
    assert "&lt;img src=x" in page
    assert "default-src 'none'" in page
    assert not re.search(r"<(script|img|link|iframe)|(?:src|href)=[\"']?(?!#)[a-z]+:", page)
    assert page.count("<svg") == 6


def test_numbers_stand_with_their_middle_hidden_unless_asked_for(programme, tmp_path):
    programme("audit", "--to", "a.html")
    programme("audit", "--to", "b.html", "--numbers")
    masked, whole = ((tmp_path / name).read_text(encoding="utf-8") for name in ("a.html", "b.html"))
    assert "233241234567" not in masked
    assert "2332•••••567" in masked
    assert "233241234567" in whole
    assert reports.masked("12345") == "•••••"


def test_a_workbook_has_a_sheet_for_each_finding_and_no_formula(programme, tmp_path):
    programme("audit", "--group", "anc", "--to", "report.xlsx")
    book = load_workbook(tmp_path / "report.xlsx")
    assert {"audit", "shared_number", "waiting_for_number", "no_number", "over time", "by whom", "overlaps"} <= set(
        book.sheetnames
    )
    rows = list(book["shared_number"].iter_rows(values_only=True))
    assert rows[0][:4] == ("case_id", "external_id", "name", "contact_phone_number")
    assert [row[1:5] for row in rows[1:]] == [
        ("p-1", HOSTILE, "2332•••••567", "yes"),
        ("p-2", "=1+1", "2332•••••567", "no"),
    ]
    assert all(cell.data_type != "f" for sheet in book for row in sheet.iter_rows() for cell in row)
    assert oct((tmp_path / "report.xlsx").stat().st_mode & 0o777) == "0o600"


def test_without_a_file_it_is_a_table_or_json(programme):
    status, out, _ = programme("audit", "--all")
    assert status == 0
    assert "shared_number" in out
    status, out, _ = programme("audit", "--group", "tb", "--json")
    found = {row["check"]: row["count"] for row in json.loads(out)}
    assert (found["shared_number"], found["no_number"]) == (1, 0)


def test_the_commands_of_the_log_stand_under_the_same_word(programme):
    assert programme("audit", "verify")[1].startswith("Every line holds")
    assert programme("audit", "list", "--limit", "1")[0] == 0


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--group", "anx"], "no group anx"),
        (["--all", "--since", "spring"], "spring is no moment"),
        (["--all", "--to", "report.pdf"], "ends in .html or .xlsx"),
        (["--all", "--to", "nowhere/report.html"], "could not write"),
        (["--since", "2026-01-01"], "--group SHORT or --all"),
    ],
)
def test_a_mistake_is_one_sentence(programme, words, says):
    status, out, err = programme("audit", *words)
    assert (status, out) == (2, "")
    assert says in err


def test_without_the_desk_s_libraries_it_says_what_to_install(programme, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "admin_notebooks.checks", None)
    monkeypatch.delattr("admin_notebooks.checks", raising=False)
    status, _, err = programme("audit", "--all")
    assert (status, err) == (2, f"jumbe: {audits.MISSING}\n")


def test_since_a_day_only_what_happened_since_is_told(programme, tmp_path):
    programme("audit", "--group", "anc", "--since", "2999-01-01", "--to", "late.html")
    assert "There is nothing to show yet." in (tmp_path / "late.html").read_text(encoding="utf-8")
