"""Leaving is easy, coming back explicit, and no ordinary sentence is either."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.rules import optout
from storage.rules.optout import GATEWAY_WORDS, HELP_WORDS, START_WORDS, STOP_WORDS, Words


def every(words: Words) -> list[str]:
    return sorted({word for of_language in words.values() for word in of_language})


@pytest.mark.parametrize("word", every(STOP_WORDS))
def test_every_stop_word_stops_in_any_case_and_dress(word: str) -> None:
    for text in (word, word.upper(), word.capitalize(), f'"{word}"', f" {word}!! ", f"«{word}».", f"{word} 🙏"):
        assert optout.read(text) == optout.read(text, whole=True) == "stop"


@pytest.mark.parametrize("word", every(START_WORDS))
def test_every_start_word_starts(word: str) -> None:
    for text in (word, word.upper(), f'"{word}"', f" {word}!! "):
        assert optout.read(text) == optout.read(text, whole=True) == "start"


@pytest.mark.parametrize("word", every(HELP_WORDS))
def test_every_help_word_asks_for_help(word: str) -> None:
    for text in (word, word.upper(), f"{word}?", f"({word})"):
        assert optout.read(text) == optout.read(text, whole=True) == "help"


@pytest.mark.parametrize(
    "text",
    [
        "S T O P",
        "s.t.o.p",
        "sto p",
        "ST0P",
        "Ｓｔｏｐ",
        "stóp",
        "ЅТОР",  # Cyrillic
        "ΕΝD",  # Greek
        "ＳＴＯＰ",
        "s\u200btop",
        "\ud83dSTOP",
        "ARRÊTÉ",
        "Arrêt.",
        "opt out",
        "OPT-OUT",
        "Stop all",
        "İPTAL",
        "الغاء",
        "قِفْ",
        "停止。",
    ],
)
def test_a_stop_word_is_recognised_through_accents_look_alikes_and_letters_apart(text: str) -> None:
    assert optout.read(text) == "stop"


@pytest.mark.parametrize(
    "text",
    [
        "Hello\nSTOP",
        "stop\nthanks",
        "thanks\r\n'Stop'\r\nAma",
        "a\u2028stop",
        "Stop. Thank you",
        "Stop! I moved",
        "बंद। धन्यवाद",
    ],
)
def test_a_stop_word_counts_alone_on_a_line_or_as_the_first_sentence(text: str) -> None:
    assert optout.read(text) == "stop"
    assert optout.read(text, whole=True) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   ",
        "stopping by later",
        "please don't stop",
        "the end",
        "End of month",
        "I want to stop",
        "Cancel? no",
        "stop.com is down",
        "nonstop",
        "si mama",  # "not mother", though simama is a stop word
        "start now please",
        "can you help",
        "helpful",
        "informed",
        "st art",
        "hélp",  # only leaving is read generously
        "ѕtart",
        "\ud800",
    ],
)
def test_a_word_inside_other_words_is_no_command(text: str) -> None:
    assert optout.read(text) is None


@pytest.mark.parametrize(
    "text", ["yes", "YES", "Yes.", "y", "sí", "si", "oui", "sim", "ndiyo", "ndio", "نعم", "हाँ", "ja", "да", "ok"]
)
def test_yes_is_never_a_start_word(text: str) -> None:
    assert optout.read(text) is None


def test_stopping_wins_over_starting_and_starting_over_help() -> None:
    assert optout.read("start\nhelp\nstop") == "stop"
    assert optout.read("help\nstart") == "start"


def test_no_word_means_two_things() -> None:
    stop, start, asked = set(every(STOP_WORDS)), set(every(START_WORDS)), set(every(HELP_WORDS))
    assert not (stop & start or stop & asked or start & asked)


def test_whatever_a_gateway_acts_on_is_understood_here_but_yes() -> None:
    for word in GATEWAY_WORDS - {"yes"}:
        assert optout.read(word) is not None
    assert GATEWAY_WORDS - {"yes"} <= {*STOP_WORDS["en"], *STOP_WORDS["fr"], *START_WORDS["en"], *HELP_WORDS["en"]}


def test_the_words_of_the_law_are_among_the_stop_words() -> None:
    law = {"stop", "quit", "end", "revoke", "opt out", "cancel", "unsubscribe"}
    assert law <= set(STOP_WORDS["en"])


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet=st.characters(), max_size=60), st.booleans())
def test_any_text_can_be_read(text: str, whole: bool) -> None:
    assert optout.read(text, whole=whole) in {None, "stop", "start", "help"}


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(every(STOP_WORDS)), st.text(st.characters(categories=["Zs", "Po", "Ps", "Pe", "Cf"]), max_size=6)
)
def test_nothing_that_writes_no_letter_hides_a_stop_word(word: str, around: str) -> None:
    assert optout.read(around + word + around, whole=True) == "stop"
