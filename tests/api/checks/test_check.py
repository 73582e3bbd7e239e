"""`POST /v1/check` over HTTP, with the whole application behind it."""

import asyncio
from decimal import Decimal
from typing import Any

import pytest

from service.kit.ids import new_id
from tests.api.checks.world import MODEL, World


async def test_the_answer_explains_itself(world: World):
    budget = await world.put_budget("core-each-user", match={"team": "core", "user": "*"}, limit_usd="1.00")
    answer = await world.check(
        request_id="r1", reserve=True, ttl_seconds=60, dimensions={"team": "core", "user": "u1", "tags": ["a"]}
    )
    assert answer["allowed"] is True
    assert answer["code"] is None
    assert answer["degraded"] is False
    assert answer["unresolved"] == []
    assert answer["denied_by"] == []
    assert answer["routes"] == []
    assert answer["dimensions"]["team"] == {"value": "core", "provenance": "carried"}
    assert answer["dimensions"]["tag"] == {"value": ["a"], "provenance": "carried"}
    assert answer["dimensions"]["requested_model"]["value"] == MODEL
    assert answer["estimate"]["price_state"] == "priced"
    amount = Decimal(answer["estimate"]["amount_usd"])
    assert amount == sum(Decimal(line["amount_usd"]) for line in answer["estimate"]["components"])
    assert answer["reservation"]["id"] == "r1"
    assert Decimal(answer["reservation"]["amount_usd"]) == amount
    (standing,) = answer["budgets"]
    assert standing["budget_id"] == budget["budget_id"]
    assert standing["match"] == {"team": "core", "user": "*"}
    assert standing["subject"] == {"user": "u1"}
    assert (standing["mode"], standing["state"], standing["denies"], standing["reason"]) == (
        "enforce", "current", False, None
    )  # fmt: skip
    assert (standing["limit_usd"], standing["posted_usd"]) == ("1", "0")
    assert Decimal(standing["held_usd"]) == amount
    assert Decimal(standing["available_usd"]) == 1 - amount
    assert standing["window"]["end"] is None
    assert answer["max_affordable_output_tokens"] > 100


async def test_what_can_be_afforded_is_counted_before_the_own_hold(world: World):
    await world.put_budget(limit_usd="0.001")
    without = await world.check()
    held = await world.check(reserve=True)
    assert held["max_affordable_output_tokens"] == without["max_affordable_output_tokens"]
    again = await world.check(max_output_tokens=without["max_affordable_output_tokens"], input_tokens=1000)
    assert again["allowed"] is False
    assert again["max_affordable_output_tokens"] < without["max_affordable_output_tokens"]


async def test_events_spend_a_budget_and_then_checks_are_denied(world: World):
    budget = await world.put_budget(match={"team": "core"}, limit_usd="0.01")
    dimensions = {"team": "core"}
    assert (await world.check(dimensions=dimensions))["allowed"] is True
    await world.post_event(cost="0.02", metadata={"user_api_key_team_id": "core"})
    answer = await world.check(dimensions=dimensions)
    assert answer["allowed"] is False
    assert answer["code"] == "budget_exceeded"
    assert answer["denied_by"] == [budget["budget_id"]]
    assert answer["reservation"] is None
    assert answer["budgets"][0]["posted_usd"] == "0.02"
    assert answer["max_affordable_output_tokens"] == 0
    assert (await world.check(dimensions={"team": "other"}))["allowed"] is True


async def test_an_event_settles_the_hold_of_its_check(world: World):
    await world.put_budget(limit_usd="1")
    call_id = str(new_id())
    await world.check(request_id=call_id, reserve=True, estimated_cost_usd="0.5")
    assert (await world.check())["budgets"][0]["held_usd"] == "0.5"
    await world.post_event(litellm_call_id=call_id)
    standing = (await world.check())["budgets"][0]
    assert standing["held_usd"] == "0"
    assert Decimal(standing["posted_usd"]) > 0
    assert (await world.call("GET", f"/v1/reservations/{call_id}"))["state"] == "settled"


async def test_a_fallback_keeps_the_requested_model_of_the_check(world: World):
    await world.put_budget(match={"requested_model": "smart"}, limit_usd="0.01")
    call_id = str(new_id())
    await world.check(request_id=call_id, reserve=True, model="smart", estimated_cost_usd="0.001")
    recorded = await world.post_event(litellm_call_id=call_id, cost="0.02", model_group="house-model")
    assert recorded["requested_model"] == "smart"
    assert (await world.check(model="smart", estimated_cost_usd="0.001"))["allowed"] is False


