"""The written forms of a period: the long document, the short forms gateways use, and a sentence that says it.

Whatever could be read in two ways is refused with the document that says it in one: elsewhere `48h` and `10days` are
accepted and then reset every day. Pure.
"""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final
from zoneinfo import available_timezones

import msgspec

from service.budgets.period import (
    DEFAULT_ANCHOR,
    CalendarPeriod,
    FixedPeriod,
    LifetimePeriod,
    Period,
    RollingPeriod,
    Unit,
)
from service.budgets.period_hints import hint_for
from service.errors import InvalidInput

MAX_LENGTH_SECONDS: Final = 3660 * 86_400
LEAST_ROLLING_SECONDS: Final = 60
_DAY_SECONDS: Final = 86_400
_EARLIEST_ANCHOR: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST_ANCHOR: Final = datetime(2200, 1, 1, tzinfo=UTC)

_UNITS: Final[tuple[Unit, ...]] = ("hour", "day", "week", "month", "quarter", "year")
_WEEKDAYS: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_SECONDS_PER: Final = {"s": 1, "m": 60, "h": 3600}
_SHORT_CLOCK: Final = re.compile(r"([1-9][0-9]{0,4})([smh])")


def _calendar(unit: Unit) -> CalendarPeriod:
    start_day = 1 if unit in {"week", "month"} else None
    return CalendarPeriod(unit, "UTC", start_day)


_SHORT_FORMS: Final[dict[str, Period]] = {
    "1d": _calendar("day"),
    "daily": _calendar("day"),
    "7d": _calendar("week"),
    "1w": _calendar("week"),
    "weekly": _calendar("week"),
    "30d": _calendar("month"),
    "1mo": _calendar("month"),
    "monthly": _calendar("month"),
    "90d": FixedPeriod(90 * _DAY_SECONDS, DEFAULT_ANCHOR),
    "1y": _calendar("year"),
}


def parse_period(document: object, field: str = "period") -> Period:
    """Return the period a document or a short form names. Raises InvalidInput with the path of the field."""
    if isinstance(document, str):
        return _parse_short_form(document, field)
    if not isinstance(document, Mapping):
        raise InvalidInput("A period is an object with `kind`, or a short form such as `1mo`.", field=field)
    kind = document.get("kind")
    reader = _READERS.get(kind) if isinstance(kind, str) else None
    if reader is None:
        raise InvalidInput("`kind` is `calendar`, `fixed`, `rolling` or `lifetime`.", field=f"{field}.kind")
    return reader(document, field)


def period_document(period: Period) -> dict[str, Any]:
    """Return the long form; `parse_period` of it is the same period."""
    document: dict[str, Any] = msgspec.to_builtins(period)
    return document


def describe_period(period: Period) -> str:
    """Return one sentence that says when the windows of the period begin."""
    if isinstance(period, LifetimePeriod):
        return "One window that never ends."
    if isinstance(period, FixedPeriod):
        anchor = period.anchor.strftime("%Y-%m-%dT%H:%M:%SZ")
        return f"Every {_length_text(period.length_seconds)}, counted from {anchor}."
    if isinstance(period, RollingPeriod):
        step = _length_text(period.bucket_seconds)
        return f"The last {_length_text(period.length_seconds)} at any time, in steps of {step}."
    return _describe_calendar(period)


def _describe_calendar(period: CalendarPeriod) -> str:
    zone = period.timezone
    match period.unit:
        case "hour":
            return f"Calendar hours of the clock in {zone}."
        case "day":
            return f"Calendar days from midnight in {zone}."
        case "week":
            return f"Calendar weeks from {_WEEKDAYS[(period.start_day or 1) - 1].capitalize()}, midnight in {zone}."
        case "month":
            shorter = "; in a shorter month its last day" if (period.start_day or 1) > 28 else ""
            return f"Calendar months from day {period.start_day or 1}, midnight in {zone}{shorter}."
        case "quarter":
            return f"Calendar quarters from January, April, July and October 1st, midnight in {zone}."
        case "year":
            return f"Calendar years from January 1st, midnight in {zone}."


def _parse_short_form(text: str, field: str) -> Period:
    period = _SHORT_FORMS.get(text)
    if period is not None:
        return period
    clock = _SHORT_CLOCK.fullmatch(text)
    if clock is not None:
        seconds = int(clock[1]) * _SECONDS_PER[clock[2]]
        if seconds <= _DAY_SECONDS:
            return FixedPeriod(seconds, DEFAULT_ANCHOR)
    raise _unknown_short_form(text, field)


