"""What an analyst asks: groups, buckets, conditions, order, page. Parsed from query parameters; pure."""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from hashlib import blake2b
from typing import Any, get_args
from zoneinfo import ZoneInfo

import msgspec

from service.errors import InvalidInput
from service.kit.money import format_amount
from service.kit.pagination import decode_cursor, encode_cursor, invalid_cursor, page_limit
from service.kit.parameters import Parameters, refuse_unknown
from service.ledger.filters import (
    FIELDS,
    Condition,
    TimeRange,
    parse_conditions,
    parse_range,
    scope_conditions,
    single,
)
from service.spend.buckets import Granularity, bucket_starts, find_zone

AMOUNTS = {
    "spend_usd": "cost_usd",
    "model_cost_usd": "model_cost_usd",
    "fees_usd": "fees_usd",
    "list_cost_usd": "list_cost_usd",
}
COUNTS = (
    "requests",
    "failed_requests",
    "unpriced_requests",
    "input_tokens",
    "output_tokens",
    "cache_read_input_tokens",
    "cache_write_input_tokens",
    "reasoning_output_tokens",
)
MEASURES: Mapping[str, str] = {**AMOUNTS, **{name: name for name in COUNTS}}  # name on the wire -> column

# An event or a request is looked up in /v1/charges; grouping by it would be a list of charges.
GROUPABLE = tuple(name for name in FIELDS if name not in {"event_id", "request_id"})

PARAMETERS = (*FIELDS, "group_by", "from", "to", "granularity", "timezone", "sort", "limit", "cursor", "format")

PositionValue = int | Decimal | str

_PLAIN_AMOUNT = re.compile(r"-?[0-9]{1,60}(\.[0-9]{1,300})?")


class OrderKey(msgspec.Struct, frozen=True):
    """One key of the order of rows: `bucket`, a measure or a group."""

    name: str
    is_descending: bool = False


class SpendQuery(msgspec.Struct, frozen=True, kw_only=True):
    """One question. `starts` are the beginnings of the buckets; `limit` None = all rows."""

    group_by: tuple[str, ...] = ()
    time_range: TimeRange
    granularity: Granularity = "total"
    timezone: str = "UTC"
    starts: tuple[datetime, ...] = ()
    conditions: tuple[Condition, ...] = ()
    scope: tuple[Condition, ...] = ()
    order: tuple[OrderKey, ...] = ()
    limit: int | None = None
    after: tuple[PositionValue, ...] | None = None

    @property
    def has_buckets(self) -> bool:
        """Whether rows are told apart by time."""
        return self.granularity != "total"

    @property
    def zone(self) -> ZoneInfo:
        """Return the time zone buckets are shown in."""
        return ZoneInfo(self.timezone)


def parse_spend_query(parameters: Parameters, scope: Mapping[str, Sequence[str]], now: datetime) -> SpendQuery:
    """Return the question of a reader's parameters. Raises InvalidInput naming the parameter."""
    refuse_unknown(parameters, PARAMETERS)
    _check_format(single(parameters, "format"))
    granularity = _granularity(single(parameters, "granularity"))
    zone = find_zone(single(parameters, "timezone") or "UTC")
    group_by = _group_by(parameters.get("group_by", ()))
    order = _order(single(parameters, "sort"), group_by, has_buckets=granularity != "total")
    cursor = single(parameters, "cursor")
    page = None if cursor is None else _decode_page(cursor, order)
    time_range = parse_range(parameters, now, zone=zone, first_page=page.time_range if page else None)
    query = SpendQuery(
        group_by=group_by,
        time_range=time_range,
        granularity=granularity,
        timezone=zone.key,
        starts=tuple(bucket_starts(granularity, zone, time_range)),
        conditions=parse_conditions(parameters),
        scope=scope_conditions(scope),
        order=order,
        limit=page_limit(single(parameters, "limit")),
        after=page.after if page else None,
    )
    if page is not None and page.digest != _digest(query):
        raise invalid_cursor()
    return query


