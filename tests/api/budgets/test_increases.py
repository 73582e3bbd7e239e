"""`/v1/budgets/{budget}/increases`: limits raised for a time, in force at once, over by themselves."""

from datetime import datetime, timedelta
from typing import Any

import httpx
import msgspec
import pytest

from service.budgets.increase_service import MAX_OPEN_INCREASES
from service.db.pools import Pools
from service.kit.clock import utc_now
from service.kit.ids import new_id
from tests.api.budgets.conftest import MakeToken
from tests.api.checks.world import World

PATH = "/v1/budgets/b/increases"


def _body(**changed: Any) -> dict[str, Any]:
    until = (utc_now() + timedelta(hours=1)).isoformat()
    return {"amount_usd": "5", "until": until, "reason": "launch week"} | changed


async def _create(client: httpx.AsyncClient, **changed: Any) -> dict[str, Any]:
    body = {"slug": "b", "match": {"user": "*"}, "limit_usd": "10", "period": "1mo"} | changed
    answer = await client.put("/v1/budgets/b", json=body)
    assert answer.status_code == 201
    budget: dict[str, Any] = answer.json()
    return budget


async def _grant(client: httpx.AsyncClient, **changed: Any) -> dict[str, Any]:
    answer = await client.post(PATH, json=_body(**changed))
    assert answer.status_code == 201, answer.text
    increase: dict[str, Any] = answer.json()
    return increase


async def _limit(client: httpx.AsyncClient, user: str = "u1") -> tuple[str, str]:
    (window,) = (await client.get("/v1/budgets/b/windows", params={"subject": user})).json()["windows"]
    return window["limit_usd"], window["increases_usd"]


async def test_an_increase_is_answered_whole_and_shown_with_its_budget(client: httpx.AsyncClient):
    await _create(client)
    increase = await _grant(client, amount_usd="2.50")
    assert set(increase) == {"increase_id", "amount_usd", "subject", "granted_at", "until", "reason", "granted_by"}
    assert (increase["amount_usd"], increase["subject"], increase["reason"]) == ("2.5", None, "launch week")
    assert increase["granted_by"].startswith("test")
    assert (await client.get(PATH)).json() == {"increases": [increase], "next_cursor": None}
    assert (await client.get("/v1/budgets/b")).json()["increases"] == [increase]
    assert (await client.get("/v1/budgets")).json()["budgets"][0]["increases"] == [increase]


async def test_increases_add_up_and_one_of_a_counter_is_its_alone(client: httpx.AsyncClient):
    await _create(client)
    await _grant(client, amount_usd="5")
    await _grant(client, amount_usd="0.25", subject={"user": "u1"})
    assert await _limit(client, "u1") == ("15.25", "5.25")
    assert await _limit(client, "u2") == ("15", "5")


async def test_an_increase_that_is_ended_is_over_and_stays_listed(client: httpx.AsyncClient):
    await _create(client)
    increase = await _grant(client)
    path = f"{PATH}/{increase['increase_id']}"
    assert (await client.delete(path)).status_code == 204
    assert await _limit(client) == ("10", "0")
    assert (await client.get(PATH)).json()["increases"] == []
    (ended,) = (await client.get(PATH, params={"with_ended": "true"})).json()["increases"]
    assert ended["increase_id"] == increase["increase_id"]
    assert increase["granted_at"] <= ended["until"] < increase["until"]
    assert (await client.delete(path)).status_code == 204
    assert (await client.get(PATH, params={"with_ended": "true"})).json()["increases"] == [ended]
    assert (await client.get("/v1/budgets/b")).json()["increases"] == []


async def test_an_increase_is_over_by_itself(client: httpx.AsyncClient, pools: Pools):
    await _create(client)
    increase = await _grant(client)
    async with pools.postgres.connection() as connection:
        await connection.execute(
            "UPDATE budget_increase SET granted_at = granted_at - interval '2 h', until = until - interval '2 h'"
            " WHERE increase_id = %s",
            (increase["increase_id"],),
        )
    assert await _limit(client) == ("10", "0")
    assert (await client.get(PATH)).json()["increases"] == []


