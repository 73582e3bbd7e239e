"""The ledger oracle: what must hold of a tenant's rows after every test, recomputed from its charges alone.

Written with none of the product's own arithmetic: plain SQL over `charge`, compared with what the group commit keeps,
and what is kept with what Redis shows. `assert_sound` is all of it, the product's own auditor included.
"""

import asyncio
from contextlib import suppress
from decimal import ROUND_CEILING, Decimal
from time import monotonic
from typing import Any

from redis.exceptions import ConnectionError as RedisConnectionError

from service.checks.keys import ROLLING, counter_key, unix_text
from service.db.pools import Pools, PostgresPool, RedisClient, at_server_of, servers_of
from service.drift.copies import RedisCopies
from service.drift.service import DriftCheck
from tests.window_oracle import assert_windows_equal_charges

_QUIET_SECONDS = 10.0

_MEASURES = (
    "requests",
    "failed_requests",
    "unpriced_requests",
    "input_tokens",
    "output_tokens",
    "cache_read_input_tokens",
    "cache_write_input_tokens",
    "reasoning_output_tokens",
    "cost_usd",
    "model_cost_usd",
    "fees_usd",
    "list_cost_usd",
    "enforced_usd",
)
_CORE = (
    'organization, team, project, "user", api_key, requested_model, deployment, served_model, provider, call_type,'
    " price_state, service_tier, status"
)
_SUMS = ", ".join(f"sum({name}) AS {name}" for name in _MEASURES)
_NAMES = ", ".join(_MEASURES)
_BUCKET = "date_bin('15 minutes', effective_at, 'epoch') AS bucket"

_CHARGES_BY_CORE_KEY = (
    f"SELECT {_BUCKET}, {_CORE}, {_SUMS} FROM charge WHERE tenant_id = %(tenant)s GROUP BY 1, {_CORE}"
)
_TOTALS = f"SELECT bucket, {_CORE}, {_NAMES} FROM spend_total WHERE tenant_id = %(tenant)s"
_CHARGES_BY_LABEL = f"""
SELECT bucket, label, value, {_SUMS} FROM (
    SELECT {_BUCKET}, 'agent' AS label, agent AS value, {_NAMES} FROM charge WHERE tenant_id = %(tenant)s
    UNION ALL SELECT {_BUCKET}, 'end_user', end_user, {_NAMES} FROM charge WHERE tenant_id = %(tenant)s
    UNION ALL SELECT {_BUCKET}, 'tag', tag, {_NAMES} FROM charge, unnest(tags) AS tag WHERE tenant_id = %(tenant)s
) AS labelled WHERE value IS NOT NULL GROUP BY bucket, label, value
"""
_LABEL_TOTALS = f"SELECT bucket, label, value, {_NAMES} FROM spend_label_total WHERE tenant_id = %(tenant)s"
_KEYS = "SELECT charge_id FROM event_key WHERE tenant_id = %(tenant)s"
_KEYED_CHARGES = "SELECT charge_id FROM charge WHERE tenant_id = %(tenant)s"
_OPEN_OUTBOX = "SELECT outbox_id FROM outbox WHERE tenant_id = %(tenant)s"
_COUNTERS = """
SELECT w.budget_id, w.subject, w.bucket, w.enforced, COALESCE(b.period ->> 'kind' = 'rolling', false)
FROM budget_window AS w LEFT JOIN budget AS b USING (tenant_id, budget_id) WHERE w.tenant_id = %(tenant)s
"""


async def assert_totals_equal_charges(pool: PostgresPool, tenant_id: str) -> None:
    """Every total equals the sum of its charges, no total is without charges, every charge has its event key."""
    await _assert_same(pool, tenant_id, _CHARGES_BY_CORE_KEY, _TOTALS)
    await _assert_same(pool, tenant_id, _CHARGES_BY_LABEL, _LABEL_TOTALS)
    await _assert_same(pool, tenant_id, _KEYED_CHARGES, _KEYS)


async def assert_outbox_is_empty(pool: PostgresPool, tenant_id: str) -> None:
    """Nothing is owed to Redis any more."""
    assert await _rows(pool, _OPEN_OUTBOX, tenant_id) == []


