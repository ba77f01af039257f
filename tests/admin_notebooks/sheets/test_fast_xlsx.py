"""The quick reader gives the same cells as openpyxl, or leaves the workbook to it; and large files are read apart."""

# ruff: noqa: DTZ001 (the dates of a workbook have no zone)
from __future__ import annotations

import datetime as dt
import io
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openpyxl import Workbook

from admin_notebooks.sheets import cells, fast_xlsx, reader, sandbox
from storage.errors import Problem
from tests.admin_notebooks.sheets import children
from tests.admin_notebooks.sheets.workbooks import HEADER_XML, WANTED, column, inline, problem, repacked, sheet_data
from tests.patience import HANG_S

NUMBER = '<row r="2"><c r="A2"><v>{}</v></c></row>'


def book(*rows: list[Any], formats: dict[str, str] | None = None) -> bytes:
    made = Workbook()
    for row in rows:
        made.active.append(row)
    for cell, form in (formats or {}).items():
        made.active[cell].number_format = form
    out = io.BytesIO()
    made.save(out)
    return out.getvalue()


def whole(data: bytes, *, quickly: bool, wanted: tuple[str, ...] = WANTED) -> Any:
    """What is read: columns, headers and rows; or the key of the Problem."""
    try:
        pieces = reader.parse(data, "x.xlsx", wanted, quickly)
        columns, headers = next(pieces)
        rows = cells.Rows(columns)
        for piece in pieces:
            rows.extend(piece)
    except Problem as told:
        return told.key
    return columns, headers, tuple(rows)


def is_quick(data: bytes) -> bool:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return fast_xlsx.may_read(archive)


HEAD = ["case_identifier", "name", "n"]
QUICK = {
    "text": book(HEAD, ["HH-1", "Ama Boateng", "x"], ["  HH-2 ", None, " "], ["é", "名前", "O'Brien & <sons>"]),
    "numbers": book(HEAD, [15551234567, 1.5, 0], [-3, 0.1 + 0.2, 1e5], [919812345678, 100, -0.0]),
    "yes and no": book(HEAD, [True, False, None], ["TRUE", "no", 1]),
    "gaps": book(HEAD, [], ["HH-1"], [], [], [None, None, None], [None, "only a name"], ["HH-2"]),
    "far below": book(["title"], [], HEAD, *([] for _ in range(9_000)), ["HH-1"]),
    "beside": book(["case_identifier"], ["HH-1"], [None, None, "lost"]),
    "beside, too far": book(["case_identifier"], ["HH-1"], [*[None] * 12, "lost"]),
    "shortened": book(HEAD, ["1.55512E+10", "#ZAHL!", "#######"], ["1E-5", "+1e9", "1E5"]),
    "text format": book(HEAD, ["0042", "007", "x"], formats={"A2": "@", "B2": "0.00", "C2": "#,##0"}),
    "no header": book(["HH-1"], ["HH-2"]),
    "nothing": book(),
    "two columns alike": book(["case_identifier", "Case Identifier"], ["a", "b"]),
}
LEFT = {
    "dates": book(
        HEAD, [dt.datetime(2024, 5, 6), dt.datetime(2024, 5, 6, 7, 8, 9), dt.time(3, 4)], [dt.timedelta(hours=30), 1, 2]
    ),
    "a number shown as a date": book(HEAD, [45000, 1, 2], formats={"A2": "d-mmm"}),
    "a formula": book(HEAD, ["=1+1", "x", "y"]),
    "escapes": book(HEAD, ["a_x000D_b", "_x0041_", "x"]),
    "sixteen digits": book(HEAD, [1234567890123456, 12345678901234567890, 1]),
    "a new line": book(HEAD, ["a\nb", "c\r\nd", "e\rf"]),
}


@pytest.mark.parametrize("name", QUICK)
def test_text_and_numbers_are_read_quickly_and_alike(name: str) -> None:
    assert is_quick(QUICK[name])
    assert whole(QUICK[name], quickly=True) == whole(QUICK[name], quickly=False)
    assert whole(QUICK[name], quickly=True, wanted=()) == whole(QUICK[name], quickly=False, wanted=())


@pytest.mark.parametrize("name", LEFT)
def test_what_would_be_read_in_another_way_is_left_to_openpyxl(name: str) -> None:
    assert name == "a new line" or not is_quick(LEFT[name])
    assert whole(LEFT[name], quickly=True) == whole(LEFT[name], quickly=False)


