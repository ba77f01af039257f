"""Spreadsheets as people really send them, turned into rows of plain text.

It says what counts as a sheet, which worksheet is read and which row is the header.
The rule it protects: nothing that a person typed is lost in silence.
A cell that cannot be trusted carries a sentence that says why; a file that cannot be read is a `Problem`; an empty row is skipped and never ends the reading.
What an identifier means, which columns may hold a date, and what to do with a row is left to the callers.

    read             an .xlsx or .csv, told apart by content; `read_bytes` one that was dropped on a page
    typed            what was typed or pasted into a box, as a sheet
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import itertools
import re
import struct
import zipfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from admin_notebooks.sheets import sandbox
from admin_notebooks.sheets.cells import (
    BLANK,
    MAX_EMPTY_RUN,
    MAX_ROWS,
    Cell,
    Piece,
    Row,
    Rows,
    Sheet,
    Table,
    cell_of,
    fold,
    text_cell,
)
from admin_notebooks.sheets.csv_reader import read_csv
from admin_notebooks.sheets.workbook_reader import read_workbook
from storage.errors import Problem

MAX_BYTES = 50 * 2**20

MAX_COLUMNS = 4_096


def read(path: str | Path, *, wanted: Collection[str] = (), step: Callable[[int], None] = lambda _rows: None) -> Sheet:
    """The rows of an .xlsx or .csv file.

    The worksheet is the first (visible before hidden) that has one of the `wanted` columns among its first ten rows that are not empty;
    with nothing wanted, the first with any content, and its first row is the header.
    `step` is told how many rows were read, every now and then.
    Raises `Problem`, its key beginning with `sheet-`, for a file or a header that somebody has to put right.
    """
    return read_bytes(*_load(Path(path)), wanted=wanted, step=step)


def read_bytes(
    name: str, data: bytes, *, wanted: Collection[str] = (), step: Callable[[int], None] = lambda _rows: None
) -> Sheet:
    """The same for a file that is in memory already, such as one that was dropped on a page; `name` is for the sentences."""
    _check_size(name, len(data))
    listed = sorted(wanted) if isinstance(wanted, set | frozenset) else wanted
    pieces = _read_here_or_apart(name, data, list(dict.fromkeys(map(fold, listed))))
    columns, headers = next(pieces)
    rows = Rows(columns)
    for piece in pieces:
        rows.extend(piece)
        step(len(rows))
    return Sheet(tuple(columns), tuple(headers), rows, hashlib.sha256(data).hexdigest())


SMALL = 2**20
"""Bytes of a sheet, unpacked, that are read in this process: they hold too little to do harm."""

MEMORY = 512 * 2**20

SECONDS = 30
"""What the reading of any larger sheet may take, in a process of its own."""


def _read_here_or_apart(name: str, data: bytes, wanted: list[str]) -> Iterator[Any]:
    """What `parse` yields: from a process of its own, if the sheet is not small."""
    if _unpacked(data) <= SMALL:
        yield from parse(data, name, wanted, quickly=False)
        return
    options = {"name": name, "wanted": wanted}
    for quickly in (True, False):  # a cell far away is too much for the quick reader and nothing to the other
        pieces = sandbox.run(parse, data, {**options, "quickly": quickly}, memory=MEMORY, seconds=SECONDS)
        try:
            first = next(pieces)
        except sandbox.Died as died:
            if quickly and died.because != "time":
                continue
            raise Problem("sheet-too-heavy", path=name, seconds=SECONDS) from died
        yield first
        try:
            yield from pieces
        except sandbox.Died as died:
            raise Problem("sheet-too-heavy", path=name, seconds=SECONDS) from died
        return


def _unpacked(data: bytes) -> int:
    """How large a file says it is when it is unpacked; what is damaged is found where it is read."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return max(len(data), sum(member.file_size for member in archive.infolist()))
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError, struct.error):
        return len(data)


def parse(data: bytes, name: str, wanted: Collection[str], quickly: bool) -> Iterator[Any]:
    """What is in a file, piece by piece: first its columns and headers, then some rows at a time (`Piece`).

    `quickly` lets calamine read a workbook of which it gives the same cells as openpyxl.
    """
    with _tables(name, data, wanted, quickly=quickly) as tables:
        table, header_number, header = _choose(tables, wanted, name)
        positions = _positions(header, name)
        yield list(positions.values()), [header[index].text for index in positions]
        if table.values is not None:
            yield from _pieces_of_values(name, table.values(), header_number, positions)
        else:
            yield from _pieces(table, header_number, positions)


def _load(path: Path) -> tuple[str, bytes]:
    """The name and the bytes, read once so that the digest belongs to what was read."""
    name = path.name or str(path)
    try:
        if path.exists() and not path.is_file():
            raise Problem("sheet-other-kind", path=name, kind="a folder" if path.is_dir() else "a device")
        _check_size(name, path.stat().st_size)
        return name, path.read_bytes()
    except (OSError, ValueError) as error:
        raise Problem("sheet-missing-file", path=name) from error


