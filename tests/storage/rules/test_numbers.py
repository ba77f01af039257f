"""Numbers as people type them: what is read, what is refused, what a person is told."""

from __future__ import annotations

import ast
import random
import string
import tomllib
from pathlib import Path

import phonenumbers
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from phonenumbers import PhoneNumberFormat, PhoneNumberType

from storage.errors import Problem
from storage.rules import numbers, phone_keys

REGIONS = sorted(phonenumbers.SUPPORTED_REGIONS)
KINDS = sorted(PhoneNumberType.values())
HOMES = [
    None,
    "GH",
    "KE",
    "US",
    "CA",
    "DE",
    "IT",
    "CI",
    "RU",
    "KZ",
    "BR",
    "AR",
    "MX",
    "AU",
    "IN",
    "SM",
    "JE",
    "001",
    "XX",
]
STORAGE = Path(numbers.__file__).parents[1]


def refusal(typed: str, **how: object) -> str:
    with pytest.raises(Problem) as caught:
        numbers.read(typed, **how)
    assert caught.value.values == {"typed": typed}
    return caught.value.key


@pytest.mark.parametrize(
    "typed",
    [
        "233244123456",
        "+233244123456",
        "00233244123456",
        "+00233244123456",
        "+233 24 412 3456",
        "+233-24-412-3456",
        "(+233) 24.412.3456",
        "+233 (0)244123456",
        "\u200e+233\u00a024\u2011412\u20133456\u202c",
        "+٢٣٣٢٤٤١٢٣٤٥٦",
        "२३३२४४१२३४५६",
        "２３３２４４１２３４５６",
        "'233244123456",
        "233244123456.0",
        "233244123456\n",
    ],
)
def test_a_number_is_read_however_it_is_typed(typed: str) -> None:
    assert numbers.read(typed) == numbers.Number("233244123456", ())


def test_a_national_number_is_read_in_the_home_country_with_a_warning() -> None:
    expected = numbers.Number("233244123456", ("number-read-as-national",))
    assert numbers.read("024 412 3456", country="GH") == expected
    assert numbers.read("244123456", country="gh") == expected


def test_a_number_dialled_abroad_from_home_is_not_called_national() -> None:
    assert numbers.read("011 233 24 412 3456", country="US") == numbers.Number("233244123456", ())
    assert numbers.read("000 254 712 345678", country="KE") == numbers.Number("254712345678", ())


def test_an_italian_number_keeps_its_leading_zero() -> None:
    assert numbers.read("06 1234 5678", country="IT").digits == "390612345678"


def test_a_number_with_its_country_code_needs_no_plus_at_home() -> None:
    assert numbers.read("254712345678", country="KE") == numbers.Number("254712345678", ())


def test_a_number_in_use_at_home_beats_one_that_is_merely_possible_abroad() -> None:
    expected = numbers.Number("12012345678", ("number-read-as-national",))
    assert numbers.read("2012345678", country="US") == expected
    assert numbers.read("+2012345678", country="US").digits == "2012345678"


def test_a_number_in_use_both_ways_is_refused_until_it_has_its_country_code() -> None:
    assert refusal("2015550123", country="US") == "number-in-two-countries"
    assert numbers.read("+2015550123", country="US").digits == "2015550123"
    assert numbers.read("+12015550123", country="US").digits == "12015550123"


def test_where_neither_reading_is_in_use_the_country_code_wins_with_a_warning() -> None:
    both = next(
        read
        for digits in (f"2{n:09}" for n in range(10**9))
        if (read := numbers.find(digits, country="US")) is not None and "number-two-readings" in read.warnings
    )
    assert "number-unknown-range" in both.warnings
    assert "number-two-readings" not in numbers.read(f"+{both.digits}", country="US").warnings


def test_the_example_of_the_documents_is_kept_with_a_warning() -> None:
    assert numbers.read("15551234567") == numbers.Number("15551234567", ("number-unknown-range",))


def test_a_fixed_line_is_kept_with_a_warning() -> None:
    assert numbers.read("+4930123456").warnings == ("number-not-mobile",)


@pytest.mark.parametrize("typed", ["15551234567", "+4930123456"])
def test_strict_programmes_refuse_what_others_are_warned_of(typed: str) -> None:
    assert refusal(typed, strict=True) == "number-not-valid"