def cursor_after(query: SpendQuery, position: Sequence[PositionValue]) -> str:
    """Return the cursor of the page after the row with these values of the order's keys."""
    time_range = query.time_range
    values = [format_amount(value) if isinstance(value, Decimal) else value for value in position]
    return encode_cursor([_digest(query), time_range.start.isoformat(), time_range.end.isoformat(), values])


def _check_format(text: str | None) -> None:
    if text not in {None, "json"}:
        raise InvalidInput("Spend is answered as json only.", code="format_not_supported", field="format")


def _granularity(text: str | None) -> Granularity:
    known = get_args(Granularity)
    for granularity in known:
        if text == granularity:
            return granularity  # type: ignore[no-any-return]
    if text is None:
        return "total"
    raise InvalidInput(f"granularity is one of {', '.join(known)}.", code="unknown_value", field="granularity")


def _group_by(values: Sequence[str]) -> tuple[str, ...]:
    names = dict.fromkeys(name.strip() for value in values for name in value.split(",") if name.strip())
    for name in names:
        if name not in GROUPABLE:
            raise InvalidInput(
                f"Cannot group by {name[:100]!r}; these can be grouped by: {', '.join(GROUPABLE)}.",
                code="unknown_value",
                field="group_by",
            )
    return tuple(names)


def _order(text: str | None, group_by: tuple[str, ...], *, has_buckets: bool) -> tuple[OrderKey, ...]:
    """Return the keys rows are ordered by: what is asked for, then whatever makes the order complete."""
    first = [] if text is None else [_asked_order(text, group_by, has_buckets=has_buckets)]
    bucket = [OrderKey("bucket")] if has_buckets else []
    spend = [OrderKey("spend_usd", is_descending=True)] if text is None else []
    keys: dict[str, OrderKey] = {}
    for key in (*first, *bucket, *spend, *(OrderKey(name) for name in group_by)):
        keys.setdefault(key.name, key)
    return tuple(keys.values())


def _asked_order(text: str, group_by: tuple[str, ...], *, has_buckets: bool) -> OrderKey:
    key = OrderKey(text.removeprefix("-"), is_descending=text.startswith("-"))
    known = (*(["bucket"] if has_buckets else []), *group_by, *MEASURES)
    if key.name not in known:
        raise InvalidInput(
            f"sort is one of {', '.join(known)}, with a leading `-` for descending.", code="unknown_value", field="sort"
        )
    return key


class _Page(msgspec.Struct, frozen=True):
    digest: str
    time_range: TimeRange
    after: tuple[PositionValue, ...]


def _digest(query: SpendQuery) -> str:
    """Return what ties a cursor to its question: all of it but the page."""
    question = msgspec.structs.replace(query, after=None, limit=None, starts=())
    return blake2b(msgspec.json.encode(question), digest_size=9).hexdigest()


def _decode_page(cursor: str, order: tuple[OrderKey, ...]) -> _Page:
    digest, start, end, position = decode_cursor(cursor, length=4)
    try:
        time_range = TimeRange(datetime.fromisoformat(start), datetime.fromisoformat(end))
        after = tuple(_position_value(key, value) for key, value in zip(order, position, strict=True))
    except (TypeError, ValueError) as error:
        raise invalid_cursor() from error
    if time_range.start.tzinfo is None or time_range.end.tzinfo is None or not isinstance(digest, str):
        raise invalid_cursor()
    return _Page(digest, time_range, after)


def _position_value(key: OrderKey, value: Any) -> PositionValue:
    """Return the value if the database can take it for what it claims to be; raise ValueError otherwise."""
    if key.name in AMOUNTS:
        if isinstance(value, str) and _PLAIN_AMOUNT.fullmatch(value):
            return Decimal(value)
    elif key.name == "bucket" or key.name in COUNTS:
        if type(value) is int and abs(value) < 2**63:
            return value
    elif isinstance(value, str) and "\x00" not in value:
        return value
    raise ValueError(key.name)