async def test_of_200_concurrent_checks_with_room_for_10_exactly_10_are_allowed(world: World):
    for number in range(4):
        await world.put_budget(f"b{number}", limit_usd="1" if number == 2 else "1000")
    answers = await asyncio.gather(
        *[world.check(request_id=f"r{n}", reserve=True, estimated_cost_usd="0.1") for n in range(200)]
    )
    assert sum(answer["allowed"] for answer in answers) == 10
    assert not any(answer["degraded"] for answer in answers)
    same = await asyncio.gather(
        *[world.check(request_id="r0", reserve=True, estimated_cost_usd="0.1") for _ in range(20)]
    )
    assert len({(answer["allowed"], str(answer["reservation"])) for answer in same}) == 1


async def test_an_id_with_a_live_hold_of_another_request_is_a_conflict(world: World):
    await world.put_budget(limit_usd="100")
    await world.check(request_id="r1", reserve=True)
    changed: list[dict[str, Any]] = [
        {"input_tokens": 1001}, {"max_output_tokens": 101}, {"model": "gpt-4.1"}, {"estimated_cost_usd": "1"},
        {"dimensions": {"team": "x"}},
    ]  # fmt: skip
    for change in changed:
        problem = await world.check(expect=409, request_id="r1", reserve=True, **change)
        assert problem["code"] == "request_id_reused"
    assert (await world.check(request_id="r1", reserve=True))["allowed"] is True


async def test_a_key_alone_is_denied_by_its_teams_budget_once_the_team_is_known(world: World):
    await world.put_budget(match={"team": "core"}, limit_usd="0.01")
    key = "a" * 64
    dimensions = {"api_key": key}
    unknown = await world.check(dimensions=dimensions)
    assert (unknown["allowed"], unknown["unresolved"], unknown["budgets"]) == (True, ["team"], [])
    await world.post_event(cost="0.02", metadata={"user_api_key_hash": key, "user_api_key_team_id": "core"})
    learned = await world.check(dimensions=dimensions)
    assert learned["allowed"] is False
    assert learned["dimensions"]["team"] == {"value": "core", "provenance": "learned"}
    await world.call("PUT", f"/v1/keys/{key}", json={"team": "rich"})
    declared = await world.check(dimensions=dimensions)
    assert declared["allowed"] is True
    assert declared["dimensions"]["team"] == {"value": "rich", "provenance": "declared"}


async def test_a_blocked_key_is_denied(world: World):
    key = "b" * 64
    await world.call("PUT", f"/v1/keys/{key}", json={"blocked": True})
    answer = await world.check(dimensions={"api_key": key})
    assert (answer["allowed"], answer["code"]) == (False, "key_blocked")
    assert (await world.check(expect=403, query="?enforce=true", dimensions={"api_key": key}))["error"]["type"] == (
        "key_blocked"
    )
    await world.call("PATCH", "/v1/settings", json={"enforcement": "shadow"})
    assert (await world.check(dimensions={"api_key": key}))["allowed"] is True


async def test_a_budget_on_a_requested_model_denies_every_spelling_of_it(world: World):
    await world.call("POST", "/v1/aliases", expect=201, json={"alias": "claude", "model": "claude-opus-4-6"})
    await world.put_budget(match={"requested_model": "claude-opus-4-6"}, limit_usd="0")
    for model in ("claude-opus-4-6", "vertex_ai/claude-opus-4-6", "vertex_ai/claude-opus-4-6@default",
                  "CLAUDE-OPUS-4-6", "claude"):  # fmt: skip
        assert (await world.check(model=model))["allowed"] is False, model
    assert (await world.check(model="claude-sonnet-4-5"))["allowed"] is True


async def test_what_is_free_passes_every_limit_above_zero(world: World):
    await world.put_budget("small", limit_usd="0.000001", match={"requested_model": "*"})
    await world.post_event()
    free = "github_copilot/gpt-4.1"
    assert (await world.check(model=MODEL))["allowed"] is False
    answer = await world.check(model=free, estimated_cost_usd="0")
    if answer["estimate"]["price_state"] == "free":
        assert answer["allowed"] is True


