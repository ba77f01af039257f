"""Commands that reach people: tell and re, and what happens when they are confirmed."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import Row

from bot import notices
from bot.commands.dispatch import kept_answer
from bot.commands.naming import id_shown, number_of, person_shown
from bot.commands.naming import whom as find_whom
from bot.commands.reach import may_answer, may_reach
from bot.commands.registry import Answer, Call, command
from bot.replies import TOMORROW, Quote, Sentences, Spare, Words, names, shorten
from storage.audit import Actor
from storage.broadcasts import approvals, broadcasts, content, previews, progress
from storage.contacts import lookup, people
from storage.database import Transaction
from storage.errors import Problem
from storage.messages import staff
from storage.operations import codes, operations, replies
from storage.rules import quiet_hours

_LANGUAGE = re.compile(r"[a-z]{2,3}(-[a-z0-9]{2,8})*")
_CLOCK = re.compile(r"(?P<hour>\d{1,2})[:.h]?(?P<minute>\d\d)?(?P<half>am|pm)?")


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
    if twice := _look_twice(call, text):
        return twice
    if case is not None:
        return _tell_one(call, case, text)
    assert group is not None
    return _tell_group(call, group, text)


@command("re <number> <text...>", right="tell", risk="sends", examples=["re 31 Please come at 9"])
def re_(call: Call, number: str, text: str) -> Answer:
    """Answer a reply from a person."""
    asked = number_of(number)
    reply = replies.find(call.tx, asked) if asked is not None else None
    if reply is None or not may_answer(call, reply):
        raise Problem("number-unknown", number=number)
    if said_before := _same_words(call):
        return said_before
    if twice := _look_twice(call, text):
        return twice
    return _tell_one(call, lookup.contact(call.tx, reply.case_id), text, answers=reply.id)


def correct(call: Call, number: int, case_ids: list[int], text: str) -> Answer:
    """The preview of a correction to these cases, with a code."""
    if said_before := _same_words(call):
        return said_before
    if twice := _look_twice(call, text):
        return twice
    correction = _draft(call, text, case_ids=case_ids, fixes=number)
    if content.broadcast(call.tx, correction).sendable == 0:
        return _nobody(call, correction, str(number))
    return _ask(call, correction)


@command("at <number> <when...>", right="tell", risk="part", examples=["at 42 0900", "at 42 fri 0900"])
def at(call: Call, number: str, when: Sequence[str]) -> Answer:
    """Let what waits for an ok go at a time, by each person's own clock."""
    row = _waiting(call, number)
    send_at = _time_meant(call, when)
    if row.request.get("send_at") == send_at.isoformat(timespec="minutes"):
        return kept_answer(call, row)
    previews.amend(call.tx, row.id, send_at=send_at)
    return _ask_anew(call, row)


@command("also <number> <language> <text...>", right="tell", risk="part", examples=["also 42 sw Kliniki imefungwa"])
def also(call: Call, number: str, language: str, text: str) -> Answer:
    """Say the same in another language to those who read that."""
    row = _waiting(call, number)
    if not _LANGUAGE.fullmatch(language):
        raise Problem("language-shape", typed=language)
    if language not in row.request["texts"] and not previews.count_readers(call.tx, row.id, language):
        raise Problem("language-nobody", typed=language, number=row.id)
    if row.request["texts"].get(language) == text:
        return kept_answer(call, row)
    if twice := _look_twice(call, text):
        return twice
    previews.amend(call.tx, row.id, text=(language, text))
    return _ask_anew(call, row, language=language)


def _waiting(call: Call, number: str) -> Row[Any]:
    """One's own broadcast that waits for an ok; anything else looks as if it did not exist."""
    asked = number_of(number)
    row = operations.operation(call.tx, asked) if asked is not None else None
    if row is None or row.kind != "tell" or row.person_id != call.person.id or not may_reach(call, row):
        raise Problem("number-unknown", number=number)
    if row.state != "waiting" or row.expires_at <= call.tx.now:
        raise Problem("broadcast-decided", number=row.id)
    return row


def _ask_anew(call: Call, row: Row[Any], *, language: str | None = None) -> Answer:
    """The preview of what was changed, with a new code: the old one was for what it said before."""
    if content.broadcast(call.tx, row.id).sendable == 0:
        return _nobody(call, row.id, str(row.id))
    return _ask(call, row.id, language=language)


