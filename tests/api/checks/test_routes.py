"""Calls that may go one of several ways: each is decided, the hold covers those allowed, the answer says which."""

from typing import Any

import pytest

from service.checks.metrics import OVERSHOOT_ABOVE_HOLD, OVERSHOOT_ASTRAY
from service.kit.clock import utc_now
from tests.api.checks.world import World, until, usd
from tests.builders import captured_events

MINI = {"deployment": "openai/gpt-4.1-mini", "served_model": "openai/gpt-4.1-mini", "provider": "openai"}
FULL = {"deployment": "azure/gpt-4.1", "served_model": "azure/gpt-4.1", "provider": "azure"}
SMART = {"model": "smart", "input_tokens": 1_000_000, "max_output_tokens": 0}
# Of a million tokens in.
MINI_USD, FULL_USD = usd("0.4"), usd("2")


async def went(world: World, route: dict[str, str], *, group: str = "smart", **fields: Any) -> Any:
    """Post the event of a call that went a way."""
    return await world.post_event(
        model=route["served_model"],
        model_group=group,
        custom_llm_provider=route["provider"],
        hidden_params={"litellm_model_name": route["deployment"]},
        **fields,
    )


def just_now(name: str) -> list[dict[str, Any]]:
    """Return captured events as if they had happened just now."""
    events = [event for event in captured_events(f"{name}.json") if event is not None]
    moved = utc_now().timestamp() - max(event["endTime"] for event in events)
    return [event | {at: event[at] + moved for at in ("startTime", "endTime")} for event in events]


def shown(answer: Any) -> dict[str, bool]:
    return {route["served_model"]: route["allowed"] for route in answer["routes"]}


def held(answer: Any) -> dict[str, str]:
    return {standing["name"]: standing["held_usd"] for standing in answer["budgets"]}


@pytest.mark.parametrize("dimension", ["deployment", "served_model", "provider"])
async def test_a_call_goes_the_ways_the_ledger_saw_and_budgets_of_each_decide(world: World, dimension: str):
    await went(world, MINI)
    await went(world, FULL)
    denying = await world.put_budget("full", match={dimension: FULL[dimension]}, limit_usd="0")
    answer = await world.check(**SMART)
    assert (answer["allowed"], answer["denied_by"], answer["unresolved"]) == (True, [], [])
    assert shown(answer) == {"openai/gpt-4.1-mini": True, "azure/gpt-4.1": False}
    assert [route["denied_by"] for route in answer["routes"] if not route["allowed"]] == [[denying["budget_id"]]]
    assert usd(answer["estimate"]["amount_usd"]) == MINI_USD
    other = await world.put_budget("mini", match={dimension: MINI[dimension]}, limit_usd="0")
    denied = await world.check(**SMART)
    assert (denied["allowed"], denied["code"]) == (False, "budget_exceeded")
    assert set(denied["denied_by"]) == {denying["budget_id"], other["budget_id"]}
    assert set(shown(denied).values()) == {False}


async def test_behind_a_router_a_budget_of_the_model_it_may_choose_counts(world: World):
    router = {"deployment": "azure_ai/model_router/prod", "provider": "azure_ai"}
    for model in ("azure_ai/gpt-5.4-mini-2026-03-17", "azure_ai/gpt-5.4"):
        await went(world, router | {"served_model": model})
    await world.put_budget("full", match={"served_model": "gpt-5.4"}, limit_usd="0")
    answer = await world.check(**SMART)
    assert shown(answer) == {"azure_ai/gpt-5.4-mini-2026-03-17": True, "azure_ai/gpt-5.4": False}
    assert {route["deployment"] for route in answer["routes"]} == {"azure_ai/model_router/prod"}
    # The fee of the router is part of what the allowed way costs.
    assert usd(answer["estimate"]["amount_usd"]) == usd("0.89")


async def test_without_budgets_that_name_where_calls_go_the_ledger_is_not_asked(world: World):
    await went(world, FULL)
    await world.put_budget(match={"requested_model": "smart"}, limit_usd="100")
    answer = await world.check(**SMART)
    assert (answer["routes"], answer["estimate"]["served_model"]) == ([], "smart")


async def test_one_known_way_is_no_choice_but_the_budgets_on_it_count(world: World):
    await went(world, FULL)
    await world.put_budget(match={"provider": "azure"}, limit_usd="0")
    answer = await world.check(**SMART)
    assert (answer["allowed"], answer["routes"], answer["unresolved"]) == (False, [], [])
    assert answer["dimensions"]["provider"] == {"value": "azure", "provenance": "recent_charges"}


