"""JSON bodies of every slice are read alike: strictly, as they are written."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from service.app import create_app
from service.settings import Settings
from tests.api.checks.world import World
from tests.app_client import running_client


@pytest.fixture
async def world(settings: Settings, tenant_id: str) -> AsyncIterator[World]:
    async with running_client(app := create_app(settings)) as client:
        opened = World(app.state.services, client, tenant_id)
        await opened.create_tenant()
        yield opened


BACKTEST = '{"budget": {"match": {}, "limit_usd": "1", "period": {"kind": "lifetime"}}, "from": "2026-01-01",'
LAX = [
    ("POST", "/v1/tokens", '{"name": "n", "roles": ["read"], "reserve": "1"}', "reserve"),
    ("POST", "/v1/tokens", '{"name": "n", "roles": ["read"], "reserve": 1}', "reserve"),
    ("POST", "/v1/tokens", '{"name": "n", "roles": ["read"], "expires_at": "null"}', "expires_at"),
    ("POST", "/v1/tokens", '{"name": "n", "roles": ["read"], "expires_at": 1893456000}', "expires_at"),
    ("POST", "/v1/webhooks", '{"url": "https://example.com/", "escape_markup": "-0"}', "escape_markup"),
    ("POST", "/v1/webhooks", '{"url": "https://example.com/", "escape_markup": "true"}', "escape_markup"),
    ("POST", "/v1/webhooks", '{"url": "https://example.com/", "escape_markup": 0}', "escape_markup"),
    ("PATCH", "/v1/settings", '{"trust_gateway_custom_prices": "true"}', "trust_gateway_custom_prices"),
    ("PATCH", "/v1/settings", '{"deny_status": "429"}', "deny_status"),
    ("PUT", "/v1/keys/k", '{"blocked": "false"}', "blocked"),
    ("POST", "/v1/budgets/backtest", BACKTEST + '"to": "2026-01-02", "limit": "1e3"}', "limit"),
    ("PUT", "/v1/budgets/b", '{"name": "b", "match": {}, "limit_usd": true, "period": "month"}', "limit_usd"),
    (
        "PUT",
        "/v1/budgets/b",
        '{"name": "b", "match": {"team": 1.5}, "limit_usd": "1", "period": {"kind": "lifetime"}}',
        "match.team",
    ),
]


@pytest.mark.parametrize(("method", "path", "body", "field"), LAX)
async def test_a_value_of_another_type_is_refused(world: World, method: str, path: str, body: str, field: str):
    headers = world.headers | {"content-type": "application/json"}
    answer = await world.client.request(method, path, headers=headers, content=body)
    assert answer.status_code in {400, 422}, answer.text
    assert (answer.json()["code"], answer.json()["field"]) == ("invalid_input", field)


TWICE = [
    ("POST", "/v1/tokens", '{"name": "n", "roles": ["admin"], "roles": ["read"]}', "roles"),
    ("PUT", "/v1/budgets/b", '{"name": "b", "match": {}, "limit_usd": 1, "period": "m", "limit_usd": 2}', "limit_usd"),
    ("PUT", "/v1/budgets/b", '{"name": "b", "limit_usd": 1, "period": "m", "match": {"a": 1, "a": 2}}', "a"),
    ("POST", "/v1/webhooks", '{"url": "https://example.com/", "template": {"a": [{"b": 1, "b": 2}]}}', "b"),
    ("POST", "/v1/webhooks", '{"url": "https://example.com/", "template": {"a": 1, "\\u0061": 2}}', "a"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path", "body", "field"), TWICE)
async def test_a_name_given_twice_is_refused(world: World, method: str, path: str, body: str, field: str):
    headers = world.headers | {"content-type": "application/json"}
    answer = await world.client.request(method, path, headers=headers, content=body)
    assert (answer.status_code, answer.json()["code"], answer.json()["field"]) == (400, "invalid_input", field)
    assert "twice" in answer.json()["detail"]


async def test_numbers_keep_their_text(world: World):
    body = '{"name": "b", "match": {}, "limit_usd": 0.12345678901234567890, "period": {"kind": "lifetime"}}'
    headers = world.headers | {"content-type": "application/json"}
    answer = await world.client.put("/v1/budgets/b", headers=headers, content=body)
    assert (answer.status_code, answer.json()["limit_usd"]) == (201, "0.1234567890123456789")


@pytest.mark.parametrize(
    "body", ["", "null", "[]", "{", '"text"', "[" * 5_000, '{"name": 1e400}', '{"name": "\\ud800"}']
)
@pytest.mark.parametrize("path", ["/v1/tokens", "/v1/webhooks", "/v1/budgets", "/v1/price-overrides"])
async def test_what_is_no_object_is_refused(world: World, path: str, body: Any):
    headers = world.headers | {"content-type": "application/json"}
    answer = await world.client.post(path, headers=headers, content=body)
    assert answer.status_code == 400, answer.text


@pytest.mark.parametrize(("begin", "end"), [("[", "]"), ('{"a":', "}")])
async def test_a_body_nested_ever_deeper_is_refused(world: World, begin: str, end: str):
    headers = world.headers | {"content-type": "application/json"}
    for depth in (20, 100, 300, *range(850, 1_010, 10), 5_000):
        content = f'{{"url": "https://example.com/", "template": {begin * depth}1{end * depth}}}'
        answer = await world.client.post("/v1/webhooks", headers=headers, content=content)
        assert answer.status_code in {400, 422}, (depth, answer.text)
