"""Phone numbers as people type them, and the digits that are stored.

A number is stored and compared as digits, country code first.  What is typed is read forgivingly, but never guessed:
it needs a country code that exists and a length that is possible there.  Whether the number is in a range that is
known to be in use is only a warning, because numbering plans change before libraries do.

The library turns letters into keypad digits (`1-800-FLOWERS`), so nothing with a letter in it ever reaches it.

The common case, digits that are certainly the number of a phone that takes texts, is answered in a tenth of the library's
time (`is_surely_textable`).  The numbering plans are the library's own; of each calling code they are put into a few patterns
that are compiled once.  The answer is yes or *ask the library*, never a guess: yes only where the library would give back
the very digits, valid, of a mobile or of a kind that may be one, and without another reading in the home country.  A test
holds both to the same verdict over every region.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import phonenumbers
from phonenumbers import (
    COUNTRY_CODE_TO_REGION_CODE,
    CountryCodeSource,
    NumberParseException,
    PhoneMetadata,
    PhoneNumberFormat,
    PhoneNumberType,
    ValidationResult,
)

from storage.errors import Problem
from storage.rules import phone_keys
from storage.rules.normalize import fold

_REFUSED_WHEN_STRICT = frozenset({"number-unknown-range", "number-not-mobile", "number-old-spelling"})

# Where mobile and fixed numbers share their ranges, as in North America, nobody can say which a number is.
_TEXTABLE = frozenset({PhoneNumberType.MOBILE, PhoneNumberType.FIXED_LINE_OR_MOBILE})

_SCIENTIFIC = re.compile(r"[+-]?\d+([.,]\d+)?[eE][+-]?\d+")
_DATE = re.compile(r"(19|20)\d\d-[01]\d-[0-3]\d\b")
"""A date as a spreadsheet writes it; nobody types a number so."""
_FLOAT = re.compile(r"(\+?\d{5,})\.0")
_DIAL = re.compile(r"(?P<plus>\+?)(?P<digits>\d+)")

_WHY_IMPOSSIBLE = {
    ValidationResult.TOO_SHORT: "number-too-short",
    ValidationResult.TOO_LONG: "number-too-long",
    ValidationResult.INVALID_COUNTRY_CODE: "number-unknown-country",
    ValidationResult.IS_POSSIBLE_LOCAL_ONLY: "number-local-only",
}
_WHY_UNREADABLE = {
    NumberParseException.INVALID_COUNTRY_CODE: "number-unknown-country",
    NumberParseException.TOO_LONG: "number-too-long",
}

_CALLING_CODES = frozenset(map(str, COUNTRY_CODE_TO_REGION_CODE))
_SPECIAL = (
    "premium_rate", "toll_free", "shared_cost", "voip", "personal_number", "pager", "uan", "voicemail",
)  # fmt: skip
"""Kinds that are told apart before mobile and fixed lines are."""


@dataclass(frozen=True, slots=True)
class Number:
    """A number that may be stored: its digits, country code first, and the keys of what a person should know.

    `number-unknown-range`     possible, but in no range that is known to be in use
    `number-not-mobile`        in use, but not by phones that take texts
    `number-read-as-national`  typed without a country code; the home country's was added
    `number-two-readings`      read with the country code it begins with, though it may be a number of the home country too
    `number-old-spelling`      as its country wrote it before (`phone_keys.written_today` says how it is written now)
    """

    digits: str
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Sender:
    """Who sent a text, as far as the digits say that a gateway gives: the number, country code first where it can be read.

    `is_certain` is False where the digits are two numbers that are both in use: then nothing may be done in the name of
    either, but a STOP stops all that it `may_be`, by their keys.
    """

    number: str
    is_certain: bool
    may_be: frozenset[str]


@dataclass(frozen=True, slots=True)
class _Reading:
    """One way of reading a number: the number, or the key of what forbids it."""

    number: phonenumbers.PhoneNumber | None
    why_not: str = ""


def read(typed: str, *, country: str | None = None, strict: bool = False) -> Number:
    """The number that a person meant; `country` is the programme's home, as an ISO region such as `GH`.

    Digits without `+` or `00` are read both ways: with a country code, and as dialled in the home country.  A number that is
    in use at home beats one that is merely possible abroad, with a warning; one that is in use both ways is refused, because
    ten digits typed in New York may be a phone in Egypt.  Else the reading with a country code wins, with
    `number-two-readings` where neither is known to be in use.

    A cell that a spreadsheet shows as `233244123456.0`, or with an apostrophe before it, is read as the number it was.

    Raises Problem `number-blank`, `-letters`, `-scientific`, `-date`, `-too-short`, `-too-long`, `-unknown-country`,
    `-local-only`, `-in-two-countries` or `-impossible`, and when `strict` also `-not-valid` for a number that has a warning about its range
    or kind; each with `typed`.
    """
    judged = _quickly(typed, country) or _judge(typed, country)
    if isinstance(judged, str):
        raise Problem(judged, typed=typed)
    if strict and _REFUSED_WHEN_STRICT.intersection(judged.warnings):
        raise Problem("number-not-valid", typed=typed)
    return judged


def find(typed: str, *, country: str | None = None) -> Number | None:
    """The number that a person meant, or None where `read` would raise."""
    judged = _quickly(typed, country) or _judge(typed, country)
    return None if isinstance(judged, str) else judged


def read_sender(given: str, *, is_whole: bool, country: str | None = None) -> Sender:
    """Whose number a gateway means: `is_whole` where it says that the digits begin with their country code.

    A short code and a name are taken as they are, and so are digits that are no number anywhere.
    """
    if not (given.isascii() and given.isdecimal()) or len(given) <= _LONGEST_SHORT_CODE:
        return Sender(given, is_certain=True, may_be=frozenset({given}))
    typed = f"+{given}" if is_whole else given
    judged = _quickly(typed, country) or _judge(typed, country)
    if isinstance(judged, Number):
        return Sender(judged.digits, is_certain=True, may_be=phone_keys.may_be(judged.digits))
    if judged == "number-in-two-countries" and country is not None:
        both = [_reading(f"+{given}", None).number, _reading(given, country.upper()).number]
        each = [given, *(_digits(one) for one in both if one is not None)]
        return Sender(given, is_certain=False, may_be=frozenset().union(*map(phone_keys.may_be, each)))
    return Sender(given, is_certain=True, may_be=phone_keys.may_be(given))


_LONGEST_SHORT_CODE = 6


def is_surely_textable(digits: str, *, country: str | None) -> bool:
    """Whether these ASCII digits, country code first, are certainly a number that takes texts; `country` is the home, if any."""
    code = _code(digits[:3])
    if not code:
        return False
    plan = _plan(code)
    number = digits[len(code) :]
    if len(number) not in plan.lengths or not _is_textable(plan, number) or _is_touched(plan.prefix, number):
        return False
    if phone_keys.written_today(digits) is not None:
        return False
    return country is None or _has_one_reading(digits, code, number, country)


def warning(key: str, digits: str, *, typed: str | None = None) -> Problem:
    """One of the warnings about a number, with what its sentence says: as it was `typed`, its `digits`, how it is written `today`."""
    return Problem(key, typed=typed or digits, digits=digits, today=phone_keys.written_today(digits) or digits)


def masked(digits: str) -> str:
    """The number for logs and answers: `+1555***4567`.

    At least three digits are hidden, and the three stars never say how many.
    """
    shown = min(8, max(0, len(digits) - 3))
    tail = shown // 2
    return f"+{digits[: shown - tail]}***{digits[len(digits) - tail :]}"


@lru_cache(maxsize=4096)
def zones(digits: str) -> tuple[str, ...]:
    """The IANA time zones that a number can be in; none where nothing is known of its range."""
    from phonenumbers import timezone

    number = _parsed(f"+{phone_keys.written_today(digits) or digits}", None).number
    names = timezone.time_zones_for_number(number) if number else ()
    return tuple(name for name in names if name != timezone.UNKNOWN_TIMEZONE)


@lru_cache(maxsize=4096)
def region(digits: str) -> str | None:
    """The ISO region that a number belongs to; None where it belongs to none (satellites) or nothing is known."""
    number = _parsed(f"+{phone_keys.written_today(digits) or digits}", None).number
    name = phonenumbers.region_code_for_number(number) if number else None
    return None if name == phonenumbers.REGION_CODE_FOR_NON_GEO_ENTITY else name


def _quickly(typed: str, country: str | None) -> Number | None:
    """What `_judge` would say of digits as they should be, in a tenth of the time; None where it has to be asked."""
    if not typed.isascii():
        return None
    if typed.isdecimal():
        return Number(typed, ()) if is_surely_textable(typed, country=country) else None
    digits = typed[1:]
    if typed[:1] != "+" or not digits.isdecimal():
        return None
    return Number(digits, ()) if is_surely_textable(digits, country=None) else None  # after a plus there is one reading


@lru_cache(maxsize=4096)
def _judge(typed: str, country: str | None) -> Number | str:
    """The number, or the key of the problem: a refusal is remembered as well as an answer."""
    text = fold(typed).lstrip("'")
    if _SCIENTIFIC.fullmatch(text):
        return "number-scientific"
    if _DATE.match(text):
        return "number-date"
    if any(char.isalpha() for char in text):
        return "number-letters"
    text = _FLOAT.sub(r"\1", text) if _FLOAT.fullmatch(text) else text
    dial = re.sub(r"[\s().\[\]-]", "", text)
    if dial in {"", "+"}:
        return "number-blank"
    found = _DIAL.fullmatch(dial)
    if not found:
        return "number-impossible"
    return _choose(found["digits"], explicit=bool(found["plus"]), country=country)


def _choose(digits: str, *, explicit: bool, country: str | None) -> Number | str:
    """The reading that wins; `explicit` digits stood after a plus and have only one."""
    whole = digits.removeprefix("00")
    abroad = _reading(f"+{whole}", None)
    if explicit or country is None:
        return _number(abroad.number) if abroad.number else _old_spelling(whole) or abroad.why_not
    home = _reading(digits, country.upper())
    if _is_in_use(home) and home.number and not (abroad.number and _digits(abroad.number) == _digits(home.number)):
        if _is_in_use(abroad):
            return "number-in-two-countries"
        return _number(home.number, *_dialled(home.number))
    own_code = str(phonenumbers.country_code_for_region(country.upper()))
    old = _old_spelling(own_code + digits) or _old_spelling(own_code + digits.removeprefix("0"))
    if old is not None and not _is_in_use(abroad):
        return old
    if abroad.number:
        unsure = home.number and not _is_in_use(abroad) and _digits(home.number) != _digits(abroad.number)
        return _number(abroad.number, *(("number-two-readings",) if unsure else ()))
    # Digits that begin with the home country's own code lack one or have one too many: reading them as national would
    # put that code before them once more, which is only right when the outcome is a number in use.
    coded = whole.startswith(own_code)
    if home.number and not coded:
        return _number(home.number, *_dialled(home.number))
    return _old_spelling(whole) or (abroad.why_not if coded else home.why_not)


def _is_in_use(reading: _Reading) -> bool:
    """Whether it is a number of a range that is known to be in use."""
    return reading.number is not None and phonenumbers.is_valid_number(reading.number)


def _dialled(home: phonenumbers.PhoneNumber) -> tuple[str, ...]:
    dialled = home.country_code_source == CountryCodeSource.FROM_DEFAULT_COUNTRY
    return ("number-read-as-national",) if dialled else ()


def _old_spelling(digits: str) -> Number | None:
    """A number that no plan knows any more, where it is the former spelling of one that some plan knows."""
    return Number(digits, ("number-old-spelling",)) if phone_keys.written_today(digits) else None


def _number(parsed: phonenumbers.PhoneNumber, *warnings: str) -> Number:
    if phone_keys.written_today(_digits(parsed)):
        warnings = ("number-old-spelling", *warnings)
    elif not phonenumbers.is_valid_number(parsed):
        warnings = ("number-unknown-range", *warnings)
    elif phonenumbers.number_type(parsed) not in _TEXTABLE:
        warnings = ("number-not-mobile", *warnings)
    return Number(_digits(parsed), warnings)


def _digits(parsed: phonenumbers.PhoneNumber) -> str:
    return phonenumbers.format_number(parsed, PhoneNumberFormat.E164).removeprefix("+")


def _reading(dial: str, country: str | None) -> _Reading:
    """The number if its length is possible where it belongs, dialled in full."""
    parsed = _parsed(dial, country)
    if parsed.number is None:
        return parsed
    verdict = phonenumbers.is_possible_number_with_reason(parsed.number)
    if verdict == ValidationResult.IS_POSSIBLE:
        return parsed
    return _Reading(None, _WHY_IMPOSSIBLE.get(verdict, "number-impossible"))


def _parsed(dial: str, country: str | None) -> _Reading:
    try:
        return _Reading(phonenumbers.parse(dial, country, keep_raw_input=True))
    except NumberParseException as refusal:
        return _Reading(None, _WHY_UNREADABLE.get(refusal.error_type, "number-too-short"))


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


@cache
def _code(begins: str) -> str:
    """The calling code in the first three digits of a number; blank where there is none."""
    return next((begins[:n] for n in (1, 2, 3) if begins[:n] in _CALLING_CODES), "")


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


def _pattern(kind: Any) -> str:
    """A pattern of all the numbers of a kind, to their end; one that fits nothing where there are none."""
    if kind is None or not kind.national_number_pattern:
        return r"(?!)"
    lengths = "|".join(rf"\d{{{length}}}\Z" for length in kind.possible_length if length > 0)
    if kind.possible_length and not lengths:
        return r"(?!)"
    return rf"(?={lengths})(?:{kind.national_number_pattern})\Z"


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
