"""What a duration of LiteLLM's means as a period: as its reset job really cuts time, not as it reads.

Rows carry a `budget_duration` for windows of the calendar, kept by a job; limits by model, provider and deployment
carry one for a length that begins with the first use. What LiteLLM misreads is read the way it behaves, and said. Pure.
"""

import re
from datetime import UTC, datetime, time, timedelta
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from service.budgets.period import (
    DEFAULT_ANCHOR,
    CalendarPeriod,
    FixedPeriod,
    LifetimePeriod,
    Period,
    RollingPeriod,
    Unit,
)

MIDNIGHT: Final = time(0)

_WORDS: Final = {"hourly": "1h", "daily": "24h", "weekly": "7d", "monthly": "30d"}
# LiteLLM looks at the beginning only: `30days` is 30 of an unknown unit there, `30d!` thirty days.
_RESET: Final = re.compile(r"(\d{1,9})([a-z]+)", re.ASCII)
_LENGTH: Final = re.compile(r"(\d{1,9})(mo|[smhdw]?)", re.ASCII)
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_DAY: Final = 86_400
_MONTH: Final = 30 * _DAY
_LEAST_ROLLING: Final = 60
_MOST_SECONDS: Final = 3660 * _DAY


class ResetRules(NamedTuple):
    """When LiteLLM's reset job cuts: one zone and one time of day for the whole proxy."""

    timezone: str = "UTC"
    time_of_day: time = MIDNIGHT


class Meaning(NamedTuple):
    """The period a duration stands for, None if none can; `note` says what is not as it reads."""

    period: Period | None
    note: str | None = None


def reset_period(duration: str | None, rules: ResetRules, resets_at: datetime | None = None) -> Meaning:
    """Return the period of a `budget_duration`; windows of several days count from the stored `resets_at`."""
    text = (duration or "").strip()
    if not text:
        return Meaning(LifetimePeriod())
    found = _RESET.match(_WORDS.get(text.lower(), text))
    if found is None:
        return _misread(text, rules)
    count, unit = int(found[1]), found[2]
    if unit == "mo":
        return _months(text, count, rules)
    if unit not in _SECONDS:
        return _misread(text, rules)
    if not count:
        return Meaning(None, f"{text!r} is reset by LiteLLM at every run of its job: it limits nothing there.")
    if count * _SECONDS[unit] > _MOST_SECONDS:
        return Meaning(None, f"{text!r} is longer than ten years.")
    if unit in {"d", "w"}:
        return _days(count * (7 if unit == "w" else 1), rules, resets_at)
    return _hours(text, count, rules) if unit == "h" else _short(text, count, unit, rules)


def first_use_period(duration: str | None) -> Meaning:
    """Return the period of a limit that LiteLLM counts from its first use, without end of its own: a rolling one."""
    text = (duration or "").strip()
    found = _LENGTH.match(_WORDS.get(text.lower(), text))
    if found is None or not found[2] or not int(found[1]):
        shown = f"{text!r} is no duration" if text else "It has no duration"
        return Meaning(None, f"{shown}: LiteLLM does not enforce it.")
    if found[2] == "mo":
        seconds = int(found[1]) * _MONTH
        note = f"{text!r} is taken as {seconds // _DAY} days, rolling; in LiteLLM it is as long as the months are."
    else:
        seconds, note = int(found[1]) * _SECONDS[found[2]], None
    if found[0] != _WORDS.get(text.lower(), text):
        note = f"{text!r} is read as {found[0]!r}, as LiteLLM reads it."
    if seconds > _MOST_SECONDS:
        return Meaning(None, f"{text!r} is longer than ten years.")
    if seconds < _LEAST_ROLLING:
        return Meaning(RollingPeriod(_LEAST_ROLLING), f"{text!r} is shorter than a minute: one minute is taken.")
    return Meaning(RollingPeriod(seconds), note)


def _misread(text: str, rules: ResetRules) -> Meaning:
    note = f"LiteLLM does not understand {text!r} and resets it every midnight: taken as a calendar day."
    return Meaning(_calendar("day", rules.timezone), note)


