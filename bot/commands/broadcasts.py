"""Commands that reach people: tell and re, and what happens when they are confirmed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import Row

from bot.commands.dispatch import Answer, Call, command, id_shown, number_of, person_shown
from bot.commands.dispatch import whom as find_whom
from bot.replies import Quote, Spare, Words, names, sentences
from storage import broadcasts, codes, consent, contacts, messages, operations, people, schedules
from storage.audit import Actor
from storage.database import Transaction
from storage.errors import Problem

SINGLE_TEXTS_AN_HOUR = 30


@command(
    "tell <whom> <text...>",
    right="tell",
    risk="sends",
    examples=["tell anc Clinic closed Friday", "tell p-104 Please call us"],
)
def tell(call: Call, whom: str, text: str) -> Answer:
    """A message to a group or to one person."""
    if said_before := _same_words(call):
        return said_before
    group, case = find_whom(call, whom)
    if case is not None:
        return _tell_one(call, case, text)
    assert group is not None
    return _tell_group(call, group, text)


@command("re <number> <text...>", right="tell", risk="sends", examples=["re 31 Please come at 9"])
def re_(call: Call, number: str, text: str) -> Answer:
    """Answer a reply from a person."""
    if said_before := _same_words(call):
        return said_before
    asked = number_of(number)
    row = operations.operation(call.tx, asked) if asked is not None else None
    told = row is not None and row.kind == "inbox" and call.person.id in row.request["told"]
    if row is None or not (told or (row.kind == "inbox" and people.may(call.person, "lead"))):
        raise Problem("number-unknown", number=number)
    return _tell_one(call, contacts.contact(call.tx, int(row.request["case"])), text)


def correct(call: Call, number: int, case_ids: list[int], text: str) -> Answer:
    """The preview of a correction to these cases, with a code."""
    if said_before := _same_words(call):
        return said_before
    correction = _draft(call, text, case_ids=case_ids)
    if broadcasts.broadcast(call.tx, correction).sendable == 0:
        return _nobody(call, correction, str(number))
    return _ask(call, correction, "ask-fix", fixed=number)


def confirm(call: Call, operation: Row[Any]) -> Answer:
    """The code was right: let a broadcast go, or ask a second lead where it is large."""
    row = broadcasts.broadcast(call.tx, operation.id)
    if row.state != "previewed":
        return call.say(("decided-before", {"number": row.id, "state": row.state}))
    if broadcasts.has_changed(call.tx, row.id):
        return _ask_again(call, operation)
    if row.sendable > call.tx.rules.second_person_above and operation.state == "waiting":
        return _ask_second(call, operation, row)
    answer = going(call, operation.id)
    if operation.state == "seconding":
        _tell_asker(call, operation, row)
    return answer


def _ask_again(call: Call, operation: Row[Any]) -> Answer:
    """Somebody would get it who was not shown so: what was confirmed is not what would be sent."""
    text, groups = broadcasts.text_of(call.tx, operation.id), broadcasts.groups_of(call.tx, operation.id)
    _drop(call, operation.id)
    asked_again = replace(call, words=operation.words, guess="")
    own = operation.person_id == call.person.id
    if own and len(groups) == 1:
        return _tell_group(asked_again, groups[0], text)
    if own and len(operation.request["cases"]) == 1:
        case = contacts.contact(call.tx, int(operation.request["cases"][0]))
        return _tell_one(asked_again, case, text, always_ask=True)
    told = ("list-changed", {"number": operation.id, "person": Words(people.named(call.tx, operation.person_id))})
    _notify_asker(call, operation, told)
    return call.say(told)


def going(call: Call, number: int) -> Answer:
    """Launch a confirmed broadcast and say so."""
    row = broadcasts.broadcast(call.tx, number)
    hold_s = 0 if row.kind == "text" else call.tx.rules.hold_s
    operations.decide(call.tx, number, "done", by=call.by)
    broadcasts.launch(call.tx, number, hold_s=hold_s, by=call.by)
    values = {
        "number": number,
        "people": count_shown(call, row.sendable),
        "minutes": call.sentences.say(
            ("about-minutes", {"count": max(1, math.ceil(row.sendable / call.tx.rules.rate_per_s / 60))})
        ),
        "starts": call.sentences.say(_starts(call, row, hold_s)),
    }
    return call.say(("going", values))


def count_shown(call: Call, count: int) -> str:
    """`1 person`, `245 people`."""
    return call.sentences.say(("one-person", {}) if count == 1 else ("people", {"count": count}))


def clock_shown(tx: Transaction, at: datetime) -> str:
    """A time of day by the programme's clock; with the day if it is another day."""
    zone = ZoneInfo(tx.rules.time_zone)
    local, today = at.astimezone(zone), tx.now.astimezone(zone)
    return f"{local:%H:%M}" if local.date() == today.date() else f"{local.day} {local:%b %H:%M}"