def _unknown_short_form(text: str, field: str) -> InvalidInput:
    hint = hint_for(text, frozenset(_SHORT_FORMS), longest_seconds=MAX_LENGTH_SECONDS)
    detail = f"{text[:40]!r} is no short form of a period. {hint}"
    return InvalidInput(detail, code="period_not_understood", field=field)


def _read_calendar(document: Mapping[str, Any], field: str) -> Period:
    _refuse_unknown(document, ("kind", "unit", "timezone", "start_day"), field)
    unit = document.get("unit")
    if unit not in _UNITS:
        raise InvalidInput(f"`unit` is one of {', '.join(_UNITS)}.", field=f"{field}.unit")
    timezone = document.get("timezone", "UTC")
    if not isinstance(timezone, str) or timezone not in _zones():
        raise InvalidInput(
            "`timezone` is the name of an IANA time zone, such as Europe/Berlin.", field=f"{field}.timezone"
        )
    return CalendarPeriod(unit, timezone, _read_start_day(document.get("start_day"), unit, f"{field}.start_day"))


def _read_start_day(value: object, unit: Unit, field: str) -> int | None:
    last = {"week": 7, "month": 31}.get(unit)
    if last is None:
        if value is not None:
            raise InvalidInput("`start_day` belongs to weeks and months.", field=field)
        return None
    if value is None:
        return 1
    if unit == "week" and isinstance(value, str) and value.lower() in _WEEKDAYS:
        return _WEEKDAYS.index(value.lower()) + 1
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= last:
        return value
    form = "1 (Monday) to 7, or the name of the day" if unit == "week" else "1 to 31"
    raise InvalidInput(f"`start_day` of a {unit} is {form}.", field=field)


def _read_fixed(document: Mapping[str, Any], field: str) -> Period:
    _refuse_unknown(document, ("kind", "length_seconds", "anchor"), field)
    length = _read_length(document.get("length_seconds"), 1, f"{field}.length_seconds")
    return FixedPeriod(length, _read_anchor(document.get("anchor"), f"{field}.anchor"))


def _read_rolling(document: Mapping[str, Any], field: str) -> Period:
    _refuse_unknown(document, ("kind", "length_seconds"), field)
    return RollingPeriod(_read_length(document.get("length_seconds"), LEAST_ROLLING_SECONDS, f"{field}.length_seconds"))


def _read_length(value: object, least: int, field: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= MAX_LENGTH_SECONDS:
        raise InvalidInput(f"`length_seconds` is a whole number from {least} to {MAX_LENGTH_SECONDS}.", field=field)
    return value


def _read_anchor(value: object, field: str) -> datetime:
    if value is None:
        return DEFAULT_ANCHOR
    try:
        anchor = msgspec.convert(value, datetime)
    except msgspec.ValidationError:
        anchor = None
    if anchor is None or anchor.tzinfo is None or not _EARLIEST_ANCHOR <= anchor < _LATEST_ANCHOR:
        raise InvalidInput("`anchor` is a time with offset, such as 2026-01-01T00:00:00Z.", field=field)
    if anchor.microsecond:
        raise InvalidInput("`anchor` is a whole second.", field=field)
    return anchor.astimezone(UTC)


def _read_lifetime(document: Mapping[str, Any], field: str) -> Period:
    _refuse_unknown(document, ("kind",), field)
    return LifetimePeriod()


_READERS: Final[dict[str, Callable[[Mapping[str, Any], str], Period]]] = {
    "calendar": _read_calendar,
    "fixed": _read_fixed,
    "rolling": _read_rolling,
    "lifetime": _read_lifetime,
}


def _refuse_unknown(document: Mapping[str, Any], known: tuple[str, ...], field: str) -> None:
    for name in document:
        if name not in known:
            raise InvalidInput(
                f"A period of this kind has no `{str(name)[:40]}`; it has {', '.join(known)}.",
                field=f"{field}.{str(name)[:40]}",
            )


@lru_cache(maxsize=1)
def _zones() -> frozenset[str]:
    # "localtime" means another zone on every machine.
    return frozenset(available_timezones() - {"localtime"})


def _length_text(seconds: int) -> str:
    for name, size in (("day", 86_400), ("hour", 3600), ("minute", 60), ("second", 1)):
        if seconds % size == 0:
            count = seconds // size
            return name if count == 1 else f"{count} {name}s"
    raise AssertionError(seconds)
