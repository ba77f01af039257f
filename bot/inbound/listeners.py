"""One inbound text and its effects, in one transaction.

The order is fixed: what is ours and came back, which acts on nothing; a supervisor's stop word while something of theirs
runs, which halts that; the answer to the question that is open on this phone; stop and start words; a code; a supervisor's
command (exact words only while a question is open on that phone); help; else the inbox, and the supervisors who care for that case.
Everything reads what the writer said (`inbound/echoes.py`): the text without a phone's signature and without what it quotes.
A fault in the handling takes all back, and then the text is kept alone, with what it says about consent: the worker tries it
again, and after three tries it is set aside and shown.
"""

from __future__ import annotations

import logging
import secrets
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row

from bot.commands import panic
from bot.commands.dispatch import Answer, answer, call_of, carries_code, challenge, is_exact, person_shown, storable
from bot.gateways.base import Inbound
from bot.inbound import echoes
from bot.inbound.echoes import Heard
from bot.replies import Quote, Sentences, Words, sentences
from storage.audit import Actor
from storage.contacts import attempts, cases, consent, lookup, people
from storage.contacts.cases import Wanted
from storage.conversations import invitations, sender_lookup
from storage.conversations.sender_lookup import Caller
from storage.database import Database, Lost, Transaction, restored
from storage.messages import inbox, lookups, outbox, receipts
from storage.operations import codes, operations
from storage.rules import doubts, optout
from storage.rules.normalize import key

log = logging.getLogger(__name__)

STRANGER_HEARS_AGAIN = timedelta(days=1)
HELP_A_DAY = 3
LOOKED_AT = 1000
"""Letters of a text in which a request to be left alone is looked for: it stands at the beginning, and every letter costs."""

SAME_REFUSALS, REFUSALS, ANSWERS = 5, 20, 60
"""To one phone in ten minutes."""

TEN_MINUTES = timedelta(minutes=10)

ECHOES_ANSWERED = 3
"""To one phone in ten minutes: what sends everything back would send back that answer too."""


class _Failed(Exception):
    """Our own code failed at a text; `reference` stands in the log beside where, `at` is when it had come."""

    def __init__(self, reference: str, at: datetime) -> None:
        super().__init__(reference)
        self.reference = reference
        self.at = at


def take(db: Database, gateway: str, text: Inbound) -> bool:
    """Keep a text and act on it, once for ever; returns whether it is new.  When this returns, it is durable."""
    try:
        with db.transaction() as tx:
            kept = _keep(tx, gateway, text)
            if kept is not None and kept[0].state == "received":
                _handle_or_fail(tx, *kept)
            return kept is not None
    except _Failed as failed:
        # All of it was taken back, so that a text costs one transaction and no savepoint: keep it once more, to be tried again.
        # What its phone said in between came later, and holds.
        with db.transaction() as tx:
            kept = _keep(tx, gateway, replace(text, sent_at=text.sent_at or failed.at))
            if kept is not None:
                _put_off(tx, kept[0].id, failed.reference)
            return kept is not None


def take_in(tx: Transaction, gateway: str, text: Inbound) -> int | None:
    """Keep a text and act on it in an open transaction; its message id, or None if it was taken before.

    Raises Lost if the engine gave up what was written meanwhile.
    """
    kept = _keep(tx, gateway, text)
    if kept is None:
        return None
    if kept[0].state == "received":
        try:
            with tx.savepoint():
                _handle_or_fail(tx, *kept)
        except _Failed as failed:
            _put_off(tx, kept[0].id, failed.reference)
    return int(kept[0].id)


def _keep(tx: Transaction, gateway: str, text: Inbound) -> tuple[Row[Any], Caller, Heard, consent.Kind | None] | None:
    """Write a text down, and what it says about consent.

    Returns its row, who sent it, what they said in it and what that is about consent; None if it is not new.
    """
    row = inbox.record_inbound(
        tx, gateway=gateway, gateway_id=text.gateway_id, sender=text.sender, text=storable(text.text),
        told=text.opt_out, answered=text.answered, sent_at=text.sent_at, own_number=text.to or None,
        set_aside="restored" if _is_of_the_lost_time(tx, text) else None,
    )  # fmt: skip
    if row is None:
        return None
    sender = sender_lookup.caller(tx, row.phone)
    said = echoes.listen(tx, row, sender)
    return row, sender, said, _hear_consent(tx, row, sender, said)


