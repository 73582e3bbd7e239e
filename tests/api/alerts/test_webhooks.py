"""Webhooks as administrators see them, and lists as far as a token's scope reaches."""

from typing import Any

import pytest

from service.app import create_app
from service.kit.ids import new_id
from service.settings import Settings
from tests.api.alerts.alert_world import SHARES, AlertWorld
from tests.api.checks.world import World
from tests.app_client import running_client

HOOK = "http://127.0.0.1:9/hook"


async def test_a_webhook_is_created_shown_changed_and_deleted(world: AlertWorld):
    for slug in ("a", "b"):
        await world.put_budget(slug)
    body = {
        "url": HOOK,
        "description": "on call",
        "events": ["budget.threshold_reached"],
        "budgets": ["a", "b", "a"],
        "template": {"text": "${text}"},
        "escape_markup": True,
    }
    created = await world.call("POST", "/v1/webhooks", json=body, expect=201)
    secret = created.pop("secret")
    assert secret.startswith("whsec_")
    assert created | body | {"budgets": ["a", "b"], "enabled": True, "disabled_reason": None} == created
    listed = await world.call("GET", "/v1/webhooks")
    assert listed == {"webhooks": [created], "next_cursor": None}
    assert await world.call("GET", f"/v1/webhooks/{created['id']}") == created
    change = {"template": None, "events": [], "enabled": False}
    changed = await world.call("PATCH", f"/v1/webhooks/{created['id']}", json=change)
    assert changed == created | change | {"disabled_reason": "disabled by an administrator"}
    enabled = await world.call("PATCH", f"/v1/webhooks/{created['id']}", json={"enabled": True})
    assert (enabled["enabled"], enabled["disabled_reason"]) == (True, None)
    await world.call("DELETE", f"/v1/webhooks/{created['id']}", expect=204)
    await world.call("GET", f"/v1/webhooks/{created['id']}", expect=404)
    entries = (await world.call("GET", "/v1/audit", params={"subject_id": created["id"]}))["entries"]
    assert [entry["action"] for entry in entries] == [
        "webhook.deleted",
        "webhook.changed",
        "webhook.changed",
        "webhook.created",
    ]
    assert entries[-1]["after"]["description"] == "on call"
    assert secret not in str(entries)
    assert "/hook" not in str(entries)


async def test_a_change_of_nothing_is_no_change(world: AlertWorld):
    webhook, _ = await world.create_webhook()
    await world.call("PATCH", f"/v1/webhooks/{webhook['id']}", json={})
    entries = (await world.call("GET", "/v1/audit", params={"subject_id": webhook["id"]}))["entries"]
    assert [entry["action"] for entry in entries] == ["webhook.created"]


async def test_budgets_there_are_not_are_refused(world: AlertWorld, other_world: AlertWorld):
    await world.put_budget("known")
    await other_world.put_budget("theirs")
    for unknown in ("typo", "theirs"):
        body = {"url": HOOK, "budgets": ["known", unknown]}
        problem = await world.call("POST", "/v1/webhooks", json=body, expect=422)
        assert (problem["code"], problem["field"]) == ("unknown_budget", "budgets[1]")
        assert unknown in problem["detail"]
    webhook = await world.call("POST", "/v1/webhooks", json={"url": HOOK, "budgets": ["known"]}, expect=201)
    change = {"budgets": ["typo"]}
    problem = await world.call("PATCH", f"/v1/webhooks/{webhook['id']}", json=change, expect=422)
    assert (problem["code"], problem["field"]) == ("unknown_budget", "budgets[0]")


async def test_a_webhook_of_a_budget_that_is_archived_can_still_be_changed(world: AlertWorld):
    await world.put_budget("gone")
    webhook = await world.call("POST", "/v1/webhooks", json={"url": HOOK, "budgets": ["gone"]}, expect=201)
    await world.call("DELETE", "/v1/budgets/gone", expect=204)
    change = {"description": "x", "budgets": ["gone"]}
    await world.call("PATCH", f"/v1/webhooks/{webhook['id']}", json=change)


