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

from bot import notices
from bot.commands import panic
from bot.commands.dispatch import answer, call_of, carries_code, is_exact, storable
from bot.commands.registry import Answer, challenge
from bot.gateways.base import Inbound
from bot.inbound import echoes, forwarding, opt_outs, questions, senders
from bot.inbound.echoes import Heard
from bot.replies import Sentences, Words
from storage.contacts import attempts, consent
from storage.conversations import sender_lookup
from storage.conversations.sender_lookup import Caller
from storage.database import Database, Lost, Transaction, restored
from storage.messages import inbox, lookups, outbox
from storage.operations import codes
from storage.rules import numbers, optout
from storage.rules.normalize import key

log = logging.getLogger(__name__)

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
    given = numbers.read_sender(text.sender, is_whole=text.is_whole, country=tx.rules.country)
    row = inbox.record_inbound(
        tx, gateway=gateway, gateway_id=text.gateway_id, sender=given.number, is_certain=given.is_certain,
        text=storable(text.text),
        told=text.opt_out, answered=text.answered, sent_at=text.sent_at, own_number=text.to or None,
        set_aside="restored" if _is_of_the_lost_time(tx, text) else None,
    )  # fmt: skip
    if row is None:
        return None
    sender = sender_lookup.caller(tx, row.phone, is_certain=given.is_certain)
    said = echoes.listen(tx, row, sender)
    return row, sender, said, opt_outs.hear_consent(tx, row, sender, said, may_be=given.may_be)


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
                    is_certain = current.phone_key is not None
                    sender = sender_lookup.caller(tx, current.phone, is_certain=is_certain)
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
        notices.tell_leads(tx, "unhandled-notice", {})


def _where(fault: BaseException) -> str:
    trace = fault.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = f" at {trace.tb_frame.f_code.co_name}:{trace.tb_lineno}" if trace is not None else ""
    return type(fault).__name__ + place


def _handle(tx: Transaction, row: Row[Any], sender: Caller, said: Heard, heard: consent.Kind | None) -> None:
    person, case, told, answered = sender.person, sender.case, senders.sentences_for(tx, sender), row.answered
    says = told.answer(key(said.words).strip(" .!?"))
    question = sender.conversation if sender.conversation is not None and sender.conversation.kind != "doubt" else None
    # Only of staff it must be asked: whoever else texts gives no commands.
    answering = question is not None or (person is not None and questions.is_answering(tx, row, case))
    if answering and person is not None and is_exact(tx, person, said.words):
        answering = False
    if said.mark is not None and heard is None:
        taken_for = _came_back(tx, row, said, told, person)
    elif person is not None and _halts(tx, row, person, said.words, heard):
        taken_for = "command"
    elif question is not None and answering and says is not None:
        taken_for = questions.take_answer(tx, row, question, told, says, said.words)
    elif heard in ("stop", "start"):
        taken_for = opt_outs.confirm_consent(tx, row, told, heard, answered=answered)
    elif heard == "doubt":
        taken_for = opt_outs.ask_back(tx, row, case, told, said)
    elif says is not None and consent.newest(tx, row.phone) == "doubt":
        taken_for = opt_outs.ask_back(tx, row, None, told, said)
    elif person is not None and not answering:
        taken_for = _command(tx, row, person, said.words)
    elif opt_outs.opt_word(row, sender, said.words) == "help":
        taken_for = "help" if answered else _help(tx, row, told)
    elif question is not None and not (case is not None and case.two_way):
        taken_for = questions.say_again(tx, row, question, told)
    else:
        taken_for = forwarding.keep_for_staff(tx, row, case, told, person, said)
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
    if (
        lookups.sent_since(tx, row.phone, "consent", tx.now - senders.STRANGER_HEARS_AGAIN, body=text)
        < senders.HELP_A_DAY
    ):
        outbox.queue(tx, row.phone, text, "consent", reply_to=row.id)
    return "help"