async def assert_sound(
    pools: Pools, tenant_id: str, *, quiet_seconds: float = _QUIET_SECONDS, may_hold: bool = False
) -> None:
    """Everything that must hold of a tenant nobody writes to any more: within `quiet_seconds` nothing is owed to Redis,
    every sum is that of the charges, Redis shows what is posted, and nothing is held (unless it may still be).
    """
    give_up_at = monotonic() + quiet_seconds
    while await _rows(pools.postgres, _OPEN_OUTBOX, tenant_id):
        assert monotonic() < give_up_at, f"outbox rows are still open after {quiet_seconds} s"
        await asyncio.sleep(0.02)
    await assert_totals_equal_charges(pools.postgres, tenant_id)
    await assert_windows_equal_charges(pools.postgres, tenant_id)
    await assert_counters_equal_windows(pools, tenant_id, may_hold=may_hold)
    report = await DriftCheck(pools.postgres, RedisCopies(pools.redis)).check(tenant_id)
    assert report.drifts == []


async def assert_counters_equal_windows(pools: Pools, tenant_id: str, *, may_hold: bool = False) -> None:
    """Redis shows of every counter it knows what is posted, rounded up to micro-USD; held is the sum of its holds."""
    posted: dict[str, dict[str, int]] = {}
    for budget_id, subject, bucket, enforced, is_rolling in await _rows(pools.postgres, _COUNTERS, tenant_id):
        # Redis counts up to nine billion dollars.
        micro_usd = min(int((enforced * 1_000_000).to_integral_value(ROUND_CEILING)), 9 * 10**15)
        key = counter_key(tenant_id, budget_id, subject, ROLLING if is_rolling else unix_text(bucket))
        posted.setdefault(key, {})[unix_text(bucket)] = micro_usd
    for key, counter in (await read_counters(pools.redis, tenant_id)).items():
        shown = {name[2:]: int(value) for name, value in counter.items() if name.startswith("p:")}
        expected = posted.get(key, {})
        if key.endswith(f":{ROLLING}"):
            # Buckets nobody counts any more were dropped when it was seeded; one nobody posted to is not there.
            oldest = int(counter.get("o", min(shown, default="0")))
            expected = {bucket: amount for bucket, amount in expected.items() if int(bucket) >= oldest}
            shown = {bucket: amount for bucket, amount in shown.items() if int(bucket) >= oldest}
        else:
            expected = expected or {key.rpartition(":")[2]: 0}
        assert shown == expected, f"{key}: Redis shows {shown}, posted is {expected}"
        holds = await _read_holds(pools.redis, f"{key}:z")
        held = int(counter.get("h", 0))
        assert held == sum(int(hold.partition(":")[0]) for hold in holds), f"{key} says it holds {held}: {holds}"
        assert may_hold or not holds, f"{key} holds {holds}"


async def read_counters(redis: RedisClient, tenant_id: str) -> dict[str, dict[str, str]]:
    """Return the hash of every counter of a tenant; in a cluster, a primary that is away has none."""
    counters: dict[str, dict[str, str]] = {}
    for server in await servers_of(redis):
        with suppress(RedisConnectionError):
            counters |= await _read_counters_of(server, f"{{{tenant_id}}}:c:*")
    return counters


async def _read_counters_of(server: Any, pattern: str) -> dict[str, dict[str, str]]:
    keys = [key async for key in server.scan_iter(match=pattern) if not key.endswith(b":z")]
    hashes = [await server.hgetall(key) for key in keys]
    return {
        key.decode(): {name.decode(): value.decode() for name, value in fields.items()}
        for key, fields in zip(keys, hashes, strict=True)
        if fields
    }


async def _read_holds(redis: RedisClient, key: str) -> list[str]:
    return [member.decode() for member in await at_server_of(redis, key, lambda server: server.zrange(key, 0, -1))]


async def read_response_ids(pool: PostgresPool, tenant_id: str) -> set[str]:
    """Return the providers' ids of everything a tenant has recorded."""
    rows = await _rows(pool, "SELECT response_id FROM charge WHERE tenant_id = %(tenant)s", tenant_id)
    return {row[0] for row in rows}


async def read_charges(pool: PostgresPool, tenant_id: str) -> dict[str, Decimal]:
    """Return what each charge of a tenant costs, by its id."""
    rows = await _rows(pool, "SELECT charge_id, cost_usd FROM charge WHERE tenant_id = %(tenant)s", tenant_id)
    return {str(charge_id): cost for charge_id, cost in rows}


async def _assert_same(pool: PostgresPool, tenant_id: str, expected: str, actual: str) -> None:
    for minuend, subtrahend in ((expected, actual), (actual, expected)):
        difference = await _rows(pool, f"({minuend}) EXCEPT ALL ({subtrahend})", tenant_id)
        assert difference == [], difference[:5]


async def _rows(pool: PostgresPool, statement: str, tenant_id: str) -> list[Any]:
    async with pool.connection() as connection:
        return await (await connection.execute(statement, {"tenant": tenant_id})).fetchall()  # type: ignore[arg-type]
