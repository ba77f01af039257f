"""What one cell says, as text: numbers keep their digits, and what cannot be read says what is wrong and what to do."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, NamedTuple

from admin_notebooks.sheets import xlsx_writer
from storage.sheets.packed_rows import Packed

MAX_ROWS = 1_048_576  # what Excel holds

MAX_EMPTY_RUN = 10_000  # one stray cell in Excel's last row must not cost a million rows of looking


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


class Rows(Packed[Row]):
    """The rows of a sheet, kept by column: a million of them fit where as many objects would not."""

    def __init__(self, columns: Sequence[str]) -> None:
        super().__init__()
        self._columns = columns

    def extend(self, piece: Piece) -> None:
        """Put further rows below."""
        self.keep(piece, len(piece[0]))

    def column(self, name: str) -> Iterator[tuple[int, str, str | None]]:
        """Of each row its number, the text of one cell and its fault; in a fifth of the time that the rows take."""
        place = list(self._columns).index(name) if name in self._columns else None
        for numbers, texts, told in self.pieces():
            faults = {n: fault for at, n, fault in told if at == place}
            column = [""] * len(numbers) if place is None else texts[place]
            yield from zip(numbers, column, map(faults.get, range(len(numbers))), strict=True)

    def __eq__(self, other: object) -> bool:  # noqa: D105
        return isinstance(other, Sequence) and tuple(self) == tuple(other)

    __hash__ = None  # type: ignore[assignment]

    def _members(self, piece: Piece) -> Iterator[Row]:
        numbers, texts, told = piece
        faults = {(place, n): fault for place, n, fault in told}
        for n, (number, *row) in enumerate(zip(numbers, *texts, strict=True)):
            yield self._row(number, n, row, faults)

    def _member(self, piece: Piece, n: int) -> Row:
        numbers, texts, told = piece
        return self._row(numbers[n], n, [column[n] for column in texts], {(p, at): fault for p, at, fault in told})

    def _row(self, number: int, n: int, texts: Sequence[str], faults: Mapping[tuple[int, int], str]) -> Row:
        cells = {
            column: Cell(text, faults.get((place, n)) if faults else None)
            for place, (column, text) in enumerate(zip(self._columns, texts, strict=True))
            if text
        }
        return Row(number, cells)


Piece = tuple[Sequence[int], Sequence[Sequence[str]], Sequence[tuple[int, int, str]]]
"""Some rows: their numbers, the texts of each column, and of each cell that cannot be used its column, its row here and why."""


@dataclass(frozen=True, slots=True)
class Sheet:
    """A sheet as read: folded column names, the headers as typed (one for each column), the rows, and the sha256 of the file."""

    columns: tuple[str, ...]
    headers: tuple[str, ...]
    rows: Sequence[Row]
    digest: str


BLANK = Cell("")


@dataclass(frozen=True, slots=True)
class Table:
    """One worksheet or one csv: `rows(width)` starts again at the top and gives each row that is not empty with its number.

    `width` limits how many columns are looked at; None looks at all of them.  `values` gives every row as it comes from
    a quick reader, from row 1 on, the empty ones too.
    """

    rows: Callable[[int | None], Iterator[tuple[int, list[Cell]]]]
    values: Callable[[], Iterator[list[Any]]] | None = None


def fold(header: str) -> str:
    """`Case Identifier` and `case-identifier` are one column: `case_identifier`."""
    return re.sub(r"[\s\u2010-\u2015-]+", "_", trim(header).lower())


# Besides every kind of space: controls, soft hyphen and the invisible marks that come with numbers copied from chats and web pages.
EDGE = "".join(map(chr, range(0x21))) + (
    "\x7f\x85\xa0\xad\u061c\u1680\u180e\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u200b\u200c\u200d\u200e\u200f"
    "\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u202f\u205f\u2060\u2061\u2062\u2063\u2064\u2066\u2067\u2068\u2069\u3000\ufeff"
)

FAULT_FORMULA = (
    "This cell is a formula, and the file does not hold its result."
    " Open the file in Excel and save it again, or copy the column and paste it as values."
)


def trim(text: str) -> str:
    """Without blanks and marks at either end that nobody sees."""
    return text.strip(EDGE)


# A sign or a fraction is asked for, because 1E5 typed into a Text column is a good external id and Excel never writes it so.
_SCIENTIFIC = re.compile(r"[+-]?(?:[0-9]+[.,][0-9]+[eE][+-]?[0-9]{1,3}|[0-9][eE][+-][0-9]{1,3})")

# The hashes are what Excel writes into a csv when a column was too narrow.
_ERROR_VALUE = re.compile(r"#(?:N/A|GETTING_DATA|[A-Z0-9/_]+[!?]|#{2,})")

_FAULT_SCIENTIFIC = (
    "Excel shortened a long number to {text}, and its last digits are lost."
    " Format the column as Text, then type or paste the full number again."
)

_FAULT_ERROR = (
    "This cell shows {text} instead of a value. Correct the formula or widen the column, or type the value itself."
)


def text_cell(text: str) -> Cell:
    """A cell that was text in the file: kept as typed but for its ends, leading zeros and all."""
    text = trim(text)
    if not text:
        return BLANK
    if _SCIENTIFIC.fullmatch(text):
        return Cell(text, _FAULT_SCIENTIFIC.format(text=text))
    if _ERROR_VALUE.fullmatch(text):
        return Cell(text, _FAULT_ERROR.format(text=text))
    return Cell(text)


_FAULT_LONG = (
    "Excel keeps only 15 digits of a number, and this one has {count}, so the last ones are wrong."
    " Format the column as Text, then type or paste the full number again."
)


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


_FAULT_DATE = "Excel turned this into a date ({text}). Format the column as Text, then type it again as it should read."


def _date_cell(value: date | time | timedelta) -> Cell:
    midnight = isinstance(value, datetime) and value.time() == time()
    if isinstance(value, datetime) and midnight:
        text = value.date().isoformat()
    else:
        text = str(value) if isinstance(value, timedelta) else value.isoformat()
    return Cell(text, _FAULT_DATE.format(text=text))


def cell_of(value: object) -> Cell:
    """A cell of a workbook, from what openpyxl made of it."""
    if value is None:
        return BLANK
    if isinstance(value, bool):
        return Cell("TRUE" if value else "FALSE")
    if isinstance(value, int | float):
        return _number_cell(value)
    if isinstance(value, date | time | timedelta):
        return _date_cell(value)
    return text_cell(_unescape(str(value)))


def _unescape(text: str) -> str:
    """Excel stores a control character as `_x000D_`, and an underscore that could be read so as `_x005F_`; openpyxl leaves some."""
    if "_x" not in text:
        return text
    return re.sub(
        r"_x(00(?:0[0-9A-Fa-f]|1[0-9A-Fa-f]|5[Ff])|[Ff]{3}[EeFf])_", lambda match: chr(int(match[1], 16)), text
    )


_UNGUARDED = re.compile(f"(^'*|[;\t\r\n][\"']*)(?={xlsx_writer.RUNS.pattern})")


def guard(text: str) -> str:
    """A text for a cell of a csv: an apostrophe before whatever a spreadsheet would run; `unguard` takes it away."""
    return _UNGUARDED.sub(r"\1'", text)


_GUARDED = re.compile(f"(^'*|[;\t\r\n][\"']*)'(?={xlsx_writer.RUNS.pattern})")


def unguard(text: str) -> str:
    """What a text was before `guard`, and any other text as it is but for such an apostrophe that a person wrote."""
    return _GUARDED.sub(r"\1", text)


def unquote(field: str) -> str:
    """`="0123"` is how a csv keeps Excel from eating the zeros; Excel shows 0123."""
    match = re.fullmatch(r'\s*="([^"]*)"\s*', field)
    return match[1] if match else field
