"""Wire shapes of spend reports: amounts are strings in plain notation, buckets are local times with their offset."""

from datetime import datetime
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from service.kit.money import format_amount
from service.spend.spend_answer import SpendAnswer, SpendRow
from service.spend.spend_query import AMOUNTS, SpendQuery, cursor_after

Group = str | None | UnsetType


class SpendSums(msgspec.Struct, kw_only=True):
    """Sums over charges."""

    spend_usd: str
    model_cost_usd: str
    fees_usd: str
    list_cost_usd: str
    requests: int
    failed_requests: int
    unpriced_requests: int
    input_tokens: int
    output_tokens: int
    cache_read_input_tokens: int
    cache_write_input_tokens: int
    reasoning_output_tokens: int


class SpendLine(msgspec.Struct, kw_only=True):
    """Sums of one group in one bucket. Of the groups it has those asked for; null = charges without a value."""

    bucket: datetime | UnsetType = UNSET
    organization: Group = UNSET
    team: Group = UNSET
    project: Group = UNSET
    user: Group = UNSET
    api_key: Group = UNSET
    end_user: Group = UNSET
    agent: Group = UNSET
    session: Group = UNSET
    tag: Group = UNSET
    requested_model: Group = UNSET
    deployment: Group = UNSET
    served_model: Group = UNSET
    provider: Group = UNSET
    call_type: Group = UNSET
    price_state: Group = UNSET
    service_tier: Group = UNSET
    status: Group = UNSET
    kind: Group = UNSET
    spend_usd: str
    model_cost_usd: str
    fees_usd: str
    list_cost_usd: str
    requests: int
    failed_requests: int
    unpriced_requests: int
    input_tokens: int
    output_tokens: int
    cache_read_input_tokens: int
    cache_write_input_tokens: int
    reasoning_output_tokens: int


class SpendBasis(msgspec.Struct, kw_only=True, rename={"start": "from", "end": "to"}):
    """What the numbers are based on.

    Everything recorded until `complete_through` is in them (null: nothing is recorded). The sums of `overlapping`
    groups are not to be added up: a charge with two tags is in both.
    """

    time: str
    timezone: str
    currency: str
    start: datetime
    end: datetime
    complete_through: datetime | None
    overlapping: list[str]


class SpendReport(msgspec.Struct, kw_only=True):
    """A page of rows; `totals` are those of all pages, each charge counted once."""

    rows: list[SpendLine]
    totals: SpendSums
    next_cursor: str | None
    basis: SpendBasis


def spend_report(query: SpendQuery, answer: SpendAnswer) -> SpendReport:
    """Return the wire form of an answer."""
    zone = query.zone
    return SpendReport(
        rows=[_line(query, row) for row in answer.rows],
        totals=SpendSums(**_sums(answer.totals)),
        next_cursor=None if answer.next is None else cursor_after(query, answer.next),
        basis=SpendBasis(
            time="effective_at",
            timezone=query.timezone,
            currency="USD",
            start=query.time_range.start.astimezone(zone),
            end=query.time_range.end.astimezone(zone),
            complete_through=answer.complete_through,
            overlapping=[name for name in query.group_by if name == "tag"],
        ),
    )


def _line(query: SpendQuery, row: SpendRow) -> SpendLine:
    keys: dict[str, Any] = dict(row.groups)
    if row.bucket is not None:
        keys["bucket"] = query.starts[row.bucket].astimezone(query.zone)
    return SpendLine(**keys, **_sums(row.measures))


def _sums(measures: dict[str, Any]) -> dict[str, Any]:
    return {name: format_amount(value) if name in AMOUNTS else value for name, value in measures.items()}