async def test_a_check_that_was_denied_is_allowed_by_an_increase_and_denied_again_when_it_ends(world: World):
    await world.put_budget(match={"team": "core", "user": "*"}, limit_usd="0.01")
    await world.put_budget("models", match={"team": "core", "requested_model": "*"}, limit_usd="100")
    dimensions = {"team": "core", "user": "u1"}
    await world.post_event(cost="0.02", metadata={"user_api_key_team_id": "core", "user_api_key_user_id": "u1"})
    assert (await world.check(dimensions=dimensions))["allowed"] is False
    body = _body(amount_usd="0.05", subject={"user": "u1"})
    increase = await world.call("POST", PATH, expect=201, json=body)
    allowed = await world.check(dimensions=dimensions)
    assert allowed["allowed"] is True
    assert {each["name"]: each["limit_usd"] for each in allowed["budgets"]} == {"b": "0.06", "models": "100"}
    await world.call("DELETE", f"{PATH}/{increase['increase_id']}", expect=204)
    assert (await world.check(dimensions=dimensions))["allowed"] is False


@pytest.mark.parametrize("written", ["gpt-4.1-mini", "GPT-4.1-mini", " gpt-4.1-mini "])
async def test_a_subject_is_the_counter_its_calls_count_in_however_it_is_written(world: World, written: str):
    await world.put_budget(match={"requested_model": "*"}, limit_usd="0")
    assert (await world.check())["allowed"] is False
    granted = await world.call("POST", PATH, expect=201, json=_body(subject={"requested_model": written}))
    answer = await world.check()
    assert answer["allowed"] is True
    assert [each["subject"] for each in answer["budgets"]] == [granted["subject"]]


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"amount_usd": "0"}, "amount_usd"),
        ({"amount_usd": "-1"}, "amount_usd"),
        ({"amount_usd": "NaN"}, "amount_usd"),
        ({"amount_usd": "Infinity"}, "amount_usd"),
        ({"amount_usd": "1e400"}, "amount_usd"),
        ({"amount_usd": "1_0"}, "amount_usd"),
        ({"amount_usd": "\u0661"}, "amount_usd"),
        ({"amount_usd": "8999999990.01"}, "amount_usd"),
        ({"amount_usd": True}, "amount_usd"),
        ({"amount_usd": None}, "amount_usd"),
        ({"until": "2020-01-01T00:00:00Z"}, "until"),
        ({"until": "2199-01-01T00:00:00Z"}, "until"),
        ({"until": "9999-12-31T23:59:59-14:00"}, "until"),
        ({"until": "2026-12-01T00:00:00"}, "until"),
        ({"until": "tomorrow"}, "until"),
        ({"until": 1}, "until"),
        ({"reason": ""}, "reason"),
        ({"reason": "  "}, "reason"),
        ({"reason": "a\x00b"}, "reason"),
        ({"reason": "x" * 501}, "reason"),
        ({"reason": "x" * 10_000}, "reason"),
        ({"subject": {}}, "subject"),
        ({"subject": {"team": "core"}}, "subject"),
        ({"subject": {"user": "u1", "team": "core"}}, "subject"),
        ({"subject": {"user": ""}}, "subject"),
        ({"subject": {"user": "*"}}, "subject"),
        ({"subject": {"user": 1}}, "subject[...]"),
        ({"subject": "u1"}, "subject"),
        ({"amount": "1"}, "data"),
    ],
)
async def test_what_is_no_increase_is_refused_with_the_path_of_the_field(
    client: httpx.AsyncClient, changed: dict[str, Any], field: str
):
    await _create(client)
    answer = await client.post(PATH, json=_body(**changed))
    assert answer.status_code in {400, 422}, answer.text
    assert answer.json()["field"] == field
    assert (await client.get(PATH)).json()["increases"] == []


async def test_a_lone_surrogate_is_refused(client: httpx.AsyncClient):
    await _create(client)
    raw = msgspec.json.encode(_body(reason="?")).replace(b'"?"', b'"\\ud800"')
    answer = await client.post(PATH, content=raw, headers={"content-type": "application/json"})
    assert answer.status_code in {400, 422}


async def test_a_number_is_an_amount_by_its_text(client: httpx.AsyncClient):
    await _create(client)
    raw = msgspec.json.encode(_body(amount_usd="?")).replace(b'"?"', b"0.1000000000000000000000001")
    answer = await client.post(PATH, content=raw, headers={"content-type": "application/json"})
    assert answer.json()["amount_usd"] == "0.1000000000000000000000001"


