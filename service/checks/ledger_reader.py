"""Reads counters' committed states, for seeding and for answers without Redis.

What many checks want at one moment is one statement; after failures nobody waits for the ledger any more (breaker).
"""

from collections.abc import Sequence

import psycopg
import structlog
from psycopg_pool import PoolTimeout

from service.checks.breaker import CircuitBreaker
from service.checks.counter_reading import CounterReading
from service.checks.keys import CounterRef
from service.checks.queries import read_counters
from service.db.pools import PostgresPool
from service.kit.batching import MicroBatcher
from service.kit.clock import monotonic
from service.kit.patience import patience

_log = structlog.get_logger(__name__)

_MOST_COUNTERS_AT_ONCE = 5_000
_STATEMENT_SECONDS = 1.0
# For so long counters go on without the ledger: no copy goes stale, no hold lapses.
_LONGEST_WITHOUT_LEDGER_SECONDS = 900.0


class LedgerUnavailable(Exception):
    """The ledger did not answer, or not in time."""


class LedgerReader:
    """Reads committed states. One instance per process."""

    def __init__(self, pool: PostgresPool) -> None:
        self._pool = pool
        self._breaker = CircuitBreaker(monotonic)
        self._batcher: MicroBatcher[CounterRef, CounterReading] = MicroBatcher(
            self._read, max_items=_MOST_COUNTERS_AT_ONCE, max_wait_ms=0
        )

    @property
    def is_down(self) -> bool:
        """Tell whether the ledger has not answered lately, and not for so long that going on would be careless."""
        return self._breaker.is_open and self._breaker.open_seconds < _LONGEST_WITHOUT_LEDGER_SECONDS

    async def read(self, counters: Sequence[CounterRef]) -> list[CounterReading]:
        """Return the readings of the counters, in order. Raises LedgerUnavailable."""
        return await self._batcher.submit_many(counters)

    async def close(self) -> None:
        """Finish the statement under way."""
        await self._batcher.close()

    async def _read(self, counters: list[CounterRef]) -> list[CounterReading]:
        if not self._breaker.admits():
            raise LedgerUnavailable("the circuit breaker is open")
        try:
            async with (
                patience(_STATEMENT_SECONDS),
                self._pool.connection(timeout=_STATEMENT_SECONDS) as connection,
            ):
                distinct = list(dict.fromkeys(counters))
                readings = dict(zip(distinct, await read_counters(connection, distinct), strict=True))
        except (psycopg.Error, PoolTimeout, OSError, TimeoutError) as error:
            self._breaker.failed()
            _log.warning("ledger_not_read", counters=len(counters), error=type(error).__name__)
            raise LedgerUnavailable(type(error).__name__) from error
        self._breaker.succeeded()
        return [readings[counter] for counter in counters]
