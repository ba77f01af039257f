"""The rules of reading and writing sheets, on real files: workbooks by openpyxl, workbooks taken apart, raw bytes."""

# ruff: noqa: DTZ001 (the dates of a workbook have no zone)
from __future__ import annotations

import csv
import hashlib
import io
import os
import tomllib
import zipfile
from datetime import datetime, timedelta
from datetime import time as clock_time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openpyxl import load_workbook

from admin_notebooks.sheets import cells, csv_reader, reader, workbook_reader
from admin_notebooks.sheets.cells import Cell, Row, Sheet
from admin_notebooks.sheets.reader import read
from admin_notebooks.sheets.writer import write_result, write_template
from storage import console
from storage.errors import Problem
from tests.admin_notebooks.sheets.workbooks import (
    HEADER_XML,
    WANTED,
    column,
    inline,
    problem,
    raw,
    repacked,
    sheet_data,
    with_sheet_xml,
    workbook_of,
)
from tests.patience import cpu_used_s


def identifiers(sheet: Sheet, name: str = "case_identifier") -> list[str]:
    return [row.cells[name].text if name in row.cells else "" for row in sheet.rows]


def only_cell(path: Path) -> Cell:
    (row,) = read(path, wanted=WANTED).rows
    return row.cells["case_identifier"]


# ------------------------------------------------------------------------------------------ which file


def test_a_missing_file_a_directory_and_an_empty_file_are_told_apart(tmp_path: Path) -> None:
    assert problem(tmp_path / "no.xlsx") == ("sheet-missing-file", {"path": "no.xlsx"})
    assert problem(str(tmp_path)) == ("sheet-other-kind", {"path": tmp_path.name, "kind": "a folder"})
    assert problem(raw(tmp_path / "nil.xlsx", b"")) == ("sheet-empty", {"path": "nil.xlsx"})
    assert problem(tmp_path / "a\0b.csv")[0] == "sheet-missing-file"


@pytest.mark.parametrize(
    ("data", "key"),
    [
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), "sheet-old-excel"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600) + "EncryptedPackage".encode("utf-16-le"), "sheet-password"),
        (b"<!DOCTYPE html><html><table><tr><td>case_identifier", "sheet-other-kind"),
        (b"\xef\xbb\xbf\r\n <table><tr><td>case_identifier", "sheet-other-kind"),
        ("<html>case_identifier".encode("utf-16"), "sheet-other-kind"),
        (b"<?xml version='1.0'?><Workbook/>", "sheet-not-a-sheet"),
        (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", "sheet-other-kind"),
        (b"{\\rtf1 case_identifier}", "sheet-other-kind"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "sheet-other-kind"),
        (b"case_identifier\nHH\0-1\n", "sheet-not-a-sheet"),
        ("case_identifier\nHH-1\n".encode("utf-16-le"), "sheet-not-a-sheet"),
        (b"case_identifier\n\x81\x8d\xff\n", "sheet-not-a-sheet"),
        (b"PK\x03\x04 torn off", "sheet-not-a-sheet"),
        (b"PK\x05\x06" + bytes(18), "sheet-not-a-sheet"),
        (b"\xef\xbb\xbf", "sheet-empty"),
        (b" \r\n\t\n\n", "sheet-empty"),
        (b",,,\n,,\n", "sheet-empty"),
    ],
)
@pytest.mark.parametrize("name", ["cases.xlsx", "cases.csv"])
def test_what_is_no_sheet_is_refused_by_its_content_whatever_its_name(
    tmp_path: Path, name: str, data: bytes, key: str
) -> None:
    told, values = problem(raw(tmp_path / name, data))
    assert (told, values["path"]) == (key, name)


def test_the_content_decides_and_not_the_name(tmp_path: Path) -> None:
    assert identifiers(read(column(tmp_path / "really.xlsx", "HH-1").rename(tmp_path / "book.csv"), wanted=WANTED)) == [
        "HH-1"
    ]
    assert identifiers(read(raw(tmp_path / "text.xlsx", "case_identifier\nHH-1\n"), wanted=WANTED)) == ["HH-1"]
    assert identifiers(read(raw(tmp_path / "no_suffix", "case_identifier\nHH-1\n"))) == ["HH-1"]


