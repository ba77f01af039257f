"""Commands about groups and who is in them: menu, groups, who, new, add, drop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Row

from bot import notices
from bot.commands.dispatch import kept_answer, verbs_of
from bot.commands.naming import group_of, is_seen, listed, may_look_up, not_found
from bot.commands.registry import COMMANDS, Answer, Call, command, in_order
from bot.replies import Quote, Spare, Words, names, shorten
from storage.broadcasts import broadcasts, progress
from storage.contacts import attempts, consent, groups, lookup, people
from storage.errors import Problem
from storage.operations import caps, codes, operations
from storage.rules import numbers
from storage.rules.identifiers import read as read_identifier


@command("menu", right="see", risk="reads", examples=["menu"])
def menu(call: Call) -> Answer:
    """What this person may do."""
    allowed = [
        c.verb
        for c in in_order()
        if people.may(call.person, c.right) and c.verb not in ("menu", "ok", "no", "re", "resume")
    ]
    example = "add" if "add" in allowed else allowed[0]
    verbs = " ".join(map(call.sentences.verb, allowed))
    return call.say(("menu", {"verbs": verbs, "example": call.sentences.verb(example)}))


@command("groups", right="see", risk="reads", examples=["groups"])
def list_groups(call: Call) -> Answer:
    """Groups with their counts; a lead sees all, others their own."""
    if not call.groups:
        return call.say(("groups-none" if people.may(call.person, "change") else "groups-none-see", {}))
    counted = groups.list_all(call.tx, only=[g.id for g in call.groups])
    sizes = names(f"{g.short} {g.members}" for g in counted)
    return call.say(("groups", {"count": len(call.groups), "groups": sizes}))


@command("who <group>", right="read", risk="reads", examples=["who anc"])
def who(call: Call, group: str) -> Answer:
    """Who is in a group: how many, and the first few."""
    row = group_of(call, group)
    shown = groups.members(call.tx, row.id, at_most=8)
    if not shown:
        return call.say(("who-nobody", {"group": row.short}))
    count = call.members(row)
    whole = count == len(shown)
    return call.say(("who-all" if whole else "who", {"group": row.short, "count": count, "people": listed(shown)}))


@command("new <short> <name...?>", right="change", risk="small", examples=["new anc Antenatal care", "new ward1"])
def new(call: Call, short: str, name: str) -> Answer:
    """Make a group; a supervisor's new group is their own."""
    own = None if people.may(call.person, "lead") else call.person.id
    if short in verbs_of(call.sentences):
        raise Problem("group-short-word", group=short)
    if asked := over_cap(call, "new", {"short": short, "name": name}):
        return asked
    try:
        made = groups.create(call.tx, short, name, for_person=own, by=call.by)
    except Problem as problem:
        raise _discreet(call, problem) from None
    number = _note(call, "new", made, {"made": made.id}, 1)
    return call.say(("made", {"group": made.short, "name": Words(made.name), "number": number}))


def _discreet(call: Call, problem: Problem) -> Problem:
    """The same problem, without the name of a group that this person may not see."""
    other = problem.values.get("other") or (problem.values["group"] if problem.key == "group-exists" else None)
    if other is None or any(g.short == other for g in call.groups):
        return problem
    return Problem("group-short-taken", group=problem.values["group"])


@command("name <group> <name...>", right="change", risk="small", examples=["name anc Antenatal clinic"])
def rename(call: Call, group: str, name: str) -> Answer:
    """Give a group another long name."""
    row = group_of(call, group)
    if asked := over_cap(call, "name", {"group": group, "name": name}):
        return asked
    old = groups.rename(call.tx, row.id, name, by=call.by)
    number = _note(call, "name", row, {"name": old}, 1)
    return call.say(("renamed", {"group": row.short, "name": Words(name), "number": number}))