async def test_shadow_budgets_and_shadow_tenants_let_through_and_say_so(world: World):
    await world.put_budget("shadow", limit_usd="0", mode="shadow")
    answer = await world.check(reserve=True)
    assert (answer["allowed"], answer["denied_by"]) == (True, [])
    assert (answer["budgets"][0]["denies"], answer["budgets"][0]["reason"]) == (True, "budget_exceeded")
    await world.put_budget("real", limit_usd="0")
    assert (await world.check())["allowed"] is False
    await world.call("PATCH", "/v1/settings", json={"enforcement": "shadow"})
    answer = await world.check()
    assert answer["allowed"] is True
    assert [standing["denies"] for standing in answer["budgets"]] == [True, True]
    await world.call("PATCH", "/v1/settings", json={"enforcement": "off"})
    answer = await world.check(reserve=True, request_id="off")
    assert (answer["allowed"], answer["budgets"], answer["reservation"]["id"]) == (True, [], "off")


async def test_a_budget_created_changed_or_deleted_anywhere_counts_at_the_next_check(world: World):
    assert (await world.check())["allowed"] is True
    await world.put_budget(limit_usd="0")
    assert (await world.check())["allowed"] is False
    await world.put_budget(limit_usd="5")
    assert (await world.check())["allowed"] is True
    await world.call("DELETE", "/v1/budgets/b", expect=204)
    assert (await world.check())["budgets"] == []


async def test_a_model_nobody_has_a_price_for_is_assumed_or_denied_as_the_budget_says(world: World):
    await world.put_budget("assume", limit_usd="100")
    answer = await world.check(model="never-heard-of", reserve=True, request_id="r1")
    assert (answer["allowed"], answer["estimate"]["price_state"]) == (True, "unpriced")
    assert Decimal(answer["reservation"]["amount_usd"]) == Decimal("0.0075")
    await world.put_budget("strict", limit_usd="100", on_unpriced="deny")
    answer = await world.check(model="never-heard-of", reserve=True, request_id="r2")
    assert (answer["allowed"], answer["code"], answer["reservation"]) == (False, "unpriced_model", None)
    assert {standing["name"]: standing["reason"] for standing in answer["budgets"]} == {
        "assume": None, "strict": "unpriced_model"
    }  # fmt: skip
    given = await world.check(model="never-heard-of", estimated_cost_usd="0.01")
    assert (given["allowed"], given["estimate"]["price_state"]) == (True, "reported")


async def test_fallback_models_size_the_hold_by_the_dearest(world: World):
    cheap = await world.check(model="gpt-4.1-mini")
    dear = await world.check(model="gpt-4.1")
    both = await world.check(model="gpt-4.1-mini", fallback_models=["gpt-4.1"])
    assert Decimal(cheap["estimate"]["amount_usd"]) < Decimal(dear["estimate"]["amount_usd"])
    assert both["estimate"]["amount_usd"] == dear["estimate"]["amount_usd"]
    assert both["dimensions"]["requested_model"]["value"] == "gpt-4.1-mini"


async def test_more_budgets_than_can_be_checked_deny(world: World):
    for number in range(65):
        answer = await world.client.put(
            f"/v1/budgets/b{number}",
            headers=world.headers,
            json={"name": "b", "match": {}, "limit_usd": "1", "period": {"kind": "lifetime"}},
        )
        assert answer.status_code == 201
    answer = await world.check()
    assert (answer["allowed"], answer["code"]) == (False, "too_many_budgets")
    await world.call("PATCH", "/v1/settings", json={"enforcement": "shadow"})
    assert (await world.check())["allowed"] is True


async def test_each_tag_has_a_counter_of_its_own_and_a_list_shares_one(world: World):
    await world.put_budget("each", match={"tag": "*"}, limit_usd="1")
    await world.put_budget("list", match={"tag": ["a", "b"]}, limit_usd="1")
    answer = await world.check(dimensions={"tags": ["a", "b", "c", "User-Agent: curl"]})
    subjects = sorted((standing["name"], str(standing["subject"])) for standing in answer["budgets"])
    assert subjects == [("each", "{'tag': 'a'}"), ("each", "{'tag': 'b'}"), ("each", "{'tag': 'c'}"), ("list", "{}")]


