"""The card beside a phone: who is on that number, what they may get, and why.

A card is sections of short lines, each a word, what is to be said, and whether that is good or bad news; the page draws
them as they are.  Only what the store says: ownership by `contacts`, whether it may be texted by `consent`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from babel import Locale, UnknownLocaleError
from sqlalchemy import Row, func, select

from storage.console import sentence
from storage.contacts import cases, consent, people
from storage.database import Transaction
from storage.rules import numbers, phone_keys
from storage.schema import cases as cases_table
from storage.schema import groups, memberships

Line = dict[str, str]

_CONSENT = {
    "stop": ("said STOP: gets nothing until it says START", "bad"),
    "start": ("said START: may be texted", "good"),
    "doubt": ("may have meant stop: asked, and held until it answers", "bad"),
}


def of_phones(tx: Transaction, numbers: Iterable[str], magic: Mapping[str, str]) -> dict[str, list[dict[str, Any]]]:
    """For each of these numbers its card: a list of sections with `title`, `about` and `lines`."""
    return {number: of_phone(tx, number, magic) for number in numbers}


def of_phone(tx: Transaction, number: str, magic: Mapping[str, str]) -> list[dict[str, Any]]:
    """The card of one number: its person, its cases, and its consent."""
    sharing = cases_on(tx, [number]).get(number, [])
    person = people.by_phone(tx, number)
    sections = [_of_person(tx, person)] if person is not None else []
    sections += [_of_case(tx, case, sharing) for case in sharing]
    if not sections:
        about = f"every text to it is refused: {magic[number]}" if number in magic else "no case and no person"
        title = "Magic number" if number in magic else "Stranger"
        sections = [
            _section(title, about, [_line("Number", f"+{number}"), _line("If it texts", "kept; a person sees it")])
        ]
    return [*sections, _of_consent(tx, number)]


def cases_on(tx: Transaction, numbers: Sequence[str]) -> dict[str, list[Row[Any]]]:
    """The cases on each of these numbers, owner first, each with the short names of its `groups`; in one question."""
    by_key = {phone_keys.key(number): number for number in numbers}
    inside = (
        select(memberships.c.case_id, func.aggregate_strings(groups.c.short, " ").label("shorts"))
        .join(groups, groups.c.id == memberships.c.group_id)
        .where(memberships.c.removed_at.is_(None), groups.c.deleted_at.is_(None))
        .where(memberships.c.case_id.in_(select(cases_table.c.id).where(cases_table.c.phone_key.in_(list(by_key)))))
        .group_by(memberships.c.case_id)
        .subquery()
    )
    rows = tx.execute(
        select(cases_table, func.coalesce(inside.c.shorts, "").label("groups"))
        .outerjoin(inside, inside.c.case_id == cases_table.c.id)
        .where(cases_table.c.phone_key.in_(list(by_key)))
        .order_by(
            cases_table.c.two_way.desc(), cases_table.c.claimed_at.is_(None), cases_table.c.claimed_at, cases_table.c.id
        )
    )
    found: dict[str, list[Row[Any]]] = {}
    for row in rows:
        found.setdefault(by_key[row.phone_key], []).append(row)
    return found


def _of_person(tx: Transaction, person: Row[Any]) -> dict[str, Any]:
    shorts = [group.short for group in people.groups_of(tx, person)]
    scope = "every group" if people.may(person, "lead") else ", ".join(shorts) or "none yet"
    lines = [
        _line("Number", f"+{person.phone}"),
        _line("Role", person.role),
        _line("Groups", scope),
        _line("Language", _language(person.language_code, tx.rules.language)),
        _line("Since", _moment(tx, person.created_at)),
    ]
    return _section(person.name, f"{person.role} of this programme", lines)


def _of_case(tx: Transaction, case: Row[Any], sharing: Sequence[Row[Any]]) -> dict[str, Any]:
    names = {other.case_id: other.name or other.external_id or other.case_id for other in sharing}
    standing = cases.standing(tx, case)
    lines = [
        _line("Number", f"+{case.contact_phone_number}"),
        _ownership(case, standing.owner, names),
        _line("Verified", "yes", "good") if case.contact_phone_number_is_verified else _line("Verified", "no", "bad"),
        _line("Groups", ", ".join(sorted(case.groups.split())) or "none"),
        _line("Language", _language(case.language_code, tx.rules.language)),
        _line("Time zone", _zone(tx, case.time_zone)),
    ]
    if standing.waiting:
        lines.insert(2, _line("Waiting", ", then ".join(names.get(waits, waits) for waits in standing.waiting)))
    if case.status != "open":
        lines.insert(0, _line("Status", f"{case.status}: gets nothing", "bad"))
    if case.number_warning:
        lines.append(
            _line("Look again", sentence(numbers.warning(case.number_warning, case.contact_phone_number)), "bad")
        )
    if case.contact_backend_id:
        lines.append(_line("Gateway", case.contact_backend_id))
    ids = " · ".join(name for name in (case.external_id, case.case_id) if name)
    return _section(names[case.case_id], f"case {ids}", lines)


def _ownership(case: Row[Any], owner: str | None, names: Mapping[str, str]) -> Line:
    if case.two_way:
        return _line("Replies", "two-way: this case owns the number", "good")
    if owner is not None:
        return _line("Replies", f"one-way: {names.get(owner, owner)} owns the number", "bad")
    return _line("Replies", "one-way: nobody owns the number", "bad")


def _of_consent(tx: Transaction, number: str) -> dict[str, Any]:
    """Whether this number may be texted, and the last event that says so; the store's word is the one that counts."""
    events = consent.history(tx, number)
    may = consent.may_text(tx, number)
    if not events:
        return _section("Consent", "", [_line("Now", "may be texted; it never said stop", "good" if may else "bad")])
    last = events[-1]
    words, tone = _CONSENT.get(last.kind, ("may be texted", "good") if may else ("held: gets nothing", "bad"))
    lines = [_line("Now", words, tone), _line("Since", _moment(tx, last.at))]
    if last.words:
        lines.append(_line("Its words", f"“{last.words}”"))
    return _section("Consent", "", lines)


def _section(title: str, about: str, lines: list[Line]) -> dict[str, Any]:
    return {"title": title, "about": about, "lines": lines}


def _line(word: str, said: str, tone: str = "") -> Line:
    return {"word": word, "said": said, "tone": tone}


def _language(code: str | None, programme: str) -> str:
    if not code:
        return f"{_language(programme, programme)}, the programme's"
    try:
        name = Locale.parse(code, sep="-").get_display_name("en")
    except (UnknownLocaleError, ValueError):
        name = None
    return f"{name} ({code})" if name else code


def _zone(tx: Transaction, name: str | None) -> str:
    if not name:
        return f"by its number, or {tx.rules.time_zone}"
    return f"{name}, {tx.now.astimezone(ZoneInfo(name)):%H:%M} there"


def _moment(tx: Transaction, at: datetime) -> str:
    return f"{at.astimezone(ZoneInfo(tx.rules.time_zone)):%d %B %Y, %H:%M}"
