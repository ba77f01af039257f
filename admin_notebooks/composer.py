"""Writing to many from a page: whom it reaches, what it costs, what to look at, and letting it go once.

Nothing here sends: a confirmed broadcast waits in the outbox and the worker sends it.  The rules are those of
`storage/broadcasts/approvals.py`; who may see and choose what is held here, so whoever is no lead writes to their own groups and to
the people in them.
"""

from __future__ import annotations

import contextlib
import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import func, select

from admin_notebooks import delivery
from admin_notebooks.desk import Desk
from storage import schema as s
from storage.audit import Actor
from storage.broadcasts import approvals, broadcasts, content, previews, progress, states
from storage.console import count_of, people_of, sentence
from storage.contacts import groups, lookup, people
from storage.database import Transaction
from storage.errors import Problem
from storage.messages import staff
from storage.operations import operations
from storage.rules import segments, sensitive_words, templates
from storage.rules.reasons import said

SINGLES = 50
"""Single cases that may be written down for one broadcast."""

YEARS = range(1970, 2200)
"""A time in any other is a slip, and near the ends of the calendar no clock of another zone can be worked out."""

SHOWN = 100
"""Of those who are left out, so many are listed; all are counted."""

Record = dict[str, Any]


def choices(desk: Desk) -> Record:
    """What a page offers: `groups`, the `fields` of a text, the programme's `language`, and `may_try` on one's own phone."""
    with desk.db.reading() as tx:
        desk.allow(tx, "tell")
        scope, person = desk.scope(tx), desk.person(tx)
        spoken = select(func.lower(s.cases.c.language_code).label("code"), func.count().label("n"))
        spoken = spoken.where(s.cases.c.language_code.is_not(None), s.cases.c.status == "open").group_by("code")
        return {
            "groups": [{"short": g.short, "name": g.name, "members": g.members} for g in groups.list_all(tx, only=scope)],
            "fields": list(templates.FIELDS),
            "language": tx.rules.language,
            "languages": [row.code for row in tx.execute(spoken.order_by(func.count().desc()))] if scope is None else [],
            "hours": f"{tx.rules.hours.opens:%H:%M} to {tx.rules.hours.closes:%H:%M}" if tx.rules.hours else "",
            "zone": tx.rules.time_zone,
            "may_try": person is not None,
        }  # fmt: skip


def measure(desk: Desk, text: str) -> Record:
    """What a text costs as it stands: `parts`, `units` of `room`, the character that forces Unicode by its name, a fault.

    A field counts as long as its name is (`has_fields`); the look at it counts what is really sent.
    """
    fields, plain = False, text
    with contextlib.suppress(Problem):
        pieces = templates.parse(text)
        fields = any(not isinstance(piece, str) for piece in pieces)
        plain = templates.render(pieces, {name: name for name in templates.FIELDS})
    counted = segments.count(plain)
    alone, joined = (160, 153) if counted.encoding == "GSM-7" else (70, 67)
    told: Record = {
        "parts": counted.parts,
        "units": counted.units,
        "room": alone if counted.parts <= 1 else joined * counted.parts,
        "encoding": counted.encoding,
        "forced_by": counted.forced_by,
        "forced_name": unicodedata.name(counted.forced_by, "a control character").lower()
        if counted.forced_by
        else None,
        "has_fields": fields,
        "problem": None,
        "cautions": sensitive_words.found_in([text], desk.db.rules.health_words),
    }
    try:
        content.check_text(text)
    except Problem as problem:
        told["problem"] = sentence(problem) if text.strip() else None
    return told


