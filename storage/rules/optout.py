"""The words by which a phone opts out, opts in or asks for help, in every language that a programme is likely to meet.

Leaving is made easy and coming back explicit.  A stop word is recognised through accents, look-alike letters of other
alphabets and letters typed apart; a start or help word must be written as it is.  A word counts only when it stands
alone, so `stopping by later` is nobody's opt-out.  Longer requests (`please stop texting me`) are doubtful, and
`rules/doubts.py` knows them.

YES is no start word, although gateways take it for one: it answers surveys.

The words stand in `consent_words`, a file a language.
The English words are those that carriers and gateways require (CTIA, AWS, Twilio; 47 CFR 64.1200(a)(10) names stop,
quit, end, revoke, opt out, cancel and unsubscribe).  Words that are everyday answers in a language we serve
(Spanish `alta`, `para` and `fin`, French `dur`) are left out of its list.
"""

from __future__ import annotations

import re
import tomllib
import unicodedata
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from storage.rules.normalize import key

Words = Mapping[str, tuple[str, ...]]
"""Language code to the words that mean one thing in it."""

WORDS: Mapping[str, Mapping[str, Any]] = {
    file.stem: tomllib.loads(file.read_text(encoding="utf-8"))
    for file in sorted(Path(__file__).with_name("consent_words").glob("*.toml"))
}
"""What the file of each language says: `stop`, `start` and `help`, and a table `doubt` for `rules/doubts.py`."""


def _meaning(what: str) -> Words:
    return {language: tuple(words[what]) for language, words in WORDS.items() if what in words}


STOP_WORDS = _meaning("stop")
START_WORDS = _meaning("start")
HELP_WORDS = _meaning("help")

GATEWAY_WORDS: frozenset[str] = frozenset(
    {
        "stop", "stopall", "unsubscribe", "cancel", "end", "quit", "revoke", "optout", "start", "yes", "unstop",
        "help", "info", "remove", "arret", "td",
    }
)  # fmt: skip
"""Words on which a gateway may act by itself, before we hear of them: never a verb of ours, never taught."""

# Letters of other alphabets that look like ours, lower case as they are compared.  A capital decides where the two
# cases differ (Н is an H, В a B): a phone that mixes alphabets does it in capitals.  The zero is for `st0p`.
LOOKALIKES = str.maketrans("авеѕтокмнрсухіјԁԛһαβεζηικμνορςτυχϲϳıℓ0", "abestokmhpcyxijdqhabezhikmnopstuxcjilo")
_TATWEEL = "\u0640"

_SENTENCE_END = re.compile(r"[。｡]|[.!।۔]+(?=\s|$)")
LINE_END = re.compile(r"[\n\r\v\f\x85\u2028\u2029]+")


@lru_cache(maxsize=64)
def read(text: str, *, whole: bool = False) -> Literal["stop", "start", "help"] | None:
    """What a text asks for, if one of the words stands alone on a line of it; stopping wins, then starting.

    Case, width, punctuation and quotes round the word never matter.  A stop word may also be the whole of the first
    sentence (`Stop. Thank you`).  With `whole`, as for the texts of supervisors, it must be the whole text.
    """
    lines = [text] if whole else LINE_END.split(text)
    sentence = [] if whole else [_SENTENCE_END.split(text.strip(), maxsplit=1)[0]]
    if any(_generous(line) & _STOP for line in (*lines, *sentence)):
        return "stop"
    exact = {_exact(line) for line in lines}
    if exact & _START:
        return "start"
    return "help" if exact & _HELP else None


def stop_readings(words: str) -> set[str]:
    """The stop words that some words may be read as, in the form in which they are compared; mostly none."""
    return _generous(words) & _STOP


def _exact(line: str) -> str:
    """The line as it is compared for a start or a help word: without what stands round the words."""
    line = key(line)
    written = [i for i, char in enumerate(line) if is_written(char)]
    return line[written[0] : written[-1] + 1] if written else ""


def _generous(line: str) -> set[str]:
    """The readings of a line for a stop word: as it is written, and with look-alikes taken for Latin letters.

    `S T O P` is read together, and so is `sto p`; but `si mama` stays the two Swahili words that it is.
    """
    words = [plain for word in key(line).split() if (plain := letters(word))]
    readings = {" ".join(words)}
    if any(len(word) == 1 for word in words):
        readings.add("".join(words))
    return readings | {reading.translate(LOOKALIKES) for reading in readings}


def letters(word: str) -> str:
    """The letters of a word, without their accents."""
    if word.isascii():
        return word if word.isalnum() else "".join(filter(str.isalnum, word))
    apart = unicodedata.normalize("NFKD", word)
    return "".join(char for char in apart if is_written(char) and not _is_accent(char))


def is_written(char: str) -> bool:
    """Whether a sign is part of a word: a letter, a digit, or a mark on one."""
    return char != _TATWEEL and (char.isalnum() or unicodedata.category(char) in {"Mn", "Mc"})


def _is_accent(char: str) -> bool:
    """Whether a mark can be left out: accents and Arabic vowel signs can, the vowels of Hindi or Bengali cannot."""
    place = unicodedata.combining(char)
    return place >= 200 or 27 <= place <= 36


def _all(words: Words) -> Iterable[str]:
    return (word for of_language in words.values() for word in of_language)


# In the form in which they are compared.
_STOP = frozenset(" ".join(map(letters, key(words).split())) for words in _all(STOP_WORDS))
_START = frozenset(key(word) for word in _all(START_WORDS))
_HELP = frozenset(key(word) for word in _all(HELP_WORDS))
