"""Whoever declares an alias, a price or a price book is told what had none and could be repriced by it."""

import json
from typing import Any

import pytest

from tests.api.checks.world import World

HOUSE = {"model": "house-model", "model_group": "house-model", "custom_llm_provider": "hosted_vllm"}


async def record(world: World, count: int, **fields: Any) -> None:
    for _ in range(count):
        recorded = await world.post_event(**(HOUSE | fields))
        assert recorded["price_state"] in {"unpriced", "reported"}


async def test_an_alias_is_answered_with_the_charges_it_gives_a_price(world: World):
    await record(world, 2)
    await record(world, 1, model="other", model_group="other")
    alias = await world.call(
        "POST", "/v1/aliases", json={"alias": "hosted_vllm/house-model", "model": "gpt-4.1-mini"}, expect=201
    )
    (offer,) = alias["repricing_offers"]
    assert offer["requests"] == 2
    assert offer["repricing"]["filter"]["served_model"] == ["hosted_vllm/house-model"]
    preview = await world.call("POST", "/v1/repricings", json=offer["repricing"])
    assert (preview["progress"]["examined"], preview["progress"]["changed"]) == (2, 2)
    listed = await world.call("GET", "/v1/aliases")
    assert "repricing_offers" not in listed["aliases"][0]


async def test_what_the_gateway_priced_for_us_is_offered_too(world: World):
    await record(world, 1, response_cost=0.5)
    alias = {"alias": "hosted_vllm/house-model", "model": "gpt-4.1-mini"}
    answer = await world.call("POST", "/v1/aliases", json=alias, expect=201)
    assert [offer["repricing"]["filter"]["price_state"] for offer in answer["repricing_offers"]] == [["reported"]]


async def test_an_override_is_answered_with_the_charges_it_gives_a_price(world: World):
    await record(world, 1)
    rates = {"input_cost_per_token": {"usd": "0.000001"}, "output_cost_per_token": {"usd": "0.000002"}}
    override = {"name": "house", "match": {"model": "house-model"}, "rates": rates}
    later = await world.call(
        "POST",
        "/v1/price-overrides",
        json=override | {"name": "later", "effective_from": "2190-01-01T00:00:00Z"},
        expect=201,
    )
    assert later["repricing_offers"] == []
    now = await world.call(
        "POST", "/v1/price-overrides", json=override | {"effective_from": "2020-01-01T00:00:00Z"}, expect=201
    )
    assert [offer["requests"] for offer in now["repricing_offers"]] == [1]


async def test_a_price_book_is_answered_with_the_charges_it_gives_a_price(world: World):
    await record(world, 3)
    book = {"hosted_vllm/house-model": {"litellm_provider": "hosted_vllm", "input_cost_per_token": 1e-6,
                                   "output_cost_per_token": 2e-6, "mode": "chat"}}  # fmt: skip
    url = "/v1/price-books?effective_from=2020-01-01T00:00:00Z"
    compared = await world.client.post(f"{url}&dry_run=true", headers=world.headers, content=json.dumps(book))
    version = compared.json()["version"]
    assert compared.json()["repricing_offers"] == []
    imported = await world.call("POST", f"{url}&accept={version}", content=json.dumps(book), expect=201)
    assert [offer["requests"] for offer in imported["repricing_offers"]] == [3]


@pytest.mark.parametrize("team", ["core", None])
async def test_nothing_is_offered_where_nothing_lacked_a_price(world: World, team: str | None):
    await world.post_event(metadata={"user_api_key_team_id": team})
    alias = {"alias": "hosted_vllm/house-model", "model": "gpt-4.1-mini"}
    assert (await world.call("POST", "/v1/aliases", json=alias, expect=201))["repricing_offers"] == []