@command("delete <group>", right="change", risk="code", examples=["delete anc"])
def delete(call: Call, group: str) -> Answer:
    """Delete a group, after a code; says what stops with it, and a lead can undo it for 24 hours."""
    row = group_of(call, group)
    if again := waiting_already(call):
        return again
    number = operations.ask(
        call.tx, "delete", words=call.words, request={}, group_id=row.id, message_id=call.message_id, by=call.by
    )
    pending = progress.pending_for(call.tx, row.id)
    told = call.sentences.sentences["delete-stops"]
    stops = told.format(numbers=names(pending).cut(min(2, len(pending)))) if pending else ""
    count = call.members(row)
    values = {
        "number": number,
        "group": row.short,
        "people": people_shown(call, count),
        "stops": stops,
        "life": Spare(call.sentences.sentences["good-for"]),
        "code": mask_for(call),
    }
    return _ask(call, number, "ask-delete", values)


@command("add <group> <who...>", right="add", risk="small", examples=["add anc 15551234567 p-104"])
def add(call: Call, group: str, who: Sequence[str]) -> Answer:
    """Put people into a group, by phone, external id or case id."""
    row = group_of(call, group)
    sorted_out = _sort_out(call, row, who)
    if _is_over(call, "add", len(sorted_out.able), row):
        return _ask_many(call, "add", row, sorted_out)
    return _add(call, row, sorted_out)


@command("drop <group> <who...>", right="change", risk="takes", examples=["drop anc p-104"])
def drop(call: Call, group: str, who: Sequence[str]) -> Answer:
    """Take people out of a group."""
    row = group_of(call, group)
    found, unknown, several = _find(call, who, seen=True)
    inside = groups.members_among(call.tx, row.id, [c.id for c in found])
    leaving = [c for c in found if c.id in inside]
    rest: list[tuple[str, dict[str, Any]]] = [
        ("not-in", {"who": listed([c for c in found if c.id not in inside])}),
        ("not-found", {"who": names(unknown)}),
        ("several-fit", {"who": names(several)}),
    ]
    if _is_over(call, "drop", len(leaving), row):
        return _ask_many(call, "drop", row, _SortedOut(leaving, [], rest))
    gone = groups.remove(call.tx, row.id, [c.id for c in leaving], by=call.by)
    total = call.members(row)
    return _done(call, "drop", row, ("dropped", {"group": row.short, "count": len(gone), "total": total}), rest, gone)


def _is_over(call: Call, kind: str, amount: int, row: Row[Any]) -> bool:
    """Whether so many people are more than go at once; the leads hear of it where it is by what went before."""
    found = caps.over(call.tx, call.person.id, kind, amount, group=row.id) if amount else None
    if found is not None:
        _tell_leads(call, found, amount)
    return found is not None


def over_cap(call: Call, verb: str, given: dict[str, Any], kinds: Mapping[str, int] | None = None) -> Answer | None:
    """The question for a code where as much went at once within the hour as may; None where this goes at once.

    `given` is what the command was given, to be done again when the code comes (`do_again`); `kinds` is what it counts as
    by `caps.CAPS`, and how much of it.
    """
    if call.confirmed:
        return None
    for kind, amount in (kinds or {verb: 1}).items():
        found = caps.over(call.tx, call.person.id, kind, amount)
        if found is not None:
            _tell_leads(call, found, amount)
            if again := waiting_already(call):
                return again
            values = {"text": Quote(call.words), "count": found.cap}
            return ask_with_code(call, verb, {"given": given}, "ask-over", values)
    return None


def do_again(call: Call, operation: Row[Any]) -> Answer:
    """Do what a code confirmed that had been too much to go at once."""
    confirmed = replace(call, words=operation.words, confirmed=True)
    try:
        done = COMMANDS[operation.kind].run(confirmed, **operation.request["given"])
    except Problem:
        operations.decide(call.tx, operation.id, "dropped", by=call.by)
        raise
    operations.decide(call.tx, operation.id, "done", by=call.by)
    return done


def _tell_leads(call: Call, found: caps.Over, amount: int) -> None:
    """Once an hour for each person: small acts from their number add up, and somebody should know of it.

    What is large by itself needs no word to anybody: it has always asked for a code.
    """
    if not found.used or amount > found.cap:
        return
    if attempts.count(call.tx, call.person.id, "cap", call.tx.now - caps.HOUR):
        return
    attempts.note(call.tx, call.person.id, "cap")
    values = {"person": Words(call.person.name), "count": found.used}
    # To the person's own phone the question for a code goes.
    notices.tell_leads(
        call.tx, "cap-reached", lambda language: values | {"verb": language.verb(found.kind)}, but=call.person.id
    )


