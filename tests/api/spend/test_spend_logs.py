"""`/spend/logs` in LiteLLM's shape, for what reads it there."""

import json
from collections.abc import Awaitable, Callable
from datetime import timedelta
from decimal import Decimal
from hashlib import sha256
from typing import Any

import httpx

from service.db.pools import Pools
from service.kit.ids import new_id
from tests.api.spend.reading_app import Read
from tests.integration.spend.charge_rows import NOON, Charge, a_charge, a_reversal, record

HeadersOf = Callable[..., Awaitable[dict[str, str]]]


def _router_charge(tenant_id: str, **given: Any) -> Charge:
    """An Azure Model Router call: served model known, the router as deployment, its fee a line of its own."""
    known: dict[str, Any] = {
        "response_id": "chatcmpl-caa89fca",
        "request_id": "8f205a68-cf45",
        "trace_id": "ae53c7e1",
        "requested_model": "azure-model-router",
        "deployment": "azure_ai/model_router/azure-model-router",
        "deployment_id": "829578bf",
        "served_model": "azure_ai/gpt-5.4-mini-2026-03-17",
        "provider": "azure_ai",
        "gateway_price_key": "azure_ai/model_router/azure-model-router",
        "team": "team-4f1c",
        "user": "u-1001",
        "organization": "org-emea",
        "api_key": "2057f4e5",
        "tags": ["env:prod"],
        "automatic_tags": ["User-Agent: OpenAI"],
        "input_tokens": 1200,
        "output_tokens": 345,
        "reasoning_output_tokens": 64,
        "duration_ms": 4,
        "model_cost_usd": Decimal("0.0024525"),
        "fees_usd": Decimal("0.000168"),
        "components": [
            {"name": "text_input", "quantity": "1200", "unit": "token", "rate": "7.5E-7", "amount_usd": "0.000900"},
            {"name": "text_output", "quantity": "281", "unit": "token", "rate": "4.5E-6", "amount_usd": "0.0012645"},
            {"name": "reasoning", "quantity": "64", "unit": "token", "rate": "4.5E-6", "amount_usd": "0.000288"},
        ],
        "fees": [
            {
                "name": "Azure Model Router Flat Cost",
                "quantity": "1200",
                "unit": "token",
                "rate": "1.4E-7",
                "amount_usd": "0.000168",
            }
        ],
    }
    return a_charge(tenant_id, **{**known, **given})


async def test_a_router_call_shows_the_served_model_on_top(read: Read, pools: Pools, tenant_id: str):
    charge = _router_charge(tenant_id)
    await record(pools.postgres, [charge, a_charge(tenant_id)])
    response = await read("/spend/logs", request_id="chatcmpl-caa89fca")
    assert response.status_code == 200, response.text
    [row] = response.json()
    assert row["model"] == "azure_ai/gpt-5.4-mini-2026-03-17"
    assert row["model_group"] == "azure-model-router"
    assert row["metadata"]["model_map_information"]["model_map_key"] == "azure_ai/model_router/azure-model-router"
    assert row["metadata"]["cost_breakdown"] == {
        "input_cost": 0.0009,
        "output_cost": 0.0015525,
        "additional_costs": {"Azure Model Router Flat Cost": 0.000168},
        "original_cost": 0.0026205,
        "total_cost": 0.0026205,
        "service_tier": None,
    }
    assert row["metadata"]["tallygate"]["charge_id"] == charge["charge_id"]
    del row["metadata"]
    assert row == {
        "request_id": "chatcmpl-caa89fca",
        "litellm_call_id": "8f205a68-cf45",
        "call_type": "acompletion",
        "api_key": "2057f4e5",
        "spend": 0.0026205,
        "total_tokens": 1545,
        "prompt_tokens": 1200,
        "completion_tokens": 345,
        "startTime": "2026-11-03T12:00:00Z",
        "endTime": "2026-11-03T12:00:00.004000Z",
        "request_duration_ms": 4,
        "model": "azure_ai/gpt-5.4-mini-2026-03-17",
        "model_id": "829578bf",
        "model_group": "azure-model-router",
        "custom_llm_provider": "azure_ai",
        "api_base": "",
        "user": "u-1001",
        "cache_hit": "False",
        "cache_key": "",
        "request_tags": ["env:prod", "User-Agent: OpenAI"],
        "team_id": "team-4f1c",
        "organization_id": "org-emea",
        "end_user": None,
        "agent_id": None,
        "requester_ip_address": None,
        "messages": {},
        "response": {},
        "session_id": "ae53c7e1",
        "status": "success",
    }