def test_strict_programmes_still_take_national_numbers_and_numbers_that_may_be_mobile() -> None:
    assert numbers.read("0244123456", country="GH", strict=True).digits == "233244123456"
    assert numbers.read("12025550123", strict=True).warnings == ()


@pytest.mark.parametrize("typed", ["1.55512E+10", "1,55512e+10", "1E10", " 1.55512E+10 ", "+1.5E10"])
def test_a_number_typed_as_scientific_notation_is_refused(typed: str) -> None:
    assert refusal(typed) == "number-scientific"


@pytest.mark.parametrize("typed", ["1-800-FLOWERS", "15551234567x12", "c-bcdfghj", "тел 233244123456", "n/a"])
def test_letters_are_never_read_as_keypad_digits(typed: str) -> None:
    assert refusal(typed) == "number-letters"


@pytest.mark.parametrize(
    ("typed", "country", "key"),
    [
        ("", None, "number-blank"),
        (" \t", None, "number-blank"),
        ("--", None, "number-blank"),
        ("+", None, "number-blank"),
        ("123", None, "number-too-short"),
        ("+44", None, "number-too-short"),
        ("23324412", None, "number-too-short"),
        ("23324412", "GH", "number-too-short"),  # not 233 23324412, though Ghana has numbers of that length
        ("23302441234567", "GH", "number-too-long"),
        ("1" * 400, None, "number-too-long"),
        ("999123456789", None, "number-unknown-country"),
        ("0244123456", None, "number-unknown-country"),
        ("+0244123456", "GH", "number-unknown-country"),
        ("15551234", None, "number-local-only"),
        ("555 1234", "US", "number-local-only"),
        ("+233244123456 / +233244123457", None, "number-impossible"),
        ("+233#244123456", None, "number-impossible"),
        ("233244123456🙂", None, "number-impossible"),
    ],
)
def test_a_refusal_says_what_is_wrong(typed: str, country: str | None, key: str) -> None:
    assert refusal(typed, country=country) == key


def test_an_unknown_home_country_reads_nothing_as_national() -> None:
    assert numbers.find("0244123456", country="XX") is None
    assert numbers.find("233244123456", country="XX") is not None


def test_finding_answers_none_where_reading_refuses() -> None:
    assert numbers.find("p-104") is None
    assert numbers.find("+233 24 412 3456") == numbers.read("233244123456")


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet=st.characters(), max_size=30), st.sampled_from([None, "GH", "US", "DE", "IT"]))
@example("\ud800", "GH")
@example("+" * 30, None)
def test_any_text_is_read_or_refused_and_what_is_read_is_digits(typed: str, country: str | None) -> None:
    number = numbers.find(typed, country=country)
    if number is not None:
        assert set(number.digits) <= set(string.digits)
        assert numbers.read("+" + number.digits).digits == number.digits


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(sorted(phonenumbers.SUPPORTED_REGIONS)), st.booleans())
def test_every_country_s_own_example_is_read_with_and_without_plus(region: str, plus: bool) -> None:
    example_number = phonenumbers.example_number_for_type(region, phonenumbers.PhoneNumberType.MOBILE)
    if example_number is None:
        return
    e164 = phonenumbers.format_number(example_number, phonenumbers.PhoneNumberFormat.E164)
    number = numbers.read(e164 if plus else e164[1:])
    old = ("number-old-spelling",) if phone_keys.written_today(e164[1:]) else ()
    assert number == numbers.Number(e164[1:], old)


@settings(max_examples=100, deadline=None)
@given(st.text(string.digits, max_size=15))
def test_a_masked_number_hides_at_least_three_digits(digits: str) -> None:
    head, tail = numbers.masked(digits).removeprefix("+").split("***")
    assert digits.startswith(head)
    assert digits.endswith(tail)
    assert len(head) + len(tail) <= max(0, len(digits) - 3)


def test_a_masked_number_shows_enough_to_be_recognised() -> None:
    assert numbers.masked("15551234567") == "+1555***4567"


def test_the_zones_of_a_number_are_those_it_can_be_in() -> None:
    assert numbers.zones("254712345678") == ("Africa/Nairobi",)
    assert len(numbers.zones("79161234567")) > 10


@pytest.mark.parametrize("digits", ["15551234567", "8821612345678", "", "0"])
def test_a_number_of_which_nothing_is_known_has_no_zones(digits: str) -> None:
    assert numbers.zones(digits) == ()


