"""What a process decides by policy from what it remembers of counters."""

from collections.abc import Sequence
from decimal import Decimal
from typing import cast

import pytest

from service.budgets.budget import Rollover
from service.checks import degraded
from service.checks.counter_reading import CounterReading
from service.checks.degraded import DegradedDecision, DegradedGate
from service.checks.keys import CounterRef
from service.checks.ledger_reader import LedgerReader
from service.checks.local_holds import LocalHolds
from service.config.snapshot import TenantConfig
from service.identity.dimensions import Dimensions
from tests.check_builders import a_config, a_limit, a_request, an_attempt


class FixedLedger:
    """Stands where the ledger is: nothing was spent, and one USD carried into every window."""

    def __init__(self) -> None:
        self.asked: list[CounterRef] = []

    async def read(self, counters: Sequence[CounterRef]) -> list[CounterReading]:
        self.asked += counters
        return [CounterReading(epoch=1, counter=each, states=(), carried_usd=Decimal(1)) for each in counters]


class World:
    def __init__(self, *, most_kept: int | None = None, monkeypatch: pytest.MonkeyPatch | None = None) -> None:
        if monkeypatch is not None:
            monkeypatch.setattr(degraded, "_MOST_COUNTERS_KEPT", most_kept)
        self.now = 0.0
        self.ledger = FixedLedger()
        self.gate = DegradedGate(cast("LedgerReader", self.ledger), LocalHolds(self.clock), self.clock)

    def clock(self) -> float:
        return self.now

    async def decide(self, config: TenantConfig, *, user: str = "u", cost: str = "0.5") -> DegradedDecision:
        request = a_request(dimensions=Dimensions(user=user), estimated_cost_usd=Decimal(cost), wants_hold=False)
        attempt = an_attempt(request, config)
        return await self.gate.decide(attempt.ask, attempt.counters, patience_seconds=1)


async def test_more_counters_than_are_kept_take_none_from_a_check_under_way(monkeypatch: pytest.MonkeyPatch):
    world = World(most_kept=3, monkeypatch=monkeypatch)
    config = a_config(a_limit({}), a_limit({"user": "*"}))
    for number in range(10):
        world.now += 0.01
        decision = await world.decide(config, user=f"u{number}")
        assert decision.is_allowed
        assert len(decision.standings) == 2


async def test_of_too_many_counters_the_oldest_are_forgotten(monkeypatch: pytest.MonkeyPatch):
    world = World(most_kept=3, monkeypatch=monkeypatch)
    config = a_config(a_limit({"user": "*"}))
    for user in ("a", "b", "c", "d"):
        await world.decide(config, user=user)
    asked = len(world.ledger.asked)
    await world.decide(config, user="d")
    await world.decide(config, user="b")
    assert len(world.ledger.asked) == asked
    await world.decide(config, user="a")
    assert len(world.ledger.asked) == asked + 1


@pytest.mark.parametrize("rollover", [None, Rollover(cap_usd=None)])
async def test_what_was_carried_in_counts_while_the_budget_says_so(rollover: Rollover | None):
    config = a_config(a_limit({}, "1", rollover=rollover))
    decision = await World().decide(config, cost="1.5")
    assert decision.is_allowed == (rollover is not None)
    (standing,) = decision.standings
    assert standing.limit_micro_usd == (1_000_000 if rollover is None else 2_000_000)