def test_another_zip_and_a_broken_workbook_are_no_sheet(tmp_path: Path) -> None:
    other = tmp_path / "letter.xlsx"
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("word/document.xml", "<w/>")
    assert problem(other) == ("sheet-other-kind", {"path": "letter.xlsx", "kind": "a Word document"})
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("anything", "")
    assert problem(other) == ("sheet-not-a-sheet", {"path": "letter.xlsx"})
    torn = with_sheet_xml(column(tmp_path / "torn.xlsx", "HH-1"), b"</sheetData>", b"")
    assert problem(torn) == ("sheet-not-a-sheet", {"path": "torn.xlsx"})
    whole = column(tmp_path / "bits.xlsx", *(f"HH-{n}" for n in range(200))).read_bytes()
    for cut in (40, len(whole) // 2, len(whole) - 10):
        assert problem(raw(tmp_path / "bits.xlsx", whole[:cut]))[0] == "sheet-not-a-sheet"


def test_a_workbook_with_nothing_in_it_is_empty(tmp_path: Path) -> None:
    assert problem(workbook_of(tmp_path / "blank.xlsx", [], [[None, "  "]]), wanted=WANTED) == (
        "sheet-empty",
        {"path": "blank.xlsx"},
    )


def test_the_digest_is_the_sha256_of_the_file(tmp_path: Path) -> None:
    path = raw(tmp_path / "a.csv", "case_identifier\nHH-1\n")
    assert read(path).digest == hashlib.sha256(path.read_bytes()).hexdigest()


# ------------------------------------------------------------------------------------------ the gate


def test_a_file_over_the_limit_is_refused_before_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "big.csv"
    with path.open("wb") as file:
        file.truncate(50 * 2**20 + 1)
    assert problem(path) == ("sheet-too-large", {"path": "big.csv"})
    monkeypatch.setattr(workbook_reader, "MAX_UNZIPPED", 4_000)
    assert problem(column(tmp_path / "unzips.xlsx", "HH-1")) == ("sheet-too-large", {"path": "unzips.xlsx"})


def test_the_limits_are_those_that_the_page_states() -> None:
    assert (reader.MAX_BYTES, workbook_reader.MAX_UNZIPPED, workbook_reader.MAX_MEMBERS, workbook_reader.MAX_RATIO) == (
        52_428_800,
        536_870_912,
        1_000,
        200,
    )
    assert (cells.MAX_ROWS, cells.MAX_EMPTY_RUN) == (1_048_576, 10_000)


@pytest.mark.parametrize(
    "extra",
    [
        [("xl/comments1.xml", b"<a>" + b" " * (4 * 2**20))],
        [(f"xl/{n}.xml", b"<a/>") for n in range(1_000)],
        [("xl/evil.xml", b'<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY a "b">]><a/>')],
        [("xl/evil.xml", '<?xml version="1.0"?><!doctype a><a/>'.encode("utf-16"))],
    ],
    ids=["ratio", "members", "document type", "document type in UTF-16"],
)
def test_a_workbook_built_to_exhaust_its_reader_is_refused(tmp_path: Path, extra: list[tuple[str, bytes]]) -> None:
    path = repacked(column(tmp_path / "bomb.xlsx", "HH-1"), lambda _, data: data, extra)
    assert problem(path) == ("sheet-hostile", {"path": "bomb.xlsx"})


def test_a_document_type_in_the_sheet_itself_is_refused(tmp_path: Path) -> None:
    path = with_sheet_xml(column(tmp_path / "x.xlsx", "HH-1"), b"<worksheet", b"<!DOCTYPE x><worksheet")
    assert problem(path)[0] == "sheet-hostile"


def test_a_picture_with_a_document_type_is_nobody_s_enemy(tmp_path: Path) -> None:
    logo = ("xl/media/logo.svg", b"<!DOCTYPE svg><svg/>")
    assert only_cell(repacked(column(tmp_path / "x.xlsx", "HH-1"), lambda _, data: data, [logo])).text == "HH-1"


@pytest.mark.parametrize("declared", [b"A1:A1048577", b"A1:XFE2", b"A1:ZZZZ9", b"A1:A99999999999999999999"])
def test_a_dimension_that_excel_cannot_have_is_refused(tmp_path: Path, declared: bytes) -> None:
    path = with_sheet_xml(column(tmp_path / "x.xlsx", "HH-1"), b'ref="A1:A2"', b'ref="' + declared + b'"')
    assert problem(path) == ("sheet-hostile", {"path": "x.xlsx"})


@pytest.mark.parametrize("declared", [b"A1", b"A1:A1", b"A1:XFD1048576"])
def test_a_dimension_that_is_only_wrong_is_not_believed(tmp_path: Path, declared: bytes) -> None:
    path = with_sheet_xml(column(tmp_path / "x.xlsx", "HH-1", "HH-2"), b'ref="A1:A3"', b'ref="' + declared + b'"')
    assert identifiers(read(path, wanted=WANTED)) == ["HH-1", "HH-2"]


@pytest.mark.parametrize("row", [1_048_576, 99_999_999_999])
def test_one_cell_far_away_costs_no_time(tmp_path: Path, row: int) -> None:
    xml = f'{HEADER_XML}<row r="2">{inline("A2", "HH-1")}</row><row r="{row}">{inline(f"XFD{row}", "x")}</row>'
    path = sheet_data(tmp_path / "far.xlsx", xml)
    used = cpu_used_s()
    assert identifiers(read(path, wanted=WANTED)) == ["HH-1"]
    assert cpu_used_s() - used < 3


def test_a_row_after_ten_thousand_empty_ones_is_still_read_and_none_after_more(tmp_path: Path) -> None:
    near = sheet_data(tmp_path / "near.xlsx", f'{HEADER_XML}<row r="10002">{inline("A10002", "HH-1")}</row>')
    assert [row.number for row in read(near, wanted=WANTED).rows] == [10_002]
    far = sheet_data(tmp_path / "far.xlsx", f'{HEADER_XML}<row r="10003">{inline("A10003", "HH-1")}</row>')
    assert read(far, wanted=WANTED).rows == ()


def test_rows_beyond_the_limit_are_refused_and_never_dropped_in_silence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (reader, workbook_reader, csv_reader):
        monkeypatch.setattr(module, "MAX_ROWS", 3)
    assert len(read(column(tmp_path / "x.xlsx", "a", "b")).rows) == 2
    assert problem(column(tmp_path / "x.xlsx", "a", "b", "c")) == ("sheet-too-large", {"path": "x.xlsx"})
    assert problem(raw(tmp_path / "x.csv", "case_identifier\na\nb\nc\n")) == ("sheet-too-large", {"path": "x.csv"})


def test_a_header_in_column_5000_is_too_large(tmp_path: Path) -> None:
    path = sheet_data(
        tmp_path / "wide.xlsx", f'<row r="1">{inline("A1", "case_identifier")}{inline("GJH1", "far")}</row>'
    )
    assert problem(path) == ("sheet-too-large", {"path": "wide.xlsx"})


# ------------------------------------------------------------------------------------------ header and worksheet


@pytest.mark.parametrize(
    "typed",
    ["Case Identifier", "CASE_IDENTIFIER", "  case-identifier ", "case \xa0identifier", "\u200bCase – Identifier"],
)
@pytest.mark.parametrize("kind", ["xlsx", "csv"])
def test_the_header_is_found_however_it_is_typed(tmp_path: Path, typed: str, kind: str) -> None:
    path = tmp_path / f"x.{kind}"
    sheet = read(
        workbook_of(path, [[typed], ["HH-1"]]) if kind == "xlsx" else raw(path, f"{typed}\nHH-1\n"), wanted=WANTED
    )
    assert sheet.columns == ("case_identifier",)
    assert identifiers(sheet) == ["HH-1"]


def test_headers_are_kept_as_typed_beside_their_folded_names(tmp_path: Path) -> None:
    sheet = read(
        workbook_of(tmp_path / "x.xlsx", [["Case Identifier", None, "Home-Village", 2024], ["HH-1", "?", "Kisumu", 7]])
    )
    assert sheet.columns == ("case_identifier", "home_village", "2024")
    assert sheet.headers == ("Case Identifier", "Home-Village", "2024")
    assert sheet.rows == (Row(2, {"case_identifier": Cell("HH-1"), "home_village": Cell("Kisumu"), "2024": Cell("7")}),)


def test_a_title_above_the_header_does_no_harm(tmp_path: Path) -> None:
    rows: list[list[object]] = [["Cases of Kisumu, May"], [], ["name", "Case Identifier"], ["Amina", "HH-1"]]
    sheet = read(workbook_of(tmp_path / "x.xlsx", rows), wanted=WANTED)
    assert (sheet.columns, [row.number for row in sheet.rows]) == (("name", "case_identifier"), [4])


def test_the_header_stands_among_the_first_ten_rows_that_are_not_empty(tmp_path: Path) -> None:
    tenth = [["note"], []] * 9 + [["case_identifier"], ["HH-1"]]
    assert [row.number for row in read(workbook_of(tmp_path / "x.xlsx", tenth), wanted=WANTED).rows] == [20]
    eleventh = [["note"]] * 10 + [["case_identifier"], ["HH-1"]]
    assert problem(workbook_of(tmp_path / "x.xlsx", eleventh), wanted=WANTED)[0] == "sheet-no-column"


def test_the_worksheet_with_a_wanted_column_is_read_wherever_it_stands(tmp_path: Path) -> None:
    path = workbook_of(
        tmp_path / "x.xlsx",
        [["read me"], ["please"]],
        [],
        [["case_identifier"], ["HH-1"]],
        [["case_identifier"], ["HH-2"]],
    )
    assert identifiers(read(path, wanted=WANTED)) == ["HH-1"]
    assert read(path).columns == ("read_me",)
    assert read(path, wanted={"please", "case_identifier"}).columns == ("please",)


def test_a_visible_worksheet_goes_before_a_hidden_one(tmp_path: Path) -> None:
    book = load_workbook(
        workbook_of(tmp_path / "x.xlsx", [["case_identifier"], ["old"]], [["case_identifier"], ["new"]])
    )
    book.worksheets[0].sheet_state = "hidden"
    book.active = 1
    book.save(tmp_path / "x.xlsx")
    assert identifiers(read(tmp_path / "x.xlsx", wanted=WANTED)) == ["new"]


def test_a_missing_column_names_what_was_wanted_and_what_is_there(tmp_path: Path) -> None:
    path = workbook_of(tmp_path / "x.xlsx", [["Phone", "Name"], ["15551234567", "Amina"]])
    assert problem(path, wanted=["Case Identifier"]) == (
        "sheet-no-column",
        {"wanted": "case_identifier", "found": "Phone, Name"},
    )
    assert problem(raw(tmp_path / "x.csv", "Phone;Name\n1;A\n"), wanted={"name_x", "case_id"}) == (
        "sheet-no-column",
        {"wanted": "case_id or name_x", "found": "Phone, Name"},
    )


def test_a_missing_column_in_a_sheet_of_fifty_does_not_list_them_all(tmp_path: Path) -> None:
    path = raw(tmp_path / "x.csv", ",".join(f"column {n}" for n in range(50)) + "\n")
    found = str(problem(path, wanted=WANTED)[1]["found"])
    assert found.endswith("column 11, ...")


@pytest.mark.parametrize("kind", ["xlsx", "csv"])
def test_identifiers_without_a_header_are_recognised_as_such(tmp_path: Path, kind: str) -> None:
    values = ["15551234567", "HH-001"]
    path = tmp_path / f"x.{kind}"
    key, holes = problem(
        workbook_of(path, [[v] for v in values]) if kind == "xlsx" else raw(path, "\n".join(values)), wanted=WANTED
    )
    assert key == "sheet-no-column"
    assert holes["wanted"] == "case_identifier"
    assert str(holes["found"]).startswith('"15551234567", which looks like an identifier and not like a header')


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    path = workbook_of(tmp_path / "x.xlsx", [["Case Identifier", "name", "case_identifier"], ["a", "b", "c"]])
    assert problem(path, wanted=WANTED) == ("sheet-column-twice", {"column": "case_identifier"})


# ------------------------------------------------------------------------------------------ rows


@pytest.mark.parametrize("kind", ["xlsx", "csv"])
def test_empty_rows_are_skipped_and_the_numbers_stay_those_of_excel(tmp_path: Path, kind: str) -> None:
    values = ["HH-1", "", "  ", "\u200b", "HH-2", "", "HH-3"]
    path = tmp_path / f"x.{kind}"
    sheet = read(
        column(path, *values) if kind == "xlsx" else raw(path, "\r\n".join(["case_identifier", *values])), wanted=WANTED
    )
    assert [(row.number, row.cells["case_identifier"].text) for row in sheet.rows] == [
        (2, "HH-1"),
        (6, "HH-2"),
        (8, "HH-3"),
    ]


def test_an_identifier_typed_beside_its_column_is_a_row_without_one_and_not_no_row(tmp_path: Path) -> None:
    assert read(workbook_of(tmp_path / "x.xlsx", [["case_identifier"], [None, "HH-1"]]), wanted=WANTED).rows == (
        Row(2, {}),
    )
    assert read(raw(tmp_path / "x.csv", "case_identifier,\n,HH-1\n"), wanted=WANTED).rows == (Row(2, {}),)


def test_a_blank_cell_is_missing_from_its_row(tmp_path: Path) -> None:
    (row,) = read(workbook_of(tmp_path / "x.xlsx", [["a", "b", "c"], [None, 0, " "]])).rows
    assert row.cells == {"b": Cell("0")}


# ------------------------------------------------------------------------------------------ cells


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (15551234567, "15551234567"),
        (15551234567.0, "15551234567"),
        (919812345678, "919812345678"),
        (999999999999999, "999999999999999"),
        (1e14, "100000000000000"),
        (0, "0"),
        (-7, "-7"),
        (1.5, "1.5"),
        (0.1 + 0.2, "0.3"),
        (1e-07, "0.0000001"),
        (True, "TRUE"),
        (False, "FALSE"),
        ("0042", "0042"),
        ("+1 (555) 123-4567", "+1 (555) 123-4567"),
        ("  HH-001\t", "HH-001"),
        ("\u202a+15551234567\u202c", "+15551234567"),
        ("\xa0\u200bHH 1\ufeff\xa0", "HH 1"),
        ("a\xa0b", "a\xa0b"),
        ("1E5", "1E5"),
        ("NA", "NA"),
        ("N/A", "N/A"),
        ("#1", "#1"),
        ("HH-1_x000D_", "HH-1"),
    ],
)
def test_a_cell_reads_as_a_person_reads_it(tmp_path: Path, value: object, text: str) -> None:
    assert only_cell(column(tmp_path / "x.xlsx", value)) == Cell(text)


