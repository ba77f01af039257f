"""When a text may arrive: quiet hours by the recipient's own clock.

The rule is protected by asking the clock itself: a moment is allowed when, in every zone where the phone can be, the
wall clock stands within the hours.  A zone's offset is looked up wherever it is used and never kept, so a clock that
is put forward or back, at whatever hour, needs no case of its own.

When a phone can be in zones so far apart that they share less than three hours of a day, no moment suits all of them.
The hours are then the three round the middle: each zone's window has a middle, and the mean of those moments is the
centre.  (`Hours` that are themselves shorter than three are never made longer.)  Whether a day is such a day is asked
for each day as UTC counts it.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo, available_timezones

from storage.rules import numbers

_MINUTE = timedelta(minutes=1)
_DAY = timedelta(days=1)
_AT_LEAST = timedelta(hours=3)

Stretch = tuple[datetime, datetime]
"""Moments in UTC, from the first up to but without the last."""

_HOURS = re.compile(r"(\d{1,2})(?::(\d\d))?\s*(?:-|\u2013|to)\s*(\d{1,2})(?::(\d\d))?")


@dataclass(frozen=True, slots=True)
class Hours:
    """The hours of a day in which texting is allowed, by a wall clock; they cross midnight when `closes` is earlier."""

    opens: time = time(9)
    closes: time = time(20)

    def __post_init__(self) -> None:
        """Refuse hours that end where they begin: they could mean the whole day or none of it."""
        if self.opens == self.closes:
            raise ValueError("The hours end where they begin; to allow the whole day, turn quiet hours off.")

    @classmethod
    def parse(cls, text: str) -> Hours:
        """The hours in `09:00-20:00`; `9-20` and `22:00-24:00` do too.  Raises ValueError with a sentence."""
        found = _HOURS.fullmatch(text.strip())
        if not found:
            raise ValueError(f'"{text}" are no hours: write them as 09:00-20:00.')
        opens_h, opens_m, closes_h, closes_m = (int(part or 0) for part in found.groups())
        if (closes_h, closes_m) == (24, 0):
            closes_h = 0
        try:
            return cls(time(opens_h, opens_m), time(closes_h, closes_m))
        except ValueError as fault:
            if "hours end" in str(fault):
                raise
            raise ValueError(f'"{text}" holds a time that no clock shows: write the hours as 09:00-20:00.') from None

    def holds(self, wall: time) -> bool:
        """Whether a time on a wall clock is within them."""
        if self.opens < self.closes:
            return self.opens <= wall < self.closes
        return wall >= self.opens or wall < self.closes

    @property
    def length(self) -> timedelta:
        """How long they last on a day without a change of clocks."""
        day = date(2000, 1, 1)
        return (datetime.combine(day, self.closes) - datetime.combine(day, self.opens)) % _DAY


def zones_of(time_zone: str | None, phone: str, *, home_zone: str) -> tuple[str, ...]:
    """The zones whose clocks count for a case: never none.

    Its own zone if it has one that is known here (a list of zones grows and shrinks); else the programme's, when the number's country has it or nothing is known of the
    number; else every zone that the number can be in.  A home zone that merely shows the same time today is no match.
    """
    if time_zone and valid_zone(time_zone):
        return (time_zone,)
    candidates = numbers.zones(phone)
    if not candidates or _shares_country(home_zone, phone, candidates):
        return (home_zone,)
    return candidates


def next_allowed(at: datetime, zones: tuple[str, ...], hours: Hours | None) -> datetime:
    """`at` itself if texting is allowed then, else the first whole minute after it, in UTC; no hours: always allowed."""
    if hours is None:
        return at
    start, _ = _stretch(at, zones, hours)
    return at if start <= at else start


def closes_at(at: datetime, zones: tuple[str, ...], hours: Hours | None) -> datetime | None:
    """When the allowed stretch ends that `next_allowed` falls in, in UTC; None if there are no hours."""
    return None if hours is None else _stretch(at, zones, hours)[1]


def instant(wall: datetime, zone: str) -> datetime:
    """The moment, in UTC, at which the clocks of a zone show this time; an hour that is skipped counts as the one after.

    Of an hour that comes twice it is the first.
    """
    return wall.replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)


def valid_zone(name: str) -> bool:
    """Whether a name is an IANA time zone, written exactly so."""
    return name in _zone_names()


def nearest_zones(name: str, n: int = 3) -> list[str]:
    """The zones whose name, or whose city's name, is most like what was typed; the likest first."""
    index = _zones_by_spelling()
    likely = difflib.get_close_matches(_spelling(name), index, n=max(n, 1), cutoff=0.7)
    return list(dict.fromkeys(zone for spelling in likely for zone in index[spelling]))[:n]


# ---- hours -------------------------------------------------------------------------------------------------------


def _stretch(at: datetime, zones: tuple[str, ...], hours: Hours) -> Stretch:
    """The allowed stretch that `at` is in, or the first one after it."""
    if at.tzinfo is None or not zones:
        raise ValueError("next_allowed needs an aware time and at least one zone")
    day = at.astimezone(UTC).date()
    while True:
        for start, end in _stretches_round(day, zones, hours):
            if at < end:
                return start, end
        day += _DAY


