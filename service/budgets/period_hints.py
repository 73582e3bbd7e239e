"""What to write in place of a short form of a period that is refused, because it could be read in two ways. Pure."""

import re
from decimal import Decimal
from typing import Final

_LENGTH: Final = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)\s*(s|m|h|d|w|mo|q|y)(?:[a-z]*)", re.ASCII)
_SECONDS_PER: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_MONTHS_PER: Final = {"mo": 1, "q": 3, "y": 12}
_UNIT_OF_MONTHS: Final = {1: "month", 3: "quarter", 12: "year"}
_UNIT_OF_WORD: Final = {
    "hourly": "hour",
    "quarterly": "quarter",
    "yearly": "year",
    "annual": "year",
    "annually": "year",
    "day": "day",
    "week": "week",
    "month": "month",
    "quarter": "quarter",
    "year": "year",
}
_ENDLESS: Final = frozenset({"lifetime", "forever", "never", "none", "total", "unlimited"})
_FORMS: Final = "Short forms are Ns, Nm and Nh up to a day, 1d daily 7d 1w weekly 30d 1mo monthly 90d 1y."


def hint_for(text: str, known: frozenset[str], *, longest_seconds: int) -> str:
    """Return a sentence or two that say what to write; `known` are the short forms there are."""
    plain = text.strip().lower()
    if plain in known:
        return f'Write "{plain}".'
    unit = _UNIT_OF_WORD.get(plain)
    if unit is not None:
        return f"Write {_calendar(unit)}."
    if plain in _ENDLESS:
        return 'Write {"kind": "lifetime"}.'
    length = _LENGTH.fullmatch(plain)
    if length is None:
        return f"{_FORMS} Everything else is written as an object with `kind`."
    count, name = Decimal(length[1]), _unit_name(plain, length[2])
    return _for_months(count * _MONTHS_PER[name]) if name in _MONTHS_PER else _for_seconds(count, name, longest_seconds)


def _unit_name(plain: str, found: str) -> str:
    """Return the unit; "m" is a minute unless the word goes on as a month."""
    return "mo" if found == "m" and re.search(r"mo(?:n|nth|nths)?$", plain) else found


def _for_seconds(count: Decimal, name: str, longest_seconds: int) -> str:
    seconds = count * _SECONDS_PER[name]
    if seconds != int(seconds) or not 1 <= seconds <= longest_seconds:
        return f"A period is a whole number of seconds, 1 to {longest_seconds}. {_FORMS}"
    length = f'"length_seconds": {int(seconds)}'
    fixed = f'{{"kind": "fixed", {length}}}'
    return f'Write {fixed} for windows of this length, or {{"kind": "rolling", {length}}} for the time since then.'


def _for_months(months: Decimal) -> str:
    unit = _UNIT_OF_MONTHS.get(int(months)) if months == int(months) else None
    if unit is not None:
        return f"Write {_calendar(unit)}."
    return f"Calendar periods are one month, quarter or year, such as {_calendar('month')}."


def _calendar(unit: str) -> str:
    return f'{{"kind": "calendar", "unit": "{unit}"}}'
