"""A .csv as spreadsheets of every country write it: encoding, separator and quotes are found out."""

from __future__ import annotations

import csv
import io
import itertools
import re
from collections.abc import Collection, Iterator

from admin_notebooks.sheets.cells import EDGE, MAX_ROWS, Cell, Table, fold, text_cell, trim, unguard, unquote
from storage.errors import Problem


def read_csv(name: str, data: bytes, wanted: Collection[str]) -> Table:
    """The rows of a .csv under the header that has the wanted columns; raises Problem where it is no text."""
    text = _decode(name, data)
    told = re.match(
        r'"?sep=([^\r\n])"?(?:\r\n|\r|\n|$)', text, re.IGNORECASE
    )  # Excel takes this line away and counts from the next
    if told:
        text = text[told.end() :]
    separator = told[1] if told and told[1] != '"' else _separator(text, wanted)

    def rows(_width: int | None) -> Iterator[tuple[int, list[Cell]]]:
        for number, record in enumerate(_records(name, text, separator), start=1):
            cells = [text_cell(unguard(unquote(field))) for field in record]
            if any(cell.text for cell in cells):
                if number > MAX_ROWS:
                    raise Problem("sheet-too-large", path=name)
                yield number, cells

    return Table(rows)


def _decode(name: str, data: bytes) -> str:
    """The text of a csv: UTF-8, UTF-16 with its mark, else what Excel on Windows writes in western Europe and Africa."""
    encodings = ["utf-16"] if data.startswith((b"\xff\xfe", b"\xfe\xff")) else ["utf-8-sig", "cp1252"]
    for encoding in encodings:
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError:
            continue
        if "\0" in text or re.match(r"<[!?/a-z]|%pdf|\{\\rtf", text[:1024].lstrip(EDGE), re.IGNORECASE):
            break
        if not trim(text):
            raise Problem("sheet-empty", path=name)
        return text
    raise Problem("sheet-not-a-sheet", path=name)


_SEPARATORS = ",;\t|"

_NO_SEPARATOR = "\x1f"  # a sheet of one column: a comma in it belongs to the text


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
        if line.strip(EDGE) and line.count('"') % 2 == 0:
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
            if is_split and any(fold(field) in wanted for field in record if field):
                return place
    except csv.Error:  # a quote that never closes; the reading itself will say so
        pass
    return -1


_END = "\x1e"


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
