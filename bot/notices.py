"""How staff are told something that they did not ask for by text: each in their own language, and only who may be texted.

A caller brings the key of a sentence and its values; where the values depend on the reader's language they are a function
of its sentences.  Whoever is not on the staff any more, whose phone said STOP, or of whose phone it is in doubt, is told
nothing: no notice is queued for them at all (`storage/messages/staff.py`, the only place where one is queued).
Each notice is cut to one text, or to `sms` texts.

Answers to what somebody texted are replies and not notices; they go back to the phone from which the text came.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from bot.replies import Sentences, sentences
from storage.database import Transaction
from storage.messages import staff
from storage.messages.staff import Reachable

Values = Mapping[str, Any] | Callable[[Sentences], Mapping[str, Any]]
"""What fills a sentence; a function where that differs by language."""


def tell(
    tx: Transaction,
    person: Reachable,
    key: str,
    values: Values,
    *,
    reply_to: int | None = None,
    code_id: int | None = None,
    sms: int = 1,
) -> None:
    """Tell somebody whom `staff.reachable_leads` or `staff.reachable` found.

    `reply_to` is the message id of the text that it comes from, `code_id` the code whose digits the gate puts in.
    """
    language = sentences(person.language)
    text = language.say((key, values(language) if callable(values) else values), sms=sms)
    staff.queue(tx, person, text, reply_to=reply_to, code_id=code_id)


def tell_person(
    tx: Transaction, person_id: int | None, key: str, values: Values, *, reply_to: int | None = None
) -> bool:
    """Tell the person with this row id; False if nobody has it (any more) or they may not be texted."""
    found = staff.reachable(tx, [person_id])
    for person in found:
        tell(tx, person, key, values, reply_to=reply_to)
    return bool(found)


def tell_leads(tx: Transaction, key: str, values: Values, *, but: int | None = None) -> int:
    """Tell every lead who may be texted, without the person `but`; returns how many were told."""
    found = staff.reachable_leads(tx, but=but)
    for lead in found:
        tell(tx, lead, key, values)
    return len(found)
