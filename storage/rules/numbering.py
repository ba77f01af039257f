"""Which digits are certainly the number of a phone that takes texts: the common case, answered in a tenth of the library's time.

The numbering plans are the library's own (`phonenumbers`); of each calling code they are put into a few patterns that
are compiled once.  The answer is yes or *ask the library*, never a guess: yes only where the library would give back the
very digits, valid, of a mobile or of a kind that may be one, and without another reading in the home country.  A test
holds both to the same verdict over every region.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from phonenumbers import COUNTRY_CODE_TO_REGION_CODE, PhoneMetadata

_CODES = frozenset(map(str, COUNTRY_CODE_TO_REGION_CODE))
_SPECIAL = (
    "premium_rate", "toll_free", "shared_cost", "voip", "personal_number", "pager", "uan", "voicemail",
)  # fmt: skip
"""Kinds that are told apart before mobile and fixed lines are."""


@dataclass(frozen=True, slots=True)
class _Region:
    """One of the regions of a calling code: how its numbers begin, if that decides, and which it knows and can text."""

    begins: re.Pattern[str] | None
    known: re.Pattern[str]
    textable: re.Pattern[str]


@dataclass(frozen=True, slots=True)
class _Plan:
    """The numbers behind a calling code: how long they are, what is dialled before them at home, and the regions."""

    lengths: frozenset[int]
    prefix: re.Pattern[str] | None
    regions: Sequence[_Region]


@dataclass(frozen=True, slots=True)
class _Home:
    """How digits without a plus are read in a country."""

    code: str
    longest: int
    general: re.Pattern[str]
    abroad: re.Pattern[str] | None
    prefix: re.Pattern[str] | None


def is_surely_textable(digits: str, *, country: str | None) -> bool:
    """Whether these ASCII digits, country code first, are certainly a number that takes texts; `country` is the home, if any."""
    code = _code(digits[:3])
    if not code:
        return False
    plan = _plan(code)
    number = digits[len(code) :]
    if len(number) not in plan.lengths or not _is_textable(plan, number) or _is_touched(plan.prefix, number):
        return False
    return country is None or _has_one_reading(digits, code, number, country)


@cache
def _code(begins: str) -> str:
    """The calling code in the first three digits of a number; blank where there is none."""
    return next((begins[:n] for n in (1, 2, 3) if begins[:n] in _CODES), "")


def _is_textable(plan: _Plan, number: str) -> bool:
    if len(plan.regions) == 1:
        return plan.regions[0].textable.match(number) is not None
    for region in plan.regions:  # the first that fits is the number's own
        if region.begins is not None:
            if region.begins.match(number):
                return region.textable.match(number) is not None
        elif region.known.match(number):
            return region.textable.match(number) is not None
    return False


def _is_known(plan: _Plan, number: str) -> bool:
    """Whether a number may be one that is in use."""
    return any(region.known.match(number) for region in plan.regions)


def _has_one_reading(digits: str, code: str, number: str, country: str) -> bool:
    """Whether the same digits, dialled at home, are surely no other number."""
    home = _home(country)
    if home is None or (home.abroad is not None and home.abroad.match(digits)):
        return False
    if code == home.code:
        is_national = len(digits) <= home.longest and home.general.fullmatch(digits) is not None
        return not is_national and home.general.fullmatch(number) is not None and not _is_touched(home.prefix, number)
    return not _is_touched(home.prefix, digits) and not _is_known(_plan(home.code), digits)


def _is_touched(prefix: re.Pattern[str] | None, number: str) -> bool:
    """Whether a reader at home would take something away from a number, or put something in."""
    found = prefix.match(number) if prefix is not None else None
    return found is not None and (found.end() > 0 or found.lastindex is not None)


@cache
def _plan(code: str) -> _Plan:
    regions = COUNTRY_CODE_TO_REGION_CODE[int(code)]
    plans: list[Any] = [PhoneMetadata.metadata_for_region_or_calling_code(int(code), region) for region in regions]
    main = plans[0]
    return _Plan(
        lengths=frozenset(main.general_desc.possible_length),
        prefix=_compiled(main.national_prefix_for_parsing),
        regions=[_region(plan) for plan in plans if plan is not None],
    )


def _region(plan: Any) -> _Region:
    general = _pattern(plan.general_desc)
    special = "|".join(_pattern(getattr(plan, kind)) for kind in _SPECIAL)
    fixed, mobile = _pattern(plan.fixed_line), _pattern(plan.mobile)
    # Where both have the same numbers, the plan of the fixed lines is the one that is asked.
    textable = fixed if plan.same_mobile_and_fixed_line_pattern else mobile
    return _Region(
        begins=_compiled(plan.leading_digits),
        known=re.compile(f"(?={general})(?:{special}|{fixed}|{mobile})"),
        textable=re.compile(f"(?={general})(?!{special})(?:{textable})"),
    )


def _pattern(told: Any) -> str:
    """A pattern of all the numbers of a kind, to their end; one that fits nothing where there are none."""
    if told is None or not told.national_number_pattern:
        return r"(?!)"
    lengths = "|".join(rf"\d{{{length}}}\Z" for length in told.possible_length if length > 0)
    if told.possible_length and not lengths:
        return r"(?!)"
    return rf"(?={lengths})(?:{told.national_number_pattern})\Z"


@cache
def _home(country: str) -> _Home | None:
    plan: Any = PhoneMetadata.metadata_for_region(country.upper(), None)
    if plan is None:
        return None
    lengths = (*plan.general_desc.possible_length, *plan.general_desc.possible_length_local_only)
    return _Home(
        code=str(plan.country_code),
        longest=max(lengths),
        general=re.compile(plan.general_desc.national_number_pattern),
        abroad=_compiled(plan.international_prefix),
        prefix=_compiled(plan.national_prefix_for_parsing),
    )


def _compiled(pattern: str | None) -> re.Pattern[str] | None:
    return re.compile(pattern) if pattern else None
