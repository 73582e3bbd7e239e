"""The one place where a tenant's configuration prices a call: ingest and repricing both come here. Pure."""

from datetime import datetime

from service.config.snapshot import TenantConfig
from service.identity.dimensions import Dimensions
from service.identity.models import ModelIdentity
from service.pricing.facts import CallFacts
from service.pricing.fallback import FallbackRates
from service.pricing.price_book import PriceBook
from service.pricing.rating import rate
from service.pricing.rating_result import Rating


def rate_call(
    facts: CallFacts,
    models: ModelIdentity,
    dimensions: Dimensions,
    config: TenantConfig,
    book: PriceBook,
    occurred_at: datetime,
) -> Rating:
    """Return what a call costs the tenant by this configuration; the same facts and names always cost the same."""
    return rate(
        facts.usage,
        facts.basis,
        models,
        facts.reported,
        book,
        fallback_rates(config),
        occurred_at=occurred_at,
        trust_custom_rates=config.settings.trust_gateway_custom_prices,
        rules=config.pricing_rules,
        dimensions=dimensions,
    )


def fallback_rates(config: TenantConfig) -> FallbackRates:
    """Return the rates the tenant assumes for what nobody has a price for."""
    settings = config.settings
    return FallbackRates(settings.fallback_input_usd_per_million, settings.fallback_output_usd_per_million)
