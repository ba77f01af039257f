"""A key and a language become a sentence that fits one text.

Sentences live in `locales/<language>.toml`, keyed by meaning; English is the measure, and says what another language
lacks.  An answer is one SMS: GSM-7 and at most 160 characters, or two
Unicode parts where it shows a name or a text in another script.
Values that may be cut are marked so: a `Names` list drops its end ("+3"), a `Quote` or `Words` its tail
("..."), a `Spare` goes as a whole.
"""

from __future__ import annotations

import re
import string
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

from storage.rules import segments
from storage.rules.reasons import gateway_codes

BUDGET = 160
READABLE = 24
"""Letters of a quotation that are worth more than words which can be spared."""
TODAY, TOMORROW = -1, -2
FOLDER = Path(__file__).parent / "locales"


def languages() -> tuple[str, ...]:
    """The languages in which the bot answers."""
    return tuple(sorted(file.stem for file in FOLDER.glob("*.toml")))


@dataclass(frozen=True, slots=True)
class Names:
    """A list that may be cut from its end; how many were cut is always said."""

    items: tuple[str, ...]

    def cut(self, keep: int) -> str:
        """The first `keep` items and how many more there are; where none is kept, how many there are."""
        left = len(self.items) - keep
        if keep == 0:
            return str(left)
        return ", ".join(self.items[:keep]) + (f" +{left}" if left else "")


@dataclass(frozen=True, slots=True)
class Quote:
    """Somebody's words, shown in quotation marks, that may be cut."""

    text: str

    def cut(self, keep: int) -> str:
        """The first `keep` characters, and dots where more were."""
        plain = " ".join(self.text.split())
        return f'"{plain}"' if keep >= len(plain) else f'"{plain[:keep].rstrip()}..."'


@dataclass(frozen=True, slots=True)
class Words:
    """Somebody's words without quotation marks, that may be cut."""

    text: str

    def cut(self, keep: int) -> str:
        """The first `keep` characters, and dots where more were."""
        return shorten(" ".join(self.text.split()), keep + 3)


@dataclass(frozen=True, slots=True)
class Spare:
    """Words that are left out where all that can be cut is cut and it still does not fit; the last one goes first.

    A `cheap` one goes before a quotation is cut to a stump that nobody can check.
    """

    text: str
    cheap: bool = False

    def cut(self, keep: int) -> str:
        """All of it, or nothing."""
        return self.text if keep else ""


def shorten(text: str, at_most: int) -> str:
    """The text, or its beginning and dots."""
    return text if len(text) <= at_most else text[: at_most - 3].rstrip() + "..."


def names(items: Iterable[object]) -> Names:
    """A list for an answer, in the order given."""
    return Names(tuple(shorten(str(item), 60) for item in items))


class Sentences:
    """The sentences and verbs of one language."""

    def __init__(self, language: str, told: Mapping[str, Any]) -> None:
        self.language = language
        self.sentences: Mapping[str, str] = told["sentences"]
        self.reasons: Mapping[str, str] = told["reasons"]
        self.verbs: Mapping[str, list[str]] = told["verbs"]
        self.usage: Mapping[str, str] = told["usage"]
        self.days: Mapping[str, list[str]] = told["days"]
        self.answers: Mapping[str, list[str]] = told["answers"]

    def say(self, *parts: tuple[str, Mapping[str, Any]], sms: int = 1) -> str:
        """One answer made of sentences, cut to fit so many texts; one more where a letter forces Unicode."""
        lengths = {
            (n, name): _whole(value)
            for n, (_, values) in enumerate(parts)
            for name, value in values.items()
            if isinstance(value, _CUT)
        }
        while True:
            text = _spelled(" ".join(self._fill(n, *part, lengths) for n, part in enumerate(parts)))
            if _fits(text, sms):
                return text
            if not (longest := _longest(parts, lengths)):
                return _cut_off(text, sms)
            lengths[longest] -= 1

    def reason(self, key: str | None, code: str | None = None) -> str:
        """Why a message is where it is, in words; an unknown reason is shown as it is."""
        words = self.reasons.get(key or "", key or "")
        if not code:
            return words
        return self.sentences["reason-code"].format(reason=self.code_words(code) or words, code=code)

    def code_words(self, code: str) -> str | None:
        """What a gateway's own code means; None where the language has no words for it."""
        known = gateway_codes().get(code)
        return self.reasons.get(known.key) if known else None

    def verb(self, command: str) -> str:
        """The word that is taught for a command, which is called as in English."""
        return self.verbs[command][0]

    def state(self, state: str) -> str:
        """The state of an operation or a broadcast, as it stands inside a sentence."""
        return self.sentences[f"state-{state}"].lower()

    def day(self, word: str) -> int | None:
        """The day that a word names, in this language or in English: Monday is 0, or TODAY or TOMORROW; else None."""
        for told in (self, sentences("en")):
            for n, words in enumerate(told.days.values()):
                if word in words:
                    return n if n < 7 else (TODAY, TOMORROW)[n - 7]
        return None

    def day_and_time(self, wall: str) -> str:
        """A wall-clock time as `2026-11-06T09:00` with the day of the week: `Fri 6 Nov 09:00`."""
        at = datetime.fromisoformat(wall)
        return f"{list(self.days.values())[at.weekday()][0]} {self.date(at)}"

    def answer(self, word: str) -> str | None:
        """`yes` or `no` where a word means that, in this language or in English; else None."""
        for told in (self, sentences("en")):
            for meaning, words in told.answers.items():
                if word in words:
                    return meaning
        return None

    def date(self, at: datetime) -> str:
        """A day and a time by the clock that `at` has: `3 Nov 14:03`."""
        from babel.dates import get_month_names

        month = get_month_names("abbreviated", locale=self.language.replace("-", "_"))[at.month].rstrip(".")
        return self.sentences["date"].format(day=at.day, month=month, time=f"{at:%H:%M}")

    def _fill(self, n: int, key: str, values: Mapping[str, Any], lengths: Mapping[tuple[int, str], int]) -> str:
        shown = {
            name: value.cut(lengths[n, name]) if isinstance(value, _CUT) else value for name, value in values.items()
        }
        return self.sentences[key].format_map(shown)

    def holes(self, key: str) -> set[str]:
        """The holes of a sentence, for the tests that fill them."""
        return {name for _, name, _, _ in string.Formatter().parse(self.sentences[key]) if name}