async def test_the_ways_a_gateway_names_are_decided_and_those_of_the_ledger_are_not(world: World):
    await went(world, FULL)
    await world.put_budget("azure", match={"provider": "azure"}, limit_usd="0")
    await world.put_budget("openai", match={"provider": "openai"}, limit_usd="0.5")
    answer = await world.check(**SMART, routes=[MINI, {"provider": "openai", "served_model": "gpt-4.1"}])
    assert shown(answer) == {"openai/gpt-4.1-mini": True, "openai/gpt-4.1": False}
    assert {standing["name"] for standing in answer["budgets"]} == {"openai"}


@pytest.mark.parametrize("routes", [[FULL], [FULL, FULL]])
@pytest.mark.parametrize("limit", ["0", "100"])
async def test_of_one_way_that_the_gateway_names_the_answer_tells_like_of_several(
    world: World, routes: list[Any], limit: str
):
    budget = await world.put_budget("azure", match={"provider": "azure"}, limit_usd=limit)
    answer = await world.check(**SMART, routes=routes)
    denied_by = [budget["budget_id"]] if limit == "0" else []
    assert answer["allowed"] is (not denied_by)
    assert answer["routes"] == [
        FULL | {"requested_fallback": None, "allowed": answer["allowed"], "denied_by": denied_by}
    ]


async def test_a_hold_is_in_the_budgets_of_all_allowed_ways_each_as_dear_as_what_goes_through_it(world: World):
    for slug, match in (("all", {}), ("mini", {"served_model": "gpt-4.1-mini"}), ("full", {"provider": "azure"})):
        await world.put_budget(slug, match=match, limit_usd="10")
    answer = await world.check(**SMART, routes=[MINI, FULL], reserve=True, request_id="r1")
    assert shown(answer) == {"openai/gpt-4.1-mini": True, "azure/gpt-4.1": True}
    assert held(answer) == {"all": "2", "mini": "0.4", "full": "2"}
    assert (answer["reservation"]["amount_usd"], answer["estimate"]["amount_usd"]) == ("2", "2")
    # As many as the dearest allowed way can still pay for, its own hold given back: 8 USD at 8 USD a million.
    assert answer["max_affordable_output_tokens"] == 32_768


@pytest.mark.parametrize("route", [MINI, FULL])
async def test_the_event_of_whichever_way_it_went_leaves_nothing_held(world: World, route: dict[str, str]):
    for slug, match in (("all", {}), ("mini", {"served_model": "gpt-4.1-mini"}), ("full", {"provider": "azure"})):
        await world.put_budget(slug, match=match, limit_usd="10")
    await world.check(**SMART, routes=[MINI, FULL], reserve=True, request_id="r1")
    await went(world, route, tallygate={"reservation_id": "r1"})
    answer = await world.check(**SMART, routes=[MINI, FULL])
    assert held(answer) == {"all": "0", "mini": "0", "full": "0"}
    posted = {standing["name"] for standing in answer["budgets"] if standing["posted_usd"] != "0"}
    assert posted == ({"all", "mini"} if route is MINI else {"all", "full"})


async def test_only_allowed_ways_size_the_hold_and_a_way_that_is_too_dear_is_denied_alone(world: World):
    tight = await world.put_budget("all", match={}, limit_usd="1")
    answer = await world.check(**SMART, routes=[FULL, MINI], reserve=True)
    assert shown(answer) == {"azure/gpt-4.1": False, "openai/gpt-4.1-mini": True}
    assert answer["routes"][0]["denied_by"] == [tight["budget_id"]]
    assert (answer["reservation"]["amount_usd"], held(answer)) == ("0.4", {"all": "0.4"})


async def test_an_exhausted_budget_of_one_model_leaves_the_fallback_and_the_other_way_round(world: World):
    mini = await world.put_budget("mini", match={"served_model": "gpt-4.1-mini"}, limit_usd="0")
    body = {"model": "gpt-4.1-mini", "provider": "openai", "fallback_models": ["azure/gpt-4.1"],
            "input_tokens": 1_000_000, "max_output_tokens": 0}  # fmt: skip
    answer = await world.check(**body, reserve=True)
    assert [(route["requested_fallback"], route["allowed"]) for route in answer["routes"]] == [
        (None, False), ("azure/gpt-4.1", True)
    ]  # fmt: skip
    assert (answer["reservation"]["amount_usd"], answer["estimate"]["amount_usd"]) == ("2", "2")
    assert answer["dimensions"]["requested_model"]["value"] == "gpt-4.1-mini"
    await world.call("PATCH", "/v1/budgets/mini", json={"limit_usd": "5"})
    full = await world.put_budget("full", match={"served_model": "gpt-4.1"}, limit_usd="0")
    answer = await world.check(**body, reserve=True)
    assert [route["denied_by"] for route in answer["routes"]] == [[], [full["budget_id"]]]
    assert (answer["reservation"]["amount_usd"], mini["name"] in held(answer)) == ("0.4", True)