async def test_a_row_is_found_by_the_id_of_its_call_too(read: Read, pools: Pools, tenant_id: str):
    await record(pools.postgres, [_router_charge(tenant_id), a_charge(tenant_id, response_id="other")])
    assert len((await read("/spend/logs", request_id="8f205a68-cf45")).json()) == 1
    assert (await read("/spend/logs", request_id="nobody")).json() == []


async def test_the_router_is_shown_only_where_the_served_model_is_not_known(read: Read, pools: Pools, tenant_id: str):
    await record(pools.postgres, [_router_charge(tenant_id, served_model=None, price_state="reported")])
    [row] = (await read("/spend/logs")).json()
    assert row["model"] == "azure_ai/model_router/azure-model-router"


async def test_spend_is_a_number_of_every_digit(read: Read, pools: Pools, tenant_id: str):
    cost = Decimal("0.00000012345678901234567890123456789")
    await record(pools.postgres, [a_charge(tenant_id, model_cost_usd=cost, fees_usd=Decimal(0))])
    response = await read("/spend/logs")
    [row] = json.loads(response.text, parse_float=Decimal)
    assert row["spend"] == cost


async def test_a_price_that_is_not_made_of_tokens_has_no_direction(read: Read, pools: Pools, tenant_id: str):
    line = {"name": "reported", "quantity": "1", "unit": "request", "rate": "0.0012", "amount_usd": "0.0012"}
    await record(pools.postgres, [a_charge(tenant_id, components=[line])])
    [row] = (await read("/spend/logs")).json()
    breakdown = row["metadata"]["cost_breakdown"]
    assert (breakdown["input_cost"], breakdown["output_cost"], breakdown["total_cost"]) == (None, None, 0.0015)


async def test_an_unpriced_model_is_not_shown_as_free(read: Read, pools: Pools, tenant_id: str):
    unpriced = _router_charge(
        tenant_id, served_model=None, price_state="unpriced", model_cost_usd=Decimal(0), components=[]
    )
    await record(pools.postgres, [unpriced])
    [row] = (await read("/spend/logs")).json()
    breakdown = row["metadata"]["cost_breakdown"]
    assert (breakdown["input_cost"], breakdown["output_cost"], breakdown["total_cost"]) == (None, None, 0.000168)
    assert row["metadata"]["tallygate"]["price_state"] == "unpriced"


async def test_a_cache_hit_costs_nothing_and_keeps_its_tokens(read: Read, pools: Pools, tenant_id: str):
    await record(
        pools.postgres,
        [
            a_charge(
                tenant_id,
                is_cache_hit=True,
                model_cost_usd=Decimal(0),
                fees_usd=Decimal(0),
                input_tokens=0,
                output_tokens=0,
                quantities={"cache_hit_input_tokens": 7, "cache_hit_output_tokens": 3},
            )
        ],
    )
    [row] = (await read("/spend/logs")).json()
    assert (row["cache_hit"], row["spend"], row["prompt_tokens"], row["total_tokens"]) == ("True", 0, 7, 10)


async def test_rows_add_up_to_the_spend_also_after_a_reversal(read: Read, pools: Pools, tenant_id: str):
    charge = _router_charge(tenant_id)
    await record(pools.postgres, [charge, a_reversal(charge), a_charge(tenant_id)])
    rows = json.loads((await read("/spend/logs")).text, parse_float=Decimal, parse_int=Decimal)
    assert sum(row["spend"] for row in rows) == Decimal("0.0015")
    kinds = sorted(row["metadata"]["tallygate"]["kind"] for row in rows)
    assert kinds == ["reversal", "usage", "usage"]