def _is_of_the_lost_time(tx: Transaction, text: Inbound) -> bool:
    """Whether a late text was sent before the database was restored: it was acted on and answered then, perhaps.

    Its STOP or START counts all the same; the rest is for a person.
    """
    if text.sent_at is None:
        return False
    fence = restored(tx)
    return fence is not None and text.sent_at < fence[1]


def try_again(db: Database) -> int:
    """Handle once more what failed before and whose time has come; returns how many were tried."""
    with db.reading() as tx:
        waiting = inbox.unhandled(tx)
    for row in waiting:
        try:
            with db.transaction() as tx:
                current = lookups.message(tx, row.id)
                if current is not None and current.state == "received":
                    # As it was heard when it came: it must not be read by what happened since.
                    heard = consent.heard_in(tx, current.phone, current.id)
                    sender = sender_lookup.caller(tx, current.phone)
                    _handle_or_fail(tx, current, sender, echoes.listen(tx, current, sender), heard)
        except _Failed as failed:
            with db.transaction() as tx:
                _put_off(tx, row.id, failed.reference)
    return len(waiting)


def _handle_or_fail(tx: Transaction, row: Row[Any], sender: Caller, said: Heard, heard: consent.Kind | None) -> None:
    """Handle a text by what its row holds, so that a second try knows all that the first one knew.

    Raises _Failed where our own code fails at it, and Lost where the engine gave the transaction up.
    """
    try:
        _handle(tx, row, sender, said, heard)
    except Exception as fault:  # noqa: BLE001  the outer edge: one text's fault must cost no other text anything
        reference = secrets.token_hex(4)
        # The type alone: the sentence of a database error quotes the values, and those are numbers and texts.
        log.error("text %s could not be handled, reference %s: %s", row.id, reference, _where(fault))
        if tx.is_gone:
            # No fault of ours, and another text may be waiting for the same disk: all come again in their order.
            raise Lost("the inbound text is not in the database") from None
        raise _Failed(reference, tx.now) from None


def _put_off(tx: Transaction, message: int, reference: str) -> None:
    """A text at which our own code failed is tried again a little later; after three tries it is set aside, and the leads hear of it."""
    if inbox.postpone(tx, message, reference) == "set_aside":
        _tell_leads(tx)


def _sentences_for(tx: Transaction, sender: Caller) -> Sentences:
    """The sentences in their language."""
    known = sender.person if sender.person is not None else sender.case
    return sentences((known.language_code if known is not None else None) or tx.rules.language)


def _where(fault: BaseException) -> str:
    trace = fault.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = f" at {trace.tb_frame.f_code.co_name}:{trace.tb_lineno}" if trace is not None else ""
    return type(fault).__name__ + place


def _hear_consent(tx: Transaction, row: Row[Any], sender: Caller, said: Heard) -> consent.Kind | None:
    """STOP and START, and what may mean STOP, count at once and survive whatever happens to the rest of the handling.

    Returns what was heard.
    """
    kind = _consent_in(tx, row, sender, said.words)
    if kind is None or _is_overtaken(tx, row, kind):
        return None
    by = Actor("sms", None, f"message {row.id}")
    consent.hear(tx, row.phone, kind, words=row.body, message_id=row.id, by=by)
    return kind


def _is_overtaken(tx: Transaction, row: Row[Any], kind: consent.Kind) -> bool:
    """Whether the phone has said otherwise since it sent a text that comes late: its last word holds, not ours to arrive."""
    if row.sent_at is None:
        return False
    since = consent.said_since(tx, row.phone, row.sent_at)
    return bool(since & ({"stop", "doubt"} if kind == "start" else {"start"}))


