"""The calendar of reports: where hours, days, weeks and months of a time zone begin. Pure.

Buckets tile a range without gap or overlap; a day on which clocks change has 23 or 25 hours. Computed here and handed
to the database, so that one time zone table decides, the same as for budget windows.
"""

from datetime import UTC, date, datetime, timedelta, tzinfo
from functools import cache
from typing import Literal
from zoneinfo import ZoneInfo, available_timezones

from service.errors import InvalidInput
from service.ledger.filters import TimeRange

Granularity = Literal["total", "hour", "day", "week", "month"]

MAX_BUCKETS = 20_000

_HOUR = timedelta(hours=1)
_SHORTEST = {
    "total": timedelta.max,
    "hour": _HOUR,
    "day": timedelta(hours=23),
    "week": timedelta(days=6, hours=23),
    "month": timedelta(days=27, hours=23),
}
# Names of files beside the zones: what they mean depends on the machine.
_NO_ZONES = frozenset({"localtime", "posixrules", "Factory"})


@cache
def _known_zones() -> frozenset[str]:
    return frozenset(available_timezones()) - _NO_ZONES


def find_zone(name: str) -> ZoneInfo:
    """Return an IANA time zone. Raises InvalidInput (`unknown_timezone`)."""
    if name not in _known_zones():
        raise InvalidInput(
            "timezone must be a name of the IANA database, such as Europe/Berlin or UTC.",
            code="unknown_timezone",
            field="timezone",
        )
    return ZoneInfo(name)


def bucket_starts(granularity: Granularity, zone: tzinfo, time_range: TimeRange) -> list[datetime]:
    """Return the instants, in UTC, at which the buckets that cover a range begin; the first may lie before it.

    Raises InvalidInput (`too_many_buckets`) above 20,000.
    """
    if (time_range.end - time_range.start) / _SHORTEST[granularity] > MAX_BUCKETS:
        raise InvalidInput(
            f"That would be more than {MAX_BUCKETS} buckets; ask for a shorter time or a coarser granularity.",
            code="too_many_buckets",
            field="granularity",
        )
    match granularity:
        case "total":
            return [time_range.start]
        case "hour":
            return _hours(zone, time_range)
        case _:
            return _calendar_starts(granularity, zone, time_range)


def _hours(zone: tzinfo, time_range: TimeRange) -> list[datetime]:
    starts = [time_range.start - _into_hour(time_range.start, zone)]
    while (following := starts[-1] + _HOUR - _into_hour(starts[-1], zone)) < time_range.end:
        starts.append(following)
    return starts


def _into_hour(instant: datetime, zone: tzinfo) -> timedelta:
    # Whole local hours, whatever the offset; after clocks were moved by half an hour, a shorter bucket follows.
    local = instant.astimezone(zone)
    return timedelta(minutes=local.minute, seconds=local.second, microseconds=local.microsecond)


def _calendar_starts(
    granularity: Literal["day", "week", "month"], zone: tzinfo, time_range: TimeRange
) -> list[datetime]:
    day = _first_day(granularity, time_range.start.astimezone(zone).date())
    starts: list[datetime] = []
    while (start := _midnight(day, zone)) < time_range.end:
        starts.append(start)
        day = _next_day(granularity, day)
    return starts


def _first_day(granularity: Literal["day", "week", "month"], day: date) -> date:
    match granularity:
        case "day":
            return day
        case "week":
            return day - timedelta(days=day.weekday())
        case "month":
            return day.replace(day=1)


def _next_day(granularity: Literal["day", "week", "month"], day: date) -> date:
    match granularity:
        case "day":
            return day + timedelta(days=1)
        case "week":
            return day + timedelta(days=7)
        case "month":
            return (day.replace(day=1) + timedelta(days=32)).replace(day=1)


def _midnight(day: date, zone: tzinfo) -> datetime:
    # fold=0: the first of two midnights. A midnight that clocks skip is the instant at which they skip it.
    return datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC)
