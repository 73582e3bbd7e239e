"""`/v1/budgets` over HTTP."""

import asyncio
from typing import Any
from uuid import UUID

import httpx
import msgspec
import pytest
from litestar import Litestar

from service.db.pools import Pools
from service.kit.ids import new_id
from tests.api.budgets.conftest import MakeToken
from tests.drafts import a_draft
from tests.integration.budgets.conftest import Replica

MONTH = {"kind": "calendar", "unit": "month", "timezone": "Europe/Berlin", "start_day": 1}


def _body(**changed: Any) -> dict[str, Any]:
    return {"slug": "core", "match": {"team": "core", "user": "*"}, "limit_usd": "100.00", "period": MONTH} | changed


async def test_a_created_budget_is_answered_whole(client: httpx.AsyncClient):
    answer = await client.post("/v1/budgets", json=_body(name="core team", thresholds=[1, 0.5, "0.8"]))
    assert answer.status_code == 201
    budget = answer.json()
    assert UUID(budget.pop("budget_id"))
    assert budget.pop("created_at") > budget.pop("counts_from")
    assert budget == {
        "slug": "core",
        "name": "core team",
        "match": {"team": "core", "user": "*"},
        "limit_usd": "100",
        "period": MONTH,
        "period_meaning": "Calendar months from day 1, midnight in Europe/Berlin.",
        "mode": "enforce",
        "thresholds": [0.5, 0.8, 1.0],
        "on_unavailable": "ledger",
        "on_unpriced": "assume",
        "hold_basis": "worst_case",
        "rollover": None,
        "increases": [],
        "state": "current",
        "archived_at": None,
    }
    assert (await client.get("/v1/budgets/core")).json() == answer.json()


async def test_without_slug_and_name_a_budget_gets_them(client: httpx.AsyncClient):
    body = _body()
    del body["slug"]
    budget = (await client.post("/v1/budgets", json=body)).json()
    assert budget["slug"] == budget["name"] != ""
    assert (await client.get(f"/v1/budgets/{budget['slug']}")).status_code == 200


@pytest.mark.parametrize(
    ("short", "long", "meaning"),
    [
        (
            "30d",
            {"kind": "calendar", "unit": "month", "timezone": "UTC", "start_day": 1},
            "Calendar months from day 1, midnight in UTC.",
        ),
        ("daily", {"kind": "calendar", "unit": "day", "timezone": "UTC"}, "Calendar days from midnight in UTC."),
        (
            "1w",
            {"kind": "calendar", "unit": "week", "timezone": "UTC", "start_day": 1},
            "Calendar weeks from Monday, midnight in UTC.",
        ),
        (
            "5h",
            {"kind": "fixed", "length_seconds": 18_000, "anchor": "2001-01-01T00:00:00Z"},
            "Every 5 hours, counted from 2001-01-01T00:00:00Z.",
        ),
        (
            {"kind": "rolling", "length_seconds": 86_400},
            {"kind": "rolling", "length_seconds": 86_400},
            "The last day at any time, in steps of 1465 seconds.",
        ),
        ({"kind": "lifetime"}, {"kind": "lifetime"}, "One window that never ends."),
    ],
)
async def test_periods_are_answered_in_the_long_form_with_their_meaning(
    client: httpx.AsyncClient, short: Any, long: dict[str, Any], meaning: str
):
    budget = (await client.post("/v1/budgets", json=_body(period=short))).json()
    assert (budget["period"], budget["period_meaning"]) == (long, meaning)
    assert (await client.put("/v1/budgets/core", json=_body(period=long))).status_code == 200


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("48h", '{"kind": "fixed", "length_seconds": 172800}'),
        ("10days", '{"kind": "fixed", "length_seconds": 864000}'),
        ("36h", '{"kind": "rolling", "length_seconds": 129600}'),
        ("1.5d", '{"kind": "fixed", "length_seconds": 129600}'),
        ("0d", "1 to 316224000"),
        ("30D", 'Write "30d".'),
        ("2mo", '{"kind": "calendar", "unit": "month"}'),
        ("1month", '{"kind": "calendar", "unit": "month"}'),
        ("quarterly", '{"kind": "calendar", "unit": "quarter"}'),
        ("2y", '{"kind": "calendar", "unit": "month"}'),
        ("hourly", '{"kind": "calendar", "unit": "hour"}'),
        ("forever", '{"kind": "lifetime"}'),
        ("\u0661d", "Short forms are"),
        ("soon", "Short forms are"),
        ("x" * 10_000, "Short forms are"),
    ],
)
async def test_a_period_that_could_mean_two_things_is_refused_with_what_to_write(
    client: httpx.AsyncClient, text: str, says: str
):
    answer = await client.post("/v1/budgets", json=_body(period=text))
    problem = answer.json()
    assert (answer.status_code, problem["code"], problem["field"]) == (422, "period_not_understood", "period")
    assert says in problem["detail"]


