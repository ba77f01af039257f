"""`stop` from staff while something of theirs holds or runs: that is halted first, and their phone goes on being texted.

Who sees the wrong text go out writes the word that every phone knows, and not ours.  So the first such word halts all that
this person let go and has not ended, also what is paused and what waits for its hour, and drops what waits for an ok;
then nothing of theirs is left, and the same word once more stops their phone like everybody's.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row

from bot.commands.dispatch import is_exact
from bot.commands.registry import Answer, Call
from bot.replies import names
from storage.broadcasts import broadcasts, progress
from storage.database import Transaction
from storage.operations import operations
from storage.rules import doubts, optout


def has_something(tx: Transaction, person_id: int) -> bool:
    """Whether something of this person's holds, runs or waits for an ok."""
    return bool(
        progress.running(tx, of=person_id)
        or operations.waiting_of(tx, person_id)
        or operations.seconding(tx, person_id)
    )


def is_cry(tx: Transaction, person: Row[Any], text: str) -> bool:
    """Whether a text of staff begins with a stop word, is no command, and may mean it: `stop it now`; a whole one is read elsewhere."""
    first = text.split(maxsplit=1)[0] if text.strip() else ""
    return bool(optout.stop_readings(first)) and doubts.is_doubtful(text[:200]) and not is_exact(tx, person, text)


def halt_all(call: Call) -> Answer | None:
    """Halt all that this person let go, and drop what waits for an ok; None if there is nothing."""
    tx, person = call.tx, call.person.id
    running = progress.running(tx, of=person)
    waiting = [*operations.waiting_of(tx, person), *operations.seconding(tx, person)]
    done = [broadcasts.halt(tx, row.id, by=call.by) for row in running]
    for row in waiting:
        if row.kind == "tell":
            broadcasts.drop(tx, row.id)
        operations.decide(tx, row.id, "dropped", by=call.by)
    if not running and not waiting:
        return None
    parts: list[tuple[str, dict[str, Any]]] = []
    if running:
        got = sum(halted.arrived for halted in done)
        unclear = sum(halted.states.get("unknown", 0) + halted.states.get("sending", 0) for halted in done)
        rest = sum(row.sendable for row in running) - got - unclear
        parts.append(("panic-halted", {"numbers": names(row.id for row in running), "got": got, "rest": rest}))
        if unclear:
            parts.append(("halted-unknown", {"unknown": unclear}))
    if waiting:
        parts.append(("panic-dropped", {"numbers": names(row.id for row in waiting)}))
    return call.say(*parts, ("panic-again", {}))
