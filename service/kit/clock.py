"""The only place that reads the machine's clock; everything else is handed an instant or asks a database."""

import time
from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


def utc_now() -> datetime:
    """Return the present instant, aware, in UTC."""
    return datetime.now(UTC)


def monotonic() -> float:
    """Return seconds of a clock that never goes back; only differences mean anything."""
    return time.monotonic()


def to_unix_ms(instant: datetime) -> int:
    """Return whole milliseconds since the epoch, rounded down."""
    return int(instant.timestamp() * 1000)


def unix_ms_rounded_up(instant: datetime) -> int:
    """Return the first whole millisecond since the epoch that is not before the instant."""
    return -((_EPOCH - instant) // _MILLISECOND)


def from_unix_ms(milliseconds: int) -> datetime:
    """Return the instant, aware, in UTC, of milliseconds since the epoch."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
