"""Reads what Redis shows as posted, counter by counter, without touching anything."""

from functools import partial
from uuid import UUID

from redis.asyncio import Redis

from service.checks.keys import ROLLING, counter_key, unix_text
from service.db.pools import RedisClient, at_server_of
from service.drift.service import CounterKey

_KEYS_AT_ONCE = 500


class RedisCopies:
    """The posted amounts of counters as Redis has them."""

    def __init__(self, redis: RedisClient) -> None:
        self._redis = redis

    async def read_posted(
        self, tenant_id: str, counters: list[CounterKey], rolling: frozenset[UUID]
    ) -> list[int | None]:
        """Return micro-USD per bucket of a counter, None where Redis has no copy; `rolling`: budgets that are."""
        copies: list[int | None] = []
        for start in range(0, len(counters), _KEYS_AT_ONCE):
            fields = []
            for budget_id, subject, bucket in counters[start : start + _KEYS_AT_ONCE]:
                window = ROLLING if budget_id in rolling else unix_text(bucket)
                fields.append((counter_key(tenant_id, budget_id, subject, window), f"p:{unix_text(bucket)}"))
            copies += await at_server_of(self._redis, fields[0][0], partial(_read_fields, fields))
        return copies


async def _read_fields(fields: list[tuple[str, str]], server: Redis) -> list[int | None]:
    async with server.pipeline(transaction=False) as pipeline:
        for key, field in fields:
            pipeline.hget(key, field)
        return [None if copy is None else int(copy) for copy in await pipeline.execute()]
