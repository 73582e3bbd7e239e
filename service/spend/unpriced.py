"""Models seen without a price of ours: what the report is asked, and what it answers. Pure."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Final
from uuid import UUID

import msgspec

from service.errors import InvalidInput
from service.identity.repricing_offer import RepricingRange
from service.kit.parameters import Parameters
from service.ledger.filters import Condition
from service.spend.report_query import ReportPosition, ReportQuery, parse_report_query

# The fees' state is part of the group: a model without a price whose fee is priced is not the same finding.
UNPRICED_GROUP: Final = (
    "requested_model",
    "deployment",
    "served_model",
    "provider",
    "call_type",
    "price_state",
    "fees_price_state",
)
UNPRICED_STATES: Final = ("unpriced", "reported")


class UnpricedGroup(msgspec.Struct, frozen=True, kw_only=True):
    """One row: the names, what was counted under them, why there is no price, one charge to judge the others by."""

    groups: dict[str, str | None]
    requests: int
    input_tokens: int
    output_tokens: int
    cost_usd: Decimal
    fees_usd: Decimal
    assumed_usd: Decimal
    first_seen: datetime
    last_seen: datetime
    reasons: dict[str, int]
    sample_charge_id: UUID


class UnpricedSums(msgspec.Struct, frozen=True, kw_only=True):
    """Sums of all rows of all pages."""

    requests: int
    input_tokens: int
    output_tokens: int
    cost_usd: Decimal
    fees_usd: Decimal
    assumed_usd: Decimal


class UnpricedAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A page of groups, the one with most requests first."""

    rows: list[UnpricedGroup]
    totals: UnpricedSums
    next: ReportPosition | None


def parse_unpriced_query(parameters: Parameters, scope: Mapping[str, Sequence[str]], now: datetime) -> ReportQuery:
    """Return the question of a reader's parameters; its options are the states. Raises InvalidInput."""
    states = _states(parameters.get("state", ()))
    return parse_report_query(parameters, scope, now, group_by=UNPRICED_GROUP, options={"state": ",".join(states)})


def states_of(query: ReportQuery) -> tuple[str, ...]:
    """Return the states the question is about, in the order of UNPRICED_STATES."""
    return tuple(query.options[0].split(","))


def offered_range(groups: Mapping[str, str | None], query: ReportQuery) -> RepricingRange:
    """Return the repricing of the charges of a group: its range, and filters as `/v1/charges` takes them."""
    filters = {condition.field: _texts_of(condition) for condition in query.conditions}
    for name in _FILTERED:
        value = groups[name]
        # What begins with the sign of exclusion cannot be asked for: the filter is then wider, the state still holds.
        if value is None or not value.startswith("!"):
            filters[name] = [value or ""]
    return RepricingRange(start=query.time_range.start, end=query.time_range.end, filter=filters)


_FILTERED = tuple(name for name in UNPRICED_GROUP if name != "fees_price_state")


def _texts_of(condition: Condition) -> list[str]:
    excluded = [f"!{value}" for value in condition.excluded]
    absent = ([""] if condition.includes_absent else []) + (["!"] if condition.excludes_absent else [])
    return [*condition.included, *excluded, *absent]


def _states(values: Sequence[str]) -> tuple[str, ...]:
    asked = dict.fromkeys(state.strip() for value in values for state in value.split(","))
    for state in asked:
        if state not in UNPRICED_STATES:
            raise InvalidInput(f"state is one of {', '.join(UNPRICED_STATES)}.", code="unknown_value", field="state")
    return tuple(state for state in UNPRICED_STATES if state in asked) or ("unpriced",)
