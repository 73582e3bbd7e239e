from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import httpx
import pytest

from service.db.pools import Pools
from service.kit.ids import new_id
from tests.api.spend.reading_app import Read
from tests.integration.spend.charge_rows import a_charge, record

HeadersOf = Callable[..., Awaitable[dict[str, str]]]

_SPAN = {"from": "2026-11-03T00:00:00Z", "to": "2026-11-04T00:00:00Z"}


async def _report(read: Read, **parameters: Any) -> dict[str, Any]:
    response = await read("/v1/spend", **{**_SPAN, **parameters})
    assert response.status_code == 200, response.text
    report: dict[str, Any] = response.json()
    return report


async def test_a_report_has_rows_totals_and_its_basis(read: Read, pools: Pools, tenant_id: str):
    charges = [
        a_charge(tenant_id, team="core", served_model="gpt-5.4", price_state="priced"),
        a_charge(tenant_id, team="core", served_model="gpt-5.4", failed_requests=1, status="failure"),
        a_charge(tenant_id, team=None, served_model=None, price_state="unpriced", unpriced_requests=1),
    ]
    await record(pools.postgres, charges)
    report = await _report(read, group_by="team,served_model")
    core = {
        "team": "core",
        "served_model": "gpt-5.4",
        "spend_usd": "0.003",
        "model_cost_usd": "0.0024",
        "fees_usd": "0.0006",
        "list_cost_usd": "0.003",
        "requests": 2,
        "failed_requests": 1,
        "unpriced_requests": 0,
        "input_tokens": 200,
        "output_tokens": 40,
        "cache_read_input_tokens": 0,
        "cache_write_input_tokens": 0,
        "reasoning_output_tokens": 0,
    }
    assert report["rows"][0] == core
    assert (report["rows"][1]["team"], report["rows"][1]["served_model"]) == (None, None)
    assert report["totals"]["spend_usd"] == "0.0045"
    assert report["totals"]["unpriced_requests"] == 1
    assert report["next_cursor"] is None
    basis = report["basis"]
    newest = max(charge["recorded_at"] for charge in charges)
    assert datetime.fromisoformat(basis.pop("complete_through")) == newest
    assert basis == {
        "time": "effective_at",
        "timezone": "UTC",
        "currency": "USD",
        "from": "2026-11-03T00:00:00Z",
        "to": "2026-11-04T00:00:00Z",
        "overlapping": [],
    }


async def test_no_charges_are_no_rows_and_totals_of_zero(read: Read):
    report = await _report(read, group_by="team", granularity="day")
    assert report["rows"] == []
    assert (report["totals"]["spend_usd"], report["totals"]["requests"]) == ("0", 0)
    assert report["basis"]["complete_through"] is None


async def test_buckets_are_local_times_with_their_offset(read: Read, pools: Pools, tenant_id: str):
    midnight_in_kathmandu = datetime.fromisoformat("2026-11-03T00:00:00+05:45")
    await record(
        pools.postgres,
        [
            a_charge(tenant_id, effective_at=midnight_in_kathmandu - timedelta(microseconds=1)),
            a_charge(tenant_id, effective_at=midnight_in_kathmandu),
        ],
    )
    span = {"from": "2026-11-02", "to": "2026-11-04", "timezone": "Asia/Kathmandu"}
    rows = (await _report(read, granularity="day", **span))["rows"]
    assert [(row["bucket"], row["requests"]) for row in rows] == [
        ("2026-11-02T00:00:00+05:45", 1),
        ("2026-11-03T00:00:00+05:45", 1),
    ]


async def test_the_long_day_of_autumn_has_25_hours(read: Read, pools: Pools, tenant_id: str):
    start = datetime.fromisoformat("2026-10-25T00:00:00+02:00")
    await record(
        pools.postgres,
        [a_charge(tenant_id, effective_at=start + timedelta(minutes=30 * number)) for number in range(52)],
    )
    span = {"from": "2026-10-25", "to": "2026-10-26", "timezone": "Europe/Berlin"}
    [day] = (await _report(read, granularity="day", **span))["rows"]
    assert (day["bucket"], day["requests"]) == ("2026-10-25T00:00:00+02:00", 50)
    hours = (await _report(read, granularity="hour", **span))["rows"]
    assert [row["requests"] for row in hours] == [2] * 25
    assert [row["bucket"] for row in hours[2:4]] == ["2026-10-25T02:00:00+02:00", "2026-10-25T02:00:00+01:00"]