def look(
    desk: Desk,
    texts: Mapping[str, str],
    *,
    shorts: Sequence[str] = (),
    typed: str = "",
    fixes: int | None = None,
    send_at: str = "",
    instead_of: int | None = None,
) -> Record:
    """Write a broadcast down and show what it would do; nothing goes before it is confirmed.

    `typed` names single cases, one a line; `send_at` is a wall-clock time that each recipient's own clock reads;
    `instead_of` is the number of an earlier look that is put away.  Raises Problem `nobody-chosen`, `text-missing`,
    `group-unknown`, `case-unknown`, `fix-nobody`, and those of `approvals.ask`.
    """
    kept = {language: text for language, text in texts.items() if text.strip()}
    if not kept:
        raise Problem("text-missing")
    for language in kept:
        if not re.fullmatch(r"[a-z]{2,3}(-[a-z0-9]{2,8})*", language):
            raise Problem("language-shape", typed=language)
    with desk.db.transaction() as tx:
        desk.allow(tx, "tell")
        by = _by(desk)
        tx.alone("tell")
        if fixes is not None:
            delivery.one(desk, tx, fixes)
            group_ids, case_ids = [], progress.reached(tx, fixes)
            if not case_ids:
                raise Problem("fix-nobody", number=fixes)
        else:
            group_ids, case_ids = (
                [desk.group(tx, short).id for short in dict.fromkeys(shorts)],
                _singles(desk, tx, typed),
            )
        if not group_ids and not case_ids:
            raise Problem("nobody-chosen")
        at = _wall(send_at) if send_at else None
        number = approvals.ask(tx, kept, group_ids=group_ids, case_ids=case_ids, fixes=fixes, send_at=at, by=by)
        if instead_of is not None and instead_of != number:
            approvals.drop(tx, instead_of, by=by)
        return _shown(tx, number)


def look_again(desk: Desk, number: int) -> Record:
    """What waits for the ok of a second lead, as the first one saw it.  Raises `broadcast-unknown`."""
    with desk.db.reading() as tx:
        desk.allow(tx, "lead")
        delivery.one(desk, tx, number)
        return _shown(tx, number)


def list_left_out(desk: Desk, number: int) -> list[Record]:
    """The first hundred who would not get it, with the reason in words."""
    with desk.db.reading() as tx:
        desk.allow(tx, "tell")
        delivery.one(desk, tx, number)
        skipped = progress.list_skipped(tx, number, SHOWN)
        by_id = {row.case_id: row.reason for row in skipped}
        found = tx.execute(select(s.cases).where(s.cases.c.id.in_(by_id)).order_by(s.cases.c.id))
        return [
            {"case_id": c.case_id, "name": c.name or c.external_id or c.case_id, "phone": c.contact_phone_number, "why": said(by_id[c.id])}
            for c in found
        ]  # fmt: skip


def confirm(desk: Desk, number: int, typed: str, *, looked: bool = False) -> Record:
    """Let it go, once, however often it is asked; `typed` is the number of people.  Raises the Problems of `approvals.confirm`."""
    count = re.sub(r"\D", "", typed)
    with desk.db.transaction() as tx:
        desk.allow(tx, "tell")
        tx.alone("tell")
        delivery.one(desk, tx, number)
        went = approvals.confirm(tx, number, count=int(count) if count else -1, looked=looked, by=_by(desk))
        row = content.broadcast(tx, number)
        if went == "seconding":
            says = f"{number} waits for a second person: {_second_people(desk, tx)}. The first ok within fifteen minutes lets it go."
        else:
            says = f"{number} is going to {people_of(row.sendable)}. {_begins(tx, row)}"
        return {"number": number, "went": went, "says": says}


def _second_people(desk: Desk, tx: Transaction) -> str:
    """Who may give the second ok, and whether they are asked by text: a lead whose phone said STOP can still do so here."""
    asked = {lead.id: lead.name for lead in staff.reachable_leads(tx, but=desk.person_id)}
    others = [lead.name for lead in people.leads(tx) if lead.id not in asked and lead.id != desk.person_id]
    by_text = [f"{', '.join(asked.values())}, asked by text"] if asked else []
    on_a_page = [f"{', '.join(others)}, on this page only, because no text may go to that phone"] if others else []
    return "; ".join(by_text + on_a_page)


