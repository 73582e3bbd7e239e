"""Attaches to charges the budget windows they fall into, by the configuration in force: the ledger's WindowMatcher.

It is the last to look at a configuration before charges are written, so here their prices follow it, too.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol
from uuid import UUID

import msgspec

from service.budgets.matching import BudgetCounter
from service.budgets.period import RollingPeriod
from service.config.service import ConfigStore
from service.config.snapshot import TenantConfig
from service.db.pools import PostgresConnection
from service.identity.call import call_names_of_charge
from service.ledger.charge import ChargeDraft, MatchedBatch, WindowPost


class Rerating(Protocol):
    """Brings a draft that waited up to date with what was declared and imported meanwhile."""

    def rerate(self, draft: ChargeDraft, config: TenantConfig) -> ChargeDraft:
        """Return the draft at its price by the configuration; the same draft when nothing it depends on changed."""
        ...


class ConfigWindowMatcher:
    """Matches through the same `BudgetSet.match` and the same `CallNames` as checks do.

    With `rerating` a draft is named and priced anew when names or prices are others since it was made.
    """

    def __init__(self, configs: ConfigStore, rerating: Rerating | None = None) -> None:
        self._configs = configs
        self._rerating = rerating

    async def match(
        self, drafts: Sequence[ChargeDraft], *, connection: PostgresConnection | None = None
    ) -> MatchedBatch:
        """Return the drafts with their windows, by the configuration known here, or read through the connection."""
        tenant_ids = sorted({draft.tenant_id for draft in drafts})
        configs = {
            tenant_id: await (
                self._configs.get(tenant_id) if connection is None else self._configs.load_on(connection, tenant_id)
            )
            for tenant_id in tenant_ids
        }
        numbers: dict[tuple[UUID, str, datetime], int] = {}
        counters: list[WindowPost] = []
        charges = []
        for given in drafts:
            config = configs[given.tenant_id]
            draft = given if self._rerating is None else self._rerating.rerate(given, config)
            found = config.budgets.match(call_names_of_charge(draft), draft.effective_at, config_version=config.version)
            matched = tuple(_number_of(counter, numbers, counters) for counter in found)
            charges.append(msgspec.structs.replace(draft, window_numbers=matched, config_version=config.version))
        epoch = min(config.epoch for config in configs.values())
        return MatchedBatch(charges=charges, counters=counters, epoch=epoch)


def _number_of(
    counter: BudgetCounter, numbers: dict[tuple[UUID, str, datetime], int], counters: list[WindowPost]
) -> int:
    """Return the index of the counter among those of the batch, adding it at its first use."""
    key = (counter.budget.budget_id, counter.subject, counter.window.start)
    number = numbers.setdefault(key, len(counters))
    if number == len(counters):
        counters.append(
            WindowPost(
                number=number,
                budget_id=counter.budget.budget_id,
                subject=counter.subject,
                bucket=counter.window.start,
                breadth=counter.budget.breadth,
                is_rolling=isinstance(counter.budget.period, RollingPeriod),
            )
        )
    return number