def _check_size(name: str, size: int) -> None:
    if size > MAX_BYTES:
        raise Problem("sheet-too-large", path=name)
    if not size:
        raise Problem("sheet-empty", path=name)


def typed(text: str, column: str) -> Sheet:
    """What a person typed or pasted into a box, as a sheet of one column: a line, or what stands between two commas, is a row."""
    pieces = [text_cell(piece) for piece in re.split(r"[\n\r\t,;]+", text)]
    rows = tuple(Row(n, {column: cell}) for n, cell in enumerate((c for c in pieces if c.text), start=1))
    return Sheet((column,), (column,), rows, hashlib.sha256(text.encode("utf-8", "replace")).hexdigest())


@contextmanager
def _tables(name: str, data: bytes, wanted: Collection[str], *, quickly: bool) -> Iterator[Iterable[Table]]:
    """The tables of a file, open as long as the block lasts. The content decides the kind: people rename files."""
    if data.startswith(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"):  # OLE: Excel 97 to 2003, and any workbook with a password
        if "EncryptedPackage".encode("utf-16-le") in data:
            raise Problem("sheet-password", path=name)
        raise Problem("sheet-old-excel", path=name)
    if kind := _other_kind(data):
        raise Problem("sheet-other-kind", path=name, kind=kind)
    if data.startswith((b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")):
        with read_workbook(name, data, quickly=quickly) as tables:
            yield tables
    else:
        yield [read_csv(name, data, wanted)]


# What people upload instead of a sheet, by how it begins; the sign in front is how a web page that is called .xls begins.
_OTHER_KINDS = (
    (rb"%PDF", "a PDF"),
    (rb"\x89PNG|\xff\xd8\xff|GIF8|RIFF....WEBP", "a picture"),
    (rb"\{\\rtf", "a text document"),
    (rb"\x1f\x8b|7z\xbc\xaf|Rar!", "a packed file"),
    (rb"SQLite format 3", "a database"),
    (rb"(?i)(?:\xef\xbb\xbf|\xff\xfe|\xfe\xff)?\s*<(?:!doctype|html|table)", "a web page, whatever its name says,"),
)

_OTHER_ZIPS = (
    ("content.xml", "a LibreOffice file (.ods)"),
    ("Index/", "an Apple Numbers file"),
    ("word/", "a Word document"),
    ("ppt/", "a presentation"),
    ("xl/workbook.bin", "a binary workbook (.xlsb)"),
)


def _other_kind(data: bytes) -> str | None:
    """What a file is that is plainly something else: a person is told so, and not only that it is no sheet."""
    head = data[:256] if not data.startswith((b"\xff\xfe", b"\xfe\xff")) else data[:512].replace(b"\0", b"")
    for begins, kind in _OTHER_KINDS:
        if re.match(begins, head):
            return kind
    if data.startswith(b"PK\x03\x04"):
        with contextlib.suppress(zipfile.BadZipFile, ValueError, NotImplementedError, OSError, struct.error):
            names = zipfile.ZipFile(io.BytesIO(data)).namelist()
            return next((kind for part, kind in _OTHER_ZIPS if any(name.startswith(part) for name in names)), None)
    return None


def _choose(tables: Iterable[Table], wanted: Collection[str], name: str) -> tuple[Table, int, list[Cell]]:
    """The table to read, the number of its header row and that row."""
    first: tuple[Table, list[tuple[int, list[Cell]]]] | None = None
    for table in tables:
        top = list(itertools.islice(table.rows(None), 10))
        for number, cells in top:
            if any(fold(cell.text) in wanted for cell in cells if cell.text):
                return table, number, cells
        if top and first is None:
            first = table, top
    if first is None:
        raise Problem("sheet-empty", path=name)
    table, top = first
    if wanted:
        raise Problem("sheet-no-column", wanted=" or ".join(wanted), found=_found(top, next(iter(wanted))))
    return table, *top[0]


def _found(top: Sequence[tuple[int, list[Cell]]], wanted: str) -> str:
    """What stands where the header should be, in words for a person."""
    headers = [cell.text for cell in top[0][1] if cell.text]
    only_column = all(sum(1 for cell in cells if cell.text) == 1 for _, cells in top)
    if only_column and any(character.isdigit() for character in headers[0]):
        return f'"{headers[0][:60]}", which looks like an identifier and not like a header (add a first row that says {wanted})'
    shown = ", ".join(header[:60] for header in headers[:12])
    return f"{shown}, ..." if len(headers) > 12 else shown


def _positions(header: Sequence[Cell], name: str) -> dict[int, str]:
    """Where each named column stands. A column without a header has no name to ask for it by and is left out."""
    positions = {index: fold(cell.text) for index, cell in enumerate(header) if cell.text}
    seen: set[str] = set()
    for column in positions.values():
        if column in seen:
            raise Problem("sheet-column-twice", column=column)
        seen.add(column)
    if max(positions) >= MAX_COLUMNS:
        raise Problem("sheet-too-large", path=name)
    return positions


PIECE = 20_000
"""Rows that are handed on at once."""

BESIDE = 10
"""Columns to the right of the last header that are looked at as well: an identifier typed beside its column must come out
as a row without an identifier, and not as no row at all."""


def _pieces(table: Table, header_number: int, positions: Mapping[int, str]) -> Iterator[Piece]:
    """The rows below the header."""
    below = ((n, cells) for n, cells in table.rows(max(positions) + BESIDE + 1) if n > header_number)
    while part := list(itertools.islice(below, PIECE)):
        found = [[cells[index] if index < len(cells) else BLANK for _, cells in part] for index in positions]
        faults = [(at, n, cell.fault) for at, cells in enumerate(found) for n, cell in enumerate(cells) if cell.fault]
        yield [n for n, _ in part], [[cell.text for cell in cells] for cells in found], faults


def _pieces_of_values(
    name: str, rows: Iterator[list[Any]], header_number: int, positions: Mapping[int, str]
) -> Iterator[Piece]:
    """The same from the rows of a quick reader, column by column, because nearly every cell is letters and digits."""
    number, empty = header_number + 1, 0
    rows = itertools.islice(rows, header_number, None)
    while part := list(itertools.islice(rows, PIECE)):
        faults: list[tuple[int, int, str]] = []
        width = min(len(part[0]), max(positions) + BESIDE + 1)  # every row of a quick reader is as long as the others
        texts = [_texts([row[at] for row in part], at, faults) for at in range(width)]
        if any(map(all, texts)):  # a column without a blank: no row is empty
            filled, empty, last = [True] * len(part), 0, len(part)
        else:
            filled = list(map(any, zip(*texts, strict=True)))
            empty, last = _until_too_many_blanks(filled, empty)
        kept = [n for n in range(last) if filled[n]]
        if kept and number + kept[-1] > MAX_ROWS:
            raise Problem("sheet-too-large", path=name)
        yield _piece(number, kept, texts, positions, faults, len(part))
        if last < len(part):
            return
        number += len(part)


def _until_too_many_blanks(filled: Sequence[bool], empty: int) -> tuple[int, int]:
    """How many rows at the end are empty, with those that came before; and how many rows count at all."""
    for n, is_filled in enumerate(filled):
        empty = 0 if is_filled else empty + 1
        if empty > MAX_EMPTY_RUN:
            return empty, n
    return empty, len(filled)


def _piece(
    number: int,
    kept: Sequence[int],
    texts: Sequence[Sequence[str]],
    positions: Mapping[int, str],
    faults: Iterable[tuple[int, int, str]],
    length: int,
) -> Piece:
    """The rows that are kept, of the columns that have a header."""
    blank = [""] * length
    wanted = [texts[index] if index < len(texts) else blank for index in positions]
    place = {index: at for at, index in enumerate(positions)}
    if len(kept) == length:
        named = [(place[at], n, fault) for at, n, fault in faults if at in place]
        return list(range(number, number + length)), wanted, named
    row = {n: at for at, n in enumerate(kept)}
    named = [(place[at], row[n], fault) for at, n, fault in faults if at in place and n in row]
    return [number + n for n in kept], [[column[n] for n in kept] for column in wanted], named


def _texts(values: Sequence[Any], at: int, faults: list[tuple[int, int, str]]) -> list[str]:
    """The texts of one column; why a cell cannot be used goes to `faults`, with the column and the row."""
    if (plain := _plain_texts(values)) is not None:
        return plain

    def read(n: int, value: Any) -> str:
        cell = cell_of(value)
        if cell.fault:
            faults.append((at, n, cell.fault))
        return cell.text

    return [
        value if value == "" or (value.__class__ is str and value.isascii() and value.isalnum()) else read(n, value)
        for n, value in enumerate(values)
    ]


# What a text must have to read otherwise than it stands: a blank or an invisible mark at an end, an escape, the hash of an error,
# or the E of a number that Excel shortened.
_ODD = re.compile(r"[\x00-\x09\x0b-\x1f\x7f]|(?m:^ | $|^#)|_x|[0-9][eE][+-]?[0-9]")

_SHORTENED = re.compile(r"[0-9][eE]-")


def _plain_texts(values: Sequence[Any]) -> list[str] | None:
    """The texts of a column where they can be told from all of it at once, as they nearly always can; else None."""
    try:
        joined = "\n".join(values)
    except TypeError:  # a number among them
        whole = all(value.__class__ is float and value.is_integer() and abs(value) < 1e15 for value in values)
        return [str(int(value)) for value in values] if whole else None
    if not joined.isascii() or joined.count("\n") != len(values) - 1:
        return None
    letters = joined.replace("\n", "").replace("-", "")
    is_simple = not letters or letters.isalnum()
    if is_simple and "e-" not in joined and "E-" not in joined:
        return list(values)
    return list(values) if (_SHORTENED if is_simple else _ODD).search(joined) is None else None
