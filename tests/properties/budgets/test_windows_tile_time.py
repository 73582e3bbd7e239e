"""Windows tile time: every instant lies in exactly one, whatever the zone does to its clock (window boundaries)."""

from calendar import monthrange
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import pairwise
from zoneinfo import ZoneInfo

from hypothesis import example, given, settings
from hypothesis import strategies as st

from service.budgets.period import (
    MOST_BUCKETS,
    CalendarPeriod,
    FixedPeriod,
    LifetimePeriod,
    Period,
    RollingPeriod,
    compute_window,
    counted_buckets,
    shown_window,
    window_of,
)
from service.budgets.period_document import parse_period, period_document

_TICK = timedelta(microseconds=1)
_FIRST = datetime(1975, 1, 1, tzinfo=UTC)
_LAST = datetime(2110, 1, 1, tzinfo=UTC)

# Both hemispheres, half and quarter hours, clocks that change at midnight or by 30 min or 2 h, a day that was skipped.
ZONES = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "America/St_Johns",
    "America/Sao_Paulo",
    "America/Havana",
    "America/Asuncion",
    "Africa/Cairo",
    "Africa/Casablanca",
    "Antarctica/Troll",
    "Asia/Beirut",
    "Asia/Kathmandu",
    "Asia/Kolkata",
    "Asia/Tehran",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "Pacific/Auckland",
    "Pacific/Chatham",
    "Pacific/Kiritimati",
    "Pacific/Pago_Pago",
]


@lru_cache
def _clock_changes(zone: str) -> list[datetime]:
    """Instants, to the day, at which the zone changes its clock."""
    days = [datetime(1990, 1, 1, tzinfo=UTC) + timedelta(days=day) for day in range(45 * 366)]
    offsets = [day.astimezone(ZoneInfo(zone)).utcoffset() for day in days]
    return [day for day, before, after in zip(days, offsets, offsets[1:], strict=False) if before != after] or days[:1]


@st.composite
def calendar_periods(draw: st.DrawFn) -> CalendarPeriod:
    unit = draw(st.sampled_from(["hour", "day", "week", "month", "quarter", "year"]))
    last = {"week": 7, "month": 31}.get(unit)
    start_day = None if last is None else draw(st.integers(1, last))
    return CalendarPeriod(unit, draw(st.sampled_from(ZONES)), start_day)  # type: ignore[arg-type]


fixed_periods = st.builds(
    FixedPeriod,
    st.integers(1, 400 * 86_400),
    st.integers(0, 3_000_000_000).map(lambda seconds: datetime.fromtimestamp(seconds, UTC)),
)
rolling_periods = st.builds(RollingPeriod, st.integers(60, 3660 * 86_400) | st.integers(60, 4_000))
periods: st.SearchStrategy[Period] = st.one_of(calendar_periods(), fixed_periods, rolling_periods)


