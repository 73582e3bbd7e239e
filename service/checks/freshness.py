"""Keeps the copies of counters that checks use fresh: a missing one at once, those in use every 30 s.

Seeding copies what the ledger says by (epoch, version): it can come late or twice and never undoes a newer publishing.
"""

import asyncio
from collections.abc import Sequence
from random import uniform

import structlog

from service.budgets.matching import BudgetCounter
from service.checks.keys import CounterRef
from service.checks.ledger_reader import LedgerReader
from service.checks.lua_scripts import Command
from service.checks.publishing import seed_commands
from service.checks.scripts import ScriptLane
from service.db.pools import RedisClient
from service.kit.batching import MicroBatcher
from service.kit.stopping import stop
from service.ledger.posts import CounterState

_log = structlog.get_logger(__name__)

_MOST_COUNTERS_AT_ONCE = 2_000
_REFRESH_SECONDS = 30.0
# What a check waits for at the same moment comes along after so many.
_REFRESHED_AT_ONCE = 200
# What is not remembered is seeded when its next check finds it stale.
_MOST_USED = 50_000


class CounterSeeder:
    """Seeds counters. One instance per process."""

    def __init__(self, client: RedisClient, ledger: LedgerReader, *, timeout_ms: float) -> None:
        self._ledger = ledger
        self._lane = ScriptLane(client, timeout_ms=timeout_ms)
        self._batcher: MicroBatcher[CounterRef, None] = MicroBatcher(
            self._seed, max_items=_MOST_COUNTERS_AT_ONCE, max_wait_ms=0
        )
        self._used: dict[str, BudgetCounter] = {}
        self._refresher: asyncio.Task[None] | None = None

    async def seed(self, counters: Sequence[CounterRef]) -> None:
        """Copy the counters from the ledger. Raises LedgerUnavailable, CountersUnavailable."""
        await self._batcher.submit_many(counters)

    def note_used(self, key: str, counter: BudgetCounter) -> None:
        """Remember that a check used a counter: it is kept fresh for as long as that happens."""
        if len(self._used) < _MOST_USED:
            self._used[key] = counter

    async def refresh(self) -> int:
        """Seed the counters used since the last refresh, and return how many.

        Raises as `seed`; the next refresh then takes up what was left.
        """
        used, self._used = list(self._used.items()), {}
        for start in range(0, len(used), _REFRESHED_AT_ONCE):
            try:
                await self.seed([ref_of(counter) for _, counter in used[start : start + _REFRESHED_AT_ONCE]])
            except BaseException:
                for key, counter in used[start:]:
                    self.note_used(key, counter)
                raise
        return len(used)

    def start(self) -> None:
        """Refresh every 30 s, until `close`."""
        self._lane.start()
        self._refresher = asyncio.create_task(self._refresh_for_ever())

    async def close(self) -> None:
        """Stop refreshing, and finish what is under way."""
        await stop(self._refresher)
        await self._batcher.close()
        await self._lane.close()

    async def _seed(self, counters: list[CounterRef]) -> list[None]:
        distinct = list(dict.fromkeys(counters))
        readings = await self._ledger.read(distinct)
        by_tenant: dict[tuple[str, int], list[CounterState]] = {}
        for counter, reading in zip(distinct, readings, strict=True):
            by_tenant.setdefault((counter.tenant_id, reading.epoch), []).append(reading.state)
        commands: list[Command] = []
        for (tenant_id, epoch), states in by_tenant.items():
            commands += seed_commands(tenant_id, epoch, states)
        await self._lane.run(commands)
        return [None] * len(counters)

    async def _refresh_for_ever(self) -> None:
        while True:
            await asyncio.sleep(_REFRESH_SECONDS * uniform(0.8, 1.0))
            try:
                await self.refresh()
            except Exception as error:  # noqa: BLE001 — whatever it is, the next refresh must come
                _log.warning("counters_not_refreshed", counters=len(self._used), error=type(error).__name__)


def ref_of(counter: BudgetCounter) -> CounterRef:
    """Return the name of a matched counter."""
    return CounterRef(counter.budget.tenant_id, counter.budget.budget_id, counter.subject, counter.window.start)
