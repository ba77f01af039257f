"""Which group, case or operation a word of a text names, and how one is named in an answer.

Whoever is no lead finds their own groups and cases only; another's and one that does not exist are answered alike.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import Row

from bot.commands.registry import Call
from bot.replies import Names, names, shorten
from storage.contacts import attempts, groups, lookup, people
from storage.errors import Problem
from storage.operations import codes
from storage.rules.identifiers import read as read_identifier
from storage.rules.normalize import fold, key

LOOKUPS_AN_HOUR = 20
"""People whom nobody knows that one phone may name in an hour, before its looking up is paused."""

_IGNORED = "'\"+,.:;!?¡¿()*#"
"""Signs that people type around words; they never carry a meaning at a word's edge."""


def clean(word: str) -> str:
    """A word as commands compare it: folded, small letters, without the signs around it."""
    return key(word).strip(_IGNORED).strip()


def group_named(call: Call, word: str) -> Row[Any] | None:
    """The group of this person that a word names: by its short name, or by its number."""
    word = clean(word)
    return next((g for g in call.groups if word in (g.short, str(g.id))), None)


def group_of(call: Call, word: str) -> Row[Any]:
    """The group that a word names, among those this person may see; raises Problem `group-unknown`."""
    found = group_named(call, word)
    if found is None:
        raise Problem("group-unknown", group=word, near=_near(call, word))
    return found


def whom(call: Call, word: str) -> tuple[Row[Any] | None, Row[Any] | None]:
    """The group or the case that a word names, the other being None.

    Raises Problem `group-or-person-unknown`, `group-or-person-twice` (a number that is a group's and somebody's id) or
    `case-ambiguous`.
    """
    group = group_named(call, word)
    if group is not None and not word.isdigit():
        return group, None
    if group is None:
        try:
            return None, case_of(call, word)
        except Problem as problem:
            if problem.key not in ("case-unknown", "case-unknown-near"):
                raise
            raise Problem("group-or-person-unknown", typed=word, near=_near(call, word)) from None
    if _seen(call, word):
        raise Problem("group-or-person-twice", typed=word)
    return group, None


def case_of(call: Call, word: str) -> Row[Any]:
    """The case that a word names, among those of this person's groups (a lead: all).

    Raises Problem `case-unknown` for one of somebody else's groups just as for one that does not exist, and
    `lookups-paused` after too many of them.
    """
    may_look_up(call)
    seen = _seen(call, word)
    if not seen:
        not_found(call, 1)
        if people.may(call.person, "lead"):
            lookup.find_one(call.tx, word)  # says what is near
        raise Problem("case-unknown", typed=word)
    if len(seen) > 1:
        raise Problem("case-ambiguous", typed=word, candidates=", ".join(map(person_shown, seen)))
    return seen[0]


def _seen(call: Call, word: str) -> list[Row[Any]]:
    """The cases that a word fits, of those this person may see."""
    fitting = lookup.find(call.tx, [read_identifier(word, country=call.tx.rules.country)])[0]
    return [case for case in fitting if is_seen(call, case)]


def is_seen(call: Call, case: Row[Any]) -> bool:
    """Whether a case is within what this person may see: in one of their groups; for a lead always."""
    if people.may(call.person, "lead"):
        return True
    return bool({g.short for g in call.groups} & set(lookup.groups_of(call.tx, case.id)))


def may_look_up(call: Call) -> None:
    """Raises Problem `lookups-paused` for a phone that named too many within an hour whom nobody knows.

    Asked before anything is looked up, so that the pause is the same for those who exist.  What was named before a code was
    confirmed from the phone is not counted: somebody else may have named it.
    """
    over = attempts.last(call.tx, call.person.id, "lookup", LOOKUPS_AN_HOUR + 1)
    if over is not None and over > codes.since(call.tx, call.person.id, timedelta(hours=1)):
        minutes = math.ceil((over + timedelta(hours=1) - call.tx.now) / timedelta(minutes=1))
        raise Problem("lookups-paused", count=LOOKUPS_AN_HOUR, minutes=minutes, code=codes.mask(codes.LONG))


def not_found(call: Call, times: int) -> None:
    """Count people who were named and not found; raises Problem `lookups-paused` if one text names too many of them."""
    attempts.note(call.tx, call.person.id, "lookup", min(times, LOOKUPS_AN_HOUR + 1))
    if times > 1:
        may_look_up(call)


def number_of(word: str) -> int | None:
    """An operation's number as typed, or None if the word is none."""
    return int(word) if word.isdigit() and len(word) <= 15 else None


def person_shown(case: Row[Any]) -> str:
    """A case as an answer names it: its name and the id that a text can use."""
    return f"{shorten(case.name, 30)} ({id_shown(case)})" if case.name else id_shown(case)


def id_shown(case: Row[Any]) -> str:
    """The id that a text can use for a case."""
    return shorten(str(case.external_id or case.case_id), 24)


def listed(cases: Sequence[Row[Any]]) -> Names:
    """Several cases, cut to what fits."""
    return names(person_shown(case) for case in cases)


def _near(call: Call, word: str) -> str:
    """The nearest groups that this person may see, with their sizes."""
    by_short = {g.short: g for g in call.groups}
    nearest = groups.nearest(fold(word), by_short)
    return ", ".join(f"{short} ({call.members(by_short[short])})" for short in nearest)