def carry_out(call: Call, operation: Row[Any]) -> Answer:
    """Do a confirmed delete, or add or drop of many."""
    row = next((g for g in call.groups if g.id == operation.group_id), None)
    if row is None:
        raise Problem("number-unknown", number=operation.id)
    if operation.kind == "delete":
        return _delete(call, row, operation)
    ids = [int(i) for i in operation.request["cases"]]
    act = groups.add if operation.kind == "add" else groups.remove
    done = act(call.tx, row.id, ids, by=call.by)
    word = "added" if operation.kind == "add" else "dropped"
    total = call.members(row)
    said = (word, {"group": row.short, "count": len(done), "total": total})
    # Kept under the words that were asked, and not under `ok 482193`: a code is written down nowhere.
    confirmed = replace(call, words=operation.words, confirmed=True)
    return _done(confirmed, operation.kind, row, said, [], done)


def _delete(call: Call, row: Row[Any], operation: Row[Any]) -> Answer:
    for number in progress.pending_for(call.tx, row.id):
        broadcasts.halt(call.tx, number, by=call.by)
    groups.delete(call.tx, row.id, by=call.by)
    operations.keep_undo(call.tx, operation.id, {"deleted": row.id})
    return call.say(("deleted", {"group": row.short, "number": operation.id}))


class _SortedOut:
    """The people a text named: who can be put in, who is in already, and sentences about the others."""

    def __init__(self, able: list[Row[Any]], already: list[Row[Any]], rest: list[tuple[str, dict[str, Any]]]) -> None:
        self.able = able
        self.already = already
        self.rest = rest


def _find(call: Call, who: Sequence[str], *, seen: bool) -> tuple[list[Row[Any]], list[str], list[str]]:
    """The cases that these words name, the words that name none, and those that name several.

    With `seen` only those whom this person may see: whoever is in nobody's group of theirs is not found.
    """
    may_look_up(call)
    who = _joined(call, who, seen=seen)
    identifiers = [read_identifier(word, country=call.tx.rules.country) for word in who]
    found: dict[int, Row[Any]] = {}
    unknown: list[str] = []
    several: list[str] = []
    for word, fits in zip(who, lookup.find(call.tx, identifiers), strict=True):
        fitting = [c for c in fits if is_seen(call, c)] if seen else fits
        if len(fitting) == 1:
            found.setdefault(fitting[0].id, fitting[0])
        else:
            (several if fitting else unknown).append(word)
    not_found(call, len(unknown))
    return list(found.values()), unknown, several


def _joined(call: Call, who: Sequence[str], *, seen: bool) -> list[str]:
    """The words with a number that was typed in pieces (`024 123 4502`) put together, if a case has that number."""
    joined: list[str] = []
    left = list(who)
    while left:
        pieces = next((n for n in range(min(6, len(left)), 1, -1) if _is_number(call, left[:n], seen=seen)), 1)
        joined.append("".join(left[:pieces]))
        left = left[pieces:]
    return joined


def _is_number(call: Call, pieces: Sequence[str], *, seen: bool) -> bool:
    if not all(piece.isdigit() and len(piece) < 7 for piece in pieces):
        return False
    number = numbers.find("".join(pieces), country=call.tx.rules.country)
    case = lookup.by_phone(call.tx, number.digits) if number is not None else None
    return case is not None and (not seen or is_seen(call, case))


def _sort_out(call: Call, row: Row[Any], who: Sequence[str]) -> _SortedOut:
    found, unknown, several = _find(call, who, seen=call.tx.rules.add_only_own)
    inside = groups.members_among(call.tx, row.id, [c.id for c in found])
    outside = [c for c in found if c.id not in inside]
    able = [c for c in outside if c.status == "open" and c.contact_phone_number]
    stopped = [c for c in able if not consent.may_text(call.tx, c.contact_phone_number)]
    rest: list[tuple[str, dict[str, Any]]] = [
        ("already-in", {"count": len(inside)}),
        ("not-found", {"who": names(unknown)}),
        ("several-fit", {"who": names(several)}),
        ("closed", {"who": listed([c for c in outside if c.status == "closed"])}),
        ("no-number", {"who": listed([c for c in outside if c.status == "open" and not c.contact_phone_number])}),
        ("said-stop", {"count": len(stopped)}),
    ]
    return _SortedOut(able, [c for c in found if c.id in inside], rest)