def _months(text: str, count: int, rules: ResetRules) -> Meaning:
    if count == 1:
        return _calendar_or_later("month", rules)
    note = f"LiteLLM's reset job fails on {text!r}, so that it is never reset: taken as a lifetime."
    return Meaning(LifetimePeriod(), note)


def _days(days: int, rules: ResetRules, resets_at: datetime | None) -> Meaning:
    unit: Unit | None = {1: "day", 7: "week", 30: "month"}.get(days)  # type: ignore[assignment]
    if unit is not None:
        return _calendar_or_later(unit, rules)
    anchor = resets_at or _local(rules)
    note = (
        None
        if resets_at is not None
        else f"Windows of {days} days are counted from 2001-01-01: no date of a reset is stored."
    )
    return Meaning(FixedPeriod(days * _DAY, _first_anchor(anchor, days * _DAY)), note)


def _calendar_or_later(unit: Unit, rules: ResetRules) -> Meaning:
    """Return calendar windows, or those of the same length that begin at the proxy's time of day."""
    if rules.time_of_day == MIDNIGHT:
        return Meaning(_calendar(unit, rules.timezone))
    at = rules.time_of_day.strftime("%H:%M")
    if unit == "month":
        note = f"LiteLLM resets on the 1st at {at}; taken as calendar months from midnight."
        return Meaning(_calendar(unit, rules.timezone), note)
    length = _DAY if unit == "day" else 7 * _DAY
    period = FixedPeriod(length, _first_anchor(_local(rules, rules.time_of_day), length))
    winter = f"Windows begin at {at} by winter time of {rules.timezone} all the year."
    return Meaning(period, winter if _changes_clock(rules.timezone) else None)


def _hours(text: str, hours: int, rules: ResetRules) -> Meaning:
    if hours == 1:
        return Meaning(_calendar("hour", rules.timezone))
    if hours == 24:
        return Meaning(_calendar("day", rules.timezone))
    if hours < 24:
        note = None if 24 % hours == 0 else f"LiteLLM's windows of {text!r} are shorter across midnight; these are not."
        return Meaning(FixedPeriod(hours * 3600, _first_anchor(_local(rules), hours * 3600)), note)
    hour = hours % 24
    if not hour:
        note = f"LiteLLM resets {text!r} every midnight: taken as a calendar day."
        return Meaning(_calendar("day", rules.timezone), note)
    note = f"LiteLLM resets {text!r} every day at {hour}:00: taken as days from then."
    return Meaning(FixedPeriod(_DAY, _first_anchor(_local(rules, time(hour)), _DAY)), note)


def _short(text: str, count: int, unit: str, rules: ResetRules) -> Meaning:
    """Return windows of minutes, which LiteLLM cuts within the hour, or of seconds, within the minute."""
    seconds, cycle = count * _SECONDS[unit], 60 * _SECONDS[unit]
    if cycle % seconds and seconds % cycle:
        note = f"LiteLLM cuts windows of {text!r} anew every {'hour' if unit == 'm' else 'minute'}; these are even."
    elif seconds > _DAY:
        note = f"LiteLLM resets {text!r} every day; its own length is taken."
    else:
        note = None
    return Meaning(FixedPeriod(seconds, _first_anchor(_local(rules), seconds)), note)


def _calendar(unit: Unit, timezone: str) -> CalendarPeriod:
    return CalendarPeriod(unit, timezone, 1 if unit in {"week", "month"} else None)


def _local(rules: ResetRules, at: time = MIDNIGHT) -> datetime:
    """Return that time of the first day windows are counted from, a Monday, in the proxy's zone."""
    return datetime.combine(DEFAULT_ANCHOR.date(), at, ZoneInfo(rules.timezone)).astimezone(UTC)


def _first_anchor(instant: datetime, seconds: int) -> datetime:
    """Return the first boundary since 2001 of windows one of which begins then: the same after every reset."""
    whole = instant.replace(microsecond=0)
    return DEFAULT_ANCHOR + (whole - DEFAULT_ANCHOR) % timedelta(seconds=seconds)


def _changes_clock(timezone: str) -> bool:
    zone = ZoneInfo(timezone)
    return zone.utcoffset(datetime(2001, 1, 1)) != zone.utcoffset(datetime(2001, 7, 1))  # noqa: DTZ001
