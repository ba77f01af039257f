"""Requests to be left alone that are no plain stop word: `please stop texting me`, `wrong number`, `no more messages`.

Whoever writes one is asked back, and nothing is sent meanwhile (`contacts/consent.py`); so a false alarm costs one question and a
miss an unwanted text.  What is a stop word by itself, `rules/optout.py` decides first.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

from storage.rules.normalize import key
from storage.rules.optout import LINE_END, LOOKALIKES, WORDS, is_written, letters, read, stop_readings


class Doubt(NamedTuple):
    """How one language asks to be left alone in more than a word; the parts of all languages are read together.

    People mix them (`stop kutuma sms`).  Each part lists words or phrases.  They stand in `consent_words`, a file a language.
    """

    alone: tuple[str, ...] = ()
    """Asks for it when the rest of its clause is `polite`: `ok stop it please`."""
    order: tuple[str, ...] = ()
    """Asks for it when it begins a clause without `between`, and at most three words follow: `stop this rubbish`."""
    close: tuple[str, ...] = ()
    """Asks for it when it ends the clause, politeness aside: `I lost the baby please stop`."""
    polite: tuple[str, ...] = ()
    """May stand round the words that ask, and changes nothing."""
    off: tuple[str, ...] = ()
    """Asks for it when a word of `texting` follows, with at most four words between: `no more of these messages`."""
    texting: tuple[str, ...] = ()
    """What we do, as verbs and things."""
    never: tuple[str, ...] = ()
    """Asks for it when a word of `do` follows at once or after one other word: `dont ever text`."""
    do: tuple[str, ...] = ()
    """What we are told not to do."""
    drop: tuple[str, ...] = ()
    """Asks for it when a word of `record` stands on either side, with at most four words between: `take me out of your list`."""
    record: tuple[str, ...] = ()
    """Where we keep people."""
    after: tuple[str, ...] = ()
    """Asks for it when it ends the clause, with at most four words between it and a word of `texting`: `sms band karo`."""
    said: tuple[str, ...] = ()
    """Asks for it wherever it stands: `wrong number`."""
    between: tuple[str, ...] = ()
    """Between `off` and `texting`, something else is left off: `stop the pills and text me`."""
    unless: tuple[str, ...] = ()
    """Makes nothing of its clause: `dont stop texting me`."""
    elsewhere: tuple[str, ...] = ()
    """Right behind a stop word that begins a text, it makes another word of it: `stop by later`, `stop sign`."""
    advice: tuple[str, ...] = ()
    """How people are taught to text a stop word, and copy it: `Reply STOP`, `send the word STOP`."""


DOUBTS: Mapping[str, Doubt] = {
    language: Doubt(**{part: tuple(phrases) for part, phrases in words["doubt"].items()})
    for language, words in WORDS.items()
    if "doubt" in words
}
"""Language code to the ways in which it asks to be left alone without a plain stop word, see `is_doubtful`."""

_READ = tuple(part for part in Doubt._fields if part != "advice")
"""The parts that are looked for in a clause."""

_ADVICE = frozenset(letters(word) for doubt in DOUBTS.values() for word in doubt.advice)

Spans = list[tuple[int, int]]
"""Where phrases stand in a clause: the place of the first word, and the place behind the last."""


def is_doubtful(text: str) -> bool:
    """Whether a text that is no plain stop word may still ask to be left alone, so that its writer is asked back.

    False for whatever `read` decides.  A clause asks for it that holds a phrase of `Doubt.said`, or nothing but a stop
    word and politeness, or a word for leaving off near a word for texting.  A false alarm costs one question and a
    miss an unwanted text, so typing errors, doubled letters and mixed languages are read generously.

    Of phrasings that nobody had thought of, about four in five were recognised (`tests/storage/rules/test_doubts.py`):
    an ordinary reply that a person reads is still the second net.
    """
    if read(text) is not None:
        return False
    if _begins_with_stop(text) or _repeats_advice(text):
        return True
    return any(_asks_to_be_left(words) for line in LINE_END.split(text) for words in _clauses(line))


_AROUND, _DASHES = " \t\"'“”„«»‘’()[]*_~", "-–—|"


_UNMISTAKABLE = frozenset(
    {"stop", "stopp", "stopall", "unsubscribe", "optout", "desuscribir", "desabonner", "desinscrire", "descadastrar", "disiscrivi",
     "abmelden", "abbestellen", "отписаться", "відписатися", "стоп"}
)  # fmt: skip
"""Stop words that mean nothing else where they begin a text."""


def _begins_with_stop(text: str) -> bool:
    """Whether a text begins with a stop word of its own: `STOP I moved away`, `stop - John here, I gave birth already`.

    One that means nothing else is enough, unless what follows takes another meaning from it (`stop by later`) or it is a
    question.  An everyday word (`end`, `alto`, `acha`) must be set apart: in capitals, or by a dash.
    """
    line = next((line for line in LINE_END.split(text.strip()) if line.strip()), "").strip(_AROUND)
    first, _, rest = line.partition(" ")
    if not rest.strip() or (word := _stop_word(first)) is None:
        return False
    if word not in _UNMISTAKABLE and not _is_set_apart(first, rest):
        return False
    if line.rstrip(_AROUND).endswith(("?", "؟", "？")) or rest.strip(_AROUND + ".!").isdigit():
        return False
    words = next(_clauses(line), [])
    found = _found(words)
    return not found["unless"] and not any(start == 1 for start, _ in [*found["between"], *found["elsewhere"]])


def _repeats_advice(text: str) -> bool:
    """Whether a text is what we teach, taken by the word: `Reply STOP`, `envie BAJA`."""
    words = text.split()[:6]
    advised = next((n for n, word in enumerate(words) if letters(key(word)) not in _ADVICE), len(words))
    return 0 < advised < len(words) <= advised + 2 and bool(stop_readings(" ".join(words[advised:])))


def _stop_word(typed: str) -> str | None:
    """The stop word that a first word is, without the signs behind it; None if it is none."""
    return next((word for word in stop_readings(typed)), None)


def _is_set_apart(first: str, rest: str) -> bool:
    """Whether the first word of a line stands for itself: in capitals where the rest is not, or with a dash behind it."""
    in_capitals = first.isupper() and len(first) > 2 and any(map(str.islower, rest))
    return in_capitals or rest.lstrip()[:1] in _DASHES


def _asks_to_be_left(words: list[str]) -> bool:
    """Whether one clause may ask for it; each word is looked at a fixed number of times."""
    found = _found(words)
    if found["unless"]:
        return False
    return bool(
        found["said"]
        or (found["alone"] and _covered([*found["alone"], *found["polite"]]) == len(words))
        or any(start == 0 and end + 3 >= len(words) and not found["between"] for start, end in found["order"])
        or _last(words, found["close"], found["polite"])
        or _near(found["off"], found["texting"], 4, {start for start, _ in found["between"]})
        or _near(found["never"], found["do"], 1)
        or _near(found["texting"], _last(words, found["after"], found["polite"]), 4)
        or _near(found["drop"], found["record"], 4)
        or _near(found["record"], found["drop"], 4)
    )


_CLAUSE_END = re.compile(r"[.!?,;:。｡、।۔،؟؛]+")


_APART = re.compile(r"\b[^\W\d_](?:[ .*-]{1,3}\w\b){3,}")  # S.T.O.P. texting me


_ELISION = re.compile(r"\b([cdjlmnst]|qu)'")  # n'envoyez is two words, don't is one


def _clauses(line: str) -> Iterator[list[str]]:
    """The words of each clause of a line, in the form in which the phrases of `Doubt` are compared."""
    line = _APART.sub(lambda apart: "".join(filter(str.isalnum, apart[0])), key(line))
    for clause in _CLAUSE_END.split(_ELISION.sub(r"\1 ", line)):
        if words := _compared(clause):
            yield words


_DOUBLED = re.compile(r"(.)\1+")


# One sound written in two ways: the final letters of Arabic, the dot of Hindi, the hooks of Hausa.
_VARIANTS = str.maketrans({"ى": "ي", "ة": "ه", "\u093c": None, "ɓ": "b", "ɗ": "d", "ƙ": "k"})


def _compared(clause: str) -> list[str]:
    """Words without accents and look-alikes, and with doubled letters written once: `mesages`, `stoppp`."""
    spaced = "".join(char if char == "'" or is_written(char) else " " for char in clause)
    words = (letters(word).translate(LOOKALIKES).translate(_VARIANTS) for word in spaced.split())
    return [_DOUBLED.sub(r"\1", word) for word in words if word]


def _found(words: list[str]) -> dict[str, Spans]:
    """Where the phrases of each part of `Doubt` stand among the words."""
    found: dict[str, Spans] = {part: [] for part in _READ}
    for place, word in enumerate(words):
        for first in (word, *(f"{word[:size]}*" for size in _STEMS[: max(0, len(word) - 2)])):
            for part, phrase in _PHRASES.get(first, ()):
                here = words[place : place + len(phrase)]
                if len(here) == len(phrase) and all(map(_is_word, here[1:], phrase[1:])):
                    found[part].append((place, place + len(phrase)))
    return found


def _is_word(word: str, wanted: str) -> bool:
    """Whether a word is the one wanted, or begins as it does if that ends in `*`."""
    return word.startswith(wanted[:-1]) if wanted.endswith("*") else word == wanted


def _near(before: Spans, behind: Spans, apart: int, but: Collection[int] = ()) -> bool:
    """Whether one span follows another with at most `apart` words between them, none of which stands at `but`."""
    starts = {start for start, _ in behind}
    return any(
        end + gap in starts and not any(place in but for place in range(end, end + gap))
        for _, end in before
        for gap in range(apart + 1)
    )


def _last(words: list[str], asking: Spans, polite: Spans) -> Spans:
    """Those spans behind which nothing but politeness stands."""
    places = {place for span in polite for place in range(*span)}
    rest = len(words)
    while rest - 1 in places:
        rest -= 1
    return [span for span in asking if span[1] >= rest]


def _covered(spans: Spans) -> int:
    """How many words of the clause stand in one of the spans."""
    return len({place for span in spans for place in range(*span)})


def _phrases() -> Mapping[str, Collection[tuple[str, tuple[str, ...]]]]:
    """The phrases of all languages, each with its part of `Doubt`, by their first word."""
    found: dict[str, set[tuple[str, tuple[str, ...]]]] = {}
    for doubt in DOUBTS.values():
        for part in _READ:
            for phrase in getattr(doubt, part):
                words = tuple(_phrase(phrase))
                found.setdefault(words[0], set()).add((part, words))
    return found


def _phrase(phrase: str) -> Iterator[str]:
    """The words of a phrase as they are compared, the star kept that marks the beginning of a word."""
    for written in phrase.split():
        for word in _compared(key(written)):
            yield word + "*" * written.endswith("*")


_PHRASES = _phrases()
_STEMS = range(3, 1 + max(len(word) - 1 for word in _PHRASES if word.endswith("*")))
