"""What a call is about to be and to cost: its names, its worst-case price, what budgets see of it. Pure.

By the same functions that will resolve and price its event: a hold and its charge can never mean different things.
"""

from datetime import datetime
from decimal import Decimal

import msgspec

from service.checks.hold import LARGEST_MICRO_USD
from service.checks.request import CheckRequest
from service.config.rating import fallback_rates
from service.config.snapshot import TenantConfig
from service.identity.call import CallNames, call_names
from service.identity.dimensions import Dimensions
from service.identity.models import ModelClaims, ModelIdentity
from service.identity.resolution import resolve_models, resolve_requested
from service.kit.money import micro_usd_rounded_up
from service.pricing.estimation import Estimate, PlannedCall, Prospect, foresee
from service.pricing.price_book import PriceBook
from service.pricing.usage import PricingBasis


class Appraisal(msgspec.Struct, frozen=True, kw_only=True):
    """One call before it is made. `models` and `call` are of the requested model, `estimate` of the dearest candidate.

    `amount_usd` is the caller's own estimate if it gave one. `is_free`: no candidate can be charged anything.
    """

    models: ModelIdentity
    call: CallNames
    candidates: tuple[Prospect, ...]
    estimate: Estimate
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
    candidates = tuple(
        [
            foresee(
                PlannedCall(
                    input_tokens=request.input_tokens,
                    max_output_tokens=request.max_output_tokens,
                    models=each,
                    basis=_basis(request),
                    book=book,
                    fallback=fallback_rates(config),
                    occurred_at=at,
                    rules=config.pricing_rules,
                    dimensions=dimensions,
                    declared=request.declared,
                )
            )
            for each in _candidates(request, models, config, at)
        ]
    )
    dearest = max(candidates, key=lambda each: each.rating.enforced_usd) if len(candidates) > 1 else candidates[0]
    estimate, given = dearest.estimate(), request.estimated_cost_usd
    amount_usd = estimate.amount_usd if given is None else given
    return Appraisal(
        models=models,
        call=call_names(dimensions, models),
        candidates=candidates,
        estimate=estimate,
        amount_usd=amount_usd,
        amount_micro_usd=min(micro_usd_rounded_up(amount_usd), LARGEST_MICRO_USD),
        is_estimated_by_caller=given is not None,
        is_free=not amount_usd and all(each.price_state == "free" for each in candidates),
    )


def affordable_output_tokens(appraisal: Appraisal, available_usd: Decimal) -> int | None:
    """Return how many output tokens an amount still pays for, whichever candidate serves; None = no bound is known."""
    affordable = [each.max_affordable_output_tokens(available_usd) for each in appraisal.candidates]
    return min([tokens for tokens in affordable if tokens is not None], default=None)


def _basis(request: CheckRequest) -> PricingBasis:
    return PricingBasis(
        call_type=request.call_type,
        service_tier=request.service_tier,
        image_size=request.image_size,
        image_quality=request.image_quality,
        video_resolution=request.video_resolution,
        search_context_size=request.search_context_size,
        data_residency=request.data_residency,
        vertex_location=request.vertex_location,
        inference_geography=request.inference_geography,
        speed=request.speed,
        duration_seconds=request.duration_seconds,
    )


def _candidates(
    request: CheckRequest, models: ModelIdentity, config: TenantConfig, at: datetime
) -> list[ModelIdentity]:
    """Return every identity the call may be charged under: the requested one, what it may choose, its fallbacks."""
    served = [_resolve_served(request, models, name, config, at) for name in request.served_models]
    # Of a router nothing is known but what it may choose: once that is said, nothing need be assumed.
    requested = [] if served and models.served_model is None else [models]
    return [*requested, *served, *[_resolve(request, name, config, at) for name in request.fallback_models]]


def _resolve(request: CheckRequest, model: str | None, config: TenantConfig, at: datetime) -> ModelIdentity:
    if model is None:
        claims = ModelClaims(provider=request.provider, deployment_model=request.deployment)
        return resolve_models(claims, config.aliases, at)
    return resolve_requested(model, request.provider, request.deployment, config.aliases, at)


def _resolve_served(
    request: CheckRequest, requested: ModelIdentity, served: str, config: TenantConfig, at: datetime
) -> ModelIdentity:
    """Return the identity of the call if this model serves it; behind a router its fee is due all the same."""
    deployment = request.deployment or requested.deployment or (request.model if requested.is_router else None)
    claims = ModelClaims(
        model_group=request.model, model=served, provider=request.provider, deployment_model=deployment
    )
    return resolve_models(claims, config.aliases, at)
