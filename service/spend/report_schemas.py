"""Wire shapes of the reports over charges: amounts are strings in plain notation, ratios plain numbers as text."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Context
from typing import Any
from uuid import UUID

import msgspec
from msgspec import UNSET

from service.identity.repricing_offer import RepricingRange
from service.kit.money import EXACT, format_amount
from service.pricing.divergence import Tolerance
from service.spend.divergence import DivergenceAnswer, DivergenceGroup, DivergenceQuery, DivergenceSums
from service.spend.report_query import ReportQuery, report_cursor
from service.spend.schemas import Group
from service.spend.unpriced import UnpricedAnswer, UnpricedGroup, offered_range

# A ratio is no amount: six digits tell enough, and it need not be exact.
_RATIO = Context(prec=6)


class UnpricedLine(msgspec.Struct, kw_only=True):
    """Names seen without a price of ours.

    `price_state`: `unpriced`, or `reported` where the gateway's figure stands in; `fees_price_state` `priced` beside
    `unpriced` = the fee is priced, the model is not. `priced_now`: the prices, aliases and rules of today price it,
    and `repricing` is what to post for that.
    """

    requested_model: str | None
    deployment: str | None
    served_model: str | None
    provider: str | None
    call_type: str
    price_state: str
    fees_price_state: str
    requests: int
    input_tokens: int
    output_tokens: int
    cost_usd: str
    fees_usd: str
    assumed_usd: str
    first_seen: datetime
    last_seen: datetime
    reasons: dict[str, int]
    sample_charge_id: UUID
    priced_now: bool
    repricing: RepricingRange | None


class UnpricedTotals(msgspec.Struct, kw_only=True):
    """Sums of all pages."""

    requests: int
    input_tokens: int
    output_tokens: int
    cost_usd: str
    fees_usd: str
    assumed_usd: str


class ReportBasis(msgspec.Struct, kw_only=True, rename={"start": "from", "end": "to"}):
    """What the numbers are based on."""

    time: str
    currency: str
    start: datetime
    end: datetime


class UnpricedReport(msgspec.Struct, kw_only=True):
    """A page of rows, the one with most requests first; `totals` are those of all pages."""

    rows: list[UnpricedLine]
    totals: UnpricedTotals
    next_cursor: str | None
    basis: ReportBasis


class DivergenceTotals(msgspec.Struct, kw_only=True):
    """Sums over the charges we priced and the gateway reported a cost of.

    `difference_usd` = reported - cost, `ratio` = reported / cost (null when our cost is 0).
    """

    requests: int
    cost_usd: str
    reported_cost_usd: str
    difference_usd: str
    ratio: str | None
    diverging_requests: int
    diverging_usd: str
    reported_zero_requests: int


class DivergenceLine(DivergenceTotals, kw_only=True):
    """Sums of one group. `sample_charge_ids`: the furthest off first; each charge's explanation says why."""

    organization: Group = UNSET
    team: Group = UNSET
    project: Group = UNSET
    user: Group = UNSET
    api_key: Group = UNSET
    end_user: Group = UNSET
    agent: Group = UNSET
    session: Group = UNSET
    requested_model: Group = UNSET
    deployment: Group = UNSET
    served_model: Group = UNSET
    provider: Group = UNSET
    call_type: Group = UNSET
    price_state: Group = UNSET
    service_tier: Group = UNSET
    status: Group = UNSET
    price_key: Group = UNSET
    gateway_price_key: Group = UNSET
    price_book_version: Group = UNSET
    sample_charge_ids: list[UUID]


class ToleranceView(msgspec.Struct, kw_only=True):
    """A request diverges when the difference is above both: this share of our cost, and this amount."""

    ratio: str
    usd: str


class DivergenceBasis(ReportBasis, kw_only=True, rename={"start": "from", "end": "to"}):
    """What the numbers are based on."""

    tolerance: ToleranceView


class DivergenceReport(msgspec.Struct, kw_only=True):
    """A page of rows, the largest difference first; `totals` are those of all pages."""

    rows: list[DivergenceLine]
    totals: DivergenceTotals
    next_cursor: str | None
    basis: DivergenceBasis


def unpriced_report(query: ReportQuery, answer: UnpricedAnswer, priced_now: Sequence[bool]) -> UnpricedReport:
    """Return the wire form of an answer; `priced_now` says of each row whether it would have a price today."""
    totals = answer.totals
    return UnpricedReport(
        rows=[_unpriced_line(query, row, is_priced) for row, is_priced in zip(answer.rows, priced_now, strict=True)],
        totals=UnpricedTotals(
            requests=totals.requests,
            input_tokens=totals.input_tokens,
            output_tokens=totals.output_tokens,
            cost_usd=format_amount(totals.cost_usd),
            fees_usd=format_amount(totals.fees_usd),
            assumed_usd=format_amount(totals.assumed_usd),
        ),
        next_cursor=None if answer.next is None else report_cursor(query, answer.next),
        basis=ReportBasis(**_basis(query)),
    )


def divergence_report(query: DivergenceQuery, answer: DivergenceAnswer, tolerance: Tolerance) -> DivergenceReport:
    """Return the wire form of an answer."""
    return DivergenceReport(
        rows=[_divergence_line(row) for row in answer.rows],
        totals=DivergenceTotals(**_divergence_sums(answer.totals)),
        next_cursor=None if answer.next is None else report_cursor(query.report, answer.next),
        basis=DivergenceBasis(
            **_basis(query.report),
            tolerance=ToleranceView(ratio=format_amount(tolerance.ratio), usd=format_amount(tolerance.least_usd)),
        ),
    )


def _unpriced_line(query: ReportQuery, row: UnpricedGroup, is_priced: bool) -> UnpricedLine:
    names: dict[str, Any] = dict(row.groups)
    return UnpricedLine(
        **names,
        requests=row.requests,
        input_tokens=row.input_tokens,
        output_tokens=row.output_tokens,
        cost_usd=format_amount(row.cost_usd),
        fees_usd=format_amount(row.fees_usd),
        assumed_usd=format_amount(row.assumed_usd),
        first_seen=row.first_seen,
        last_seen=row.last_seen,
        reasons=row.reasons,
        sample_charge_id=row.sample_charge_id,
        priced_now=is_priced,
        repricing=offered_range(row.groups, query) if is_priced else None,
    )


def _divergence_line(row: DivergenceGroup) -> DivergenceLine:
    names: dict[str, Any] = dict(row.groups)
    return DivergenceLine(**names, **_divergence_sums(row.sums), sample_charge_ids=row.sample_charge_ids)


def _divergence_sums(sums: DivergenceSums) -> dict[str, Any]:
    cost, reported = sums.cost_usd, sums.reported_cost_usd
    return {
        "requests": sums.requests,
        "cost_usd": format_amount(cost),
        "reported_cost_usd": format_amount(reported),
        "difference_usd": format_amount(EXACT.subtract(reported, cost)),
        "ratio": format_amount(_RATIO.divide(reported, cost)) if cost else None,
        "diverging_requests": sums.diverging_requests,
        "diverging_usd": format_amount(sums.diverging_usd),
        "reported_zero_requests": sums.reported_zero_requests,
    }


def _basis(query: ReportQuery) -> dict[str, Any]:
    time_range = query.time_range
    return {"time": "effective_at", "currency": "USD", "start": time_range.start, "end": time_range.end}