async def test_pinned_dimensions_of_the_token_overwrite_what_a_check_says(world: World):
    await world.put_budget(match={"team": "core"}, limit_usd="0")
    pinned = await world.make_token(roles=("check",), pinned={"team": "core"})
    answer = await world.check(headers=pinned, dimensions={"team": "other"})
    assert answer["allowed"] is False
    assert answer["dimensions"]["team"] == {"value": "core", "provenance": "pinned"}


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ({"input_tokens": -1}, 422, "input_tokens"),
        ({"input_tokens": 1.5}, 422, "input_tokens"),
        ({"input_tokens": True}, 422, "input_tokens"),
        ({"input_tokens": 2**63}, 422, "input_tokens"),
        ({"max_output_tokens": "7"}, 422, "max_output_tokens"),
        ({"ttl_seconds": 4}, 422, "ttl_seconds"),
        ({"ttl_seconds": 86_401}, 422, "ttl_seconds"),
        ({"request_id": ""}, 422, "request_id"),
        ({"request_id": "x" * 257}, 422, "request_id"),
        ({"request_id": "a\x00b"}, 422, "request_id"),
        ({"estimated_cost_usd": "-0.01"}, 422, "estimated_cost_usd"),
        ({"estimated_cost_usd": "NaN"}, 422, "estimated_cost_usd"),
        ({"estimated_cost_usd": "Infinity"}, 422, "estimated_cost_usd"),
        ({"estimated_cost_usd": "1e400"}, 422, "estimated_cost_usd"),
        ({"estimated_cost_usd": True}, 422, "estimated_cost_usd"),
        ({"estimated_cost_usd": "1_0"}, 422, "estimated_cost_usd"),
        ({"estimated_cost_usd": " 1"}, 422, "estimated_cost_usd"),
        ({"estimated_cost_usd": "\u0661"}, 422, "estimated_cost_usd"),
        ({"estimated_cost_usd": ["1"]}, 422, "estimated_cost_usd"),
        ({"quantities": {"pages": "1_0"}}, 422, "quantities.pages"),
        ({"dimensions": {"team": 7}}, 422, "dimensions.team"),
        ({"dimensions": {"tags": ["a", None]}}, 422, "dimensions.tags[1]"),
        ({"dimensions": {"teem": "core"}}, 422, "dimensions"),
        ({"modell": "gpt"}, 422, None),
        ({"model": "x" * 5000}, 422, "model"),
        ({"fallback_models": ["a"] * 21}, 422, "fallback_models"),
        ({"reserve": "yes"}, 422, "reserve"),
    ],
)
async def test_bad_input_is_refused_with_the_path_of_the_field(
    world: World, body: dict[str, Any], status: int, field: str | None
):
    problem = await world.check(expect=status, **body)
    assert problem["code"] == "invalid_input"
    assert problem.get("field") == field


@pytest.mark.parametrize(
    ("content", "status"),
    [(b"", 400), (b"{", 400), (b"[]", 422), (b'"x"', 422), (b"\xff\xfe", 400), (b'{"model": "\\ud800"}', 400),
     (b"[" * 100_000, 422), (b'{"estimated_cost_usd": NaN}', 400), (b"x" * 300_000, 413)],
)  # fmt: skip
async def test_what_is_no_check_is_refused(world: World, content: bytes, status: int):
    answer = await world.client.post("/v1/check", headers=world.headers, content=content)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("amount", ["0", "-0", "0.0000000000000000000000001", "1e-7", 0.1, 7, "999999999999"])
async def test_amounts_are_taken_exactly_as_text_or_number(world: World, amount: Any):
    await world.put_budget(limit_usd="1000000")
    answer = await world.check(estimated_cost_usd=amount)
    assert Decimal(answer["estimate"]["amount_usd"]) == Decimal(str(amount))


async def test_text_of_any_kind_can_be_a_dimension(world: World):
    await world.put_budget(match={"user": "*"}, limit_usd="0.01")
    for user in ("{}", "{other}", "a" * 1000, "\u202eevil", "x y", "é", '"quoted"', "\x00nul"):
        answer = await world.check(dimensions={"user": user}, reserve=True, estimated_cost_usd="0.01")
        assert answer["allowed"] is True
        assert (await world.check(dimensions={"user": user}, estimated_cost_usd="0.01"))["allowed"] is False
    assert (await world.check(dimensions={"user": ""}))["budgets"] == []


async def test_only_a_check_token_may_ask(world: World):
    for roles in (("read",), ("ingest",), ("admin",)):
        await world.check(expect=403, headers=await world.make_token(roles=roles))
    await world.check(expect=401, headers={"authorization": "Bearer tg_unknown-token-0123456789"})
    await world.check(expect=401, headers={"x-tallygate-team": "core"})
    assert (await world.check(headers=await world.make_token(roles=("check",))))["allowed"] is True
