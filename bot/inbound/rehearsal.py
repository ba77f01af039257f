"""What the bot would answer to texts: everything as it is when they come in, and then taken back.

Nothing leaves, nothing is kept, no code that was shown is worth anything afterwards.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from bot.gateways.base import Inbound
from bot.inbound import listeners
from storage.database import Database, Transaction
from storage.messages import inbox, lookups
from storage.operations import codes
from storage.rules import numbers

CODE = re.compile(r"\bCODE\b")


@dataclass(frozen=True, slots=True)
class Turn:
    """One text and what came of it: what it was `taken_for`, and the texts out, as phone and words."""

    text: str
    taken_for: str
    out: tuple[tuple[str, str], ...]


class _TakenBack(Exception):
    """Ends the transaction of a rehearsal."""


def rehearse(db: Database, phone: str, texts: Sequence[str]) -> list[Turn]:
    """Each text as if this phone had sent it, one after the other; nothing of it stays.

    `CODE` in a text stands for the last code that the phone was shown.  Raises Problem for a number that is none.
    """
    turns: list[Turn] = []
    try:
        with db.transaction() as tx:
            _converse(tx, phone, texts, turns, shown=True)
            raise _TakenBack
    except _TakenBack:
        return turns


def text(db: Database, phone: str, texts: Sequence[str]) -> list[Turn]:
    """The same for good: the texts are kept, commands act, and the worker sends what is answered.

    A code goes to its phone alone: `CODE` stands for nothing here.
    """
    turns: list[Turn] = []
    for one in texts:
        with db.transaction() as tx:
            _converse(tx, phone, [one], turns, shown=False)
    return turns


def _converse(tx: Transaction, phone: str, texts: Sequence[str], turns: list[Turn], *, shown: bool) -> None:
    number = numbers.read(phone, country=tx.rules.country).digits
    gateway = tx.rules.default_gateway or "lab"
    code = ""
    for typed in texts:
        words = CODE.sub(code or "CODE", typed)
        last = inbox.newest_id(tx)
        taken = listeners.take_in(tx, gateway, Inbound(f"lab:{secrets.token_hex(12)}", number, "", words))
        row = lookups.message(tx, taken or 0)
        out = []
        for queued in lookups.list_queued_since(tx, last):
            body = queued.body
            if shown and queued.code_id is not None:
                digits = codes.shown(tx, queued.code_id)
                body = body.replace(codes.mask(len(digits)), digits)
                code = digits if queued.phone == number else code
            out.append((queued.phone, body))
        turns.append(Turn(words, str(row.handled_as if row is not None else ""), tuple(out)))
