"""Periods and their windows. A window is a pure function of (period, instant): nothing is ever reset.

The windows of a period tile time without gap or overlap, whatever its time zone does; all are `[start, end)` in UTC.
A calendar boundary that a clock change skips is the instant of the change; one that occurs twice is the first of both.
A rolling period books charges in short buckets that tile time the same way, and counts the last of them together.
Pure.
"""

from calendar import monthrange
from datetime import UTC, date, datetime, time, timedelta
from typing import Final, Literal
from zoneinfo import ZoneInfo

import msgspec

Unit = Literal["hour", "day", "week", "month", "quarter", "year"]

# Any fixed instant would do; this one is a Monday, a first of the month and a first of the year.
DEFAULT_ANCHOR: Final = datetime(2001, 1, 1, tzinfo=UTC)
LIFETIME_START: Final = datetime(1970, 1, 1, tzinfo=UTC)
MOST_BUCKETS: Final = 60

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_MICROSECOND = timedelta(microseconds=1)
_SECOND = timedelta(seconds=1)
_HOUR = timedelta(hours=1)


class CalendarPeriod(
    msgspec.Struct, frozen=True, cache_hash=True, tag_field="kind", tag="calendar", omit_defaults=True
):
    """Windows between boundaries of the calendar of an IANA time zone.

    `start_day`: for a week 1 (Monday) to 7, for a month 1 to 31 (a month too short for it starts on its last day).
    """

    unit: Unit
    timezone: str
    start_day: int | None = None


class FixedPeriod(msgspec.Struct, frozen=True, cache_hash=True, tag_field="kind", tag="fixed"):
    """Windows of one length, one of them starting at the anchor."""

    length_seconds: int
    anchor: datetime


class LifetimePeriod(msgspec.Struct, frozen=True, cache_hash=True, tag_field="kind", tag="lifetime"):
    """One window that never ends."""


