from collections.abc import Awaitable, Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import httpx
import pytest

from service.db.pools import Pools
from service.kit.ids import new_id
from tests.api.spend.reading_app import Read
from tests.integration.spend.charge_rows import NOON, a_charge, a_reversal, record

HeadersOf = Callable[..., Awaitable[dict[str, str]]]

_SPAN = {"from": "2026-11-03T00:00:00Z", "to": "2026-11-04T00:00:00Z"}


async def _ids(read: Read, **parameters: Any) -> list[str]:
    response = await read("/v1/charges", **_SPAN, **parameters)
    assert response.status_code == 200, response.text
    return [charge["charge_id"] for charge in response.json()["charges"]]


async def test_a_charge_explains_its_amount(read: Read, pools: Pools, tenant_id: str):
    component = {
        "name": "text_input",
        "quantity": "1200",
        "unit": "token",
        "rate": "7.5E-7",
        "amount_usd": "0.000900",
        "price_key": "azure_ai/gpt-5.4-mini",
        "note": "dated_snapshot",
    }
    fee = {
        "name": "Azure Model Router Flat Cost",
        "quantity": 1200,
        "unit": "token",
        "rate": "1.4E-7",
        "amount_usd": "0.000168",
    }
    charge = a_charge(
        tenant_id,
        requested_model="azure-model-router",
        deployment="azure_ai/model_router/azure-model-router",
        served_model="azure_ai/gpt-5.4-mini-2026-03-17",
        provenance={"served_model": "model"},
        components=[component],
        fees=[fee],
        model_cost_usd=Decimal("0.000900"),
        fees_usd=Decimal("0.000168"),
        reported_cost_usd=Decimal("0.0010680000000000001"),
        assumed_usd=Decimal(0),
        tags=["env:prod"],
        automatic_tags=["User-Agent: OpenAI"],
        quantities={"audio_input_tokens": 3},
    )
    await record(pools.postgres, [charge])
    response = await read(f"/v1/charges/{charge['charge_id']}")
    assert response.status_code == 200
    explained = response.json()
    assert explained["components"] == [
        {
            "name": "text_input",
            "quantity": "1200",
            "unit": "token",
            "rate": "0.00000075",
            "price_key": "azure_ai/gpt-5.4-mini",
            "multiplier": "1",
            "amount_usd": "0.0009",
            "note": "dated_snapshot",
        }
    ]
    assert explained["fees"] == [
        {
            "name": "Azure Model Router Flat Cost",
            "quantity": "1200",
            "unit": "token",
            "rate": "0.00000014",
            "amount_usd": "0.000168",
            "note": None,
        }
    ]
    said = {name: explained[name] for name in ("cost_usd", "billed_cost_usd", "list_cost_usd", "enforced_usd")}
    assert set(said.values()) == {"0.001068"}
    assert explained["assumed_usd"] == "0"
    assert explained["reported_cost_usd"] == "0.0010680000000000001"
    assert explained["served_model"] == "azure_ai/gpt-5.4-mini-2026-03-17"
    assert explained["provenance"] == {"served_model": "model"}
    assert (explained["price_state"], explained["fees_price_state"]) == ("priced", "free")
    assert explained["price_book_version"] == "book-1"
    assert explained["effective_at"] == "2026-11-03T12:00:00Z"
    assert explained["quantities"] == {"audio_input_tokens": 3}
    assert explained["corrections"] == []


async def test_an_amount_of_many_digits_is_shown_whole(read: Read, pools: Pools, tenant_id: str):
    cost = Decimal("123456789.0000000000000000000000000000000000000123")
    charge = a_charge(tenant_id, model_cost_usd=cost, fees_usd=Decimal(0), cost_usd=cost)
    await record(pools.postgres, [charge])
    explained = (await read(f"/v1/charges/{charge['charge_id']}")).json()
    assert explained["cost_usd"] == str(cost)


async def test_a_charge_and_its_reversal_name_each_other(read: Read, pools: Pools, tenant_id: str):
    charge = a_charge(tenant_id)
    reversal = a_reversal(charge)
    await record(pools.postgres, [charge, reversal, a_charge(tenant_id)])
    explained = (await read(f"/v1/charges/{charge['charge_id']}")).json()
    [correction] = explained["corrections"]
    assert correction["charge_id"] == reversal["charge_id"]
    assert (correction["kind"], correction["reason"], correction["cost_usd"]) == ("reversal", "mistake", "-0.0015")
    opposite = (await read(f"/v1/charges/{reversal['charge_id']}")).json()
    assert opposite["corrects_charge_id"] == charge["charge_id"]