def _time_meant(call: Call, words: Sequence[str]) -> datetime:
    """The next wall-clock time that these words mean by the programme's clock: `0900`, `fri 9am`, `tomorrow 14:30`.

    Raises Problem `time-shape`, or `time-quiet` where nobody may be texted at that time.
    """
    today = call.tx.now.astimezone(ZoneInfo(call.tx.rules.time_zone)).replace(tzinfo=None)
    *days, clock = words if _CLOCK.fullmatch(words[-1]) else [*words[1:], words[0]]
    found = _CLOCK.fullmatch(clock)
    day = call.sentences.day(days[0]) if days else None
    if found is None or len(days) > 1 or (days and day is None):
        raise Problem("time-shape", typed=" ".join(words))
    hour, minute = int(found["hour"]), int(found["minute"] or 0)
    if found["half"] and 1 <= hour <= 12:
        hour = hour % 12 + (12 if found["half"] == "pm" else 0)
    if hour > 23 or minute > 59:
        raise Problem("time-shape", typed=" ".join(words))
    meant = today.replace(hour=hour, minute=minute, second=0, microsecond=0)
    if day is None:
        meant += timedelta(days=1) if meant <= today else timedelta()
    elif day >= 0:
        ahead = (day - today.weekday()) % 7
        meant += timedelta(days=ahead or (7 if meant <= today else 0))
    else:
        meant += timedelta(days=1 if day == TOMORROW else 0)
        if meant <= today:
            raise Problem("time-shape", typed=" ".join(words))
    approvals.check_hour(call.tx, meant)
    return meant


def _look_twice(call: Call, text: str) -> Answer | None:
    """A text with a word that others should not read, or on which a network acts, is asked about before its preview.

    The same words again within ten minutes mean that it was looked at.
    """
    found = approvals.to_look_at(call.tx, [text])
    if not found or operations.with_same_words(call.tx, call.person.id, call.words, kind="caution") is not None:
        return None
    operations.note(call.tx, "caution", words=call.words, undoes=None, message_id=call.message_id, by=call.by)
    return call.say(("look-twice", {"words": names(f'"{word}"' for word in found)}))


def confirm(call: Call, operation: Row[Any]) -> Answer:
    """The code was right: let a broadcast go, or ask a second lead where it is large."""
    row = content.broadcast(call.tx, operation.id)
    if row.state != "previewed":
        return call.say(("decided-before", {"number": row.id, "state": call.sentences.state(row.state)}))
    if previews.has_changed(call.tx, row.id):
        return _ask_again(call, operation)
    if approvals.needs_second(call.tx, row) and operation.state == "waiting":
        return _ask_second(call, operation, row)
    answer = going(call, operation.id)
    if operation.state == "seconding":
        _tell_asker(call, operation, row)
    return answer


def begin(tx: Transaction, number: int) -> None:
    """The hour of a broadcast has come: it begins, or waits for a second lead if its group has grown beyond one ok."""
    if approvals.begin(tx, number, by=Actor("worker")):
        return
    operation, row = operations.operation(tx, number), content.broadcast(tx, number)
    assert operation is not None
    asked = ask_leads(tx, number, by=Actor("worker", operation.person_id))
    values = {"number": number, "count": row.sendable, "leads": names(asked)}
    notices.tell_person(tx, operation.person_id, "needs-second" if asked else "needs-second-none", values)


def ask_second_leads(tx: Transaction) -> None:
    """Text the other leads about what waits for one of them and was asked for where nothing is sent: on a page."""
    for number in approvals.unasked(tx):
        operation = operations.operation(tx, number)
        assert operation is not None
        ask_leads(tx, number, by=Actor("worker", operation.person_id))


def _ask_again(call: Call, operation: Row[Any]) -> Answer:
    """Somebody would get it who was not shown so: what was confirmed is not what would be sent."""
    _drop(call, operation.id)
    if operation.person_id != call.person.id:
        values = {"number": operation.id, "person": Words(people.named(call.tx, operation.person_id))}
        notices.tell_person(call.tx, operation.person_id, "list-changed", values)
        return call.say(("list-changed", values))
    number = previews.draft_again(call.tx, operation.id, message_id=call.message_id, by=call.by)
    asked_again = replace(call, words=operation.words, guess="")
    if content.broadcast(call.tx, number).sendable == 0:
        return _nobody(asked_again, number, str(operation.id))
    return _ask(asked_again, number)


def going(call: Call, number: int) -> Answer:
    """Launch a confirmed broadcast and say so."""
    row = content.broadcast(call.tx, number)
    approvals.go(call.tx, number, by=call.by)
    values = {
        "number": number,
        "people": count_shown(call.sentences, row.sendable),
        "minutes": call.sentences.say(
            ("about-minutes", {"count": max(1, math.ceil(progress.takes_s(call.tx, number) / 60))})
        ),
        "starts": call.sentences.say(_starts(call, row, approvals.holds_s(call.tx, row))),
    }
    return call.say(("going", values))


def count_shown(told: Sentences, count: int) -> str:
    """`1 person`, `245 people`."""
    return told.say(("one-person", {}) if count == 1 else ("people", {"count": count}))


