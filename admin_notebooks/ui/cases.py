"""The panel of 02_cases: find a case, see it whole, edit it, and load a sheet of cases with old and new values."""

from __future__ import annotations

from typing import Any

from admin_notebooks import tables
from admin_notebooks.desk import Desk
from admin_notebooks.ui.panel import Panel, asset


class Cases(Panel):
    """Cases, one by one and by the sheet."""

    _esm = asset("desk.js", "cases.js")
    _css = asset("desk.css")

    def do_find(self, **asked: Any) -> dict[str, Any]:
        """A hundred cases that fit."""
        count, rows = tables.list_cases(self.desk, **asked)
        return {"count": count, "rows": rows}

    def do_case(self, case_id: str) -> dict[str, Any]:
        """A case whole."""
        return tables.describe_case(self.desk, case_id)

    def do_edit(self, case_id: str, values: dict[str, str]) -> dict[str, Any]:
        """What an edit would change."""
        return self.with_rows(self.desk.edit_case(case_id, values))

    def do_upload(self, name: str, data: bytes) -> dict[str, Any]:
        """What a sheet of cases would create and change."""
        return self.with_rows(self.desk.upload_cases(name, data))


def panel(desk: Desk) -> Cases:
    """The panel for a notebook's cell."""
    return Cases(desk)
