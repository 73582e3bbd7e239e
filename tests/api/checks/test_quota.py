"""`GET /v1/quota`: a key asks about itself."""

import asyncio
from hashlib import sha256
from typing import Any

import httpx
import pytest

from service.kit.ids import new_id
from tests.api.checks.world import World


@pytest.fixture
def key() -> str:
    """A key of this test's own: asking often is slowed down per key."""
    return f"sk-{new_id().hex}"


async def ask(
    world: World, key: str, *, name: str = "authorization", query: str = "", **options: Any
) -> httpx.Response:
    return await world.client.get(f"/v1/quota{query}", headers={name: f"Bearer {key}"}, **options)


def digest(key: str) -> str:
    return sha256(key.encode()).hexdigest()


async def register(world: World, key: str, **facts: Any) -> None:
    await world.call("PUT", f"/v1/keys/{digest(key)}", json=facts)


async def test_a_key_sees_what_is_left_of_its_own_budgets_and_only_the_names_of_others(world: World, key: str):
    await world.put_budget("own", match={"api_key": "*"}, limit_usd="1", period="1d")
    await world.put_budget("team-budget", match={"team": "core"}, limit_usd="50")
    await world.put_budget("theirs", match={"team": "other"}, limit_usd="50")
    await world.put_budget("tried-out", match={"api_key": "*"}, limit_usd="1", mode="shadow")
    await register(world, key, team="core", alias="ci")
    await world.post_event(cost="0.25", metadata={"user_api_key_hash": digest(key)})
    answer = await ask(world, key)
    assert answer.status_code == 200
    told = answer.json()
    assert (told["api_key"], told["alias"], told["degraded"]) == (digest(key), "ci", False)
    budgets = {budget["name"]: budget for budget in told["budgets"]}
    assert budgets.keys() == {"own", "team-budget"}
    own = budgets["own"]
    assert (own["is_own"], own["limit_usd"], own["posted_usd"], own["available_usd"]) == (True, "1", "0.25", "0.75")
    assert own["resets_at"] == own["window"]["end"]
    assert budgets["team-budget"].keys() == {"name", "is_own", "resets_at", "window"}
    assert key not in answer.text


async def test_the_tenant_chooses_what_is_told_of_others(world: World, key: str):
    await world.put_budget("own", match={"api_key": "*"}, limit_usd="1")
    await world.put_budget("all", limit_usd="5")
    await register(world, key)
    await world.call("PATCH", "/v1/settings", json={"deny_detail": "none"})
    assert [budget["name"] for budget in (await ask(world, key)).json()["budgets"]] == ["own"]
    await world.call("PATCH", "/v1/settings", json={"deny_detail": "full"})
    assert {budget["limit_usd"] for budget in (await ask(world, key)).json()["budgets"]} == {"1", "5"}


async def test_a_model_shows_its_budgets_too(world: World, key: str):
    await world.put_budget("opus", match={"api_key": "*", "requested_model": "claude-opus-4-6"}, limit_usd="1")
    await register(world, key)
    assert (await ask(world, key)).json()["budgets"] == []
    (budget,) = (await ask(world, key, query="?model=vertex_ai/claude-opus-4-6")).json()["budgets"]
    assert budget["name"] == "opus"


async def test_asking_holds_nothing_and_shows_what_is_held(world: World, key: str):
    await world.put_budget("own", match={"api_key": "*"}, limit_usd="1")
    await register(world, key)
    await world.check(reserve=True, estimated_cost_usd="0.4", dimensions={"api_key": digest(key)})
    for _ in range(2):
        (budget,) = (await ask(world, key)).json()["budgets"]
        assert (budget["held_usd"], budget["available_usd"]) == ("0.4", "0.6")


@pytest.mark.parametrize("name", ["authorization", "x-api-key", "api-key", "x-litellm-api-key", "x-goog-api-key"])
async def test_the_key_may_come_in_any_header_of_keys(world: World, key: str, name: str):
    await register(world, key)
    assert (await ask(world, key, name=name)).status_code == 200


async def test_without_a_key_of_the_registry_nothing_is_told(world: World, key: str):
    token = world.headers["authorization"].removeprefix("Bearer ")
    for headers in (
        {},
        {"authorization": "Basic eDp5"},
        {"authorization": f"Bearer {key}"},
        {"authorization": f"Bearer {token}"},
        {"authorization": f"Bearer {digest(key)}"},
        {"authorization": f"Bearer {key}", "x-api-key": "sk-another"},
    ):
        answer = await world.client.get("/v1/quota", headers=headers)
        assert answer.status_code == 401, headers
        assert answer.headers["content-type"].startswith("application/problem+json")
    await register(world, key)
    assert (await world.client.get("/v1/quota", headers={"authorization": f"Bearer {digest(key)}"})).status_code == 401


async def test_a_blocked_key_is_forbidden(world: World, key: str):
    await register(world, key, blocked=True)
    answer = await ask(world, key)
    assert (answer.status_code, answer.json()["code"]) == (403, "key_blocked")


async def test_a_key_two_tenants_know_says_which_it_means(world: World, other_world: World, key: str):
    await world.put_budget("ours", match={"api_key": "*"}, limit_usd="1")
    await other_world.put_budget("theirs", match={"api_key": "*"}, limit_usd="2")
    await register(world, key)
    await register(other_world, key)
    answer = await ask(world, key)
    assert (answer.status_code, answer.json()["code"]) == (409, "ambiguous_key")
    assert world.tenant_id not in answer.text
    for asked, name in ((world, "ours"), (other_world, "theirs")):
        told = (await ask(asked, key, query=f"?tenant={asked.tenant_id}")).json()
        assert [budget["name"] for budget in told["budgets"]] == [name]
    assert (await ask(world, key, query="?tenant=nobody")).status_code == 401


@pytest.mark.parametrize("name", ["%00", "a%00b", "%ED%A0%80", "A", "a.b", "a%0A"])
async def test_a_name_no_tenant_can_have_is_nobodys(world: World, key: str, name: str):
    await register(world, key)
    assert (await ask(world, key, query=f"?tenant={name}")).status_code == 401
    assert (await ask(world, key, query="?model=%00")).status_code == 200


async def test_asking_too_often_is_slowed_down_and_nobody_else_is(world: World, key: str):
    await register(world, key)
    answers = await asyncio.gather(*[ask(world, key) for _ in range(60)])
    statuses = [answer.status_code for answer in answers]
    assert statuses.count(200) >= 10
    assert statuses.count(429) == 60 - statuses.count(200) > 0
    other = f"sk-{new_id().hex}"
    await register(world, other)
    assert (await ask(world, other)).status_code == 200


async def test_guessing_is_slowed_down_and_stops_no_key_that_is_known(world: World, key: str):
    await register(world, key)
    guesser = httpx.ASGITransport(app=world.client._transport.app, client=("203.0.113.9", 5))  # type: ignore[attr-defined]
    async with httpx.AsyncClient(transport=guesser, base_url="http://test") as client:

        async def guess(guessed: str) -> httpx.Response:
            return await client.get("/v1/quota", headers={"x-api-key": guessed})

        assert (await guess(key)).status_code == 200
        answers = await asyncio.gather(*[guess(f"sk-guess-{number}") for number in range(150)])
        assert (await guess(key)).status_code == 200
    statuses = [answer.status_code for answer in answers]
    assert statuses.count(401) >= 40
    assert statuses.count(429) == 150 - statuses.count(401) > 0
    assert {answer.headers["retry-after"] for answer in answers if answer.status_code == 429} == {"1"}
