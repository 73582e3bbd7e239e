"""Rates that hold in windows of the day and the week only, such as "at night and at weekends". Pure."""

from datetime import UTC, datetime, tzinfo
from decimal import Decimal
from typing import Annotated, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

_MINUTES_OF_DAY = 24 * 60

Weekday = Annotated[int, msgspec.Meta(ge=1, le=7)]


class OffPeakWindow(msgspec.Struct, frozen=True):
    """Spans of UTC minutes, each [start, end), on ISO weekdays (Monday = 1)."""

    spans: tuple[tuple[int, int], ...]
    weekdays: frozenset[int]


class OffPeak(msgspec.Struct, frozen=True):
    """Rates by token kind that replace the flat ones inside any of the windows."""

    rates: dict[str, Decimal]
    windows: tuple[OffPeakWindow, ...]
    weekday_zone: tzinfo

    def holds_at(self, instant: datetime) -> bool:
        """Tell whether the instant lies in a window; hours are UTC, weekdays those of `weekday_zone`."""
        in_utc = instant.astimezone(UTC)
        minute = in_utc.hour * 60 + in_utc.minute
        weekday = instant.astimezone(self.weekday_zone).isoweekday()
        return any(
            weekday in window.weekdays and any(start <= minute < end for start, end in window.spans)
            for window in self.windows
        )


class _WindowDocument(msgspec.Struct):
    hours_utc: str | list[str]
    weekdays: frozenset[Weekday] = frozenset(range(1, 8))


class _OffPeakDocument(msgspec.Struct):
    windows: Annotated[list[_WindowDocument], msgspec.Meta(min_length=1)]
    weekday_timezone: str = "UTC"


def parse_off_peak(rates: dict[str, Decimal], document: dict[str, Any]) -> OffPeak:
    """Return the windows of an `off_peak_pricing` block; ValueError says what cannot be read."""
    try:
        read = msgspec.convert(document, _OffPeakDocument)
        zone = ZoneInfo(read.weekday_timezone)
    except (msgspec.ValidationError, ZoneInfoNotFoundError, OSError) as error:
        raise ValueError(str(error)) from error
    return OffPeak(rates, tuple(_window(window) for window in read.windows), zone)


def _window(document: _WindowDocument) -> OffPeakWindow:
    hours = document.hours_utc
    texts = [hours] if isinstance(hours, str) else hours
    return OffPeakWindow(tuple(span for text in texts for span in _spans(text)), document.weekdays)


def _spans(text: str) -> list[tuple[int, int]]:
    """Return "22:00-02:00" as minutes: past midnight it is two spans, "00:00-00:00" is the whole day."""
    first, separator, last = text.partition("-")
    if not separator:
        raise ValueError(f"{text!r} is not HH:MM-HH:MM")
    start, end = _minute(first), _minute(last)
    if start < end:
        return [(start, end)]
    return [span for span in ((start, _MINUTES_OF_DAY), (0, end)) if span[0] < span[1]]


def _minute(text: str) -> int:
    hours, _, minutes = text.partition(":")
    if not (hours.isdecimal() and minutes.isdecimal() and int(hours) < 24 and int(minutes) < 60):
        raise ValueError(f"{text!r} is not a time of day")
    return int(hours) * 60 + int(minutes)