async def test_filters_by_key_user_and_days(read: Read, pools: Pools, tenant_id: str):
    key = sha256(b"sk-1234").hexdigest()
    await record(
        pools.postgres,
        [
            a_charge(tenant_id, response_id="a", api_key=key, user="u1"),
            a_charge(
                tenant_id, response_id="b", api_key=key, user=None, effective_at=NOON + timedelta(days=1, hours=11)
            ),
            a_charge(tenant_id, response_id="c", api_key="other", user="u1", effective_at=NOON + timedelta(days=2)),
        ],
    )

    async def ids(**parameters: str) -> list[str]:
        return [row["request_id"] for row in (await read("/spend/logs", **parameters)).json()]

    assert await ids(api_key="sk-1234") == ["b", "a"]
    assert await ids(user_id="u1") == ["c", "a"]
    assert await ids(user_id="") == ["b"]
    assert await ids(api_key=key, user_id="u1") == ["a"]
    assert await ids(start_date="2026-11-03", end_date="2026-11-04", summarize="false") == ["b", "a"]
    assert await ids(start_date="2026-11-05") == ["c"]


async def test_both_dates_sum_up_per_day_by_user_and_by_model(read: Read, pools: Pools, tenant_id: str):
    await record(
        pools.postgres,
        [
            _router_charge(tenant_id),
            _router_charge(tenant_id, user=None),
            _router_charge(tenant_id, served_model=None, effective_at=NOON + timedelta(hours=11, minutes=59)),
            a_charge(tenant_id, user="u2", requested_model="free-model", effective_at=NOON + timedelta(days=1)),
        ],
    )
    response = await read("/spend/logs", start_date="2026-11-03", end_date="2026-11-05")
    assert json.loads(response.text, parse_float=str) == [
        {
            "startTime": "2026-11-03",
            "spend": "0.0078615",
            "users": {"u-1001": "0.005241", "": "0.0026205"},
            "models": {
                "azure_ai/gpt-5.4-mini-2026-03-17": "0.005241",
                "azure_ai/model_router/azure-model-router": "0.0026205",
            },
        },
        {"startTime": "2026-11-04", "spend": "0.0015", "users": {"u2": "0.0015"}, "models": {"free-model": "0.0015"}},
        {"startTime": "2026-11-05", "spend": 0, "users": {}, "models": {}},
    ]


async def test_more_rows_than_a_page_are_announced_never_cut_off(read: Read, pools: Pools, tenant_id: str):
    await record(
        pools.postgres,
        [
            a_charge(tenant_id, response_id=str(number), effective_at=NOON + timedelta(seconds=number))
            for number in range(5)
        ],
    )
    seen: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        response = await read("/spend/logs", limit="2", **cursor)
        seen += [row["request_id"] for row in response.json()]
        if "x-next-cursor" not in response.headers:
            break
        cursor = {"cursor": response.headers["x-next-cursor"]}
    assert seen == ["4", "3", "2", "1", "0"]


async def test_tenants_and_scopes_are_walls(
    client: httpx.AsyncClient, headers_of: HeadersOf, pools: Pools, tenant_id: str
):
    stranger = f"t-{new_id().hex}"
    await record(
        pools.postgres,
        [
            _router_charge(tenant_id, team="core"),
            _router_charge(tenant_id, team="web"),
            _router_charge(stranger, team="core"),
        ],
    )
    headers = await headers_of(scope={"team": ["core"]})
    for parameters in ({}, {"request_id": "chatcmpl-caa89fca"}):
        rows = (await client.get("/spend/logs", params=parameters, headers=headers)).json()
        assert [row["team_id"] for row in rows] == ["core"]
    days = await client.get(
        "/spend/logs", params={"start_date": "2026-11-03", "end_date": "2026-11-03"}, headers=headers
    )
    assert days.json()[0]["spend"] == 0.0026205


async def test_what_is_not_understood_is_refused(read: Read):
    response = await read("/spend/logs", start_date="03/11/2026")
    assert (response.status_code, response.json()["code"], response.json()["field"]) == (
        422,
        "invalid_time",
        "start_date",
    )
