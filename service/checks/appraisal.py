"""What a call is about to be and to cost: its names, its worst-case price, what budgets see of it. Pure.

By the same functions that will resolve and price its event: a hold and its charge can never mean different things.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from decimal import Decimal

import msgspec

from service.checks.hold import LARGEST_MICRO_USD
from service.checks.request import CheckRequest
from service.checks.routes import NOTHING_SEEN, RecentUse, Way, requested_names, ways_of
from service.config.rating import fallback_rates
from service.config.snapshot import TenantConfig
from service.identity.call import CallNames, call_names
from service.identity.dimensions import Dimensions
from service.identity.models import ModelIdentity
from service.kit.money import micro_usd_rounded_up
from service.pricing.estimation import Estimate, PlannedCall, Prospect, foresee
from service.pricing.price_book import PriceBook
from service.pricing.usage import PricingBasis


class Candidate(msgspec.Struct, frozen=True):
    """The call if it goes one way. `amount_usd`: the worst case, or what the caller says."""

    way: Way
    prospect: Prospect
    call: CallNames
    amount_usd: Decimal
    amount_micro_usd: int
    is_free: bool
    is_unpriced: bool  # nobody knows a price, not even the caller


class Appraisal(msgspec.Struct, frozen=True, kw_only=True):
    """One call before it is made. `models`: what it asks for, and where it goes if there is one way only.

    `dearest` is the dearest of the candidates; `amount_usd` its amount.
    """

    models: ModelIdentity
    candidates: tuple[Candidate, ...]
    dearest: Candidate
    is_estimated_by_caller: bool

    @property
    def estimate(self) -> Estimate:
        """Return our estimate of the dearest candidate."""
        return self.dearest.prospect.estimate()

    @property
    def amount_usd(self) -> Decimal:
        """Return what the call may cost at most."""
        return self.dearest.amount_usd

    @property
    def amount_micro_usd(self) -> int:
        """Return the same as counters know it."""
        return self.dearest.amount_micro_usd

    @property
    def is_free(self) -> bool:
        """Tell whether no candidate can be charged anything."""
        return self.dearest.is_free and (
            len(self.candidates) == 1 or all(candidate.is_free for candidate in self.candidates)
        )

    def of(self, candidates: Sequence[Candidate]) -> "Appraisal":
        """Return the same as far as these candidates go."""
        return msgspec.structs.replace(self, dearest=_dearest(candidates))


def appraise(
    request: CheckRequest,
    dimensions: Dimensions,
    config: TenantConfig,
    book: PriceBook,
    at: datetime,
    recent: RecentUse = NOTHING_SEEN,
) -> Appraisal:
    """Return the appraisal of a call by the configuration and the prices in force at that time."""
    ways = ways_of(request, recent, config.aliases, at)
    basis, fallback, given = _basis(request), fallback_rates(config), request.estimated_cost_usd
    candidates = []
    for way in ways:
        prospect = foresee(
            PlannedCall(
                input_tokens=request.input_tokens,
                max_output_tokens=request.max_output_tokens,
                models=way.models,
                basis=basis,
                book=book,
                fallback=fallback,
                occurred_at=at,
                rules=config.pricing_rules,
                dimensions=dimensions,
                declared=request.declared,
                recent_output_tokens=_recent_outputs(request, way, recent),
            )
        )
        candidates.append(_candidate(way, prospect, call_names(dimensions, way.models), given))
    return Appraisal(
        models=ways[0].models if len(ways) == 1 else requested_names(request, config.aliases, at),
        candidates=tuple(candidates),
        dearest=_dearest(candidates),
        is_estimated_by_caller=given is not None,
    )


def affordable_output_tokens(candidates: Iterable[Candidate], available_usd: Decimal) -> int | None:
    """Return how many output tokens an amount still pays for, whichever candidate serves; None = no bound is known."""
    affordable = [each.prospect.max_affordable_output_tokens(available_usd) for each in candidates]
    return min([tokens for tokens in affordable if tokens is not None], default=None)


def _candidate(way: Way, prospect: Prospect, call: CallNames, given: Decimal | None) -> Candidate:
    amount_usd, state = prospect.rating.enforced_usd if given is None else given, prospect.price_state
    return Candidate(
        way,
        prospect,
        call,
        amount_usd,
        min(micro_usd_rounded_up(amount_usd), LARGEST_MICRO_USD),
        not amount_usd and state == "free",
        given is None and state == "unpriced",
    )


def _dearest(candidates: Sequence[Candidate]) -> Candidate:
    """Return the dearest by our own estimate: the caller's is the same for all."""
    return max(candidates, key=lambda each: each.prospect.rating.enforced_usd) if len(candidates) > 1 else candidates[0]


def _recent_outputs(request: CheckRequest, way: Way, recent: RecentUse) -> int | None:
    name = way.fallback or request.model
    return None if name is None else recent.output_tokens.get(name)


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
