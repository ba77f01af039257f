"""Answers to what a phone was asked: an invitation, a move, a doubt; and the question said again."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row

from bot import notices
from bot.commands.naming import person_shown
from bot.inbound.senders import HELP_A_DAY, STRANGER_HEARS_AGAIN
from bot.replies import Sentences, Words
from storage.audit import Actor
from storage.contacts import cases, lookup
from storage.contacts.cases import Wanted
from storage.conversations import invitations
from storage.conversations.sender_lookup import Caller
from storage.database import Transaction
from storage.messages import lookups, outbox
from storage.operations import operations


def is_answering(tx: Transaction, row: Row[Any], case: Row[Any] | None) -> bool:
    """Whether plain words from this phone answer the programme: the last text that it got was one to its case."""
    if case is None or not case.two_way:
        return False
    newest = lookups.newest_to(tx, row.phone, row.created_at)
    return newest is not None and newest.kind in ("text", "broadcast")


def question_to(tx: Transaction, row: Row[Any], sender: Caller) -> Row[Any] | None:
    """The question that a text can answer: its own text is the last one that the phone had got when this one came."""
    if sender.question is None:
        return None
    newest = lookups.newest_to(tx, row.phone, row.created_at)
    return sender.question if newest is not None and newest.id == sender.question.message_id else None


def take_answer(tx: Transaction, row: Row[Any], question: Row[Any], told: Sentences, meant: str) -> str:
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
    if operation is None:
        return
    case = lookup.contact(tx, question.case_id)
    values = {"number": operation.id, "person": Words(person_shown(case)), "phone": row.phone}
    word = "asked-stale" if meant == "stale" else "asked-no"
    if meant == "yes":
        word = "invited-waits" if not case.two_way else "moved" if question.kind == "move" else "invited"
    notices.tell_person(tx, operation.person_id, word, values, reply_to=row.id)


def say_again(tx: Transaction, row: Row[Any], question: Row[Any], told: Sentences) -> str:
    """Neither yes nor no: the question is put once more, a few times a day; the text itself is kept in the inbox."""
    if lookups.sent_since(tx, row.phone, "reply", tx.now - STRANGER_HEARS_AGAIN) < HELP_A_DAY:
        again = outbox.queue(tx, row.phone, told.say(("phone-again", {})), "reply", reply_to=row.id)
        invitations.ask_again(tx, question.id, again)
    return "inbox"
