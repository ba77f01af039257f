"""The quick reading of digits says nothing that the library would not say, over every region and for every home."""

from __future__ import annotations

import random

import phonenumbers
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from phonenumbers import PhoneNumberFormat, PhoneNumberType

from storage.rules import numbers
from storage.rules.numbering import is_surely_textable

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
    quick = is_surely_textable(digits, country=home)
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
        assert not is_surely_textable(digits, country="GH")