def _consent_in(tx: Transaction, row: Row[Any], sender: Caller, words: str) -> consent.Kind | None:
    """What a text says about being texted: by its words, or as the answer to our question whether it meant STOP.

    A stop word of staff halts what they run before it stops their phone, unless the gateway has stopped it already.
    """
    word = _opt_word(row, sender, words)
    last = sender.said_last
    if last == "doubt" and (meant := _meant_in_doubt(words, _sentences_for(tx, sender))) is not None:
        return meant
    if word == "stop" and row.told != "stop" and sender.person is not None:
        return None if panic.has_something(tx, sender.person.id) else "stop"
    if word in ("stop", "start"):
        return word  # type: ignore[return-value]
    may_ask = word is None and last not in consent.HOLDING and sender.person is None
    return "doubt" if may_ask and doubts.is_doubtful(words[:LOOKED_AT]) else None


def _meant_in_doubt(words: str, told: Sentences) -> consent.Kind | None:
    """The answer to `do you want no more texts?`: 1 and any yes stop, 2 goes on; a bare no could mean either.

    Nothing else is sent to a number in doubt, so it can answer nothing else, however late it comes.  A network that takes
    YES for START does not know what was asked.
    """
    said = key(words[:20]).strip(" .!")
    if said == "2":
        return "start"
    return "stop" if told.answer(said) == "yes" else None


def _opt_word(row: Row[Any], sender: Caller, words: str) -> str | None:
    """What the gateway says it is, else the words; a supervisor's text is a stop word only as a whole: a command may well quote one."""
    return row.told or optout.read(words, whole=sender.person is not None)


def _handle(tx: Transaction, row: Row[Any], sender: Caller, said: Heard, heard: consent.Kind | None) -> None:
    person, case, told, answered = sender.person, sender.case, _sentences_for(tx, sender), row.answered
    says = told.answer(key(said.words).strip(" .!?"))
    question = _question_to(tx, row, sender)
    # Only of staff it must be asked: whoever else texts gives no commands.
    answering = question is not None or (person is not None and _is_answering(tx, row, case))
    if answering and person is not None and is_exact(tx, person, said.words):
        answering = False
    if said.mark is not None and heard is None:
        taken_for = _came_back(tx, row, said, told, person)
    elif person is not None and _halts(tx, row, person, said.words, heard):
        taken_for = "command"
    elif question is not None and answering and says is not None:
        taken_for = _answered(tx, row, question, told, says)
    elif heard in ("stop", "start"):
        taken_for = _confirm_consent(tx, row, told, heard, answered=answered)
    elif heard == "doubt":
        taken_for = _ask_back(tx, row, case, told, said)
    elif says is not None and consent.newest(tx, row.phone) == "doubt":
        taken_for = _ask_back(tx, row, None, told, said)
    elif person is not None and not answering:
        taken_for = _command(tx, row, person, said.words)
    elif _opt_word(row, sender, said.words) == "help":
        taken_for = "help" if answered else _help(tx, row, told)
    elif question is not None and not (case is not None and case.two_way):
        taken_for = _say_again(tx, row, question, told)
    else:
        taken_for = _inbox(tx, row, case, told, person, said)
    inbox.handled(tx, row.id, taken_for, case_id=case.id if case else None, person_id=person.id if person else None)


def _came_back(tx: Transaction, row: Row[Any], said: Heard, told: Sentences, person: Row[Any] | None) -> str:
    """A text that is ours, or a mark on one, does nothing; staff are told so, a few times."""
    if said.mark == "echo" and person is not None and consent.may_text(tx, row.phone):
        text = told.say(("own-text", {}))
        if lookups.sent_since(tx, row.phone, "reply", tx.now - timedelta(minutes=10), body=text) < ECHOES_ANSWERED:
            outbox.queue(tx, row.phone, text, "reply", person_id=person.id, reply_to=row.id)
    return str(said.mark)


