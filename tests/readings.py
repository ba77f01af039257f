"""How national mobile numbers are read that were typed without a country code: `python -m tests.readings GH IN BR`.

Of each country so many valid mobile numbers by chance, the same in each run, read with that country as the home.
"""

from __future__ import annotations

import random
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

import phonenumbers
from phonenumbers import PhoneMetadata, PhoneNumber, PhoneNumberType

from storage.errors import Problem
from storage.rules import numbers

MANY: Final = 400
USUAL: Final = "GH KE NG TZ UG ZM ZA ET IN BD PK NP PH ID US MX BR AR CO GB FR DE"


def mobiles(region: str, dice: random.Random) -> Iterator[tuple[int, str]]:
    """Valid mobile numbers of a country by chance, without end: the calling code, and the digits as dialled at home."""
    code = PhoneMetadata.metadata_for_region(region).country_code
    length = len(str(phonenumbers.example_number_for_type(region, PhoneNumberType.MOBILE).national_number))
    while True:
        digits = str(dice.randrange(10 ** (length - 1), 10**length))
        number = PhoneNumber(country_code=code, national_number=int(digits))
        if phonenumbers.is_valid_number_for_region(number, region) and phonenumbers.number_type(number) in (
            PhoneNumberType.MOBILE,
            PhoneNumberType.FIXED_LINE_OR_MOBILE,
        ):
            yield code, digits


def reading(digits: str, code: int, region: str) -> str:
    """What is made of such a number: `home`, `abroad`, or `asked` for its country code."""
    try:
        read = numbers.read(digits, country=region)
    except Problem:
        return "asked"
    return "home" if read.digits == f"{code}{digits}" else "abroad"


def shares(region: str) -> Counter[str]:
    """Of so many numbers of a country how many are read in which way."""
    found = mobiles(region, random.Random(region))
    return Counter(reading(digits, code, region) for (code, digits), _ in zip(found, range(MANY), strict=False))


def main(regions: Sequence[str]) -> None:
    """Print a row for each country."""
    print("country  home  abroad  asked")
    for region in regions or USUAL.split():
        found = shares(region)
        each = (f"{100 * found[way] / MANY:5.1f}%" for way in ("home", "abroad", "asked"))
        print(f"{region:7}", *each)


if __name__ == "__main__":
    main(sys.argv[1:])