async def test_a_fallback_counts_in_the_budget_of_the_model_that_was_asked_for(world: World):
    asked = await world.put_budget(match={"requested_model": "gpt-4.1-mini"}, limit_usd="0")
    answer = await world.check(model="gpt-4.1-mini", fallback_models=["gpt-4.1"])
    assert (answer["allowed"], answer["denied_by"]) == (False, [asked["budget_id"]])
    await world.put_budget("other", match={"requested_model": "gpt-4.1"}, limit_usd="0")
    assert (await world.check(model="other", fallback_models=["gpt-4.1"]))["allowed"] is True


@pytest.mark.parametrize(("model", "fallback"), [("gpt-4.1-mini", "gpt-4.1"), ("gpt-4.1", "gpt-4.1-mini")])
async def test_the_hold_of_a_call_with_a_fallback_is_that_of_the_dearest(world: World, model: str, fallback: str):
    await world.put_budget(match={"end_user": "*"}, limit_usd="10")
    body = SMART | {"model": model, "fallback_models": [fallback], "dimensions": {"end_user": "u"}}
    answer = await world.check(**body, reserve=True)
    assert (answer["reservation"]["amount_usd"], held(answer)) == ("2", {"b": "2"})


async def test_what_goes_a_denied_way_all_the_same_shows_as_that(world: World):
    await world.put_budget("full", match={"provider": "azure"}, limit_usd="0")
    await world.put_budget("all", match={}, limit_usd="10")
    answer = await world.check(**SMART, routes=[MINI, FULL], reserve=True, request_id="r1")
    assert shown(answer) == {"openai/gpt-4.1-mini": True, "azure/gpt-4.1": False}
    astray, above = OVERSHOOT_ASTRAY._value.get(), OVERSHOOT_ABOVE_HOLD._value.get()
    charged = await went(world, FULL, tallygate={"reservation_id": "r1"}, prompt_tokens=1_000_000)

    async def is_counted() -> bool:
        return bool(OVERSHOOT_ASTRAY._value.get() > astray)

    await until(is_counted)
    assert OVERSHOOT_ASTRAY._value.get() - astray == pytest.approx(float(charged["cost_usd"]), abs=1e-5)
    assert OVERSHOOT_ABOVE_HOLD._value.get() == above
    after = await world.check(**SMART, routes=[MINI, FULL])
    assert held(after) == {"all": "0", "full": "0"}
    text = (await world.client.get("/metrics")).text
    assert 'tallygate_overshoot_usd_total{reason="route_not_followed"}' in text


async def test_the_same_request_again_has_the_same_hold_and_ways(world: World):
    await world.put_budget("full", match={"provider": "azure"}, limit_usd="0")
    body = SMART | {"routes": [MINI, FULL], "reserve": True, "request_id": "r1"}
    first, again = await world.check(**body), await world.check(**body)
    assert (again["reservation"], shown(again)) == (first["reservation"], shown(first))
    problem = await world.check(expect=409, **body | {"routes": [MINI]})
    assert problem["code"] == "request_id_reused"


async def test_an_unpriced_way_is_closed_where_a_budget_says_so_and_the_others_stay_open(world: World):
    strict = await world.put_budget("strict", match={}, on_unpriced="deny", limit_usd="100")
    unheard = {"deployment": "custom/never-heard-of", "served_model": "custom/never-heard-of", "provider": "custom"}
    answer = await world.check(**SMART, routes=[unheard, MINI], reserve=True)
    assert [route["allowed"] for route in answer["routes"]] == [False, True]
    assert (answer["routes"][0]["denied_by"], answer["reservation"]["amount_usd"]) == ([strict["budget_id"]], "0.4")
    denied = await world.check(**SMART, routes=[unheard, unheard | {"deployment": "custom/b"}], reserve=True)
    assert (denied["allowed"], denied["code"], denied["reservation"]) == (False, "unpriced_model", None)


async def test_a_tenant_that_enforces_nothing_sees_which_ways_would_be_denied_and_may_go_all(world: World):
    await world.put_budget("full", match={"provider": "azure"}, limit_usd="0")
    await world.call("PATCH", "/v1/settings", json={"enforcement": "shadow"})
    answer = await world.check(**SMART, routes=[MINI, FULL])
    assert (answer["allowed"], set(shown(answer).values())) == (True, {True})
    assert [standing["denies"] for standing in answer["budgets"]] == [True]