def put_away(desk: Desk, number: int) -> bool:
    """Forget what was looked at and not confirmed."""
    with desk.db.transaction() as tx:
        desk.allow(tx, "tell")
        approvals.drop(tx, number, by=_by(desk))
    return True


def halt(desk: Desk, number: int) -> str:
    """Stop what has not left yet; says how many got it.  Raises `broadcast-unknown`."""
    with desk.db.transaction() as tx:
        desk.allow(tx, "tell")
        delivery.one(desk, tx, number)
        before = content.broadcast(tx, number).state
        done = broadcasts.halt(tx, number, by=_by(desk))
    if before not in states.OPEN:
        return f"{number} was over already: {people_of(done.arrived)} got it."
    return f"{number} is halted: {people_of(done.arrived)} got it, and nobody else will.{_unclear(done)}"


def pause(desk: Desk, number: int) -> str:
    """Let nothing more leave until it is resumed; says how many got it.  Raises `broadcast-unknown` or `pause-not-running`."""
    with desk.db.transaction() as tx:
        desk.allow(tx, "tell")
        delivery.one(desk, tx, number)
        done = broadcasts.pause(tx, number, by=_by(desk))
    return (
        f"{number} is paused: {people_of(done.arrived)} got it, and nobody else does until it is resumed.{_unclear(done)}"
        " Texts whose time runs out meanwhile are not sent."
    )


def resume(desk: Desk, number: int) -> str:
    """Let it go on; says how many are still to get it.  Raises `broadcast-unknown` or `resume-not-paused`."""
    with desk.db.transaction() as tx:
        desk.allow(tx, "tell")
        delivery.one(desk, tx, number)
        done = broadcasts.resume(tx, number, by=_by(desk))
    return f"{number} goes on: {people_of(done.waiting)} {'is' if done.waiting == 1 else 'are'} still to get it."


def try_on_me(desk: Desk, number: int, language: str) -> str:
    """Send oneself the first rendering of a language.  Raises `no-phone-here`, `try-stopped` or `try-too-many`."""
    with desk.db.transaction() as tx:
        desk.allow(tx, "tell")
        delivery.one(desk, tx, number)
        person = desk.person(tx)
        if person is None:
            raise Problem("no-phone-here")
        texts = content.texts_of(tx, number)
        if language not in texts:
            raise Problem("language-shape", typed=language)
        approvals.try_on(tx, person, _samples(tx, number, language)[0], by=_by(desk))
        return f"It is on its way to your own phone, {person.phone}."


def list_running(desk: Desk) -> list[Record]:
    """What this person may see that is open: what runs, and what waits for the ok of a second lead (`for_me`)."""
    with desk.db.reading() as tx:
        desk.allow(tx, "tell")
        is_lead = desk.may(tx, "lead") and desk.person_id is not None
        waits = {
            row.id: row.person_id
            for row in operations.seconding(tx, None)
            if row.kind == "tell" and row.expires_at > tx.now
        }
        running = [row.id for row in progress.running(tx)]
        found = []
        for number in sorted([*waits, *running], reverse=True)[:50]:
            row = delivery.find(desk, tx, number)
            if row is not None:
                line = delivery.line(tx, row, progress.progress(tx, number).states)
                found.append({**line, "for_me": number in waits and is_lead and waits[number] != desk.person_id})
        return found  # fmt: skip


# -- inside ------------------------------------------------------------------------------------------------------------


def _by(desk: Desk) -> Actor:
    return Actor("desk", desk.person_id, desk.notebook)


def _singles(desk: Desk, tx: Transaction, typed: str) -> list[int]:
    """The single cases that were written down; one's own, for whoever is no lead."""
    names = list(dict.fromkeys(word.strip() for word in re.split(r"[\n,;]", typed) if word.strip()))
    if len(names) > SINGLES:
        raise Problem("too-many-singles", limit=SINGLES)
    scope, found = desk.scope(tx), []
    for name in names:
        row = lookup.find_one(tx, name)
        if scope is not None and row.id not in groups.members_of_any(tx, scope, [row.id]):
            raise Problem("case-unknown", typed=name)
        found.append(row.id)
    return list(dict.fromkeys(found))


