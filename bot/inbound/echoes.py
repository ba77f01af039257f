"""What a text says for itself, and what it only brings back: our own words, whole or quoted, act on nothing.

Phones forward, quote, answer with the whole of what they answer, and echo; then `1 ADD anc: 12 people. Reply ok 857978 to
do it` comes in as if a person had said it.  So before anybody reads a text, the answers that went to that very phone
lately are compared with it, and what is ours is taken out: nothing is left of an echo, of a reply above a quotation its own
words.  A few of our words are no echo, because people text back what they are taught (`ok 857978`, `re 31 ...`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

from sqlalchemy import Row

from bot.commands.dispatch import is_exact
from storage.conversations.sender_lookup import Caller
from storage.database import Transaction
from storage.messages import lookups
from storage.operations import codes
from storage.rules import quotations
from storage.rules.normalize import searched

LATELY = timedelta(days=14)
AT_MOST = 40
"""Texts to one phone that are compared with what comes from it."""

WHOLE, BEGUN, ENDED = 20, 16, 40
"""Letters and digits from which a text is ours if it is all of one, begins as one and is cut off, or is the second half
of one.  The longest command that an answer of ours ends with, as an example, is shorter than that."""

LONGEST = 5000
"""Letters and digits beyond which no text is looked at: nothing of ours is so long."""

QUOTED = 10
"""Letters and digits from which words in quotation marks are ours if one of ours begins or ends so."""

NEARLY = 0.9
"""How much of one of ours has to stand in a text, from both ends, so that a phone may have changed something in it."""

_DIGITS = re.compile(
    rf"{re.escape(codes.mask(codes.LONG))}|{re.escape(codes.mask(codes.SHORT))}|(?<!\d)(?:\d{{{codes.LONG}}}|\d{{{codes.SHORT}}})(?!\d)"
)
_CUT_OFF = re.compile(r"(?:\.{2,}|…)\W*$")
_HALF_A_NUMBER = re.compile(r"\d+\W*$")
_IN_QUOTES = re.compile(r"[\"“„«‟]([^\"“”„«»‟]{3,})[\"”“»‟]?|(?<!\w)['‘‚]([^'‘’‚\n]{12,})['’](?!\w)")


@dataclass(frozen=True, slots=True)
class Heard:
    """What the writer of a text says, and what it is a mark of where they say nothing."""

    words: str
    mark: Literal["echo", "reaction"] | None = None


def listen(tx: Transaction, row: Row[Any], sender: Caller) -> Heard:
    """What of a text is its writer's own: without a phone's signature, without what it quotes and what is ours.

    A command keeps every letter that it brings but for ours behind `>`: what it sends may well repeat us, and is shown
    before it goes.
    """
    plain = quotations.without_signature(row.body)
    if quotations.is_reaction(plain):
        return Heard("", "reaction")
    ours = _ours(tx, row, plain)
    if any(_is(plain, one) for one in ours):
        return Heard("", "echo")
    unquoted = quotations.without_quotation(plain)
    words = _without(unquoted, ours)
    if words == plain:
        return Heard(plain)
    if sender.person is not None and is_exact(tx, sender.person, plain):
        return Heard(unquoted if _quotes(plain, ours) else plain)
    return Heard(words) if any(map(str.isalnum, words)) else Heard("", "echo")


def _ours(tx: Transaction, row: Row[Any], text: str) -> Sequence[str]:
    """What went to the phone of a text lately, as it is compared; nothing where the text is too short or too long for it."""
    if not QUOTED <= sum(map(str.isalnum, text)) <= LONGEST:
        return ()
    bodies = lookups.bodies_to(tx, row.phone, row.created_at - LATELY, row.created_at, at_most=AT_MOST)
    return [one for one in map(_compared, dict.fromkeys(bodies)) if len(one) >= QUOTED]


def _quotes(text: str, ours: Sequence[str]) -> bool:
    """Whether what a text quotes behind `>` is ours."""
    quoted = _compared(" ".join(line for line in text.splitlines() if line.lstrip().startswith(">")))
    return len(quoted) >= QUOTED and any(quoted in one for one in ours)


def _compared(text: str) -> str:
    """The letters and digits of a text, whatever stands between them, with every code made alike."""
    return "".join(filter(str.isalnum, searched(_DIGITS.sub(" code ", text))))


def _is(text: str, one: str) -> bool:
    """Whether a text is one of ours: all of it or nearly, its beginning where it was cut off, or its second half."""
    forms = {_compared(text), _compared(quotations.without_forwarding(text))}
    if is_cut := _CUT_OFF.search(text) is not None:
        forms.add(_compared(_HALF_A_NUMBER.sub("", text)))  # half a code is not alike to a code
    return any(_is_same(form, one, is_cut=is_cut) for form in forms)


def _is_same(text: str, one: str, *, is_cut: bool) -> bool:
    if text == one:
        return len(text) >= WHOLE
    if one.startswith(text):
        return len(text) >= (BEGUN if is_cut else WHOLE)
    if one.endswith(text):
        return len(text) >= ENDED
    longest = max(len(text), len(one))
    return len(one) >= WHOLE and _ends_alike(text, one) >= NEARLY * longest


def _ends_alike(a: str, b: str) -> int:
    """How many letters two texts have in common, counted from their beginnings and from their ends."""
    shortest = min(len(a), len(b))
    front = next((n for n in range(shortest) if a[n] != b[n]), shortest)
    back = next((n for n in range(shortest - front) if a[-1 - n] != b[-1 - n]), shortest - front)
    return front + back


def _without(text: str, ours: Sequence[str]) -> str:
    """A text without what is ours in it: what stands in quotation marks, and all of one of ours wherever it stands."""
    for found in reversed(list(_IN_QUOTES.finditer(text))):
        quoted = _compared(found[1] or found[2])
        if len(quoted) >= QUOTED and any(one.startswith(quoted) or one.endswith(quoted) for one in ours):
            text = f"{text[: found.start()]} {text[found.end() :]}"
    for one in ours:
        if len(one) >= WHOLE and (begins := (letters := _compared(text)).find(one)) >= 0:
            places = list(_places(text))
            if len(places) == len(letters):  # a letter and its marks may count otherwise one by one
                text = f"{text[: places[begins]]}\n{text[places[begins + len(one) - 1] + 1 :]}"
    return text.strip() if ours else text


def _places(text: str) -> Iterator[int]:
    """For each letter of a text as it is compared, where it stands in the text as it was written."""
    at = 0
    for digits in [*_DIGITS.finditer(text), None]:
        until = digits.start() if digits is not None else len(text)
        for place in range(at, until):
            yield from [place] * len(_compared(text[place]))
        if digits is not None:
            yield from [digits.start()] * (len("code") - 1)
            yield digits.end() - 1
            at = digits.end()
