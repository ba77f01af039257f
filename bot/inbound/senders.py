"""What the listeners know of whoever wrote: whether it is a phone, in which language it is answered, and how often."""

from __future__ import annotations

from datetime import timedelta

from bot.replies import Sentences, sentences
from storage.conversations.sender_lookup import Caller
from storage.database import Transaction
from storage.rules.channels import SMS

STRANGER_HEARS_AGAIN = timedelta(days=1)

HELP_A_DAY = 3

LOOKED_AT = 1000
"""Letters of a text in which a request to be left alone is looked for: it stands at the beginning, and every letter costs."""


def sentences_for(tx: Transaction, sender: Caller) -> Sentences:
    """The sentences in their language."""
    known = sender.person if sender.person is not None else sender.case
    return sentences((known.language_code if known is not None else None) or tx.rules.language)


def is_a_phone(sender: str) -> bool:
    """Not a short code or a sender with a name: nobody reads an answer there, and two machines may never stop."""
    return SMS.is_address(sender)
