"""A panel: one widget that draws itself, asks for what it shows, and is answered.

The page sends `{id, verb, args}`; the method `do_VERB` answers; whatever a person can put right comes back as a sentence,
and anything else as a reference to a line in the log, because a traceback tells a manager nothing and a lost exception
tells nobody anything.  Names and numbers reach the page as text and are never read as HTML.
"""

from __future__ import annotations

import logging
import secrets
import traceback
from pathlib import Path
from typing import Any

import anywidget

from admin_notebooks.desk import Desk, Proposal, Result
from storage.console import sentence
from storage.errors import Problem

log = logging.getLogger(__name__)
HERE = Path(__file__).parent
KEPT = 50
"""Proposals that a page may still confirm; older ones are forgotten."""


def asset(*names: str) -> str:
    """Files beside this one, put together: a widget takes one script and one sheet of styles."""
    return "\n".join((HERE / name).read_text(encoding="utf-8") for name in names)


class Panel(anywidget.AnyWidget):  # type: ignore[misc]
    """What every panel shares: answering, proposals that are confirmed by their mark, undo."""

    def __init__(self, desk: Desk) -> None:
        super().__init__()
        self.desk = desk
        self._proposals: dict[str, Proposal] = {}
        self.on_msg(self._hear)

    def _hear(self, _widget: Any, content: Any, buffers: list[Any]) -> None:
        if isinstance(content, dict) and "verb" in content:
            answer, data = self.answer(content, [bytes(b) for b in buffers or ()])
            self.send({"id": content.get("id"), **answer}, data)

    def answer(self, asked: dict[str, Any], buffers: list[bytes]) -> tuple[dict[str, Any], list[bytes]]:
        """What a question of the page gets: `{result}` or `{problem}`, and the bytes of a file."""
        act = getattr(self, f"do_{asked['verb']}", None)
        try:
            if act is None:
                raise LookupError(f"no verb {asked['verb']}")
            told = act(**asked.get("args", {}), **({"data": buffers[0]} if buffers else {}))
        except Problem as problem:
            return {"problem": sentence(problem)}, []
        except Exception:  # noqa: BLE001 (the outer edge of a page: it says a sentence, and the log has the rest)
            reference = secrets.token_hex(4)
            log.error("fault %s in %s\n%s", reference, asked["verb"], traceback.format_exc())
            return {
                "problem": f"Something is wrong on our side; nothing was changed. Tell the operator: {reference}."
            }, []
        return ({"result": {}}, [told]) if isinstance(told, bytes) else ({"result": told}, [])

    def propose(self, proposal: Proposal) -> dict[str, Any]:
        """A proposal as the page shows it; the page confirms it by its mark."""
        self._proposals[proposal.mark] = proposal
        while len(self._proposals) > KEPT:
            del self._proposals[next(iter(self._proposals))]
        return {
            "mark": proposal.mark,
            "says": proposal.says,
            "acts": proposal.acts,
            "refusal": proposal.refusal,
            "goes_with": list(proposal.goes_with),
            "must_type": proposal.must_type,
            "counts": proposal.counts,
            "meanwhile": list(proposal.meanwhile),
        }

    def proposed(self, mark: str) -> Proposal:
        """The proposal with this mark; raises Problem `proposal-gone`."""
        if mark not in self._proposals:
            raise Problem("proposal-gone")
        return self._proposals[mark]

    def do_ping(self) -> bool:
        """Whether anybody is here."""
        return True

    def do_who(self) -> dict[str, Any]:
        """Who is at this desk."""
        return self.desk.describe()

    def do_confirm(self, mark: str, typed: str = "") -> dict[str, Any]:
        """Do what was proposed, once; where somebody changed something since, what it would do now, to be confirmed anew."""
        proposal = self.proposed(mark)
        try:
            return done(proposal.confirm(typed))
        except Problem as problem:
            if problem.key != "plan-stale":
                raise
            return {"stale": sentence(problem), **self.propose(proposal.anew())}

    def do_outcome(self, mark: str) -> dict[str, Any] | None:
        """What became of a click whose answer this page never heard."""
        result = self.desk.outcome(mark)
        return None if result is None else done(result)

    def do_undo(self, number: int) -> dict[str, Any]:
        """Take an operation back."""
        return done(self.desk.undo(number))


def done(result: Result) -> dict[str, Any]:
    """A result as the page shows it."""
    return {"number": result.number, "says": result.says, "undoable": result.undoable}
