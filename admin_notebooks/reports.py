"""An audit as one file to send or to print: HTML with its pictures inside, or a workbook with a sheet for each finding.

The file asks no other host for anything, runs nothing, and may be read by its owner alone.  Phone numbers stand in it with
their middle hidden unless somebody asks for them.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from html import escape
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pandas as pd

from admin_notebooks import checks, plots
from admin_notebooks.checks import Finding
from admin_notebooks.desk import Desk
from admin_notebooks.frames import Frame
from admin_notebooks.sheets import writer
from storage.console import count_of
from storage.errors import Problem

ENDINGS = (".html", ".xlsx")
SHOWN = 100
"""Rows of a finding in HTML; a workbook has room for more."""
KEPT = 100_000


@dataclass(frozen=True, slots=True)
class Report:
    """What an audit found, of which groups, and when it was asked; `numbers` says whether numbers stand in it whole."""

    title: str
    about: str
    made_at: datetime
    findings: Sequence[Finding]
    days: Frame
    by_whom: Frame
    overlaps: Frame
    mixes: dict[str, Frame]
    numbers: bool


def make(desk: Desk, group: str | None = None, *, since: datetime | str | None = None, numbers: bool = False) -> Report:
    """Ask everything that a report tells; of one group, or of all that this person may see."""
    with desk.db.reading() as tx:
        name = desk.group(tx, group).name if group else "every group"
        now = tx.now
    zone = desk.db.rules.time_zone
    about = [desk.db.rules.name, f"made {now.astimezone(ZoneInfo(zone)):%Y-%m-%d %H:%M} ({zone})"]
    if since:
        about.append(f"what was sent and who came and went since {since}")
    return Report(
        title=f"Membership audit: {name}",
        about=", ".join(about),
        made_at=now,
        findings=checks.findings(desk, group, since=since),
        days=checks.over_time(desk, group, since=since),
        by_whom=checks.by_whom(desk, group, since=since),
        overlaps=checks.overlaps(desk, group),
        mixes={by: checks.mix(desk, by, group) for by in checks.MIXES},
        numbers=numbers,
    )


def save(report: Report, path: str | Path) -> None:
    """Write a report to a file that ends in .html or .xlsx.  Raises Problem `report-ending` or `sheet-cannot-write`."""
    path = Path(path)
    if path.suffix.lower() not in ENDINGS:
        raise Problem("report-ending", path=str(path))
    if path.suffix.lower() == ".xlsx":
        writer.write_tables(path, _tables(report))
        return
    with writer.replacing(path) as file:
        file.write(html(report).encode())


def masked(number: str) -> str:
    """A number with its middle hidden: enough to know it by, too little to text it."""
    return f"{number[:4]}{'•' * max(0, len(number) - 7)}{number[-3:]}" if len(number) > 7 else "•" * len(number)


# -- html --------------------------------------------------------------------------------------------------------------

_LOOKS = """
:root { color-scheme: light }
body { font: 15px/1.5 "Segoe UI", Helvetica, Arial, sans-serif; color: #22282b; background: #fff; max-width: 60rem;
  margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.5rem; margin: 0 } h2 { font-size: 1.1rem; margin: 2.2rem 0 .6rem } p { margin: .3rem 0 }
