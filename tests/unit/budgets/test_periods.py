"""Windows of calendar, fixed and lifetime periods at the places where calendars are difficult."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from service.budgets.period import CalendarPeriod, FixedPeriod, LifetimePeriod, Window, window_of


def _utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[arg-type, misc]


def _local(zone: str, *parts: int) -> datetime:
    return datetime(*parts, tzinfo=ZoneInfo(zone)).astimezone(UTC)  # type: ignore[arg-type, misc]


def _hours(window: Window) -> float:
    assert window.end is not None
    return (window.end - window.start) / timedelta(hours=1)


@pytest.mark.parametrize(("month", "day", "hours"), [(3, 29, 23), (10, 25, 25), (6, 1, 24)])
def test_a_day_of_a_clock_change_is_shorter_or_longer(month: int, day: int, hours: int):
    window = window_of(CalendarPeriod("day", "Europe/Berlin"), _local("Europe/Berlin", 2026, month, day, 12))
    assert window.start == _local("Europe/Berlin", 2026, month, day)
    assert _hours(window) == hours


def test_a_day_begins_at_midnight_of_its_zone_also_at_a_quarter_past_in_utc():
    window = window_of(CalendarPeriod("day", "Asia/Kathmandu"), _utc(2026, 5, 1, 18, 14, 59))
    assert window == Window(_utc(2026, 4, 30, 18, 15), _utc(2026, 5, 1, 18, 15))
    window = window_of(CalendarPeriod("day", "Pacific/Pago_Pago"), _utc(2026, 5, 1, 11))
    assert window == Window(_utc(2026, 5, 1, 11), _utc(2026, 5, 2, 11))


def test_a_month_that_starts_on_the_31st_starts_on_the_last_day_of_shorter_months():
    period = CalendarPeriod("month", "UTC", 31)
    assert window_of(period, _utc(2026, 2, 15)) == Window(_utc(2026, 1, 31), _utc(2026, 2, 28))
    assert window_of(period, _utc(2026, 2, 28)) == Window(_utc(2026, 2, 28), _utc(2026, 3, 31))
    assert window_of(period, _utc(2028, 2, 29)) == Window(_utc(2028, 2, 29), _utc(2028, 3, 31))
    assert window_of(period, _utc(2027, 1, 30)) == Window(_utc(2026, 12, 31), _utc(2027, 1, 31))


def test_the_leap_day_belongs_to_february():
    assert window_of(CalendarPeriod("month", "UTC", 1), _utc(2028, 2, 29, 23)) == Window(
        _utc(2028, 2, 1), _utc(2028, 3, 1)
    )
    assert window_of(CalendarPeriod("day", "UTC"), _utc(2028, 2, 29, 23)) == Window(_utc(2028, 2, 29), _utc(2028, 3, 1))


def test_quarters_and_years_end_with_the_year_of_the_zone():
    last_moment = _local("Pacific/Auckland", 2026, 12, 31, 23, 59, 59)
    new_year = _local("Pacific/Auckland", 2027, 1, 1)
    assert window_of(CalendarPeriod("quarter", "Pacific/Auckland"), last_moment) == Window(
        _local("Pacific/Auckland", 2026, 10, 1), new_year
    )
    assert window_of(CalendarPeriod("year", "Pacific/Auckland"), last_moment).end == new_year
    assert window_of(CalendarPeriod("year", "Pacific/Auckland"), new_year).start == new_year


def test_a_week_starts_on_its_start_day():
    assert window_of(CalendarPeriod("week", "UTC", 1), _utc(2026, 11, 15)).start == _utc(2026, 11, 9)
    assert window_of(CalendarPeriod("week", "UTC", 7), _utc(2026, 11, 15)).start == _utc(2026, 11, 15)


def test_an_hour_that_occurs_twice_is_two_windows():
    period = CalendarPeriod("hour", "Europe/Berlin")
    first = window_of(period, _utc(2026, 10, 25, 0, 30))
    second = window_of(period, _utc(2026, 10, 25, 1, 30))
    assert first == Window(_utc(2026, 10, 25, 0), _utc(2026, 10, 25, 1))
    assert second == Window(_utc(2026, 10, 25, 1), _utc(2026, 10, 25, 2))


def test_an_hour_ends_early_where_the_clock_changes_by_half_an_hour():
    # Lord Howe puts its clock from 02:00 to 01:30, at 15:00 UTC of the day before.
    period = CalendarPeriod("hour", "Australia/Lord_Howe")
    assert window_of(period, _utc(2026, 4, 4, 14, 30)) == Window(_utc(2026, 4, 4, 14), _utc(2026, 4, 4, 15))
    assert window_of(period, _utc(2026, 4, 4, 15, 10)) == Window(_utc(2026, 4, 4, 15), _utc(2026, 4, 4, 15, 30))
    assert window_of(period, _utc(2026, 4, 4, 15, 30)) == Window(_utc(2026, 4, 4, 15, 30), _utc(2026, 4, 4, 16, 30))


def test_a_day_whose_midnight_the_clock_skips_starts_at_the_change():
    # In Beirut the clock goes from 00:00 to 01:00.
    window = window_of(CalendarPeriod("day", "Asia/Beirut"), _local("Asia/Beirut", 2026, 3, 29, 12))
    assert window.start == _local("Asia/Beirut", 2026, 3, 29, 1)
    assert _hours(window) == 23


def test_a_day_the_calendar_skips_has_no_window():
    period = CalendarPeriod("day", "Pacific/Apia")
    change = _utc(2011, 12, 30, 10)
    assert window_of(period, change - timedelta(seconds=1)) == Window(_utc(2011, 12, 29, 10), change)
    assert window_of(period, change) == Window(change, _utc(2011, 12, 31, 10))


def test_fixed_windows_are_counted_from_the_anchor_in_both_directions():
    period = FixedPeriod(5 * 3600, _utc(2026, 1, 1, 1))
    assert window_of(period, _utc(2026, 1, 1, 6)) == Window(_utc(2026, 1, 1, 6), _utc(2026, 1, 1, 11))
    assert window_of(period, _utc(2026, 1, 1, 0, 59)) == Window(_utc(2025, 12, 31, 20), _utc(2026, 1, 1, 1))


def test_a_lifetime_has_one_window_without_an_end():
    assert window_of(LifetimePeriod(), _utc(2026, 1, 1)) is window_of(LifetimePeriod(), _utc(2096, 1, 1))
    assert window_of(LifetimePeriod(), _utc(2026, 1, 1)).end is None


def test_many_periods_do_not_fill_the_memory():
    for second in range(1, 10_000):
        window_of(FixedPeriod(second, _utc(2026, 1, 1)), _utc(2026, 1, 2))
    assert window_of(FixedPeriod(7, _utc(2026, 1, 1)), _utc(2026, 1, 1, 0, 0, 8)).start == _utc(2026, 1, 1, 0, 0, 7)