def _halts(tx: Transaction, row: Row[Any], person: Row[Any], words: str, heard: consent.Kind | None) -> bool:
    """Whether a stop word of staff halted what they run; a phone that the gateway stopped is not answered."""
    if heard not in (None, "stop"):
        return False
    is_stop = row.told == "stop" or optout.read(words, whole=True) == "stop"
    if not is_stop and not (panic.is_cry(tx, person, words) and panic.has_something(tx, person.id)):
        return False
    call = call_of(tx, person, words, message_id=row.id)
    done = panic.halt_all(call)
    if heard == "stop":
        return False
    given = done or call.say(("halt-none", {}))
    outbox.queue(tx, row.phone, given.text, "reply", person_id=person.id, reply_to=row.id)
    return True


def _is_answering(tx: Transaction, row: Row[Any], case: Row[Any] | None) -> bool:
    """Whether plain words from this phone answer the programme: the last text that it got was one to its case."""
    if case is None or not case.two_way:
        return False
    newest = lookups.newest_to(tx, row.phone, row.created_at)
    return newest is not None and newest.kind in ("text", "broadcast")


def _question_to(tx: Transaction, row: Row[Any], sender: Caller) -> Row[Any] | None:
    """The question that a text can answer: its own text is the last one that the phone had got when this one came."""
    if sender.question is None:
        return None
    newest = lookups.newest_to(tx, row.phone, row.created_at)
    return sender.question if newest is not None and newest.id == sender.question.message_id else None


def _answered(tx: Transaction, row: Row[Any], question: Row[Any], told: Sentences, meant: str) -> str:
    """A phone said whose it is: a yes makes it the case's own, proved by the reply; whoever asked is told.

    Not if the case was closed or got another number since it was asked for: what stands there now is newer.
    """
    operation = operations.operation(tx, question.operation_id)
    case = lookup.contact(tx, question.case_id)
    stands = operation is not None and case.contact_phone_number == operation.request["instead_of"]
    if meant == "yes" and (case.status == "closed" or not stands):
        meant = "stale"
    invitations.close(tx, question.id, None if meant == "stale" else meant)
    if meant == "yes":
        values: dict[str, Any] = {"contact_phone_number_is_verified": True}
        if question.kind == "move":
            values["contact_phone_number"] = row.phone
            values["number_warning"] = None
        by = Actor("sms", None, f"message {row.id}")
        cases.save(tx, [Wanted(question.case_id, values)], verb=f"cases.{question.kind}", by=by)
    outbox.queue(
        tx,
        row.phone,
        told.say((f"phone-{'yes' if meant == 'yes' else 'no'}", {})),
        "reply",
        reply_to=row.id,
        case_id=question.case_id,
    )
    _tell_asker(tx, row, question, meant)
    return "answer"


def _tell_asker(tx: Transaction, row: Row[Any], question: Row[Any], meant: str) -> None:
    operation = operations.operation(tx, question.operation_id)
    asker = people.by_id(tx, operation.person_id) if operation is not None else None
    if operation is None or asker is None or not consent.may_text(tx, asker.phone):
        return
    case = lookup.contact(tx, question.case_id)
    values = {"number": operation.id, "person": Words(person_shown(case)), "phone": row.phone}
    word = "asked-stale" if meant == "stale" else "asked-no"
    if meant == "yes":
        word = "invited-waits" if not case.two_way else "moved" if question.kind == "move" else "invited"
    text = sentences(asker.language_code or tx.rules.language).say((word, values))
    outbox.queue(tx, asker.phone, text, "notice", person_id=asker.id, reply_to=row.id)


def _say_again(tx: Transaction, row: Row[Any], question: Row[Any], told: Sentences) -> str:
    """Neither yes nor no: the question is put once more, a few times a day; the text itself is kept in the inbox."""
    if lookups.sent_since(tx, row.phone, "reply", tx.now - STRANGER_HEARS_AGAIN) < HELP_A_DAY:
        again = outbox.queue(tx, row.phone, told.say(("phone-again", {})), "reply", reply_to=row.id)
        invitations.ask_again(tx, question.id, again)
    return "inbox"