def _wall(typed: str) -> datetime:
    try:
        at = datetime.fromisoformat(typed)
    except ValueError:
        raise Problem("time-shape", typed=typed) from None
    if at.tzinfo is not None or at.year not in YEARS:
        raise Problem("time-shape", typed=typed)
    return at


def _shown(tx: Transaction, number: int) -> Record:
    """A preview as a page shows it."""
    row, told, rules = content.broadcast(tx, number), previews.preview(tx, number), tx.rules
    texts = content.texts_of(tx, number)
    other = approvals.twin(tx, number)
    asked = operations.operation(tx, number)
    assert asked is not None
    return {
        "number": number,
        "asked_by": people.named(tx, asked.person_id),
        "recipients": told.recipients,
        "left_out": [{"why": said(reason), "count": n} for reason, n in sorted(told.skipped.items(), key=lambda x: -x[1])],
        "parts": told.parts,
        "total_parts": told.parts * told.recipients,
        "languages": [
            {"language": language, "readers": told.languages.get(language, 0), **_costs(tx, number, language, told)}
            for language in sorted(texts, key=lambda one: (one != row.language, one))
        ],
        "takes": _minutes(progress.takes_s(tx, number)),
        "begins": _begins(tx, row),
        "cautions": approvals.to_look_at(tx, list(texts.values())),
        "needs_second": approvals.needs_second(tx, row),
        "second_above": rules.second_person_above,
        "twin": f"{people.named(tx, other.person_id)} asked for {other.id} to one of these groups within the hour." if other else None,
    }  # fmt: skip


def _costs(tx: Transaction, number: int, language: str, told: previews.Preview) -> Record:
    samples = (
        _samples(tx, number, language) if told.languages.get(language) else [content.texts_of(tx, number)[language]]
    )
    dearest = previews.dearest(tx, number, language)
    name = unicodedata.name(dearest.forced_by, "a control character").lower() if dearest.forced_by else None
    return {"samples": samples, "parts": dearest.parts, "forced_by": dearest.forced_by, "forced_name": name}


def _samples(tx: Transaction, number: int, language: str) -> list[str]:
    """Three real renderings of a language, or its words where nobody reads it."""
    return list(previews.preview(tx, number, language=language).samples)


def _unclear(done: progress.Progress) -> str:
    """Of how many it cannot be said at this instant whether they got it."""
    unclear = sum(done.states.get(state, 0) for state in ("claimed", "sending", "unknown"))
    return f" Of {people_of(unclear)} it is not clear yet." if unclear else ""


def _minutes(seconds: float) -> str:
    if seconds < 90:
        return f"about {count_of(max(1, math.ceil(seconds)), 'second')}"
    if seconds < 5400:
        return f"about {math.ceil(seconds / 60)} minutes"
    return f"about {seconds / 3600:.1f} hours"


def _begins(tx: Transaction, row: Any) -> str:
    """When the first text leaves, in words."""
    if row.send_at is not None:
        return f"It goes at {row.send_at.replace('T', ' ')} by each person's own clock."
    held = approvals.holds_s(tx, row)
    waits = f"It is held for {held} seconds first, and can be halted." if held else "It goes at once."
    if tx.rules.hours is None:
        return waits
    hours = f"{tx.rules.hours.opens:%H:%M} to {tx.rules.hours.closes:%H:%M}"
    now = tx.now.astimezone(ZoneInfo(tx.rules.time_zone))
    asleep = "" if tx.rules.hours.holds(now.time()) else " It is outside these hours here now, so most of it waits."
    return f"{waits} Each gets it from {hours} by their own clock.{asleep}"