async def test_roll_over_is_set_shown_changed_and_taken_away(client: httpx.AsyncClient):
    budget = (await client.post("/v1/budgets", json=_body(rollover={"cap_usd": 50.10}))).json()
    assert budget["rollover"] == {"cap_usd": "50.1"}
    changed = await client.patch("/v1/budgets/core", json={"rollover": {}})
    assert changed.json()["rollover"] == {"cap_usd": None}
    assert (await client.patch("/v1/budgets/core", json={"limit_usd": "1"})).json()["rollover"] == {"cap_usd": None}
    assert (await client.patch("/v1/budgets/core", json={"rollover": None})).json()["rollover"] is None
    await client.put("/v1/budgets/core", json=_body(period={"kind": "lifetime"}))
    refused = await client.patch("/v1/budgets/core", json={"rollover": {}})
    assert (refused.status_code, refused.json()["code"]) == (422, "rollover_not_possible")


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ('"0"', "0"),
        ("0.1", "0.1"),
        ("100", "100"),
        ("-0.0", "0"),
        ("1e3", "1000"),
        ("0.30000000000000004", "0.30000000000000004"),
        ('"0.1000000000000000000000001"', "0.1000000000000000000000001"),
        ("0.1000000000000000000000001", "0.1000000000000000000000001"),
    ],
)
async def test_limits_are_exact_texts_and_numbers(client: httpx.AsyncClient, text: str, limit: str):
    raw = msgspec.json.encode(_body(limit_usd="?")).replace(b'"?"', text.encode())
    answer = await client.post("/v1/budgets", content=raw, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["limit_usd"]) == (201, limit)


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"limit_usd": "NaN"}, "limit_usd"),
        ({"limit_usd": "sNaN"}, "limit_usd"),
        ({"limit_usd": "Infinity"}, "limit_usd"),
        ({"limit_usd": "-Infinity"}, "limit_usd"),
        ({"limit_usd": "-0.01"}, "limit_usd"),
        ({"limit_usd": "1e400"}, "limit_usd"),
        ({"limit_usd": "9223372036854775808"}, "limit_usd"),
        ({"limit_usd": "0." + 41 * "1"}, "limit_usd"),
        ({"limit_usd": "a lot"}, "limit_usd"),
        ({"limit_usd": "1_0"}, "limit_usd"),
        ({"limit_usd": "\u0661"}, "limit_usd"),
        ({"limit_usd": " 1"}, "limit_usd"),
        ({"limit_usd": "0x10"}, "limit_usd"),
        ({"limit_usd": ""}, "limit_usd"),
        ({"limit_usd": "9000000000.01"}, "limit_usd"),
        ({"thresholds": ["0_5"]}, "thresholds[0]"),
        ({"rollover": {"cap_usd": "1_0"}}, "rollover.cap_usd"),
        ({"rollover": {"cap_usd": "0"}}, "rollover.cap_usd"),
        ({"rollover": {"cap_usd": "-1"}}, "rollover.cap_usd"),
        ({"rollover": {"cap_usd": "NaN"}}, "rollover.cap_usd"),
        ({"rollover": {"cap_usd": "1e400"}}, "rollover.cap_usd"),
        ({"rollover": {}, "period": {"kind": "lifetime"}}, "rollover"),
        ({"rollover": {}, "period": {"kind": "rolling", "length_seconds": 86400}}, "rollover"),
        ({"rollover": {}, "period": "1h"}, "rollover"),
        ({"match": {"team": 1.5}}, "match.team"),
        ({"match": {"tags": "a"}}, "match.tags"),
        ({"match": {"model": "a"}}, "match.model"),
        ({"match": {"team": []}}, "match.team"),
        ({"match": {"team": ["a", 1]}}, "match.team[1]"),
        ({"match": {"team": "a\x00b", "Team": "x"}}, "match.Team"),
        (
            {
                "match": dict.fromkeys(
                    ("organization", "team", "project", "user", "agent", "session", "tag", "end_user", "provider"), "x"
                )
            },
            "match",
        ),
        ({"period": "48h"}, "period"),
        ({"period": "10days"}, "period"),
        ({"period": {"kind": "calendar", "unit": "day", "timezone": "Europe/Atlantis"}}, "period.timezone"),
        ({"period": {"kind": "rolling", "length_seconds": 59}}, "period.length_seconds"),
        ({"period": {"kind": "sliding", "length_seconds": 60}}, "period.kind"),
        ({"name": ""}, "name"),
        ({"name": "x" * 201}, "name"),
        ({"slug": ""}, "slug"),
        ({"slug": "a/b"}, "slug"),
        ({"slug": "a b"}, "slug"),
        ({"slug": str(new_id())}, "slug"),
        ({"slug": new_id().hex}, "slug"),
        ({"thresholds": [0.5, 0]}, "thresholds[1]"),
        ({"thresholds": ["NaN"]}, "thresholds[0]"),
        ({"thresholds": ["sNaN"]}, "thresholds[0]"),
        ({"thresholds": ["1e-9"]}, "thresholds[0]"),
        ({"thresholds": ["1e999999999"]}, "thresholds[0]"),
        ({"thresholds": ["1e-999999999"]}, "thresholds[0]"),
        ({"thresholds": [0.1] * 21}, "thresholds"),
    ],
)
async def test_what_is_no_budget_is_refused_with_the_path_of_the_field(
    client: httpx.AsyncClient, changed: dict[str, Any], field: str
):
    answer = await client.post("/v1/budgets", json=_body(**changed))
    assert (answer.status_code, answer.json().get("field")) == (422, field)
    assert answer.headers["content-type"] == "application/problem+json"
    assert (await client.get("/v1/budgets")).json()["budgets"] == []


