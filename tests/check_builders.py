"""Builders of checks before any counter is asked: requests, configurations, attempts."""

from datetime import datetime
from decimal import Decimal
from typing import Any

from service.access.settings import TenantSettings
from service.budgets.budget import Budget
from service.budgets.matching import BudgetSet
from service.checks.attempt import Asked, Attempt, prepare_attempt
from service.checks.request import CheckRequest, Route
from service.checks.routes import NOTHING_SEEN, RecentUse
from service.config.snapshot import TenantConfig
from service.identity.aliases import AliasBook
from service.identity.dimensions import CompletedDimensions, Dimensions
from service.pricing.price_book import PriceBook
from tests.budget_builders import NOON, a_budget, some_terms
from tests.unit.pricing.builders import book_of

# USD per token, in and out alike: amounts can be told at a glance.
RATES = {
    "openai/small": 1e-06,
    "azure/small": 2e-06,
    "openai/large": 1e-05,
    "azure/large": 2e-05,
    "other/free": 0.0,
}
BOOK = book_of(
    {
        name: {
            "litellm_provider": name.partition("/")[0],
            "mode": "chat",
            "input_cost_per_token": rate,
            "output_cost_per_token": rate,
            "max_output_tokens": 100_000,
        }
        for name, rate in RATES.items()
    }
)


def a_request(**fields: Any) -> CheckRequest:
    """Return the check of a call of 1000 tokens in and none out, for a model named after no deployment."""
    values: dict[str, Any] = {
        "request_id": None,
        "wants_hold": True,
        "ttl_seconds": 900,
        "dimensions": Dimensions(team="core"),
        "model": "smart",
        "provider": None,
        "deployment": None,
        "fallback_models": (),
        "call_type": "acompletion",
        "input_tokens": 1000,
        "max_output_tokens": 0,
        "service_tier": None,
        "estimated_cost_usd": None,
    }
    return CheckRequest(**values | fields)


def routes_to(*models: str) -> tuple[Route, ...]:
    """Return routes to deployments that are named after their models: openai/small."""
    return tuple(Route(deployment=name, served_model=name, provider=name.partition("/")[0]) for name in models)


def seen(**routes: tuple[Route, ...]) -> RecentUse:
    """Return what the ledger saw of models."""
    return RecentUse(routes=routes)


def a_limit(match: dict[str, Any], limit: str = "1", **terms: Any) -> Budget:
    """Return a budget with a limit."""
    tenant_id = terms.pop("tenant_id", "t")
    return a_budget(match, tenant_id=tenant_id, terms=some_terms(limit_usd=Decimal(limit), **terms))


def a_config(*budgets: Budget, enforcement: str = "enforce", tenant_id: str = "t") -> TenantConfig:
    """Return a configuration without aliases and price rules."""
    return TenantConfig(tenant_id, 1, 1, enforcement, TenantSettings(), AliasBook(), BudgetSet(1, budgets))


def an_attempt(
    request: CheckRequest,
    config: TenantConfig,
    recent: RecentUse = NOTHING_SEEN,
    *,
    reservation_id: str = "r",
    book: PriceBook = BOOK,
    at: datetime = NOON,
) -> Attempt:
    """Return the question a check puts to the counters."""
    dimensions = CompletedDimensions(values=request.dimensions, provenance={})
    return prepare_attempt(Asked(request, dimensions, reservation_id, "same", "me", recent), config, book, at)
