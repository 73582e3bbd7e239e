"""What a call is about to be and to cost: its names, its worst-case price, what budgets see of it. Pure.

By the same functions that will resolve and price its event: a hold and its charge can never mean different things.
"""

from datetime import datetime
from decimal import Decimal

import msgspec

from service.checks.hold import LARGEST_MICRO_USD
from service.checks.request import CheckRequest
from service.config.snapshot import TenantConfig
from service.identity.call import CallNames, call_names
from service.identity.dimensions import Dimensions
from service.identity.models import ModelClaims, ModelIdentity
from service.identity.resolution import resolve_models, resolve_requested
from service.kit.money import micro_usd_rounded_up
from service.pricing.estimation import Estimate, estimate, max_affordable_output_tokens
from service.pricing.fallback import FallbackRates
from service.pricing.price_book import PriceBook
from service.pricing.usage import PricingBasis


class Appraisal(msgspec.Struct, frozen=True, kw_only=True):
    """One call before it is made. `models` and `call` are of the requested model, `estimate` of the dearest candidate.

    `amount_usd` is the caller's own estimate if it gave one. `is_free`: no candidate can be charged anything.
    """

    models: ModelIdentity
    call: CallNames
    candidates: tuple[ModelIdentity, ...]
    estimate: Estimate
    basis: PricingBasis
    amount_usd: Decimal
    amount_micro_usd: int
    is_estimated_by_caller: bool
    is_free: bool

    @property
    def is_unpriced(self) -> bool:
        """Tell whether nobody knows a price for the call."""
        return self.estimate.price_state == "unpriced" and not self.is_estimated_by_caller


def appraise(
    request: CheckRequest, dimensions: Dimensions, config: TenantConfig, book: PriceBook, at: datetime
) -> Appraisal:
    """Return the appraisal of a call by the configuration and the prices in force at that time."""
    models = _resolve(request, request.model, config, at)
    candidates = (models, *[_resolve(request, name, config, at) for name in request.fallback_models])
    basis = PricingBasis(call_type=request.call_type, service_tier=request.service_tier)
    rates = fallback_rates(config)
    estimates = [
        estimate(request.input_tokens, request.max_output_tokens, each, basis, book, rates, occurred_at=at)
        for each in candidates
    ]
    dearest = max(estimates, key=lambda each: each.amount_usd) if len(estimates) > 1 else estimates[0]
    given = request.estimated_cost_usd
    amount_usd = dearest.amount_usd if given is None else given
    return Appraisal(
        models=models,
        call=call_names(dimensions, models),
        candidates=candidates,
        estimate=dearest,
        basis=basis,
        amount_usd=amount_usd,
        amount_micro_usd=min(micro_usd_rounded_up(amount_usd), LARGEST_MICRO_USD),
        is_estimated_by_caller=given is not None,
        is_free=not amount_usd and all(each.price_state == "free" for each in estimates),
    )


def affordable_output_tokens(
    appraisal: Appraisal, available_usd: Decimal, input_tokens: int, config: TenantConfig, book: PriceBook, at: datetime
) -> int | None:
    """Return how many output tokens an amount still pays for, whichever candidate serves; None = no bound is known."""
    affordable = [
        max_affordable_output_tokens(
            available_usd, input_tokens, each, appraisal.basis, book, fallback_rates(config), occurred_at=at
        )
        for each in appraisal.candidates
    ]
    return min([tokens for tokens in affordable if tokens is not None], default=None)


def fallback_rates(config: TenantConfig) -> FallbackRates:
    """Return the tenant's rates for models without a price."""
    settings = config.settings
    return FallbackRates(settings.fallback_input_usd_per_million, settings.fallback_output_usd_per_million)


def _resolve(request: CheckRequest, model: str | None, config: TenantConfig, at: datetime) -> ModelIdentity:
    if model is None:
        claims = ModelClaims(provider=request.provider, deployment_model=request.deployment)
        return resolve_models(claims, config.aliases, at)
    return resolve_requested(model, request.provider, request.deployment, config.aliases, at)
