"""Reads what Redis shows as posted, counter by counter, without touching anything."""

from service.checks.keys import CounterRef, key_of, unix_text
from service.db.pools import RedisClient
from service.drift.service import CounterKey

_KEYS_AT_ONCE = 500


class RedisCopies:
    """The posted amounts of counters as Redis has them."""

    def __init__(self, redis: RedisClient) -> None:
        self._redis = redis

    async def read_posted(self, tenant_id: str, counters: list[CounterKey]) -> list[int | None]:
        """Return micro-USD per counter, None where Redis has no copy."""
        copies: list[int | None] = []
        for start in range(0, len(counters), _KEYS_AT_ONCE):
            async with self._redis.pipeline(transaction=False) as pipeline:
                for budget_id, subject, bucket in counters[start : start + _KEYS_AT_ONCE]:
                    key = key_of(CounterRef(tenant_id, budget_id, subject, bucket))
                    pipeline.hget(key, f"p:{unix_text(bucket)}")
                copies += [None if copy is None else int(copy) for copy in await pipeline.execute()]
        return copies