def _ask_back(tx: Transaction, row: Row[Any], case: Row[Any] | None, told: Sentences, said: Heard) -> str:
    """What may mean STOP is asked back once; nothing else is sent meanwhile, and staff read the words themselves."""
    text = told.say(("doubt-asked", {"programme": Words(tx.rules.name)}))
    asked = lookups.sent_since(tx, row.phone, "consent", tx.now - STRANGER_HEARS_AGAIN, body=text)
    if consent.newest(tx, row.phone) == "doubt" and _is_a_phone(row.phone) and asked < HELP_A_DAY:
        outbox.queue(tx, row.phone, text, "consent", reply_to=row.id)
    if case is not None and case.two_way:
        _forward(tx, row, case, said)
    return "doubt"


def _confirm_consent(tx: Transaction, row: Row[Any], told: Sentences, word: str, *, answered: bool) -> str:
    """One confirmation for a STOP or START that changed something: none for a repetition, or if the gateway gave it."""
    if word == "stop" and (question := invitations.open_on(tx, row.phone)) is not None:
        invitations.close(tx, question.id, "no")
    events = consent.history(tx, row.phone)
    changed = [
        e for e, before in zip(events, [None, *events], strict=False) if (before.kind if before else "start") != e.kind
    ]
    if changed and changed[-1].message_id == row.id:
        if not answered:
            kept = word == "start" and len(events) > 1 and events[-2].kind == "doubt"
            sentence = "kept-confirmed" if kept else f"{word}-confirmed"
            text = told.say((sentence, {"programme": Words(tx.rules.name)}))
            outbox.queue(tx, row.phone, text, "consent", reply_to=row.id)
        if word == "stop" and (person := people.by_phone(tx, row.phone)) is not None:
            _tell_others(tx, person)
    return word


def _command(tx: Transaction, row: Row[Any], person: Row[Any], words: str) -> str:
    """Answer a text of staff, unless it is one of too many: what came before its phone was last proved is not counted."""
    proved = codes.proved_at(tx, person.id)
    since = codes.since(tx, person.id, TEN_MINUTES)
    sent = lookups.sent_since(tx, row.phone, "reply", since)
    muted = sent >= ANSWERS
    given = answer(tx, person, words, message_id=row.id, muted=muted, sent_at=row.sent_at)
    if given.challenge:
        heard = not muted or _may_challenge(tx, person, since)
        given = replace(given, code_id=challenge(tx, person, row.id)) if heard else given
    else:
        # A code that was right proves the phone, and opens an allowance of its own.
        heard = not muted or codes.proved_at(tx, person.id) != proved or carries_code(tx, person, words)
    if heard and not _is_enough(tx, row, person, given, since):
        outbox.queue(
            tx, row.phone, given.text, "reply", person_id=person.id, reply_to=row.id, code_id=given.code_id
        )  # fmt: skip
    return "unheard" if given.refused and muted else "command"


def _may_challenge(tx: Transaction, person: Row[Any], since: datetime) -> bool:
    """Whether a phone that is not answered any more may be asked for a code: once in ten minutes, and after each proof."""
    if attempts.count(tx, person.id, "challenge", since):
        return False
    attempts.note(tx, person.id, "challenge")
    return True


def _is_enough(tx: Transaction, row: Row[Any], person: Row[Any], given: Answer, since: datetime) -> bool:
    """Whether a phone has been told as much as this often enough: two machines that answer each other never stop.

    One that is told the same no a few times is told it no more, nor one of which no command can be read, whatever its words
    are; and the same answer at all goes a few times only to a phone that has not confirmed a code of late.
    """
    if given.refused and not given.challenge:
        attempts.note(tx, person.id, "unread" if given.unread else "refused")
        if given.unread and attempts.count(tx, person.id, "unread", since) > SAME_REFUSALS:
            return True
        if attempts.count(tx, person.id, "refused", since) > REFUSALS:
            return True
    elif not given.refused and codes.since(tx, person.id, codes.FRESH) != tx.now - codes.FRESH:
        return False  # proved within twelve hours
    return lookups.sent_since(tx, row.phone, "reply", since, body=given.text) >= SAME_REFUSALS


