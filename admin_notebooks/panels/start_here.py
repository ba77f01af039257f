"""The panel of 00_start_here: whether everything is well, where to go, and a box to try the bot."""

from __future__ import annotations

from typing import Any

from admin_notebooks import lab
from admin_notebooks.desk import Desk
from admin_notebooks.panels.panel import HERE, Panel, asset
from admin_notebooks.panels.verbs import Line, Words, verb
from storage.contacts.groups import count_cases

TEXTS = 10
"""Lines of the box that are tried at once."""


class StartHere(Panel):
    """Is everything well, and where to go."""

    _esm = asset("desk.js", "start_here.js")
    _css = asset("desk.css")

    @verb("see")
    def do_start(self) -> dict[str, Any]:
        """Who is here with `phone`, their `groups`, the `pages` there are, and for leads every line of the examination."""
        told = self.desk.describe()
        groups = self.desk.list_groups()
        with self.desk.db.reading() as tx:
            person = self.desk.person(tx)
            cases = count_cases(tx, [group.id for group in groups])
        return {
            **told,
            "phone": person.phone if person is not None else "",
            "groups": len(groups),
            "cases": cases,
            "pages": [page.stem for page in sorted(HERE.parent.glob("0*.ipynb"))],
            "lines": lab.examine(self.desk) if "lead" in told["rights"] else None,
        }

    @verb("see")
    def do_converse(self, phone: Line, texts: Words) -> list[dict[str, Any]]:
        """What the bot would answer to each line; nothing of it stays."""
        return lab.converse(self.desk, phone, [line for line in texts.splitlines() if line.strip()][:TEXTS])


def panel(desk: Desk) -> StartHere:
    """The panel for a notebook's cell."""
    return StartHere(desk)