def test_the_region_of_a_number_is_its_country() -> None:
    assert numbers.region("233244123456") == "GH"
    assert numbers.region("8821612345678") is None
    assert numbers.region("") is None


def test_every_key_that_these_modules_use_has_its_sentence() -> None:
    sentences = tomllib.loads((STORAGE / "sentences.toml").read_text("utf-8"))
    literals = {
        node.value
        for module in ("numbers", "templates")
        for node in ast.walk(ast.parse((STORAGE / "rules" / f"{module}.py").read_text("utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    used = {text for text in literals if text.startswith(("number-", "field-", "brace-")) and " " not in text}
    assert len(used) == 18
    assert used <= sentences.keys()


def test_the_sentences_of_refusals_fit_their_values_and_those_of_warnings_need_none() -> None:
    sentences = tomllib.loads((STORAGE / "sentences.toml").read_text("utf-8"))
    for key in ("number-unknown-range", "number-not-mobile", "number-read-as-national", "number-two-readings"):
        assert sentences[key].format() == sentences[key]
    assert '"0"' in sentences["number-too-short"].format(typed="0")
    assert '"nam"' in sentences["field-unknown"].format(field="nam", known="name")
    assert '"a { b"' in sentences["brace-stray"].format(near="a { b")


@pytest.mark.parametrize("typed", ["2024-01-01", "2024-01-01 00:00:00"])
def test_a_date_that_a_spreadsheet_made_is_no_number(typed):
    with pytest.raises(Problem, match="number-date"):
        numbers.read(typed, country="GH")


# -- the quick reading says nothing that the library would not say, over every region and for every home ---------------


def near(region: str, dice: random.Random) -> list[str]:
    """The examples of a region, of every kind, each with some of its digits changed, one too many and one too few."""
    found = []
    for kind in KINDS:
        example = phonenumbers.example_number_for_type(region, kind)
        if example is None:
            continue
        digits = phonenumbers.format_number(example, PhoneNumberFormat.E164)[1:]
        own = str(example.country_code)
        found += [digits, digits + "1", digits[:-1], f"{own}0{digits[len(own) :]}", f"{own}1{digits[len(own) :]}"]
        for _ in range(6):
            changed = list(digits)
            for at in dice.sample(range(len(digits)), dice.choice((1, 2, 3))):
                changed[at] = dice.choice("0123456789")
            found.append("".join(changed))
        found.append(own + "".join(dice.choices("0123456789", k=len(digits) - len(own))))
    return found


def agree(digits: str, home: str | None) -> bool:
    """Whether the quick reading said yes; it may only where the slow one has these digits and nothing to warn of."""
    quick = numbers.is_surely_textable(digits, country=home)
    if quick:
        assert numbers._judge.__wrapped__(digits, home) == numbers.Number(digits, ()), (digits, home)
    return quick


@pytest.mark.parametrize("region", REGIONS)
def test_no_region_has_a_verdict_of_its_own(region: str) -> None:
    dice = random.Random(region)
    for digits in near(region, dice):
        for home in {None, region, dice.choice(HOMES), dice.choice(REGIONS)}:
            agree(digits, home)


@settings(max_examples=300, deadline=None)
@given(st.text("0123456789", max_size=18), st.sampled_from(HOMES))
def test_any_digits_have_one_verdict(digits: str, home: str | None) -> None:
    agree(digits, home)


@pytest.mark.parametrize("home", [None, "GH", "US", "DE", "KE"])
def test_nearly_every_mobile_of_the_world_is_read_quickly(home: str | None) -> None:
    """Else the quick reading is only one more thing to do."""
    examples = [phonenumbers.example_number_for_type(region, PhoneNumberType.MOBILE) for region in REGIONS]
    mobiles = [phonenumbers.format_number(one, PhoneNumberFormat.E164)[1:] for one in examples if one is not None]
    plain = [digits for digits in mobiles if numbers._judge.__wrapped__(digits, home) == numbers.Number(digits, ())]
    assert sum(agree(digits, home) for digits in plain) >= 0.95 * len(plain) > 20


def test_what_is_no_plain_number_is_left_to_the_library() -> None:
    for digits in ("", "0", "233", "0233244123456", "999999999999", "8001234567890123456"):
        assert not numbers.is_surely_textable(digits, country="GH")
