"""Case identifiers: whatever a person types to name a case.

That is a phone number, the programme's external id or our own case id, in any mixture of case, width, script and
spacing.  Identifiers are compared by `key`, and by `phone` where the text reads as one; which case is meant is for the
records to say.  Our own case ids hold letters only after their `c-`, so they can never be read as a number.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from string import ascii_lowercase, digits

from storage.rules import numbers
from storage.rules.normalize import key

# Without vowels no id is a word, and without y and l none is misread for one or for a digit.
_CASE_ID_LETTERS = "bcdfghjkmnpqrstvwxz"

# Past this length a mistyped identifier is a sentence, and its neighbours would fill the memory.
_LONGEST_WITH_NEIGHBOURS = 64


@dataclass(frozen=True, slots=True)
class Identifier:
    """What was typed, what it is compared by, and the digits it has if it reads as a phone number."""

    typed: str
    key: str
    phone: str | None


def read(typed: str, *, country: str | None) -> Identifier:
    """The identifier in a text; nothing is refused, a text that is no phone number is simply not one."""
    number = numbers.find(typed, country=country)
    return Identifier(typed, key(typed), number.digits if number else None)


def new_case_id(random: Random) -> str:
    """A case id of ours, such as `c-kzvtnbd`: some 900 million of them, all easy on a keypad.

    `random` is a `random.SystemRandom`, or a seeded one in a test.
    """
    return "c-" + "".join(random.choice(_CASE_ID_LETTERS) for _ in range(7))


def near(key: str) -> set[str]:
    """All keys one typing mistake away: a character left out, added or wrong, or two neighbours swapped.

    Digits are mistaken for digits; where other characters stand, for digits, a-z and the dash.
    A key of more than 64 characters has none.
    """
    if len(key) > _LONGEST_WITH_NEIGHBOURS:
        return set()
    alphabet = digits if key.isascii() and key.isdigit() else digits + ascii_lowercase + "-"
    cuts = [(key[:i], key[i:]) for i in range(len(key) + 1)]
    missing = {head + tail[1:] for head, tail in cuts if tail}
    swapped = {head + tail[1] + tail[0] + tail[2:] for head, tail in cuts if len(tail) > 1}
    wrong = {head + char + tail[1:] for head, tail in cuts if tail for char in alphabet}
    added = {head + char + tail for head, tail in cuts for char in alphabet}
    return (missing | swapped | wrong | added) - {key}
