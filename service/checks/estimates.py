"""Estimates calls before they are made, without asking any budget and without holding anything."""

from collections.abc import Callable
from datetime import datetime

import msgspec

from service.access.tokens import Caller
from service.checks.appraisal import Appraisal, appraise
from service.checks.recent_use import RecentUseReader
from service.checks.request import CheckRequest
from service.config.service import ConfigStore
from service.errors import Forbidden
from service.identity.completion import complete_dimensions, effective_key
from service.identity.dimensions import CompletedDimensions
from service.identity.registry import KeyRegistry
from service.identity.tag_names import with_kept_tags
from service.kit.clock import utc_now
from service.pricing.registry import PriceBooks

_PATIENCE_SECONDS = 1.0


class EstimatedCall(msgspec.Struct, frozen=True):
    """Who would ask, and what it would come to."""

    dimensions: CompletedDimensions
    appraisal: Appraisal


class EstimateService:
    """Appraises calls as checks do, by the prices and the rules of this instant."""

    def __init__(
        self,
        configs: ConfigStore,
        keys: KeyRegistry,
        prices: PriceBooks,
        recent_use: RecentUseReader,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._configs = configs
        self._keys = keys
        self._prices = prices
        self._recent_use = recent_use
        self._clock = clock

    async def estimate(self, caller: Caller, request: CheckRequest) -> EstimatedCall:
        """Return the worst case of a call. Raises Forbidden outside of a reader's scope, Unavailable."""
        api_key = effective_key(request.dimensions, caller.pinned)
        known = None if api_key is None else await self._keys.find(caller.tenant_id, api_key)
        dimensions = complete_dimensions(request.dimensions, known, caller.pinned)
        _check_scope(caller, dimensions)
        config = await self._configs.get(caller.tenant_id)
        dimensions = with_kept_tags(dimensions, config.tag_names)
        recent = await self._recent_use.find(request, config, patience_seconds=_PATIENCE_SECONDS)
        at = self._clock()
        book = self._prices.at(caller.tenant_id, at)
        return EstimatedCall(dimensions, appraise(request, dimensions.values, config, book, at, recent))


def _check_scope(caller: Caller, dimensions: CompletedDimensions) -> None:
    """Raise Forbidden when the call is somebody's whom the caller may not read of: prices are agreed with teams."""
    if "check" in caller.roles:
        return
    for name, allowed in caller.scope.items():
        values = dimensions.values.tags if name == "tag" else (getattr(dimensions.values, name, None),)
        if any(value is not None and value not in allowed for value in values):
            raise Forbidden(f"This token reads of some values of `{name}` only, and not of this one.")