def _add(call: Call, row: Row[Any], sorted_out: _SortedOut) -> Answer:
    came = groups.add(call.tx, row.id, [c.id for c in sorted_out.able], by=call.by)
    total = call.members(row)
    said = ("added", {"group": row.short, "count": len(came), "total": total})
    return _done(call, "add", row, said, sorted_out.rest, came)


def _done(
    call: Call,
    kind: str,
    row: Row[Any],
    said: tuple[str, dict[str, Any]],
    rest: Sequence[tuple[str, dict[str, Any]]],
    case_ids: Sequence[int],
) -> Answer:
    """Count first, then what failed, then how to take it back."""
    parts = [said, *_telling(rest)]
    if case_ids:
        number = _note(call, kind, row, {kind: list(case_ids)}, len(case_ids))
        parts.append(("take-back", {"number": number}))
    return call.say(*parts)


def _telling(rest: Sequence[tuple[str, dict[str, Any]]]) -> list[tuple[str, dict[str, Any]]]:
    """Only the sentences that have something to tell."""
    return [(k, v) for k, v in rest if v.get("count") or getattr(v.get("who"), "items", ())]


def _ask_many(call: Call, kind: str, row: Row[Any], sorted_out: _SortedOut) -> Answer:
    if again := waiting_already(call):
        return again
    request = {"cases": [c.id for c in sorted_out.able]}
    number = operations.ask(
        call.tx, kind, words=call.words, request=request, group_id=row.id, message_id=call.message_id, by=call.by
    )
    rest = call.sentences.say(*_telling(sorted_out.rest)) if _telling(sorted_out.rest) else ""
    values = {
        "number": number,
        "verb": call.sentences.verb(kind).upper(),
        "group": row.short,
        "people": people_shown(call, len(sorted_out.able)),
        "rest": f"{shorten(rest, 50)} " if rest else "",
        "code": mask_for(call),
    }
    return _ask(call, number, "ask-many", values)


def people_shown(call: Call, count: int) -> str:
    """`1 person`, `245 people`."""
    return call.sentences.say(("one-person", {}) if count == 1 else ("people", {"count": count}))


def waiting_already(call: Call) -> Answer | None:
    """The same words within ten minutes get the same question and code while it waits."""
    same = operations.with_same_words(call.tx, call.person.id, call.words)
    if same is not None and same.state == "waiting" and same.answer and same.expires_at > call.tx.now:
        return kept_answer(call, same)
    return None


def _ask(call: Call, number: int, key: str, values: dict[str, Any]) -> Answer:
    code_id = operations.issue_code(call.tx, number, call.person.id)
    text = call.sentences.say((key, values))
    operations.answered(call.tx, number, text)
    return Answer(text, code_id)


def ask_with_code(call: Call, kind: str, request: dict[str, Any], key: str, values: dict[str, Any]) -> Answer:
    """Open an operation that waits for a code, and ask for it by this sentence."""
    number = operations.ask(call.tx, kind, words=call.words, request=request, message_id=call.message_id, by=call.by)
    life = Spare(call.sentences.sentences["good-for"])
    return _ask(call, number, key, {**values, "number": number, "code": mask_for(call), "life": life})


def mask_for(call: Call) -> str:
    """What stands for the digits of this person's next code."""
    return codes.mask(codes.next_length(call.tx, call.person.id))


def _note(call: Call, kind: str, row: Row[Any], undoes: dict[str, Any], amount: int) -> int:
    return operations.note(
        call.tx,
        kind,
        words=call.words,
        undoes=undoes,
        group_id=row.id,
        message_id=call.message_id,
        at_once=None if call.confirmed else amount,
        by=call.by,
    )
