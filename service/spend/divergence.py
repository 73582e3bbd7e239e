"""Our cost beside the gateway's: what the divergence report is asked, and what it answers. Pure."""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from uuid import UUID

import msgspec

from service.errors import InvalidInput
from service.kit.parameters import Parameters
from service.ledger.filters import single
from service.spend.report_query import ReportPosition, ReportQuery, parse_group_by, parse_report_query
from service.spend.spend_query import GROUPABLE

DIVERGENCE_GROUPS = (
    *(name for name in GROUPABLE if name not in {"tag", "kind"}),
    "price_key",
    "gateway_price_key",
    "price_book_version",
)
_DEFAULT_GROUP = ("served_model",)
_RATIO = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")


class DivergenceQuery(msgspec.Struct, frozen=True):
    """One question; rows whose two sums differ by a smaller factor than `min_ratio` are left out (1 = none is)."""

    report: ReportQuery
    min_ratio: Decimal


class DivergenceSums(msgspec.Struct, frozen=True, kw_only=True):
    """Sums over charges we priced and the gateway reported a cost of.

    `diverging_requests`: beyond the tolerance; `reported_zero_requests`: we charge them and the gateway says 0.
    """

    requests: int
    cost_usd: Decimal
    reported_cost_usd: Decimal
    diverging_requests: int
    diverging_usd: Decimal
    reported_zero_requests: int


class DivergenceGroup(msgspec.Struct, frozen=True, kw_only=True):
    """One row: a group, its sums, and charges to look at (the largest difference first)."""

    groups: dict[str, str | None]
    sums: DivergenceSums
    sample_charge_ids: list[UUID]


class DivergenceAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A page of groups; `totals` are those of all groups that `min_ratio` lets through."""

    rows: list[DivergenceGroup]
    totals: DivergenceSums
    next: ReportPosition | None


def parse_divergence_query(
    parameters: Parameters, scope: Mapping[str, Sequence[str]], now: datetime
) -> DivergenceQuery:
    """Return the question of a reader's parameters. Raises InvalidInput naming the parameter."""
    group_by = parse_group_by(parameters, DIVERGENCE_GROUPS, _DEFAULT_GROUP)
    min_ratio = _min_ratio(single(parameters, "min_ratio"))
    options = {"group_by": ",".join(group_by), "min_ratio": str(min_ratio)}
    return DivergenceQuery(parse_report_query(parameters, scope, now, group_by=group_by, options=options), min_ratio)


def _min_ratio(text: str | None) -> Decimal:
    if text is None:
        return Decimal(1)
    if _RATIO.fullmatch(text) is None or Decimal(text) < 1:
        raise InvalidInput(
            "min_ratio is a plain number from 1: the larger sum over the smaller one.",
            code="invalid_ratio",
            field="min_ratio",
        )
    return Decimal(text)
