"""`GET /v1/unpriced` over HTTP: names without a price, why, and what would give them one."""

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY

from service.kit.ids import new_id
from tests.api.checks.world import World
from tests.integration.spend.charge_rows import a_charge, a_reversal, record

DATA = Path(__file__).parents[2] / "data"
SPAN = {"from": "2026-11-03T00:00:00Z", "to": "2026-11-04T00:00:00Z"}
# The captured events tell their own times.
EVER = {"from": "2020-01-01", "to": "2199-01-01"}


async def report(world: World, **parameters: Any) -> Any:
    return await world.call("GET", "/v1/unpriced", params={**SPAN, **parameters})


async def record_rows(world: World, *charges: dict[str, Any]) -> None:
    await record(world.services.pools.postgres, charges)


def unpriced(world: World, **given: Any) -> dict[str, Any]:
    """A charge without a price: nothing in reports, an assumed amount in budgets."""
    defaults = {
        "price_state": "unpriced",
        "price_reason": "no_price",
        "unpriced_requests": 1,
        "requested_model": "house",
        "served_model": "hosted_vllm/house",
        "provider": "hosted_vllm",
        "model_cost_usd": Decimal(0),
        "fees_usd": Decimal(0),
        "assumed_usd": Decimal("0.001"),
        "enforced_usd": Decimal("0.001"),
    }
    return a_charge(world.tenant_id, **(defaults | given))


async def test_a_captured_event_of_an_unknown_model_is_listed_until_an_alias_makes_it_priceable(world: World):
    await world.call("POST", "/v1/events", content=(DATA / "vllm_unmapped.json").read_bytes())
    (row,) = (await report(world, **EVER))["rows"]
    assert (row["price_state"], row["fees_price_state"], row["reasons"]) == ("unpriced", "free", {"no_price": 1})
    assert (row["requests"], row["cost_usd"], row["priced_now"], row["repricing"]) == (1, "0", False, None)
    assert Decimal(row["assumed_usd"]) > 0
    assert row["input_tokens"] > 0
    assert row["first_seen"] == row["last_seen"]
    alias = {"alias": row["served_model"], "model": "gpt-4.1-mini"}
    await world.call("POST", "/v1/aliases", json=alias, expect=201)
    (known,) = (await report(world, **EVER))["rows"]
    assert known["priced_now"] is True
    offered = known["repricing"]
    assert (offered["from"], offered["to"]) == ("2020-01-01T00:00:00Z", "2199-01-01T00:00:00Z")
    assert offered["filter"]["served_model"] == [row["served_model"]]
    assert offered["filter"]["price_state"] == ["unpriced"]
    found = await world.call("GET", "/v1/charges", params=EVER | offered["filter"])
    assert [charge["charge_id"] for charge in found["charges"]] == [row["sample_charge_id"]]


async def test_groups_are_counted_with_their_reasons_most_requests_first(world: World):
    noon = datetime(2026, 11, 3, 12, tzinfo=UTC)
    await record_rows(
        world,
        unpriced(world, effective_at=noon, price_reason="no_price"),
        unpriced(world, effective_at=noon + timedelta(hours=2), price_reason="no_rate:reasoning"),
        unpriced(world, effective_at=noon + timedelta(hours=1), price_reason="no_price"),
        unpriced(world, served_model="hosted_vllm/rare", input_tokens=7, output_tokens=3),
        a_charge(world.tenant_id, served_model="hosted_vllm/house"),
    )
    answer = await report(world)
    common, rare = answer["rows"]
    assert (common["requests"], common["reasons"]) == (3, {"no_price": 2, "no_rate:reasoning": 1})
    assert (common["first_seen"], common["last_seen"]) == ("2026-11-03T12:00:00Z", "2026-11-03T14:00:00Z")
    assert common["assumed_usd"] == "0.003"
    assert (rare["served_model"], rare["input_tokens"], rare["output_tokens"]) == ("hosted_vllm/rare", 7, 3)
    assert answer["totals"] == {
        "requests": 4, "input_tokens": 307, "output_tokens": 63, "cost_usd": "0", "fees_usd": "0",
        "assumed_usd": "0.004",
    }  # fmt: skip


async def test_a_priced_fee_beside_an_unpriced_model_is_a_finding_of_its_own(world: World):
    await record_rows(world, unpriced(world), unpriced(world, fees_usd=Decimal("0.14"), fees_price_state="priced"))
    rows = {row["fees_price_state"]: row for row in (await report(world))["rows"]}
    assert rows.keys() == {"free", "priced"}
    assert (rows["priced"]["price_state"], rows["priced"]["cost_usd"], rows["priced"]["fees_usd"]) == (
        "unpriced", "0.14", "0.14"
    )  # fmt: skip


async def test_what_the_gateway_priced_for_us_is_listed_only_on_request(world: World):
    await record_rows(
        world, unpriced(world), unpriced(world, price_state="reported", model_cost_usd=Decimal("0.5"), assumed_usd=0)
    )
    states = {"unpriced": ["unpriced"], "reported": ["reported"], "unpriced,reported": ["reported", "unpriced"]}
    for asked, listed in states.items():
        assert sorted(row["price_state"] for row in (await report(world, state=asked))["rows"]) == listed
    repeated = await report(world, state=["reported", "unpriced"])
    assert len(repeated["rows"]) == 2


