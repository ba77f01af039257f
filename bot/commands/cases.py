"""Commands about single cases: find, move, invite."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from sqlalchemy import Row

from bot.commands.broadcasts import goes_at_once
from bot.commands.groups import ask_with_code, waiting_already
from bot.commands.naming import case_of, is_seen, may_look_up, not_found, person_shown
from bot.commands.registry import Answer, Call, command
from bot.replies import Spare, Words, names, sentences, shorten
from storage.contacts import consent, lookup, people
from storage.conversations import conversations
from storage.errors import Problem
from storage.messages import outbox
from storage.operations import operations
from storage.rules import numbers, phone_keys

SHOWN = 3
"""People that `find` names at most: it is for the one who was meant, not for a list."""

ASKED_FOR = timedelta(hours=24)
"""How long the text that asks a phone may wait to leave; the question itself stays open longer."""


@command("find <words...>", right="read", risk="reads", examples=["find ama", "find 4502"])
def find(call: Call, words: str) -> Answer:
    """A case by name, id or number: at most three, numbers masked."""
    may_look_up(call)
    own = None if people.may(call.person, "lead") else [group.id for group in call.groups]
    count, found = lookup.search(call.tx, words, group_ids=own, at_most=SHOWN)
    if not count:
        not_found(call, 1)
        return call.say(("find-nobody", {"words": Words(words)}))
    shown = names(_shown(call, case) for case in found)
    if count > SHOWN:
        return call.say(("find-many", {"count": count, "people": shown}))
    return call.say(("find", {"count": count, "people": shown}))


@command("move <who> <phone>", right="change", risk="code", examples=["move p-104 15557654321"])
def move(call: Call, who: str, phone: str) -> Answer:
    """A case's new number: it changes when the new phone says yes."""
    case = case_of(call, who)
    try:
        number = numbers.read(phone, country=call.tx.rules.country, strict=call.tx.rules.strict_numbers)
    except Problem:
        raise Problem("number-shape", typed=phone) from None
    if again := waiting_already(call) or _asked_already(call, case, "move", number.digits):
        return again
    if phone_keys.key(number.digits) == case.phone_key:
        return call.say(("move-same", {"person": Words(person_shown(case)), "phone": number.digits}))
    others = [other for other in lookup.on_phone(call.tx, number.digits) if is_seen(call, other)]
    knows = people.may(call.person, "lead") or bool(others)
    reason = "closed" if case.status == "closed" else _cannot_ask(call, number.digits, case) if knows else None
    if reason:
        return call.say(("ask-cannot", {"person": Words(person_shown(case)), "reason": call.sentences.reason(reason)}))
    request = {"case": case.id, "phone": number.digits, "instead_of": case.contact_phone_number}
    unsure = call.sentences.sentences["number-unsure"] if "number-unknown-range" in number.warnings else ""
    if "number-old-spelling" in number.warnings:
        unsure = call.sentences.sentences["number-old"].format(today=phone_keys.written_today(number.digits))
    if others:
        unsure = call.sentences.sentences["number-shared"].format(person=shorten(person_shown(others[0]), 24))
    values = {"person": Words(person_shown(case)), "phone": number.digits, "unsure": Spare(unsure)}
    return ask_with_code(call, "move", request, "ask-move", values)


@command("invite <who>", right="tell", risk="sends", examples=["invite p-104"])
def invite(call: Call, who: str) -> Answer:
    """Ask a case whether its phone may answer us; a yes makes it two-way."""
    case = case_of(call, who)
    shown = Words(person_shown(case))
    if again := waiting_already(call) or _asked_already(call, case, "invite", case.contact_phone_number):
        return again
    if case.two_way:
        return call.say(("invite-already", {"person": shown}))
    if reason := _cannot_ask(call, case.contact_phone_number, case):
        return call.say(("ask-cannot", {"person": shown, "reason": call.sentences.reason(reason)}))
    request = {"case": case.id, "phone": case.contact_phone_number, "instead_of": case.contact_phone_number}
    if call.guess or call.is_late or not goes_at_once(call):
        return ask_with_code(call, "invite", request, "ask-invite", {"person": shown})
    number = operations.note(
        call.tx, "invite", words=call.words, undoes=None, request=request, message_id=call.message_id, by=call.by
    )
    return _ask_phone(call, number, "invite", request)


