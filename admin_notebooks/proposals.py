"""A change that was looked at and is not done yet: the words for its button, a verdict for every row, what goes with it.

`confirm` does it once, however often it is asked (a double click, two open pages, a page that was reloaded), and returns a
result with the number by which it is taken back, here or by `undo 58` from a phone.
"""

from __future__ import annotations

import heapq
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import Row, and_, exists, func, or_, select

from admin_notebooks.access import Access
from admin_notebooks.deeds import deed, differing, rank, record
from admin_notebooks.sheets.cells import Sheet
from storage import audit
from storage.audit import Actor
from storage.console import count_of, sentence
from storage.database import Transaction
from storage.errors import Problem
from storage.operations import operations
from storage.rules.normalize import key
from storage.schema import audit as audit_table
from storage.schema import audit_changes
from storage.schema import people as people_table
from storage.sheets.plans import Plan, holds

TRIES = 3


@dataclass(frozen=True, slots=True)
class Result:
    """What was done: in words, under which number, and whether it can be taken back."""

    number: int
    says: str
    undoable: bool


@dataclass(frozen=True, slots=True)
class Done:
    """What one change came to, to be written down as an operation."""

    says: str
    undoes: Mapping[str, Any] | None
    group_id: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """Something that could be done and is not done yet.

    `says` names the effect ("Add 10 cases to Antenatal care"), `goes_with` what else would follow, `must_type` what has to
    be typed first.  Of a sheet or a list `plan` has the verdict of every row.  `meanwhile` is what others did, in words,
    where it was made anew because of that; `seen` the last line of the log that it knows of, `about` the group's row id.
    """

    desk: Access
    kind: str
    says: str
    goes_with: tuple[str, ...] = ()
    must_type: str | None = None
    plan: Plan | None = None
    sheet: Sheet | None = None
    source: str | None = None
    meanwhile: tuple[str, ...] = ()
    seen: int = 0
    about: int | None = None
    mark: str = field(default_factory=lambda: f"desk:{secrets.token_hex(12)}")
    _do: Callable[[Transaction, Plan | None, Actor], Done]
    _again: Callable[[Transaction], Plan] | None = None
    _anew: Callable[[], Proposal] | None = None

    @property
    def acts(self) -> bool:
        """Whether confirming would change anything."""
        return self.plan is None or (self.plan.acts and self.plan.refusal is None)

    @property
    def refusal(self) -> str | None:
        """Why none of it may be done, in words."""
        return sentence(self.plan.refusal) if self.plan and self.plan.refusal else None

    @property
    def counts(self) -> dict[str, int]:
        """How many rows have which verdict, what needs looking at first."""
        counts = self.plan.counts if self.plan else {}
        return {verdict: counts[verdict] for verdict in sorted(counts, key=rank)}

    def records(self, at_most: int | None = None, *, verdict: str = "") -> list[dict[str, Any]]:
        """Every row, or so many, with number, identifier, verdict, reason, suggestion, case id and warnings; problems first.

        With `verdict` only those that have it.
        """
        every = self.plan.verdicts if self.plan else ()
        asked = (v for v in every if not verdict or v.verdict == verdict)
        first = heapq.nsmallest(at_most or len(every), asked, key=lambda v: (rank(v.verdict), v.row or 0))
        return [record(v) for v in first]

    def confirm(self, typed: str = "") -> Result:
        """Do it, or all of it or nothing; a second time changes nothing and says the same.

        Raises Problem `typed-otherwise`, `nothing-to-do`, `plan-stale` if somebody changed the group or the cases since,
        the plan's own refusal, and `right-missing` or `group-unknown` for whom it is not.
        """
        if self.must_type is not None and key(typed) != key(self.must_type):
            raise Problem("typed-otherwise", wanted=self.must_type)
        return _carry_out(self)

    def anew(self) -> Proposal:
        """The same wish as things are now, with `meanwhile`: what follows one that was refused as `plan-stale`."""
        assert self._anew is not None, "what knows nothing of others is never stale"
        fresh = self._anew()
        return replace(fresh, meanwhile=_meanwhile(self, fresh))


def outcome(desk: Access, mark: str) -> Result | None:
    """What a click with this mark came to, also one to which a page never heard an answer; None: it was not done."""
    with desk.db.reading() as tx:
        before = operations.done_as(tx, mark, by=desk.by())
        return None if before is None else _result(tx, desk, before)


def _carry_out(proposal: Proposal) -> Result:
    """Do a proposal that was looked at, once.

    Where others wrote meanwhile a large sheet is compared again before the writer is taken, not while it is held: a
    STOP that waits for the writer so long is lost to the gateway.
    """
    plan = proposal.plan
    for attempt in range(TRIES):
        with proposal.desk.db.transaction() as tx:
            by = proposal.desk.by(proposal.source)
            if (before := operations.done_as(tx, proposal.mark, by=by)) is not None:
                return _result(tx, proposal.desk, before)
            if plan is None or holds(tx, plan) or attempt == TRIES - 1:
                return _write(tx, proposal, plan, by)
        if proposal._again is not None:
            with proposal.desk.db.reading() as tx:
                again = proposal._again(tx)
            if again.digest != plan.digest:
                raise Problem("plan-stale")
            plan = again
    raise AssertionError("the last try either does it or raises")


def _write(tx: Transaction, proposal: Proposal, plan: Plan | None, by: Actor) -> Result:
    if plan is not None and plan.refusal is not None:
        raise plan.refusal
    if plan is not None and not plan.acts:
        raise Problem("nothing-to-do")
    done = proposal._do(tx, plan, by)
    number = operations.note(tx, proposal.kind, words=proposal.mark, undoes=done.undoes, group_id=done.group_id, by=by)
    operations.answered(tx, number, done.says)
    return _result(tx, proposal.desk, operations.operation(tx, number))


def _result(tx: Transaction, desk: Access, done: Row[Any] | None) -> Result:
    """The result of an operation as it was told then; an undo is offered to whom it would not be refused."""
    assert done is not None
    return Result(done.id, done.answer or "", bool(desk.undoable(tx, [done])))


def _meanwhile(old: Proposal, fresh: Proposal) -> tuple[str, ...]:
    """What others did to the group or the cases of a proposal since it was made, in words, the last five first."""
    otherwise = differing(old.plan, fresh.plan)
    line, under = audit_table.c, audit_changes.c
    hit = exists().where(under.entry_id == line.id, under.subject == "case", under.subject_id.in_(otherwise[:500]))
    of_it = or_(and_(line.subject == "group", line.subject_id == old.about), and_(line.subject == "case", hit))
    query = select(audit_table, func.coalesce(people_table.c.name, "The system's own user").label("person"))
    query = query.outerjoin(people_table, people_table.c.id == line.person_id).where(line.id > old.seen, of_it)
    with old.desk.db.reading() as tx:
        told = [f"{row.person} {deed(row)}." for row in tx.execute(query.order_by(line.id.desc()).limit(5))]
    told += [f"Now this {more}." for more in fresh.goes_with if more not in old.goes_with]
    if otherwise:
        told.append(
            f"{count_of(len(otherwise), 'row')} of yours {'means' if len(otherwise) == 1 else 'mean'} something else now."
        )
    return tuple(told)


def last_line(tx: Transaction) -> int:
    """The row id of the newest line of the audit log: what a proposal knows of; 0 where there is none."""
    head = audit.head(tx)
    return 0 if head is None else head.id
