"""The auditor finds nothing where nothing is wrong, and every kind of tampering where something is."""

from typing import Any

import pytest

from service.access.service import TenantService
from service.app import create_app
from service.db.pools import Pools
from service.drift.copies import RedisCopies
from service.drift.service import DriftCheck, NotCompared, TenantReport
from service.settings import Settings
from tests.app_client import running_client
from tests.builders import a_litellm_event

_MONTH = {"kind": "calendar", "unit": "month", "timezone": "UTC"}


@pytest.fixture
async def audited_tenant(settings: Settings, pools: Pools, tenant_id: str) -> str:
    """A tenant with two budgets, a few charges and their copies in Redis; the server is gone."""
    await _audited(settings, pools, tenant_id, [a_litellm_event() for _ in range(5)])
    return tenant_id


async def _audited(settings: Settings, pools: Pools, tenant_id: str, events: list[dict[str, Any]]) -> None:
    _, token = await TenantService(pools.postgres).create(tenant_id, None)
    headers = {"Authorization": f"Bearer {token.text}"}
    async with running_client(create_app(settings)) as client:
        for slug, match in (("all", {}), ("each-user", {"user": "*"})):
            body: dict[str, Any] = {"slug": slug, "name": slug, "match": match, "limit_usd": "10", "period": _MONTH}
            (await client.post("/v1/budgets", json=body, headers=headers)).raise_for_status()
        answer = await client.post("/v1/events", json=events, headers=headers)
        assert answer.json()["recorded"] == len(events), answer.text


@pytest.fixture
def drift_check(pools: Pools) -> DriftCheck:
    return DriftCheck(pools.postgres, RedisCopies(pools.redis))


async def test_nothing_is_found_where_nothing_is_wrong(drift_check: DriftCheck, audited_tenant: str) -> None:
    report = await drift_check.check(audited_tenant)
    assert report.drifts == []
    assert report.charges == 5
    assert report.counters == report.counters_in_redis == 2


@pytest.mark.parametrize(
    ("statement", "place"),
    [
        ("UPDATE spend_total SET cost_usd = cost_usd + 0.000001 WHERE tenant_id = %s", "spend_total"),
        ("UPDATE spend_label_total SET requests = requests + 1 WHERE tenant_id = %s", "spend_label_total"),
        ("UPDATE budget_window SET enforced = enforced - 0.000001 WHERE tenant_id = %s", "budget_window"),
        (
            "DELETE FROM event_key WHERE tenant_id = %s AND event_id IN (SELECT max(event_id) FROM event_key)",
            "event_key",
        ),
        ("DELETE FROM budget_window WHERE tenant_id = %s", "budget_window"),
    ],
)
async def test_each_kind_of_tampering_is_found(
    pools: Pools, drift_check: DriftCheck, audited_tenant: str, statement: str, place: str
) -> None:
    async with pools.postgres.connection() as connection:
        cursor = await connection.execute(
            statement.replace("FROM event_key)", f"FROM event_key WHERE tenant_id = '{audited_tenant}')"),
            (audited_tenant,),
        )
        assert cursor.rowcount > 0
    report = await drift_check.check(audited_tenant)
    assert place in {drift.place for drift in report.drifts}


async def test_a_tenant_nobody_can_read_keeps_no_other_from_being_compared(
    pools: Pools, drift_check: DriftCheck, audited_tenant: str
) -> None:
    unreadable = f"{audited_tenant}-x"
    await TenantService(pools.postgres).create(unreadable, None)
    async with pools.postgres.connection() as connection:
        await connection.execute(
            "INSERT INTO budget SELECT (jsonb_populate_record(b, %s::jsonb)).* FROM budget AS b"
            " WHERE tenant_id = %s AND slug = 'all'",
            (f'{{"tenant_id": "{unreadable}", "period": {{}}}}', audited_tenant),
        )
    try:
        first, second = await drift_check.check_all([unreadable, audited_tenant])
    finally:
        async with pools.postgres.connection() as connection:
            await connection.execute("DELETE FROM budget WHERE tenant_id = %s", (unreadable,))
    assert isinstance(first, NotCompared)
    assert isinstance(second, TenantReport)
    assert (second.drifts, second.charges) == ([], 5)


async def test_a_copy_in_redis_that_differs_is_found(
    pools: Pools, drift_check: DriftCheck, audited_tenant: str
) -> None:
    keys = [key async for key in pools.redis.scan_iter(match=f"{{{audited_tenant}}}:c:*")]
    [field] = [name for name in await pools.redis.hkeys(keys[0]) if name.startswith(b"p:")]
    await pools.redis.hincrby(keys[0], field, 1)
    report = await drift_check.check(audited_tenant)
    assert [drift.place for drift in report.drifts] == ["redis"]


async def test_more_than_counters_can_show_is_no_difference(
    settings: Settings, pools: Pools, drift_check: DriftCheck, tenant_id: str
) -> None:
    house = {"model": "house-model", "model_group": "house-model", "custom_llm_provider": "custom"}
    await _audited(settings, pools, tenant_id, [a_litellm_event(**house, response_cost=2e10)])
    async with pools.postgres.connection() as connection:
        cursor = await connection.execute("SELECT min(enforced) FROM budget_window WHERE tenant_id = %s", (tenant_id,))
        assert await cursor.fetchone() == (20_000_000_000,)
    report = await drift_check.check(tenant_id)
    assert (report.counters_in_redis, report.drifts) == (2, [])
