"""Tells of recorded calls whether they would be priced by now: by the prices, aliases and rules of today.

"Today" as repricing takes it: the price book and the declarations in force when the call was made, as they stand now.
"""

from collections.abc import Sequence
from uuid import UUID

from service.config.rating import rate_call
from service.config.service import ConfigStore
from service.config.snapshot import TenantConfig
from service.db.pools import PostgresPool
from service.pricing.divergence import OWN_STATES
from service.pricing.registry import PriceBooks
from service.repricing.revaluation import ChargeRow, dimensions_of, facts_of, resolve_again
from service.repricing.sample_queries import read_samples


class PriceJudge:
    """Rates recorded calls anew, and records nothing."""

    def __init__(self, pool: PostgresPool, configs: ConfigStore, prices: PriceBooks) -> None:
        self._pool = pool
        self._configs = configs
        self._prices = prices

    async def are_priced_now(self, tenant_id: str, charge_ids: Sequence[UUID]) -> list[bool]:
        """Return of each charge whether it would have a price of ours. Raises Unavailable."""
        if not charge_ids:
            return []
        # As committed now: whoever declared something asks before this process has heard of it.
        config = await self._configs.reload(tenant_id)
        rows = await read_samples(self._pool, tenant_id, charge_ids)
        priced = {row["charge_id"] for row in rows if self._is_priced(row, config)}
        return [charge_id in priced for charge_id in charge_ids]

    def _is_priced(self, row: ChargeRow, config: TenantConfig) -> bool:
        facts = facts_of(row)
        if facts is None:
            return False
        models = resolve_again(row, facts, config)
        book = self._prices.at(config.tenant_id, row["occurred_at"])
        rating = rate_call(facts, models, dimensions_of(row), config, book, row["occurred_at"])
        return rating.price_state in OWN_STATES