def confirm(call: Call, operation: Row[Any]) -> Answer:
    """The code was right: ask the phone."""
    case = lookup.contact(call.tx, int(operation.request["case"]))
    reason = "closed" if case.status == "closed" else None
    if operation.kind == "invite":
        reason = reason or _cannot_ask(call, operation.request["phone"], case)
    if case.contact_phone_number != operation.request["instead_of"]:
        reason = "changed"
    if reason:
        operations.decide(call.tx, operation.id, "dropped", by=call.by)
        return call.say(("ask-cannot", {"person": Words(person_shown(case)), "reason": call.sentences.reason(reason)}))
    operations.decide(call.tx, operation.id, "done", by=call.by)
    return _ask_phone(call, operation.id, operation.kind, operation.request)


def answered_so_far(call: Call, operation: Row[Any]) -> Answer:
    """What came of asking a phone, for `check`."""
    if operation.state != "done":
        state = call.sentences.state(operation.state)
        return call.say(("decided-before", {"number": operation.id, "state": state}))
    case = lookup.contact(call.tx, int(operation.request["case"]))
    asked = conversations.asked_by(call.tx, operation.id)
    outcome = asked.outcome if asked is not None else None
    over = asked is None or asked.state == "closed" or asked.waits_until <= call.tx.now
    word = {"yes": "asked-yes", "no": "asked-no", "stopped": "asked-no"}.get(
        outcome or "", "asked-over" if over else "asked-open"
    )
    return call.say((word, {"number": operation.id, "person": Words(person_shown(case))}))


def _ask_phone(call: Call, number: int, kind: str, request: dict[str, Any]) -> Answer:
    """Text the question to the phone, in the case's language; what the phone is asked besides is asked again after it.

    One about the same case takes the place of an earlier one.  Whoever asks is told the same whatever is open there: a new
    number may be anybody's, and what its owner said to us is not theirs to know.
    """
    case = lookup.contact(call.tx, int(request["case"]))
    phone = request["phone"]
    for earlier in conversations.live_on(call.tx, phone):
        if earlier.case_id == case.id:
            conversations.close(call.tx, earlier.id, "withdrawn")
    language = sentences(case.language_code or call.tx.rules.language)
    text = language.say((f"phone-asked-{kind}", {"programme": Words(call.tx.rules.name)}))
    message_id = outbox.queue(call.tx, phone, text, "text", case_id=case.id, expires_at=call.tx.now + ASKED_FOR)
    conversations.begin(call.tx, phone, kind, case_id=case.id, operation_id=number, message_id=message_id)
    return call.say(("phone-asked", {"number": number, "person": Words(person_shown(case))}))


def withdraw(call: Call, operation: Row[Any]) -> bool:
    """Let whatever the phone answers change nothing any more; False if it was never asked or has answered."""
    asked = conversations.asked_by(call.tx, operation.id)
    if operation.state != "done" or (asked is not None and asked.state == "closed"):
        return False
    if asked is not None:
        conversations.close(call.tx, asked.id, "withdrawn")
    operations.decide(call.tx, operation.id, "dropped", by=call.by)
    return True


def _asked_already(call: Call, case: Row[Any], kind: str, phone: str | None) -> Answer | None:
    """A phone is asked the same once: also where two people have the idea, or a network brings one text twice."""
    live = conversations.live_on(call.tx, phone) if phone is not None else ()
    same = next((one for one in live if one.kind == kind and one.case_id == case.id), None)
    if same is None:
        return None
    return call.say(("asked-open", {"number": same.operation_id, "person": Words(person_shown(case))}))


def _cannot_ask(call: Call, phone: str | None, case: Row[Any]) -> str | None:
    """Why a phone of which this person may know cannot be asked for a case, as a reason; None if it can."""
    if case.status == "closed":
        return "closed"
    if phone is None:
        return "no-number"
    if not consent.may_text(call.tx, phone):
        return "doubt" if consent.newest(call.tx, phone) == "doubt" else "stopped"
    others = [one for one in conversations.live_on(call.tx, phone) if one.case_id not in (None, case.id)]
    return "asked-already" if others else None


def _shown(call: Call, case: Row[Any]) -> str:
    number = (
        numbers.masked(case.contact_phone_number) if case.contact_phone_number else call.sentences.reason("no-number")
    )
    closed = f", {call.sentences.sentences['closed-short']}" if case.status == "closed" else ""
    return f"{person_shown(case)} {number}{closed}"