async def test_charges_are_listed_newest_first_and_paged(read: Read, pools: Pools, tenant_id: str):
    charges = [a_charge(tenant_id, effective_at=NOON + timedelta(minutes=number)) for number in range(5)]
    await record(pools.postgres, charges)
    seen: list[str] = []
    cursor: str | None = None
    for _ in range(3):
        page = (await read("/v1/charges", **_SPAN, limit=2, **({"cursor": cursor} if cursor else {}))).json()
        seen += [charge["charge_id"] for charge in page["charges"]]
        cursor = page["next_cursor"]
    assert cursor is None
    assert seen == [charge["charge_id"] for charge in reversed(charges)]


async def test_the_range_is_inclusive_at_its_start_and_exclusive_at_its_end(read: Read, pools: Pools, tenant_id: str):
    first, last = a_charge(tenant_id), a_charge(tenant_id, effective_at=NOON + timedelta(hours=1))
    await record(pools.postgres, [first, last])
    response = await read("/v1/charges", **{"from": NOON.isoformat(), "to": (NOON + timedelta(hours=1)).isoformat()})
    assert [charge["charge_id"] for charge in response.json()["charges"]] == [first["charge_id"]]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(
            (name, f"one {name}")
            for name in ("organization", "team", "project", "user", "api_key", "end_user", "agent")
        ),
        *((name, f"one/{name}") for name in ("session", "requested_model", "deployment", "served_model", "provider")),
        ("service_tier", "flex"),
        ("call_type", "aembedding"),
        ("price_state", "unpriced"),
        ("status", "failure"),
        ("event_id", "e-1"),
        ("request_id", "r-1"),
    ],
)
async def test_every_field_filters_includes_and_excludes(
    read: Read, pools: Pools, tenant_id: str, field: str, value: str
):
    wanted, other = a_charge(tenant_id, **{field: value}), a_charge(tenant_id)
    await record(pools.postgres, [wanted, other])
    assert await _ids(read, **{field: value}) == [wanted["charge_id"]]
    assert await _ids(read, **{field: f"!{value}"}) == [other["charge_id"]]
    both = {wanted["charge_id"], other["charge_id"]}
    if other.get(field) is not None:
        assert set(await _ids(read, **{field: [value, other[field]]})) == both
    else:
        assert await _ids(read, **{field: ""}) == [other["charge_id"]]
        assert await _ids(read, **{field: "!"}) == [wanted["charge_id"]]


async def test_tags_filter_by_any_of_them(read: Read, pools: Pools, tenant_id: str):
    blue, both, none = (a_charge(tenant_id, tags=tags) for tags in (["blue"], ["blue", "red"], []))
    await record(pools.postgres, [blue, both, none])
    assert set(await _ids(read, tag="blue")) == {blue["charge_id"], both["charge_id"]}
    assert await _ids(read, tag=["blue", "!red"]) == [blue["charge_id"]]
    assert set(await _ids(read, tag=["red", ""])) == {both["charge_id"], none["charge_id"]}


async def test_kinds_filter(read: Read, pools: Pools, tenant_id: str):
    charge = a_charge(tenant_id)
    reversal = a_reversal(charge)
    await record(pools.postgres, [charge, reversal])
    assert await _ids(read, kind="reversal") == [reversal["charge_id"]]


@pytest.mark.parametrize("text", ["'; DROP TABLE charge; --", "%", "\x00", "{}", "x" * 5_000, "\u202e", '{"a":1}'])
async def test_text_of_a_caller_is_never_more_than_a_value(read: Read, pools: Pools, tenant_id: str, text: str):
    await record(pools.postgres, [a_charge(tenant_id)])
    assert await _ids(read, team=text) == []
    assert len(await _ids(read, team=f"!{text}")) == 1


async def test_bytes_that_are_no_text_are_answered(client: httpx.AsyncClient, headers_of: HeadersOf):
    for query in ("team=%ED%A0%80", "team=%FF", "team", "=x", "cursor=%00", "%00=1"):
        response = await client.get(f"/v1/charges?{query}", headers=await headers_of())
        assert response.status_code in {200, 422}, (query, response.text)


async def test_what_is_not_understood_is_refused_by_code_and_field(read: Read):
    for parameters, code, field in (
        ({"teem": "core"}, "unknown_parameter", "teem"),
        ({"limit": "5000"}, "invalid_limit", "limit"),
        ({"cursor": "abc"}, "invalid_cursor", "cursor"),
        ({"from": "then"}, "invalid_time", "from"),
        ({"price_state": "dear"}, "unknown_value", "price_state"),
    ):
        response = await read("/v1/charges", **parameters)
        assert response.status_code == 422
        assert response.headers["content-type"] == "application/problem+json"
        assert (response.json()["code"], response.json()["field"]) == (code, field)


async def test_a_charge_that_is_not_there_is_not_found(read: Read):
    response = await read(f"/v1/charges/{new_id()}")
    assert (response.status_code, response.json()["code"]) == (404, "not_found")
    assert (await read("/v1/charges/nonsense")).status_code == 404


