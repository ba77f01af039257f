"""Quiet hours by the recipient's clock, whatever that clock does."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from phonenumbers.tzdata import TIMEZONE_DATA

from storage.rules import numbers, quiet_hours
from storage.rules.quiet_hours import Hours, closes_at, next_allowed, zones_of

QUARTER = timedelta(minutes=15)
DAY = Hours()
NIGHTS = (Hours(time(1, 30), time(4, 30)), Hours(time(22), time(2, 30)), Hours(time(23, 45), time(0, 15)))
FAR_APART = ("Asia/Kamchatka", "Europe/Kaliningrad")
PHONE_ZONES = sorted({zone for zones in TIMEZONE_DATA.values() for zone in zones})


def clock_says_yes(at: datetime, zone: str, hours: Hours) -> bool:
    """The rule itself, asked of one wall clock."""
    wall = at.astimezone(ZoneInfo(zone)).time()
    if hours.opens < hours.closes:
        return hours.opens <= wall < hours.closes
    return wall >= hours.opens or wall < hours.closes


def changes_of(zone: str, year: int) -> Iterator[datetime]:
    """The hours of a year within which the offset of a zone changes."""
    clock = ZoneInfo(zone)
    day = datetime(year, 1, 1, tzinfo=UTC)
    while day.year == year:
        after = day + timedelta(days=1)
        if day.astimezone(clock).utcoffset() != after.astimezone(clock).utcoffset():
            hours = (day + timedelta(hours=h) for h in range(24))
            yield next(
                h
                for h in hours
                if h.astimezone(clock).utcoffset() != (h + timedelta(hours=1)).astimezone(clock).utcoffset()
            )
        day = after


def must_be_first_allowed(at: datetime, zone: str, hours: Hours) -> None:
    found = next_allowed(at, (zone,), hours)
    if clock_says_yes(at, zone, hours):
        assert found is at
    else:
        assert found > at
        assert found.tzinfo is UTC
        assert found.second == found.microsecond == 0
        assert clock_says_yes(found, zone, hours)
        assert not clock_says_yes(found - timedelta(minutes=1), zone, hours)
        while at < found:
            assert not clock_says_yes(at, zone, hours)
            at += timedelta(hours=1)


def test_nobody_is_texted_at_night_on_the_day_their_clock_changes() -> None:
    seen = set()
    for zone in sorted(quiet_hours._zone_names()):
        for change in changes_of(zone, 2026):
            offsets = [(change + i * timedelta(hours=1)).astimezone(ZoneInfo(zone)).utcoffset() for i in (0, 1)]
            if (change, *offsets) in seen:
                continue  # another name for the same clock
            seen.add((change, *offsets))
            for hours in (DAY, *NIGHTS):
                for i in range(-12, 17):
                    must_be_first_allowed(change + i * QUARTER, zone, hours)
    assert len(seen) > 30


@pytest.mark.parametrize(
    "zone", ["America/New_York", "Europe/London", "Australia/Lord_Howe", "Antarctica/Troll", "Africa/Cairo"]
)
def test_every_quarter_of_the_days_round_a_change_follows_the_clock(zone: str) -> None:
    for change in changes_of(zone, 2026):
        for hours in (DAY, NIGHTS[1]):
            for i in range(-96, 97):
                must_be_first_allowed(change + i * QUARTER, zone, hours)


@settings(max_examples=150, deadline=None)
@given(
    st.datetimes(datetime.fromisoformat("2020-01-01"), datetime.fromisoformat("2035-01-01")),
    st.sampled_from(PHONE_ZONES),
    st.sampled_from([DAY, *NIGHTS]),
)
def test_any_moment_in_any_zone_follows_the_clock(naive: datetime, zone: str, hours: Hours) -> None:
    must_be_first_allowed(naive.replace(tzinfo=UTC), zone, hours)


@settings(max_examples=100, deadline=None)
@given(
    st.datetimes(datetime.fromisoformat("2026-01-01"), datetime.fromisoformat("2027-01-01")),
    st.lists(st.sampled_from(PHONE_ZONES), min_size=2, max_size=5).map(tuple),
)
def test_a_phone_that_can_be_in_many_zones_is_texted_when_all_allow_it_or_round_the_middle(
    naive: datetime, zones: tuple[str, ...]
) -> None:
    at = naive.replace(tzinfo=UTC)
    found = next_allowed(at, zones, DAY)
    end = closes_at(at, zones, DAY)
    assert at <= found < at + timedelta(days=2)
    assert end is not None
    assert found < end
    assert next_allowed(found, zones, DAY) == found
    assert next_allowed(end, zones, DAY) >= end
    suits_all = {q: all(clock_says_yes(q, zone, DAY) for zone in zones) for q in quarters_of(at, found)}
    for quarter, suits in suits_all.items():
        shared = sum(suits_all[q] for q in suits_all if q.date() == quarter.date()) * QUARTER
        # Only on a day that the zones hardly share may a clock be overruled.
        if shared >= timedelta(hours=3):
            assert suits == (next_allowed(quarter, zones, DAY) is quarter)


def quarters_of(first: datetime, last: datetime) -> list[datetime]:
    """The quarters of an hour of the UTC days from one moment to another."""
    midnight = datetime.combine(first.date(), time(), UTC)
    days = (last.date() - first.date()).days + 1
    return [midnight + i * QUARTER for i in range(96 * days)]


def test_hours_are_open_from_the_first_moment_to_before_the_last() -> None:
    nine, eight = datetime(2026, 3, 2, 9, tzinfo=UTC), datetime(2026, 3, 2, 20, tzinfo=UTC)
    zones = ("Africa/Accra",)
    assert next_allowed(nine, zones, DAY) is nine
    assert next_allowed(eight, zones, DAY) == datetime(2026, 3, 3, 9, tzinfo=UTC)
    assert next_allowed(eight - timedelta(microseconds=1), zones, DAY) == eight - timedelta(microseconds=1)
    assert closes_at(nine, zones, DAY) == eight
    assert closes_at(eight, zones, DAY) == datetime(2026, 3, 3, 20, tzinfo=UTC)


def test_hours_may_cross_midnight_and_stay_one_stretch() -> None:
    at = datetime(2026, 3, 2, 23, tzinfo=UTC)
    assert next_allowed(at, ("Africa/Accra",), Hours(time(22), time(2))) is at
    assert closes_at(at, ("Africa/Accra",), Hours(time(22), time(2))) == datetime(2026, 3, 3, 2, tzinfo=UTC)


def test_without_quiet_hours_every_moment_is_allowed() -> None:
    at = datetime(2026, 3, 2, 3, tzinfo=UTC)
    assert next_allowed(at, ("Africa/Accra",), None) is at
    assert closes_at(at, ("Africa/Accra",), None) is None


def test_zones_too_far_apart_share_the_three_hours_round_the_middle() -> None:
    at = datetime(2026, 3, 2, 0, tzinfo=UTC)
    # Half past two in the afternoon is 02:30 UTC in Kamchatka and 12:30 UTC in Kaliningrad: the middle is 07:30.
    assert next_allowed(at, FAR_APART, DAY) == datetime(2026, 3, 2, 6, tzinfo=UTC)
    assert closes_at(at, FAR_APART, DAY) == datetime(2026, 3, 2, 9, tzinfo=UTC)


def test_short_hours_are_never_made_longer() -> None:
    hours = Hours(time(10), time(11))
    at = datetime(2026, 3, 2, 0, tzinfo=UTC)
    assert closes_at(at, ("Africa/Accra",), hours) == datetime(2026, 3, 2, 11, tzinfo=UTC)
    found, end = next_allowed(at, FAR_APART, hours), closes_at(at, FAR_APART, hours)
    assert end is not None
    assert end - found == timedelta(hours=1)


def test_every_day_of_spring_has_three_hours_for_a_toll_free_number_of_forty_zones() -> None:
    zones = numbers.zones("18005550123")
    assert len(zones) > 40
    at = datetime(2026, 3, 1, tzinfo=UTC)
    while at < datetime(2026, 4, 15, tzinfo=UTC):
        found, end = next_allowed(at, zones, DAY), closes_at(at, zones, DAY)
        assert end is not None
        assert end - found == timedelta(hours=3)
        assert found - at <= timedelta(hours=25)
        at = end


@pytest.mark.parametrize(("at", "zones"), [(datetime(2026, 1, 1), ("UTC",)), (datetime(2026, 1, 1, tzinfo=UTC), ())])  # noqa: DTZ001
def test_a_naive_time_or_no_zone_is_a_bug_of_the_caller(at: datetime, zones: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="aware time and at least one zone"):
        next_allowed(at, zones, DAY)


@pytest.mark.parametrize(
    ("text", "hours"),
    [
        ("09:00-20:00", DAY),
        (" 9:00 - 20:00 ", DAY),
        ("9-20", DAY),
        ("9–20", DAY),
        ("8:30 to 21:15", Hours(time(8, 30), time(21, 15))),
        ("22:00-02:00", Hours(time(22), time(2))),
        ("9-24:00", Hours(time(9), time(0))),
    ],
)
def test_hours_are_read_as_people_write_them(text: str, hours: Hours) -> None:
    assert Hours.parse(text) == hours


@pytest.mark.parametrize("text", ["", "off", "9", "25-26", "09:60-20:00", "9-9", "00:00-24:00", "-1-5"])
def test_what_are_no_hours_is_refused_with_a_sentence(text: str) -> None:
    with pytest.raises(ValueError, match=r"hours.*\.$"):
        Hours.parse(text)


@pytest.mark.parametrize(
    ("time_zone", "phone", "home", "zones"),
    [
        ("Asia/Tokyo", "233244123456", "Africa/Accra", ("Asia/Tokyo",)),
        (None, "233244123456", "Africa/Accra", ("Africa/Accra",)),
        ("", "15551234567", "Africa/Accra", ("Africa/Accra",)),  # nothing is known of the number
        (None, "12025550123", "America/Chicago", ("America/Chicago",)),  # another zone of the same country
        (None, "919812345678", "Asia/Kolkata", ("Asia/Kolkata",)),  # the tables of numbers say Asia/Calcutta
        (None, "254712345678", "Europe/Moscow", ("Africa/Nairobi",)),  # the same time, another country
        (None, "254712345678", "UTC", ("Africa/Nairobi",)),
        ("Mars/Olympus", "233244123456", "Africa/Accra", ("Africa/Accra",)),  # no zone is better than a wrong one
        ("../etc/passwd", "254712345678", "UTC", ("Africa/Nairobi",)),
    ],
)
def test_the_zone_of_a_case_is_its_own_then_home_s_then_its_number_s(
    time_zone: str | None, phone: str, home: str, zones: tuple[str, ...]
) -> None:
    assert zones_of(time_zone, phone, home_zone=home) == zones


def test_a_number_from_abroad_can_be_in_every_zone_of_its_country() -> None:
    assert zones_of(None, "79161234567", home_zone="Africa/Accra") == numbers.zones("79161234567")


def test_every_zone_that_a_number_can_be_in_has_a_clock_here() -> None:
    assert [zone for zone in PHONE_ZONES if zone != "Etc/Unknown" and not quiet_hours.valid_zone(zone)] == []


def test_a_zone_is_valid_when_it_is_written_exactly() -> None:
    assert all(map(quiet_hours.valid_zone, ("America/New_York", "UTC", "Asia/Calcutta")))
    assert not any(map(quiet_hours.valid_zone, ("America/NewYork", "new york", "", "Etc/Unknown", "Factory", "../etc")))
    assert quiet_hours._zone_names() <= available_timezones()


@pytest.mark.parametrize(
    ("typed", "zone"),
    [
        ("America/NewYork", "America/New_York"),
        ("New York", "America/New_York"),
        ("africa/nairobi", "Africa/Nairobi"),
        ("Kolkatta", "Asia/Kolkata"),
        ("Africa/Acra", "Africa/Accra"),
        ("US Eastern", "US/Eastern"),
    ],
)
def test_the_nearest_zone_is_suggested_first(typed: str, zone: str) -> None:
    nearest = quiet_hours.nearest_zones(typed)
    assert nearest[0] == zone
    assert len(nearest) <= 3


def test_nothing_is_suggested_for_what_is_like_no_zone() -> None:
    assert quiet_hours.nearest_zones("qqqq") == []


# -- a time that each zone reads ---------------------------------------------------------------------------------------


def test_a_time_is_the_moment_at_which_a_zones_own_clock_shows_it():
    wall = datetime.fromisoformat("2026-11-06T09:00")
    assert quiet_hours.instant(wall, "Africa/Accra") == datetime(2026, 11, 6, 9, tzinfo=UTC)
    assert quiet_hours.instant(wall, "America/New_York") == datetime(2026, 11, 6, 14, tzinfo=UTC)


def test_an_hour_that_is_skipped_counts_as_the_one_after_and_of_one_that_comes_twice_it_is_the_first():
    assert quiet_hours.instant(datetime.fromisoformat("2026-03-08T02:30"), "America/New_York") == datetime(
        2026, 3, 8, 7, 30, tzinfo=UTC
    )
    assert quiet_hours.instant(datetime.fromisoformat("2026-11-01T01:30"), "America/New_York") == datetime(
        2026, 11, 1, 5, 30, tzinfo=UTC
    )


def test_hours_that_cross_midnight_hold_the_night():
    night, day = Hours(time(22), time(6)), Hours(time(9), time(20))
    assert [night.holds(time(h)) for h in (21, 22, 0, 5, 6)] == [False, True, True, True, False]
    assert [day.holds(time(h)) for h in (8, 9, 19, 20)] == [False, True, True, False]