def _help(tx: Transaction, row: Row[Any], told: Sentences) -> str:
    """HELP is answered to strangers too (the carriers ask for it), a few times a day."""
    text = told.say(("help-case", {"programme": Words(tx.rules.name)}))
    if lookups.sent_since(tx, row.phone, "consent", tx.now - STRANGER_HEARS_AGAIN, body=text) < HELP_A_DAY:
        outbox.queue(tx, row.phone, text, "consent", reply_to=row.id)
    return "help"


def _inbox(
    tx: Transaction, row: Row[Any], case: Row[Any] | None, told: Sentences, person: Row[Any] | None, said: Heard
) -> str:
    """A reply of a case that owns its number goes to those who care for it; others get one polite answer a day.

    A supervisor who is that case learns that it was not taken for a command.
    """
    if case is not None and case.two_way:
        _forward(tx, row, case, said)
        if person is not None and consent.may_text(tx, row.phone):
            outbox.queue(tx, row.phone, told.say(("own-reply", {})), "reply", person_id=person.id, reply_to=row.id)
        return "inbox"
    if (
        consent.may_text(tx, row.phone)
        and _is_a_phone(row.phone)
        and lookups.sent_since(tx, row.phone, "reply", tx.now - STRANGER_HEARS_AGAIN) == 0
    ):
        outbox.queue(tx, row.phone, told.say(("stranger", {})), "reply", reply_to=row.id)
    return "inbox" if case is not None else "stranger"


def _is_a_phone(sender: str) -> bool:
    """Not a short code or a sender with a name: nobody reads an answer there, and two machines may never stop."""
    return sender.isdigit() and len(sender) > 6


def _forward(tx: Transaction, row: Row[Any], case: Row[Any], said: Heard) -> None:
    """Number the reply and text it to the supervisors of the case's groups, or to the leads where it has none."""
    # One who said stop cannot be texted, and a cry that reaches nobody is worse than one that reaches the leads.
    caring = [p for p in people.caring_for(tx, case.id) if p.phone != row.phone and not p.stopped]
    caring = caring or [p for p in people.leads(tx) if p.phone != row.phone]
    request = {"case": case.id, "told": [p.id for p in caring]}
    by = Actor("sms", None, f"message {row.id}")
    number = operations.note(tx, "inbox", words="", undoes=None, message_id=row.id, request=request, by=by)
    for person in caring:
        told = sentences(person.language_code or tx.rules.language)
        values = {"number": number, "person": Words(person_shown(case)), "text": Quote(said.words or row.body)}
        text = told.say(("inbox", values), sms=2)
        outbox.queue(tx, person.phone, text, "notice", person_id=person.id, reply_to=row.id)


def _tell_others(tx: Transaction, stopped: Row[Any]) -> None:
    """The other leads who can be texted learn that a supervisor cannot be answered any more."""
    for lead in people.leads(tx):
        if lead.id != stopped.id and consent.may_text(tx, lead.phone):
            told = sentences(lead.language_code or tx.rules.language)
            text = told.say(("supervisor-stopped", {"person": Words(stopped.name)}))
            outbox.queue(tx, lead.phone, text, "notice", person_id=lead.id)


def note_opt_out(tx: Transaction, message_id: int, *, by: Actor) -> None:
    """A gateway says that a recipient opted out there: the same as STOP, and of staff the other leads learn it."""
    message = lookups.message(tx, message_id)
    person = people.by_phone(tx, message.phone) if message is not None else None
    is_new = person is not None and consent.newest(tx, person.phone) != "stop"
    receipts.note_opt_out(tx, message_id, by=by)
    if person is not None and is_new:
        _tell_others(tx, person)


def _tell_leads(tx: Transaction) -> None:
    for lead in people.leads(tx):
        told = sentences(lead.language_code or tx.rules.language)
        outbox.queue(tx, lead.phone, told.say(("unhandled-notice", {})), "notice", person_id=lead.id)