@pytest.mark.parametrize(
    "xml",
    [
        f'{HEADER_XML}<row r="2"><c r="A2" t="e"><v>#N/A</v></c></row>',
        f"{HEADER_XML}<row r='2'><c r='A2' t='e'><v>#N/A</v></c></row>",
        f'{HEADER_XML}<row r="2"><c r="A2"><f>1+1</f></c></row>',
        f'{HEADER_XML}<row r="2"><c r="A2" t="str"><f>""</f><v></v></c></row>',
        f'{HEADER_XML}<row r="2"><c r="A2" t="d"><v>2024-05-06</v></c></row>',
        f'{HEADER_XML}<row r="2">{inline("A2", "a&#13;&#10;b")}</row>',
        f'{HEADER_XML}<row r="2">{inline("A2", "<![CDATA[x]]>")}</row>',
        f'{HEADER_XML}<row r="2">{inline("A2", "a<!-- b -->c")}</row>',
        f'{HEADER_XML}<row r="2"><c r="A2" t="inlineStr"><is><r><t>Ta</t></r><rPh><t>x</t></rPh></is></c></row>',
        f'{HEADER_XML}<row r="2"><c r="A2" t="inlineStr"><is><r><t>Ta</t></r><r><t>ro</t></r></is></c></row>',
        HEADER_XML + NUMBER.format("0.1234567890123456789"),
        HEADER_XML + NUMBER.format("1E5"),
        HEADER_XML + NUMBER.format("-0"),
        HEADER_XML + NUMBER.format("1e400"),
        f"<row>{inline('A1', 'case_identifier')}</row><row>{inline('A2', 'HH-1')}</row>",
        f'{HEADER_XML}<row r="7">{inline("A7", "HH-1")}</row>',
        f'{HEADER_XML}<row r="10002">{inline("A10002", "HH-1")}</row>',
        f'{HEADER_XML}<row r="10003">{inline("A10003", "HH-1")}</row>',
        f'<row r="3">{inline("C3", "case_identifier")}</row><row r="4">{inline("C4", "HH-1")}{inline("B4", "x")}</row>',
    ],
)
def test_whatever_another_program_wrote_is_read_alike(tmp_path: Path, xml: str) -> None:
    data = sheet_data(tmp_path / "x.xlsx", xml).read_bytes()
    assert whole(data, quickly=True) == whole(data, quickly=False)


def test_a_workbook_in_another_encoding_or_with_a_prefix_is_left_to_openpyxl(tmp_path: Path) -> None:
    path = column(tmp_path / "x.xlsx", "HH-1")

    def in_utf_16(name: str, data: bytes) -> bytes:
        return data.decode().encode("utf-16") if name == "xl/worksheets/sheet1.xml" else data

    data = repacked(path, in_utf_16).read_bytes()
    assert not is_quick(data)
    assert whole(data, quickly=True) == whole(data, quickly=False)


CELLS = st.one_of(
    st.none(),
    st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), max_size=8),
    st.integers(-(10**14), 10**14),
    st.floats(-1e9, 1e9, width=32),
    st.booleans(),
    st.sampled_from(["HH-1", "1.5E+10", "#N/A", " ", "=1", "2024-01-02", "_x0041_"]),
)


@given(st.lists(st.lists(CELLS, max_size=4), max_size=6))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_whatever_stands_in_a_workbook_is_read_alike(rows: list[list[Any]]) -> None:
    data = book(HEAD, *rows)
    assert whole(data, quickly=True) == whole(data, quickly=False)


# ------------------------------------------------------------------------------------------ apart


def many(count: int) -> bytes:
    out = io.BytesIO()
    made = Workbook(write_only=True)
    sheet = made.create_sheet()
    sheet.append(HEAD)
    for n in range(count):
        sheet.append([f"HH-{n:06}", None if n % 3 else "Ama", n])
    made.save(out)
    return out.getvalue()


@pytest.fixture(scope="module")
def large() -> bytes:
    return many(21_000)


