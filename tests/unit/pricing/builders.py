"""Builders of what rating is asked about, and of small price books."""

import json
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from typing import Any

from service.identity.models import ModelIdentity, PriceCandidate
from service.pricing.cost_map import make_snapshot, read_cost_map
from service.pricing.fallback import FallbackRates
from service.pricing.price_book import PriceBook
from service.pricing.rating import rate
from service.pricing.rating_result import Rating
from service.pricing.rules import NO_RULES, PricingRules
from service.pricing.shipped import shipped_snapshot
from service.pricing.usage import PricingBasis, ReportedCost, Usage

FALLBACK = FallbackRates()
NOTHING_REPORTED = ReportedCost()
WEDNESDAY_AT_8 = datetime(2026, 11, 18, 8, tzinfo=UTC)


@cache
def shipped_book() -> PriceBook:
    return PriceBook.from_snapshot(shipped_snapshot())


def book_of(entries: dict[str, dict[str, Any]]) -> PriceBook:
    """A book of the entries of a cost map."""
    return PriceBook.from_snapshot(snapshot_of(entries))


def snapshot_of(entries: dict[str, dict[str, Any]]) -> bytes:
    return make_snapshot(read_cost_map(json.dumps(entries).encode()), origin="test", licence="none")[0]


def a_model(
    *names: str, provider: str | None = None, is_router: bool = False, served_model: str | None = None, rule: str = ""
) -> ModelIdentity:
    return ModelIdentity(
        requested_model=None,
        requested_canonical=None,
        deployment=None,
        deployment_id=None,
        served_model=served_model or (names[0] if names else None),
        provider=provider,
        is_router=is_router,
        price_candidates=tuple(PriceCandidate(name=name, rule=rule) for name in names),
        provenance={},
    )


def tokens(input_tokens: int = 0, output_tokens: int = 0, **parts: Any) -> Usage:
    return Usage(input_tokens=input_tokens, output_tokens=output_tokens, **parts)


def reported(total: str | None = None, **parts: str) -> ReportedCost:
    return ReportedCost(
        total_usd=None if total is None else Decimal(total), **{name: Decimal(value) for name, value in parts.items()}
    )


def rated(
    model: str | ModelIdentity,
    usage: Usage,
    basis: PricingBasis | None = None,
    cost: ReportedCost = NOTHING_REPORTED,
    *,
    book: PriceBook | None = None,
    occurred_at: datetime | None = WEDNESDAY_AT_8,
    trust_custom_rates: bool = True,
    rules: PricingRules = NO_RULES,
) -> Rating:
    return rate(
        usage,
        basis or PricingBasis(call_type="acompletion"),
        a_model(model) if isinstance(model, str) else model,
        cost,
        book or shipped_book(),
        FALLBACK,
        occurred_at=occurred_at,
        trust_custom_rates=trust_custom_rates,
        rules=rules,
    )


def amounts(rating: Rating) -> dict[str, Decimal]:
    return {line.name: line.amount_usd for line in rating.components}


def notes(rating: Rating) -> dict[str, str | None]:
    return {line.name: line.note for line in rating.components}


def used(input_tokens: int = 0, output_tokens: int = 0, parts: dict[str, int] | None = None, **units: Any) -> Usage:
    quantities = tuple((name, Decimal(str(quantity))) for name, quantity in units.items())
    return Usage(input_tokens=input_tokens, output_tokens=output_tokens, units=quantities, **(parts or {}))


def lines(rating: Rating) -> dict[str, tuple[str, str, str]]:
    """By name: quantity, unit and amount of each line."""
    return {
        line.name: (f"{line.quantity.normalize():f}", line.unit, f"{line.amount_usd.normalize():f}")
        for line in rating.components
    }


# Prices of a search by the size of its context.
SEARCH = {f"search_context_size_{size}": rate for size, rate in (("low", 0.01), ("medium", 0.02), ("high", 0.03))}