@pytest.mark.parametrize(
    ("value", "text", "words"),
    [
        ("1.55512E+10", "1.55512E+10", "Format the column as Text"),
        ("9,19812e+11", "9,19812e+11", "Format the column as Text"),
        ("1E+10", "1E+10", "Format the column as Text"),
        (1234567890123456, "1234567890123456", "15 digits"),
        (1.25e19, "12500000000000000000", "15 digits"),
        (datetime(2024, 5, 1), "2024-05-01", "turned this into a date"),
        (datetime(2024, 5, 1, 13, 30), "2024-05-01T13:30:00", "turned this into a date"),
        (clock_time(13, 30), "13:30:00", "turned this into a date"),
        (timedelta(hours=30), "1 day, 6:00:00", "turned this into a date"),
        ("#N/A", "#N/A", "instead of a value"),
        ("#REF!", "#REF!", "instead of a value"),
        ("#NAME?", "#NAME?", "instead of a value"),
        ("#DIV/0!", "#DIV/0!", "instead of a value"),
        ("########", "########", "widen the column"),
    ],
)
def test_a_cell_that_cannot_be_trusted_says_why_and_what_to_do(
    tmp_path: Path, value: object, text: str, words: str
) -> None:
    cell = only_cell(column(tmp_path / "x.xlsx", value))
    assert cell.text == text
    assert words in str(cell.fault)