@pytest.mark.parametrize(
    "changed",
    [
        {"limit_usd": True},
        {"limit_usd": None},
        {"limit_usd": {}},
        {"limit_usd": [1]},
        {"limit": "1"},
        {"match": None},
        {"match": "core"},
        {"period": 30},
        {"mode": "off"},
        {"on_unavailable": "maybe"},
        {"on_unpriced": None},
        {"hold_basis": "typical"},
        {"rollover": True},
        {"rollover": {"cap": "1"}},
        {"rollover": {"cap_usd": False}},
        {"thresholds": [None]},
        {"name": 1.5},
    ],
)
async def test_what_has_the_wrong_type_is_refused(client: httpx.AsyncClient, changed: dict[str, Any]):
    answer = await client.post("/v1/budgets", json=_body(**changed))
    assert answer.status_code in {400, 422}
    assert answer.json()["code"] == "invalid_input"
    assert (await client.get("/v1/budgets")).json()["budgets"] == []


@pytest.mark.parametrize("missing", ["match", "limit_usd", "period"])
async def test_match_limit_and_period_have_no_defaults(client: httpx.AsyncClient, missing: str):
    body = _body()
    del body[missing]
    assert (await client.post("/v1/budgets", json=body)).status_code in {400, 422}


async def test_a_taken_slug_is_a_conflict(client: httpx.AsyncClient):
    answers = await asyncio.gather(*(client.post("/v1/budgets", json=_body()) for _ in range(4)))
    assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409]
    assert {answer.json().get("code") for answer in answers} == {None, "slug_taken"}


async def test_putting_the_same_budget_again_changes_nothing(
    client: httpx.AsyncClient, replica: Replica, budget_tenant: str
):
    first = await client.put("/v1/budgets/core", json=_body())
    version = (await replica.configs.reload(budget_tenant)).version
    second = await client.put("/v1/budgets/core", json=_body(limit_usd=100))
    assert (first.status_code, second.status_code) == (201, 200)
    assert first.json() == second.json()
    assert (await replica.configs.reload(budget_tenant)).version == version


async def test_putting_other_terms_changes_the_budget_in_place(client: httpx.AsyncClient):
    first = (await client.put("/v1/budgets/core", json=_body(mode="shadow"))).json()
    second = (await client.put("/v1/budgets/core", json=_body(limit_usd="5"))).json()
    assert second == first | {"limit_usd": "5", "mode": "enforce"}


@pytest.mark.parametrize("changed", [{"match": {"team": "core"}}, {"period": "1d"}])
async def test_putting_another_match_or_period_makes_another_budget(client: httpx.AsyncClient, changed: dict[str, Any]):
    first = (await client.put("/v1/budgets/core", json=_body())).json()
    answer = await client.put("/v1/budgets/core", json=_body(**changed))
    assert answer.status_code == 201
    assert answer.json()["budget_id"] != first["budget_id"]
    archived = (await client.get(f"/v1/budgets/{first['budget_id']}")).json()
    assert (archived["state"], archived["archived_at"] is None) == ("archived", False)
    listed = (await client.get("/v1/budgets")).json()["budgets"]
    assert [budget["budget_id"] for budget in listed] == [answer.json()["budget_id"]]