class RollingPeriod(msgspec.Struct, frozen=True, cache_hash=True, tag_field="kind", tag="rolling"):
    """The time since `length_seconds` ago, moving on in steps of one bucket; its oldest bucket counts in full."""

    length_seconds: int

    @property
    def bucket_seconds(self) -> int:
        """Return the length of a bucket; at most 60 of them are counted together."""
        return -(-self.length_seconds // (MOST_BUCKETS - 1))

    @property
    def bucket_count(self) -> int:
        """Return how many buckets are counted: the present one, and those that reach back over the whole length."""
        return -(-self.length_seconds // self.bucket_seconds) + 1


Period = CalendarPeriod | FixedPeriod | LifetimePeriod | RollingPeriod


class Window(msgspec.Struct, frozen=True):
    """One instance of a period; `end` None = never."""

    start: datetime
    end: datetime | None

    def holds(self, instant: datetime) -> bool:
        """Tell whether the instant lies in the window."""
        return self.start <= instant and (self.end is None or instant < self.end)


_LIFETIME = Window(LIFETIME_START, None)

# Every event asks for a window per budget, nearly always for the present one or the one before.
_REMEMBERED_WINDOWS = 4
_REMEMBERED_PERIODS = 4096
_recent: dict[Period, tuple[Window, ...]] = {}


def window_of(period: Period, instant: datetime) -> Window:
    """Return the window of the period that holds the instant; of a rolling period the bucket charges are booked in."""
    known = _recent.get(period, ())
    for window in known:
        if window.holds(instant):
            if window is not known[0]:  # used last, dropped last: late events never push out the present one
                _recent[period] = (window, *[each for each in known if each is not window])
            return window
    window = compute_window(period, instant)
    if len(_recent) >= _REMEMBERED_PERIODS:
        _recent.clear()
    _recent[period] = (window, *known[: _REMEMBERED_WINDOWS - 1])
    return window


def compute_window(period: Period, instant: datetime) -> Window:
    """Return what `window_of` returns, computed anew."""
    if isinstance(period, LifetimePeriod):
        return _LIFETIME
    if isinstance(period, FixedPeriod):
        return _stretch(period.anchor, period.length_seconds, instant)
    if isinstance(period, RollingPeriod):
        return _stretch(_EPOCH, period.bucket_seconds, instant)
    if period.unit == "hour":
        return _hour_window(ZoneInfo(period.timezone), instant)
    return _calendar_window(period, instant)


def counted_buckets(period: Period, instant: datetime) -> tuple[datetime, ...]:
    """Return the starts of the buckets that make up what is posted at an instant, ascending; one unless rolling.

    Those of a rolling period cover everything from its length ago to the instant, and up to two buckets more.
    """
    newest = window_of(period, instant).start
    if not isinstance(period, RollingPeriod):
        return (newest,)
    step = timedelta(seconds=period.bucket_seconds)
    return tuple([newest - number * step for number in reversed(range(period.bucket_count))])


def shown_window(period: Period, instant: datetime) -> Window:
    """Return the stretch of time whose charges are posted at an instant: the window, or all counted buckets."""
    newest = window_of(period, instant)
    if not isinstance(period, RollingPeriod):
        return newest
    return Window(newest.start - (period.bucket_count - 1) * timedelta(seconds=period.bucket_seconds), newest.end)


def _stretch(anchor: datetime, length_seconds: int, instant: datetime) -> Window:
    length = timedelta(seconds=length_seconds)
    start = anchor + (instant - anchor) // length * length
    start = start.astimezone(UTC)
    return Window(start, start + length)


def _calendar_window(period: CalendarPeriod, instant: datetime) -> Window:
    zone = ZoneInfo(period.timezone)
    number = _number_of_day(period, instant.astimezone(zone).date())
    # Where a clock change skips a boundary or a whole day, the local date alone can be one window off.
    while _boundary(period, zone, number) > instant:
        number -= 1
    while _boundary(period, zone, number + 1) <= instant:
        number += 1
    return Window(_boundary(period, zone, number), _boundary(period, zone, number + 1))


def _number_of_day(period: CalendarPeriod, day: date) -> int:
    """Return the running number of the window that holds a local day."""
    match period.unit:
        case "day" | "hour":
            return day.toordinal()
        case "week":
            return (day.toordinal() - _start_day(period)) // 7
        case "month":
            month = day.year * 12 + day.month - 1
            return month if day >= _month_start(period, month) else month - 1
        case "quarter":
            return day.year * 4 + (day.month - 1) // 3
        case "year":
            return day.year


def _boundary(period: CalendarPeriod, zone: ZoneInfo, number: int) -> datetime:
    """Return the instant at which the window of a running number starts."""
    midnight = datetime.combine(_first_day(period, number), time(0), zone)
    return midnight.astimezone(UTC)


def _first_day(period: CalendarPeriod, number: int) -> date:
    match period.unit:
        case "day" | "hour":
            return date.fromordinal(number)
        case "week":
            return date.fromordinal(number * 7 + _start_day(period))
        case "month":
            return _month_start(period, number)
        case "quarter":
            return date(number // 4, number % 4 * 3 + 1, 1)
        case "year":
            return date(number, 1, 1)


def _start_day(period: CalendarPeriod) -> int:
    return period.start_day or 1


def _month_start(period: CalendarPeriod, month: int) -> date:
    year, month_of_year = month // 12, month % 12 + 1
    last_day = monthrange(year, month_of_year)[1]
    return date(year, month_of_year, min(_start_day(period), last_day))


def _hour_window(zone: ZoneInfo, instant: datetime) -> Window:
    """Return the stretch around the instant within one hour of the local clock: a clock change ends it early."""
    local = instant.astimezone(zone)
    offset = _offset(zone, local)
    start = (local.replace(minute=0, second=0, microsecond=0, tzinfo=None) - offset).replace(tzinfo=UTC)
    end = start + _HOUR
    if _offset(zone, start) != offset:
        start = _clock_change(zone, start, instant)
    if _offset(zone, end - _MICROSECOND) != offset:
        end = _clock_change(zone, instant, end)
    return Window(start, end)


def _clock_change(zone: ZoneInfo, before: datetime, after: datetime) -> datetime:
    """Return the only instant in (before, after] at which the offset of the zone changes; changes fall on seconds."""
    low, high = before.replace(microsecond=0), after.replace(microsecond=0)
    former = _offset(zone, low)
    while high - low > _SECOND:
        middle = low + (high - low) // 2
        middle = middle.replace(microsecond=0)
        if _offset(zone, middle) == former:
            low = middle
        else:
            high = middle
    return high.astimezone(UTC)


def _offset(zone: ZoneInfo, instant: datetime) -> timedelta:
    offset = instant.astimezone(zone).utcoffset()
    assert offset is not None, "every zone knows its offset"
    return offset