async def test_more_ways_than_one_question_takes_are_decided_together_and_never_too_early(world: World):
    await world.put_budget("each", match={"deployment": "*"}, limit_usd="10")
    await world.put_budget("last", match={"deployment": "openai/d9"}, limit_usd="0")
    models = [f"openai/d{number}" for number in range(10)]
    answer = await world.check(model="smart", fallback_models=models, estimated_cost_usd="1", reserve=True)
    assert [route["allowed"] for route in answer["routes"]] == [True] * 7 + [False] * 4
    assert len(held(answer)) == 2
    assert sorted(standing["held_usd"] for standing in answer["budgets"]) == ["0"] * 5 + ["1"] * 6


async def test_more_counters_than_one_call_may_have_deny_it_whichever_way_it_goes(world: World):
    for number in range(8):
        for dimension in ("deployment", "served_model"):
            for copy in range(4):
                body = {"name": "b", "match": {dimension: f"openai/d{number}"}, "limit_usd": "1",
                        "period": {"kind": "lifetime"}}  # fmt: skip
                answer = await world.client.put(
                    f"/v1/budgets/b{number}-{dimension.replace('_', '-')}-{copy}", headers=world.headers, json=body
                )
                assert answer.status_code == 201, answer.text
    routes = [{"deployment": f"openai/d{number}"} for number in range(8)]
    answer = await world.check(model="smart", routes=routes, estimated_cost_usd="0")
    assert (answer["allowed"], len(answer["budgets"])) == (True, 64)
    await world.put_budget("one-more", match={"deployment": "openai/d0"})
    answer = await world.check(model="smart", routes=routes, estimated_cost_usd="0")
    assert (answer["allowed"], answer["code"]) == (False, "too_many_budgets")
    assert (await world.check(model="smart", routes=routes[:7], estimated_cost_usd="0"))["allowed"] is True


async def test_the_rate_limit_a_client_is_told_is_that_of_the_ways_it_may_go(world: World):
    await world.call("PATCH", "/v1/settings", json={"deny_detail": "full"})
    await went(world, MINI)
    await went(world, FULL)
    await world.put_budget("full", match={"provider": "azure"}, limit_usd="0")
    await world.put_budget("mini", match={"provider": "openai"}, limit_usd="3")
    headers = {"x-tallygate-token": world.headers["authorization"].removeprefix("Bearer "), "authorization": "Bearer k"}
    answer = await world.client.post("/v1/check/authz/v1/chat/completions", headers=headers, json={"model": "smart"})
    assert (answer.status_code, answer.headers["ratelimit-policy"]) == (200, '"budget";q=3000000')
    await world.call("PATCH", "/v1/budgets/mini", json={"limit_usd": "0"})
    answer = await world.client.post("/v1/check/authz/v1/chat/completions", headers=headers, json={"model": "smart"})
    assert (answer.status_code, answer.headers["x-tallygate-reason"]) == (402, "budget_exceeded")


async def test_when_calls_under_way_are_in_the_way_of_one_route_another_try_is_worth_it(world: World):
    await world.put_budget("full", match={"provider": "azure"}, limit_usd="3")
    await world.put_budget("mini", match={"provider": "openai"}, limit_usd="0")
    await world.check(**SMART, routes=[FULL], reserve=True)
    answer = await world.client.post(
        "/v1/check?enforce=true", headers=world.headers, json=SMART | {"routes": [FULL, MINI]}
    )
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")


async def test_an_estimate_of_the_same_body_is_what_a_check_holds_and_lists_each_way(world: World):
    await went(world, MINI)
    await went(world, FULL)
    await world.put_budget(match={"provider": "*"}, limit_usd="100")
    estimate = await world.call("POST", "/v1/estimates", json=SMART)
    answer = await world.check(**SMART, reserve=True)
    assert estimate["estimate"] == answer["estimate"]
    assert sorted(each["served_model"] for each in estimate["candidates"]) == ["azure/gpt-4.1", "openai/gpt-4.1-mini"]


