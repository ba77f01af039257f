"""What the other door lends to the desk: what it would answer to a text, and whether everything is well.

The doors do not know each other; these are found by name, as entry points, and without the other door they say so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.metadata import entry_points
from typing import Any

from admin_notebooks.desk import Desk
from storage import audit
from storage.audit import Actor
from storage.contacts import people
from storage.errors import Problem
from storage.rules import segments


def converse(desk: Desk, phone: str, texts: Sequence[str], *, live: bool = False) -> list[dict[str, Any]]:
    """Each text as if it came from this phone: `text`, `taken_for`, and `out`, a list of `to`, `body` and `parts`.

    It is a rehearsal and taken back, unless `live`.  A lead speaks for every phone, everybody else for their own.
    """
    with desk.db.reading() as tx:
        person = desk.person(tx)
        if person is None or "".join(filter(str.isdigit, phone)) != person.phone or live:
            desk.allow(tx, "lead")
    act = _lent("text" if live else "rehearse")
    if live:
        with desk.db.transaction() as tx:
            by = Actor("desk", desk.person_id, desk.notebook)
            audit.record(tx, "lab.text", "programme", facts={"texts": len(texts)}, by=by)
    return [
        {
            "text": turn.text,
            "taken_for": turn.taken_for,
            "out": [{"to": to, "body": body, "parts": segments.count(body).parts} for to, body in turn.out],
        }
        for turn in act(desk.db, phone, texts)
    ]


def first_lead(desk: Desk) -> str:
    """The phone of a lead, to try things from; for leads."""
    with desk.db.reading() as tx:
        desk.allow(tx, "lead")
        found = people.leads(tx)
    return str(found[0].phone) if found else ""


def examine(desk: Desk) -> list[dict[str, Any]]:
    """What an operator should know, for leads: `name`, `well`, and `says` with what to do.

    Of the audit log the newest lines are verified; `jumbe audit verify` reads all of it.
    """
    with desk.db.reading() as tx:
        desk.allow(tx, "lead")
    return [{"name": name, "well": well, "says": says} for name, well, says in _lent("examine")(desk.db, at_once=True)]


def _lent(name: str) -> Callable[..., Any]:
    found = [entry.load() for entry in entry_points(group="jumbe.lab", name=name)]
    if not found:
        raise Problem("lab-alone")
    act: Callable[..., Any] = found[0]
    return act
