"""What every branch of the command line shares: open the database, print records, say a Problem in words."""

from __future__ import annotations

import contextlib
import json
import re
import sys
import threading
import time
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import click

from storage import private_files
from storage.audit import Actor, Finding, Line
from storage.database import Database
from storage.errors import Problem
from storage.programme import settings
from storage.programme.settings import Settings

F = TypeVar("F", bound=Callable[..., Any])

WIDEST = 160
"""Characters of a cell in a table."""

CLI = Actor("cli", None, "command line")
"""Who acts on the command line: the system's own user."""


def open_database() -> Database:
    """The database that the environment names, checked; raises Misconfigured."""
    db = named_database(settings.read())
    db.check()
    return db


def named_database(told: Settings, *, tighten: bool = True) -> Database:
    """The database that the settings name, not looked at yet; it is closed with the command that runs.

    Its files, and what lies beside it, may have been made by a release that left them open: they become their owner's
    alone here, before anything is opened.  Who only looks whether they are says `tighten=False`.
    """
    db = Database(told.database_url, told.rules())
    if tighten:
        private_files.tighten(private_files.of_programme(db.file, told.spool))
    if (command := click.get_current_context(silent=True)) is not None:
        command.call_on_close(db.close)
    return db


def as_json(command: F) -> F:
    """Give a command `--json`: records as an array, or one object."""
    return click.option("--json", "json_", is_flag=True, help="Print records as JSON.")(command)


_STEERS = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    """A text of somebody else's as a terminal may have it: what would steer it stands there as an escape.

    These are the controls (a new line too), and the marks that turn the direction of writing round.
    """
    return _STEERS.sub(
        lambda found: f"\\x{ord(found[0]):02x}" if found[0] < "\u0100" else f"\\u{ord(found[0]):04x}", text
    )


def show(records: Sequence[Mapping[str, Any]], *, json_: bool, columns: Sequence[str] = ()) -> None:
    """Print records: as JSON, or as a plain table of these columns."""
    if json_:
        click.echo(json.dumps([dict(r) for r in records], default=_plain, ensure_ascii=False, indent=2))
        return
    if not records:
        click.echo("(none)")
        return
    names = list(columns or records[0].keys())
    rows = [[_cut(_cell(record.get(name))) for name in names] for record in records]
    widths = [max(len(name), *(len(row[i]) for row in rows)) for i, name in enumerate(names)]
    for row in [names, *rows]:
        click.echo("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())


def show_one(record: Mapping[str, Any], *, json_: bool) -> None:
    """Print one record: as a JSON object, or a line for each key."""
    if json_:
        click.echo(json.dumps(dict(record), default=_plain, ensure_ascii=False, indent=2))
        return
    width = max(len(name) for name in record)
    for name, value in record.items():
        click.echo(f"{name.ljust(width)}  {_cell(value)}")


def show_rows(name: str, records: Iterable[Mapping[str, Any]], rest: Mapping[str, Any]) -> None:
    """Print one JSON object that has any number of records under a name, a line for each, and the rest below them."""
    click.echo(f"{{{json.dumps(name)}: [", nl=False)
    gap = "\n"
    for record in records:
        click.echo(f"{gap}{json.dumps(dict(record), default=_plain, ensure_ascii=False)}", nl=False)
        gap = ",\n"
    click.echo(f"\n], {json.dumps(rest, default=_plain, ensure_ascii=False)[1:]}")


def count_of(count: int, thing: str) -> str:
    """`1 row`, `2,000 rows`."""
    return f"{count:,} {thing}" if count == 1 else f"{count:,} {thing}s"


def people_of(count: int) -> str:
    """`1 person`, `245 people`."""
    return "1 person" if count == 1 else f"{count:,} people"


QUIET_S = 1.0
"""What is over sooner needs no word on how far it is."""


@contextlib.contextmanager
def working(what: str, *, json_: bool = False) -> Iterator[Callable[[int], None]]:
    """Say on a terminal what is being done and how far it is, in one line that is written over and goes at the end.

    What it yields takes the number of rows done so far.  Into a pipe nothing is written, nor with `--json`, and nothing
    in the first second.  The line is drawn by a thread of its own, for a plan of 100,000 rows has no step at which to draw it.
    """
    if json_ or not sys.stderr.isatty():
        yield lambda _count: None
        return
    what = printable(what)
    done, began, over = [0], time.monotonic(), threading.Event()

    def count(rows: int) -> None:
        done[0] = rows

    def draw() -> None:
        wait = QUIET_S
        while not over.wait(wait):
            rows = f", {count_of(done[0], 'row')}" if done[0] else ""
            sys.stderr.write(f"\r{what}{rows}, {time.monotonic() - began:.0f} s \x1b[K")
            sys.stderr.flush()
            wait = 0.2

    drawing = threading.Thread(target=draw, daemon=True)
    drawing.start()
    try:
        yield count
    finally:
        over.set()
        drawing.join()
        if time.monotonic() - began >= QUIET_S:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


@cache
def _sentences() -> dict[str, str]:
    path = Path(__file__).parent / "sentences.toml"
    return tomllib.loads(path.read_text(encoding="utf-8"))


def sentence(problem: Problem) -> str:
    """A Problem as a screen says it: what is wrong, and the next step."""
    told = _sentences().get(problem.key)
    if problem.values.get("near") == "":
        told = _sentences().get(f"{problem.key}-far", told)  # nothing is near, so nothing is named
    return told.format_map(problem.values) if told is not None else str(problem)


def sentences_of(problems: Iterable[Problem]) -> list[str]:
    """Several Problems in words."""
    return [sentence(problem) for problem in problems]


def verified(found: Finding) -> str:
    """What `audit.verify` found, as one sentence, and as a second one how much was forgotten, if anything was."""
    return _verdict(found) + forgotten(found)


def forgotten(found: Finding) -> str:
    """A sentence with a space before it about the changes whose values were forgotten; nothing where none was."""
    if not found.forgotten:
        return ""
    return " " + sentence(Problem("audit-forgotten", count=count_of(found.forgotten, "change")))


def _verdict(found: Finding) -> str:
    count = f"{found.holds:,} line{'s hold' if found.holds != 1 else ' holds'}"
    if found.breach is not None and found.broken is not None:
        return sentence(Problem(f"audit-{found.breach}", line=_line(found.broken), count=count))
    end = f"the log ends with {_line(found.last)}" if found.last else "the log is empty"
    if found.breach is not None:
        return sentence(Problem(f"audit-{found.breach}", end=end))
    if found.last is None:
        return "The audit log is empty."
    noted = f"; the noted head is {_line(found.noted)}" if found.noted else ""
    return f"Every line holds, {found.holds:,} in all; the head is {found.last.hash}, {_line(found.last)}{noted}."


def _line(line: Line) -> str:
    return f"line {line.id} of {line.at:%Y-%m-%d %H:%M:%S} UTC" if line.at else f"line {line.id}"


def _plain(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(type(value).__name__)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(value, list | tuple):
        return printable(", ".join(str(v) for v in value)) or "-"
    if isinstance(value, dict):
        return printable(", ".join(f"{k} {v}" for k, v in value.items())) or "-"
    return printable(str(value).replace("\n", " "))


def _cut(text: str) -> str:
    """A cell of a table: a long text would push every other column off the screen; `--json` has it whole."""
    return text if len(text) <= WIDEST else text[: WIDEST - 3] + "..."
