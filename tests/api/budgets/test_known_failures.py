"""Published failures of other budget checks that no other test of ours shows: KNOWN_FAILURES.md names each.

Each test is the report's story, told to our application.
"""

import asyncio
from decimal import Decimal
from typing import Any

import pytest

from service.kit.clock import utc_now
from service.kit.ids import new_id
from tests.api.budgets.test_kinds import CALLS, TABLE
from tests.api.checks.world import World, until
from tests.builders import captured_events
from tests.faults.chat_events import Event, chat_event


def _again(event: Event, **fields: Any) -> Event:
    """Return a captured event as a call of now, with ids of its own."""
    start = utc_now().timestamp()
    unique = {"id": f"chatcmpl-{new_id().hex}", "litellm_call_id": new_id().hex}
    return event | unique | {"startTime": start, "endTime": start} | fields


async def _post(world: World, event: Event) -> Any:
    answer = await world.call("POST", "/v1/events", json=event)
    assert answer["recorded"] == 1, answer
    return answer["results"][0]


@pytest.mark.parametrize("kind", CALLS)
async def test_a_limit_of_nothing_blocks_in_every_kind_of_budget(world: World, kind: str):
    await world.call("POST", "/v1/budgets", expect=201, json=TABLE[kind] | {"limit_usd": "0"})
    call = CALLS[kind].counted
    answer = await world.check(
        dimensions=call.dimensions, model=call.model, provider=call.provider, deployment=call.deployment
    )
    assert (answer["allowed"], answer["code"]) == (False, "budget_exceeded")


@pytest.mark.parametrize("dimension", ["end_user", "session", "user", "api_key"])
async def test_concurrent_first_requests_of_somebody_unknown_share_one_limit(world: World, dimension: str):
    await world.put_budget(match={dimension: "*"}, limit_usd="0.3")
    answers = await asyncio.gather(
        *[
            world.check(
                request_id=f"r{number}", reserve=True, estimated_cost_usd="0.1", dimensions={dimension: "never-seen"}
            )
            for number in range(50)
        ]
    )
    assert sum(answer["allowed"] for answer in answers) == 3
    assert not any(answer["degraded"] for answer in answers)


async def test_the_counter_of_an_end_user_survives_the_loss_of_all_copies(world: World):
    await world.put_budget(match={"end_user": "*"}, limit_usd="0.01")
    await world.post_event(cost="0.02", end_user="cust-7")
    assert (await world.check(dimensions={"end_user": "cust-7"}))["allowed"] is False
    redis = world.services.pools.redis
    await redis.delete(*[key async for key in redis.scan_iter(match=f"{{{world.tenant_id}}}*")])
    denied = await world.check(dimensions={"end_user": "cust-7"})
    assert (denied["allowed"], denied["budgets"][0]["posted_usd"]) == (False, "0.02")
    assert (await world.check(dimensions={"end_user": "cust-8"}))["allowed"] is True


@pytest.mark.parametrize(
    "call_type", ["acompletion", "aresponses", "anthropic_messages", "aembedding", "pass_through_endpoint"]
)
async def test_every_surface_of_a_provider_spends_its_budget(world: World, call_type: str):
    await world.put_budget(match={"provider": "openai"}, limit_usd="0.0001")
    assert (await world.check(provider="openai", estimated_cost_usd="0.00001"))["allowed"] is True
    await world.post_event(call_type=call_type, prompt_tokens=10_000, total_tokens=10_100)
    answer = await world.check(provider="openai", call_type=call_type, estimated_cost_usd="0.00001")
    assert (answer["allowed"], answer["code"]) == (False, "budget_exceeded")


async def test_tags_of_a_header_count_as_those_of_the_body_do(world: World):
    """The captured call carries tags of its body, of a header and of its key in one list."""
    event = captured_events("tags_body_and_header.json")[0]
    await world.put_budget(match={"tag": "*"}, limit_usd="0.00001")
    await _post(world, _again(event))
    shown = (await world.call("GET", "/v1/budgets/b/windows"))["windows"]
    chosen = [tag for tag in event["request_tags"] if not tag.startswith("User-Agent:")]
    assert sorted(window["subject"]["tag"] for window in shown) == sorted(chosen)
    for tag in chosen:
        asked = await world.check(dimensions={"tags": ["other", tag]}, estimated_cost_usd="0.000001")
        assert asked["allowed"] is False, tag
    asked = await world.check(dimensions={"tags": ["other"]}, estimated_cost_usd="0.000001")
    assert asked["allowed"] is True


async def test_a_tag_a_hook_added_after_the_check_is_charged_and_denies_the_next_call_that_says_it(world: World):
    await world.put_budget(match={"tag": "added"}, limit_usd="0.01")
    assert (await world.check(request_id="r1", reserve=True))["unresolved"] == ["tag"]
    await world.post_event(cost="0.02", litellm_call_id="r1", request_tags=["added"])
    assert (await world.check(dimensions={"tags": ["added"]}))["allowed"] is False


