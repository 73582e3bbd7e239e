"""Names and prices a charge that waits to be recorded anew, when aliases, rules, settings or books changed meanwhile.

So a change is in force for every event that is recorded after it, whichever process took the event.
"""

import msgspec

from service.config.rating import rate_call
from service.config.snapshot import TenantConfig
from service.identity.dimensions import PEOPLE, Dimensions
from service.identity.models import ModelIdentity
from service.identity.resolution import resolve_anew
from service.ledger.charge import ChargeDraft
from service.ledger.totals import CORE_KEY, core_key_digest
from service.pricing.facts import CallFacts
from service.pricing.rating_result import Rating
from service.pricing.registry import PriceBooks


class DraftRerating:
    """Rates drafts by another configuration or book; who it was and what was asked for stay as they were."""

    def __init__(self, prices: PriceBooks) -> None:
        self._prices = prices

    def rerate(self, draft: ChargeDraft, config: TenantConfig) -> ChargeDraft:
        """Return the draft by its present names and price; itself when they cannot have changed. Raises Unavailable."""
        facts = draft.facts
        if facts is None or self._is_present(draft, config):
            return draft
        models = resolve_anew(
            facts.claims,
            config.aliases,
            draft.occurred_at,
            requested_model=draft.requested_model,
            requested_source=draft.provenance.get("requested_model"),
        )
        return _replaced(draft, models, self._rate(draft, facts, models, config))

    def _is_present(self, draft: ChargeDraft, config: TenantConfig) -> bool:
        """Tell whether nothing it depends on changed, or its price is decided: version 0, or no call as it came in."""
        if draft.kind != "usage" or draft.config_version == 0:
            return True
        if draft.config_version < config.priced_since:
            return False
        return draft.price_book_version == self._prices.row_at(draft.tenant_id, draft.occurred_at).version

    def _rate(self, draft: ChargeDraft, facts: CallFacts, models: ModelIdentity, config: TenantConfig) -> Rating:
        dimensions = Dimensions(**{name: getattr(draft, name) for name in PEOPLE}, tags=draft.tags)
        book = self._prices.at(draft.tenant_id, draft.occurred_at)
        return rate_call(facts, models, dimensions, config, book, draft.occurred_at)


def _replaced(draft: ChargeDraft, models: ModelIdentity, rating: Rating) -> ChargeDraft:
    rerated = msgspec.structs.replace(
        draft,
        requested_model=models.requested_model,
        requested_canonical=models.requested_canonical,
        deployment=models.deployment,
        deployment_id=models.deployment_id,
        served_model=models.served_model,
        provider=models.provider,
        provenance=models.provenance_instead(draft.provenance),
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
