"""What a case writes that is no command and no answer: kept, and passed on to the supervisors who care for that case."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row

from bot import notices
from bot.commands.naming import person_shown
from bot.inbound.echoes import Heard
from bot.inbound.senders import STRANGER_HEARS_AGAIN, is_a_phone
from bot.replies import Quote, Sentences, Words
from storage.contacts import consent, people
from storage.database import Transaction
from storage.messages import lookups, outbox, staff
from storage.operations import replies
from storage.rules import phone_keys


def keep_for_staff(
    tx: Transaction, row: Row[Any], case: Row[Any] | None, told: Sentences, person: Row[Any] | None, said: Heard
) -> str:
    """A reply of a case that owns its number goes to those who care for it; others get one polite answer a day.

    A supervisor who is that case learns that it was not taken for a command.
    """
    if case is not None and case.two_way:
        forward(tx, row, case, said)
        if person is not None and consent.may_text(tx, row.phone):
            outbox.queue(tx, row.phone, told.say(("own-reply", {})), "reply", person_id=person.id, reply_to=row.id)
        return "inbox"
    if (
        consent.may_text(tx, row.phone)
        and is_a_phone(row.phone)
        and lookups.sent_since(tx, row.phone, "reply", tx.now - STRANGER_HEARS_AGAIN) == 0
    ):
        outbox.queue(tx, row.phone, told.say(("stranger", {})), "reply", reply_to=row.id)
    return "inbox" if case is not None else "stranger"


def forward(tx: Transaction, row: Row[Any], case: Row[Any], said: Heard) -> None:
    """Number the reply and text it to the supervisors of the case's groups, or to the leads where it has none."""
    caring = staff.reachable(tx, [p.id for p in people.caring_for(tx, case.id)])
    caring = [p for p in caring if phone_keys.key(p.phone) != row.phone_key]
    # A cry that reaches nobody is worse than one that reaches the leads.
    caring = caring or [p for p in staff.reachable_leads(tx) if phone_keys.key(p.phone) != row.phone_key]
    number = replies.open_for(tx, case.id, [p.id for p in caring], row.id)
    values = {"number": number, "person": Words(person_shown(case)), "text": Quote(said.words or row.body)}
    for person in caring:
        notices.tell(tx, person, "inbox", values, reply_to=row.id, sms=2)
