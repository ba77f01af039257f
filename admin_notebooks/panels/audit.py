"""The panel of 05_membership_audit: who should be looked at and what mends it, who came and went, who they are."""

from __future__ import annotations

import functools
from typing import Annotated, Any, Literal

import traitlets

from admin_notebooks import checks, plots, reports
from admin_notebooks.checks import Finding
from admin_notebooks.desk import Desk
from admin_notebooks.frames import Frame
from admin_notebooks.panels.panel import Panel, asset
from admin_notebooks.panels.uploads import bytes_of
from admin_notebooks.panels.verbs import Day, Pixels, Short, choice, verb
from storage.errors import Problem

SHOWN = 100
"""Rows of a finding that a page lists; the workbook has them all."""

Drawn = Annotated[str, choice("over_time", "overlaps", *checks.MIXES)]
"""The pictures that there are."""


class Audit(Panel):
    """One group, or all that this person may see, looked at since a day or from the beginning."""

    _esm = asset("desk.js", "case.js", "audit.js")
    _css = asset("desk.css")
    group = traitlets.Unicode("").tag(sync=True)
    since = traitlets.Unicode("").tag(sync=True)
    """What is looked at first; an address with `?group=` goes before it."""

    def __init__(self, desk: Desk) -> None:
        super().__init__(desk)
        self._found: dict[str, Finding] = {}

    @verb("see")
    def do_groups(self) -> list[dict[str, Any]]:
        """The groups there are to choose."""
        return [{"short": group.short, "name": group.name} for group in self.desk.list_groups()]

    @verb("read")
    def do_audit(self, group: Short = "", since: Day = "") -> dict[str, Any]:
        """Every check with its count, what needs a person first, and who added and removed how many."""
        found = checks.findings(self.desk, group or None, since=since or None)
        self._found = {finding.key: finding for finding in found}
        told = checks.as_frame(found).to_dict("records")
        return {"findings": told, "by_whom": _cells(checks.by_whom(self.desk, group or None, since=since or None))}

    @verb("read")
    def do_which(self, key: Short) -> dict[str, Any]:
        """The first hundred that a check of the last audit found: `columns`, and `rows` of text."""
        if key not in self._found:
            raise Problem("proposal-gone")
        return _cells(self._found[key].which(SHOWN))

    @verb("read")
    def do_picture(self, name: Drawn, width: Pixels, group: Short = "", since: Day = "") -> bytes:
        """`over_time`, `overlaps` or the `language_code`, `time_zone` or `gateway` of the members, as SVG for such a place."""
        of = group or None
        if name == "over_time":
            picture = plots.over_time(checks.over_time(self.desk, of, since=since or None))
        elif name == "overlaps":
            picture = plots.overlaps(checks.overlaps(self.desk, of))
        else:
            picture = plots.mix(checks.mix(self.desk, name, of), reports.titled(name))
        return picture.fitted(width).encode()

    @verb("read")
    def do_report(self, group: Short = "", since: Day = "", ending: Literal[".html", ".xlsx"] = ".html") -> bytes:
        """All of it as one page to print, or as a workbook; the middle of every number is hidden."""
        report = reports.make(self.desk, group or None, since=since or None)
        if ending == ".xlsx":
            return bytes_of(functools.partial(reports.save, report))
        return reports.html(report).encode()


def _cells(frame: Frame) -> dict[str, Any]:
    """A frame as text, a moment by the programme's clock."""
    rows = frame.itertuples(index=False, name=None)
    return {"columns": list(frame), "rows": [[reports.cell(value) for value in row] for row in rows]}


def panel(desk: Desk, group: str = "", since: str = "") -> Audit:
    """The panel for a notebook's cell."""
    shown = Audit(desk)
    shown.group, shown.since = group, since
    return shown
