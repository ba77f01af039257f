"""What a text says about consent: heard before anything else, confirmed once, asked back where it is in doubt."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Row

from bot import notices
from bot.commands import panic
from bot.inbound import questions
from bot.inbound.echoes import Heard
from bot.inbound.forwarding import forward
from bot.inbound.senders import HELP_A_DAY, LOOKED_AT, STRANGER_HEARS_AGAIN, is_a_phone, sentences_for
from bot.replies import Sentences, Words
from storage.audit import Actor
from storage.contacts import consent, people
from storage.conversations import conversations
from storage.conversations.sender_lookup import Caller
from storage.database import Transaction
from storage.messages import lookups, outbox, receipts
from storage.rules import doubts, optout
from storage.rules.normalize import key


def hear_consent(
    tx: Transaction, row: Row[Any], sender: Caller, said: Heard, *, may_be: Iterable[str]
) -> consent.Kind | None:
    """STOP and START, and what may mean STOP, count at once and survive whatever happens to the rest of the handling.

    They are about all phones that the sender `may_be`, by their keys.  Returns what was heard.
    """
    kind = _consent_in(tx, row, sender, said.words)
    if kind is None or _is_overtaken(tx, row, kind):
        return None
    by = Actor("sms", None, f"message {row.id}")
    consent.hear(tx, row.phone, kind, words=row.body, message_id=row.id, may_be=may_be, by=by)
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
    word = opt_word(row, sender, words)
    last = sender.said_last
    if last == "doubt" and (meant := _meant_in_doubt(words, sentences_for(tx, sender))) is not None:
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


def opt_word(row: Row[Any], sender: Caller, words: str) -> str | None:
    """What the gateway says it is, else the words; a supervisor's text is a stop word only as a whole: a command may well quote one."""
    return row.told or optout.read(words, whole=sender.person is not None)


def ask_back(tx: Transaction, row: Row[Any], case: Row[Any] | None, told: Sentences, said: Heard) -> str:
    """What may mean STOP is asked back once; nothing else is sent meanwhile, and staff read the words themselves."""
    text = told.say(("doubt-asked", {"programme": Words(tx.rules.name)}))
    asked = lookups.sent_since(tx, row.phone, "consent", tx.now - STRANGER_HEARS_AGAIN, body=text)
    if consent.newest(tx, row.phone) == "doubt" and is_a_phone(row.phone) and asked < HELP_A_DAY:
        question = outbox.queue(tx, row.phone, text, "consent", reply_to=row.id)
        if row.phone_key is not None:
            _put_doubt(tx, row.phone, question)
    if case is not None and case.two_way:
        forward(tx, row, case, said)
    return "doubt"


def _put_doubt(tx: Transaction, phone: str, message_id: int) -> None:
    doubt = next((one for one in conversations.live_on(tx, phone) if one.kind == "doubt"), None)
    if doubt is None:
        conversations.begin(tx, phone, "doubt", message_id=message_id)
    else:
        conversations.say_again(tx, doubt.id, message_id)


def _end_doubt(tx: Transaction, phone: str) -> None:
    """The phone goes on: what it was asked before is put to it again."""
    for one in conversations.live_on(tx, phone):
        if one.kind == "doubt":
            conversations.close(tx, one.id, "no")
    questions.resume(tx, phone)


def confirm_consent(tx: Transaction, row: Row[Any], told: Sentences, word: str, *, answered: bool) -> str:
    """One confirmation for a STOP or START that changed something: none for a repetition, or if the gateway gave it."""
    is_certain = row.phone_key is not None
    if is_certain and word == "stop":
        conversations.close_all(tx, row.phone, "stopped")
    elif is_certain:
        _end_doubt(tx, row.phone)
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
        if word == "stop" and is_certain and (person := people.by_phone(tx, row.phone)) is not None:
            _tell_others(tx, person)
    return word


def _tell_others(tx: Transaction, stopped: Row[Any]) -> None:
    """The other leads who can be texted learn that a supervisor cannot be answered any more."""
    notices.tell_leads(tx, "supervisor-stopped", {"person": Words(stopped.name)}, but=stopped.id)


def note_opt_out(tx: Transaction, message_id: int, *, by: Actor) -> None:
    """A gateway says that a recipient opted out there: the same as STOP, and of staff the other leads learn it."""
    message = lookups.message(tx, message_id)
    person = people.by_phone(tx, message.phone) if message is not None else None
    is_new = person is not None and consent.newest(tx, person.phone) != "stop"
    receipts.note_opt_out(tx, message_id, by=by)
    if person is not None and is_new:
        _tell_others(tx, person)
