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

from bot.explanation_words import ASKED, AT_ONCE, CONSENT, DEEDS, OPERATIONS, OUTCOMES, STATES, TAKEN, WRITTEN_DOWN
from bot.replies import sentences
from storage.broadcasts import content, progress
from storage.console import people_of
from storage.contacts import people
from storage.database import Transaction
from storage.errors import Problem
from storage.messages import history, lookups, receipts, reconciliation, states
from storage.messages.states import MEANINGS
from storage.operations import operations, replies
from storage.programme import rate_limits, routing
from storage.programme.rate_limits import UNTIL_RESUMED
from storage.rules import phone_keys, quiet_hours
from storage.rules.channels import CHANNELS
from storage.sheets import exports

Step = dict[str, Any]


def life(tx: Transaction, number: int) -> list[Step]:
    """What happened to a message, oldest first: `at`, `kind` and `what`.  Raises Problem `message-unknown`."""
    row = lookups.message(tx, number)
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
        self.case = history.case_of(tx, row) if row.case_id is not None else None
        self.hidden: Callable[[str], str] = exports.hide_codes(tx)
        self.reason = sentences("en").reason

    # -- out -----------------------------------------------------------------------------------------------------------

    def outbound(self) -> Iterator[Step]:
        """Every step but the last of a message of ours."""
        if self.row.broadcast_id is not None:
            yield from self._of_a_broadcast(self.row.broadcast_id)
        elif (question := history.question_of(self.tx, self.row)) is not None and question.operation_id is not None:
            yield from self._of_a_question(question)
        if self.row.reply_to is not None:
            yield from self._answers()
        if self.row.code_id is not None:
            yield from self._carries_code()
        yield from self._queued()
        yield from self._consent()
        yield from self._attempts()
        yield from self._asks()
        yield from self._receipts()
        if self.row.state in ("withheld", "cancelled", "expired"):
            yield from self._withheld()

    def _of_a_broadcast(self, number: int) -> Iterator[Step]:
        """Who asked for a broadcast, and how it came to go."""
        operation = operations.operation(self.tx, number)
        broadcast = content.broadcast(self.tx, number)
        if operation is None:
            return
        shorts = ", ".join(group.short for group in progress.groups_of(self.tx, number))
        whom = f"{people_of(broadcast.recipients)}{f' in {shorts}' if shorts else ''}"
        yield from self._asked(operation, f"a text to {whom}, of whom {broadcast.sendable} could be texted")
        yield from self._launched(broadcast)

    def _of_a_question(self, question: Row[Any]) -> Iterator[Step]:
        """Who had a phone asked whether it is a case's, and what it answered."""
        operation = operations.operation(self.tx, question.operation_id)
        if operation is not None:
            whose = self._named(self.case) if self.case is not None else "a case"
            what = {
                "move": f"whether this is the new phone of {whose}",
                "invite": f"whether this is the phone of {whose}",
            }
            yield from self._asked(operation, f"to ask {what[question.kind]}")
        if question.closed_at is None:
            yield _step(question.asked_at, "asked", f"the phone may answer until {self._time(question.waits_until)}")
        elif question.outcome in ("yes", "no"):
            yield _step(question.closed_at, "reply", f"the phone answered {question.outcome}")
        else:
            yield _step(question.closed_at, "ended", OUTCOMES[question.outcome])

    def _asked(self, operation: Row[Any], what: str) -> Iterator[Step]:
        """Who asked for an operation by which text, its codes, and what was decided."""
        number = operation.id
        asker = people.named(self.tx, operation.person_id)
        asked = f"{asker} asked for {number} through {operation.door}{self._by_text(operation.message_id)}"
        yield _step(operation.asked_at, "asked", f"{asked}: {what}")
        used = {code.used_at for code in history.codes_of(self.tx, number)} - {None}
        for code in history.codes_of(self.tx, number):
            if code.used_at is not None:
                yield _step(code.used_at, "code", f"{code.person} gave the code back")
        deeds = history.deeds(self.tx, number)
        at_once = operation.door == "sms" and not used
        if at_once and operation.state == "done" and not deeds:
            yield _step(operation.asked_at, "confirmed", f"{number} went {AT_ONCE}")
        for deed in deeds:
            yield from self._decided(operation, deed, at_once=at_once)
        if operation.state == "expired" and operation.decided_at is not None:
            yield _step(operation.decided_at, "ended", f"{number} is {STATES['expired']}")
        yield from self._previews(operation)

    def _decided(self, operation: Row[Any], deed: Row[Any], *, at_once: bool) -> Iterator[Step]:
        """One thing that was done with an operation."""
        number = operation.id
        who = f"{deed.person or 'system'} through {deed.door}{self._source(deed.source)}"
        if deed.verb == "operations.done":
            yield _step(deed.at, "confirmed", f"{number} went {AT_ONCE}" if at_once else f"{who} confirmed {number}")
        elif deed.verb == "operations.seconding":
            limit = self.tx.rules.second_person_above
            told = f"{who} confirmed {number}; a second person's ok was asked for, for it is for more than {limit}"
            yield _step(deed.at, "second", told)
        elif deed.verb == "broadcasts.halt":
            yield _step(deed.at, "halted", f"{who} halted {number}")
        elif deed.verb.startswith("operations.") and deed.verb != "operations.ask":
            state = deed.verb.removeprefix("operations.")
            yield _step(deed.at, "ended", f"{who}: {number} is {STATES.get(state, state)}")

    def _previews(self, operation: Row[Any]) -> Iterator[Step]:
        """Each message that carried a code, and the text that asked for it where it is another than the first."""
        for sent in history.previews_of(self.tx, operation.id):
            asked = lookups.message(self.tx, sent.reply_to) if sent.reply_to is not None else None
            anew = ""
            if asked is not None and asked.id != operation.message_id and asked.body:
                anew = f", after {self._quoted_of(asked)} (message {asked.id})"
            good = f"good until {self._time(sent.code_expires_at)}"
            if history.is_replaced(sent.created_at, sent.code_expires_at):
                good = "a newer preview took its place"
            told = f"a code was sent to {sent.person} (message {sent.id}, {sent.state}){anew}, {good}"
            yield _step(sent.created_at, "code", told)

    def _launched(self, broadcast: Row[Any]) -> Iterator[Step]:
        if broadcast.launched_at is None:
            return
        if broadcast.send_at is not None:
            hour = broadcast.send_at.replace("T", " ")
            told = f"{broadcast.id} was let go and waits for its hour, {hour} by each recipient's own clock"
            yield _step(broadcast.launched_at, "scheduled", told)
        elif broadcast.hold_until > broadcast.launched_at:
            held = self._time(broadcast.hold_until)
            told = f"{broadcast.id} was let go and held until {held}, so that it could still be halted"
            yield _step(broadcast.launched_at, "held", told)

    def _answers(self) -> Iterator[Step]:
        asked = lookups.message(self.tx, self.row.reply_to)
        if asked is not None:
            whose = f" of {self._sender(asked)}" if self._sender(asked) != self.row.phone else ""
            yield _step(asked.created_at, "answers", f"answers text {asked.id}{whose}: {self._quoted_of(asked)}")

    def _carries_code(self) -> Iterator[Step]:
        code = history.operation_of_code(self.tx, self.row.code_id)
        if code is None:
            return
        carries = f"carries a code for {code.operation_id}"
        if history.is_replaced(self.row.created_at, code.expires_at):
            told = f"{carries}, which is good no more: a newer preview took its place"
            yield _step(self.row.created_at, "code", told)
            return
        told = f"{carries}, good until {self._time(code.expires_at)}; its digits are put in when it is handed over"
        yield _step(self.row.created_at, "code", told)
        if code.used_at is None:
            return
        done = [deed for deed in history.deeds(self.tx, code.operation_id) if deed.at == code.used_at]
        if any(deed.verb == "operations.done" for deed in done):
            yield _step(code.used_at, "confirmed", f"the code was given back: {code.operation_id} is confirmed")
        else:
            yield _step(code.used_at, "code", "the code was given back")

    def _queued(self) -> Iterator[Step]:
        row = self.row
        about = [f"kind {row.kind}", f"language {row.language}" if row.language else "", _parts(row.segments)]
        shown = f"({', '.join(filter(None, about))})"
        if row.state in ("withheld", "cancelled") and row.settled_at is None:
            yield _step(row.created_at, "queued", f"was not put into the outbox {shown}")
            return
        dies = f"; it dies at {self._time(row.expires_at)}" if row.expires_at else ""
        yield _step(row.created_at, "queued", f"put into the outbox {shown}{dies}")
        yield _step(row.created_at, "gateway", self._gateway())
        yield from self._waited()

    def _gateway(self) -> str:
        """By which gateway, and why that one."""
        name = self.row.gateway
        if name is None:
            return "goes by no gateway: none was set here when it was queued; the worker gives it the default one"
        unknown = ", which is not set up here" if self.tx.rules.gateways and name not in self.tx.rules.gateways else ""
        told = f"goes by gateway {name}{unknown}"
        if any(attempt.reason == "failover" for attempt in lookups.attempts_of(self.tx, self.row.id)):
            return f"{told} now: it was passed on, as the settings say ([failover])"
        asked = lookups.message(self.tx, self.row.reply_to) if self.row.reply_to is not None else None
        if asked is not None and asked.phone == self.row.phone and asked.gateway == name:
            return f"{told}, by which the text came in that it answers"
        if self.case is not None and self.case.contact_backend_id == name:
            return f"{told}, because the case is set to it"
        choice = routing.choose(self.tx.rules, self.row.phone or "", channel=CHANNELS[self.row.channel])
        if choice.gateway == name and choice.because == "prefix":
            return f"{told}, because numbers that begin with {choice.prefix} go by it"
        if name == self.tx.rules.default_gateway:
            return f"{told}, the programme's default"
        return f"goes by gateway {name}{unknown}, which was the choice when it was queued"

    def _waited(self) -> Iterator[Step]:
        """Until when it waits, or waited, for the hours of the day or its own time; of a retry its state tells."""
        row, hours = self.row, self.tx.rules.hours
        if not row.phone or lookups.attempts_of(self.tx, row.id):
            return
        free = self._free_from()
        zones = self._zones()
        if states.kind_of(row).keeps_quiet_hours and hours is not None:
            allowed = row.due_at if row.reason == "quiet-hours" else quiet_hours.next_allowed(free, zones, hours)
            if allowed > free:
                there = " and ".join(f"{self._time(allowed, zone)}" for zone in zones)
                rule = f"texts arrive from {hours.opens:%H:%M} to {hours.closes:%H:%M} by the clock there"
                yield _step(row.created_at, "waits", f"may leave from {there} on ({rule}; {self._why_zones(zones)})")
                return
        if free > row.created_at:
            yield _step(row.created_at, "waits", f"may leave from {self._time(free)} on")

    def _free_from(self) -> datetime:
        """From when it could leave, if there were no quiet hours: after the hold, or at its hour."""
        created: datetime = self.row.created_at
        if self.row.broadcast_id is None:
            return created
        broadcast = content.broadcast(self.tx, self.row.broadcast_id)
        free = max(created, broadcast.hold_until or created)
        if broadcast.send_at is None:
            return free
        own = self.case.time_zone if self.case is not None else None
        zone = own if own and quiet_hours.valid_zone(own) else self.zone
        return max(free, quiet_hours.instant(datetime.fromisoformat(broadcast.send_at), zone))

    def _why_zones(self, zones: tuple[str, ...]) -> str:
        """Why these clocks count."""
        if self.case is not None and self.case.time_zone in zones:
            return "the case's own zone"
        return "the programme's zone" if zones == (self.zone,) else "every zone its number can be in"

    def _consent(self) -> Iterator[Step]:
        """What the number said that bears on it."""
        if not self.row.phone:
            return
        for event in history.consent_round(self.tx, self.row):
            yield _step(event.at, "consent", f"the number {self._said(event)}")

    def _said(self, event: Row[Any]) -> str:
        """What made a number stopped, started or in doubt, after `the number`."""
        words, text = event.words or "", lookups.message(self.tx, event.message_id) if event.message_id else None
        by = f" (message {event.message_id})" if event.message_id else ""
        shown = self._quoted(words, typed_by_staff=text is not None and exports.may_hold_a_code(text))
        if event.person_id:
            who = people.named(self.tx, event.person_id)
            return f"{WRITTEN_DOWN[event.kind]}: {who} wrote it down through {event.door}{by}: {shown}"
        if words.strip(" .!").isdecimal():
            return f"answered {shown}, which means {event.kind.upper()}, through {event.door}{by}"
        return f"{CONSENT[event.kind]}: {shown} through {event.door}{by}"

    def _attempts(self) -> Iterator[Step]:
        row = self.row
        failed = lookups.attempts_of(self.tx, row.id)
        for attempt in failed:
            if attempt.reason == "failover":
                yield _step(
                    attempt.at, "gateway", f"passed on to gateway {attempt.code}, as the settings say ([failover])"
                )
                continue
            after = "it was queued again" if attempt.state == "queued" else f"it became {attempt.state}"
            came = "had no clear outcome" if attempt.state == "unknown" else "came to nothing"
            told = f"an attempt {came}: {self.reason(attempt.reason, attempt.code)}; {after}"
            yield _step(attempt.at, "attempt", told)
        if row.handed_over_at is not None and (row.attempt_id or "").startswith(states.RESTORED):
            told = (
                "was open in a backup that was restored; it counts as handed over then, because it may have left since"
            )
            yield _step(row.handed_over_at, "handed_over", told)
        elif row.handed_over_at is not None:
            there = ""
            if states.kind_of(row).keeps_quiet_hours and self.tx.rules.hours is not None and row.phone:
                there = "; it was " + " and ".join(self._time(row.handed_over_at, zone) for zone in self._zones())
            told = f"handed to the gateway, attempt {row.attempts} ({row.attempt_id}){self._gate()}{there}"
            yield _step(row.handed_over_at, "handed_over", told)

    def _asks(self) -> Iterator[Step]:
        """What the gateway said when it was asked what became of it."""
        for ask in reconciliation.asks_of(self.tx, self.row.id):
            why = f": {ask.reason}" if ask.reason else ""
            yield _step(ask.at, "ask", f"the gateway was asked what became of it, and {ASKED[ask.answer]}{why}")

    def _gate(self) -> str:
        """What was asked once more just before: of each kind of message something else."""
        row, kind = self.row, states.kind_of(self.row)
        of_broadcasts = ["halt", "group", "number"] if row.broadcast_id is not None else []
        asked = [
            *(["consent"] if kind.needs_consent else []),
            *of_broadcasts,
            *(["quiet hours"] if kind.keeps_quiet_hours and self.tx.rules.hours is not None else []),
            *(["its code"] if row.code_id is not None else []),
            *(["expiry"] if row.expires_at is not None else []),
        ]
        if not asked:
            return ""
        shown = f"{', '.join(asked[:-1])} and {asked[-1]} were" if len(asked) > 1 else f"{asked[0]} was"
        return f": {shown} asked once more and let it go"

    def _receipts(self) -> Iterator[Step]:
        for receipt in receipts.receipts_of(self.tx, self.row.id):
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
        if row.reason == "same-phone" and (other := history.same_phone(self.tx, row)) is not None:
            yield _step(
                at, "withheld", f"message {other.id} of the same broadcast goes to this phone, for {other.case_id}"
            )
        elif row.reason == "left":
            for end in history.left(self.tx, row):
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
            due = row.ask_at or (row.handed_over_at or row.created_at) + reconciliation.GRACE
            return (
                f". The gateway may have it, and is asked from {self._time(due)} on: it is never sent again without proof"
                " that it was not. A receipt still settles it; bulk texts to this phone wait meanwhile, replies do not"
            )
        if row.state == "unresolved" and row.reason == "absent":
            return ". It is not sent again by itself; tell it again if it is still wanted"
        if row.state == "unresolved" and row.reason == "gateway-gone":
            return f". Look at the own list of {row.gateway}, or ask the person; set up again, its late receipt still settles it"
        if row.state == "unresolved":
            return ". Ask the person, or look at the gateway's own list; a late receipt still settles it"
        if row.state != "queued":
            return ""
        pause = next((gateway for gateway in rate_limits.paused(self.tx) if gateway.name == row.gateway), None)
        if pause is not None:
            until = "somebody lets it go on" if pause.paused_until >= UNTIL_RESUMED else self._time(pause.paused_until)
            return f". Its gateway is paused until {until}: {pause.paused_because}"
        if lookups.is_held(row):
            return f". Broadcast {row.broadcast_id} is paused: it leaves when somebody resumes that, if its time has not run out"
        if row.reason == "doubt":
            return ". It is looked at again every five minutes, until the phone answers or its time runs out"
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
        for event in history.consent_in(self.tx, row.id):
            yield _step(event.at, "consent", f"the number {CONSENT[event.kind]} by it")
        for operation in history.operations_of(self.tx, row.id):
            what, state = OPERATIONS.get(operation.kind, operation.kind), STATES.get(operation.state, operation.state)
            yield _step(operation.asked_at, "effect", f"it became {operation.id}, {what}, which is {state} now")
        for reply in replies.of_message(self.tx, row.id):
            answered = f"answered at {self._time(reply.closed_at)}" if reply.closed_at else "not answered yet"
            what = f"it became reply {reply.number}, which staff can answer by re {reply.number}: {answered}"
            yield _step(reply.opened_at, "effect", what)
        for line in history.effects(self.tx, row.id):
            if not line.verb.startswith(("consent.", "operations.ask")):
                yield _step(line.at, "effect", f"it {self._did(line)} (line {line.id} of the audit log)")
        yield from self._replies()
        if row.attempts and row.state != "set_aside":
            yield _step(row.settled_at or row.created_at, "fault", f"handling failed {_times(row.attempts)} before")

    def _did(self, line: Row[Any]) -> str:
        """What a line of the audit log says was done, after `it`."""
        of = str(line.subject_id) if line.subject_id is not None else ""
        if line.subject == "group" and line.subject_id is not None:
            of = history.group_named(self.tx, line.subject_id)
        count = next((value for name, value in line.facts.items() if name in ("added", "removed")), 0)
        told = DEEDS.get(line.verb)
        return told.format(of=of, people=people_of(count)) if told else f"did {line.verb} {of}".rstrip()

    def _replies(self) -> Iterator[Step]:
        for reply in history.answers_to(self.tx, self.row.id):
            if phone_keys.key(reply.phone) == phone_keys.key(self.row.phone):
                told = f"answered by message {reply.id} ({reply.state}): {self._quoted_of(reply)}"
            else:
                told = f"passed on to {reply.person or reply.phone} by message {reply.id} ({reply.state})"
            yield _step(reply.created_at, "reply", told)

    def now_in(self) -> Step:
        """How a text that came in is now."""
        row = self.row
        at = row.settled_at or row.created_at
        if row.state == "handled":
            return _step(at, "state", f"taken for: {row.handled_as} ({TAKEN.get(row.handled_as, 'as it says')})")
        if row.state == "set_aside" and row.reason == "restored":
            told = "set aside: it was sent before the database was restored, and was acted on then, perhaps"
            return _step(at, "state", f"{told}. A person must look; a STOP or START in it counts")
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
        case = history.case_of(self.tx, row) if row.case_id is not None else None
        return self._named(case) if case is not None else str(row.phone)

    def _named(self, case: Row[Any]) -> str:
        return f"{case.name or case.external_id or case.case_id} ({case.case_id})"

    def _by_text(self, message_id: int | None) -> str:
        text = lookups.message(self.tx, message_id) if message_id is not None else None
        if text is None:
            return ""
        return f" by texting {self._quoted_of(text)} at {self._time(text.created_at)} (message {text.id})"

    def _source(self, source: str | None) -> str:
        return f" ({source})" if source else ""

    def _quoted_of(self, row: Row[Any]) -> str:
        return self._quoted(row.body, typed_by_staff=exports.may_hold_a_code(row))

    def _quoted(self, text: str, *, typed_by_staff: bool) -> str:
        """A text in quotes, cut where it is long; codes are hidden only where one may be typed: other digits are read."""
        plain = " ".join((self.hidden(text) if typed_by_staff else text).split())
        return f'"{plain if len(plain) <= 120 else plain[:117].rstrip() + "..."}"'

    def _zones(self) -> tuple[str, ...]:
        own = self.case.time_zone if self.case is not None else None
        return quiet_hours.zones_of(own, self.row.phone, home_zone=self.zone)

    def _time(self, at: datetime, zone: str | None = None) -> str:
        local = at.astimezone(ZoneInfo(zone or self.zone))
        return f"{local:%H:%M:%S} on {local.day} {local:%B} in {zone or self.zone}"


def _parts(segments: int | None) -> str:
    return "" if segments is None else f"{segments} SMS"


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _step(at: datetime, kind: str, what: str) -> Step:
    return {"at": at, "kind": kind, "what": what}
