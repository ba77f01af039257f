"""`jumbe export`: what the database holds, as a file that opens in a spreadsheet and runs nothing there.

A text that begins like a formula stays the same characters and does nothing: in a workbook every text is a text cell,
and in a csv, which has no such cells, `cells.guard` puts an apostrophe before it that the import takes away again.

The rows come from one moment of the database, or without WAL from a moment for each slice (`Database.reading_long`).  A
workbook takes long to write, so its rows are set down beside it first and the database is let go.
"""

from __future__ import annotations

import csv
import io
import json
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import click

from admin_notebooks.sheets import cells, writer
from storage import audit
from storage.console import as_json, count_of, open_database, show_one, working
from storage.errors import Problem
from storage.sheets import exports

ENDINGS = (".csv", ".xlsx")
Step = Callable[[int], None]


@click.command()
@click.argument("what", type=click.Choice(list(exports.WHAT)), metavar="WHAT")
@click.option("--to", "path", required=True, help="The file to write, .csv or .xlsx; one that is there is replaced.")
@as_json
def export(what: str, path: str, *, json_: bool) -> None:
    """Write cases, groups, members, messages, broadcasts, consent or audit to a .csv or .xlsx file."""
    if Path(path).suffix.lower() not in ENDINGS:
        raise Problem("export-ending", path=path)
    writer.check_writable(path)
    try:
        count, head = _export(what, Path(path), json_=json_)
    except OSError as error:
        raise Problem("sheet-cannot-write", path=Path(path).name) from error
    record = {"file": path, "rows": count} | ({"head": head[1]} if head else {})
    if json_:
        show_one(record, json_=True)
        return
    told = f"; its head is {head[1]} (line {head[0]})" if head else ""
    click.echo(f"wrote {path}: {count_of(count, 'row')}{told}")


def _export(what: str, path: Path, *, json_: bool) -> tuple[int, audit.Head | None]:
    """Write the file; returns its number of rows, and of the audit log the head."""
    as_csv = path.suffix.lower() == ".csv"
    with working(f"exporting {what}", json_=json_) as step, _Kept(path.parent) as kept:
        with open_database().reading_long() as read:
            with read() as tx:
                head = audit.head(tx) if what == "audit" else None
            table = exports.export(read, what)
            if as_csv:
                return _write_csv(path, table, step), head
            kept.take(table.rows)
        _write_workbook(path, what, table.columns, kept, step)
    return kept.count, head


def _write_csv(path: Path, table: exports.Export, step: Step) -> int:
    """Comma, CRLF and quotes as in RFC 4180; UTF-8 with its mark, without which Excel reads other letters."""
    with writer.replacing(path) as file:
        out = io.TextIOWrapper(file, encoding="utf-8-sig", errors="replace", newline="")
        rows = csv.writer(out)
        rows.writerow([cells.guard(name) for name in table.columns])
        count = 0
        for count, row in enumerate(table.rows, start=1):
            rows.writerow([cells.guard(cell) if isinstance(cell, str) else cell for cell in row])
            step(count)
        out.flush()
        out.detach()
    return count


def _write_workbook(path: Path, title: str, columns: Sequence[str], kept: _Kept, step: Step) -> None:
    writer.write_table(path, title, columns, _counted(kept.rows(), step))


class _Kept:
    """Rows set down in a file without a name, which is gone when it is closed."""

    def __init__(self, folder: Path) -> None:
        self._file = tempfile.TemporaryFile("w+", encoding="utf-8", errors="surrogatepass", dir=folder)  # noqa: SIM115
        self.count = 0

    def __enter__(self) -> _Kept:
        return self

    def __exit__(self, *_fault: object) -> None:
        self._file.close()

    def take(self, rows: Iterable[list[exports.Cell]]) -> None:
        """Set all of them down; raises Problem `sheet-no-room` for what no workbook can hold."""
        for self.count, row in enumerate(rows, start=1):
            writer.check_fits(self.count + 1, row)
            self._file.write(json.dumps(row) + "\n")

    def rows(self) -> Iterator[list[exports.Cell]]:
        """All of them again."""
        self._file.seek(0)
        return map(json.loads, self._file)


def _counted(rows: Iterable[list[exports.Cell]], step: Step) -> Iterator[list[exports.Cell]]:
    for count, row in enumerate(rows, start=1):
        step(count)
        yield row
