"""Keeps the copies of counters that checks use fresh: a missing one at once, those in use every 30 s.

Seeding copies what the ledger says by (epoch, version): it can come late or twice and never undoes a newer publishing.
"""

import asyncio
from collections.abc import Sequence
from random import uniform

import msgspec
import structlog

from service.budgets.carry import CarryFixer, carry_key
from service.budgets.matching import BudgetCounter
from service.checks.counter_reading import CounterReading
from service.checks.keys import ref_of
from service.checks.ledger_reader import LedgerReader
from service.checks.publishing import seed_commands
from service.checks.scripts import CountersUnavailable, ScriptLane
from service.db.pools import RedisClient
from service.kit.batching import MicroBatcher
from service.kit.stopping import stop

_log = structlog.get_logger(__name__)

_MOST_COUNTERS_AT_ONCE = 2_000
_REFRESH_SECONDS = 30.0
# What a check waits for at the same moment comes along after so many.
_REFRESHED_AT_ONCE = 200
# What is not remembered is seeded when its next check finds it stale: publishing does not keep it fresh for ever.
_MOST_USED = 50_000


class CounterSeeder:
    """Seeds counters. One instance per process."""

    def __init__(
        self, client: RedisClient, ledger: LedgerReader, *, timeout_ms: float, carries: CarryFixer | None = None
    ) -> None:
        self._ledger = ledger
        self._carries = carries
        self._lane = ScriptLane(client, timeout_ms=timeout_ms)
        self._batcher: MicroBatcher[BudgetCounter, CountersUnavailable | None] = MicroBatcher(
            self._seed, max_items=_MOST_COUNTERS_AT_ONCE, max_wait_ms=0
        )
        self._used: dict[str, BudgetCounter] = {}
        self._refresher: asyncio.Task[None] | None = None

    async def seed(self, counters: Sequence[BudgetCounter]) -> None:
        """Copy the counters from the ledger. Raises LedgerUnavailable, CountersUnavailable."""
        for failure in await self._batcher.submit_many(counters):
            if failure is not None:
                raise failure

    def note_used(self, key: str, counter: BudgetCounter) -> None:
        """Remember that a check used a counter: it is kept fresh for as long as that happens."""
        if len(self._used) < _MOST_USED:
            self._used[key] = counter

    async def refresh(self) -> int:
        """Seed the counters used since the last refresh, and return how many.

        Raises as `seed`; the next refresh then takes up what was left. Counters that cannot be reached keep no others.
        """
        used, self._used = list(self._used.items()), {}
        unreached: CountersUnavailable | None = None
        for start in range(0, len(used), _REFRESHED_AT_ONCE):
            portion = used[start : start + _REFRESHED_AT_ONCE]
            try:
                await self.seed([counter for _, counter in portion])
            except CountersUnavailable as error:
                unreached = error
                self._used.update(portion)
            except BaseException:
                self._used.update(used[start:])
                raise
        if unreached is not None:
            raise unreached
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

    async def _seed(self, counters: list[BudgetCounter]) -> list[CountersUnavailable | None]:
        """Return for each counter why it was not seeded: of a cluster one tenant may be reached and another not."""
        distinct = {ref_of(counter): counter for counter in counters}
        readings = await self._ledger.read(list(distinct))
        if self._carries is not None:
            readings = await _with_carries(self._carries, readings, list(distinct.values()))
        by_tenant: dict[str, list[CounterReading]] = {}
        for reading in readings:
            by_tenant.setdefault(reading.counter.tenant_id, []).append(reading)
        failures = await self._copy(by_tenant)
        return [failures.get(counter.budget.tenant_id) for counter in counters]

    async def _copy(self, by_tenant: dict[str, list[CounterReading]]) -> dict[str, CountersUnavailable]:
        """Copy readings, and return the tenants whose counters were not reached."""
        commands = [(tenant_id, command) for tenant_id, own in by_tenant.items() for command in seed_commands(own)]
        outcomes = await self._lane.attempt([command for _, command in commands])
        return {
            tenant_id: outcome
            for (tenant_id, _), outcome in zip(commands, outcomes, strict=True)
            if isinstance(outcome, CountersUnavailable)
        }

    async def _refresh_for_ever(self) -> None:
        while True:
            await asyncio.sleep(_REFRESH_SECONDS * uniform(0.8, 1.0))
            try:
                await self.refresh()
            except Exception as error:  # noqa: BLE001 — whatever it is, the next refresh must come
                _log.warning("counters_not_refreshed", counters=len(self._used), error=type(error).__name__)


async def _with_carries(
    carries: CarryFixer, readings: Sequence[CounterReading], counters: Sequence[BudgetCounter]
) -> list[CounterReading]:
    """Return the readings with what is carried in fixed where that is due."""
    unfixed = [counter for reading, counter in zip(readings, counters, strict=True) if reading.carried_usd is None]
    fixed = await carries.fix(unfixed)
    if not fixed:
        return list(readings)
    return [
        msgspec.structs.replace(reading, carried_usd=carried)
        if (carried := fixed.get(carry_key(counter.budget, counter.subject, counter.window))) is not None
        else reading
        for reading, counter in zip(readings, counters, strict=True)
    ]
