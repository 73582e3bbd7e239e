"""A second server's checks in this process, on counters it reaches through an unsteady line."""

from dataclasses import dataclass
from typing import Any

import msgspec

from service.access.tokens import ROLES, Caller
from service.checks.answer import check_answer
from service.checks.freshness import CounterSeeder
from service.checks.hold_store import HoldStore
from service.checks.ledger_reader import LedgerReader
from service.checks.local_holds import LocalHolds
from service.checks.outcome import Outcome
from service.checks.recent_use import RecentUseReader
from service.checks.schemas import CheckAnswer, read_check
from service.checks.service import CheckService
from service.config.fence import ConfigFence
from service.config.service import ConfigStore
from service.identity.registry import KeyRegistry
from service.kit.clock import monotonic
from service.kit.ids import new_id
from service.pricing.registry import PriceBooks
from tests.api.checks.unsteady_redis import UnsteadyRedis
from tests.api.checks.world import MODEL, World

# Long enough that a busy machine is not taken for a silent engine, shorter than the delay of a slow line.
DEADLINE_MS = 600


@dataclass
class Replica:
    """A second server's checks, reaching its counters through an unsteady line and the ledger by a pool of its own."""

    world: World
    line: UnsteadyRedis
    client: Any
    checks: CheckService
    holds: HoldStore
    ledger: LedgerReader
    local_holds: LocalHolds

    async def decide(self, **fields: Any) -> Outcome:
        body = {"model": MODEL, "input_tokens": 1000, "max_output_tokens": 100} | fields
        caller = Caller(tenant_id=self.world.tenant_id, token_id=new_id(), name="replica", roles=frozenset(ROLES))
        return await self.checks.check(caller, read_check(msgspec.json.encode(body)))

    async def check(self, **fields: Any) -> CheckAnswer:
        return check_answer(await self.decide(**fields))


async def open_replica(
    world: World, line: UnsteadyRedis, client: Any, ledger_pool: Any, *, key_pool: Any = None
) -> Replica:
    postgres = world.services.pools.postgres
    prices = PriceBooks(postgres)
    await prices.reload()
    ledger = LedgerReader(ledger_pool)
    holds = HoldStore(client, deadline_ms=DEADLINE_MS)
    holds.start()
    local_holds = LocalHolds(monotonic)
    checks = CheckService(
        configs=ConfigStore(postgres, ConfigFence(client)),
        keys=KeyRegistry(key_pool or postgres),
        prices=prices,
        holds=holds,
        seeder=CounterSeeder(client, ledger, timeout_ms=1_000),
        ledger=ledger,
        recent_use=RecentUseReader(ledger_pool),
        local_holds=local_holds,
        deadline_ms=DEADLINE_MS,
    )
    return Replica(world, line, client, checks, holds, ledger, local_holds)
