"""What an operation may become: the one table of states and moves, and the one way to move.

A move is one guarded UPDATE made from the table, so whoever comes late changes nothing.
"""

from __future__ import annotations

from sqlalchemy import Update, update

from storage.schema import operations

MOVES: dict[str, frozenset[str]] = {
    "waiting": frozenset({"seconding", "done", "dropped", "expired", "refused"}),
    "seconding": frozenset({"done", "dropped", "expired", "refused"}),
    "done": frozenset({"undone", "seconding", "dropped"}),
    "dropped": frozenset(),
    "expired": frozenset(),
    "refused": frozenset(),
    "undone": frozenset(),
}
"""What an operation may become.  `done -> seconding` for a broadcast whose groups have grown, by its hour, beyond the one
ok that it had; `done -> dropped` for a question to a phone that is taken back before the phone has answered."""

MEANINGS: dict[str, str] = {
    "waiting": "waits for its code, or its ok at the desk",
    "seconding": "confirmed by one person, and waits for a second",
    "done": "confirmed, or small enough to be done at once",
    "dropped": "somebody dropped it: it was not done",
    "expired": "nobody confirmed it in time: it was not done",
    "refused": "ended by a third wrong code",
    "undone": "done, and taken back",
}


def moving(to: str) -> Update:
    """The statement that moves operations to a state, from wherever the table allows it; which ones is added to it."""
    legal = [state for state, moves in MOVES.items() if to in moves]
    return update(operations).where(operations.c.state.in_(legal)).values(state=to)