@pytest.mark.parametrize(
    ("budgets", "told"), [(["\x00"], "no slug"), (["b", "x" * 10_000], "no slug"), (["b"] * 101, "At most 100")]
)
async def test_what_is_wrong_with_a_filter_of_budgets_is_told(world: AlertWorld, budgets: list[str], told: str):
    problem = await world.call("GET", "/v1/alerts", params={"budget": budgets}, expect=422)
    assert problem["field"] == "budget"
    assert told in problem["detail"]
    assert len(problem["detail"]) < 300


@pytest.mark.parametrize("number", ["1e-400", "0.1234567890123456789", "1e400", "1" * 30])
async def test_a_number_that_would_be_sent_as_another_is_refused(world: AlertWorld, number: str):
    headers = world.headers | {"content-type": "application/json"}
    webhook, _ = await world.create_webhook()
    for method, path in (("POST", "/v1/webhooks"), ("PATCH", f"/v1/webhooks/{webhook['id']}")):
        content = f'{{"url": "{HOOK}", "template": {{"a": {number}}}}}'
        answer = await world.client.request(method, path, headers=headers, content=content)
        assert (answer.status_code, answer.json()["field"]) == (422, "template.a")


async def test_webhooks_are_listed_in_pages(world: AlertWorld):
    created = [(await world.create_webhook())[0]["id"] for _ in range(5)]
    first = await world.call("GET", "/v1/webhooks", params={"limit": "3"})
    second = await world.call("GET", "/v1/webhooks", params={"limit": "3", "cursor": first["next_cursor"]})
    assert [webhook["id"] for webhook in first["webhooks"] + second["webhooks"]] == created
    assert second["next_cursor"] is None
    assert "secret" not in str(first)


async def test_there_is_an_end_to_webhooks(world: AlertWorld, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("service.alerts.service.MAX_WEBHOOKS", 2)
    await world.create_webhook()
    await world.create_webhook()
    problem = await world.call("POST", "/v1/webhooks", json={"url": HOOK}, expect=409)
    assert problem["code"] == "too_many_webhooks"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, None),
        ({"url": 5}, "url"),
        ({"url": ""}, "url"),
        ({"url": "x" * 10_000}, "url"),
        ({"url": "ftp://example.com/"}, "url"),
        ({"url": "https://user:pass@example.com/"}, "url"),
        ({"url": "https://169.254.169.254/latest/"}, "url"),
        ({"url": "https://nobody.invalid/"}, "url"),
        ({"url": "https://exa\u0000mple.com/"}, "url"),
        ({"url": HOOK, "events": ["budget.unknown"]}, "events[0]"),
        ({"url": HOOK, "events": ["webhook.test"]}, "events[0]"),
        ({"url": HOOK, "events": "budget.threshold_reached"}, "events"),
        ({"url": HOOK, "budgets": ["\u0000"]}, "budgets[0]"),
        ({"url": HOOK, "budgets": [""]}, "budgets[0]"),
        ({"url": HOOK, "budgets": ["a"] * 101}, "budgets"),
        ({"url": HOOK, "description": "\u0000"}, "description"),
        ({"url": HOOK, "description": "x" * 501}, "description"),
        ({"url": HOOK, "template": "${nothing}"}, "template"),
        ({"url": HOOK, "template": {"a": ["\u0000"]}}, "template.a[0]"),
        ({"url": HOOK, "template": "x" * 20_000}, "template"),
        ({"url": HOOK, "template": "${data}" * 2_000}, "template"),
        ({"url": HOOK, "template": {"a": 2**64}}, "template.a"),
        ({"url": HOOK, "escape_markup": "perhaps"}, "escape_markup"),
        ({"url": HOOK, "secret": "whsec_mine"}, None),
    ],
)
async def test_what_is_no_webhook_is_refused(world: AlertWorld, body: dict[str, Any], field: str | None):
    for method, path, document in (
        ("POST", "/v1/webhooks", body),
        ("PATCH", f"/v1/webhooks/{(await world.create_webhook())[0]['id']}", body),
    ):
        if method == "PATCH" and body == {}:
            continue
        answer = await world.client.request(method, path, headers=world.headers, json=document)
        assert answer.status_code in {400, 422}, answer.text
        if field is not None:
            assert answer.json()["field"] == field