async def test_concurrent_puts_of_one_slug_leave_one_budget(client: httpx.AsyncClient):
    bodies = [_body(match={"team": f"t{number % 2}"}) for number in range(6)]
    answers = await asyncio.gather(*(client.put("/v1/budgets/core", json=body) for body in bodies))
    assert {answer.status_code for answer in answers} <= {200, 201}
    assert len((await client.get("/v1/budgets")).json()["budgets"]) == 1


async def test_the_slug_of_a_put_is_the_one_of_the_path(client: httpx.AsyncClient):
    assert (await client.put("/v1/budgets/other", json=_body())).json()["field"] == "slug"
    body = _body()
    del body["slug"]
    assert (await client.put("/v1/budgets/other", json=body)).json()["slug"] == "other"


@pytest.mark.parametrize("key", ["slug", "budget_id"])
async def test_terms_change_in_place(client: httpx.AsyncClient, key: str):
    budget = (await client.post("/v1/budgets", json=_body(thresholds=[0.5]))).json()
    answer = await client.patch(f"/v1/budgets/{budget[key]}", json={"limit_usd": 0, "mode": "shadow", "name": "zero"})
    assert answer.json() == budget | {"limit_usd": "0", "mode": "shadow", "name": "zero"}


@pytest.mark.parametrize(
    "body", [{"match": {}}, {"period": "1d"}, {"slug": "x"}, {"limit_usd": "NaN"}, {"limit_usd": None}]
)
async def test_what_cannot_change_in_place_is_refused(client: httpx.AsyncClient, body: dict[str, Any]):
    budget = (await client.post("/v1/budgets", json=_body())).json()
    assert (await client.patch("/v1/budgets/core", json=body)).status_code in {400, 422}
    assert (await client.get("/v1/budgets/core")).json() == budget


async def test_a_deleted_budget_is_archived_and_its_slug_is_free(client: httpx.AsyncClient):
    budget = (await client.post("/v1/budgets", json=_body())).json()
    by_id = f"/v1/budgets/{budget['budget_id']}"
    assert (await client.delete("/v1/budgets/core")).status_code == 204
    assert (await client.delete(by_id)).status_code == 204
    assert (await client.delete("/v1/budgets/core")).status_code == 404
    assert (await client.get("/v1/budgets/core")).status_code == 404
    assert (await client.get(by_id)).json()["state"] == "archived"
    assert (await client.patch(by_id, json={"limit_usd": "1"})).json()["code"] == "budget_archived"
    assert (await client.patch(by_id, json={})).status_code == 409
    assert (await client.post("/v1/budgets", json=_body())).status_code == 201
    archived = (await client.get("/v1/budgets", params={"state": "archived"})).json()["budgets"]
    assert [b["budget_id"] for b in archived] == [budget["budget_id"]]


async def test_budgets_are_listed_by_slug_page_by_page(client: httpx.AsyncClient):
    for slug in ("c", "a", "e", "b", "d"):
        await client.post("/v1/budgets", json=_body(slug=slug))
    found, cursor = [], None
    while True:
        page = (await client.get("/v1/budgets", params={"limit": 2} | ({"cursor": cursor} if cursor else {}))).json()
        found += [budget["slug"] for budget in page["budgets"]]
        assert len(page["budgets"]) <= 2
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert found == ["a", "b", "c", "d", "e"]


@pytest.mark.parametrize(
    "query", ["?limit=0", "?limit=1001", "?cursor=x", "?cursor=WzFd", "?cursor=WzEsMl0", "?stat=archived"]
)
async def test_wrong_parameters_of_the_list_are_refused(client: httpx.AsyncClient, query: str):
    assert (await client.get(f"/v1/budgets{query}")).status_code == 422


async def test_an_unknown_state_is_refused(client: httpx.AsyncClient):
    assert (await client.get("/v1/budgets?state=gone")).status_code in {400, 422}


@pytest.mark.parametrize("key", ["nobody", "01a1fbd7-4412-76ba-9c63-073036020e21", "%00", "a%2Fb"])
async def test_an_unknown_budget_is_not_found(client: httpx.AsyncClient, key: str):
    for answer in (
        await client.get(f"/v1/budgets/{key}"),
        await client.patch(f"/v1/budgets/{key}", json={}),
        await client.delete(f"/v1/budgets/{key}"),
        await client.get(f"/v1/budgets/{key}/windows"),
    ):
        assert answer.status_code == 404


