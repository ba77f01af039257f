"""What a sheet will do before it does it: a verdict for every row, counts, and what the plan was made on.

A plan is refused when what it was made on has changed since.

Four steps, so that a sheet of 100,000 rows keeps a STOP waiting for SQLite's one writer for seconds and not for longer:

    read    what the cells say; slow, pure, and outside of every transaction
    plan    one verdict and a reason for every row; only looks, so `Database.reading` is enough
    ready   of a sheet of cases, all that is to be written, as the driver takes it; only looks
    apply   all of it or nothing, and only what the plan says

Apply first makes sure that the plan still holds.  Every verb that changes a case or a group leaves a line in the audit
log, so where no such line came since, nothing is compared twice; where one did, it plans again and refuses if anything
came out otherwise.  Doing it twice changes nothing the second time.  Rows go through the database as sets, never one
by one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

from sqlalchemy import select

from storage.contacts import cases
from storage.contacts.cases import Wanted
from storage.database import Transaction
from storage.errors import Problem
from storage.schema import audit

Mode = Literal["add", "remove", "replace"]

IDENTIFIER = "case_identifier"
"""The column of a sheet of members."""


class Cell(Protocol):
    """What a sheet gives for one cell: the text, and why it cannot be used, if so."""

    @property
    def text(self) -> str: ...  # noqa: D102
    @property
    def fault(self) -> str | None: ...  # noqa: D102


class SheetRow(Protocol):
    """One row of a sheet, with the row number that Excel shows."""

    @property
    def number(self) -> int: ...  # noqa: D102
    @property
    def cells(self) -> Mapping[str, Cell]: ...  # noqa: D102


@runtime_checkable
class SheetRows(Protocol):
    """The rows of a sheet that can tell one column by itself."""

    def column(self, name: str) -> Iterable[tuple[int, str, str | None]]:
        """Of each row its number, the text of one cell and why it cannot be used."""
        ...


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of one row.

    `row` is None for a member that a *replace* takes out.  `target` is the case's row id, `case_id` its public one.
    `changes` holds old and new value of each property of a case.  `more` are the further faults of a row, so that one
    round of mending is enough.
    """

    row: int | None
    identifier: str
    verdict: str
    reason: Problem | None = None
    suggestion: str | None = None
    target: int | None = None
    case_id: str | None = None
    warnings: tuple[Problem, ...] = ()
    changes: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)
    wanted: Wanted | None = None
    more: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """What a sheet would do; `counts` has only verdicts that occur, `refusal` says why none of it may be done.

    `basis` is what was planned (the sheet as read, and for which group), `seen` the last change that it knows of,
    `moves` whom it adds to a group and removes from it, by row id.
    """

    verdicts: Sequence[Verdict]
    counts: Mapping[str, int]
    refusal: Problem | None = None
    basis: tuple[object, ...] = ()
    seen: int = 0
    moves: Mapping[str, Sequence[int]] = field(default_factory=dict)
    ready: tuple[cases.Ready, Sequence[Verdict]] | None = None
    """What carrying it out will write, and the verdicts as they will be then."""

    @property
    def digest(self) -> str:
        """What two plans have in common only if they would do the same."""
        whole = hashlib.sha256()
        for v in self.verdicts:
            whole.update(f"{v.row}|{v.verdict}|{v.target}|{sorted(v.changes.items())!r}\n".encode("utf-8", "replace"))
        return whole.hexdigest()

    @property
    def acts(self) -> bool:
        """Whether carrying it out would change anything."""
        return any(self.counts.get(verdict) for verdict in ("add", "remove", "create", "update"))


def holds(tx: Transaction, plan: Plan) -> bool:
    """Whether no case and no group was changed since this plan was made: then it need not be made again."""
    return plan.seen == last_change(tx)


def last_change(tx: Transaction) -> int:
    """The newest line of the audit log about a case or a group; ask before looking at either."""
    lines = select(audit.c.id).where(audit.c.subject.in_(("case", "group")))
    return int(tx.scalar(lines.order_by(audit.c.id.desc()).limit(1)) or 0)


def unchanged(tx: Transaction, planned: Plan | None, basis: tuple[object, ...]) -> bool:
    """Whether a plan was made of this and still holds, so that nothing has to be compared again."""
    return planned is not None and planned.basis == basis and holds(tx, planned)


def refuse_if_stale(planned: Plan | None, plan: Plan) -> None:
    """Raise Problem `plan-stale` if what was looked at comes out otherwise now."""
    if planned is not None and planned.digest != plan.digest:
        raise Problem("plan-stale")
