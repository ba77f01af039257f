"""Sheets out: templates that explain themselves, results with a verdict beside each row, tables; nothing in them runs."""

from __future__ import annotations

import io
import os
import secrets
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from admin_notebooks.sheets import xlsx_writer
from admin_notebooks.sheets.cells import BLANK, Sheet
from admin_notebooks.sheets.xlsx_writer import Line
from storage import private_files
from storage.errors import Problem

RESULT_COLUMNS = ("verdict", "reason", "suggestion")
"""What `write_result` adds; an importer that keeps every further column as a property leaves these out."""

RENAMED_RESULT_COLUMNS = ("upload_verdict", "upload_reason", "upload_suggestion")
"""What `write_result` adds instead when the sheet has a column of its own by one of the names above."""

_HOW_TO = (
    ("How to fill in this workbook", ""),
    (
        "",
        "Write one case in each row of the sheet 'cases', in the column case_identifier. Keep the first row as it is.",
    ),
    (
        "",
        "Empty rows are skipped. Other columns are left alone and come back in the result. A .csv file with the same column works too.",
    ),
    ("Which identifiers work", ""),
    (
        "phone number",
        "With the country code first, such as 15551234567. A plus sign, spaces, dashes and brackets do no harm.",
    ),
    ("external id", "The programme's own number for the case, such as HH-0042, with its zeros."),
    ("case id", "The id that the system or an import gave the case."),
    ("", "The three may be mixed in one column. An identifier that fits more than one case is never guessed at."),
    ("What the upload can do", ""),
    ("add", "The cases in the sheet join the group. Those already in it stay."),
    ("remove", "The cases in the sheet leave the group. A closed case, or one without a phone number, can leave too."),
    (
        "replace",
        "The group becomes exactly the sheet. It is refused while any row is not_found or unreadable, so that a slip drops nobody.",
    ),
    (
        "",
        "You always see a plan first. Then all good rows are saved together, or none. The same sheet twice changes nothing.",
    ),
    ("What Excel does to numbers", ""),
    (
        "1.55512E+10",
        "Excel shortened a long number and its last digits may be gone. Keep the column formatted as Text and paste the number again.",
    ),
    (
        "lost zeros",
        "A number cell cannot hold 0042. In a Text column it stays as typed; here the first 2,000 rows are Text already.",
    ),
    ("dates", "An id such as 3-4 becomes a date in a cell that is not Text."),
    ("long numbers", "Excel keeps 15 digits of a number. Longer ids must be Text."),
    ("formulas", "A formula is read by its last saved result. If unsure, copy the column and paste it as values."),
    ("pasting", "Paste as values or as text only: an ordinary paste brings the other sheet's format with it."),
    ("What the verdicts mean", ""),
    ("add", "The case will join the group."),
    ("already_in", "The case is in the group already. Nothing to do."),
    ("duplicate", "The same case stands in an earlier row, which the reason names. It counts once."),
    ("not_found", "No case has this identifier. The suggestion shows the nearest one, if there is one."),
    ("ambiguous", "Several cases fit. Use the external id or the case id of the one you mean."),
    ("no_phone", "The case has no valid phone number. Correct the number on the case, then upload again."),
    ("closed", "The case is closed and cannot join. Reopen it first, or leave it out."),
    ("unreadable", "The cell could not be read as an identifier. The reason says what happened and what to do."),
    ("remove", "With remove and replace: the case will leave the group."),
    ("not_member", "With remove: the case is not in the group. Nothing to do."),
)


def write_template(path: str | Path) -> None:
    """Write `cases_bulk_example.xlsx`: the sheet to fill in, its column formatted as Text, and a sheet that explains it."""
    _write_empty(Path(path), ["case_identifier"], _HOW_TO)