def test_a_date_that_excel_cannot_show_is_an_error_value(tmp_path: Path) -> None:
    path = column(tmp_path / "x.xlsx", datetime(2024, 5, 1))
    cell = only_cell(with_sheet_xml(path, b"<v>45413</v>", b"<v>99999999999</v>"))
    assert (cell.text, bool(cell.fault)) == ("#VALUE!", True)


def test_a_formula_without_a_stored_value_is_a_fault_and_no_blank(tmp_path: Path) -> None:
    path = column(tmp_path / "x.xlsx", "=A1&B1", "HH-2", "=A9")
    sheet = read(path, wanted=WANTED)
    assert [(row.number, row.cells["case_identifier"].text) for row in sheet.rows] == [
        (2, "=A1&B1"),
        (3, "HH-2"),
        (4, "=A9"),
    ]
    assert [bool(row.cells["case_identifier"].fault) for row in sheet.rows] == [True, False, True]
    assert "paste it as values" in str(sheet.rows[0].cells["case_identifier"].fault)


def test_a_formula_with_a_stored_value_reads_as_that_value_and_an_empty_result_is_blank(tmp_path: Path) -> None:
    cells = [
        '<row r="2"><c r="A2" t="str"><f>B2&amp;"1"</f><v>HH-1</v></c></row>',
        '<row r="3"><c r="A3"><f t="shared" ref="A3:A4" si="0">B3</f><v>15551234567</v></c></row>',
        '<row r="4"><c r="A4"><f t="shared" si="0"/></c></row>',
        '<row r="5"><c r="A5" t="str"><f>IF(B5="","",B5)</f><v></v></c></row>',
        '<row r="6"><c r="A6" t="e"><f>NA()</f><v>#N/A</v></c></row>',
    ]
    sheet = read(sheet_data(tmp_path / "x.xlsx", HEADER_XML + "".join(cells)), wanted=WANTED)
    read_cells = {row.number: row.cells["case_identifier"] for row in sheet.rows}
    assert [read_cells[2], read_cells[3]] == [Cell("HH-1"), Cell("15551234567")]
    assert read_cells[4].text == "=..."
    assert 5 not in read_cells
    assert read_cells[6].text == "#N/A"
    assert all(read_cells[number].fault for number in (4, 6))


