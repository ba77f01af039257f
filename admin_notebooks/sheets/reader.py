"""Spreadsheets as people really send them, turned into rows of plain text, and back.

This module owns the file formats: what counts as a sheet, which worksheet and which row is the header, what Excel did to a number.
The rule it protects: nothing that a person typed is lost in silence.
A cell that cannot be trusted carries a sentence that says why; a file that cannot be read is a `Problem`; an empty row is skipped and never ends the reading.
What an identifier means, which columns may hold a date, and what to do with a row is left to the callers.

    read             an .xlsx or .csv, told apart by content; `read_bytes` one that was dropped on a page
    typed            what was typed or pasted into a box, as a sheet
    write_template   cases_bulk_example.xlsx
    write_result     the same rows again with verdict, reason and suggestion
"""

from __future__ import annotations

import bisect
import contextlib
import csv
import functools
import hashlib
import io
import itertools
import marshal
import math
import os
import re
import secrets
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import IO, Any, NamedTuple
from xml.etree import ElementTree

from admin_notebooks.sheets import fast_xlsx, sandbox, xlsx_writer
from admin_notebooks.sheets.xlsx_writer import Line
from storage import private_files
from storage.errors import Problem

MAX_BYTES = 50 * 2**20
MAX_UNZIPPED = 512 * 2**20
MAX_MEMBERS = 1_000
MAX_RATIO = 200  # only for members over 1 MiB: small ones of nothing but blanks are harmless
MAX_ROWS = 1_048_576  # what Excel holds
MAX_COLUMNS = 4_096
MAX_EMPTY_RUN = 10_000  # one stray cell in Excel's last row must not cost a million rows of looking

RESULT_COLUMNS = ("verdict", "reason", "suggestion")
"""What `write_result` adds; an importer that keeps every further column as a property leaves these out."""

RENAMED_RESULT_COLUMNS = ("upload_verdict", "upload_reason", "upload_suggestion")
"""What `write_result` adds instead when the sheet has a column of its own by one of the names above."""


class Cell(NamedTuple):
    """What a person reads in a cell (`""` when blank) and, in `fault`, why it cannot be used and what to do.

    A date carries a fault too, because it is what Excel makes of some identifiers; a caller whose column may hold dates uses `text`.
    """

    text: str
    fault: str | None = None


class Row(NamedTuple):
    """A row that has something in it: the number that Excel shows, and its cells by folded column name; a blank one is missing."""

    number: int
    cells: Mapping[str, Cell]


class Rows(Sequence[Row]):
    """The rows of a sheet, kept as bytes and made one by one: a million of them fit where as many objects would not."""

    def __init__(self, columns: Sequence[str]) -> None:
        self._columns = columns
        self._pieces: list[bytes] = []
        self._ends: list[int] = []
        self._near: tuple[int, _Piece] = (-1, ((), (), ()))

    def extend(self, piece: _Piece) -> None:
        """Put further rows below."""
        plain: Any = piece
        self._pieces.append(marshal.dumps(plain))
        self._ends.append(len(self) + len(piece[0]))

    def __len__(self) -> int:  # noqa: D105
        return self._ends[-1] if self._ends else 0

    def __iter__(self) -> Iterator[Row]:  # noqa: D105
        for kept in self._pieces:
            numbers, texts, told = marshal.loads(kept)  # noqa: S302 (our own bytes)
            faults = {(place, n): fault for place, n, fault in told}
            for n, (number, *row) in enumerate(zip(numbers, *texts, strict=True)):
                yield self._row(number, n, row, faults)

    def __getitem__(self, place: Any) -> Any:  # noqa: D105
        if isinstance(place, slice):
            return tuple(self[n] for n in range(*place.indices(len(self))))
        place = range(len(self))[place]
        which = bisect.bisect_right(self._ends, place)
        if self._near[0] != which:
            self._near = which, marshal.loads(self._pieces[which])  # noqa: S302 (our own bytes)
        numbers, texts, told = self._near[1]
        n = place - (self._ends[which] - len(numbers))
        return self._row(numbers[n], n, [column[n] for column in texts], {(p, at): fault for p, at, fault in told})

    def column(self, name: str) -> Iterator[tuple[int, str, str | None]]:
        """Of each row its number, the text of one cell and its fault; in a fifth of the time that the rows take."""
        place = list(self._columns).index(name) if name in self._columns else None
        for kept in self._pieces:
            numbers, texts, told = marshal.loads(kept)  # noqa: S302 (our own bytes)
            faults = {n: fault for at, n, fault in told if at == place}
            column = [""] * len(numbers) if place is None else texts[place]
            yield from zip(numbers, column, map(faults.get, range(len(numbers))), strict=True)

    def __eq__(self, other: object) -> bool:  # noqa: D105
        return isinstance(other, Sequence) and tuple(self) == tuple(other)

    __hash__ = None  # type: ignore[assignment]

    def _row(self, number: int, n: int, texts: Sequence[str], faults: Mapping[tuple[int, int], str]) -> Row:
        cells = {
            column: Cell(text, faults.get((place, n)) if faults else None)
            for place, (column, text) in enumerate(zip(self._columns, texts, strict=True))
            if text
        }
        return Row(number, cells)


