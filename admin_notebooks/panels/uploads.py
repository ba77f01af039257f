"""What the panels share that take a sheet: its plan row by row, and the sheet again with a verdict beside each row."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from admin_notebooks.deeds import told_of
from admin_notebooks.panels.panel import Panel
from admin_notebooks.panels.verbs import Short, verb
from admin_notebooks.proposals import Proposal
from admin_notebooks.sheets import writer
from storage.errors import Problem

SHOWN = 500
"""Rows of a sheet that the page lists; the workbook of the result has every one."""


class SheetPanel(Panel):
    """A panel whose proposals have rows."""

    def propose(self, proposal: Proposal) -> dict[str, Any]:
        """A proposal as the page shows it, with its first rows, problems first."""
        return {**super().propose(proposal), "rows": proposal.records(SHOWN)}

    @verb("see")
    def do_rows(self, mark: Short, verdict: Short = "") -> list[dict[str, Any]]:
        """The rows of a sheet that have one verdict, or the first of all, problems first."""
        return self.proposed(mark).records(SHOWN, verdict=verdict)

    @verb("see")
    def do_result(self, mark: Short) -> bytes:
        """The sheet again with a verdict, a reason and a suggestion beside each row."""
        proposal = self.proposed(mark)
        if proposal.sheet is None or proposal.plan is None:
            raise Problem("proposal-gone")
        return bytes_of(functools.partial(writer.write_result, sheet=proposal.sheet, results=told_of(proposal.plan)))


def bytes_of(write: Callable[[Path], None]) -> bytes:
    """The file that something writes to a path; the path is ours, and nobody else's words are in it."""
    with tempfile.TemporaryDirectory() as room:
        write(path := Path(room) / "sheet.xlsx")
        return path.read_bytes()