_HOW_TO_CASES = (
    ("How to fill in this workbook", ""),
    ("", "Write one case in each row of the sheet 'cases'. Delete the columns that you do not need, and add your own."),
    ("", "A blank cell leaves a value as it is, and -- takes it away. A CommCare case export loads as it comes."),
    ("external_id", "Your own id. By it, or by case_id, the case is found again when the sheet is loaded again."),
    ("name", "How the case is called in texts and on the pages."),
    ("contact_phone_number", "With its country code: 233244123456. A changed number is no longer verified."),
    (
        "contact_phone_number_is_verified",
        "1 or yes: it was proved that the phone is theirs, and they may reply. Else 0 or no.",
    ),
    ("language_code", "In which language the case is texted: en, sw, fr, pt-BR."),
    ("time_zone", "Africa/Nairobi, Asia/Kolkata: nobody is texted at night by their own clock."),
    ("commcare_email_address", "An e-mail address."),
    ("contact_backend_id", "The gateway that carries the texts; blank: the one that the programme's rules choose."),
    ("status", "open or closed. Nobody texts a closed case."),
    ("any other column", "Is a property of the case and may be used in texts."),
)


def write_case_template(path: str | Path) -> None:
    """Write the sheet of cases to fill in: a column for each property, formatted as Text, and a sheet that explains them."""
    columns = [term for term, sentence in _HOW_TO_CASES if sentence and term and " " not in term]
    _write_empty(Path(path), columns, _HOW_TO_CASES)


def _write_empty(path: Path, columns: Sequence[str], explained: Sequence[tuple[str, str]]) -> None:
    from openpyxl import Workbook
    from openpyxl.styles import Alignment, Font
    from openpyxl.utils import get_column_letter

    workbook = Workbook()
    cases = workbook.active
    cases.title = "cases"
    for n, column in enumerate(columns, start=1):
        cases.cell(1, n, column).font = Font(bold=True)
        dimension = cases.column_dimensions[get_column_letter(n)]
        dimension.width = max(16, len(column) + 2) if len(columns) > 1 else 32
        dimension.number_format = "@"  # for cells below the last one that has a format of its own
        for number in range(1, 2_002):
            cases.cell(number, n).number_format = "@"
    cases.freeze_panes = "A2"

    how_to = workbook.create_sheet("how to")
    how_to.column_dimensions["A"].width = 34
    how_to.column_dimensions["B"].width = 95
    for term, sentence in explained:
        how_to.append([term or None, sentence or None])
        is_title = not sentence
        how_to.cell(how_to.max_row, 1).font = Font(bold=True, size=13 if is_title else 11)
        how_to.cell(how_to.max_row, 2).alignment = Alignment(wrap_text=True, vertical="top")
    _save(workbook, path)


Told = tuple[int, str, str, str]
"""What is said of a row: its number, verdict, reason and suggestion."""

# Light enough for dark text to stay readable in grey print; the word in the cell says it, the colour only helps.
_GREEN, _YELLOW, _RED = "E3F1E3", "FBF3D5", "F8DFDC"

_COLOURS = {
    **dict.fromkeys(("add", "remove", "create", "update"), _GREEN),
    **dict.fromkeys(("already_in", "not_member", "duplicate", "unchanged"), _YELLOW),
    **dict.fromkeys(("not_found", "ambiguous", "no_phone", "closed", "unreadable", "invalid"), _RED),
}


def write_result(path: str | Path, sheet: Sheet, results: Iterable[Told]) -> None:
    """Write the sheet again with verdict, reason and suggestion, which come in the order of its rows.

    Every row keeps the number that it had, so that "same as row 7" still points at row 7; the header stands in row 1.
    Every cell is text, so that nothing anybody typed can run as a formula, and the workbook uploads again as it is:
    the columns of an earlier result are replaced.
    """
    kept = _own_columns(sheet)
    added = RENAMED_RESULT_COLUMNS if set(RESULT_COLUMNS) & {sheet.columns[index] for index in kept} else RESULT_COLUMNS
    headers = [*(sheet.headers[index] for index in kept), *added]
    lines = _result_lines(sheet, kept, results)
    with replacing(Path(path)) as file:
        xlsx_writer.write(file, [xlsx_writer.Table("result", headers, lines, marked=len(kept), colours=_COLOURS)])


def _result_lines(sheet: Sheet, kept: Sequence[int], results: Iterable[Told]) -> Iterator[tuple[int, Line]]:
    """The rows of a result, each with its number."""
    names = [sheet.columns[index] for index in kept]
    told = iter(results)
    number, *said = next(told, (0, "", "", ""))
    for row in sheet.rows:
        while number and number < row.number:
            number, *said = next(told, (0, "", "", ""))
        own = [row.cells.get(name, BLANK).text for name in names]
        yield row.number, [*own, *(said if number == row.number else ("", "", ""))]