@st.composite
def instants(draw: st.DrawFn, zone: str = "UTC") -> datetime:
    """Any instant, or one near a clock change, a month's end, a leap day, a year's end."""
    near = draw(st.sampled_from(["anywhere", "change", "month", "year"]))
    if near == "anywhere":
        microseconds = draw(st.integers(0, (_LAST - _FIRST) // _TICK))
        return _FIRST + microseconds * _TICK
    if near == "change":
        base = draw(st.sampled_from(_clock_changes(zone)))
    else:
        month = 1 if near == "year" else draw(st.integers(1, 12))
        base = datetime(draw(st.integers(1976, 2109)), month, 1, tzinfo=UTC)
    return base + timedelta(
        days=draw(st.integers(-2, 2)), seconds=draw(st.integers(0, 86_400)), microseconds=draw(st.integers(0, 2))
    )


@st.composite
def periods_and_instants(draw: st.DrawFn) -> tuple[Period, datetime]:
    period = draw(periods)
    zone = period.timezone if isinstance(period, CalendarPeriod) else "UTC"
    return period, draw(instants(zone))


@given(periods_and_instants())
@example((CalendarPeriod("day", "Pacific/Apia"), datetime(2011, 12, 30, 10, tzinfo=UTC)))
@example((CalendarPeriod("hour", "Australia/Lord_Howe"), datetime(2026, 4, 4, 15, 10, tzinfo=UTC)))
@example((CalendarPeriod("month", "Asia/Kathmandu", 31), datetime(2028, 2, 28, 18, 15, tzinfo=UTC)))
@settings(max_examples=600)
def test_every_instant_lies_in_exactly_one_window(period_and_instant: tuple[Period, datetime]):
    period, instant = period_and_instant
    window = compute_window(period, instant)
    assert window.end is not None
    assert window.start <= instant < window.end
    assert compute_window(period, window.start) == window
    assert compute_window(period, window.end - _TICK) == window
    assert compute_window(period, window.end).start == window.end
    assert compute_window(period, window.start - _TICK).end == window.start


@given(calendar_periods(), st.data())
@settings(max_examples=300)
def test_calendar_windows_begin_at_local_midnight_unless_the_clock_skips_it(
    period: CalendarPeriod, data: st.DataObject
):
    start = compute_window(period, data.draw(instants(period.timezone))).start
    zone = ZoneInfo(period.timezone)
    local = start.astimezone(zone)
    is_clock_change = (start - _TICK).astimezone(zone).utcoffset() != local.utcoffset()
    assert is_clock_change or local.minute == local.second == local.microsecond == 0
    if period.unit == "hour" or is_clock_change:
        return
    assert local.hour == 0
    if period.unit == "week":
        assert local.isoweekday() == period.start_day
    if period.unit == "month":
        assert local.day == min(period.start_day or 1, monthrange(local.year, local.month)[1])


@given(st.lists(periods_and_instants(), min_size=1, max_size=12), st.randoms(use_true_random=False))
@settings(max_examples=100)
def test_a_window_does_not_depend_on_what_was_asked_before(asked: list[tuple[Period, datetime]], random: object):
    for period, instant in [*asked, *reversed(asked)]:
        assert window_of(period, instant) == compute_window(period, instant)


@given(st.one_of(periods, st.just(LifetimePeriod())))
def test_the_document_of_a_period_reads_as_the_same_period(period: Period):
    assert parse_period(period_document(period)) == period


@given(rolling_periods, instants())
@example(RollingPeriod(60), datetime(2026, 1, 1, tzinfo=UTC))
@example(RollingPeriod(3599), datetime(2026, 1, 1, tzinfo=UTC) - _TICK)
@settings(max_examples=600)
def test_the_counted_buckets_always_cover_the_whole_length_and_little_more(period: RollingPeriod, instant: datetime):
    """Nothing of the last `length_seconds` is ever left out; what is counted beside it is less than two buckets."""
    buckets = counted_buckets(period, instant)
    bucket = timedelta(seconds=period.bucket_seconds)
    assert len(buckets) == period.bucket_count <= MOST_BUCKETS
    assert all(later - earlier == bucket for earlier, later in pairwise(buckets))
    begin = instant - timedelta(seconds=period.length_seconds)
    assert begin - 2 * bucket < buckets[0] <= begin
    assert buckets[-1] <= instant < buckets[-1] + bucket
    assert window_of(period, instant).start == buckets[-1]
    shown = shown_window(period, instant)
    assert (shown.start, shown.end) == (buckets[0], buckets[-1] + bucket)


@given(rolling_periods, instants(), st.data())
@settings(max_examples=300)
def test_a_charge_of_the_last_length_is_in_a_counted_bucket_and_one_of_before_falls_out_once(
    period: RollingPeriod, instant: datetime, data: st.DataObject
):
    length = timedelta(seconds=period.length_seconds)
    spent_at = instant - data.draw(st.integers(0, period.length_seconds * 1_000_000)) * _TICK
    booked = window_of(period, spent_at).start
    assert booked in counted_buckets(period, instant)
    out_at = booked + timedelta(seconds=period.bucket_count * period.bucket_seconds)
    assert booked in counted_buckets(period, out_at - _TICK)
    assert booked not in counted_buckets(period, out_at)
    assert out_at > spent_at + length


@given(st.one_of(calendar_periods(), fixed_periods), instants())
def test_other_periods_count_the_one_bucket_of_their_window(period: Period, instant: datetime):
    assert counted_buckets(period, instant) == (window_of(period, instant).start,)
    assert shown_window(period, instant) == window_of(period, instant)
