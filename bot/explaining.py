"""The life of a message in words: who asked, by which text, what let it go or held it, attempts, receipts.

Each step has the moment, a word for its kind (stable, for scripts) and a sentence.  They stand in order of time and the
last says how it is now.  Times within a sentence are by the programme's clock, or by the recipient's where it says so.
A code is never shown, neither as it was sent nor as it was typed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import Row

from bot.replies import sentences
from storage import broadcasts, exports, lives, messages, operations, people, routes, schedules
from storage.database import Transaction
from storage.errors import Problem
from storage.messages import KINDS, MEANINGS

Step = dict[str, Any]

KINDS_OF_STEPS = (
    "asked", "code", "confirmed", "second", "ended", "held", "scheduled", "halted", "queued", "consent", "gateway",
    "waits", "attempt", "handed_over", "receipt", "withheld", "answers", "received", "effect", "reply", "fault", "state",
)  # fmt: skip
"""The words that stand under `kind`."""


def life(tx: Transaction, number: int) -> list[Step]:
    """What happened to a message, oldest first: `at`, `kind` and `what`.  Raises Problem `message-unknown`."""
    row = messages.message(tx, number)
    if row is None:
        raise Problem("message-unknown", number=number)
    life = _Life(tx, row)
    steps = sorted(life.inbound() if row.direction == "in" else life.outbound(), key=lambda step: step["at"])
    last = life.now_in() if row.direction == "in" else life.now_out()
    # A receipt that changed nothing may be younger than the last move.
    newest = max([last["at"], *(step["at"] for step in steps)])
    return [*steps, last | {"at": newest}]


class _Life:
    """One message and the words for what happened to it."""

    def __init__(self, tx: Transaction, row: Row[Any]) -> None:
        self.tx = tx
        self.row = row
        self.zone = tx.rules.time_zone
        self.case = lives.case_of(tx, row) if row.case_id is not None else None
        self.hidden: Callable[[str], str] = exports.hide_codes(tx)
        self.reason = sentences("en").reason

    # -- out -----------------------------------------------------------------------------------------------------------

    def outbound(self) -> Iterator[Step]:
        """Every step but the last of a message of ours."""
        if self.row.broadcast_id is not None:
            yield from self._asked(self.row.broadcast_id)
        if self.row.reply_to is not None:
            yield from self._answers()
        if self.row.code_id is not None:
            yield from self._carries_code()
        yield from self._queued()
        yield from self._consent()
        yield from self._attempts()
        yield from self._receipts()
        if self.row.state in ("withheld", "cancelled", "expired"):
            yield from self._withheld()

    def _asked(self, number: int) -> Iterator[Step]:
        """Who asked for a broadcast, and how it came to go."""
        operation = operations.operation(self.tx, number)
        broadcast = broadcasts.broadcast(self.tx, number)
        if operation is None:
            return
        asker = people.named(self.tx, operation.person_id)
        whom = ", ".join(group.short for group in broadcasts.groups_of(self.tx, number)) or "single cases"
        asked = f"{asker} asked for {number} through {operation.door}{self._by_text(operation.message_id)}"
        counts = f"{broadcast.recipients} people in {whom}, of whom {broadcast.sendable} could be texted"
        yield _step(operation.asked_at, "asked", f"{asked}: a text to {counts}")
        for code in lives.codes_of(self.tx, number):
            if code.used_at is not None:
                yield _step(code.used_at, "code", f"{code.person} gave the code back")
        for deed in lives.deeds(self.tx, number):
            who = f"{deed.person or 'system'} through {deed.door}{self._source(deed.source)}"
            if deed.verb == "operations.done":
                yield _step(deed.at, "confirmed", f"{who} confirmed {number}")
            elif deed.verb == "operations.seconding":
                limit = self.tx.rules.second_person_above
                told = f"{who} confirmed {number}; a second person's ok was asked for, for it is for more than {limit}"
                yield _step(deed.at, "second", told)
            elif deed.verb == "broadcasts.halt":
                yield _step(deed.at, "halted", f"{who} halted {number}")
            elif deed.verb.startswith("operations.") and deed.verb != "operations.ask":
                yield _step(deed.at, "ended", f"{who}: {number} is {deed.verb.removeprefix('operations.')}")
        yield from self._launched(broadcast)
        yield from self._codes_sent(number)

    def _launched(self, broadcast: Row[Any]) -> Iterator[Step]:
        if broadcast.launched_at is None:
            return
        send_at = broadcast._mapping.get("send_at")
        if send_at:
            told = f"scheduled for {str(send_at).replace('T', ' ')} by each recipient's own clock"
            yield _step(broadcast.launched_at, "scheduled", told)
        if broadcast.hold_until is not None:
            held = self._time(broadcast.hold_until)
            told = f"{broadcast.id} was let go and held until {held}, so that it could still be halted"
            yield _step(broadcast.launched_at, "held", told)

    def _codes_sent(self, number: int) -> Iterator[Step]:
        for code in lives.codes_of(self.tx, number):
            if code.message_id is not None:
                good = f"good until {self._time(code.expires_at)}"
                told = f"a code was sent to {code.person} (message {code.message_id}, {code.state}), {good}"
                yield _step(code.created_at, "code", told)

    def _answers(self) -> Iterator[Step]:
        asked = messages.message(self.tx, self.row.reply_to)
        if asked is not None:
            whose = f" of {self._sender(asked)}" if self._sender(asked) != self.row.phone else ""
            yield _step(asked.created_at, "answers", f"answers text {asked.id}{whose}: {self._quoted(asked.body)}")

    def _carries_code(self) -> Iterator[Step]:
        code = lives.operation_of_code(self.tx, self.row.code_id)
        if code is None:
            return
        told = f"carries a code for {code.operation_id}, good until {self._time(code.expires_at)}; its digits are put in when it is handed over"
        yield _step(self.row.created_at, "code", told)
        if code.used_at is not None:
            yield _step(code.used_at, "confirmed", f"the code was given back: {code.operation_id} is confirmed")

    def _queued(self) -> Iterator[Step]:
        row = self.row
        about = [f"kind {row.kind}", f"language {row.language}" if row.language else "", _parts(row.segments)]
        dies = f"; it dies at {self._time(row.expires_at)}" if row.expires_at else ""
        said = f"put into the outbox ({', '.join(filter(None, about))}){dies}"
        yield _step(row.created_at, "queued", said)
        yield _step(row.created_at, "gateway", self._gateway())
        if row.state == "queued" or row.due_at > row.created_at:
            yield from self._waited()

    def _gateway(self) -> str:
        """By which gateway, and why that one."""
        name = self.row.gateway
        if name is None:
            return "goes by no gateway: none was set here when it was queued; the worker gives it the default one"
        unknown = ", which is not set up here" if self.tx.rules.gateways and name not in self.tx.rules.gateways else ""
        told = f"goes by gateway {name}{unknown}"
        if any(attempt.reason == "failover" for attempt in messages.attempts_of(self.tx, self.row.id)):
            return f"{told} now: it was passed on, as the settings say ([failover])"
        asked = messages.message(self.tx, self.row.reply_to) if self.row.reply_to is not None else None
        if asked is not None and asked.phone == self.row.phone and asked.gateway == name:
            return f"{told}, by which the text came in that it answers"
        if self.case is not None and self.case.contact_backend_id == name:
            return f"{told}, because the case is set to it"
        choice = routes.choose(self.tx.rules, self.row.phone or "")
        if choice.gateway == name and choice.because == "prefix":
            return f"{told}, because numbers that begin with {choice.prefix} go by it"
        if name == self.tx.rules.default_gateway:
            return f"{told}, the programme's default"
        return f"goes by gateway {name}{unknown}, which was the choice when it was queued"

    def _waited(self) -> Iterator[Step]:
        """Until when it waits, or waited, for the hours of the day or its own time."""
        row = self.row
        hours = self.tx.rules.hours
        if not row.phone or row.state == "withheld":
            return
        zones = self._zones()
        quiet = KINDS[row.kind].keeps_quiet_hours and hours is not None
        if quiet and (row.reason == "quiet-hours" or row.broadcast_id is not None) and row.due_at > row.created_at:
            there = " and ".join(f"{self._time(row.due_at, zone)}" for zone in zones)
            rule = f"texts arrive from {hours.opens:%H:%M} to {hours.closes:%H:%M} by the clock there" if hours else ""
            why = (
                "the case's own zone"
                if self.case is not None and self.case.time_zone in zones
                else "every zone its number can be in"
            )
            if len(zones) == 1 and zones[0] == self.zone and (self.case is None or self.case.time_zone != self.zone):
                why = "the programme's zone"
            yield _step(row.created_at, "waits", f"may leave from {there} on ({rule}; {why})")
        elif row.due_at > row.created_at and not row.attempts:
            yield _step(row.created_at, "waits", f"may leave from {self._time(row.due_at)} on")

    def _consent(self) -> Iterator[Step]:
        """What the number said that bears on it."""
        if not self.row.phone:
            return
        for event in lives.consent_round(self.tx, self.row):
            yield _step(event.at, "consent", f"the number {_CONSENT[event.kind]}: {self._heard(event)}")

    def _heard(self, event: Row[Any]) -> str:
        by = f" (message {event.message_id})" if event.message_id else ""
        who = f", written down by {people.named(self.tx, event.person_id)}" if event.person_id else ""
        return f"{self._quoted(event.words or '')} through {event.door}{by}{who}"

    def _attempts(self) -> Iterator[Step]:
        row = self.row
        failed = messages.attempts_of(self.tx, row.id)
        for attempt in failed:
            if attempt.reason == "failover":
                yield _step(
                    attempt.at, "gateway", f"passed on to gateway {attempt.code}, as the settings say ([failover])"
                )
                continue
            after = "it was queued again" if attempt.state == "queued" else f"it became {attempt.state}"
            yield _step(
                attempt.at,
                "attempt",
                f"an attempt came to nothing: {self.reason(attempt.reason, attempt.code)}; {after}",
            )
        if row.handed_over_at is not None:
            there = ""
            if KINDS[row.kind].keeps_quiet_hours and self.tx.rules.hours is not None and row.phone:
                there = "; it was " + " and ".join(self._time(row.handed_over_at, zone) for zone in self._zones())
            checked = "consent, halt, group, quiet hours and expiry were asked once more and let it go"
            told = f"handed to the gateway, attempt {row.attempts} ({row.attempt_id}): {checked}{there}"
            yield _step(row.handed_over_at, "handed_over", told)

    def _receipts(self) -> Iterator[Step]:
        for receipt in messages.receipts_of(self.tx, self.row.id):
            code = f", code {receipt.code}: {self.reason('gateway-code', receipt.code)}" if receipt.code else ""
            moved = (
                f": now {receipt.state}"
                if receipt.moved
                else ", which changed nothing (late, repeated, or not of this attempt)"
            )
            yield _step(receipt.at, "receipt", f"receipt: {receipt.word}{code}{moved}")

    def _withheld(self) -> Iterator[Step]:
        """What exactly kept it, where more than the reason is known."""
        row, at = self.row, self.row.settled_at or self.row.created_at
        if row.reason == "same-phone" and (other := lives.same_phone(self.tx, row)) is not None:
            yield _step(
                at, "withheld", f"message {other.id} of the same broadcast goes to this phone, for {other.case_id}"
            )
        elif row.reason == "left":
            for end in lives.left(self.tx, row):
                who = f"{end.person or 'system'} through {end.door}{self._source(end.source)}"
                yield _step(end.at, "withheld", f"{who} took the case out of {end.short}")
        elif row.reason == "changed" and self.case is not None and self.case.contact_phone_number != row.phone:
            yield _step(at, "withheld", "the case has another number now than when the text was previewed")
        elif row.reason == "gateway-unknown" and self.case is not None:
            yield _step(at, "withheld", f"the case is set to the gateway {self.case.contact_backend_id}")
        elif row.state == "expired" and row.expires_at is not None:
            yield _step(at, "withheld", f"it was good until {self._time(row.expires_at)}")

    def now_out(self) -> Step:
        """How a message of ours is now, and what happens next."""
        row = self.row
        why = self.reason(row.reason, row.code) if row.reason else MEANINGS[row.state]
        named = f" ({row.gateway_id})" if row.gateway_id else ""
        return _step(row.settled_at or row.created_at, "state", f"now {row.state}{named}: {why}{self._next()}")

    def _next(self) -> str:
        row = self.row
        if row.state == "unknown":
            return (
                ". The gateway may have it: it is never sent again without proof that it was not."
                " A receipt still settles it; bulk texts to this phone wait meanwhile, replies do not"
            )
        if row.state == "unresolved":
            return ". Ask the person, or look at the gateway's own list; a late receipt still settles it"
        if row.state != "queued":
            return ""
        pause = next((gateway for gateway in messages.paused(self.tx) if gateway.name == row.gateway), None)
        if pause is not None:
            return f". Its gateway is paused until {self._time(pause.paused_until)}: {pause.paused_because}"
        if row.due_at > self.tx.now:
            return f". It is tried {'again ' if row.attempts else ''}from {self._time(row.due_at)} on"
        return ". It is due, and leaves when its turn comes"

    # -- in ------------------------------------------------------------------------------------------------------------

    def inbound(self) -> Iterator[Step]:
        """Every step but the last of a text that came in."""
        row = self.row
        yield _step(
            row.created_at, "received", f"came in by {row.gateway} as {row.gateway_id} from {self._sender(row)}"
        )
        if row.told:
            answered = ", and had answered it itself" if row.answered else ""
            yield _step(row.created_at, "received", f"the gateway itself said that it means {row.told}{answered}")
        for event in lives.consent_in(self.tx, row.id):
            yield _step(event.at, "consent", f"the number {_CONSENT[event.kind]} by it")
        for operation in lives.operations_of(self.tx, row.id):
            told = f"it made the operation {operation.id} ({operation.kind}), which is {operation.state} now"
            yield _step(operation.asked_at, "effect", told)
        for line in lives.effects(self.tx, row.id):
            if not line.verb.startswith(("consent.", "operations.ask")):
                of = f" {line.subject_id}" if line.subject_id is not None else ""
                yield _step(
                    line.at, "effect", f"it did {line.verb} ({line.subject}{of}, line {line.id} of the audit log)"
                )
        yield from self._replies()
        if row.attempts and row.state != "set_aside":
            yield _step(row.settled_at or row.created_at, "fault", f"handling failed {_times(row.attempts)} before")

    def _replies(self) -> Iterator[Step]:
        for reply in lives.answers_to(self.tx, self.row.id):
            if reply.phone == self.row.phone:
                told = f"answered by message {reply.id} ({reply.state}): {self._quoted(reply.body)}"
            else:
                told = f"passed on to {reply.person or reply.phone} by message {reply.id} ({reply.state})"
            yield _step(reply.created_at, "reply", told)

    def now_in(self) -> Step:
        """How a text that came in is now."""
        row = self.row
        at = row.settled_at or row.created_at
        if row.state == "handled":
            return _step(at, "state", f"taken for: {row.handled_as} ({_TAKEN.get(row.handled_as, 'as it says')})")
        if row.state == "set_aside":
            told = (
                f"set aside after {_times(row.attempts)}: a person must look ({row.reason} in the log of the process)"
            )
            return _step(at, "state", told)
        tried = f"handling failed {_times(row.attempts)} ({row.reason}); " if row.attempts else ""
        return _step(at, "state", f"received: {tried}the worker tries it from {self._time(row.due_at)} on")

    # -- words ---------------------------------------------------------------------------------------------------------

    def _sender(self, row: Row[Any]) -> str:
        """Who a text is from: a person, a case, or a number that nobody knows."""
        if row.person_id is not None:
            return people.named(self.tx, row.person_id)
        case = lives.case_of(self.tx, row) if row.case_id is not None else None
        return (
            f"{case.name or case.external_id or case.case_id} ({case.case_id})" if case is not None else str(row.phone)
        )

    def _by_text(self, message_id: int | None) -> str:
        text = messages.message(self.tx, message_id) if message_id is not None else None
        if text is None:
            return ""
        return f" by texting {self._quoted(text.body)} at {self._time(text.created_at)} (message {text.id})"

    def _source(self, source: str | None) -> str:
        return f" ({source})" if source else ""

    def _quoted(self, text: str) -> str:
        plain = " ".join(self.hidden(text).split())
        return f'"{plain if len(plain) <= 120 else plain[:117].rstrip() + "..."}"'

    def _zones(self) -> tuple[str, ...]:
        own = self.case.time_zone if self.case is not None else None
        return schedules.zones_of(own, self.row.phone, home_zone=self.zone)

    def _time(self, at: datetime, zone: str | None = None) -> str:
        local = at.astimezone(ZoneInfo(zone or self.zone))
        return f"{local:%H:%M:%S} on {local.day} {local:%B} in {zone or self.zone}"


_CONSENT = {"stop": "said STOP", "start": "said START", "doubt": "may have said STOP, and is held until it answers"}

_TAKEN = {
    "stop": "a wish to get no more texts",
    "start": "a wish to get texts again",
    "doubt": "it may mean STOP: the phone was asked, and gets nothing else until it answers",
    "help": "a call for help",
    "command": "a command of a member of staff",
    "answer": "the answer to a question we asked this phone",
    "inbox": "a reply for the people who care for this case",
    "stranger": "a text of a number that we do not know",
}


def _parts(segments: int | None) -> str:
    return "" if segments is None else f"{segments} SMS"


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _step(at: datetime, kind: str, what: str) -> Step:
    return {"at": at, "kind": kind, "what": what}
