"""What a broadcast may become: the one table of states and moves, and the one way to move.

Nothing is inferred from a date: whoever asks where a broadcast is reads its state.  Dates say only when something is due,
and whoever finds it due moves the state.  A move is one guarded UPDATE made from the table, so two who act at once, and
whoever comes late, change nothing.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Update, update

from storage.database import Transaction
from storage.schema import broadcasts

MOVES: dict[str, frozenset[str]] = {
    "previewed": frozenset({"held", "scheduled", "expanding", "halted", "dropped", "expired"}),
    "held": frozenset({"expanding", "sending", "paused", "halted"}),
    "scheduled": frozenset({"expanding", "previewed", "paused", "halted"}),
    "expanding": frozenset({"sending", "paused", "halted"}),
    "sending": frozenset({"done", "paused", "halted"}),
    "paused": frozenset({"held", "scheduled", "expanding", "sending", "done", "halted"}),
    "done": frozenset(),
    "halted": frozenset(),
    "dropped": frozenset(),
    "expired": frozenset(),
}
"""What a broadcast may become.  Its messages are written during the hold, so that the first leaves as it ends: `held ->
sending` where all were written by then, else `held -> expanding`.  `scheduled -> previewed` where its groups have grown, by
its hour, beyond the one ok that it had.  `paused` goes back to the state that it was paused from, which `paused_from` keeps,
and is `done` where nothing of it is left."""

MEANINGS: dict[str, str] = {
    "previewed": "asked for, and not confirmed yet",
    "held": "confirmed; its messages are being written, and none leaves before the hold is over",
    "scheduled": "confirmed; it waits for its hour, and only then is it written for those who are in its groups",
    "expanding": "let go; its messages are being written, and leave",
    "sending": "all its messages are written, and leave",
    "paused": "nothing of it leaves until somebody resumes it",
    "done": "nothing of it is left to send",
    "halted": "somebody stopped it: what had not left will not",
    "dropped": "somebody dropped it before it was confirmed, or typed three wrong codes: nothing was sent",
    "expired": "nobody confirmed it in time: nothing was sent",
}

RUNNING = ("held", "scheduled", "expanding", "sending", "paused")
"""Let go and not over: it may be halted, and paused or resumed."""

OPEN = ("previewed", *RUNNING)
"""Not over: it waits to be confirmed, or runs."""

UNWRITTEN = ("held", "scheduled", "expanding", "paused")
"""Confirmed, and perhaps without a row for anybody yet."""

NOBODY_HAS_A_ROW: dict[str, str] = {
    "previewed": "previewed",
    "held": "held",
    "scheduled": "scheduled",
    "expanding": "queued",
    "paused": "paused",
    "halted": "halted",
    "dropped": "dropped",
    "expired": "unconfirmed",
}
"""Why somebody has no row in `messages` of a broadcast that is for them, as a key of `rules/reasons.py`."""

ENDS = tuple(state for state, moves in MOVES.items() if not moves)


def moving(to: str, *came_from: str) -> Update:
    """The statement that moves broadcasts to a state, from wherever the table allows it or only from `came_from`.

    Which ones is added to it as a condition.
    """
    legal = [state for state, moves in MOVES.items() if to in moves]
    assert set(came_from) <= set(legal), f"{came_from} never becomes {to}"
    # Both sides of an UPDATE read the row as it was before.
    paused_from = broadcasts.c.state if to == "paused" else None
    return (
        update(broadcasts).where(broadcasts.c.state.in_(came_from or legal)).values(state=to, paused_from=paused_from)
    )


def move(
    tx: Transaction, number: int, to: str, *guards: ColumnElement[bool], came_from: tuple[str, ...] = (), **columns: Any
) -> bool:
    """Move one broadcast to a state, and set these columns with it; whether it moved."""
    moved = moving(to, *came_from).where(broadcasts.c.id == number, *guards).values(**columns)
    return tx.execute(moved).rowcount > 0
