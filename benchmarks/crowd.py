"""What exists beside what a check asks for: very many budgets, keys and counters, made at once and not one by one.

Each budget is of one key, as an import from another gateway makes them; the keys are known ones. The counters are those
of one budget "each end user": their rows lie in the ledger, their copies in Redis.
"""

import asyncio
from uuid import UUID

import psycopg
from psycopg.types.json import Jsonb

from benchmarks.check_bodies import MONTH
from service.access.repository import DEFAULT_TENANT
from service.budgets.budget import Budget
from service.budgets.matching import BudgetCounter
from service.budgets.period import Window, window_of
from service.budgets.repository import find_budget
from service.budgets.subject import subject_text
from service.checks.freshness import CounterSeeder
from service.checks.ledger_reader import LedgerReader
from service.config.repository import raise_version
from service.db.pools import make_postgres_pool, make_redis_client
from service.kit.clock import utc_now
from service.settings import PostgresSettings, RedisSettings

# Keys from here on belong to the crowd; those below are of the checks that are measured.
FIRST_KEY = 1_000_000
PROJECT = "crowd"

_INSERT_BUDGETS = """
INSERT INTO budget (tenant_id, budget_id, slug, name, match, limit_usd, period, mode, thresholds, on_unavailable,
                    on_unpriced, hold_basis, state, created_at, config_version, changed_version)
SELECT %(tenant)s, gen_random_uuid(), 'crowd-' || n, 'Key ' || n,
       jsonb_build_object('api_key', lpad(to_hex(n), 64, '0')), 1000, %(period)s, 'enforce', '[]', 'ledger', 'assume',
       'worst_case', 'current', now(), %(version)s, %(version)s
FROM generate_series(%(first)s::bigint, %(last)s::bigint) AS n
"""
_INSERT_KEYS = """
INSERT INTO key_record (tenant_id, api_key, is_declared, blocked, team)
SELECT %(tenant)s, lpad(to_hex(n), 64, '0'), true, false, 'team-' || n %% 20
FROM generate_series(%(first)s::bigint, %(last)s::bigint) AS n
"""
_INSERT_COUNTERS = """
INSERT INTO budget_window (tenant_id, budget_id, subject, bucket, enforced, version)
SELECT %(tenant)s, %(budget)s, '{"end_user":"person-' || n || '"}', %(bucket)s, 0, 1
FROM generate_series(%(first)s::bigint, %(last)s::bigint) AS n
"""
_COPIED_AT_ONCE = 20_000
_PATIENCE_MS = 10_000.0


class Crowd:
    """Grows; it never shrinks."""

    def __init__(self, database_url: str, redis_url: str, budget_id: str) -> None:
        """`budget_id`: the budget `{"project": "crowd", "end_user": "*"}`, whose counters are made."""
        self._database_url = database_url
        self._redis_url = redis_url
        self._budget_id = UUID(budget_id)
        self._budgets = 0
        self._counters = 0

    def grow(self, *, budgets: int, counters: int) -> None:
        """See to so many budgets of a key each, and so many counters."""
        asyncio.run(self._grow_budgets(budgets))
        asyncio.run(self._grow_counters(counters))

    async def _grow_budgets(self, wanted: int) -> None:
        if wanted <= self._budgets:
            return
        numbers = {"first": FIRST_KEY + self._budgets, "last": FIRST_KEY + wanted - 1, "tenant": DEFAULT_TENANT}
        async with await psycopg.AsyncConnection.connect(self._database_url) as connection:
            version = await raise_version(connection, DEFAULT_TENANT)
            await connection.execute(_INSERT_BUDGETS, numbers | {"version": version, "period": Jsonb(MONTH)})
            await connection.execute(_INSERT_KEYS, numbers)
        async with await psycopg.AsyncConnection.connect(self._database_url, autocommit=True) as connection:
            await connection.execute("ANALYZE budget, key_record")
        self._budgets = wanted

    async def _grow_counters(self, wanted: int) -> None:
        if wanted <= self._counters:
            return
        numbers = {"first": self._counters, "last": wanted - 1, "tenant": DEFAULT_TENANT}
        async with await psycopg.AsyncConnection.connect(self._database_url) as connection:
            budget = await find_budget(connection, DEFAULT_TENANT, self._budget_id)
            assert budget is not None
            window = window_of(budget.period, utc_now())
            await connection.execute(_INSERT_COUNTERS, numbers | {"budget": self._budget_id, "bucket": window.start})
        async with await psycopg.AsyncConnection.connect(self._database_url, autocommit=True) as connection:
            await connection.execute("ANALYZE budget_window")
        await self._copy_counters(budget, window, range(self._counters, wanted))
        self._counters = wanted

    async def _copy_counters(self, budget: Budget, window: Window, numbers: range) -> None:
        """Copy them as a check does that misses them, but very many at once."""
        redis = make_redis_client(self._redis_url, RedisSettings())
        async with make_postgres_pool(self._database_url, PostgresSettings()) as pool:
            ledger = LedgerReader(pool)
            seeder = CounterSeeder(redis, ledger, timeout_ms=_PATIENCE_MS)
            for start in range(numbers.start, numbers.stop, _COPIED_AT_ONCE):
                portion = range(start, min(start + _COPIED_AT_ONCE, numbers.stop))
                await seeder.seed([_counter(budget, window, number) for number in portion])
            await seeder.close()
            await ledger.close()
        await redis.aclose()


def _counter(budget: Budget, window: Window, number: int) -> BudgetCounter:
    values = {"end_user": f"person-{number}"}
    return BudgetCounter(budget, values, subject_text(values), window)
