"""Write workbooks of any number of rows, in little memory and in a fifth of the time that openpyxl takes for the cells.

openpyxl makes everything but the rows: styles, parts, names.  The rows are written here as they come, because a result of
a million of them would otherwise take minutes.  A text is always a text, whatever it looks like: nothing that anybody
typed can run as a formula.

    Table   one sheet of a workbook
    write   some of them into a file
    RUNS    what a spreadsheet takes for a formula or a command
"""

from __future__ import annotations

import io
import itertools
import re
import shutil
import tempfile
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import IO, Any
from xml.sax.saxutils import escape

# What makes a cell of a csv a formula or a command in some spreadsheet (OWASP, CSV injection), full-width signs as well.
_LIVE = "=+\\-@\t\r\uff1d\uff0b\uff0d\uff20"
# A spreadsheet that splits at semicolons or tabs begins cells where we have none, and rows at every new line.
# White space before a sign is skipped by some; those that are separators are not in it, or `unguard` would miss one.
_SPACE = " \v\f\x1c-\x1f\x85\u00a0\u1680\u180e\u2000-\u200d\u2028\u2029\u202f\u205f\u2060\u3000\ufeff"
RUNS = re.compile(f"[{_SPACE}]*[{_LIVE}]")

MAX_TEXT = 32_767
"""Characters that Excel has room for in a cell."""

PEEK = 500
"""Rows by which the widths of the columns are chosen."""

Line = Sequence[str | int | None]


@dataclass(frozen=True, slots=True)
class Table:
    """A sheet: its title, its columns in the first row, and further rows, each with its number, in order.

    A cell of the column `marked` has a colour by its text, and what stands to the right of it is wrapped.
    """

    title: str
    columns: Sequence[str]
    rows: Iterable[tuple[int, Line]]
    marked: int | None = None
    colours: Mapping[str, str] = field(default_factory=dict)


def write(file: IO[bytes], tables: Iterable[Table]) -> None:
    """Write a workbook with these sheets; raises OSError where the disk does."""
    from openpyxl import Workbook

    workbook = Workbook()
    workbook.remove(workbook.active)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for n, table in enumerate(tables, start=1):
            worksheet = workbook.create_sheet(table.title[:31])
            with tempfile.TemporaryFile() as part:  # a part of a zip has to tell how large it is before it comes
                worksheet.auto_filter.ref = _write_rows(part, worksheet, table)
                told = zipfile.ZipInfo(f"xl/worksheets/sheet{n}.xml", date_time=(1980, 1, 1, 0, 0, 0))
                told.compress_type, told.file_size = zipfile.ZIP_DEFLATED, part.tell()
                part.seek(0)
                with archive.open(told, "w") as whole:
                    shutil.copyfileobj(part, whole, 2**20)
        _write_rest(archive, workbook)


def _write_rest(archive: zipfile.ZipFile, workbook: Any) -> None:
    """Every part of a workbook that is no sheet."""
    made = io.BytesIO()
    workbook.save(made)
    with zipfile.ZipFile(made) as rest:
        for name in rest.namelist():
            if not name.startswith("xl/worksheets/"):
                archive.writestr(name, rest.read(name))


_HEAD = (
    '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'
    '<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><sheetViews><sheetView workbookViewId="0">'
    '<pane ySplit="1" topLeftCell="A2" activePane="bottomLeft" state="frozen"/></sheetView></sheetViews><cols>'
)


