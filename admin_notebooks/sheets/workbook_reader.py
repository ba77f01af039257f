"""A workbook (.xlsx) from a stranger: what is too large, damaged or built to harm is refused before it is read."""

from __future__ import annotations

import functools
import io
import re
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from xml.etree import ElementTree

from admin_notebooks.sheets import fast_xlsx
from admin_notebooks.sheets.cells import BLANK, FAULT_FORMULA, MAX_EMPTY_RUN, MAX_ROWS, Cell, Table, cell_of
from storage.errors import Problem

MAX_UNZIPPED = 512 * 2**20

MAX_MEMBERS = 1_000

MAX_RATIO = 200  # only for members over 1 MiB: small ones of nothing but blanks are harmless


@contextmanager
def _damage(name: str) -> Iterator[None]:
    """What zipfile, expat and openpyxl raise on a damaged or foreign file, as the one thing it means to a person."""
    try:
        yield
    except (
        ArithmeticError,
        AssertionError,
        AttributeError,
        EOFError,
        ElementTree.ParseError,
        LookupError,
        NotImplementedError,
        OSError,
        RuntimeError,
        TypeError,
        ValueError,
        struct.error,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise Problem("sheet-not-a-sheet", path=name) from error


@contextmanager
def read_workbook(name: str, data: bytes, *, quickly: bool) -> Iterator[Iterable[Table]]:
    """The worksheets of a workbook that passed the gate, the visible ones first: a person means what a person sees."""
    with warnings.catch_warnings():
        # openpyxl warns of each Excel feature that it does not keep; we keep none of them.
        warnings.filterwarnings("ignore", module=r"openpyxl\.")
        with _damage(name):
            archive = zipfile.ZipFile(io.BytesIO(data))
        with archive:
            with _damage(name):
                _gate(name, archive)
                is_quick = quickly and fast_xlsx.may_read(archive)
            if is_quick:
                yield _quick_tables(name, data)
                return
            with _damage(name):
                workbook = _open(data)
            try:
                worksheets = sorted(workbook.worksheets, key=lambda worksheet: bool(worksheet.sheet_state != "visible"))
                if not worksheets:  # another zip, or the "Strict" kind of workbook
                    raise Problem("sheet-not-a-sheet", path=name)
                yield [_worksheet_table(name, archive, worksheet) for worksheet in worksheets]
            finally:
                workbook.close()


def _quick_tables(name: str, data: bytes) -> Iterator[Table]:
    with _damage(name):
        yield from map(_quick_table, fast_xlsx.worksheets(data))


def _quick_table(values: Callable[[], Iterator[list[Any]]]) -> Table:
    def rows(width: int | None) -> Iterator[tuple[int, list[Cell]]]:
        for number, row in enumerate(values(), start=1):
            cells = [cell_of(value) for value in row[:width]]
            if any(cell.text for cell in cells):
                yield number, cells

    return Table(rows, values)


def _open(data: bytes) -> Any:
    from openpyxl import load_workbook

    return load_workbook(io.BytesIO(data), read_only=True, data_only=True, keep_links=False)


def _gate(name: str, archive: zipfile.ZipFile) -> None:
    """Refuse, before any of it is parsed, a workbook that is too large or was built to exhaust whoever opens it.

    The sizes are the ones the archive declares; zipfile never unpacks more of a member than it declared.
    """
    members = archive.infolist()
    if len(members) > MAX_MEMBERS or any(_is_bomb(member) for member in members):
        raise Problem("sheet-hostile", path=name)
    if sum(member.file_size for member in members) > MAX_UNZIPPED:
        raise Problem("sheet-too-large", path=name)
    for member in members:
        if (
            member.is_dir() or "/media/" in member.filename
        ):  # a picture in svg may have a document type, and is never parsed
            continue
        with archive.open(member) as part:
            head = part.read(PROLOG).replace(b"\0", b"")  # without the zeros, UTF-16 reads like ASCII
        if _has_document_type(head) or not _is_sane_dimension(head[:8192]):
            raise Problem("sheet-hostile", path=name)


PROLOG = 65_536
"""Bytes of a part in which its first element must begin: a document type could hide behind a long comment."""

_BEFORE_ELEMENT = re.compile(rb"(?:[^<]|<\?.*?\?>|<!--.*?-->)*", re.DOTALL)


def _has_document_type(head: bytes) -> bool:
    """Whether a document type stands before the first element, or no element begins where one must, in a part of XML."""
    if not head.lstrip(b"\xef\xbb\xbf\xff\xfe \t\r\n").startswith(b"<"):
        return False  # no XML: a picture, a macro, the settings of a printer
    found = _BEFORE_ELEMENT.match(head)
    begins = found.end() if found else 0
    return begins >= len(head) or head[begins : begins + 2] == b"<!"


def _is_bomb(member: zipfile.ZipInfo) -> bool:
    return member.file_size > 2**20 and member.file_size > MAX_RATIO * max(member.compress_size, 1)


def _is_sane_dimension(head: bytes) -> bool:
    """False when the part declares cells outside of Excel's own 1,048,576 rows and 16,384 columns."""
    declared = re.search(rb"<(?:\w+:)?dimension\b[^>]*?\bref=[\"']([^\"']*)", head)
    if not declared:
        return True
    rows = (int(digits[:9]) for digits in re.findall(rb"[0-9]+", declared[1]))
    columns = (letters.upper() for letters in re.findall(rb"[A-Za-z]+", declared[1]))
    return all(row <= 1_048_576 for row in rows) and all((len(column), column) <= (3, b"XFD") for column in columns)


def _worksheet_table(name: str, archive: zipfile.ZipFile, worksheet: Any) -> Table:
    worksheet.reset_dimensions()  # what a file declares is often wrong, and openpyxl would believe it
    unstored = functools.cache(lambda: _formulas_without_value(archive, worksheet._worksheet_path))

    def rows(width: int | None) -> Iterator[tuple[int, list[Cell]]]:
        with _damage(name):
            formulas = unstored()
            empty = 0
            for number, values in enumerate(worksheet.iter_rows(max_col=width, values_only=True), start=1):
                cells = _cells(values, formulas.get(number))
                if cells:
                    empty = 0
                    if number > MAX_ROWS:
                        raise Problem("sheet-too-large", path=name)
                    yield number, cells
                elif (empty := empty + 1) > MAX_EMPTY_RUN:
                    return

    return Table(rows)


def _cells(values: Sequence[object], formulas: Mapping[int, str] | None) -> list[Cell]:
    """The cells of a row, or nothing when all of them are blank."""
    if formulas is None and not any(value is not None for value in values):
        return []
    cells = [cell_of(value) for value in values]
    for index, formula in (formulas or {}).items():
        cells.extend([BLANK] * (index + 1 - len(cells)))
        cells[index] = Cell(formula, FAULT_FORMULA)
    return cells if any(cell.text for cell in cells) else []


def _formulas_without_value(archive: zipfile.ZipFile, part: str) -> dict[int, dict[int, str]]:
    """Row number and column index of each formula whose result the file does not hold.

    To openpyxl they are blank, and so is a formula whose result is an empty text (`t="str"`), which people fill down by the hundred
    and which is blank indeed; only the XML tells the two apart. It is parsed a second time only when it has a formula at all.
    """
    with archive.open(part) as source:
        if not _has_formula(source):
            return {}
    found: dict[int, dict[int, str]] = {}
    with archive.open(part) as source:
        number = 0
        # The gate refused document types, and expat limits what entities may grow to.
        for _, element in ElementTree.iterparse(source):  # noqa: S314
            if element.tag.rpartition("}")[2] == "row":
                number = int(float(element.get("r") or number + 1))
                if unstored := _unstored(element):
                    found[number] = unstored
                element.clear()
    return found


def _has_formula(source: Any) -> bool:
    """Whether an `f` element stands in the XML, read in pieces so that a large sheet costs no memory."""
    tail = b""
    while piece := source.read(2**20):
        if re.search(rb"<(?:\w+:)?f[\s/>]", tail + piece):
            return True
        tail = piece[-64:]
    return False


def _unstored(row: ElementTree.Element) -> dict[int, str]:
    """Column index and formula of each cell of a row that has a formula and no result."""
    found: dict[int, str] = {}
    index = -1
    for cell in row:
        index = _column_index(cell.get("r", "")) if cell.get("r") else index + 1
        parts = {part.tag.rpartition("}")[2]: part.text for part in cell}
        if "f" in parts and not parts.get("v") and cell.get("t") != "str":
            found[index] = f"={parts['f'] or '...'}"  # a formula shared with the cells above is written only once
    return found


def _column_index(reference: str) -> int:
    """The place of a column, from 0: `A1` is 0, `AB7` is 27."""
    from openpyxl.utils.cell import coordinate_to_tuple

    return int(coordinate_to_tuple(reference)[1]) - 1
