"""Identifiers compare equal however they are typed, and ours are never read as numbers."""

from __future__ import annotations

import random
import sys
import unicodedata

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from storage.rules import identifiers, normalize, numbers

ANY_TEXT = st.text(alphabet=st.characters(), max_size=40)


@pytest.mark.parametrize(
    ("typed", "folded"),
    [
        ("  P-104 ", "P-104"),
        ("Ｐ－１０４", "P-104"),
        ("p–104", "p-104"),
        ("p−104", "p-104"),
        ("p\u200b-\u00ad104\ufeff", "p-104"),
        ("p\t104\r\n", "p 104"),
        ("p\u00a0\u2003104", "p 104"),
        ("p\x00104", "p104"),
        ("٠١٢٣٤٥٦٧٨٩", "0123456789"),
        ("۰۱۲۳۴۵۶۷۸۹", "0123456789"),
        ("०१२३४५६७८९", "0123456789"),
        ("①②", "12"),
        ("O’Neil “A”", 'O\'Neil "A"'),
        ("N´Diaye", "N'Diaye"),
        ("N`Diaye", "N'Diaye"),
        ("e\u200d\u0301", "é"),
        ("Amá", "Amá"),
    ],
)
def test_folding_writes_a_text_as_a_plain_keypad_would(typed: str, folded: str) -> None:
    assert normalize.fold(typed) == folded


def test_every_digit_of_every_script_becomes_its_plain_digit() -> None:
    for code in range(sys.maxunicode + 1):
        value = unicodedata.decimal(chr(code), None)
        if value is not None:
            assert normalize.fold(chr(code)) == str(value)


def test_half_a_surrogate_pair_can_be_folded_and_stored() -> None:
    assert normalize.fold("a\ud800b").encode() == "a\ufffdb".encode()


@settings(max_examples=200, deadline=None)
@given(ANY_TEXT)
@example("\u1100\uffa0\u1161")
@example("İ\u0345")
def test_folding_twice_changes_nothing(text: str) -> None:
    once = normalize.fold(text)
    assert normalize.fold(once) == once
    assert once == once.strip()
    assert "  " not in once
    once.encode()


@settings(max_examples=200, deadline=None)
@given(ANY_TEXT)
@example("ΐ")
def test_a_key_is_its_own_key_and_that_of_every_case(text: str) -> None:
    key = normalize.key(text)
    assert normalize.key(key) == key
    assert normalize.key(text.casefold()) == key
    assert normalize.key(f" {text}\t") == key


def test_identifiers_are_compared_without_case() -> None:
    assert normalize.key("P-104") == normalize.key("p-104")
    assert normalize.key("Straße") == normalize.key("STRASSE")


def test_an_identifier_keeps_what_was_typed_and_knows_its_phone() -> None:
    read = identifiers.read(" 024 412-3456", country="GH")
    assert read == identifiers.Identifier(" 024 412-3456", "024 412-3456", "233244123456")
    assert identifiers.read("P-104", country="GH") == identifiers.Identifier("P-104", "p-104", None)


@settings(max_examples=100, deadline=None)
@given(st.integers(min_value=0))
def test_our_case_ids_are_never_read_as_a_number(seed: int) -> None:
    case_id = identifiers.new_case_id(random.Random(seed))
    assert len(case_id) == 9
    assert normalize.key(case_id) == case_id
    assert not set(case_id[2:]) & set("aeiouyl0123456789")
    for country in (None, "GH", "US", "DE"):
        assert numbers.find(case_id, country=country) is None


def test_our_case_ids_can_be_drawn_by_the_system() -> None:
    assert identifiers.new_case_id(random.SystemRandom()).startswith("c-")


def edits(a: str, b: str) -> int:
    """How many mistakes lie between two keys, neighbours swapped counting once."""
    row = {(i, -1): i + 1 for i in range(-1, len(a))} | {(-1, j): j + 1 for j in range(-1, len(b))}
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            row[i, j] = min(row[i - 1, j] + 1, row[i, j - 1] + 1, row[i - 1, j - 1] + (x != y))
            if i and j and x == b[j - 1] and y == a[i - 1]:
                row[i, j] = min(row[i, j], row[i - 2, j - 2] + 1)
    return row[len(a) - 1, len(b) - 1]


@settings(max_examples=100, deadline=None)
@given(st.text("ab1-", max_size=5), st.text("ab1-", max_size=6))
def test_the_near_keys_are_exactly_those_one_mistake_away(key: str, other: str) -> None:
    digits_only = key.isdigit()
    typable = not digits_only or all(char in key or char.isdigit() for char in other)
    assert (other in identifiers.near(key)) == (edits(key, other) == 1 and typable)


def test_digits_are_only_mistaken_for_digits() -> None:
    assert all(near.isdigit() for near in identifiers.near("104"))
    assert {"14", "140", "105", "1044"} <= identifiers.near("104")
    assert {"p104", "p-105", "p-1o4", "-p104"} <= identifiers.near("p-104")


def test_a_sentence_has_no_near_keys() -> None:
    assert identifiers.near("x" * 65) == set()