async def test_another_tenants_charges_do_not_exist(
    client: httpx.AsyncClient, headers_of: HeadersOf, pools: Pools, tenant_id: str
):
    charge = a_charge(tenant_id)
    await record(pools.postgres, [charge])
    stranger = await headers_of(f"t-{new_id().hex}", roles=("read", "admin"))
    assert (await client.get(f"/v1/charges/{charge['charge_id']}", headers=stranger)).status_code == 404
    assert (await client.get("/v1/charges", params=_SPAN, headers=stranger)).json()["charges"] == []
    reversal = await client.post(f"/v1/charges/{charge['charge_id']}/reverse", json={"reason": "x"}, headers=stranger)
    assert reversal.status_code == 404
    assert (await client.get(f"/v1/charges/{charge['charge_id']}", headers=await headers_of())).json()[
        "corrections"
    ] == []


async def test_a_scope_narrows_every_read(
    client: httpx.AsyncClient, headers_of: HeadersOf, pools: Pools, tenant_id: str
):
    inside, other_team, other_tag = (
        a_charge(tenant_id, team="core", tags=["blue"]),
        a_charge(tenant_id, team="web", tags=["blue"]),
        a_charge(tenant_id, team="core"),
    )
    await record(pools.postgres, [inside, other_team, other_tag])
    headers = await headers_of(scope={"team": ["core"], "tag": ["blue", "green"]})
    listed = await client.get("/v1/charges", params=_SPAN, headers=headers)
    assert [charge["charge_id"] for charge in listed.json()["charges"]] == [inside["charge_id"]]
    asked_for_more = await client.get("/v1/charges", params={**_SPAN, "team": ["core", "web"]}, headers=headers)
    assert len(asked_for_more.json()["charges"]) == 1
    for charge, status in ((inside, 200), (other_team, 404), (other_tag, 404)):
        assert (await client.get(f"/v1/charges/{charge['charge_id']}", headers=headers)).status_code == status


@pytest.mark.parametrize(
    "path", ["/v1/charges", "/v1/charges/00000000-0000-7000-8000-000000000000", "/v1/spend", "/spend/logs"]
)
async def test_reading_needs_a_token_with_the_role(client: httpx.AsyncClient, headers_of: HeadersOf, path: str):
    assert (await client.get(path)).status_code == 401
    assert (await client.get(path, headers=await headers_of(roles=("ingest", "check")))).status_code == 403


async def test_a_charge_is_reversed_once_and_the_sums_follow(
    client: httpx.AsyncClient, headers_of: HeadersOf, pools: Pools, tenant_id: str
):
    headers = await headers_of(roles=("read", "admin"))
    charge = a_charge(tenant_id, components=[_line()])
    await record(pools.postgres, [charge])
    path = f"/v1/charges/{charge['charge_id']}/reverse"
    first = await client.post(path, json={"reason": "posted by mistake"}, headers=headers)
    assert first.status_code == 201, first.text
    assert first.json()["corrects_charge_id"] == charge["charge_id"]
    second = await client.post(path, json={"reason": "again"}, headers=headers)
    assert (second.status_code, second.json()["code"]) == (409, "already_reversed")
    of_reversal = await client.post(
        f"/v1/charges/{first.json()['charge_id']}/reverse", json={"reason": "x"}, headers=headers
    )
    assert (of_reversal.status_code, of_reversal.json()["code"]) == (409, "not_reversible")

    explained = (await client.get(f"/v1/charges/{charge['charge_id']}", headers=headers)).json()
    assert [correction["reason"] for correction in explained["corrections"]] == ["posted by mistake"]
    spend = (await client.get("/v1/spend", params={**_SPAN, "group_by": "team"}, headers=headers)).json()
    assert (spend["rows"], spend["totals"]["spend_usd"], spend["totals"]["requests"]) == ([], "0", 0)


@pytest.mark.parametrize(
    "body", [{}, {"reason": ""}, {"reason": "x" * 501}, {"reason": "x", "amount": 1}, {"reason": 5}]
)
async def test_a_reversal_without_a_fit_reason_is_refused(
    client: httpx.AsyncClient, headers_of: HeadersOf, pools: Pools, tenant_id: str, body: dict[str, Any]
):
    charge = a_charge(tenant_id)
    await record(pools.postgres, [charge])
    headers = await headers_of(roles=("read", "admin"))
    response = await client.post(f"/v1/charges/{charge['charge_id']}/reverse", json=body, headers=headers)
    assert response.status_code == 400
    assert (await client.get(f"/v1/charges/{charge['charge_id']}", headers=headers)).json()["corrections"] == []


async def test_reversing_needs_the_role_admin(client: httpx.AsyncClient, headers_of: HeadersOf):
    response = await client.post(f"/v1/charges/{new_id()}/reverse", json={"reason": "x"}, headers=await headers_of())
    assert response.status_code == 403


def _line() -> dict[str, str]:
    return {"name": "text_input", "quantity": "100", "unit": "token", "rate": "0.000012", "amount_usd": "0.0012"}
