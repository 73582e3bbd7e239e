from datetime import UTC, datetime, time

import pytest

from service.budgets.period import CalendarPeriod, FixedPeriod, LifetimePeriod, Period, RollingPeriod, window_of
from service.budgets.period_document import parse_period, period_document
from service.imports.durations import ResetRules, first_use_period, reset_period

NOW = datetime(2026, 11, 18, 10, 7, tzinfo=UTC)  # a Wednesday
BERLIN = ResetRules("Europe/Berlin")


def calendar(unit: str, zone: str = "UTC") -> CalendarPeriod:
    return CalendarPeriod(unit, zone, 1 if unit in {"week", "month"} else None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("duration", "period"),
    [
        (None, LifetimePeriod()),
        ("", LifetimePeriod()),
        ("1d", calendar("day")),
        ("daily", calendar("day")),
        ("24h", calendar("day")),
        ("7d", calendar("week")),
        ("1w", calendar("week")),
        ("weekly", calendar("week")),
        ("30d", calendar("month")),
        ("1mo", calendar("month")),
        ("monthly", calendar("month")),
        ("1h", calendar("hour")),
        ("hourly", calendar("hour")),
    ],
)
def test_what_is_reset_by_the_calendar_is_a_calendar_period_without_a_word(duration: str | None, period: Period):
    assert reset_period(duration, ResetRules()) == (period, None)


@pytest.mark.parametrize(
    ("duration", "resets"),
    [
        ("6h", ["12:00", "18:00"]),
        ("12h", ["12:00", "00:00"]),
        ("15m", ["10:15", "10:30"]),
        ("30s", ["10:07", "10:08"]),
    ],
)
def test_what_divides_the_day_begins_on_its_multiples(duration: str, resets: list[str]):
    period, note = reset_period(duration, ResetRules())
    assert period is not None
    window = window_of(period, NOW)
    if not duration.endswith("s"):
        assert window.end is not None
        following = window_of(period, window.end)
        assert following.end is not None
        assert [f"{window.end:%H:%M}", f"{following.end:%H:%M}"] == resets
    assert note is None


@pytest.mark.parametrize(
    ("duration", "unit"),
    [("48h", "day"), ("72h", "day"), ("10days", "day"), ("1month", "day"), ("1y", "day"), ("30D", "day"),
     ("1.5d", "day"), ("quarterly", "day"), ("x", "day")],
)  # fmt: skip
def test_what_litellm_resets_every_midnight_is_a_day_and_is_told(duration: str, unit: str):
    period, note = reset_period(duration, BERLIN)
    assert period == calendar(unit, "Europe/Berlin")
    assert note is not None
    assert "every midnight" in note


def test_36_hours_end_at_noon_every_day():
    period, note = reset_period("36h", ResetRules())
    assert period is not None
    assert window_of(period, NOW).start == datetime(2026, 11, 17, 12, tzinfo=UTC)
    assert note is not None


def test_two_months_are_never_reset_and_nothing_limits_zero_days():
    assert reset_period("2mo", ResetRules()).period == LifetimePeriod()
    assert reset_period("0d", ResetRules()).period is None
    assert reset_period("99999999d", ResetRules()).period is None


def test_windows_of_days_end_at_the_stored_reset_and_are_the_same_after_it():
    first = datetime(2027, 1, 3, tzinfo=UTC)
    period = reset_period("90d", ResetRules(), first).period
    assert isinstance(period, FixedPeriod)
    assert window_of(period, NOW).end == first
    assert reset_period("90d", ResetRules(), datetime(2027, 4, 3, tzinfo=UTC)).period == period


def test_the_zone_and_the_time_of_day_of_the_proxy_count():
    period = reset_period("1d", BERLIN).period
    assert period is not None
    assert window_of(period, NOW).start == datetime(2026, 11, 17, 23, tzinfo=UTC)
    later = reset_period("7d", ResetRules("Asia/Kolkata", time(6, 30))).period
    assert later is not None
    assert window_of(later, NOW).start == datetime(2026, 11, 16, 1, tzinfo=UTC)
    month = reset_period("30d", ResetRules("UTC", time(6)))
    assert month.period == calendar("month")
    assert month.note is not None


@pytest.mark.parametrize(
    ("duration", "seconds"),
    [("1d", 86_400), ("30d", 2_592_000), ("1h", 3600), ("90s", 90), ("2w", 1_209_600), ("weekly", 604_800)],
)
def test_what_counts_from_its_first_use_is_rolling(duration: str, seconds: int):
    assert first_use_period(duration) == (RollingPeriod(seconds), None)


@pytest.mark.parametrize("duration", [None, "", "30", "x", "0d", "1y", "99999999w"])
def test_what_litellm_does_not_enforce_has_no_period(duration: str | None):
    period, note = first_use_period(duration)
    assert period is None
    assert note is not None


def test_lengths_that_are_not_as_they_read_are_told():
    assert first_use_period("1mo").period == RollingPeriod(30 * 86_400)
    assert first_use_period("10days").period == RollingPeriod(864_000)
    assert first_use_period("5s").period == RollingPeriod(60)
    assert all(first_use_period(duration).note for duration in ("1mo", "10days", "5s"))


@pytest.mark.parametrize("duration", ["5h", "36h", "90m", "7s", "31d", "2w", "90d", "1d", "30d", "1440m", "2880m"])
@pytest.mark.parametrize("rules", [ResetRules(), BERLIN, ResetRules("Asia/Kathmandu", time(23, 59, 59))])
def test_every_period_can_be_stored(duration: str, rules: ResetRules):
    period = reset_period(duration, rules, NOW).period
    assert period is not None
    assert parse_period(period_document(period)) == period
