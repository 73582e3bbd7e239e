"""`POST /v1/check?enforce=true`: denials as end clients get them."""

import pytest

from tests.api.checks.world import World

KEY = "c" * 64


async def deny(world: World, **body: object):
    document = {"model": "gpt-4.1-mini", "input_tokens": 1000, "max_output_tokens": 100} | body
    return await world.client.post("/v1/check?enforce=true", headers=world.headers, json=document)


async def test_an_allowed_call_is_answered_as_without_it(world: World):
    answer = await deny(world)
    assert answer.status_code == 200
    assert answer.json()["allowed"] is True
    assert (await world.check(expect=422, query="?enforce=perhaps"))["field"] == "enforce"


async def test_a_denial_has_the_shape_clients_key_on(world: World):
    await world.put_budget("own", match={"api_key": "*"}, limit_usd="0.01", period="1d")
    await world.post_event(cost="0.02", metadata={"user_api_key_hash": KEY})
    answer = await deny(world, dimensions={"api_key": KEY})
    assert answer.status_code == 402
    body = answer.json()
    assert body["error"] == {
        "message": "Budget has been exceeded! Current cost: 0.02, Max budget: 0.01",
        "type": "budget_exceeded",
        "param": None,
        "code": "402",
    }
    (standing,) = body["tallygate"]["denied_by"]
    assert standing["posted_usd"] == "0.02"
    assert 1 <= int(answer.headers["retry-after"]) <= 86_400
    assert answer.headers["ratelimit-policy"] == '"budget";q=10000;w=86400'
    assert answer.headers["ratelimit"].startswith('"budget";r=0;t=')


async def test_a_summary_keeps_the_figures_of_other_peoples_budgets(world: World):
    await world.put_budget("team-budget", match={"team": "core"}, limit_usd="0.01", period="monthly")
    await world.post_event(cost="0.02", metadata={"user_api_key_team_id": "core"})
    answer = await deny(world, dimensions={"team": "core"})
    assert answer.json()["error"]["message"] == "Budget has been exceeded!"
    (told,) = answer.json()["tallygate"]["denied_by"]
    assert told.keys() == {"name", "resets_at"}
    assert told["name"] == "team-budget"
    assert "ratelimit" not in answer.headers
    assert "0.02" not in answer.text


@pytest.mark.parametrize(("detail", "members"), [("none", {"code"}), ("full", None)])
async def test_the_tenant_chooses_how_much_is_told(world: World, detail: str, members: set[str] | None):
    await world.call("PATCH", "/v1/settings", json={"deny_detail": detail})
    await world.put_budget(limit_usd="0")
    told = (await deny(world)).json()["tallygate"]
    assert told.keys() == members if members else told["budgets"][0]["limit_usd"] == "0"


@pytest.mark.parametrize("status", [402, 403, 422, 429])
async def test_the_tenant_chooses_the_status(world: World, status: int):
    await world.call("PATCH", "/v1/settings", json={"deny_status": status})
    await world.put_budget(limit_usd="0")
    answer = await deny(world)
    assert answer.status_code == status
    assert answer.json()["error"]["code"] == str(status)
    assert "retry-after" not in answer.headers  # a lifetime never resets


async def test_when_only_holds_are_in_the_way_a_second_is_enough(world: World):
    await world.put_budget(limit_usd="1", period="1d")
    await world.check(reserve=True, estimated_cost_usd="0.9")
    answer = await deny(world, estimated_cost_usd="0.5")
    assert answer.status_code == 429
    assert answer.headers["retry-after"] == "1"
    assert answer.json()["error"]["code"] == "429"
    assert answer.json()["error"]["type"] == "budget_exceeded"
    # What never fits is not worth another try.
    assert (await deny(world, estimated_cost_usd="1.5")).status_code == 402