def _whole(value: Any) -> int:
    """How much of a value there is to keep; no more than fits, or a text of 8,000 characters is cut away one by one."""
    if isinstance(value, Spare):
        return 1
    return min(BUDGET, len(value.items if isinstance(value, Names) else value.text))


_CUT = (Names, Quote, Words, Spare)


def _spelled(text: str) -> str:
    """In GSM-7 where nothing but an accent is lost by it; another script and a picture stay as they are."""
    plain = segments.to_gsm(text)
    return plain if plain.count("?") == text.count("?") else text


def _fits(text: str, sms: int) -> bool:
    """Whether it fits: in Unicode a text holds less than half, so there it may be one text more."""
    counted = segments.count(text)
    return counted.parts <= (sms if counted.encoding == "GSM-7" else sms + 1)


def _cut_off(text: str, sms: int) -> str:
    """What is left where a value that may not be cut is absurdly long (a name of 150 letters): it fits all the same."""
    text = text[: BUDGET * sms]
    while not _fits(text + "...", sms):
        text = text[:-1]
    return text.rstrip() + "..."


def _longest(
    parts: tuple[tuple[str, Mapping[str, Any]], ...], lengths: Mapping[tuple[int, str], int]
) -> tuple[int, str] | None:
    """Which value to cut next: the one that takes most room and still has something to give; a list's last name at last."""
    room, stumps, spares, last = {}, {}, [], {}
    for (n, name), keep in lengths.items():
        value = parts[n][1][name]
        if isinstance(value, Spare):
            spares += [(n, name)] if keep else []
        elif isinstance(value, Quote) and 8 < keep <= READABLE:
            stumps[n, name] = len(value.cut(keep))
        elif keep > (1 if isinstance(value, Names) else 8):
            room[n, name] = len(value.cut(keep))
        elif keep and isinstance(value, Names):
            last[n, name] = len(value.cut(keep))
    if room:
        return max(room, key=room.__getitem__)
    cheap = [where for where in spares if parts[where[0]][1][where[1]].cheap]
    if cheap or (spares and not stumps):
        return (cheap or spares)[-1]
    rest = stumps or last
    return max(rest, key=rest.__getitem__, default=None)


@cache
def sentences(language: str | None) -> Sentences:
    """The sentences of a language (`es-MX`), else of its base language (`es`), else English."""
    name = (language or "").replace("_", "-").lower()
    while re.fullmatch(r"[a-z0-9-]+", name):
        if (path := FOLDER / f"{name}.toml").exists():
            return read(path)
        name = name.rpartition("-")[0]
    return read(FOLDER / "en.toml")


def read(path: Path) -> Sentences:
    """The sentences of one file, called by the language; what it lacks is said in English."""
    told, english = _told(path), _told(FOLDER / "en.toml")
    return Sentences(path.stem, {table: english[table] | told.get(table, {}) for table in TABLES})


TABLES = ("verbs", "usage", "sentences", "reasons", "days", "answers")


def _told(path: Path) -> dict[str, Any]:
    return tomllib.loads(path.read_text(encoding="utf-8"))
