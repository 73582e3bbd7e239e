"""What a reader of LiteLLM's `/spend/logs` asks. Parsed from its parameters; pure.

As LiteLLM reads them: dates are days in UTC, a key beginning with `sk-` is looked up by its SHA-256, and with both
dates the answer is summed up per day unless `summarize=false`. Other than there: the day of `end_date` is included,
all filters hold together, a request is never summed up, and pages take the place of a silent cap of 10,000 rows.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from uuid import UUID

import msgspec

from service.errors import InvalidInput
from service.identity.dimensions import clean_value
from service.kit.instants import parse_instant
from service.kit.pagination import decode_cursor, encode_cursor, invalid_cursor, page_limit
from service.kit.parameters import Parameters, refuse_unknown
from service.kit.text import bounded_text
from service.ledger.filters import (
    Condition,
    Position,
    TimeRange,
    scope_conditions,
    single,
)
from service.spend.buckets import bucket_starts
from service.spend.spend_query import SpendQuery

PARAMETERS = ("request_id", "api_key", "user_id", "start_date", "end_date", "summarize", "limit", "cursor")
DEFAULT_ROWS = 1_000
MAX_ROWS = 10_000

# A summary has sums per user and per model; a call without a known served model counts under its deployment.
SUMMARY_GROUPS = ("user", "served_model", "deployment", "requested_model")

_YES, _NO = frozenset({"true", "1", "yes", "on"}), frozenset({"false", "0", "no", "off"})


class LogQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which rows. `time_range` None = all times; `days` is set if they are to be summed up per day."""

    request_id: str | None
    conditions: tuple[Condition, ...]
    time_range: TimeRange | None
    days: SpendQuery | None
    limit: int
    after: Position | None


def parse_log_query(parameters: Parameters, scope: Mapping[str, Sequence[str]]) -> LogQuery:
    """Return the question of a reader's parameters. Raises InvalidInput naming the parameter."""
    refuse_unknown(parameters, PARAMETERS)
    request_id = single(parameters, "request_id")
    conditions = (*_own_conditions(parameters), *scope_conditions(scope))
    first, last = _day(parameters, "start_date"), _day(parameters, "end_date")
    time_range = _range(first, last)
    is_summary = _flag(parameters, "summarize") and first is not None and last is not None and request_id is None
    cursor = single(parameters, "cursor")
    return LogQuery(
        request_id=None if request_id is None else bounded_text(request_id),
        conditions=conditions,
        time_range=time_range,
        days=_per_day(time_range, conditions) if is_summary and time_range else None,
        limit=page_limit(single(parameters, "limit"), default=DEFAULT_ROWS, maximum=MAX_ROWS),
        after=None if cursor is None else _decode_position(cursor),
    )


def encode_position(position: Position) -> str:
    """Return the cursor of the page after a charge."""
    return encode_cursor([position.effective_at.isoformat(), str(position.charge_id)])


def _decode_position(cursor: str) -> Position:
    effective_at, charge_id = decode_cursor(cursor, length=2)
    try:
        position = Position(datetime.fromisoformat(effective_at), UUID(charge_id))
    except (TypeError, ValueError, AttributeError) as error:
        raise invalid_cursor() from error
    if position.effective_at.utcoffset() != timedelta(0):
        raise invalid_cursor()
    return position


def _own_conditions(parameters: Parameters) -> tuple[Condition, ...]:
    api_key, user = single(parameters, "api_key"), single(parameters, "user_id")
    if api_key:
        api_key = clean_value("api_key", api_key)
    return tuple(_is(field, value) for field, value in (("api_key", api_key), ("user", user)) if value is not None)


def _is(field: str, value: str) -> Condition:
    # LiteLLM writes the empty string where it knows no value.
    included = (bounded_text(value),) if value else ()
    return Condition(field=field, included=included, includes_absent=not value, is_restricted=True)


def _day(parameters: Parameters, name: str) -> datetime | None:
    text = single(parameters, name)
    if text is None:
        return None
    midnight = parse_instant(text) if len(text) == len("YYYY-MM-DD") else None
    if midnight is None:
        raise InvalidInput(f"{name} must be a day, YYYY-MM-DD, from 1970 to 2200.", code="invalid_time", field=name)
    return midnight


def _range(first: datetime | None, last: datetime | None) -> TimeRange | None:
    if first is None and last is None:
        return None
    start = first or datetime(1970, 1, 1, tzinfo=UTC)
    end = (last or datetime(2200, 12, 31, tzinfo=UTC)) + timedelta(days=1)
    if start >= end:
        raise InvalidInput("start_date must not lie after end_date.", code="invalid_range", field="start_date")
    return TimeRange(start, end)


def _flag(parameters: Parameters, name: str) -> bool:
    text = (single(parameters, name) or "true").lower()
    if text not in _YES | _NO:
        raise InvalidInput(f"{name} is true or false.", code="unknown_value", field=name)
    return text in _YES


def _per_day(time_range: TimeRange, conditions: tuple[Condition, ...]) -> SpendQuery:
    return SpendQuery(
        group_by=SUMMARY_GROUPS,
        time_range=time_range,
        granularity="day",
        starts=tuple(bucket_starts("day", UTC, time_range)),
        conditions=conditions,
    )


def day_of(instant: datetime) -> date:
    """Return the day, in UTC, as LiteLLM counts days."""
    return instant.astimezone(UTC).date()