def progress_said(call: Call, number: int, key: str) -> Answer:
    """How far a broadcast is, by one of the sentences that say `sent of total`."""
    progress = broadcasts.progress(call.tx, number)
    row = operations.operation(call.tx, number)
    at = row.decided_at if row is not None and row.decided_at else call.tx.now
    values = {
        "number": number,
        "sent": progress.arrived,
        "total": progress.row.sendable,
        "time": clock_shown(call.tx, at),
    }
    return call.say((key, values))


def _tell_group(call: Call, group: Row[Any], text: str) -> Answer:
    """The preview of a text to a group, with a code."""
    number = _draft(call, text, group_ids=[group.id])
    if broadcasts.broadcast(call.tx, number).sendable == 0:
        return _nobody(call, number, group.short)
    return _ask(call, number, "ask-tell", group=group.short)


def _nobody(call: Call, number: int, whom: str) -> Answer:
    """Nobody of those can be texted, so there is nothing to confirm."""
    skipped = skipped_shown(call, broadcasts.preview(call.tx, number).skipped)
    _drop(call, number)
    return call.say(("tell-nobody", {"group": whom, "skipped": skipped}))


def _tell_one(call: Call, case: Row[Any], text: str, *, always_ask: bool = False) -> Answer:
    """A text to one person: at once from a fresh phone, else with a code."""
    hour = call.tx.now - timedelta(hours=1)
    if broadcasts.count_texts(call.tx, call.person.id, hour) >= SINGLE_TEXTS_AN_HOUR:
        raise Problem("tell-too-many", count=SINGLE_TEXTS_AN_HOUR)
    number = _draft(call, text, case_ids=[case.id])
    shown = Words(person_shown(case))
    if broadcasts.broadcast(call.tx, number).sendable == 0:
        reason = call.sentences.reason(next(iter(broadcasts.preview(call.tx, number).skipped)))
        _drop(call, number)
        return call.say(("tell-one-cannot", {"person": shown, "reason": reason}))
    if always_ask or call.guess or not codes.is_fresh(call.tx, call.person.id):
        return _ask(call, number, "ask-text", person=shown)
    going(call, number)
    leaves = _leaves(call, case)
    if leaves > call.tx.now:
        return call.say(("text-waits", {"number": number, "person": shown, "time": clock_shown(call.tx, leaves)}))
    return call.say(("text-going", {"number": number, "person": shown, "id": id_shown(case)}))


def _starts(call: Call, row: Row[Any], hold_s: int) -> tuple[str, dict[str, Any]]:
    """When the first one leaves: after the hold, or in the hours of the day."""
    held_until = call.tx.now + timedelta(seconds=hold_s)
    zones: tuple[str, ...] = (call.tx.rules.time_zone,)
    operation = operations.operation(call.tx, row.id)
    if row.kind == "text" and operation is not None:
        zones = _zones(call, contacts.contact(call.tx, int(operation.request["cases"][0])))
    opens = schedules.next_allowed(held_until, zones, call.tx.rules.hours)
    if opens > held_until:
        return "starts-day", {"time": clock_shown(call.tx, opens)}
    waits = f"{hold_s} s" if hold_s < 60 else f"{hold_s // 60} min"
    return ("starts-hold", {"time": waits}) if hold_s else ("starts-now", {})


def _leaves(call: Call, case: Row[Any]) -> datetime:
    return schedules.next_allowed(call.tx.now, _zones(call, case), call.tx.rules.hours)


def _zones(call: Call, case: Row[Any]) -> tuple[str, ...]:
    return schedules.zones_of(case.time_zone, case.contact_phone_number, home_zone=call.tx.rules.time_zone)