def clock_shown(call: Call, at: datetime) -> str:
    """A time of day by the programme's clock; with the day if it is another day."""
    zone = ZoneInfo(call.tx.rules.time_zone)
    local, today = at.astimezone(zone), call.tx.now.astimezone(zone)
    return f"{local:%H:%M}" if local.date() == today.date() else call.sentences.date(local)


def progress_said(call: Call, number: int, key: str) -> Answer:
    """How far a broadcast is, by one of the sentences that say `sent of total`."""
    so_far = progress.progress(call.tx, number)
    row = operations.operation(call.tx, number)
    at = row.decided_at if row is not None and row.decided_at else call.tx.now
    values = {
        "number": number,
        "sent": so_far.arrived,
        "total": so_far.row.sendable,
        "time": clock_shown(call, at),
    }
    return call.say((key, values))


def _tell_group(call: Call, group: Row[Any], text: str) -> Answer:
    """The preview of a text to a group, with a code."""
    number = _draft(call, text, group_ids=[group.id])
    if content.broadcast(call.tx, number).sendable == 0:
        return _nobody(call, number, group.short)
    return _ask(call, number)


def _nobody(call: Call, number: int, whom: str) -> Answer:
    """Nobody of those can be texted, so there is nothing to confirm."""
    skipped = skipped_shown(call, previews.preview(call.tx, number).skipped)
    _drop(call, number)
    return call.say(("tell-nobody", {"group": whom, "skipped": skipped}))


def _tell_one(call: Call, case: Row[Any], text: str, *, answers: int | None = None) -> Answer:
    """A text to one person: at once from a fresh phone, else with a code."""
    number = _draft(call, text, case_ids=[case.id], answers=answers)
    shown = Words(person_shown(case))
    if content.broadcast(call.tx, number).sendable == 0:
        reason = call.sentences.reason(next(iter(previews.preview(call.tx, number).skipped)))
        _drop(call, number)
        return call.say(("tell-one-cannot", {"person": shown, "reason": reason}))
    careful = bool(approvals.to_look_at(call.tx, [text]))
    if careful or call.guess or call.is_late or not goes_at_once(call):
        return _ask(call, number)
    going(call, number)
    leaves = _leaves(call, case)
    if leaves > call.tx.now:
        return call.say(("text-waits", {"number": number, "person": shown, "time": clock_shown(call, leaves)}))
    return call.say(("text-going", {"number": number, "person": shown, "id": id_shown(case)}))


def goes_at_once(call: Call) -> bool:
    """Whether a text to one person needs no code: from a fresh phone, until there are too many of them in an hour."""
    return codes.is_fresh(call.tx, call.person.id) and not approvals.are_many_singles(call.tx, call.person.id)


def _starts(call: Call, row: Row[Any], hold_s: int) -> tuple[str, dict[str, Any]]:
    """When the first one leaves: after the hold, at its time, or in the hours of the day."""
    if row.send_at is not None:
        return "starts-at", {"time": call.sentences.day_and_time(row.send_at)}
    held_until = call.tx.now + timedelta(seconds=hold_s)
    zones: tuple[str, ...] = (call.tx.rules.time_zone,)
    operation = operations.operation(call.tx, row.id)
    if row.kind == "text" and operation is not None:
        zones = _zones(call, lookup.contact(call.tx, int(operation.request["cases"][0])))
    opens = quiet_hours.next_allowed(held_until, zones, call.tx.rules.hours)
    if opens > held_until:
        return "starts-day", {"time": clock_shown(call, opens)}
    waits = f"{hold_s} s" if hold_s < 60 else f"{hold_s // 60} min"
    return ("starts-hold", {"time": waits}) if hold_s else ("starts-now", {})


def _leaves(call: Call, case: Row[Any]) -> datetime:
    return quiet_hours.next_allowed(call.tx.now, _zones(call, case), call.tx.rules.hours)


def _zones(call: Call, case: Row[Any]) -> tuple[str, ...]:
    return quiet_hours.zones_of(case.time_zone, case.contact_phone_number, home_zone=call.tx.rules.time_zone)


def _when_shown(told: Sentences, row: Row[Any]) -> str:
    """At what time a broadcast is to go, if it has one."""
    return told.sentences["when"].format(time=told.day_and_time(row.send_at)) if row.send_at else ""


def _draft(
    call: Call,
    text: str,
    *,
    group_ids: list[int] | None = None,
    case_ids: list[int] | None = None,
    fixes: int | None = None,
    answers: int | None = None,
) -> int:
    return previews.draft(
        call.tx,
        {call.tx.rules.language: text},
        group_ids=group_ids or [],
        case_ids=case_ids or [],
        fixes=fixes,
        answers=answers,
        words=call.words,
        message_id=call.message_id,
        by=call.by,
    )


def _drop(call: Call, number: int) -> None:
    broadcasts.drop(call.tx, number)
    operations.decide(call.tx, number, "dropped", by=call.by)


