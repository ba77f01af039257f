"""The panel of 02_cases: find somebody, a case whole, and sheets of cases."""

from __future__ import annotations

import functools
from typing import Any

import traitlets

from admin_notebooks import cases, sheets
from admin_notebooks.desk import Desk
from admin_notebooks.ui.panel import asset
from admin_notebooks.ui.uploads import SheetPanel, bytes_of


class Cases(SheetPanel):
    """Cases: all of them, and one."""

    _esm = asset("desk.js", "case.js", "uploads.js", "cases.js")
    _css = asset("desk.css")
    case = traitlets.Unicode("").tag(sync=True)
    """What names the case that is opened first; an address with `?case=` goes before it."""

    def do_find(self, **asked: Any) -> dict[str, Any]:
        """A hundred cases, searched and sorted."""
        count, rows = cases.find(self.desk, **asked)
        return {"count": count, "rows": rows}

    def do_case(self, case_id: str) -> dict[str, Any]:
        """A case whole."""
        return cases.describe(self.desk, case_id)

    def do_texts(self, case_id: str, before: int | None = None) -> list[dict[str, Any]]:
        """Older texts with a case."""
        return cases.list_texts(self.desk, case_id, before)

    def do_changes(self, case_id: str) -> list[dict[str, Any]]:
        """What was changed of a case."""
        return cases.list_changes(self.desk, case_id)

    def do_change(self, case_id: str, values: dict[str, str]) -> dict[str, Any]:
        """What setting these properties would do: old and new values, faults and warnings."""
        return self.propose(self.desk.change_case(case_id, values))

    def do_hand_over(self, case_id: str) -> dict[str, Any]:
        """What making this case the owner of its number would do."""
        return self.propose(self.desk.hand_over(case_id))

    def do_upload(self, name: str, data: bytes) -> dict[str, Any]:
        """What a sheet of cases would create and change, with old and new value of each cell."""
        return self.propose(self.desk.upload_cases(name, data))

    def do_template(self) -> bytes:
        """The sheet to fill in."""
        return bytes_of(sheets.write_case_template)

    def do_everybody(self) -> bytes:
        """All cases as a sheet, to be changed and loaded again."""
        return bytes_of(functools.partial(cases.write_sheet, self.desk))


def panel(desk: Desk, case: str = "") -> Cases:
    """The panel for a notebook's cell."""
    shown = Cases(desk)
    shown.case = case
    return shown
