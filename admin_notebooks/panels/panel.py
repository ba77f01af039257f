"""A panel: one widget that draws itself, asks for what it shows, and is answered.

The page sends `{id, verb, args}`, and anybody can write such a thing by hand: `panels/verbs.py` reads it, and `answer` is the one
door by which it comes in, whatever carries it.  The method of the verb answers; whatever a person can put right comes back
as a sentence, and anything else as a reference to a line in the log, because a traceback tells a manager nothing and a lost
exception tells nobody anything.  Names and numbers reach the page as text and are never read as HTML.
"""

from __future__ import annotations

import logging
import secrets
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import anywidget

from admin_notebooks.desk import Desk
from admin_notebooks.panels import verbs
from admin_notebooks.panels.verbs import ANYBODY, Line, Operation, Short, verb
from admin_notebooks.proposals import Proposal, Result
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

    verbs: ClassVar[Mapping[str, verbs.Verb]]
    """What a page may ask of it, and nothing else."""

    def __init_subclass__(cls, **options: Any) -> None:  # noqa: D105 (a panel is read when it is defined)
        super().__init_subclass__(**options)
        cls.verbs = verbs.declared(cls)

    def __init__(self, desk: Desk) -> None:
        super().__init__()
        self.desk = desk
        self._proposals: dict[str, Proposal] = {}
        self.on_msg(self._hear)

    def _handle_msg(self, msg: Any) -> None:
        """Pass a question on, or say what the panel is made of; what that is, is not a page's to set."""
        sent = msg["content"].get("data")
        method = sent.get("method") if isinstance(sent, dict) else None
        if method == "request_state" or (method == "custom" and "content" in sent):
            super()._handle_msg(msg)

    def _hear(self, _widget: Any, content: Any, buffers: Any) -> None:
        if isinstance(content, dict):
            answer, data = self.answer(content, buffers or ())
            number = content.get("id")
            self.send({"id": number if type(number) is int and abs(number) < 2**53 else None, **answer}, data)

    def answer(self, asked: Any, buffers: Any = ()) -> tuple[dict[str, Any], list[bytes]]:
        """What a question gets: `{result}` or `{problem}`, and the bytes of a file.

        The question and its buffers may be anything at all: this never raises.
        """
        name = "a question that could not be read"
        try:
            found, values = verbs.read(self.verbs, asked, buffers)
            name = found.name
            self._allow(found.right)
            result = getattr(self, found.method)(**values)
        except Problem as problem:
            return {"problem": sentence(problem)}, []
        except Exception:  # noqa: BLE001 (the outer edge of a page: it says a sentence, and the log has the rest)
            reference = secrets.token_hex(4)
            log.error("fault %s in %s\n%s", reference, name, traceback.format_exc())
            return {
                "problem": f"Something is wrong on our side; nothing was changed. Tell the operator: {reference}."
            }, []
        return ({"result": {}}, [result]) if isinstance(result, bytes) else ({"result": result}, [])

    def _allow(self, right: str) -> None:
        """Raise Problem `right-missing` or `nobody-signed-in` for whom a verb is not."""
        if right != ANYBODY:
            with self.desk.db.reading() as tx:
                self.desk.allow(tx, right)

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

    @verb(ANYBODY)
    def do_ping(self) -> bool:
        """Whether anybody is here."""
        return True

    @verb("see")
    def do_who(self) -> dict[str, Any]:
        """Who is at this desk."""
        return self.desk.describe()

    @verb("see")
    def do_confirm(self, mark: Short, typed: Line = "") -> dict[str, Any]:
        """Do what was proposed, once; where somebody changed something since, what it would do now, to be confirmed anew."""
        proposal = self.proposed(mark)
        try:
            return done(proposal.confirm(typed))
        except Problem as problem:
            if problem.key != "plan-stale":
                raise
            return {"stale": sentence(problem), **self.propose(proposal.anew())}

    @verb("see")
    def do_outcome(self, mark: Short) -> dict[str, Any] | None:
        """What became of a click whose answer this page never heard."""
        result = self.desk.outcome(mark)
        return None if result is None else done(result)

    @verb("add")
    def do_undo(self, number: Operation) -> dict[str, Any]:
        """Take an operation back."""
        return done(self.desk.undo(number))


Panel.verbs = verbs.declared(Panel)


def done(result: Result) -> dict[str, Any]:
    """A result as the page shows it."""
    return {"number": result.number, "says": result.says, "undoable": result.undoable}