def _ask(call: Call, number: int, *, language: str | None = None) -> Answer:
    """The preview with a code, kept so that the same words get the same answer.

    Of several languages it shows the one that is named.
    """
    preview = previews.preview(call.tx, number, language=language)
    row, operation = content.broadcast(call.tx, number), operations.operation(call.tx, number)
    assert operation is not None
    told = call.sentences.sentences
    values = {
        # What can be spared goes from the end, before the words that must be sent next are cut.
        "skipped": Spare(skipped_shown(call, preview.skipped)),
        "guess": Spare(call.guess),
        "number": number,
        "people": count_shown(call.sentences, preview.recipients),
        "parts": preview.parts,
        "when": _when_shown(call.sentences, row),
        "languages": Spare(_languages_shown(preview)),
        "twin": Spare(_twin_shown(call, number)),
        "text": Quote(preview.samples[0]),
        "code": codes.mask(codes.next_length(call.tx, call.person.id)),
        "life": Spare(told["good-for"], cheap=True),
    }
    key, whom = _whom_asked(call, operation)
    code_id = operations.issue_code(call.tx, number, call.person.id)
    text = call.sentences.say((key, values | whom))
    operations.answered(call.tx, number, text)
    return Answer(text, code_id)


def _whom_asked(call: Call, operation: Row[Any]) -> tuple[str, dict[str, Any]]:
    """The sentence that asks, and whom it names: a group, one person, or those whom a correction is for."""
    if operation.request.get("fixes"):
        return "ask-fix", {"fixed": operation.request["fixes"]}
    if shorts := [group.short for group in progress.groups_of(call.tx, operation.id)]:
        return "ask-tell", {"group": ", ".join(shorts)}
    case = lookup.contact(call.tx, int(operation.request["cases"][0]))
    return "ask-text", {"person": Words(person_shown(case))}


def _languages_shown(preview: previews.Preview) -> str:
    """How many read it in which language, where there is a choice."""
    if len(preview.languages) < 2:
        return ""
    return f" ({', '.join(f'{language} {count}' for language, count in preview.languages.items())})"


def _twin_shown(call: Call, number: int) -> str:
    """Somebody else's broadcast to the same group within the hour: two people may have had the same idea."""
    other = approvals.twin(call.tx, number)
    if other is None:
        return ""
    values = {"person": shorten(people.named(call.tx, other.person_id), 20), "number": other.id}
    return call.sentences.sentences["twin"].format(**values)


def _same_words(call: Call) -> Answer | None:
    """The same words within ten minutes: the same preview and code while it waits, its progress once it runs."""
    same = approvals.same_wish(call.tx, call.person.id, call.words)
    if same is None:
        return None
    operation, is_now = same
    if not may_reach(call, operation):
        return None  # what they name is looked for once more, and not found
    if is_now == "runs":
        return progress_said(call, operation.id, "already-running")
    return kept_answer(call, operation) if operation.answer else None


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
    approvals.wait_for_second(call.tx, operation.id, by=call.by)
    asked = ask_leads(call.tx, operation.id, by=call.by)
    values = {"number": operation.id, "count": row.sendable, "leads": names(asked)}
    return call.say(("needs-second" if asked else "needs-second-none", values))


def ask_leads(tx: Transaction, number: int, *, by: Actor) -> list[str]:
    """Send every other lead who can be texted a code of their own for a large broadcast; returns their names."""
    others = staff.reachable_leads(tx, but=by.person_id)
    for lead in others:
        code = codes.mask(codes.next_length(tx, lead.id))
        code_id = operations.issue_code(tx, number, lead.id)
        notices.tell(tx, lead, "second-asked", partial(_second_asked, tx, number, by, code), code_id=code_id)
    return [lead.name for lead in others]


def _second_asked(tx: Transaction, number: int, by: Actor, code: str, language: Sentences) -> dict[str, Any]:
    row, operation = content.broadcast(tx, number), operations.operation(tx, number)
    assert operation is not None
    shorts = ", ".join(g.short for g in progress.groups_of(tx, number))
    if fixed := operation.request.get("fixes"):
        shorts = f"{language.verb('fix')} {fixed}"
    return {
        "number": number,
        "person": Words(people.named(tx, by.person_id)),
        "group": Words(shorts),
        "when": _when_shown(language, row),
        "people": count_shown(language, row.sendable),
        "text": Quote(content.text_of(tx, number)),
        "code": code,
    }


def _tell_asker(call: Call, operation: Row[Any], row: Row[Any]) -> None:
    values = {"number": operation.id, "person": Words(call.person.name)}
    notices.tell_person(
        call.tx,
        operation.person_id,
        "second-given",
        lambda language: values | {"people": count_shown(language, row.sendable)},
    )