async def test_a_new_budget_counts_what_the_present_window_has_seen(
    client: httpx.AsyncClient, replica: Replica, budget_tenant: str
):
    await replica.recorder.record([a_draft(budget_tenant, cost="0.25", user=f"u{n}") for n in range(4)])
    await client.post("/v1/budgets", json=_body())
    windows = (await client.get("/v1/budgets/core/windows", params={"subject": "u2"})).json()["windows"]
    assert [(window["subject"], window["posted_usd"], window["available_usd"]) for window in windows] == [
        ({"user": "u2"}, "0.25", "99.75")
    ]


async def test_an_importer_need_not_wait_for_the_seeding(
    client: httpx.AsyncClient, replica: Replica, budget_tenant: str
):
    await replica.recorder.record([a_draft(budget_tenant)])
    answer = await client.post("/v1/budgets", params={"seeding_wait_ms": 0}, json=_body())
    assert (answer.status_code, answer.json()["state"]) == (201, "seeding")
    await replica.seeder.run_once()
    assert (await client.get("/v1/budgets/core")).json()["state"] == "current"


@pytest.mark.parametrize(
    ("method", "path", "role"),
    [
        ("POST", "/v1/budgets", "admin"),
        ("PUT", "/v1/budgets/core", "admin"),
        ("PATCH", "/v1/budgets/core", "admin"),
        ("DELETE", "/v1/budgets/core", "admin"),
        ("GET", "/v1/budgets", "read"),
        ("GET", "/v1/budgets/core", "read"),
        ("GET", "/v1/budgets/core/windows", "read"),
    ],
)
async def test_each_request_needs_its_role(
    client: httpx.AsyncClient, make_token: MakeToken, method: str, path: str, role: str
):
    others = [name for name in ("ingest", "check", "read", "admin") if name != role]
    forbidden = await client.request(method, path, json=_body(), headers=await make_token(roles=tuple(others)))
    assert forbidden.status_code == 403
    unknown = await client.request(method, path, json=_body(), headers={"authorization": "Bearer tg_" + 43 * "x"})
    assert unknown.status_code == 401


async def test_another_tenant_sees_and_changes_nothing(client: httpx.AsyncClient, make_token: MakeToken, pools: Pools):
    budget = (await client.post("/v1/budgets", json=_body())).json()
    other = f"t-{new_id().hex}"
    async with pools.postgres.connection() as connection:
        await connection.execute("INSERT INTO tenant (tenant_id, name) VALUES (%s, 'other')", (other,))
    headers = await make_token(other)
    for key in ("core", budget["budget_id"]):
        path = f"/v1/budgets/{key}"
        assert (await client.get(path, headers=headers)).status_code == 404
        assert (await client.get(f"{path}/windows", headers=headers)).status_code == 404
        assert (await client.patch(path, json={"limit_usd": "1"}, headers=headers)).status_code == 404
        assert (await client.delete(path, headers=headers)).status_code == 404
    assert (await client.get("/v1/budgets", headers=headers)).json()["budgets"] == []
    assert (await client.get("/v1/budgets/core")).json() == budget


async def test_a_scope_shows_the_budgets_it_confines_and_no_others(client: httpx.AsyncClient, make_token: MakeToken):
    matches: dict[str, dict[str, Any]] = {
        "everything": {},
        "core": {"team": "core"},
        "both": {"team": ["core", "edge"]},
        "each": {"team": "*"},
        "other": {"team": "other"},
        "wide": {"team": ["core", "other"]},
        "prefix": {"team": {"prefix": "co"}},
        "absent": {"team": None},
        "user": {"user": "u1"},
    }
    for slug, match in matches.items():
        await client.post("/v1/budgets", json=_body(slug=slug, match=match))
    headers = await make_token(roles=("read",), scope={"team": ["core", "edge"]})
    shown = [budget["slug"] for budget in (await client.get("/v1/budgets", headers=headers)).json()["budgets"]]
    assert shown == ["both", "core", "each"]
    for slug in matches:
        for path in (f"/v1/budgets/{slug}", f"/v1/budgets/{slug}/windows"):
            assert ((await client.get(path, headers=headers)).status_code == 200) is (slug in shown)


async def test_the_description_shows_amounts_as_texts(app: Litestar):
    schemas = app.openapi_schema.to_schema()["components"]["schemas"]
    [view] = [schema for name, schema in schemas.items() if name.endswith("BudgetView")]
    assert view["properties"]["limit_usd"] == {"type": "string"}
