"""The panel of 02_cases: find somebody, a case whole, and sheets of cases."""

from __future__ import annotations

import functools
from typing import Annotated, Any

import traitlets

from admin_notebooks import case_views, tables
from admin_notebooks.desk import Desk
from admin_notebooks.panels.panel import asset
from admin_notebooks.panels.uploads import SheetPanel, bytes_of
from admin_notebooks.panels.verbs import Line, Number, Sheet, choice, named, text, verb
from admin_notebooks.sheets import writer

Values = Annotated[dict[str, str], named(text(100), text(33_000), 200)]
"""Properties of a case by name; a cell of a workbook has room for so much."""


class Cases(SheetPanel):
    """Cases: all of them, and one."""

    _esm = asset("desk.js", "case.js", "uploads.js", "cases.js")
    _css = asset("desk.css")
    case = traitlets.Unicode("").tag(sync=True)
    """What names the case that is opened first; an address with `?case=` goes before it."""

    @verb("read")
    def do_find(
        self,
        search: Line = "",
        sort: Annotated[str, choice(*tables.SORTS)] = "name",
        descending: bool = False,
        first: Number = 0,
    ) -> dict[str, Any]:
        """A hundred cases, searched and sorted."""
        count, rows = case_views.find(self.desk, search, sort=sort, descending=descending, first=first)
        return {"count": count, "rows": rows}

    @verb("read")
    def do_case(self, case_id: Line) -> dict[str, Any]:
        """A case whole."""
        return case_views.describe(self.desk, case_id)

    @verb("read")
    def do_texts(self, case_id: Line, before: Number | None = None) -> list[dict[str, Any]]:
        """Older texts with a case."""
        return case_views.list_texts(self.desk, case_id, before)

    @verb("read")
    def do_changes(self, case_id: Line) -> list[dict[str, Any]]:
        """What was changed of a case."""
        return case_views.list_changes(self.desk, case_id)

    @verb("change")
    def do_change(self, case_id: Line, values: Values) -> dict[str, Any]:
        """What setting these properties would do: old and new values, faults and warnings."""
        return self.propose(self.desk.change_case(case_id, values))

    @verb("lead")
    def do_hand_over(self, case_id: Line) -> dict[str, Any]:
        """What making this case the owner of its number would do."""
        return self.propose(self.desk.hand_over(case_id))

    @verb("lead")
    def do_upload(self, name: Line, data: Sheet) -> dict[str, Any]:
        """What a sheet of cases would create and change, with old and new value of each cell."""
        return self.propose(self.desk.upload_cases(name, data))

    @verb("see")
    def do_template(self) -> bytes:
        """The sheet to fill in."""
        return bytes_of(writer.write_case_template)

    @verb("lead")
    def do_everybody(self) -> bytes:
        """All cases as a sheet, to be changed and loaded again."""
        return bytes_of(functools.partial(case_views.write_sheet, self.desk))


def panel(desk: Desk, case: str = "") -> Cases:
    """The panel for a notebook's cell."""
    shown = Cases(desk)
    shown.case = case
    return shown