async def test_without_a_bound_what_the_model_lately_put_out_is_assumed(world: World):
    body = {"model": "gpt-4.1-mini", "input_tokens": 0, "max_output_tokens": None}
    assert (await world.check(**body))["estimate"]["max_output_tokens"] == 4096
    for tokens in (9_000, 9_001):
        await world.post_event(model_group="talkative", completion_tokens=tokens)
    answer = await world.check(**body | {"model": "talkative", "deployment": "openai/gpt-4.1-mini"})
    assert answer["estimate"]["max_output_tokens"] == 9_001
    spare = await world.check(**body | {"model": "quiet", "fallback_models": ["talkative"]})
    assert spare["estimate"]["max_output_tokens"] in {4096, 9_001}
    assert (await world.check(**body | {"max_output_tokens": 5}))["estimate"]["max_output_tokens"] == 5


@pytest.mark.parametrize(
    ("routes", "field"),
    [
        ([{}], "routes[0]"),
        ([MINI, {"deployment": "", "served_model": None}], "routes[1]"),
        ([MINI, {"deployment": 7}], "routes[1].deployment"),
        ([{"deploymnt": "x"}], "routes[0]"),
        ([{"provider": "x" * 5_000}], "routes[0].provider"),
        ([MINI] * 9, "routes"),
        ({"deployment": "x"}, "routes"),
        ([None], "routes[0]"),
        ("x", "routes"),
    ],
)
async def test_bad_routes_are_refused_with_the_path_of_the_field(world: World, routes: Any, field: str):
    problem = await world.check(expect=422, routes=routes)
    assert (problem["code"], problem["field"]) == ("invalid_input", field)


@pytest.mark.parametrize("text", ["\x00", "\u202e", "x" * 4_096, "a b", "'; --", "*", "{}"])
async def test_text_of_any_kind_may_name_a_route(world: World, text: str):
    await world.put_budget(match={"provider": "openai"}, limit_usd="0")
    routes = [{"deployment": text}, {"served_model": text, "provider": text}]
    answer = await world.check(model=text, routes=routes, fallback_models=[text], reserve=True)
    assert answer["allowed"] is True


@pytest.mark.parametrize(
    ("name", "requested", "fallback", "served"),
    [
        ("fallback_group", "primary", "backup", "openai/gpt-4.1"),
        ("fallback_client_list", "first", "second", "openai/gpt-4.1-mini"),
        ("fallback_stream", "primary-s", "backup-s", "openai/gpt-4.1-mini"),
        ("context_window_fallback", "small-ctx", "large-ctx", "openai/gpt-4.1"),
        ("router_fallback", "router-primary", "router-backup", "azure_ai/gpt-5.4-mini-2026-03-17"),
    ],
)
async def test_captured_fallbacks_are_charged_under_the_model_the_check_asked_for(
    world: World, name: str, requested: str, fallback: str, served: str
):
    events = just_now(name)
    success = next(event for event in events if event["status"] == "success")
    await world.put_budget("asked", match={"requested_model": requested}, limit_usd="100")
    await world.put_budget("never", match={"requested_model": fallback}, limit_usd="100")
    await world.put_budget("served", match={"served_model": served}, limit_usd="100")
    call_id = success["litellm_call_id"]
    routes = [{"served_model": "openai/gpt-4o-mini", "provider": "openai"}]
    spare = {"model": requested, "routes": routes, "fallback_models": [served], "reserve": True}
    answer = await world.check(**spare, request_id=call_id, input_tokens=200_000)
    assert {standing["name"] for standing in answer["budgets"]} == {"asked", "served"}
    results = await world.call("POST", "/v1/events?results=all", json=events)
    charged = next(each for each in results["results"] if each["served_model"] and usd(each["cost_usd"]))
    assert charged["requested_model"] == requested
    assert charged["served_model"].startswith(served)
    charge = await world.call("GET", f"/v1/charges/{charged['charge_id']}")
    assert charge["provenance"]["requested_model"] == "check"
    after = await world.check(**spare | {"reserve": False})
    assert held(after) == {"asked": "0", "served": "0"}
    assert {standing["posted_usd"] != "0" for standing in after["budgets"]} == {True}


@pytest.mark.parametrize("name", ["router_gpt54mini", "router_gpt41nano", "complexity_router"])
async def test_captured_calls_of_routers_teach_the_ways_their_models_go(world: World, name: str):
    results = (await world.call("POST", "/v1/events?results=all", json=just_now(name)))["results"]
    await world.put_budget(match={"served_model": "*"}, limit_usd="100")
    answer = await world.check(model=results[0]["requested_model"])
    seen = {(each["deployment"], each["served_model"]) for each in results}
    told = {(route["deployment"], route["served_model"]) for route in answer["routes"]}
    assert told == seen or (len(seen) == 1 and not told)
    assert {standing["subject"]["served_model"] for standing in answer["budgets"]} == {
        each["served_model"].lower() for each in results
    }
