"""Answers to what a phone was asked: an invitation, a move, a doubt, which was meant; and the question said again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import Row

from bot import notices
from bot.commands.naming import person_shown
from bot.inbound.senders import HELP_A_DAY, STRANGER_HEARS_AGAIN
from bot.replies import Quote, Sentences, Words, sentences
from storage.audit import Actor
from storage.contacts import cases, consent, lookup
from storage.contacts.cases import Wanted
from storage.conversations import conversations
from storage.database import Transaction
from storage.messages import lookups, outbox
from storage.operations import operations
from storage.rules.normalize import key


def is_answering(tx: Transaction, row: Row[Any], case: Row[Any] | None) -> bool:
    """Whether plain words from this phone answer the programme: the last text that it got was one to its case."""
    if case is None or not case.two_way:
        return False
    newest = lookups.newest_to(tx, row.phone, row.created_at)
    return newest is not None and newest.kind in ("text", "broadcast")


def _is_put_last(tx: Transaction, row: Row[Any], question: Row[Any]) -> bool:
    """Whether the question was the last thing that the phone had got when this text came: then a yes can mean nothing else."""
    newest = lookups.newest_to(tx, row.phone, row.created_at)
    return newest is not None and newest.conversation_id == question.id


def meant(words: str, language: Sentences) -> str | None:
    """`yes` or `no`, as an answer to a question of ours; None for anything else."""
    return language.answer(key(words).strip(" .!?"))


def take_answer(
    tx: Transaction, row: Row[Any], question: Row[Any], language: Sentences, answer: str, words: str
) -> str:
    """A yes or no of a phone on which a question is open; each kind knows what it brings about.

    One that came after another text of ours may be meant for that: then the phone is asked.
    """
    if question.kind == "which" or _is_put_last(tx, row, question):
        return _HEARS[question.kind](tx, row, question, language, answer)
    return _ask_which(tx, row, question, language, words)


def _take_whose(tx: Transaction, row: Row[Any], question: Row[Any], language: Sentences, answer: str) -> str:
    """A phone said whose it is: a yes makes it the case's own, proved by the reply; whoever asked is told.

    Not if the case was closed or got another number since it was asked for: what stands there now is newer.
    """
    operation = operations.operation(tx, question.operation_id)
    case = lookup.contact(tx, question.case_id)
    stands = operation is not None and case.contact_phone_number == operation.request["instead_of"]
    if answer == "yes" and (case.status == "closed" or not stands):
        answer = "stale"
    if not conversations.close(tx, question.id, answer):
        return "answer"
    if answer == "yes":
        values: dict[str, Any] = {"contact_phone_number_is_verified": True}
        if question.kind == "move":
            values["contact_phone_number"] = row.phone
            values["number_warning"] = None
        by = Actor("sms", None, f"message {row.id}")
        cases.save(tx, [Wanted(question.case_id, values)], verb=f"cases.{question.kind}", by=by)
    outbox.queue(
        tx,
        row.phone,
        language.say((f"phone-{'yes' if answer == 'yes' else 'no'}", {})),
        "reply",
        reply_to=row.id,
        case_id=question.case_id,
    )
    _tell_asker(tx, row, question, answer)
    resume(tx, row.phone)
    return "answer"


def _take_which(tx: Transaction, row: Row[Any], question: Row[Any], language: Sentences, answer: str) -> str:
    """A phone said whether its earlier text was the answer to a question; if not, that question is put to it again."""
    if not conversations.close(tx, question.id, answer):
        return "answer"
    about = conversations.conversation(tx, question.about)
    text = lookups.message(tx, question.answer_id)
    answered = meant(text.body, language) if text is not None else None
    if answer == "yes" and about is not None and about.state != "closed" and answered is not None:
        return _HEARS[about.kind](tx, row, about, language, answered)
    resume(tx, row.phone)
    return "answer"


def _ask_which(tx: Transaction, row: Row[Any], question: Row[Any], language: Sentences, answer: str) -> str:
    """A yes or no that came after another text of ours: the phone is asked whether it answers the question that is open."""
    words = {"text": Quote(answer), "programme": Words(tx.rules.name)}
    text = outbox.queue(tx, row.phone, language.say(("which-asked", words)), "reply", reply_to=row.id)
    conversations.begin(tx, row.phone, "which", about=question.id, answer_id=row.id, message_id=text)
    return "inbox"


def say_again(tx: Transaction, row: Row[Any], question: Row[Any], language: Sentences) -> str:
    """Neither yes nor no: the question is put once more, a few times a day; the text itself is kept in the inbox."""
    if lookups.sent_since(tx, row.phone, "reply", tx.now - STRANGER_HEARS_AGAIN) < HELP_A_DAY:
        again = outbox.queue(tx, row.phone, language.say(("phone-again", {})), "reply", reply_to=row.id)
        conversations.say_again(tx, question.id, again)
    return "inbox"


def resume(tx: Transaction, phone: str | None = None) -> int:
    """Put again what was suspended on a phone, or on all, and has nothing before it any more; returns how many."""
    rows = [row for row in conversations.to_resume(tx, phone) if consent.may_text(tx, row.phone)]
    for row in rows:
        again = outbox.queue(tx, row.phone, _put_again(tx, row), "text", case_id=row.case_id)
        conversations.say_again(tx, row.id, again)
    return len(rows)


def _put_again(tx: Transaction, question: Row[Any]) -> str:
    case = lookup.contact(tx, question.case_id) if question.case_id is not None else None
    language = sentences((case.language_code if case is not None else None) or tx.rules.language)
    return language.say((_AGAIN[question.kind], {"programme": Words(tx.rules.name)}))


_AGAIN: Mapping[str, str] = {
    "invite": "phone-asked-invite",
    "move": "phone-asked-move",
    "doubt": "doubt-asked",
    "which": "phone-again",
}
"""The sentence by which each kind is put to a phone once more."""


def _tell_asker(tx: Transaction, row: Row[Any], question: Row[Any], answer: str) -> None:
    operation = operations.operation(tx, question.operation_id)
    if operation is None:
        return
    case = lookup.contact(tx, question.case_id)
    values = {"number": operation.id, "person": Words(person_shown(case)), "phone": row.phone}
    word = "asked-stale" if answer == "stale" else "asked-no"
    if answer == "yes":
        word = "invited-waits" if not case.two_way else "moved" if question.kind == "move" else "invited"
    notices.tell_person(tx, operation.person_id, word, values, reply_to=row.id)


_Hears = Callable[[Transaction, Row[Any], Row[Any], Sentences, str], str]
_HEARS: Mapping[str, _Hears] = {"invite": _take_whose, "move": _take_whose, "which": _take_which}
"""What an answer to each kind brings about; a doubt is consent, and heard before anything else."""
