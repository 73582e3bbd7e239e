"""The worker of a process: whatever goes wrong while it looks for work, it finds what comes later."""

from typing import Any

import pytest

from service.config.fence import ConfigFence
from service.config.service import ConfigStore
from service.config.window_matcher import ConfigWindowMatcher
from service.db.pools import Pools
from service.ledger.service import LedgerRecorder
from service.pricing.registry import PriceBooks
from service.repricing import repository
from service.repricing.repricer import Repricer
from service.repricing.worker import RepricingWorker
from tests.faults.waiting import until
from tests.integration.ledger.conftest import NotingPublisher


async def test_after_an_error_nobody_foresaw_the_worker_goes_on_looking(pools: Pools, monkeypatch: pytest.MonkeyPatch):
    claim, looks = repository.claim_repricings, []

    async def fail_first(*arguments: Any) -> Any:
        looks.append(arguments)
        if len(looks) == 1:
            raise RuntimeError("nobody foresaw this")
        return await claim(*arguments)

    monkeypatch.setattr(repository, "claim_repricings", fail_first)
    configs = ConfigStore(pools.postgres, ConfigFence(pools.redis))
    recorder = LedgerRecorder(
        pools.postgres, ConfigWindowMatcher(configs), NotingPublisher(), max_batch_charges=1, batch_wait_ms=0
    )
    worker = RepricingWorker(pools.postgres, Repricer(pools.postgres, configs, PriceBooks(pools.postgres), recorder))
    worker.start()

    async def looked_twice() -> bool:
        worker.wake()
        return len(looks) >= 2

    await until(looked_twice, "the worker looks again", pause=0.02)
    await worker.close()
    await recorder.close()