@pytest.mark.parametrize(
    "text",
    ['{"url": "\\ud800"}', '{"template": "\\ud800"}', "NaN", '{"url": 1e400}', "[" * 5_000, '{"template": 1e999}', ""],
)
async def test_what_is_no_json_is_refused(world: AlertWorld, text: str):
    headers = world.headers | {"content-type": "application/json"}
    answer = await world.client.post("/v1/webhooks", headers=headers, content=text)
    assert answer.status_code in {400, 422}, answer.text


@pytest.mark.parametrize(
    "url",
    [
        "https://10.0.0.1/",
        "https://127.0.0.1/",
        "https://[::1]/",
        "https://[fc00::1]/",
        "https://[::ffff:10.0.0.1]/",
        "https://localhost/",
        "http://example.com/",
    ],
)
async def test_by_default_nothing_inside_a_private_network_is_a_webhook(settings: Settings, tenant_id: str, url: str):
    async with running_client(app := create_app(settings)) as client:
        world = World(app.state.services, client, tenant_id)
        await world.create_tenant()
        problem = await world.call("POST", "/v1/webhooks", json={"url": url}, expect=422)
    assert (problem["code"], problem["field"]) == ("url_not_allowed", "url")
    assert "TALLYGATE_ALERTS_ALLOW_PRIVATE_ADDRESSES" in problem["detail"]


ROUTES = [
    ("GET", "/v1/webhooks", "admin"),
    ("POST", "/v1/webhooks", "admin"),
    ("GET", "/v1/webhooks/{id}", "admin"),
    ("PATCH", "/v1/webhooks/{id}", "admin"),
    ("DELETE", "/v1/webhooks/{id}", "admin"),
    ("POST", "/v1/webhooks/{id}/test", "admin"),
    ("GET", "/v1/alerts", "read"),
    ("GET", "/v1/alerts/deliveries", "read"),
]


@pytest.mark.parametrize(("method", "path", "role"), ROUTES)
async def test_every_route_wants_a_token_with_its_role(world: AlertWorld, method: str, path: str, role: str):
    webhook, _ = await world.create_webhook()
    address = path.format(id=webhook["id"])
    body: dict[str, Any] = {"json": {"url": HOOK}} if method in {"POST", "PATCH"} else {}
    await world.call(method, address, headers={"authorization": "Bearer tg_nobody"}, expect=401, **body)
    others = await world.make_token(roles=frozenset({"ingest", "check", "read"} - {role}))
    await world.call(method, address, headers=others, expect=403, **body)


async def test_another_tenants_webhooks_and_alerts_do_not_exist(world: AlertWorld, other_world: AlertWorld):
    webhook, _ = await world.create_webhook()
    await world.put_budget(limit_usd="10", thresholds=SHARES)
    await world.post_event(cost="6")
    await world.settled("delivered")
    for method, suffix in (("GET", ""), ("PATCH", ""), ("DELETE", ""), ("POST", "/test")):
        body: dict[str, Any] = {"json": {}} if method == "PATCH" else {}
        await other_world.call(method, f"/v1/webhooks/{webhook['id']}{suffix}", expect=404, **body)
    assert (await other_world.call("GET", "/v1/webhooks"))["webhooks"] == []
    assert await other_world.alerts() == []
    assert await other_world.deliveries() == []
    await world.call("GET", f"/v1/webhooks/{new_id()}", expect=404)


