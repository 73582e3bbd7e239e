"""Which ways the calls of a model went lately and how much they put out: what is answered, and what is looked at."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from service.db.pools import Pools
from service.kit.clock import utc_now
from service.ledger.served_queries import (
    IN_ORDER_OF_INDEXES,
    OUTPUTS_STATEMENT,
    ROUTES_STATEMENT,
    SeenRoute,
    read_output_tokens,
    read_routes,
    statement_parameters,
)
from service.ledger.service import LedgerRecorder
from service.ledger.totals import bucket_of
from tests.drafts import a_draft

_FILL_TOTALS = """
INSERT INTO spend_total (tenant_id, bucket, key_digest, requested_model, deployment, served_model, provider, call_type,
    price_state, status, requests, output_tokens)
SELECT %(tenant_id)s, %(bucket)s - make_interval(mins => 15 * (number / 200)), decode(md5(number::text), 'hex'),
    'model-' || number %% 40, 'azure/d' || number %% 120, 'azure/gpt-5.4', 'azure', 'acompletion', 'priced', 'success',
    1, 10
FROM generate_series(0, 79999) AS number
"""
_FILL_CHARGES = """
INSERT INTO charge (tenant_id, recorded_at, charge_id, kind, source, event_id, occurred_at, received_at, effective_at,
    config_version, price_book_version, is_final, call_type, status, is_stream, is_cache_hit, tags, automatic_tags,
    provenance, requested_model, price_state, fees_price_state, requests, failed_requests, unpriced_requests,
    output_tokens, quantities, components, fees)
SELECT %(tenant_id)s, now(), gen_random_uuid(), 'usage', 'litellm', number::text, now(), now(),
    %(bucket)s - make_interval(secs => 0.9 * number), 1, 'test', true, 'acompletion', 'success', false, false, '{}',
    '{}', '{}', 'model-' || number %% 40, 'priced', 'free', 1, 0, 0, number %% 1000, '{}', '[]', '[]'
FROM generate_series(0, 19999) AS number
"""


async def record(recorder: LedgerRecorder, tenant_id: str, *drafts: dict[str, Any]) -> None:
    await recorder.record([a_draft(tenant_id, **fields) for fields in drafts])


async def routes(pools: Pools, tenant_id: str, model: str = "smart") -> list[SeenRoute]:
    async with pools.postgres.connection() as connection:
        return list(await read_routes(connection, tenant_id, model))


async def outputs(pools: Pools, tenant_id: str, model: str = "smart") -> int | None:
    async with pools.postgres.connection() as connection:
        return await read_output_tokens(connection, tenant_id, model)


def a_call(deployment: str | None, served: str | None = None, **fields: Any) -> dict[str, Any]:
    names = {"requested_model": "smart", "deployment": deployment, "served_model": served, "provider": "azure"}
    return names | fields


async def test_the_ways_of_a_model_come_by_use(recorder: LedgerRecorder, pools: Pools, tenant_id: str):
    rare, often = a_call("azure/d1", "azure/gpt-5.4"), a_call("azure/d2", "azure/gpt-5.4-mini")
    other = a_call("azure/d3", "azure/o3", requested_model="other")
    await record(recorder, tenant_id, rare, often, often, other)
    assert await routes(pools, tenant_id) == [
        SeenRoute("azure/d2", "azure/gpt-5.4-mini", "azure"),
        SeenRoute("azure/d1", "azure/gpt-5.4", "azure"),
    ]
    assert await routes(pools, tenant_id, "never-used") == []
    assert await routes(pools, f"{tenant_id}-other") == []


async def test_what_only_failed_has_no_names_or_is_long_ago_is_no_way(
    recorder: LedgerRecorder, pools: Pools, tenant_id: str
):
    failed = a_call("azure/d1", "azure/gpt-5.4", status="failure", failed_requests=1)
    nameless = a_call(None, provider=None)
    old = a_call("azure/d2", "azure/gpt-5.4", effective_at=utc_now() - timedelta(days=8))
    router = a_call("azure_ai/model_router/prod")
    await record(recorder, tenant_id, failed, nameless, old, router)
    assert await routes(pools, tenant_id) == [SeenRoute("azure_ai/model_router/prod", None, "azure")]


async def test_the_most_of_nearly_all_outputs_is_told(recorder: LedgerRecorder, pools: Pools, tenant_id: str):
    assert await outputs(pools, tenant_id) is None
    calls = [a_call("azure/d1", output_tokens=tokens) for tokens in range(1, 201)]
    await record(recorder, tenant_id, *calls, a_call("azure/d1", output_tokens=90_000, requested_model="other"))
    assert await outputs(pools, tenant_id) == 198
    assert await outputs(pools, tenant_id, "other") == 90_000


async def test_calls_without_output_tell_nothing_of_outputs(recorder: LedgerRecorder, pools: Pools, tenant_id: str):
    await record(recorder, tenant_id, *[a_call("azure/d1", output_tokens=0) for _ in range(3)])
    assert await outputs(pools, tenant_id) is None
    await record(recorder, tenant_id, a_call("azure/d1", output_tokens=7))
    assert await outputs(pools, tenant_id) == 7


@pytest.mark.parametrize(("statement", "most"), [(ROUTES_STATEMENT, 5_000), (OUTPUTS_STATEMENT, 5_000 + 10 * 500)])
async def test_no_more_rows_are_looked_at_than_promised_however_many_there_are(
    pools: Pools, tenant_id: str, statement: str, most: int
):
    filled = {"tenant_id": tenant_id, "bucket": bucket_of(utc_now())}
    parameters = statement_parameters(tenant_id, "model-7")
    async with pools.postgres.connection() as connection:
        await connection.execute(_FILL_TOTALS, filled)
        await connection.execute(_FILL_CHARGES, filled)
        await connection.execute("ANALYZE spend_total, charge")
        async with connection.transaction():
            await connection.execute(IN_ORDER_OF_INDEXES)
            cursor = await connection.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", parameters)
            (plan,) = (await cursor.fetchall())[0]
            answered = await (await connection.execute(statement, parameters)).fetchone()
    assert answered is not None
    assert answered[0] is not None
    scans = list(_scans(plan[0]["Plan"]))
    assert {scan["Node Type"] for scan in scans if scan["Actual Loops"]} <= {"Index Scan", "Index Only Scan"}
    assert {"spend_total_by_requested_model"} <= {scan["Index Name"] for scan in scans}
    looked_at = sum(
        (scan["Actual Rows"] + scan.get("Rows Removed by Filter", 0)) * scan["Actual Loops"] for scan in scans
    )
    assert 0 < looked_at <= most


def _scans(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if node["Node Type"].endswith("Scan") and "Relation Name" in node:
        yield node
    for child in node.get("Plans", ()):
        yield from _scans(child)