async def test_what_was_cancelled_is_no_longer_missing_a_price(world: World):
    first, second, only = unpriced(world), unpriced(world), unpriced(world, served_model="gone")
    cancelled = [a_reversal(charge, assumed_usd=Decimal("-0.001")) for charge in (first, only)]
    await record_rows(world, first, second, only, *cancelled)
    (row,) = (await report(world))["rows"]
    assert (row["requests"], row["sample_charge_id"], row["assumed_usd"]) == (1, second["charge_id"], "0.001")


async def test_an_offer_asks_for_what_the_reader_asked_for_and_nothing_else(world: World):
    event = json.loads((DATA / "vllm_unmapped.json").read_bytes())[0]
    for team in ("core", "web"):
        metadata = event["metadata"] | {"user_api_key_team_id": team}
        await world.call("POST", "/v1/events", json=event | {"id": team, "litellm_call_id": team, "metadata": metadata})
    (row,) = (await report(world, **EVER))["rows"]
    assert row["requests"] == 2
    alias = {"alias": row["served_model"], "model": "gpt-4.1-mini"}
    await world.call("POST", "/v1/aliases", json=alias, expect=201)
    (of_core,) = (await report(world, **EVER, team="!web"))["rows"]
    assert of_core["requests"] == 1
    assert of_core["repricing"]["filter"]["team"] == ["!web"]
    found = await world.call("GET", "/v1/charges", params=EVER | of_core["repricing"]["filter"])
    assert [charge["team"] for charge in found["charges"]] == ["core"]


async def test_pages_hold_every_group_once(world: World):
    await record_rows(
        world,
        *(unpriced(world, served_model=f"m{number}") for number in range(5)),
        unpriced(world, served_model="m3"),
    )
    seen: list[str] = []
    cursor: dict[str, str] = {}
    while cursor != {"cursor": None}:
        answer = await report(world, limit=2, **cursor)
        seen += [row["served_model"] for row in answer["rows"]]
        assert answer["totals"]["requests"] == 6
        cursor = {"cursor": answer["next_cursor"]}
    assert seen[0] == "m3"
    assert sorted(seen) == [f"m{number}" for number in range(5)]


async def test_tenants_and_scopes_are_walls(world: World):
    stranger = f"t-{new_id().hex}"
    await record_rows(
        world,
        unpriced(world, team="core", served_model="a"),
        unpriced(world, team="web", served_model="b"),
        unpriced(world, team="core", served_model="c") | {"tenant_id": stranger},
    )
    of_core = await world.make_token(roles=("read",), scope={"team": ["core"]})
    for narrowed in ({}, {"team": "web"}):
        answer = await world.call("GET", "/v1/unpriced", params=SPAN | narrowed, headers=of_core)
        assert [row["served_model"] for row in answer["rows"]] == ([] if narrowed else ["a"])
        assert answer["totals"]["requests"] == (0 if narrowed else 1)


async def test_only_readers_may_ask(world: World):
    for role in ("ingest", "check"):
        token = await world.make_token(roles=(role,))
        for path in ("/v1/unpriced", "/v1/reports/divergence"):
            await world.call("GET", path, headers=token, expect=403)


@pytest.mark.parametrize(
    ("parameters", "code", "field"),
    [
        ({"state": "priced"}, "unknown_value", "state"),
        ({"state": ""}, "unknown_value", "state"),
        ({"kind": "usage"}, "unknown_parameter", "kind"),
        ({"price_state": "free"}, "unknown_parameter", "price_state"),
        ({"limit": "0"}, "invalid_limit", "limit"),
        ({"cursor": "W10"}, "invalid_cursor", "cursor"),
        ({"cursor": "WyJhIiwiYiIsImMiLCJkIiwiZSJd"}, "invalid_cursor", "cursor"),
        ({"from": "tomorrow"}, "invalid_time", "from"),
        ({"from": "2026-11-05"}, "invalid_range", "from"),
    ],
)
async def test_what_cannot_be_answered_is_a_problem_document(
    world: World, parameters: dict[str, str], code: str, field: str
):
    problem = await world.call("GET", "/v1/unpriced", params={**SPAN, **parameters}, expect=422)
    assert (problem["code"], problem["field"]) == (code, field)


async def test_a_cursor_belongs_to_its_question(world: World):
    await record_rows(world, unpriced(world, served_model="a"), unpriced(world, served_model="b"))
    cursor = (await report(world, limit=1))["next_cursor"]
    for other in ({"state": "reported"}, {"team": "core"}, {"from": "2026-11-02"}):
        parameters = SPAN | {"limit": 1, "cursor": cursor} | other
        problem = await world.call("GET", "/v1/unpriced", params=parameters, expect=422)
        assert problem["code"] == "invalid_cursor"


async def test_texts_that_are_no_names_find_nothing_and_break_nothing(world: World):
    for text in ("'; DROP TABLE charge; --", "%", "\x00", "!\x00", "x" * 5000, "\ud83d\ude00"):
        answer = await report(world, served_model=text.encode("utf-8", "replace").decode())
        assert answer["rows"] == []


async def test_requests_without_a_price_are_counted_by_reason(world: World):
    def counted() -> float:
        labels = {"price_state": "unpriced", "fees_price_state": "free", "reason": "no_price"}
        return REGISTRY.get_sample_value("tallygate_requests_without_price_total", labels) or 0.0

    body, before = (DATA / "vllm_unmapped.json").read_bytes(), counted()
    await world.call("POST", "/v1/events", content=body)
    assert counted() == before + 1
    await world.call("POST", "/v1/events", content=body)
    assert counted() == before + 1, "a repetition is no request"