def test_text_that_begins_like_a_formula_is_text(tmp_path: Path) -> None:
    path = sheet_data(tmp_path / "x.xlsx", f'{HEADER_XML}<row r="2">{inline("A2", "=1+1")}</row>')
    assert only_cell(path) == Cell("=1+1")


def test_a_sheet_of_ten_thousand_rows_is_read_in_a_few_seconds(tmp_path: Path) -> None:
    xml = "".join(
        f'<row r="{n}">{inline(f"A{n}", f"HH-{n}")}<c r="B{n}"><v>{n}</v></c></row>' for n in range(2, 10_002)
    )
    path = sheet_data(tmp_path / "x.xlsx", HEADER_XML + xml)
    used = cpu_used_s()
    assert len(read(path, wanted=WANTED).rows) == 10_000
    assert cpu_used_s() - used < 4


# ------------------------------------------------------------------------------------------ csv


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_a_csv_is_read_in_the_encodings_that_excel_writes(tmp_path: Path, encoding: str) -> None:
    path = raw(tmp_path / "x.csv", "case_identifier,name\r\nHH-1,Zoé\r\n".encode(encoding))
    (row,) = read(path, wanted=WANTED).rows
    assert row.cells == {"case_identifier": Cell("HH-1"), "name": Cell("Zoé")}


def test_big_endian_utf_16_with_its_mark_is_read(tmp_path: Path) -> None:
    path = raw(tmp_path / "x.csv", b"\xfe\xff" + "case_identifier\tname\nHH-1\tZoé\n".encode("utf-16-be"))
    assert identifiers(read(path, wanted=WANTED), "name") == ["Zoé"]


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("wanted", [(), WANTED])
def test_the_header_line_chooses_the_separator(tmp_path: Path, separator: str, wanted: tuple[str, ...]) -> None:
    header = separator.join(["case_identifier", '"a,b;c|d,e;f|g"', "name"])
    path = raw(tmp_path / "x.csv", f"{header}\nHH-1{separator}x{separator}Amina\n")
    assert identifiers(read(path, wanted=wanted), "name") == ["Amina"]


@pytest.mark.parametrize("told", ["sep=;\r\n", "SEP=;\n", '"sep=;"\r\n'])
def test_the_line_that_tells_excel_the_separator_is_honoured_and_not_counted(tmp_path: Path, told: str) -> None:
    sheet = read(raw(tmp_path / "x.csv", f"{told}case_identifier;a,b,c,d\nHH-1;x\n"), wanted=WANTED)
    assert (sheet.columns, [row.number for row in sheet.rows]) == (("case_identifier", "a,b,c,d"), [2])


def test_a_sheet_of_one_column_needs_no_separator_and_keeps_its_commas(tmp_path: Path) -> None:
    assert identifiers(read(raw(tmp_path / "x.csv", "case_identifier\nHH-1\n+1,555;1234567\n"))) == [
        "HH-1",
        "+1,555;1234567",
    ]


def test_a_title_full_of_commas_does_not_choose_the_separator(tmp_path: Path) -> None:
    path = raw(tmp_path / "x.csv", "Cases, by village, May\n\nname;case_identifier\nAmina;HH-1\n")
    sheet = read(path, wanted=WANTED)
    assert [(row.number, row.cells["case_identifier"].text) for row in sheet.rows] == [(4, "HH-1")]


