"""`POST /v1/budgets/backtest`: what a budget would have done is what one would do."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from decimal import Decimal
from random import Random
from secrets import randbits
from typing import Any

import httpx
import pytest

from service.budgets import backtest_service
from service.budgets.backtest_queries import snapshot
from service.db.pools import Pools, PostgresPool
from service.kit.clock import utc_now
from tests.api.checks.world import World

PATH = "/v1/budgets/backtest"
PERIODS: list[Any] = [
    {"kind": "lifetime"},
    {"kind": "calendar", "unit": "year"},
    {"kind": "fixed", "length_seconds": 864_000},
    {"kind": "rolling", "length_seconds": 86_400},
]


def _budget(**changed: Any) -> dict[str, Any]:
    return {"match": {"user": "*"}, "limit_usd": "1", "period": {"kind": "lifetime"}} | changed


def _body(budget: dict[str, Any] | None = None, **changed: Any) -> dict[str, Any]:
    now = utc_now()
    times = {"from": (now - timedelta(days=1)).isoformat(), "to": (now + timedelta(minutes=1)).isoformat()}
    return {"budget": budget or _budget(), **times} | changed


async def _backtest(world: World, budget: dict[str, Any], *, expect: int = 200, **changed: Any) -> Any:
    return await world.call("POST", PATH, expect=expect, json=_body(budget, **changed))


async def _spend(world: World, user: str, cost: str, team: str = "core", **fields: Any) -> None:
    names = {"user_api_key_user_id": user, "user_api_key_team_id": team}
    await world.post_event(cost=cost, metadata=names, **fields)


@pytest.mark.parametrize("period", PERIODS, ids=lambda period: period["kind"])
async def test_it_agrees_with_an_enforcing_budget_asked_call_by_call(
    world: World, other_world: World, period: dict[str, Any]
):
    """One tenant is asked by a real budget before each call, the other one is not and is tried afterwards."""
    seed = int(os.environ.get("TALLYGATE_TEST_SEED", "0")) or randbits(32)
    print(f"TALLYGATE_TEST_SEED={seed}")  # noqa: T201
    random = Random(seed)
    budget = _budget(period=period, match={"team": "core", "user": "*"})
    await world.put_budget(**budget)
    denied: dict[str, list[Decimal]] = {"u1": [], "u2": []}
    for number in range(40):
        user, cost = random.choice(["u1", "u2"]), random.choice(["0.05", "0.1", "0.31", "0.000001"])
        start = utc_now().timestamp()
        times = {"startTime": start, "endTime": start}
        asked = await world.check(
            dimensions={"team": "core", "user": user}, estimated_cost_usd=cost, request_id=f"r{number}"
        )
        assert asked["degraded"] is False
        if asked["allowed"]:
            await _spend(world, user, cost, **times)
        else:
            denied[user].append(Decimal(cost))
        await _spend(other_world, user, cost, **times)
    await _spend(other_world, "u1", "100", team="other")

    result = await _backtest(other_world, budget)

    assert result["totals"]["denied_calls"] == sum(map(len, denied.values()))
    assert Decimal(result["totals"]["denied_usd"]) == sum(map(sum, denied.values()))
    assert result["totals"]["calls"] == 40
    shown = {each["subject"]["user"]: each for each in result["subjects"]}
    for user, costs in denied.items():
        assert shown[user]["denied_calls"] == len(costs)
        assert Decimal(shown[user]["denied_usd"]) == sum(costs)
    kept = {
        each["subject"]["user"]: Decimal(each["posted_usd"])
        for each in (await world.call("GET", "/v1/budgets/b/windows"))["windows"]
    }
    assert kept == {user: Decimal(each["spent_usd"]) - Decimal(each["denied_usd"]) for user, each in shown.items()}
    assert any(denied.values()), "the limit was never reached: nothing was compared"


async def test_the_answer_says_what_was_tried_and_ranks_who_would_have_lost_most(world: World):
    for user, cost in (("u1", "2"), ("u2", "3"), ("u3", "0.5")):
        await _spend(world, user, cost)
    result = await _backtest(world, _budget(period="1y"), limit=2)
    assert result["match"] == {"user": "*"}
    assert (result["limit_usd"], result["period"]["unit"]) == ("1", "year")
    assert result["period_meaning"] == "Calendar years from January 1st, midnight in UTC."
    assert result["totals"] == {
        "calls": 3,
        "spent_usd": "5.5",
        "denied_calls": 2,
        "denied_usd": "5",
        "subjects": 3,
        "denied_subjects": 2,
    }
    assert [each["subject"]["user"] for each in result["subjects"]] == ["u2", "u1"]
    (window,) = result["subjects"][0]["windows"]
    assert (window["denied_calls"], window["denied_usd"]) == (1, "3")
    assert window["first_denied_at"] == result["subjects"][0]["first_denied_at"]
    assert window["window"]["start"].endswith("-01-01T00:00:00Z")


async def test_nothing_is_written_and_nothing_enforced(world: World):
    await _spend(world, "u1", "2")
    before = await world.call("GET", "/v1/audit")
    await _backtest(world, _budget(limit_usd="0"))
    assert (await world.call("GET", "/v1/budgets"))["budgets"] == []
    assert (await world.check(dimensions={"user": "u1"}))["allowed"] is True
    assert await world.call("GET", "/v1/audit") == before


async def test_what_its_window_saw_before_the_range_is_counted_and_not_asked(world: World):
    start = utc_now().replace(microsecond=0) - timedelta(seconds=30)
    for cost, at in (("0.9", start - timedelta(seconds=1)), ("0.2", start)):
        await _spend(world, "u1", cost, startTime=at.timestamp(), endTime=at.timestamp())
    result = await _backtest(world, _budget(), **{"from": start.isoformat()})
    (subject,) = result["subjects"]
    assert (subject["calls"], subject["spent_usd"], subject["denied_calls"]) == (1, "0.2", 1)


async def test_a_reversed_call_is_left_out_whole(world: World):
    recorded = await world.post_event(cost="2", metadata={"user_api_key_user_id": "u1"})
    await world.call("POST", f"/v1/charges/{recorded['charge_id']}/reverse", json={"reason": "x"}, expect=201)
    await _spend(world, "u1", "0.5")
    (subject,) = (await _backtest(world, _budget()))["subjects"]
    assert (subject["calls"], subject["spent_usd"], subject["denied_calls"]) == (1, "0.5", 0)


async def test_a_free_call_passes_unless_nothing_passes(world: World):
    await _spend(world, "u1", "5")
    free = {"model": "gemini/gemma-3-27b-it", "model_group": "gemma", "custom_llm_provider": "gemini"}
    await world.post_event(metadata={"user_api_key_user_id": "u1"}, **free)
    for limit, denied in (("1", 1), ("0", 2)):
        result = await _backtest(world, _budget(limit_usd=limit))
        assert (result["totals"]["calls"], result["totals"]["denied_calls"]) == (2, denied)


@pytest.mark.parametrize(
    ("match", "calls"),
    [
        ({}, 3),
        ({"team": "core"}, 2),
        ({"team": ["core", "edge"]}, 3),
        ({"team": {"prefix": "ed"}}, 1),
        ({"project": None}, 3),
        ({"user": "*"}, 2),
        ({"user": None}, 1),
        ({"end_user": "*"}, 0),
        ({"requested_model": "house-model"}, 3),
        ({"requested_model": "gpt-4.1-mini"}, 0),
    ],
)
async def test_it_sees_the_calls_the_budget_matches(world: World, match: dict[str, Any], calls: int):
    for team, user in (("core", "u1"), ("edge", "u2"), ("core", None)):
        await world.post_event(cost="1", metadata={"user_api_key_team_id": team, "user_api_key_user_id": user})
    assert (await _backtest(world, _budget(match=match)))["totals"]["calls"] == calls


async def test_pages_are_read_to_their_end(world: World, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("service.budgets.backtest_queries.PAGE_CHARGES", 3)
    for _ in range(10):
        await _spend(world, "u1", "0.1")
    result = await _backtest(world, _budget(limit_usd="0.75"))
    assert (result["totals"]["calls"], result["totals"]["denied_calls"]) == (10, 3)


async def test_a_scope_narrows_what_is_tried(world: World):
    await _spend(world, "u1", "2")
    await _spend(world, "u2", "2")
    await _spend(world, "u3", "2", team="edge")
    headers = await world.make_token(roles=("read",), scope={"team": ["core"]})
    for match, status in (({"user": "*"}, 403), ({"team": "edge"}, 403), ({}, 403), ({"team": {"prefix": "c"}}, 403)):
        refused = await world.call("POST", PATH, expect=status, headers=headers, json=_body(_budget(match=match)))
        assert refused["code"] == "outside_scope"
    for match in ({"team": "core", "user": "*"}, {"team": "*", "user": "*"}):
        result = await world.call("POST", PATH, headers=headers, json=_body(_budget(match=match)))
        assert {each["subject"]["user"] for each in result["subjects"]} == {"u1", "u2"}
        assert result["totals"]["spent_usd"] == "4"


async def test_another_tenant_has_calls_of_its_own(world: World, other_world: World):
    await _spend(world, "u1", "2")
    assert (await _backtest(other_world, _budget()))["totals"]["calls"] == 0


@pytest.mark.parametrize("roles", [("admin",), ("check",), ("ingest",)])
async def test_it_needs_the_role_read(world: World, roles: tuple[str, ...]):
    headers = await world.make_token(roles=roles)
    await world.call("POST", PATH, expect=403, headers=headers, json=_body())
    await world.call("POST", PATH, expect=401, headers={"authorization": "Bearer tg_" + 43 * "x"}, json=_body())


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"from": "yesterday"}, "from"),
        ({"to": "2026"}, "to"),
        ({"from": "2026-01-02", "to": "2026-01-01"}, "to"),
        ({"from": "2026-01-01", "to": "2026-01-01"}, "to"),
        ({"from": "2020-01-01", "to": "2026-01-01"}, "to"),
        ({"budget": _budget(limit_usd="NaN")}, "budget.limit_usd"),
        ({"budget": _budget(limit_usd="1_0")}, "budget.limit_usd"),
        ({"budget": _budget(period="48h")}, "budget.period"),
        ({"budget": _budget(match={"tags": "x"})}, "budget.match.tags"),
        ({"budget": _budget(rollover={})}, "budget.rollover"),
        ({"budget": _budget(match={"team": ["core", 5]})}, "budget.match.team[1]"),
        ({"budget": _budget(slug="a b")}, "budget.slug"),
        ({"limit": 0}, "limit"),
        ({"limit": 1001}, "limit"),
        ({"budget": "all"}, "budget"),
        ({"since": "2026-01-01"}, "data"),
    ],
)
async def test_what_cannot_be_tried_is_refused_with_the_path_of_the_field(
    world: World, changed: dict[str, Any], field: str
):
    answer = await world.client.post(PATH, headers=world.headers, json=_body(**changed))
    assert answer.status_code in {400, 422}, answer.text
    assert answer.json()["field"] == field


class _Turnstile:
    """Lets back-tests wait where they begin to read, until it is opened; `arrived` is told of each."""

    def __init__(self) -> None:
        self.arrived: asyncio.Queue[None] = asyncio.Queue()
        self._opened = asyncio.Event()

    def open(self) -> None:
        self._opened.set()

    @asynccontextmanager
    async def snapshot(self, pool: PostgresPool) -> AsyncIterator[Any]:
        self.arrived.put_nowait(None)
        await self._opened.wait()
        async with snapshot(pool) as connection:
            yield connection


@pytest.fixture
async def turnstile(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[_Turnstile]:
    turnstile = _Turnstile()
    monkeypatch.setattr(backtest_service, "snapshot", turnstile.snapshot)
    yield turnstile
    turnstile.open()


async def _begun(world: World, turnstile: _Turnstile) -> asyncio.Task[httpx.Response]:
    task = asyncio.create_task(world.client.post(PATH, headers=world.headers, json=_body()))
    async with asyncio.timeout(20):
        await turnstile.arrived.get()
    return task


async def test_each_tenant_has_one_turn_of_its_own(world: World, other_world: World, turnstile: _Turnstile):
    first = await _begun(world, turnstile)
    again = await world.client.post(PATH, headers=world.headers, json=_body())
    assert (again.status_code, again.json()["code"]) == (429, "too_many_requests")
    assert int(again.headers["retry-after"]) >= 1
    other = await _begun(other_world, turnstile)
    turnstile.open()
    assert [(await task).status_code for task in (first, other)] == [200, 200]
    assert (await world.client.post(PATH, headers=world.headers, json=_body())).status_code == 200


async def test_tenants_together_have_so_many_turns(
    world: World, other_world: World, turnstile: _Turnstile, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(backtest_service, "MOST_AT_ONCE", 1)
    first = await _begun(world, turnstile)
    refused = await other_world.client.post(PATH, headers=other_world.headers, json=_body())
    assert refused.status_code == 429
    turnstile.open()
    assert (await first).status_code == 200
    assert (await other_world.client.post(PATH, headers=other_world.headers, json=_body())).status_code == 200


async def test_a_reader_who_leaves_gives_the_turn_back(world: World, turnstile: _Turnstile):
    first = await _begun(world, turnstile)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    turnstile.open()
    assert (await world.client.post(PATH, headers=world.headers, json=_body())).status_code == 200


async def test_one_that_takes_too_long_is_ended(world: World, pools: Pools, monkeypatch: pytest.MonkeyPatch):
    await _spend(world, "u1", "0.1")
    monkeypatch.setattr(world.services.backtest_service, "_deadline_seconds", -1.0)
    refused = await _backtest(world, _budget(), expect=422)
    assert refused["code"] == "query_too_expensive"
    monkeypatch.undo()
    assert (await _backtest(world, _budget()))["totals"]["calls"] == 1


async def test_the_name_of_the_route_is_no_slug(world: World):
    refused = await world.call("PUT", "/v1/budgets/backtest", expect=405, json=_budget())
    assert refused["status"] == 405
    refused = await world.call("POST", "/v1/budgets", expect=422, json=_budget(slug="backtest"))
    assert refused["code"] == "invalid_slug"