async def test_an_organization_known_by_the_key_alone_is_the_same_for_check_and_charge(world: World):
    key = new_id().hex * 2
    await world.call("PUT", f"/v1/keys/{key}", json={"team": "core", "organization": "acme"}, expect=200)
    await world.put_budget(match={"organization": "acme"}, limit_usd="0.01")
    asked = {"api_key": key}

    async def is_known() -> bool:
        return bool((await world.check(dimensions=asked))["budgets"])

    await until(is_known)
    event = chat_event(at=utc_now(), team="core", api_key=key, input_tokens=100_000)
    event["metadata"]["user_api_key_org_id"] = None
    await _post(world, event)
    answer = await world.check(dimensions=asked)
    assert (answer["allowed"], answer["dimensions"]["organization"]["value"]) == (False, "acme")


async def test_an_alias_of_a_free_model_passes_where_everything_is_spent(world: World):
    await world.put_budget(limit_usd="0.01")
    await world.post_event(cost="0.02")
    alias = {"alias": "house-free", "model": "gemini/gemma-3-27b-it"}
    await world.call("POST", "/v1/aliases", json=alias, expect=201)
    answer = await world.check(model="house-free")
    assert (answer["allowed"], answer["estimate"]["price_state"]) == (True, "free")
    assert (await world.check())["allowed"] is False


async def test_where_there_is_no_budget_nobody_is_blocked(world: World):
    await world.post_event(cost="1000000", metadata={"user_api_key_user_id": "u1"})
    answer = await world.check(dimensions={"user": "u1"})
    assert (answer["allowed"], answer["budgets"], answer["denied_by"]) == (True, [], [])


@pytest.mark.parametrize("roles", [("check",), ("admin", "check", "ingest", "read")])
async def test_no_token_and_no_key_passes_by_a_budget(world: World, roles: tuple[str, ...]):
    await world.put_budget(limit_usd="0.01")
    await world.post_event(cost="0.02")
    headers = await world.make_token(roles=roles, is_operator="admin" in roles)
    for dimensions in ({}, {"api_key": "ef" * 32}, {"user": "default_user_id", "team": "litellm-dashboard"}):
        assert (await world.check(headers=headers, dimensions=dimensions))["allowed"] is False


async def test_key_team_and_user_are_all_asked_none_replaces_another(world: World):
    names = {"api_key": "ab" * 32, "team": "core", "user": "u1"}
    budgets = {
        slug: (await world.put_budget(slug, match={slug: value}, limit_usd="1"))["budget_id"]
        for slug, value in names.items()
    }
    for slug, budget_id in budgets.items():
        await world.call("PATCH", f"/v1/budgets/{slug}", json={"limit_usd": "0"})
        assert (await world.check(dimensions=names))["denied_by"] == [budget_id]
        await world.call("PATCH", f"/v1/budgets/{slug}", json={"limit_usd": "1"})
    assert (await world.check(dimensions=names))["allowed"] is True


async def test_long_prompts_are_held_at_the_rate_of_long_prompts(world: World):
    """Above a size the whole prompt is dearer: what fits by the base rate does not fit."""
    long = {"model": "gpt-5.4", "input_tokens": 300_000, "max_output_tokens": 10, "provider": "openai"}
    short = long | {"input_tokens": 150_000}
    one = Decimal((await world.check(**long))["estimate"]["amount_usd"])
    assert one > 2 * Decimal((await world.check(**short))["estimate"]["amount_usd"])
    await world.put_budget(limit_usd=str(one * Decimal("1.5")))
    answers = await asyncio.gather(*[world.check(request_id=f"r{number}", reserve=True, **long) for number in range(5)])
    assert sum(answer["allowed"] for answer in answers) == 1


async def test_a_new_window_begins_empty_for_any_number_of_end_users_and_nothing_is_reset(world: World):
    """40,000 end users spent their day; the next day nothing has to be written for any of them."""
    budget = await world.put_budget(match={"end_user": "*"}, limit_usd="1", period="1d")
    async with world.services.pools.postgres.connection() as connection:
        await connection.execute(
            "INSERT INTO budget_window (tenant_id, budget_id, subject, bucket, enforced, version)"
            " SELECT %s, %s, json_build_object('end_user', 'e' || n)::jsonb::text,"
            " date_trunc('day', now(), 'UTC') - interval '1 day', 5, 1 FROM generate_series(1, 40000) AS n",
            (world.tenant_id, budget["budget_id"]),
        )
    for number in (1, 32_768, 40_000):
        answer = await world.check(dimensions={"end_user": f"e{number}"})
        assert (answer["allowed"], answer["budgets"][0]["posted_usd"]) == (True, "0")


async def test_what_was_spent_minutes_after_a_budget_was_created_stays_spent(world: World):
    await world.put_budget(match={"end_user": "*"}, limit_usd="0.01", period="1mo")
    await world.post_event(cost="0.02", end_user="fresh")
    await world.sweep()
    assert (await world.check(dimensions={"end_user": "fresh"}))["allowed"] is False


async def test_an_update_without_a_period_keeps_the_period(world: World):
    before = await world.put_budget(period="1w")
    after = await world.call("PATCH", "/v1/budgets/b", json={"limit_usd": "2", "name": "other"})
    assert (after["period"], after["period_meaning"]) == (before["period"], before["period_meaning"])