def _write_rows(part: IO[bytes], worksheet: Any, table: Table) -> str:
    """Write one sheet; returns the reference of all its cells."""
    from openpyxl.utils import get_column_letter

    letters = [get_column_letter(n) for n in range(1, len(table.columns) + 1)]
    styles = _Styles(worksheet)
    rows = iter(table.rows)
    first = list(itertools.islice(rows, PEEK))
    part.write(_HEAD.encode())
    for n, width in enumerate(_widths(table.columns, [line for _, line in first]), start=1):
        part.write(f'<col min="{n}" max="{n}" width="{width}" customWidth="1"/>'.encode())
    heads = [
        f'<c r="{letter}1"{styles.text(name, bold=True)}' for letter, name in zip(letters, table.columns, strict=True)
    ]
    part.write(f'</cols><sheetData><row r="1">{"".join(heads)}</row>'.encode())
    marked = len(letters) if table.marked is None else table.marked
    last = 1
    rest = itertools.chain(first, rows)
    while piece := list(itertools.islice(rest, 1_000)):
        part.write(
            "".join(_row(number, line, letters, styles, marked, table.colours) for number, line in piece).encode()
        )
        last = piece[-1][0]
    ref = f"A1:{letters[-1]}{last}"
    part.write(f'</sheetData><autoFilter ref="{ref}"/></worksheet>'.encode())
    return ref


def _row(
    number: int, line: Line, letters: Sequence[str], styles: _Styles, marked: int, colours: Mapping[str, str]
) -> str:
    cells = []
    for at, (letter, cell) in enumerate(zip(letters, line, strict=True)):
        if cell is None or cell == "":
            continue
        if not isinstance(cell, str):
            cells.append(f'<c r="{letter}{number}"><v>{cell:d}</v></c>')
        elif at < marked:
            cells.append(f'<c r="{letter}{number}"{styles.text(cell)}')
        else:
            colour = colours.get(cell) if at == marked else None
            cells.append(f'<c r="{letter}{number}"{styles.often(cell, wrap=at > marked, colour=colour)}')
    return f'<row r="{number}">{"".join(cells)}</row>'


def _widths(columns: Sequence[str], lines: Sequence[Line]) -> list[int]:
    """A width for each column that shows most of what is in it, between 12 and 55 characters."""
    shown = zip(columns, *lines, strict=True)
    return [min(55, max(12, *(len(str(cell)) + 3 for cell in cells if cell is not None))) for cells in shown]


class _Styles:
    """Makes the inside of cells of text; each look is known to the workbook once, and the cells name it by number."""

    def __init__(self, worksheet: Any) -> None:
        self._worksheet = worksheet
        self._look = cache(self._new_look)
        self.often = lru_cache(4096)(self.text)
        """The same, for what stands in many rows."""

    def text(self, text: str, *, bold: bool = False, wrap: bool = False, colour: str | None = None) -> str:
        """From the attributes of a cell to its end."""
        if text.isascii() and text.isalnum():
            return f' s="{self._look(bold, wrap, colour, False)}" t="inlineStr"><is><t>{text[:MAX_TEXT]}</t></is></c>'
        clean = _clean(text)[:MAX_TEXT]
        look = self._look(bold, wrap, colour, RUNS.match(clean) is not None)
        keep = ' xml:space="preserve"' if clean != clean.strip() or "\n" in clean else ""
        return f' s="{look}" t="inlineStr"><is><t{keep}>{escape(clean)}</t></is></c>'

    def _new_look(self, bold: bool, wrap: bool, colour: str | None, quoted: bool) -> int:
        from openpyxl.cell import WriteOnlyCell
        from openpyxl.styles import Alignment, Font, PatternFill

        cell = WriteOnlyCell(self._worksheet)
        cell.number_format = "@"  # else Excel makes a formula of a text with = as soon as somebody edits the cell
        cell.font = Font(bold=bold)
        cell.alignment = Alignment(wrap_text=wrap, vertical="top")
        if colour:
            cell.fill = PatternFill("solid", fgColor=colour)
        cell.quotePrefix = quoted  # what Excel sets where a person types an apostrophe first
        return int(cell.style_id)


def _clean(text: str) -> str:
    """Text that XML can hold, as Excel writes it: a control character as `_x0007_`, and `_x0041_` stays what was typed."""
    if text.isascii() and text.isprintable() and "_x" not in text:
        return text
    text = re.sub(r"_(?=x[0-9A-Fa-f]{4}_)", "_x005F_", text)
    text = re.sub(r"[\ud800-\udfff]", "\ufffd", text)
    return re.sub(r"[\x00-\x08\x0b-\x1f\ufffe\uffff]", lambda match: f"_x{ord(match[0]):04X}_", text)