def test_a_newline_in_quotes_stays_in_its_cell_and_is_one_row(tmp_path: Path) -> None:
    path = raw(tmp_path / "x.csv", 'case_identifier,"note\nof home"\r\nHH-1,"two\nlines, ""so"""\r\n\r\nHH-2,\r\n')
    sheet = read(path, wanted=WANTED)
    assert sheet.columns == ("case_identifier", "note_of_home")
    assert [(row.number, row.cells.get("note_of_home")) for row in sheet.rows] == [
        (2, Cell('two\nlines, "so"')),
        (4, None),
    ]


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_every_kind_of_line_end_is_a_line_end(tmp_path: Path, newline: str) -> None:
    path = raw(tmp_path / "x.csv", newline.join(["case_identifier,name", "HH-1,a\u2028b", "HH-2,c\x0bd"]))
    assert [row.number for row in read(path, wanted=WANTED).rows] == [2, 3]


def test_a_quote_that_never_closes_is_refused_and_swallows_no_rows(tmp_path: Path) -> None:
    short = raw(tmp_path / "x.csv", 'case_identifier,name\nHH-1,a\nHH-2,"Mama\nHH-3,c\n')
    assert problem(short, wanted=WANTED) == ("sheet-open-quote", {"path": "x.csv", "row": 3})
    long = raw(tmp_path / "x.csv", 'case_identifier,name\nHH-1,"Mama\n' + "HH-3,c\n" * 30_000)
    used = cpu_used_s()
    assert problem(long, wanted=WANTED) == ("sheet-open-quote", {"path": "x.csv", "row": 2})
    assert cpu_used_s() - used < 3


def test_an_inch_mark_inside_a_cell_is_only_an_inch_mark(tmp_path: Path) -> None:
    path = raw(tmp_path / "x.csv", 'pipes of 5" and 6, all\ncase_identifier,pipe\nHH-1,5" pipe\nHH-2,x\n')
    assert identifiers(read(path, wanted=WANTED), "pipe") == ['5" pipe', "x"]


@pytest.mark.parametrize(
    ("typed", "cell"),
    [("00123", Cell("00123")), ('="00123"', Cell("00123")), ("TRUE", Cell("TRUE")), ("2024-05-01", Cell("2024-05-01"))],
)
def test_a_csv_keeps_what_was_typed(tmp_path: Path, typed: str, cell: Cell) -> None:
    assert only_cell(raw(tmp_path / "x.csv", f"case_identifier,name\n{typed},x\n")) == cell


@pytest.mark.parametrize("typed", ["1.55512E+10", '"9,19812E+11"', "#N/A", "#######"])
def test_a_csv_shows_the_same_faults(tmp_path: Path, typed: str) -> None:
    assert only_cell(raw(tmp_path / "x.csv", f"case_identifier,name\n{typed},x\n")).fault


# No surrogates (not text), no NUL (not a csv), and nothing that `read` takes off on purpose: ends, and the ="..." of a csv.
CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12).filter(
    lambda text: '="' not in text
)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(st.tuples(CELLS, CELLS), max_size=6),
    separator=st.sampled_from(",;\t|"),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    newline=st.sampled_from(["\n", "\r\n"]),
)
def test_what_the_csv_module_writes_comes_back(
    tmp_path: Path, rows: list[tuple[str, str]], separator: str, encoding: str, newline: str
) -> None:
    file = io.StringIO()
    writer = csv.writer(file, delimiter=separator, lineterminator=newline, quoting=csv.QUOTE_ALL)
    writer.writerows([("case_identifier", "note"), *rows])
    path = raw(tmp_path / "x.csv", file.getvalue().encode(encoding))
    read_back = {
        row.number: tuple(row.cells.get(name, Cell("")).text for name in ("case_identifier", "note"))
        for row in read(path, wanted=WANTED).rows
    }
    typed = {number: tuple(cells.trim(text) for text in row) for number, row in enumerate(rows, start=2)}
    assert read_back == {number: row for number, row in typed.items() if any(row)}


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    data=st.binary(max_size=200)
    | st.text(max_size=200).map(lambda text: f"case_identifier\n{text}".encode(errors="replace"))
)
def test_any_bytes_are_a_sheet_or_a_problem_and_never_a_crash(tmp_path: Path, data: bytes) -> None:
    path = raw(tmp_path / "x.csv", data)
    try:
        read(path, wanted=WANTED)
    except Problem as found:
        assert found.key.startswith("sheet-")


