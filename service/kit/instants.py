"""Instants in text, as callers write them: RFC 3339 with an offset, or a date. Pure."""

import re
from datetime import UTC, date, datetime, tzinfo
from datetime import time as time_of_day

from service.errors import InvalidInput

BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_YEAR = 2200
_BOUNDS = f"from {BEGINNING.year} to {_LAST_YEAR}"
# A "+" that was not escaped in a URL arrives as a space.
_UNESCAPED_OFFSET = re.compile(r"(T\S+) (\d\d:?\d\d)$")


def parse_instant(text: str, zone: tzinfo = UTC) -> datetime | None:
    """Return the instant, in UTC, of an RFC 3339 time with offset or of a date (its midnight in `zone`); else None."""
    try:
        if len(text) == 10:
            instant = datetime.combine(date.fromisoformat(text), time_of_day(), zone)
        else:
            instant = datetime.fromisoformat(_UNESCAPED_OFFSET.sub(r"\1+\2", text))
    except ValueError:
        return None
    return None if instant.tzinfo is None else _in_utc(instant)


def checked_instant(text: str, field: str, zone: tzinfo = UTC) -> datetime:
    """Return the instant of a parameter. Raises InvalidInput (`invalid_time`)."""
    instant = parse_instant(text, zone)
    if instant is None:
        raise InvalidInput(
            f"{field} must be an RFC 3339 time with offset (2026-11-01T00:00:00Z) or a date, {_BOUNDS}.",
            code="invalid_time",
            field=field,
        )
    return instant


def bounded_instant(instant: datetime, field: str) -> datetime:
    """Return, in UTC, a time with offset that a body carried. Raises InvalidInput (`invalid_time`)."""
    bounded = _in_utc(instant)
    if bounded is None:
        raise InvalidInput(f"{field} must be a time {_BOUNDS}.", code="invalid_time", field=field)
    return bounded


def _in_utc(instant: datetime) -> datetime | None:
    # By the year as written: at either end of the calendar there is no such time in UTC.
    if not BEGINNING.year <= instant.year <= _LAST_YEAR:
        return None
    return max(instant.astimezone(UTC), BEGINNING)
