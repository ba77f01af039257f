"""A key and a language become a sentence that fits one text.

Sentences live in `locales/<language>.toml`, keyed by meaning.  An answer is one SMS: GSM-7 and at most 160 characters.
Values that may be cut are marked so: a `Names` list drops its end ("+3"), a `Quote` or `Words` its tail ("...").
"""

from __future__ import annotations

import string
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from storage import segments

BUDGET = 160
_FOLDER = Path(__file__).parent / "locales"


@dataclass(frozen=True, slots=True)
class Names:
    """A list that may be cut from its end; how many were cut is always said."""

    items: tuple[str, ...]

    def cut(self, keep: int) -> str:
        """The first `keep` items and how many more there are."""
        left = len(self.items) - keep
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


def shorten(text: str, at_most: int) -> str:
    """The text, or its beginning and dots."""
    return text if len(text) <= at_most else text[: at_most - 3].rstrip() + "..."


def names(items: Iterable[object]) -> Names:
    """A list for an answer, in the order given."""
    return Names(tuple(str(item) for item in items))


class Sentences:
    """The sentences and verbs of one language."""

    def __init__(self, language: str, told: Mapping[str, Any]) -> None:
        self.language = language
        self.sentences: Mapping[str, str] = told["sentences"]
        self.reasons: Mapping[str, str] = told["reasons"]
        self.verbs: Mapping[str, list[str]] = told["verbs"]
        self.usage: Mapping[str, str] = told["usage"]

    def say(self, *parts: tuple[str, Mapping[str, Any]]) -> str:
        """One answer made of sentences, cut to fit one text."""
        # Never more than fits: a text of 8,000 characters would be cut away one by one.
        lengths = {
            (n, name): min(BUDGET, len(value.items if isinstance(value, Names) else value.text))
            for n, (_, values) in enumerate(parts)
            for name, value in values.items()
            if isinstance(value, Names | Quote | Words)
        }
        while True:
            text = segments.to_gsm(" ".join(self._fill(n, *part, lengths) for n, part in enumerate(parts)))
            if segments.count(text).units <= BUDGET:
                return text
            if not (longest := _longest(parts, lengths)):
                return _cut_off(text)
            lengths[longest] -= 1

    def reason(self, key: str | None, code: str | None = None) -> str:
        """Why a message is where it is, in words; an unknown reason is shown as it is."""
        words = self.reasons.get(key or "", key or "")
        by_code = self.reasons.get(f"code-{code}")
        return f"{by_code or words} (gateway {code})" if code else words

    def _fill(self, n: int, key: str, values: Mapping[str, Any], lengths: Mapping[tuple[int, str], int]) -> str:
        shown = {
            name: value.cut(lengths[n, name]) if isinstance(value, Names | Quote | Words) else value
            for name, value in values.items()
        }
        return self.sentences[key].format_map(shown)

    def holes(self, key: str) -> set[str]:
        """The holes of a sentence, for the tests that fill them."""
        return {name for _, name, _, _ in string.Formatter().parse(self.sentences[key]) if name}


def _cut_off(text: str) -> str:
    """What is left where a value that may not be cut is absurdly long (a name of 150 letters): one text all the same."""
    while segments.count(text + "...").units > BUDGET:
        text = text[:-1]
    return text.rstrip() + "..."


def _longest(
    parts: tuple[tuple[str, Mapping[str, Any]], ...], lengths: Mapping[tuple[int, str], int]
) -> tuple[int, str] | None:
    """Which value to cut next: the one that takes most room and still has something to give."""
    room = {}
    for (n, name), keep in lengths.items():
        least = 1 if isinstance(parts[n][1][name], Names) else 8
        if keep > least:
            room[n, name] = len(parts[n][1][name].cut(keep))
    return max(room, key=lambda where: room[where]) if room else None


@cache
def sentences(language: str | None) -> Sentences:
    """The sentences of a language, else of its base language, else English."""
    for name in (language or "", (language or "").split("-")[0], "en"):
        path = _FOLDER / f"{name}.toml"
        if name.isalpha() and path.exists():
            return Sentences(name, tomllib.loads(path.read_text(encoding="utf-8")))
    raise FileNotFoundError("bot/locales/en.toml")
