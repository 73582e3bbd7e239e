from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.errors import InvalidInput
from service.ledger.filters import TimeRange
from service.spend.buckets import bucket_starts, find_zone

_ZONES = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "America/Havana",  # clocks change at midnight
    "America/Nuuk",  # … and just before it
    "Asia/Kolkata",
    "Asia/Kathmandu",
    "Pacific/Niue",
    "Pacific/Kiritimati",
    "Australia/Lord_Howe",  # by half an hour
]
_INSTANTS = st.datetimes(datetime(2024, 1, 1), datetime(2027, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001


def _range(start: str, end: str) -> TimeRange:
    return TimeRange(datetime.fromisoformat(start), datetime.fromisoformat(end))


def _starts(granularity: Any, zone: str, time_range: TimeRange) -> list[str]:
    return [
        start.astimezone(ZoneInfo(zone)).isoformat() for start in bucket_starts(granularity, ZoneInfo(zone), time_range)
    ]


@settings(max_examples=300)
@given(
    _INSTANTS,
    st.timedeltas(timedelta(microseconds=1), timedelta(days=90)),
    st.sampled_from(["hour", "day", "week", "month"]),
    st.sampled_from(_ZONES),
)
def test_buckets_tile_a_range_and_begin_where_the_calendar_says(
    start: datetime, length: timedelta, granularity: Any, zone_name: str
) -> None:
    zone = ZoneInfo(zone_name)
    starts = bucket_starts(granularity, zone, TimeRange(start, start + length))
    assert starts[0] <= start
    assert starts[-1] < start + length
    assert all(earlier < later for earlier, later in pairwise(starts))
    for begin, end in pairwise([*starts, starts[-1] + timedelta(minutes=1)]):
        first, last = begin.astimezone(zone), (end - timedelta(microseconds=1)).astimezone(zone)
        assert _calendar_unit(granularity, first) == _calendar_unit(granularity, last)
        before = (begin - timedelta(microseconds=1)).astimezone(zone)
        is_repeated_hour = granularity == "hour" and before.utcoffset() != first.utcoffset()
        assert (
            is_repeated_hour
            or begin == starts[0]
            or _calendar_unit(granularity, before) != _calendar_unit(granularity, first)
        )


def _calendar_unit(granularity: str, local: datetime) -> Any:
    return {
        "hour": (local.date(), local.hour),
        "day": local.date(),
        "week": local.isocalendar()[:2],
        "month": (local.year, local.month),
    }[granularity]


def test_the_day_clocks_go_back_has_25_hours_and_its_repeated_hour_is_two_buckets() -> None:
    day = _range("2026-10-25T00:00:00+02:00", "2026-10-26T00:00:00+01:00")
    assert _starts("day", "Europe/Berlin", day) == ["2026-10-25T00:00:00+02:00"]
    hours = _starts("hour", "Europe/Berlin", day)
    assert len(hours) == 25
    assert hours[2:4] == ["2026-10-25T02:00:00+02:00", "2026-10-25T02:00:00+01:00"]


def test_the_day_clocks_go_forward_has_23_hours() -> None:
    hours = _starts("hour", "Europe/Berlin", _range("2026-03-29T00:00:00+01:00", "2026-03-30T00:00:00+02:00"))
    assert len(hours) == 23
    assert hours[1:3] == ["2026-03-29T01:00:00+01:00", "2026-03-29T03:00:00+02:00"]


def test_a_day_whose_midnight_is_skipped_begins_when_clocks_skip_it() -> None:
    starts = _starts("day", "America/Havana", _range("2026-03-07T12:00:00Z", "2026-03-09T12:00:00Z"))
    assert starts == ["2026-03-07T00:00:00-05:00", "2026-03-08T01:00:00-04:00", "2026-03-09T00:00:00-04:00"]


@pytest.mark.parametrize(("zone", "start"), [("Asia/Kolkata", "T18:30"), ("Asia/Kathmandu", "T18:15")])
def test_days_of_zones_off_by_fractions_of_an_hour_begin_at_a_quarter_of_an_hour(zone: str, start: str) -> None:
    starts = bucket_starts("day", ZoneInfo(zone), _range("2026-11-01T00:00:00Z", "2026-11-02T00:00:00Z"))
    assert [begin.isoformat()[10:16] for begin in starts] == [start, start]


def test_weeks_begin_on_monday_and_months_on_the_first() -> None:
    november = _range("2026-11-05T00:00:00Z", "2026-12-01T00:00:00Z")
    assert _starts("week", "UTC", november)[:2] == ["2026-11-02T00:00:00+00:00", "2026-11-09T00:00:00+00:00"]
    assert _starts("month", "UTC", november) == ["2026-11-01T00:00:00+00:00"]


def test_more_buckets_than_anybody_reads_are_refused() -> None:
    with pytest.raises(InvalidInput) as refusal:
        bucket_starts("hour", UTC, _range("2020-01-01T00:00:00Z", "2026-01-01T00:00:00Z"))
    assert (refusal.value.code, refusal.value.field) == ("too_many_buckets", "granularity")
    assert len(bucket_starts("day", UTC, _range("2020-01-01T00:00:00Z", "2026-01-01T00:00:00Z"))) == 2192


@pytest.mark.parametrize(
    "name", ["", "Berlin", "europe/berlin", "../etc/passwd", "Europe", "localtime", "UTC+1", "\x00"]
)
def test_what_is_no_time_zone_of_the_iana_database_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        find_zone(name)
    assert (refusal.value.code, refusal.value.field) == ("unknown_timezone", "timezone")
