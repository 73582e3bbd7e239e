"""What a reader asks of charges: conditions on their fields, a range of time. Parsed from query parameters; pure.

A repeated parameter means any of its values, a leading `!` excludes, an empty value is "absent", `!` alone "present".
Conditions on different fields all hold. The scope of a token is conditions too, which no parameter can widen.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from uuid import UUID

import msgspec

from service.errors import InvalidInput
from service.identity.dimensions import DIMENSION_NAMES, clean_value
from service.kit.instants import BEGINNING, checked_instant
from service.kit.parameters import Parameters
from service.kit.text import bounded_text

DEFAULT_RANGE = timedelta(days=30)
# Producers' clocks may run ahead of ours by this much: what was just recorded is inside the default range.
CLOCK_TOLERANCE = timedelta(minutes=5)
QUARTER_HOUR = timedelta(minutes=15)

FIELDS = (
    *DIMENSION_NAMES,
    "call_type",
    "price_state",
    "service_tier",
    "status",
    "kind",
    "event_id",
    "request_id",
)
KNOWN_VALUES = {
    "price_state": frozenset({"priced", "free", "reported", "unpriced"}),
    "status": frozenset({"success", "failure"}),
    "kind": frozenset({"usage", "conflict", "correction", "reversal", "opening"}),
}


class Condition(msgspec.Struct, frozen=True, kw_only=True):
    """What one field must be: if restricted, one of `included` (or absent, if so said); and nothing excluded."""

    field: str
    included: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()
    includes_absent: bool = False
    excludes_absent: bool = False
    # Told apart from an empty `included`: a scope of no value at all must let nothing through.
    is_restricted: bool = False

    @property
    def admits_absent(self) -> bool:
        """Whether a charge without a value of the field passes."""
        return not self.excludes_absent and (self.includes_absent or not self.is_restricted)


class TimeRange(msgspec.Struct, frozen=True):
    """Instants from `start`, inclusive, to `end`, exclusive."""

    start: datetime
    end: datetime


class Position(msgspec.Struct, frozen=True):
    """Where a page ends: the next one begins after this charge."""

    effective_at: datetime
    charge_id: UUID


def single(parameters: Parameters, name: str) -> str | None:
    """Return the value of a parameter that may be given once; None if it is not. Raises InvalidInput."""
    values = parameters.get(name, ())
    if len(values) > 1:
        raise InvalidInput(f"{name} may be given once.", code="repeated_parameter", field=name)
    return values[0] if values else None


def parse_conditions(parameters: Parameters, fields: Sequence[str] = FIELDS) -> tuple[Condition, ...]:
    """Return the conditions of a reader's parameters. Raises InvalidInput (`unknown_value`)."""
    return tuple(_condition(name, parameters[name]) for name in fields if parameters.get(name))


def _condition(field: str, values: Sequence[str]) -> Condition:
    included = [value for value in values if not value.startswith("!")]
    excluded = [value[1:] for value in values if value.startswith("!")]
    known = KNOWN_VALUES.get(field)
    for value in (*included, *excluded):
        if known is not None and value not in known:
            raise InvalidInput(f"{field} is one of {', '.join(sorted(known))}.", code="unknown_value", field=field)
    return Condition(
        field=field,
        included=_texts(field, included),
        excluded=_texts(field, excluded),
        includes_absent="" in included,
        excludes_absent="" in excluded,
        is_restricted=bool(included),
    )


def scope_conditions(scope: Mapping[str, Sequence[str]]) -> tuple[Condition, ...]:
    """Return the conditions of a token's scope: every one of its dimensions must have one of the values listed."""
    unknown = [name for name in scope if name not in DIMENSION_NAMES]
    if unknown:
        raise ValueError(f"a scope over something that is no dimension: {unknown}")
    return tuple(
        Condition(field=name, included=_texts(name, values), is_restricted=True)
        for name, values in sorted(scope.items())
    )


def _texts(field: str, values: Sequence[str]) -> tuple[str, ...]:
    # The same bound as at ingest, so that an overlong value finds its charges.
    if field == "api_key":
        return tuple(sorted({key for value in values if (key := clean_value(field, value)) is not None}))
    return tuple(sorted({bounded_text(value) for value in values if value}))


def parse_range(
    parameters: Parameters, now: datetime, *, zone: tzinfo = UTC, first_page: TimeRange | None = None
) -> TimeRange:
    """Return the range of `from` and `to`; by default the last 30 days, to the next quarter of an hour after `now`.

    A date alone is its midnight in `zone`. `first_page` is the range of the list's first page, which further pages
    share although "the last 30 days" moves on. Raises InvalidInput (`invalid_time`, `invalid_range`).
    """
    default_end = first_page.end if first_page else quarter_after(now + CLOCK_TOLERANCE)
    end = _instant(parameters, "to", zone) or default_end
    start = _instant(parameters, "from", zone) or (first_page.start if first_page else end - DEFAULT_RANGE)
    if start >= end:
        raise InvalidInput("from must lie before to.", code="invalid_range", field="from")
    return TimeRange(start, end)


def quarter_before(instant: datetime) -> datetime:
    """Return the last quarter of an hour (UTC) at or before the instant."""
    return BEGINNING + (instant - BEGINNING) // QUARTER_HOUR * QUARTER_HOUR


def quarter_after(instant: datetime) -> datetime:
    """Return the first quarter of an hour (UTC) at or after the instant."""
    return BEGINNING - (BEGINNING - instant) // QUARTER_HOUR * QUARTER_HOUR


def _instant(parameters: Parameters, name: str, zone: tzinfo) -> datetime | None:
    text = single(parameters, name)
    return None if text is None else checked_instant(text, name, zone)
