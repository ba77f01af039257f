"""The panel of 01_case_groups: groups as cards, members in a table, add, remove, upload with a verdict per row, undo."""

from __future__ import annotations

from typing import Any

from admin_notebooks import cases, sheets, tables
from admin_notebooks.desk import Desk
from admin_notebooks.ui.panel import asset
from admin_notebooks.ui.uploads import SheetPanel, bytes_of
from storage.imports import Mode


class CaseGroups(SheetPanel):
    """Groups and who is in them."""

    _esm = asset("desk.js", "case.js", "uploads.js", "case_groups.js")
    _css = asset("desk.css")

    def do_groups(self) -> list[dict[str, Any]]:
        """The cards on the left."""
        return tables.list_groups(self.desk)

    def do_group(self, short: str) -> dict[str, Any]:
        """A group in numbers."""
        return tables.describe_group(self.desk, short)

    def do_members(self, short: str, **asked: Any) -> dict[str, Any]:
        """A hundred members, searched and sorted."""
        count, rows = tables.list_members(self.desk, short, **asked)
        return {"count": count, "rows": rows}

    def do_history(self, short: str) -> list[dict[str, Any]]:
        """What was done to a group."""
        return tables.list_history(self.desk, short)

    def do_deleted(self) -> list[dict[str, Any]]:
        """The groups that were deleted within a day."""
        return tables.list_deleted(self.desk)

    def do_case(self, case_id: str) -> dict[str, Any]:
        """A case whole."""
        return cases.describe(self.desk, case_id)

    def do_create(self, short: str, name: str) -> dict[str, Any]:
        """Make a group."""
        return self.propose(self.desk.create(short, name))

    def do_rename(self, short: str, name: str) -> dict[str, Any]:
        """Call it something else."""
        return self.propose(self.desk.rename(short, name))

    def do_delete(self, short: str) -> dict[str, Any]:
        """What deleting a group would do."""
        return self.propose(self.desk.delete(short))

    def do_add(self, short: str, typed: str) -> dict[str, Any]:
        """What adding these would do, row by row."""
        return self.propose(self.desk.add(short, typed))

    def do_remove(self, short: str, case_ids: list[str]) -> dict[str, Any]:
        """What taking these out would do."""
        return self.propose(self.desk.remove(short, "\n".join(case_ids)))

    def do_upload(self, short: str, name: str, mode: Mode, data: bytes) -> dict[str, Any]:
        """What a sheet would do, row by row."""
        return self.propose(self.desk.upload(short, name, data, mode))

    def do_template(self) -> bytes:
        """The sheet to fill in."""
        return bytes_of(sheets.write_template)


def panel(desk: Desk) -> CaseGroups:
    """The panel for a notebook's cell."""
    return CaseGroups(desk)