def test_a_large_sheet_is_read_apart_and_alike(large: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    apart: list[str] = []
    real = sandbox.run
    monkeypatch.setattr(sandbox, "run", lambda *a, **k: (apart.append("yes"), real(*a, **k))[1])
    steps: list[int] = []
    sheet = reader.read_bytes("x.xlsx", large, wanted=WANTED, step=steps.append)
    assert apart == ["yes"]
    assert steps == [20_000, 21_000]
    assert (sheet.columns, sheet.headers, tuple(sheet.rows)) == tuple(map(tuple, whole(large, quickly=False)))
    assert sheet.rows[0] == cells.Row(
        2, {n: cells.Cell(t) for n, t in zip(HEAD, ("HH-000000", "Ama", "0"), strict=True)}
    )
    assert sheet.rows[-1].number == 21_001
    reader.read_bytes("small.csv", b"case_identifier\nHH-1\n", wanted=WANTED)
    assert apart == ["yes"]


def test_a_large_csv_is_read_apart_with_its_faults(tmp_path: Path) -> None:
    lines = ["case_identifier", *(f"HH-{n:040}" for n in range(30_000)), "1.55512E+10", "HH-last"]
    sheet = reader.read_bytes("x.csv", "\n".join(lines).encode(), wanted=WANTED)
    assert len(sheet.rows) == 30_002
    assert sheet.rows[-2].cells["case_identifier"].fault is not None
    assert sheet.rows[-1] == cells.Row(30_003, {"case_identifier": cells.Cell("HH-last")})


def test_what_is_wrong_with_a_large_sheet_is_told_as_of_a_small_one(large: bytes) -> None:
    assert problem_of(large, wanted=("phone",)) == "sheet-no-column"
    assert problem_of(b"a" * (2 * 2**20) + b'\n"open\n', wanted=()) == "sheet-open-quote"


def problem_of(data: bytes, wanted: tuple[str, ...] = WANTED) -> str:
    with pytest.raises(Problem) as told:
        reader.read_bytes("x.xlsx", data, wanted=wanted)
    return told.value.key


def test_a_cell_far_away_in_a_large_sheet_costs_the_quick_reader_and_nobody_else(tmp_path: Path) -> None:
    xml = "".join(f'<row r="{n}">{inline(f"A{n}", f"HH-{n:040}")}</row>' for n in range(2, 15_000))
    far = f'<row r="1048576">{inline("XFD1048576", "x")}</row>'
    path = sheet_data(tmp_path / "far.xlsx", HEADER_XML + xml + far)
    assert path.stat().st_size < 2**20 < reader._unpacked(path.read_bytes())
    assert len(reader.read(path, wanted=WANTED).rows) == 14_998


def test_a_sheet_that_takes_too_much_ends_alone(large: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "MEMORY", 40 * 2**20)
    assert problem_of(large) == "sheet-too-heavy"
    monkeypatch.undo()
    monkeypatch.setattr(reader, "SECONDS", 0.01)
    assert problem_of(large) == "sheet-too-heavy"


def test_a_document_type_behind_a_long_comment_is_refused(tmp_path: Path) -> None:
    hidden = b"<!--" + b" " * 3000 + b"--><!DOCTYPE x [<!ENTITY a 'b'>]><worksheet"
    path = column(tmp_path / "x.xlsx", "HH-1")
    for change in (hidden, b"<!--" + b"-" * 70_000 + b"--><worksheet"):
        evil = repacked(
            column(path, "HH-1"),
            lambda name, data, change=change: (
                data.replace(b"<worksheet", change) if name.endswith("sheet1.xml") else data
            ),
        )
        assert problem(evil) == ("sheet-hostile", {"path": "x.xlsx"})


# ------------------------------------------------------------------------------------------ the child itself


def run(function: Any, seconds: float = HANG_S, **options: Any) -> list[Any]:
    return list(sandbox.run(function, b"abc", options, memory=256 * 2**20, seconds=seconds))


def test_a_child_gives_back_what_it_yields() -> None:
    assert run(children.count, upto=3) == [0, 1, 2, 3]


def test_a_child_knows_nothing_of_our_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://secret")
    (seen,) = run(children.peek)
    assert "DATABASE_URL" not in seen
    assert set(seen) <= {*sandbox._NEEDED, "LC_CTYPE"}


@pytest.mark.parametrize(("function", "because"), [(children.eat, "memory"), (children.crash, "memory")])
def test_a_child_that_takes_too_much_dies_alone(function: Any, because: str) -> None:
    with pytest.raises(sandbox.Died) as died:
        run(function)
    assert died.value.because == because


def test_a_child_that_takes_too_long_is_ended() -> None:
    with pytest.raises(sandbox.Died) as died:
        run(children.hang, seconds=1)
    assert died.value.because == "time"


def test_a_problem_of_the_child_is_a_problem_and_a_bug_a_bug() -> None:
    with pytest.raises(Problem) as told:
        run(children.refuse)
    assert (told.value.key, told.value.values) == ("sheet-empty", {"path": "x"})
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        run(children.stumble)


def test_a_child_whose_answers_nobody_wants_any_more_is_ended() -> None:
    answers = sandbox.run(children.count, b"", {"upto": 10**9}, memory=256 * 2**20, seconds=HANG_S)
    assert next(answers) == 0
    answers.close()  # a warning about a process that was left would fail this test