MAX_EXCEL_ROWS = 1_048_576


def check_fits(number: int, row: Sequence[str | int | None]) -> None:
    """Raise Problem `sheet-no-room` where Excel has no room for so many rows, or for the text of a cell."""
    if number > MAX_EXCEL_ROWS or any(isinstance(cell, str) and len(cell) > xlsx_writer.MAX_TEXT for cell in row):
        raise Problem("sheet-no-room", row=number)


def write_table(path: Path, title: str, columns: Sequence[str], rows: Iterable[Line]) -> None:
    """Write rows that fit as a workbook of one sheet, row by row; a text is always a text and a number a number."""
    write_tables(path, [(title, columns, rows)])


def write_tables(path: Path, tables: Iterable[tuple[str, Sequence[str], Iterable[Line]]]) -> None:
    """Write several tables as a workbook, a sheet for each: its title, its columns and its rows."""
    with replacing(path) as file:
        numbered = ((title, columns, enumerate(rows, start=2)) for title, columns, rows in tables)
        xlsx_writer.write(file, (xlsx_writer.Table(*table) for table in numbered))


def check_writable(path: str | Path) -> None:
    """Raise `Problem` `sheet-cannot-write` now, rather than when the work is done and its result has nowhere to go."""
    path = _place(path)
    beside = _beside(path)
    try:
        private_files.make(beside)
    except OSError as error:
        raise Problem("sheet-cannot-write", path=path.name) from error
    finally:
        beside.unlink(missing_ok=True)


def _own_columns(sheet: Sheet) -> range:
    """The places of the sheet's own columns, without those that an earlier result added at its end."""
    was_result = sheet.columns[-3:] in (RESULT_COLUMNS, RENAMED_RESULT_COLUMNS)
    return range(len(sheet.columns) - 3 if was_result else len(sheet.columns))


def _save(workbook: Any, path: Path) -> None:
    """Write a workbook; whoever opens it finds the old one or the new, never half of one."""
    content = io.BytesIO()
    workbook.save(content)  # in memory: openpyxl leaves its own things half open when a disk fails it
    with replacing(path) as file:
        file.write(content.getbuffer())


LINKS = 40
"""Links that lead on to each other, at most, as in the system itself."""


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A file beside the target, moved into its place when all is written.

    Raises Problem `sheet-cannot-write`, and then the target is as it was; so it is where the folder is not there, and
    where in its place stands what is no plain file.
    """
    path = _place(path)
    beside = _beside(path)
    try:
        # Whoever else has an account on this machine reads no names and numbers, whatever the file was before.
        with private_files.create(beside) as file:
            yield file
        os.replace(beside, path)  # noqa: PTH105 (the word for it: replaces on every system)
    except OSError as error:
        raise Problem("sheet-cannot-write", path=path.name) from error
    finally:
        beside.unlink(missing_ok=True)


def _place(path: str | Path) -> Path:
    """Where a file is really written: a plain file or a new one, in a folder that is there.  Raises `sheet-cannot-write`.

    What a link leads to is replaced, and the link stays.
    """
    path = Path(path)
    try:
        place = _followed(path, LINKS)
        if place.exists() and not place.is_file():
            raise IsADirectoryError(place)  # or a device, in whose place no sheet may come
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name of a folder
        raise Problem("sheet-cannot-write", path=path.name or str(path)) from error
    return place


def _followed(path: Path, links: int) -> Path:
    """A path without links, every folder of which is there; raises OSError.

    Not by `realpath` alone: it works `nowhere/../..` out as if `nowhere` were a folder, and leads to another place than
    the system's own rules.
    """
    if path.name in ("", "..") or "\0" in path.name or links == 0:
        raise IsADirectoryError(path)
    if path.is_symlink():
        return _followed(path.parent / path.readlink(), links - 1)
    return Path(os.path.realpath(path.parent, strict=True)) / path.name


def _beside(path: Path) -> Path:
    return path.parent / f".{path.name}.{secrets.token_hex(4)}.tmp"