def test_a_workbook_with_any_byte_changed_is_a_sheet_or_a_problem(tmp_path: Path) -> None:
    whole = column(tmp_path / "x.xlsx", "HH-1", 15551234567, "=A1").read_bytes()
    for place in range(0, len(whole), 41):
        path = raw(tmp_path / "x.xlsx", whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        try:
            read(path, wanted=WANTED)
        except Problem as found:
            assert found.key.startswith("sheet-")


# ------------------------------------------------------------------------------------------ the template


def test_the_untouched_template_is_a_sheet_of_no_rows(tmp_path: Path) -> None:
    path = tmp_path / "cases_bulk_example.xlsx"
    write_template(path)
    sheet = read(path, wanted=WANTED)
    assert (sheet.columns, sheet.rows) == (("case_identifier",), ())


def test_the_template_keeps_identifiers_as_text_for_two_thousand_rows(tmp_path: Path) -> None:
    write_template(tmp_path / "t.xlsx")
    book = load_workbook(tmp_path / "t.xlsx")
    assert book.sheetnames == ["cases", "how to"]
    cases = book["cases"]
    assert (cases["A1"].value, cases["A1"].font.bold, cases.freeze_panes) == ("case_identifier", True, "A2")
    assert cases.column_dimensions["A"].width >= 20
    assert {cases.cell(number, 1).number_format for number in range(2, 2_002)} == {"@"}
    assert cases.max_column == 1


def test_the_template_explains_every_verdict_mode_and_trap(tmp_path: Path) -> None:
    write_template(tmp_path / "t.xlsx")
    how_to = load_workbook(tmp_path / "t.xlsx")["how to"]
    terms = {row[0].value for row in how_to.iter_rows() if row[0].value}
    verdicts = {"add", "already_in", "duplicate", "not_found", "ambiguous", "no_phone", "closed", "unreadable"}
    assert terms >= verdicts | {"remove", "replace", "1.55512E+10", "phone number", "external id", "case id"}


def test_a_filled_in_template_reads_back(tmp_path: Path) -> None:
    write_template(tmp_path / "t.xlsx")
    book = load_workbook(tmp_path / "t.xlsx")
    for number, value in [(2, "0042"), (3, 15551234567), (1_500, "HH-9")]:
        book["cases"].cell(number, 1).value = value
    book.save(tmp_path / "t.xlsx")
    rows = read(tmp_path / "t.xlsx", wanted=WANTED).rows
    assert [(row.number, row.cells["case_identifier"].text) for row in rows] == [
        (2, "0042"),
        (3, "15551234567"),
        (1_500, "HH-9"),
    ]


# ------------------------------------------------------------------------------------------ the result

DANGEROUS = [
    "=1+1",
    '=HYPERLINK("http://x","y")',
    "+15551234567",
    "-1",
    "@SUM(A1)",
    "=",
    "\tx",
    "#N/A",
    "1.5E+10",
    "{=A1}",
    "TRUE",
    "0042",
]


def sheet_of(*texts: str, name: str = "case_identifier") -> Sheet:
    rows = tuple(Row(number, {name: Cell(text)}) for number, text in enumerate(texts, start=2))
    return Sheet(columns=(name,), headers=("Case Identifier",), rows=rows, digest="")


def test_the_result_is_the_sheet_with_verdict_reason_and_suggestion(tmp_path: Path) -> None:
    source = workbook_of(tmp_path / "in.xlsx", [["Case Identifier", "Name"], ["HH-1", "Amina"], [], ["HH-7", None]])
    out = tmp_path / "out.xlsx"
    write_result(out, read(source, wanted=WANTED), [(2, "add", "", ""), (4, "not_found", "No case has HH-7.", "HH-1")])
    rows = list(load_workbook(out).active.values)
    assert rows == [
        ("Case Identifier", "Name", "verdict", "reason", "suggestion"),
        ("HH-1", "Amina", "add", None, None),
        (None, None, None, None, None),
        ("HH-7", None, "not_found", "No case has HH-7.", "HH-1"),
    ]


def test_a_row_keeps_its_number_in_the_result_even_below_a_title(tmp_path: Path) -> None:
    source = raw(tmp_path / "in.csv", "May\n\ncase_identifier\nHH-1\n\nHH-1\n")
    sheet = read(source, wanted=WANTED)
    write_result(tmp_path / "out.xlsx", sheet, [(4, "add", "", ""), (6, "duplicate", "The same case as row 4.", "")])
    assert (
        [row.number for row in read(tmp_path / "out.xlsx", wanted=WANTED).rows]
        == [row.number for row in sheet.rows]
        == [4, 6]
    )


def test_the_result_is_frozen_filtered_coloured_and_wide_enough(tmp_path: Path) -> None:
    write_result(
        tmp_path / "out.xlsx", sheet_of("HH-1", "HH-2", "HH-3"), [(2, "add", "", ""), (3, "not_found", "x" * 99, "")]
    )
    sheet = load_workbook(tmp_path / "out.xlsx").active
    assert (sheet.freeze_panes, sheet.auto_filter.ref, sheet["A1"].font.bold) == ("A2", "A1:D4", True)
    assert [sheet.column_dimensions[letter].width for letter in "ABCD"] == [18, 12, 55, 13]
    colours = [sheet.cell(number, 2).fill.fgColor.rgb[-6:] for number in (2, 3)]
    assert colours[0] != colours[1]
    assert all(min(bytes.fromhex(colour)) > 0xC8 for colour in colours)  # light enough for dark text in grey print


@pytest.mark.parametrize("text", DANGEROUS)
def test_nothing_in_a_result_can_run(tmp_path: Path, text: str) -> None:
    out = tmp_path / "out.xlsx"
    sheet = Sheet(
        columns=("case_identifier", "x"),
        headers=(text, "case identifier"),
        rows=(Row(2, {"case_identifier": Cell(text)}),),
        digest="",
    )
    write_result(out, sheet, [(2, text, text, text)])
    with zipfile.ZipFile(out) as archive:
        xml = archive.read("xl/worksheets/sheet1.xml")
    assert b"<f>" not in xml
    assert b"<f " not in xml
    assert b"<v>" not in xml  # no number, no boolean, no error value: text only
    cells = [cell for row in load_workbook(out).active.iter_rows() for cell in row if cell.value is not None]
    assert {cell.data_type for cell in cells} == {"s"}
    assert {cell.number_format for cell in cells} == {"@"}
    assert [cell.value for cell in cells].count(text) == 5


@pytest.mark.parametrize(
    ("typed", "read_back"),
    [
        ("HH\x07-\x1f1\x0b", "HH\x07-\x1f1"),
        ("a\ud800b", "a\ufffdb"),
        ("a\ufffeb", "a\ufffeb"),
        ("_x0041_", "_x0041_"),
        ("x" * 40_000, "x" * 32_767),
    ],
)
def test_what_xml_cannot_hold_is_written_as_excel_writes_it_and_read_back(
    tmp_path: Path, typed: str, read_back: str
) -> None:
    write_result(tmp_path / "out.xlsx", sheet_of(typed), [(2, "add", typed, "")])
    (row,) = read(tmp_path / "out.xlsx", wanted=WANTED).rows
    assert (row.cells["case_identifier"].text, row.cells["reason"].text) == (read_back, read_back)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(st.text(max_size=15), min_size=1, max_size=5))
