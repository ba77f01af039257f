"""What a text costs, counted as the gateways count it."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from storage.rules import segments
from storage.rules.segments import Segments

ANY_TEXT = st.text(alphabet=st.characters(), max_size=400)


@pytest.mark.parametrize(
    ("text", "counted"),
    [
        ("", Segments("GSM-7", 0, 0, None)),
        ("a" * 160, Segments("GSM-7", 160, 1, None)),
        ("a" * 161, Segments("GSM-7", 161, 2, None)),
        ("a" * 306, Segments("GSM-7", 306, 2, None)),
        ("a" * 307, Segments("GSM-7", 307, 3, None)),
        ("€" * 80, Segments("GSM-7", 160, 1, None)),
        ("€" * 81, Segments("GSM-7", 162, 2, None)),
        ("é\n\r\fÇ", Segments("GSM-7", 6, 1, None)),
        ("ç", Segments("UCS-2", 1, 1, "ç")),
        ("a’b“", Segments("UCS-2", 4, 1, "’")),
        ("я" * 70, Segments("UCS-2", 70, 1, "я")),
        ("я" * 71, Segments("UCS-2", 71, 2, "я")),
        ("я" * 134, Segments("UCS-2", 134, 2, "я")),
        ("я" * 135, Segments("UCS-2", 135, 3, "я")),
        ("😀" * 35, Segments("UCS-2", 70, 1, "😀")),
        ("😀" * 36, Segments("UCS-2", 72, 2, "😀")),
        ("\x1b", Segments("UCS-2", 1, 1, "\x1b")),
        ("\ud800", Segments("UCS-2", 1, 1, "\ud800")),
    ],
)
def test_a_text_is_counted_as_gateways_count_it(text: str, counted: Segments) -> None:
    assert segments.count(text) == counted


def test_an_escaped_character_never_straddles_two_parts() -> None:
    assert segments.count("a" * 152 + "€" + "a" * 152).parts == 3
    assert segments.count("a" * 151 + "€" + "a" * 153).parts == 2


def test_a_surrogate_pair_never_straddles_two_parts() -> None:
    assert segments.count("я" * 66 + "😀" + "я" * 66).parts == 3
    assert segments.count("я" * 65 + "😀" + "я" * 67).parts == 2


def test_the_alphabet_is_that_of_gsm_03_38() -> None:
    single = [chr(code) for code in range(0x3000) if segments.is_gsm(chr(code))]
    assert len(single) == 127 + 10  # the table without its escape, and the extension: a page break and nine characters


@settings(max_examples=200, deadline=None)
@given(ANY_TEXT)
def test_parts_are_enough_and_never_more_than_the_pairs_can_cost(text: str) -> None:
    counted = segments.count(text)
    assert (counted.encoding == "GSM-7") == segments.is_gsm(text) == (counted.forced_by is None)
    alone, joined = (160, 153) if counted.encoding == "GSM-7" else (70, 67)
    if counted.units <= alone:
        assert counted.parts == bool(text)
    else:
        assert -(-counted.units // joined) <= counted.parts <= -(-counted.units // (joined - 1))
    if counted.encoding == "UCS-2":
        assert counted.units == len(text.encode("utf-16-le", "surrogatepass")) // 2


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("“Clinic” – it’s closed…", '"Clinic" - it\'s closed...'),
        ("informação só às três", "informacao so às tres"),
        ("¿Cuándo? mañana, él", "¿Cuando? mañana, él"),
        ("e\u0301", "é"),
        ("Ƙofa ɗaya ɓata", "Kofa daya bata"),
        ("ẹ̀kọ́", "eko"),
        ("a\u00a0b\u200bc\td", "a bc d"),
        ("½ €5 [x]", "1?2 €5 [x]"),
        ("hi 🙂 я", "hi ? ?"),
        ("1️⃣", "1"),
        ("\ud800", "?"),
    ],
)
def test_a_sentence_of_the_bot_is_put_into_the_nearest_gsm_text(text: str, plain: str) -> None:
    assert segments.to_gsm(text) == plain


@settings(max_examples=200, deadline=None)
@given(ANY_TEXT)
@example("ﷺ")
def test_the_nearest_gsm_text_is_gsm_and_stays_as_it_is(text: str) -> None:
    plain = segments.to_gsm(text)
    assert segments.is_gsm(plain)
    assert segments.to_gsm(plain) == plain
