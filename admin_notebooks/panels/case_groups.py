"""The panel of 01_case_groups: groups as cards, members in a table, add, remove, upload with a verdict per row, undo."""

from __future__ import annotations

from typing import Annotated, Any

from admin_notebooks import case_views, tables
from admin_notebooks.desk import Desk
from admin_notebooks.panels.panel import asset
from admin_notebooks.panels.uploads import SheetPanel, bytes_of
from admin_notebooks.panels.verbs import Day, Line, Number, Pasted, Sheet, Short, choice, many, text, verb
from admin_notebooks.sheets import writer
from storage.sheets.plans import Mode


class CaseGroups(SheetPanel):
    """Groups and who is in them."""

    _esm = asset("desk.js", "case.js", "uploads.js", "case_groups.js")
    _css = asset("desk.css")

    @verb("see")
    def do_groups(self) -> list[dict[str, Any]]:
        """The cards on the left."""
        return tables.list_groups(self.desk)

    @verb("see")
    def do_group(self, short: Short) -> dict[str, Any]:
        """A group in numbers."""
        return tables.describe_group(self.desk, short)

    @verb("read")
    def do_members(
        self,
        short: Short,
        search: Line = "",
        sort: Annotated[str, choice(*tables.SORTS)] = "name",
        descending: bool = False,
        first: Number = 0,
        as_of: Day = "",
    ) -> dict[str, Any]:
        """A hundred members, searched and sorted."""
        count, rows = tables.list_members(
            self.desk, short, search=search, sort=sort, descending=descending, first=first, as_of=as_of
        )
        return {"count": count, "rows": rows}

    @verb("read")
    def do_history(self, short: Short) -> list[dict[str, Any]]:
        """What was done to a group."""
        return tables.list_history(self.desk, short)

    @verb("see")
    def do_deleted(self) -> list[dict[str, Any]]:
        """The groups that were deleted within a day."""
        return tables.list_deleted(self.desk)

    @verb("read")
    def do_case(self, case_id: Line) -> dict[str, Any]:
        """A case whole."""
        return case_views.describe(self.desk, case_id)

    @verb("change")
    def do_create(self, short: Short, name: Line) -> dict[str, Any]:
        """Make a group."""
        return self.propose(self.desk.create(short, name))

    @verb("change")
    def do_rename(self, short: Short, name: Line) -> dict[str, Any]:
        """Call it something else."""
        return self.propose(self.desk.rename(short, name))

    @verb("change")
    def do_delete(self, short: Short) -> dict[str, Any]:
        """What deleting a group would do."""
        return self.propose(self.desk.delete(short))

    @verb("add")
    def do_add(self, short: Short, typed: Pasted) -> dict[str, Any]:
        """What adding these would do, row by row."""
        return self.propose(self.desk.add(short, typed))

    @verb("change")
    def do_remove(self, short: Short, case_ids: Annotated[list[str], many(text(500), 10_000)]) -> dict[str, Any]:
        """What taking these out would do."""
        return self.propose(self.desk.remove(short, "\n".join(case_ids)))

    @verb("add")
    def do_upload(self, short: Short, name: Line, mode: Mode, data: Sheet) -> dict[str, Any]:
        """What a sheet would do, row by row."""
        return self.propose(self.desk.upload(short, name, data, mode))

    @verb("see")
    def do_template(self) -> bytes:
        """The sheet to fill in."""
        return bytes_of(writer.write_template)


def panel(desk: Desk) -> CaseGroups:
    """The panel for a notebook's cell."""
    return CaseGroups(desk)