def test_any_text_can_be_written_and_uploaded_again(tmp_path: Path, texts: list[str]) -> None:
    write_result(tmp_path / "out.xlsx", sheet_of(*texts), [(2, texts[0], texts[-1], "")])
    again = read(tmp_path / "out.xlsx", wanted=WANTED)
    assert again.columns == ("case_identifier", "verdict", "reason", "suggestion")
    assert {row.number for row in again.rows} <= set(range(2, len(texts) + 2))


def test_a_result_uploads_again_and_its_verdicts_are_replaced(tmp_path: Path) -> None:
    out = tmp_path / "out.xlsx"
    write_result(out, sheet_of("HH-1", "=HH-2"), [(2, "add", "", ""), (3, "not_found", "No.", "")])
    again = read(out, wanted=WANTED)
    assert identifiers(again) == ["HH-1", "=HH-2"]
    write_result(out, again, [(2, "already_in", "", "")])
    last = read(out, wanted=WANTED)
    assert last.columns == ("case_identifier", "verdict", "reason", "suggestion")
    assert identifiers(last, "verdict") == ["already_in", ""]


def test_a_column_of_the_sheet_s_own_named_reason_is_kept(tmp_path: Path) -> None:
    out = tmp_path / "out.xlsx"
    sheet = read(raw(tmp_path / "x.csv", "reason,case_identifier\nmoved,HH-1\n"), wanted=WANTED)
    for _ in range(2):
        write_result(out, sheet, [(2, "add", "fits", "")])
        sheet = read(out, wanted=WANTED)
        assert sheet.columns == ("reason", "case_identifier", "upload_verdict", "upload_reason", "upload_suggestion")
        assert identifiers(sheet, "reason") == ["moved"]
        assert identifiers(sheet, "upload_reason") == ["fits"]


def test_a_faulty_cell_comes_back_as_it_was_read(tmp_path: Path) -> None:
    sheet = read(column(tmp_path / "x.xlsx", datetime(2024, 5, 1), "=A1", "1.5E+10"), wanted=WANTED)
    write_result(tmp_path / "out.xlsx", sheet, [])
    assert identifiers(read(tmp_path / "out.xlsx", wanted=WANTED)) == ["2024-05-01", "=A1", "1.5E+10"]


# ------------------------------------------------------------------------------------------ writing files


def test_a_workbook_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = raw(tmp_path / "out.xlsx", "the old one")

    def full(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(Problem) as caught:
        write_template(out)
    assert (caught.value.key, caught.value.values) == ("sheet-cannot-write", {"path": "out.xlsx"})
    assert [path.name for path in tmp_path.iterdir()] == ["out.xlsx"]
    assert out.read_text() == "the old one"


def test_a_folder_that_is_not_there_is_a_problem_and_leaves_nothing_behind(tmp_path: Path) -> None:
    for write in (write_template, lambda path: write_result(path, sheet_of("HH-1"), [])):
        with pytest.raises(Problem) as caught:
            write(tmp_path / "nowhere" / "out.xlsx")
        assert caught.value.key == "sheet-cannot-write"
    assert list(tmp_path.iterdir()) == []


def test_writing_leaves_no_other_file_beside_it(tmp_path: Path) -> None:
    write_template(str(tmp_path / "t.xlsx"))
    write_result(str(tmp_path / "r.xlsx"), sheet_of("HH-1"), [])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["r.xlsx", "t.xlsx"]


# ------------------------------------------------------------------------------------------ the sentences


def test_every_problem_has_a_sentence_with_its_own_holes() -> None:
    sources = [path.read_text(encoding="utf-8") for path in Path(reader.__file__).parent.glob("*.py")]
    told = tomllib.loads(Path(console.__file__).with_name("sentences.toml").read_text(encoding="utf-8"))
    sentences = {key: sentence for key, sentence in told.items() if key.startswith("sheet-")}
    holes = {
        "path": "cases.xlsx",
        "wanted": "case_identifier",
        "found": "Phone",
        "column": "name",
        "row": 3,
        "kind": "a folder",
        "seconds": 30,
    }
    keys = {word.split('"')[0] for source in sources for word in source.split('Problem("')[1:]}
    assert keys == set(sentences)
    for sentence in sentences.values():
        assert sentence.format(**holes).endswith(".")
