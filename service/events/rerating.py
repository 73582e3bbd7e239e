"""Prices a charge that is not recorded yet anew, when its tenant's price rules or settings changed meanwhile.

So a change is in force for every event that is recorded after it, whichever process took the event.
"""

import msgspec

from service.config.rating import rate_call
from service.config.snapshot import TenantConfig
from service.identity.dimensions import PEOPLE, Dimensions
from service.identity.resolution import resolve_models
from service.ledger.charge import ChargeDraft
from service.ledger.totals import CORE_KEY, core_key_digest
from service.pricing.registry import PriceBooks

_NAMES = ("requested_model", "requested_canonical", "deployment", "deployment_id", "served_model", "provider")


class DraftRerating:
    """Rates drafts by another configuration; who it was and which model it was stay as they were resolved."""

    def __init__(self, prices: PriceBooks) -> None:
        self._prices = prices

    def rerate(self, draft: ChargeDraft, config: TenantConfig) -> ChargeDraft:
        """Return the draft at its price by the configuration. Raises Unavailable."""
        if draft.kind != "usage" or draft.facts is None:
            return draft
        resolved = resolve_models(draft.facts.claims, config.aliases, draft.occurred_at)
        models = msgspec.structs.replace(resolved, **{name: getattr(draft, name) for name in _NAMES})
        dimensions = Dimensions(**{name: getattr(draft, name) for name in PEOPLE}, tags=draft.tags)
        book = self._prices.at(draft.tenant_id, draft.occurred_at)
        rating = rate_call(draft.facts, models, dimensions, config, book, draft.occurred_at)
        rerated = msgspec.structs.replace(
            draft,
            price_book_version=rating.price_book_version,
            price_key=rating.price_key,
            price_state=rating.price_state,
            fees_price_state=rating.fees_price_state,
            price_reason=rating.reason,
            unpriced_requests=int(rating.price_state == "unpriced"),
            cost_usd=rating.cost_usd,
            model_cost_usd=rating.model_cost_usd,
            fees_usd=rating.fees_usd,
            list_cost_usd=rating.list_cost_usd,
            enforced_usd=rating.enforced_usd,
            assumed_usd=rating.assumed_usd,
            components=rating.components,
            fees=rating.fees,
        )
        digest = core_key_digest(tuple(getattr(rerated, name) for name in CORE_KEY))
        return msgspec.structs.replace(rerated, key_digest=digest)
