"""Whether a person may reach, now, whom an operation is about: asked at the act, wherever it was shown and allowed before.

A role or a group may be taken away between a preview and its `ok`, or between a reply and its answer.  So every verb that
reaches a case asks here once more when it acts: `re`, `fix`, `at`, `also`, `resume`, the same words again, and `ok` of
every kind.  What is out of reach by then is answered like what does not exist.  Whatever stops something asks `may_stop`:
one's own can be stopped for ever.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import Row

from bot.commands.registry import COMMANDS, Call
from storage.broadcasts import progress
from storage.contacts import groups, people
from storage.operations import codes, operations


def may_reach(call: Call, operation: Row[Any]) -> bool:
    """Whether this person has the right that an operation needs, and sees all whom it is about, as of now."""
    if operation.kind == codes.PROVE:
        return True
    if "given" in operation.request:
        # Done again by its own command, which asks for its groups then.
        return people.may(call.person, COMMANDS[operation.kind].right)
    kind = _KINDS.get(operation.kind)
    if kind is None:
        return False
    right, is_in_reach = kind
    return people.may(call.person, right) and is_in_reach(call, operation)


def may_see(call: Call, operation: Row[Any]) -> bool:
    """Whether this person may know of a broadcast: those of their groups, and what they texted to cases of these."""
    return operation.kind == "tell" and _audience(call, operation)


def may_stop(call: Call, operation: Row[Any]) -> bool:
    """Whether this person may halt or pause a broadcast: what they see, and their own wherever it goes."""
    return operation.kind == "tell" and (operation.person_id == call.person.id or _audience(call, operation))


def may_answer(call: Call, reply: Row[Any]) -> bool:
    """Whether this person may answer a reply: those who were told of it and still care for that case, and the leads."""
    is_theirs = people.may(call.person, "lead") or call.person.id in reply.told
    return people.may(call.person, "tell") and is_theirs and sees_cases(call, [reply.case_id])


def may_undo(call: Call, operation: Row[Any]) -> bool:
    """Whether this person still has the right that taking an operation back needs; whose it is, `undoing` knows."""
    kind = _KINDS.get(operation.kind)
    return kind is None or people.may(call.person, kind[0])


def sees_cases(call: Call, case_ids: list[int]) -> bool:
    """Whether each of these cases is in one of this person's groups; for a lead always."""
    if people.may(call.person, "lead"):
        return True
    return groups.members_of_any(call.tx, [g.id for g in call.groups], case_ids) >= set(case_ids)


def _audience(call: Call, operation: Row[Any]) -> bool:
    """Whether all whom a broadcast is for are within this person's groups: by the groups, or else by the cases.

    A correction is for those whom another one reached, so it is in reach where that one is.
    """
    if people.may(call.person, "lead"):
        return True
    if (fixed := operation.request.get("fixes")) is not None:
        return _of_broadcast(call, fixed)
    whom = {g.id for g in progress.groups_of(call.tx, operation.id)}
    if whom:
        return whom <= {g.id for g in call.groups}
    return operation.person_id == call.person.id and sees_cases(call, operation.request["cases"])


def _of_broadcast(call: Call, number: int) -> bool:
    row = operations.operation(call.tx, int(number))
    return row is not None and row.kind == "tell" and _audience(call, row)


def _case(call: Call, operation: Row[Any]) -> bool:
    return sees_cases(call, [int(operation.request["case"])])


def _group(call: Call, operation: Row[Any]) -> bool:
    return any(g.id == operation.group_id for g in call.groups)


def _added(call: Call, operation: Row[Any]) -> bool:
    """Any case may be put into one's own group, unless the programme has each add only their own."""
    own_only = call.tx.rules.add_only_own
    return _group(call, operation) and (not own_only or sees_cases(call, operation.request["cases"]))


_KINDS: Mapping[str, tuple[str, Callable[[Call, Row[Any]], bool]]] = {
    "tell": ("tell", _audience),
    "resume": ("tell", lambda call, row: _of_broadcast(call, row.request["broadcast"])),
    "invite": ("tell", _case),
    "move": ("change", _case),
    "add": ("add", _added),
    "drop": ("change", _group),
    "delete": ("change", _group),
    "new": ("change", _group),
    "name": ("change", _group),
}
"""For each kind of operation the right that it needs, and whether those it is about are in reach."""
