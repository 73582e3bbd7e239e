"""Builders of budgets and of calls that budgets are matched against."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from service.budgets.budget import Budget, BudgetDraft, BudgetTerms
from service.budgets.match import parse_match
from service.budgets.period_document import parse_period
from service.identity.call import CallNames, call_names
from service.identity.dimensions import Dimensions
from service.identity.models import ModelIdentity
from service.kit.ids import new_id

MONTHLY = {"kind": "calendar", "unit": "month", "timezone": "UTC", "start_day": 1}
NOON = datetime(2026, 11, 15, 12, tzinfo=UTC)


def some_terms(**fields: Any) -> BudgetTerms:
    """Return terms: an enforced limit of 100 USD."""
    return BudgetTerms(**{"name": "a budget", "limit_usd": Decimal(100)} | fields)


def a_budget(match: dict[str, Any] | None = None, period: Any = MONTHLY, **fields: Any) -> Budget:
    """Return a stored budget, current, that counts everything since ever."""
    values = {
        "tenant_id": "t",
        "budget_id": new_id(),
        "slug": "b",
        "match": parse_match(match or {}),
        "period": parse_period(period),
        "terms": some_terms(),
        "state": "current",
        "created_at": NOON,
        "config_version": 1,
        "changed_version": 1,
    }
    return Budget(**values | fields)


def a_budget_draft(
    slug: str = "b", match: dict[str, Any] | None = None, period: Any = MONTHLY, **terms: Any
) -> BudgetDraft:
    """Return a budget somebody asks for."""
    return BudgetDraft(
        slug=slug, match=parse_match(match or {}), period=parse_period(period), terms=some_terms(**terms)
    )


def a_call(
    *,
    requested_model: str | None = None,
    deployment: str | None = None,
    served_model: str | None = None,
    provider: str | None = None,
    **people: Any,
) -> CallNames:
    """Return the names of a call; the requested model is canonical already."""
    models = ModelIdentity(
        requested_model=requested_model,
        requested_canonical=requested_model,
        deployment=deployment,
        deployment_id=None,
        served_model=served_model,
        provider=provider,
        is_router=False,
        price_candidates=(),
        provenance={},
    )
    return call_names(Dimensions(**people), models)