_Piece = tuple[Sequence[int], Sequence[Sequence[str]], Sequence[tuple[int, int, str]]]
"""Some rows: their numbers, the texts of each column, and of each cell that cannot be used its column, its row here and why."""


@dataclass(frozen=True, slots=True)
class Sheet:
    """A sheet as read: folded column names, the headers as typed (one for each column), the rows, and the sha256 of the file."""

    columns: tuple[str, ...]
    headers: tuple[str, ...]
    rows: Sequence[Row]
    digest: str


_BLANK = Cell("")


@dataclass(frozen=True, slots=True)
class _Table:
    """One worksheet or one csv: `rows(width)` starts again at the top and gives each row that is not empty with its number.

    `width` limits how many columns are looked at; None looks at all of them.  `values` gives every row as it comes from
    a quick reader, from row 1 on, the empty ones too.
    """

    rows: Callable[[int | None], Iterator[tuple[int, list[Cell]]]]
    values: Callable[[], Iterator[list[Any]]] | None = None


# ---------------------------------------------------------------------------------------------------- reading


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
    pieces = _read_here_or_apart(name, data, list(dict.fromkeys(map(_fold, listed))))
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
    """What is in a file, piece by piece: first its columns and headers, then some rows at a time (`_Piece`).

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
    pieces = [_text_cell(piece) for piece in re.split(r"[\n\r\t,;]+", text)]
    rows = tuple(Row(n, {column: cell}) for n, cell in enumerate((c for c in pieces if c.text), start=1))
    return Sheet((column,), (column,), rows, hashlib.sha256(text.encode("utf-8", "replace")).hexdigest())


@contextmanager
def _tables(name: str, data: bytes, wanted: Collection[str], *, quickly: bool) -> Iterator[Iterable[_Table]]:
    """The tables of a file, open as long as the block lasts. The content decides the kind: people rename files."""
    if data.startswith(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"):  # OLE: Excel 97 to 2003, and any workbook with a password
        if "EncryptedPackage".encode("utf-16-le") in data:
            raise Problem("sheet-password", path=name)
        raise Problem("sheet-old-excel", path=name)
    if kind := _other_kind(data):
        raise Problem("sheet-other-kind", path=name, kind=kind)
    if data.startswith((b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")):
        with _workbook(name, data, quickly=quickly) as tables:
            yield tables
    else:
        yield [_csv_table(name, data, wanted)]


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


def _choose(tables: Iterable[_Table], wanted: Collection[str], name: str) -> tuple[_Table, int, list[Cell]]:
    """The table to read, the number of its header row and that row."""
    first: tuple[_Table, list[tuple[int, list[Cell]]]] | None = None
    for table in tables:
        top = list(itertools.islice(table.rows(None), 10))
        for number, cells in top:
            if any(_fold(cell.text) in wanted for cell in cells if cell.text):
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
    positions = {index: _fold(cell.text) for index, cell in enumerate(header) if cell.text}
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


def _pieces(table: _Table, header_number: int, positions: Mapping[int, str]) -> Iterator[_Piece]:
    """The rows below the header."""
    below = ((n, cells) for n, cells in table.rows(max(positions) + BESIDE + 1) if n > header_number)
    while part := list(itertools.islice(below, PIECE)):
        found = [[cells[index] if index < len(cells) else _BLANK for _, cells in part] for index in positions]
        faults = [(at, n, cell.fault) for at, cells in enumerate(found) for n, cell in enumerate(cells) if cell.fault]
        yield [n for n, _ in part], [[cell.text for cell in cells] for cells in found], faults


def _pieces_of_values(
    name: str, rows: Iterator[list[Any]], header_number: int, positions: Mapping[int, str]
) -> Iterator[_Piece]:
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
) -> _Piece:
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


# What a text must have to read otherwise than it stands: a blank or an invisible mark at an end, an escape, the hash of an error,
# or the E of a number that Excel shortened.
_ODD = re.compile(r"[\x00-\x09\x0b-\x1f\x7f]|(?m:^ | $|^#)|_x|[0-9][eE][+-]?[0-9]")
_SHORTENED = re.compile(r"[0-9][eE]-")


def _texts(values: Sequence[Any], at: int, faults: list[tuple[int, int, str]]) -> list[str]:
    """The texts of one column; why a cell cannot be used goes to `faults`, with the column and the row."""
    if (plain := _plain_texts(values)) is not None:
        return plain

    def read(n: int, value: Any) -> str:
        cell = _cell(value)
        if cell.fault:
            faults.append((at, n, cell.fault))
        return cell.text

    return [
        value if value == "" or (value.__class__ is str and value.isascii() and value.isalnum()) else read(n, value)
        for n, value in enumerate(values)
    ]


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


def _fold(header: str) -> str:
    """`Case Identifier` and `case-identifier` are one column: `case_identifier`."""
    return re.sub(r"[\s\u2010-\u2015-]+", "_", _trim(header).lower())


# ---------------------------------------------------------------------------------------------------- cells

# Besides every kind of space: controls, soft hyphen and the invisible marks that come with numbers copied from chats and web pages.
_EDGE = "".join(map(chr, range(0x21))) + (
    "\x7f\x85\xa0\xad\u061c\u1680\u180e\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u200b\u200c\u200d\u200e\u200f"
    "\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u202f\u205f\u2060\u2061\u2062\u2063\u2064\u2066\u2067\u2068\u2069\u3000\ufeff"
)
# A sign or a fraction is asked for, because 1E5 typed into a Text column is a good external id and Excel never writes it so.
_SCIENTIFIC = re.compile(r"[+-]?(?:[0-9]+[.,][0-9]+[eE][+-]?[0-9]{1,3}|[0-9][eE][+-][0-9]{1,3})")
# The hashes are what Excel writes into a csv when a column was too narrow.
_ERROR_VALUE = re.compile(r"#(?:N/A|GETTING_DATA|[A-Z0-9/_]+[!?]|#{2,})")

_FAULT_SCIENTIFIC = (
    "Excel shortened a long number to {text}, and its last digits are lost."
    " Format the column as Text, then type or paste the full number again."
)
_FAULT_LONG = (
    "Excel keeps only 15 digits of a number, and this one has {count}, so the last ones are wrong."
    " Format the column as Text, then type or paste the full number again."
)
_FAULT_DATE = "Excel turned this into a date ({text}). Format the column as Text, then type it again as it should read."
_FAULT_ERROR = (
    "This cell shows {text} instead of a value. Correct the formula or widen the column, or type the value itself."
)
_FAULT_FORMULA = (
    "This cell is a formula, and the file does not hold its result."
    " Open the file in Excel and save it again, or copy the column and paste it as values."
)


def _trim(text: str) -> str:
    return text.strip(_EDGE)


def _text_cell(text: str) -> Cell:
    """A cell that was text in the file: kept as typed but for its ends, leading zeros and all."""
    text = _trim(text)
    if not text:
        return _BLANK
    if _SCIENTIFIC.fullmatch(text):
        return Cell(text, _FAULT_SCIENTIFIC.format(text=text))
    if _ERROR_VALUE.fullmatch(text):
        return Cell(text, _FAULT_ERROR.format(text=text))
    return Cell(text)


def _number_cell(value: int | float) -> Cell:
    """A cell that was a number: its digits. Excel stores fifteen of them, however many were typed."""
    if not math.isfinite(value):
        return Cell("#NUM!", _FAULT_ERROR.format(text="#NUM!"))
    if isinstance(value, float) and not value.is_integer():
        return Cell(format(Decimal(f"{value:.15g}"), "f"))  # 0.1 + 0.2 reads 0.3 in Excel, and so it does here
    digits = str(value) if isinstance(value, int) else f"{value:.0f}"
    digits = digits.removeprefix("-") if not value else digits
    count = len(digits.lstrip("-"))
    return Cell(digits, _FAULT_LONG.format(count=count) if count > 15 else None)


def _date_cell(value: date | time | timedelta) -> Cell:
    midnight = isinstance(value, datetime) and value.time() == time()
    if isinstance(value, datetime) and midnight:
        text = value.date().isoformat()
    else:
        text = str(value) if isinstance(value, timedelta) else value.isoformat()
    return Cell(text, _FAULT_DATE.format(text=text))


def _cell(value: object) -> Cell:
    """A cell of a workbook, from what openpyxl made of it."""
    if value is None:
        return _BLANK
    if isinstance(value, bool):
        return Cell("TRUE" if value else "FALSE")
    if isinstance(value, int | float):
        return _number_cell(value)
    if isinstance(value, date | time | timedelta):
        return _date_cell(value)
    return _text_cell(_unescape(str(value)))


def _unescape(text: str) -> str:
    """Excel stores a control character as `_x000D_`, and an underscore that could be read so as `_x005F_`; openpyxl leaves some."""
    if "_x" not in text:
        return text
    return re.sub(
        r"_x(00(?:0[0-9A-Fa-f]|1[0-9A-Fa-f]|5[Ff])|[Ff]{3}[EeFf])_", lambda match: chr(int(match[1], 16)), text
    )


# ---------------------------------------------------------------------------------------------------- workbooks


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
def _workbook(name: str, data: bytes, *, quickly: bool) -> Iterator[Iterable[_Table]]:
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


def _quick_tables(name: str, data: bytes) -> Iterator[_Table]:
    with _damage(name):
        yield from map(_quick_table, fast_xlsx.worksheets(data))


def _quick_table(values: Callable[[], Iterator[list[Any]]]) -> _Table:
    def rows(width: int | None) -> Iterator[tuple[int, list[Cell]]]:
        for number, row in enumerate(values(), start=1):
            cells = [_cell(value) for value in row[:width]]
            if any(cell.text for cell in cells):
                yield number, cells

    return _Table(rows, values)


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


def _worksheet_table(name: str, archive: zipfile.ZipFile, worksheet: Any) -> _Table:
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

    return _Table(rows)


def _cells(values: Sequence[object], formulas: Mapping[int, str] | None) -> list[Cell]:
    """The cells of a row, or nothing when all of them are blank."""
    if formulas is None and not any(value is not None for value in values):
        return []
    cells = [_cell(value) for value in values]
    for index, formula in (formulas or {}).items():
        cells.extend([_BLANK] * (index + 1 - len(cells)))
        cells[index] = Cell(formula, _FAULT_FORMULA)
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


# ---------------------------------------------------------------------------------------------------- csv

_SEPARATORS = ",;\t|"
_NO_SEPARATOR = "\x1f"  # a sheet of one column: a comma in it belongs to the text
_END = "\x1e"


def _csv_table(name: str, data: bytes, wanted: Collection[str]) -> _Table:
    text = _decode(name, data)
    told = re.match(
        r'"?sep=([^\r\n])"?(?:\r\n|\r|\n|$)', text, re.IGNORECASE
    )  # Excel takes this line away and counts from the next
    if told:
        text = text[told.end() :]
    separator = told[1] if told and told[1] != '"' else _separator(text, wanted)

    def rows(_width: int | None) -> Iterator[tuple[int, list[Cell]]]:
        for number, record in enumerate(_records(name, text, separator), start=1):
            cells = [_text_cell(unguard(_unquote(field))) for field in record]
            if any(cell.text for cell in cells):
                if number > MAX_ROWS:
                    raise Problem("sheet-too-large", path=name)
                yield number, cells

    return _Table(rows)


def _decode(name: str, data: bytes) -> str:
    """The text of a csv: UTF-8, UTF-16 with its mark, else what Excel on Windows writes in western Europe and Africa."""
    encodings = ["utf-16"] if data.startswith((b"\xff\xfe", b"\xfe\xff")) else ["utf-8-sig", "cp1252"]
    for encoding in encodings:
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError:
            continue
        if "\0" in text or re.match(r"<[!?/a-z]|%pdf|\{\\rtf", text[:1024].lstrip(_EDGE), re.IGNORECASE):
            break
        if not _trim(text):
            raise Problem("sheet-empty", path=name)
        return text
    raise Problem("sheet-not-a-sheet", path=name)


def _separator(text: str, wanted: Collection[str]) -> str:
    """The separator that shows a wanted column soonest; else the one that stands most often in the first line, outside of quotes.

    A title above the header may be full of commas. A header without any separator is a sheet of one column.
    """
    head = text[: 2**20]
    bare = re.sub(r'"[^"]*"?', "", _first_line(head))
    by_count = sorted(_SEPARATORS, key=lambda separator: -bare.count(separator))
    shown = [
        (place, separator)
        for separator in (*by_count, _NO_SEPARATOR)
        if (place := _place_of_header(head, separator, wanted)) >= 0
    ]
    if shown:
        return min(shown, key=lambda pair: pair[0])[1]
    return by_count[0] if by_count[0] in bare else _NO_SEPARATOR


def _first_line(text: str) -> str:
    """The first line that is not blank; one that ends inside quotes goes on in the next."""
    line = ""
    for piece in itertools.islice(io.StringIO(text, newline=""), 100):
        line += piece
        if line.strip(_EDGE) and line.count('"') % 2 == 0:
            break
    return line


def _place_of_header(text: str, separator: str, wanted: Collection[str]) -> int:
    """Which of the first ten records has a wanted column when split so, from 0; -1 for none.

    A separator that splits nothing shows nothing: that is a sheet of one column.
    """
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
        for place, record in enumerate(itertools.islice(filter(any, reader), 10)):
            is_split = len(record) > 1 or separator == _NO_SEPARATOR
            if is_split and any(_fold(field) in wanted for field in record if field):
                return place
    except csv.Error:  # a quote that never closes; the reading itself will say so
        pass
    return -1


def _records(name: str, text: str, separator: str) -> Iterator[list[str]]:
    """The records of a csv.

    A quote that never closes would swallow every row below it into one cell, and the csv module would say nothing.
    So a mark is put behind the last line, and a mark that does not come out alone was swallowed.
    """
    gap = "" if text.endswith(("\n", "\r")) else "\n"
    reader = csv.reader(io.StringIO(f"{text}{gap}{_END}", newline=""), delimiter=separator)
    last: list[str] | None = None
    count = 0
    try:
        for record in reader:
            if last is not None:
                yield last
            last = record
            count += 1
    except csv.Error as error:  # a cell of more than 131,072 characters: the same quote, in a longer file
        raise Problem("sheet-open-quote", path=name, row=count + 1) from error
    if last != [_END]:
        raise Problem("sheet-open-quote", path=name, row=count)


_UNGUARDED = re.compile(f"(^'*|[;\t\r\n][\"']*)(?={xlsx_writer.RUNS.pattern})")
_GUARDED = re.compile(f"(^'*|[;\t\r\n][\"']*)'(?={xlsx_writer.RUNS.pattern})")


def guard(text: str) -> str:
    """A text for a cell of a csv: an apostrophe before whatever a spreadsheet would run; `unguard` takes it away."""
    return _UNGUARDED.sub(r"\1'", text)


def unguard(text: str) -> str:
    """What a text was before `guard`, and any other text as it is but for such an apostrophe that a person wrote."""
    return _GUARDED.sub(r"\1", text)


def _unquote(field: str) -> str:
    """`="0123"` is how a csv keeps Excel from eating the zeros; Excel shows 0123."""
    match = re.fullmatch(r'\s*="([^"]*)"\s*', field)
    return match[1] if match else field


# ---------------------------------------------------------------------------------------------------- writing

# Light enough for dark text to stay readable in grey print; the word in the cell says it, the colour only helps.
_GREEN, _YELLOW, _RED = "E3F1E3", "FBF3D5", "F8DFDC"
_COLOURS = {
    **dict.fromkeys(("add", "remove", "create", "update"), _GREEN),
    **dict.fromkeys(("already_in", "not_member", "duplicate", "unchanged"), _YELLOW),
    **dict.fromkeys(("not_found", "ambiguous", "no_phone", "closed", "unreadable", "invalid"), _RED),
}

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


def write_template(path: str | Path) -> None:
    """Write `cases_bulk_example.xlsx`: the sheet to fill in, its column formatted as Text, and a sheet that explains it."""
    _write_empty(Path(path), ["case_identifier"], _HOW_TO)


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
        own = [row.cells.get(name, _BLANK).text for name in names]
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