def _draft(call: Call, text: str, *, group_ids: list[int] | None = None, case_ids: list[int] | None = None) -> int:
    return broadcasts.draft(
        call.tx,
        {call.tx.rules.language: text},
        group_ids=group_ids or [],
        case_ids=case_ids or [],
        words=call.words,
        message_id=call.message_id,
        by=call.by,
    )


def _drop(call: Call, number: int) -> None:
    broadcasts.drop(call.tx, number)
    operations.decide(call.tx, number, "dropped", by=call.by)


def _ask(call: Call, number: int, key: str, **more: Any) -> Answer:
    """The preview with a code, kept so that the same words get the same answer."""
    preview = broadcasts.preview(call.tx, number)
    values = {
        "guess": Spare(call.guess),
        "number": number,
        "people": count_shown(call, preview.recipients),
        "parts": preview.parts,
        "skipped": skipped_shown(call, preview.skipped),
        "text": Quote(preview.samples[0]),
        "code": codes.MASK,
        "life": Spare(call.sentences.sentences["good-for"]),
    }
    code_id = operations.issue_code(call.tx, number, call.person.id)
    text = call.sentences.say((key, values | more))
    operations.answered(call.tx, number, text)
    return Answer(text, code_id)


def _same_words(call: Call) -> Answer | None:
    """The same words within ten minutes: the same preview and code while it waits, its progress once it runs."""
    same = operations.with_same_words(call.tx, call.person.id, call.words)
    if same is None or same.kind != "tell":
        return None
    if same.state == "waiting" and same.answer:
        code = next((c for c in codes.waiting_for(call.tx, call.person.id) if c.operation_id == same.id), None)
        return Answer(same.answer, code.id if code is not None else None)
    # After a halt the same words are a new wish.
    running = broadcasts.broadcast(call.tx, same.id).state in ("expanding", "sending", "done")
    if same.state == "seconding" or (same.state == "done" and running):
        return progress_said(call, same.id, "already-running")
    return None


def skipped_shown(call: Call, skipped: Mapping[str, int]) -> str:
    """Who is skipped: those who said stop, and the others."""
    stopped = skipped.get("stopped", 0)
    others = sum(skipped.values()) - stopped
    shown = ""
    if stopped:
        shown += call.sentences.sentences["skipped-stopped"].format(count=stopped)
    if others:
        shown += call.sentences.sentences["skipped-other"].format(count=others)
    return shown


def _ask_second(call: Call, operation: Row[Any], row: Row[Any]) -> Answer:
    operations.decide(call.tx, operation.id, "seconding", by=call.by)
    asked = ask_leads(call.tx, operation.id, by=call.by)
    values = {"number": operation.id, "count": row.sendable, "leads": names(asked)}
    return call.say(("needs-second" if asked else "needs-second-none", values))


def ask_leads(tx: Transaction, number: int, *, by: Actor) -> list[str]:
    """Send every other lead a code of their own for a large broadcast; returns their names."""
    row = broadcasts.broadcast(tx, number)
    others = [p for p in people.leads(tx) if p.id != by.person_id]
    shorts = ", ".join(g.short for g in broadcasts.groups_of(tx, number))
    for lead in others:
        told = sentences(lead.language_code or tx.rules.language)
        values = {
            "number": number,
            "person": Words(people.named(tx, by.person_id)),
            "group": Words(shorts),
            "people": told.say(("people", {"count": row.sendable})),
            "text": Quote(broadcasts.text_of(tx, number)),
            "code": codes.MASK,
        }
        code_id = operations.issue_code(tx, number, lead.id)
        messages.queue(tx, lead.phone, told.say(("second-asked", values)), "notice", person_id=lead.id, code_id=code_id)
    return [lead.name for lead in others]


def _tell_asker(call: Call, operation: Row[Any], row: Row[Any]) -> None:
    shown = count_shown(call, row.sendable)
    _notify_asker(
        call, operation, ("second-given", {"number": operation.id, "person": Words(call.person.name), "people": shown})
    )


def _notify_asker(call: Call, operation: Row[Any], told: tuple[str, dict[str, Any]]) -> None:
    """Tell whoever asked what a second person's ok came to."""
    asker = people.by_id(call.tx, operation.person_id)
    if asker is not None and consent.may_text(call.tx, asker.phone):
        said = sentences(asker.language_code or call.tx.rules.language).say(told)
        messages.queue(call.tx, asker.phone, said, "notice", person_id=asker.id)