async def test_increases_are_listed_page_by_page(client: httpx.AsyncClient):
    await _create(client)
    granted = [(await _grant(client, amount_usd=str(number)))["increase_id"] for number in range(1, 6)]
    found, cursor = [], None
    while True:
        page = (await client.get(PATH, params={"limit": 2} | ({"cursor": cursor} if cursor else {}))).json()
        found += [increase["increase_id"] for increase in page["increases"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert found == granted


async def test_there_is_an_end_to_how_many_may_be_open(client: httpx.AsyncClient, pools: Pools, budget_tenant: str):
    budget = await _create(client)
    async with pools.postgres.connection() as connection:
        await connection.execute(
            "INSERT INTO budget_increase"
            " (tenant_id, increase_id, budget_id, amount_usd, granted_at, until, reason, author)"
            " SELECT %s, gen_random_uuid(), %s, 1, now(), now() + interval '1 h', 'r', 'a' FROM generate_series(1, %s)",
            (budget_tenant, budget["budget_id"], MAX_OPEN_INCREASES),
        )
    answer = await client.post(PATH, json=_body())
    assert (answer.status_code, answer.json()["code"]) == (409, "too_many_increases")


async def test_a_limit_is_within_what_counters_hold_with_its_increases_too(client: httpx.AsyncClient):
    budget = await _create(client, limit_usd="8999999990")
    await _grant(client, amount_usd="4")
    await _grant(client, amount_usd="6", subject={"user": "u1"})
    as_it_is = {name: budget[name] for name in ("match", "period")}
    for limit, code in (("8999999990.01", 422), ("8999999989", 200), ("8999999990", 200), ("9000000000", 422)):
        for method in ("PATCH", "PUT"):
            body = {"limit_usd": limit} | (as_it_is if method == "PUT" else {})
            answer = await client.request(method, "/v1/budgets/b", json=body)
            assert answer.status_code == code, (method, limit, answer.text)
            if code == 422:
                assert (answer.json()["code"], answer.json()["field"]) == ("invalid_amount", "limit_usd")
    assert (await client.get("/v1/budgets/b")).json()["limit_usd"] == "8999999990"
    answer = await client.post(PATH, json=_body(amount_usd="0.01"))
    assert (answer.status_code, answer.json()["field"]) == (422, "amount_usd")


async def test_an_archived_budget_gets_none(client: httpx.AsyncClient):
    budget = await _create(client)
    await client.delete("/v1/budgets/b")
    path = f"/v1/budgets/{budget['budget_id']}/increases"
    assert (await client.post(path, json=_body())).json()["code"] == "budget_archived"
    assert (await client.get(path)).json()["increases"] == []


@pytest.mark.parametrize("query", ["?limit=0", "?cursor=x", "?cursor=WzEsMl0", "?ended=true", "?with_ended=maybe"])
async def test_wrong_parameters_are_refused(client: httpx.AsyncClient, query: str):
    await _create(client)
    assert (await client.get(f"{PATH}{query}")).status_code in {400, 422}


async def test_what_does_not_exist_is_not_found(client: httpx.AsyncClient):
    await _create(client)
    increase = await _grant(client)
    await client.put("/v1/budgets/other", json={"match": {}, "limit_usd": "1", "period": "1d"})
    for method, path in (
        ("POST", "/v1/budgets/nobody/increases"),
        ("GET", "/v1/budgets/nobody/increases"),
        ("DELETE", f"/v1/budgets/nobody/increases/{increase['increase_id']}"),
        ("DELETE", f"/v1/budgets/other/increases/{increase['increase_id']}"),
        ("DELETE", f"{PATH}/{new_id()}"),
        ("DELETE", f"{PATH}/1"),
    ):
        assert (await client.request(method, path, json=_body())).status_code == 404, (method, path)
    assert len((await client.get(PATH)).json()["increases"]) == 1


@pytest.mark.parametrize(
    ("method", "path", "role"), [("POST", "", "admin"), ("GET", "", "read"), ("DELETE", "/1", "admin")]
)
async def test_each_request_needs_its_role(
    client: httpx.AsyncClient, make_token: MakeToken, method: str, path: str, role: str
):
    await _create(client)
    others = tuple(name for name in ("ingest", "check", "read", "admin") if name != role)
    forbidden = await client.request(method, PATH + path, json=_body(), headers=await make_token(roles=others))
    assert forbidden.status_code == 403
    unknown = await client.request(method, PATH + path, headers={"authorization": "Bearer tg_" + 43 * "x"})
    assert unknown.status_code == 401


async def test_another_tenant_and_a_narrower_scope_see_nothing(
    client: httpx.AsyncClient, make_token: MakeToken, pools: Pools
):
    budget = await _create(client)
    increase = await _grant(client)
    other = f"t-{new_id().hex}"
    async with pools.postgres.connection() as connection:
        await connection.execute("INSERT INTO tenant (tenant_id, name) VALUES (%s, 'other')", (other,))
    headers = await make_token(other)
    path = f"/v1/budgets/{budget['budget_id']}/increases"
    assert (await client.post(path, json=_body(), headers=headers)).status_code == 404
    assert (await client.get(path, headers=headers)).status_code == 404
    assert (await client.delete(f"{path}/{increase['increase_id']}", headers=headers)).status_code == 404
    narrow = await make_token(roles=("read",), scope={"team": ["edge"]})
    assert (await client.get(path, headers=narrow)).status_code == 404
    assert (await client.get(path)).json()["increases"] == [increase]


async def test_a_scope_shows_increases_of_its_own_counters_and_of_all_and_no_others(
    client: httpx.AsyncClient, make_token: MakeToken
):
    budget = await _create(client, match={"team": "*", "user": "*"})
    granted = [
        await _grant(client, amount_usd=amount, subject=subject)
        for amount, subject in (
            ("1", {"team": "ra", "user": "u1"}),
            ("2", {"team": "rb", "user": "u1"}),
            ("4", {"team": "ra", "user": "u2"}),
            ("8", None),
        )
    ]
    for scope, seen in (
        ({"team": ["ra"]}, [0, 2, 3]),
        ({"user": ["u1"]}, [0, 1, 3]),
        ({"user": ["u2", "u3"], "team": ["ra", "rb"]}, [2, 3]),
        ({"team": ["rc"]}, [3]),
        ({}, [0, 1, 2, 3]),
    ):
        headers = await make_token(roles=("read",), scope=scope)
        visible = [granted[number] for number in seen]
        assert (await client.get(PATH, headers=headers)).json()["increases"] == visible
        for key in ("b", budget["budget_id"]):
            assert (await client.get(f"/v1/budgets/{key}", headers=headers)).json()["increases"] == visible
        (listed,) = (await client.get("/v1/budgets", headers=headers)).json()["budgets"]
        assert listed["increases"] == visible
        paged: list[Any] = []
        cursor: str | None = None
        while len(paged) < 9:
            query = {"limit": "1"} | ({} if cursor is None else {"cursor": cursor})
            page = (await client.get(PATH, headers=headers, params=query)).json()
            paged += page["increases"]
            cursor = page["next_cursor"]
            if cursor is None:
                break
        assert paged == visible
    narrow = await make_token(roles=("read",), scope={"team": ["ra"], "user": ["u1"]})
    other = {"subject": '{"team":"rb","user":"u1"}'}
    assert (await client.get("/v1/budgets/b/windows", headers=narrow, params=other)).json()["windows"] == []
    own = {"subject": '{"team":"ra","user":"u1"}'}
    (window,) = (await client.get("/v1/budgets/b/windows", headers=narrow, params=own)).json()["windows"]
    assert window["increases_usd"] == "9"


async def test_a_scope_means_the_same_model_however_it_is_written(client: httpx.AsyncClient, make_token: MakeToken):
    await _create(client, match={"requested_model": "*"})
    increase = await _grant(client, subject={"requested_model": "GPT-4.1-mini"})
    headers = await make_token(roles=("read",), scope={"requested_model": ["gpt-4.1-Mini"]})
    assert (await client.get(PATH, headers=headers)).json()["increases"] == [increase]
    assert (await client.get("/v1/budgets/b", headers=headers)).json()["increases"] == [increase]


async def test_granting_and_ending_are_in_the_audit_trail(world: World):
    budget = await world.put_budget()
    increase = await world.call("POST", PATH, expect=201, json=_body())
    await world.call("DELETE", f"{PATH}/{increase['increase_id']}", expect=204)
    entries = (await world.call("GET", "/v1/audit", params={"subject_id": budget["budget_id"]}))["entries"]
    ended, granted, created = entries
    assert [entry["action"] for entry in entries] == [
        "budget_increase.ended",
        "budget_increase.granted",
        "budget.created",
    ]
    assert granted["before"] is None
    assert granted["after"]["reason"] == "launch week"
    assert granted["after"]["amount_usd"] == "5"
    assert granted["changed_by"] == increase["granted_by"]
    assert ended["before"] == granted["after"]
    assert datetime.fromisoformat(ended["after"]["until"]) < datetime.fromisoformat(ended["before"]["until"])
    assert created["after"]["slug"] == "b"