@lru_cache(maxsize=1024)
def _stretches_round(day: date, zones: tuple[str, ...], hours: Hours) -> tuple[Stretch, ...]:
    """The allowed stretches of the days round `day`, those that meet at midnight joined."""
    days = (day + i * _DAY for i in range(-1, 4))
    return tuple(_joined(stretch for each in days for stretch in _allowed_on(each, zones, hours)))


@lru_cache(maxsize=4096)
def _allowed_on(day: date, zones: tuple[str, ...], hours: Hours) -> tuple[Stretch, ...]:
    """The moments of a UTC day that suit every zone, or those round the middle where too few do."""
    whole_day = _whole(day)
    common: tuple[Stretch, ...] = (whole_day,)
    for zone in zones:
        common = tuple(_overlaps(common, _open_on(day, zone, hours)))
    enough = min(_AT_LEAST, hours.length)
    if len(zones) == 1 or sum((end - start for start, end in common), timedelta()) >= enough:
        return common
    middles = [_middle(day + i * _DAY, zones, hours) for i in (-1, 0, 1)]
    return tuple(_overlaps([whole_day], [(middle - enough / 2, middle + enough / 2) for middle in middles]))


def _middle(day: date, zones: tuple[str, ...], hours: Hours) -> datetime:
    """The mean of the moments at which the zones' windows of one local date are half over, to the minute."""
    wall = datetime.combine(day, hours.opens) + hours.length / 2
    total = sum(wall.replace(tzinfo=ZoneInfo(zone)).timestamp() for zone in zones)
    return datetime.fromtimestamp(total / len(zones) // 60 * 60, UTC)


@lru_cache(maxsize=8192)
def _open_on(day: date, zone: str, hours: Hours) -> tuple[Stretch, ...]:
    """The moments of a UTC day at which the clock of a zone stands within the hours."""
    return tuple(_joined(_open_between(*_whole(day), ZoneInfo(zone), hours)))


def _open_between(start: datetime, end: datetime, zone: ZoneInfo, hours: Hours) -> Iterator[Stretch]:
    """The open moments between two; halved until no clock changes within, down to the minute of the change."""
    first, last = start.astimezone(zone), (end - _MINUTE).astimezone(zone)
    if first.utcoffset() != last.utcoffset():
        half = start + (end - start) / 2
        half -= timedelta(seconds=half.second, microseconds=half.microsecond)
        yield from _open_between(start, half, zone, hours)
        yield from _open_between(half, end, zone, hours)
        return
    wall = first.replace(tzinfo=None)
    windows = [(opens, opens + hours.length) for opens in _openings(wall.date(), hours)]
    for opens, closes in _overlaps([(wall, wall + (end - start))], windows):
        yield start + (opens - wall), start + (closes - wall)


def _openings(day: date, hours: Hours) -> list[datetime]:
    return [datetime.combine(day + i * _DAY, hours.opens) for i in (-1, 0, 1)]


def _whole(day: date) -> Stretch:
    midnight = datetime.combine(day, time(), UTC)
    return midnight, midnight + _DAY


def _overlaps(these: Iterable[Stretch], those: Iterable[Stretch]) -> Iterator[Stretch]:
    """What two ordered rows of stretches have in common, in order."""
    those = list(those)
    for start, end in these:
        for other_start, other_end in those:
            if max(start, other_start) < min(end, other_end):
                yield max(start, other_start), min(end, other_end)


def _joined(stretches: Iterable[Stretch]) -> Iterator[Stretch]:
    """Ordered stretches, with those that meet made one."""
    pending: Stretch | None = None
    for start, end in stretches:
        if pending and pending[1] >= start:
            pending = pending[0], end
            continue
        if pending:
            yield pending
        pending = start, end
    if pending:
        yield pending


# ---- names of zones ----------------------------------------------------------------------------------------------


def _shares_country(zone: str, phone: str, candidates: tuple[str, ...]) -> bool:
    """Whether a number's country has a zone; an old name of a zone (Asia/Calcutta) is as good as its new one."""
    from babel.core import get_global

    canonical = get_global("zone_aliases").get(zone, zone)
    if zone in candidates or canonical in candidates:
        return True
    country = get_global("zone_territories").get(canonical)
    return country is not None and country == numbers.region(phone)


@lru_cache(maxsize=1)
def _zone_names() -> frozenset[str]:
    # The directory of zones also holds two names that say nothing about a place.
    return frozenset(available_timezones()) - {"Factory", "localtime"}


@lru_cache(maxsize=1)
def _zones_by_spelling() -> dict[str, list[str]]:
    """Zones by their name and by their last part, letters and digits only; those of places before the others."""
    index: dict[str, list[str]] = {}
    for zone in sorted(_zone_names(), key=lambda zone: (zone.startswith("Etc/") or "/" not in zone, zone)):
        for spelling in {_spelling(zone), _spelling(zone.rpartition("/")[2])}:
            index.setdefault(spelling, []).append(zone)
    return index


def _spelling(name: str) -> str:
    return "".join(char for char in name.casefold() if char.isalnum() or char in "+")