.about, .mend { color: #5b666b } .needs { font-weight: 600 }
table { border-collapse: collapse; width: 100%; font-size: .9rem; font-variant-numeric: tabular-nums }
th { text-align: left; font-weight: 600; border-bottom: 2px solid #dfe5e8 } th, td { padding: .3rem .8rem .3rem 0; vertical-align: top }
td { border-bottom: 1px solid #eef2f4 } th.n, td.n { text-align: right; padding-right: 1.2rem }
details { margin: .5rem 0 } summary { cursor: pointer } svg { max-width: 100%; height: auto }
figure { margin: 1rem 0 }
@media print { body { margin: 0; max-width: none } details { break-inside: avoid } h2 { break-after: avoid } }
"""


def html(report: Report) -> str:
    """The report as one page."""
    found = [f for f in report.findings if f.count]
    fine = [f for f in report.findings if not f.count]
    parts = [
        f"<h1>{escape(report.title)}</h1>",
        f'<p class="about">{escape(report.about)}</p>',
        _figure(plots.findings(checks.as_frame(report.findings))),
        "<h2>What to look at</h2>" if found else "<p>Nothing was found: all is well.</p>",
        *(_finding(report, f) for f in found),
        f'<p class="about">Looked for and not found: {escape("; ".join(f.title for f in fine))}.</p>' if fine else "",
        "<h2>Who came and went</h2>",
        _figure(plots.over_time(report.days)),
        _table(report, report.by_whom),
        "<h2>Who is in two groups</h2>",
        _figure(plots.overlaps(report.overlaps)),
        "<h2>Who they are</h2>",
        *(_figure(plots.mix(counts, titled(by))) for by, counts in report.mixes.items()),
    ]
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{escape(report.title)}</title>'
    # Whatever somebody put into a name: nothing here may run or fetch anything.
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    safe = f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
    return f'<!DOCTYPE html>\n<html lang="en"><head>{head}{safe}<style>{_LOOKS}</style></head>\n<body>{"".join(parts)}</body></html>\n'


def _finding(report: Report, finding: Finding) -> str:
    which = finding.which(SHOWN)
    more = (
        f"<p>and {finding.count - len(which):,} more: a report in .xlsx has them.</p>"
        if finding.count > len(which)
        else ""
    )
    return (
        f"<details><summary><b>{finding.count:,}</b> {escape(finding.title)} "
        f'<span class="needs">({escape(finding.needs)})</span></summary>'
        f'<p class="mend">{escape(finding.mends)}</p>{_table(report, which)}{more}</details>'
    )


def _figure(picture: plots.Picture) -> str:
    return f"<figure>{picture.svg()}</figure>"


def _table(report: Report, frame: Frame) -> str:
    if frame.empty:
        return '<p class="about">Nobody.</p>'
    numeric = {name for name in frame if pd.api.types.is_integer_dtype(frame[name].dtype)}
    kinds = {name: " class=n" if name in numeric else "" for name in frame}
    head = "".join(f"<th{kinds[name]}>{escape(str(name).replace('_', ' '))}</th>" for name in frame)
    body = "".join(
        "<tr>" + "".join(
            f"<td{kinds[name]}>{escape(str(cell)) if cell is not None else ''}</td>"
            for name, cell in zip(frame, row, strict=True)
        ) + "</tr>"
        for row in _rows(report, frame)
    )  # fmt: skip
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


# -- cells -------------------------------------------------------------------------------------------------------------


def _tables(report: Report) -> Iterator[tuple[str, Sequence[str], Iterator[list[Any]]]]:
    summary = checks.as_frame(report.findings)
    yield "audit", list(summary), _rows(report, summary)
    about = io.StringIO(f"{report.title}\n{report.about}")
    yield "about", ["about"], ([line.strip()] for line in about)
    for finding in report.findings:
        if finding.count:
            which = finding.which(KEPT)
            yield finding.key, list(which), _rows(report, which)
    days = report.days.reset_index()
    yield "over time", list(days), _rows(report, days)
    yield "by whom", list(report.by_whom), _rows(report, report.by_whom)
    square = report.overlaps.reset_index()
    yield "overlaps", list(map(str, square)), _rows(report, square)
    for by, counts in report.mixes.items():
        yield by, list(counts), _rows(report, counts)


def _rows(report: Report, frame: Frame) -> Iterator[list[Any]]:
    """The rows of a frame as cells of text and whole numbers."""
    hidden = [not report.numbers and name in ("contact_phone_number", "phone") for name in frame]
    for row in frame.itertuples(index=False, name=None):
        yield [cell(value, hide=hide) for value, hide in zip(row, hidden, strict=True)]


def titled(by: str) -> str:
    """`language_code` is "Language"."""
    return by.removesuffix("_code").replace("_", " ").capitalize()


def cell(value: Any, *, hide: bool = False) -> str | int | None:
    """A value of a frame as text, a whole number, or nothing; a number that is to be hidden without its middle."""
    if value is None or pd.isna(value):
        return None
    if isinstance(value, pd.Timestamp):
        return f"{value:%Y-%m-%d}" if value == value.normalize() else f"{value:%Y-%m-%d %H:%M}"
    if pd.api.types.is_bool(value):
        return "yes" if value else "no"
    if isinstance(value, str):
        return masked(value) if hide else value
    return int(value)


def says(report: Report) -> str:
    """The report in a line, for a terminal or a log."""
    found = sum(1 for f in report.findings if f.count)
    urgent = sum(f.count for f in report.findings if f.needs == "high")
    return (
        f"{report.title}: {count_of(found, 'finding')}, {urgent:,} of them urgent"
        if found
        else f"{report.title}: all is well"
    )