async def test_tags_overlap_and_say_so_while_totals_count_once(read: Read, pools: Pools, tenant_id: str):
    tags = [["blue", "red"], ["blue"], []]
    await record(
        pools.postgres, [a_charge(tenant_id, tags=of_one, automatic_tags=["User-Agent: x"]) for of_one in tags]
    )
    report = await _report(read, group_by="tag")
    assert [(row["tag"], row["requests"]) for row in report["rows"]] == [("blue", 2), ("red", 1)]
    assert report["totals"]["requests"] == 3
    assert report["basis"]["overlapping"] == ["tag"]
    assert [row["tag"] for row in (await _report(read, group_by="tag", tag=["red", ""]))["rows"]] == [None, "red"]


async def test_pages_hold_every_row_once(read: Read, pools: Pools, tenant_id: str):
    await record(pools.postgres, [a_charge(tenant_id, team=f"team-{number:02}") for number in range(7)])
    seen: list[str] = []
    cursor: dict[str, str] = {}
    for _ in range(4):
        report = await _report(read, group_by="team", sort="team", limit=2, **cursor)
        seen += [row["team"] for row in report["rows"]]
        assert report["totals"]["requests"] == 7
        cursor = {"cursor": report["next_cursor"]}
    assert seen == [f"team-{number:02}" for number in range(7)]
    assert cursor == {"cursor": None}


async def test_what_was_just_recorded_is_in_the_default_range(read: Read, pools: Pools, tenant_id: str):
    charge = a_charge(tenant_id)
    charge["effective_at"] = charge["recorded_at"]
    await record(pools.postgres, [charge])
    response = await read("/v1/spend")
    assert response.json()["totals"]["requests"] == 1


async def test_tenants_and_scopes_are_walls(
    client: httpx.AsyncClient, headers_of: HeadersOf, pools: Pools, tenant_id: str
):
    stranger = f"t-{new_id().hex}"
    await record(
        pools.postgres,
        [
            a_charge(tenant_id, team="core", user="u1", end_user="e1", tags=["blue"]),
            a_charge(tenant_id, team="web", user="u2", end_user="e2", tags=["blue"]),
            a_charge(stranger, team="core", user="u9", end_user="e9", tags=["blue"]),
        ],
    )
    of_core, of_stranger = await headers_of(scope={"team": ["core"]}), await headers_of(stranger)
    for group_by, core, strange in (("user", "u1", "u9"), ("end_user", "e1", "e9"), ("tag", "blue", "blue")):
        for headers, value in ((of_core, core), (of_stranger, strange)):
            for narrowed in ({}, {"team": ["core", "web"]}):
                response = await client.get(
                    "/v1/spend", params={**_SPAN, "group_by": group_by, **narrowed}, headers=headers
                )
                report = response.json()
                assert [row[group_by] for row in report["rows"]] == [value]
                assert report["totals"]["requests"] == 1


@pytest.mark.parametrize(
    ("parameters", "code", "field"),
    [
        ({"format": "csv"}, "format_not_supported", "format"),
        ({"group_by": "colour"}, "unknown_value", "group_by"),
        ({"granularity": "minute"}, "unknown_value", "granularity"),
        ({"timezone": "Nowhere"}, "unknown_timezone", "timezone"),
        ({"order": "team"}, "unknown_parameter", "order"),
        ({"granularity": "hour", "from": "2000-01-01T00:00:00Z"}, "too_many_buckets", "granularity"),
        ({"cursor": "W10"}, "invalid_cursor", "cursor"),
    ],
)
async def test_what_cannot_be_answered_is_a_problem_document(
    read: Read, parameters: dict[str, str], code: str, field: str
):
    response = await read("/v1/spend", **{**_SPAN, **parameters})
    assert response.status_code == 422
    assert response.headers["content-type"] == "application/problem+json"
    assert (response.json()["code"], response.json()["field"]) == (code, field)


async def test_sums_of_tiny_amounts_lose_no_digit(read: Read, pools: Pools, tenant_id: str):
    tiny = Decimal("0.000000000000000000000000000000000000001")
    await record(pools.postgres, [a_charge(tenant_id, model_cost_usd=tiny, fees_usd=Decimal(0)), a_charge(tenant_id)])
    assert (await _report(read))["totals"]["spend_usd"] == "0.001500000000000000000000000000000000001"


async def test_the_interface_describes_its_parameters(client: httpx.AsyncClient):
    schema = client._transport.app.openapi_schema.to_schema()  # type: ignore[attr-defined]
    for path, names in (
        (
            "/v1/spend",
            {"group_by", "granularity", "timezone", "sort", "from", "to", "tag", "limit", "cursor", "format"},
        ),
        ("/v1/charges", {"team", "served_model", "tag", "from", "to", "limit", "cursor"}),
        ("/spend/logs", {"request_id", "api_key", "user_id", "start_date", "end_date", "summarize"}),
    ):
        assert names <= {parameter["name"] for parameter in schema["paths"][path]["get"]["parameters"]}
    assert schema["components"]["schemas"]["SpendLog"]["properties"]["spend"]["type"] == "number"