async def test_a_narrow_token_sees_the_alerts_of_its_part_only(world: AlertWorld):
    await world.create_webhook()
    await world.put_budget("all", limit_usd="10", thresholds=[0.5])
    await world.put_budget("each-team", match={"team": "*"}, limit_usd="10", thresholds=[0.5])
    await world.put_budget("core", match={"team": "core"}, limit_usd="10", thresholds=[0.5])
    await world.put_budget("both", match={"team": ["core", "web"]}, limit_usd="10", thresholds=[0.5])
    for team in ("core", "web"):
        await world.post_event(cost="6", metadata={"user_api_key_team_id": team})
    await world.raised(5)
    await world.settled("delivered", 5)
    narrow = await world.make_token(roles=frozenset({"read"}), scope={"team": ["core"]})
    alerts = (await world.call("GET", "/v1/alerts", headers=narrow))["alerts"]
    assert sorted((alert["budget"]["slug"], alert["subject"].get("team")) for alert in alerts) == [
        ("core", None),
        ("each-team", "core"),
    ]
    deliveries = (await world.call("GET", "/v1/alerts/deliveries", headers=narrow))["deliveries"]
    assert {delivery["alert_id"] for delivery in deliveries} == {alert["id"] for alert in alerts}


async def test_alerts_are_filtered_and_paged(world: AlertWorld):
    first = await world.put_budget("first", limit_usd="10", thresholds=SHARES)
    await world.put_budget("second", limit_usd="10", thresholds=[0.5])
    await world.post_event(cost="20")
    await world.raised(4)
    assert len(await world.alerts(budget="first")) == 3
    assert len(await world.alerts(budget=first["budget_id"])) == 3
    assert len(await world.alerts(budget=["first", "second"])) == 4
    assert await world.alerts(budget="third") == []
    assert await world.alerts(kind="projected_exhaustion") == []
    assert len(await world.alerts(kind=["threshold", "projected_exhaustion"])) == 4
    assert await world.alerts(to="2020-01-01") == []
    seen: list[str] = []
    cursor = None
    while True:
        page = await world.call("GET", "/v1/alerts", params={"limit": "1"} | ({"cursor": cursor} if cursor else {}))
        seen += [alert["id"] for alert in page["alerts"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == [alert["id"] for alert in reversed(await world.alerts())]


async def test_deliveries_are_filtered_and_paged(world: AlertWorld):
    webhook, _ = await world.create_webhook()
    await world.create_webhook()
    await world.put_budget(limit_usd="10", thresholds=[0.5])
    await world.post_event(cost="6")
    await world.settled("delivered", 2)
    assert len(await world.deliveries(webhook_id=webhook["id"])) == 1
    assert await world.deliveries(state="failed") == []
    first = await world.call("GET", "/v1/alerts/deliveries", params={"limit": "1"})
    rest = {"limit": "1", "cursor": first["next_cursor"]}
    second = await world.call("GET", "/v1/alerts/deliveries", params=rest)
    assert second["next_cursor"] is None
    assert len({each["id"] for each in first["deliveries"] + second["deliveries"]}) == 2


@pytest.mark.parametrize("path", ["/v1/alerts", "/v1/alerts/deliveries", "/v1/webhooks"])
@pytest.mark.parametrize(
    "parameters",
    [
        {"limit": "0"},
        {"limit": "1e3"},
        {"cursor": "x"},
        {"cursor": "WyJcdTAwMDAiLCIxIiwiMiIsIjMiXQ"},
        {"unknown": "1"},
        {"from": "never", "kind": "threshold"},
        {"kind": "other"},
        {"state": "other"},
        {"webhook_id": "other"},
        {"budget": "\x00"},
        {"budget": "x" * 10_000},
        {"from": "2026-01-02", "to": "2026-01-01"},
    ],
)
async def test_hostile_parameters_are_refused(world: AlertWorld, path: str, parameters: dict[str, str]):
    answer = await world.client.get(path, headers=world.headers, params=parameters)
    assert answer.status_code in {400, 422}, answer.text
