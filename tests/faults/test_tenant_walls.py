"""Fault 30: other tenants' tokens and ids, tokens that count no more, identities that are only claimed."""

import json
from datetime import timedelta
from decimal import Decimal
from typing import Any

import httpx
import pytest

from service.db.pools import Pools
from service.kit.clock import utc_now
from service.kit.ids import new_id
from tests.faults.chat_events import chat_event
from tests.faults.conftest import MakeTenant, Tenant
from tests.faults.replica import Caller, Replica, together
from tests.faults.waiting import until

CALL = {"model": "gpt-4.1-mini", "input_tokens": 1_000, "max_output_tokens": 1_000}
COST = Decimal("0.002")
KEY = "a" * 64

_TABLES = """
SELECT c.relname FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attname = 'tenant_id'
WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relnamespace = 'public'::regnamespace
ORDER BY c.relname
"""
_FORGED = {
    "x-tallygate-team": "rich",
    "x-tallygate-user": "admin",
    "x-tallygate-organization": "everything",
    "x-tallygate-tenant": "default",
    "x-tenant-id": "default",
    "x-forwarded-user": "admin",
    "x-litellm-api-key": "sk-forged",
    "x-api-key": "sk-forged",
}


async def _state(ledger: Pools, tenant: Tenant) -> dict[str, Any]:
    """Return everything that is stored about a tenant, in PostgreSQL and in Redis."""
    state: dict[str, Any] = {}
    async with ledger.postgres.connection() as connection:
        tables = [row[0] for row in await (await connection.execute(_TABLES)).fetchall()]
        assert {"charge", "budget", "access_token", "spend_total"} <= set(tables)
        for table in tables:
            if table == "outbox":
                continue  # what was published is deleted a moment later
            statement = f"SELECT to_jsonb(t)::text FROM {table} AS t WHERE tenant_id = %s ORDER BY 1"
            rows = await (await connection.execute(statement, (tenant.id,))).fetchall()  # type: ignore[arg-type]
            state[table] = [row[0] for row in rows]
    async for key in ledger.redis.scan_iter(match=f"{{{tenant.id}}}:*"):
        if await ledger.redis.type(key) == b"hash":
            fields = await ledger.redis.hgetall(key)  # type: ignore[misc]
            fields.pop(b"f", None)  # counters in use are kept fresh
            state[key.decode()] = fields
        elif await ledger.redis.type(key) == b"zset":
            state[key.decode()] = await ledger.redis.zrange(key, 0, -1, withscores=True)
        else:
            state[key.decode()] = await ledger.redis.get(key)
    return state


def _problem(response: httpx.Response, asked_for: str = "") -> tuple[int, str, str]:
    """Return the problem; what was asked for may be repeated in it."""
    problem = response.json()
    assert response.headers["content-type"].startswith("application/problem+json")
    detail = problem["detail"].replace(asked_for, "…") if asked_for else problem["detail"]
    return response.status_code, problem["code"], detail


@pytest.fixture
async def stranger(replicas: list[Replica], make_tenant: MakeTenant) -> Caller:
    """The administrator of another tenant."""
    return replicas[1].as_caller((await make_tenant()).token)


async def test_what_belongs_to_a_tenant_is_for_another_as_if_it_did_not_exist(
    callers: list[Caller], stranger: Caller, ledger: Pools, tenant: Tenant
):
    owner = callers[0]
    budget = await owner.create_budget("ours", {}, "10")
    (recorded,) = (await owner.post(chat_event(api_key=KEY)))["results"]
    await owner.check(request_id="r1", reserve=True, **CALL)
    alias = await owner.call("POST", "/v1/aliases", json={"alias": "fast", "model": "openai/gpt-4.1-mini"}, status=201)
    token = await owner.call("POST", "/v1/tokens", json={"name": "other", "roles": ["read"]}, status=201)
    await owner.call("PUT", f"/v1/keys/{KEY}", json={"team": "secret-team"})
    before = await _state(ledger, tenant)

    unknown = str(new_id())
    attempts: list[tuple[str, str, str, dict[str, Any]]] = [
        ("GET", "/v1/charges/{}", recorded["charge_id"], {}),
        ("POST", "/v1/charges/{}/reverse", recorded["charge_id"], {"json": {"reason": "x"}}),
        ("GET", "/v1/reservations/{}", "r1", {}),
        ("POST", "/v1/reservations/{}/renew", "r1", {"json": {"ttl_seconds": 9_000}}),
        ("DELETE", "/v1/reservations/{}", "r1", {}),
        ("GET", "/v1/budgets/{}", budget["budget_id"], {}),
        ("GET", "/v1/budgets/{}", "ours", {}),
        ("GET", "/v1/budgets/{}/windows", budget["budget_id"], {}),
        ("PATCH", "/v1/budgets/{}", budget["budget_id"], {"json": {"limit_usd": "1000"}}),
        ("DELETE", "/v1/budgets/{}", budget["budget_id"], {}),
        ("DELETE", "/v1/aliases/{}", alias["id"], {}),
        ("DELETE", "/v1/tokens/{}", token["id"], {}),
        ("GET", "/v1/keys/{}", KEY, {}),
        ("DELETE", "/v1/keys/{}", KEY, {}),
    ]
    for method, path, theirs, options in attempts:
        foreign = await stranger.request(method, path.format(theirs), **options)
        missing = await stranger.request(method, path.format(unknown), **options)
        assert foreign.status_code == 404, (method, path, foreign.text)
        assert _problem(foreign, theirs) == _problem(missing, unknown), (method, path)

    for path, name in (
        ("/v1/charges", "charges"),
        ("/v1/budgets", "budgets"),
        ("/v1/aliases", "aliases"),
        ("/v1/keys", "keys"),
    ):
        assert (await stranger.call("GET", path))[name] == []
    assert (await stranger.call("GET", "/v1/spend"))["totals"]["requests"] == 0
    assert await stranger.call("GET", "/spend/logs", params={"request_id": recorded["event_id"]}) == []
    assert {each["id"] for each in (await stranger.call("GET", "/v1/tokens"))["tokens"]}.isdisjoint({token["id"]})
    assert await _state(ledger, tenant) == before
    await owner.call("DELETE", "/v1/reservations/r1")


async def test_an_event_or_check_under_another_tenants_reservation_id_is_ones_own(
    callers: list[Caller], stranger: Caller, ledger: Pools, tenant: Tenant
):
    owner = callers[0]
    await owner.create_budget("ours", {}, "10")
    await owner.check(request_id="r1", reserve=True, **CALL)
    before = await _state(ledger, tenant)
    await stranger.create_budget("theirs", {}, "10")

    await stranger.post(chat_event(tallygate={"reservation_id": "r1"}))
    await stranger.post(chat_event(litellm_call_id="r1"))
    answer = await stranger.check(request_id="r1", reserve=True, **CALL | {"input_tokens": 5})

    assert answer["allowed"] is True
    assert (await stranger.call("DELETE", "/v1/reservations/r1"))["state"] == "voided"
    assert await _state(ledger, tenant) == before
    assert (await owner.call("DELETE", "/v1/reservations/r1"))["state"] == "voided"


async def test_events_of_two_tenants_under_one_event_id_are_two_events(callers: list[Caller], stranger: Caller):
    event = chat_event()

    answers = await together((callers[0].post(event), stranger.post(event), callers[1].post(event)))

    outcomes = [answer["results"][0]["outcome"] for answer in answers]
    assert outcomes[1] == "recorded"
    assert sorted(outcomes[::2]) == ["duplicate", "recorded"]
    assert answers[1]["results"][0]["charge_id"] != answers[0]["results"][0]["charge_id"]


async def test_a_revoked_token_opens_nothing_at_any_replica(
    callers: list[Caller], replicas: list[Replica], ledger: Pools, tenant: Tenant
):
    request = {"name": "gateway", "roles": ["ingest", "check", "read"]}
    token = await callers[0].call("POST", "/v1/tokens", json=request, status=201)
    gateways = [replica.as_caller(token["token"]) for replica in replicas]
    await together(gateway.post(chat_event()) for gateway in gateways)  # every replica knows it now
    await together(gateway.check(**CALL) for gateway in gateways)

    await callers[0].call("DELETE", f"/v1/tokens/{token['id']}", status=204)
    unauthenticated = httpx.codes.UNAUTHORIZED
    assert (await gateways[0].request("GET", "/v1/charges")).status_code == unauthenticated

    async def is_refused_everywhere() -> bool:
        responses = await together(gateway.request("GET", "/v1/charges") for gateway in gateways)
        return {response.status_code for response in responses} == {unauthenticated}

    seconds = await until(is_refused_everywhere, "the revocation has reached every replica")
    assert seconds < 1
    before = await _state(ledger, tenant)
    for gateway in gateways:
        for method, path, options in (
            ("POST", "/v1/events", {"json": chat_event()}),
            ("POST", "/v1/check", {"json": CALL | {"reserve": True}}),
            ("GET", "/v1/spend", {}),
        ):
            response = await gateway.request(method, path, **options)
            assert _problem(response)[:2] == (401, "unauthenticated")
    assert await _state(ledger, tenant) == before


async def test_an_expired_token_opens_nothing(callers: list[Caller], replicas: list[Replica]):
    expires_at = utc_now() + timedelta(seconds=2)
    request = {"name": "brief", "roles": ["read"], "expires_at": expires_at.isoformat()}
    token = await callers[0].call("POST", "/v1/tokens", json=request, status=201)
    brief = [replica.as_caller(token["token"]) for replica in replicas]
    assert [(await each.request("GET", "/v1/charges")).status_code for each in brief] == [200] * 3

    await until(lambda: utc_now() > expires_at + timedelta(seconds=0.1), "the token has expired")

    assert [(await each.request("GET", "/v1/charges")).status_code for each in brief] == [401] * 3


async def test_a_token_does_what_its_roles_say_and_changes_nothing_else(
    callers: list[Caller], replicas: list[Replica], ledger: Pools, tenant: Tenant
):
    await callers[0].create_budget("ours", {}, "10")
    tokens = {}
    for role in ("ingest", "check", "read"):
        answer = await callers[0].call("POST", "/v1/tokens", json={"name": role, "roles": [role]}, status=201)
        tokens[role] = replicas[1].as_caller(answer["token"])
    before = await _state(ledger, tenant)
    administration: list[tuple[str, str, Any]] = [
        ("POST", "/v1/budgets", {"slug": "x", "match": {}, "limit_usd": "1", "period": "1d"}),
        ("PATCH", "/v1/budgets/ours", {"limit_usd": "1000000"}),
        ("DELETE", "/v1/budgets/ours", None),
        ("PUT", f"/v1/keys/{KEY}", {"team": "rich"}),
        ("POST", "/v1/aliases", {"alias": "a", "model": "b"}),
        ("POST", "/v1/tokens", {"name": "more", "roles": ["admin"]}),
        ("PATCH", "/v1/settings", {"enforcement": "off"}),
        ("POST", "/v1/tenants", {"id": "mine"}),
    ]
    refused: dict[str, list[tuple[str, str, Any]]] = {
        "ingest": [("GET", "/v1/spend", None), ("POST", "/v1/check", CALL), *administration],
        "check": [("GET", "/v1/spend", None), ("POST", "/v1/events", chat_event()), *administration],
        "read": [("POST", "/v1/events", chat_event()), ("POST", "/v1/check", CALL), *administration],
    }
    for role, attempts in refused.items():
        for method, path, document in attempts:
            response = await tokens[role].request(method, path, json=document)
            assert response.status_code == 403, (role, method, path, response.text)
    assert (await callers[0].request("POST", "/v1/tenants", json={"id": "mine"})).status_code == 403
    assert await _state(ledger, tenant) == before


@pytest.mark.parametrize(
    "authorization", [None, "Bearer", "Bearer tg_" + "x" * 43, "Basic dTpw", "bearer tg_ x", "Bearer " + "y" * 600]
)
async def test_without_a_valid_token_nothing_is_said_of_what_exists(
    replicas: list[Replica], callers: list[Caller], ledger: Pools, tenant: Tenant, authorization: str | None
):
    await callers[0].create_budget("ours", {}, "10")
    (recorded,) = (await callers[0].post(chat_event()))["results"]
    before = await _state(ledger, tenant)
    headers = {} if authorization is None else {"authorization": authorization}

    answers = set()
    for method, path in (
        ("GET", f"/v1/charges/{recorded['charge_id']}"),
        ("GET", f"/v1/charges/{new_id()}"),
        ("GET", "/v1/budgets/ours"),
        ("GET", "/v1/budgets/others"),
        ("POST", "/v1/events"),
        ("POST", "/v1/check"),
    ):
        content = None if method == "GET" else json.dumps(chat_event())
        response = await replicas[2].client.request(method, path, content=content, headers=headers | _FORGED)
        answers.add(_problem(response)[:2])
    assert answers == {(401, "unauthenticated")}
    assert await _state(ledger, tenant) == before


async def test_forged_identity_headers_count_for_nothing(
    callers: list[Caller], replicas: list[Replica], tenant: Tenant
):
    await callers[0].create_budget("poor", {"team": "poor"}, "0")
    caller = replicas[0].as_caller(tenant.token)
    asked = CALL | {"dimensions": {"team": "poor"}}

    response = await caller.request("POST", "/v1/check", json=asked, headers=_FORGED)
    posted = await caller.request("POST", "/v1/events", json=chat_event(team="poor", user=None), headers=_FORGED)

    answer = response.json()
    assert answer["allowed"] is False
    assert answer["dimensions"]["team"] == {"value": "poor", "provenance": "carried"}
    assert answer["dimensions"].keys().isdisjoint({"user", "organization"})
    (result,) = posted.json()["results"]
    charge = await caller.call("GET", f"/v1/charges/{result['charge_id']}")
    assert (charge["team"], charge["user"]) == ("poor", None)


async def test_what_a_token_pins_no_event_and_no_check_can_say_otherwise(
    callers: list[Caller], replicas: list[Replica]
):
    await callers[0].create_budget("poor", {"team": "poor"}, "0")
    request = {"name": "gateway of a team", "roles": ["ingest", "check"], "pinned": {"team": "poor", "source": "gw-1"}}
    token = await callers[0].call("POST", "/v1/tokens", json=request, status=201)
    gateway = replicas[1].as_caller(token["token"])

    answer = await gateway.check(dimensions={"team": "rich"}, **CALL)
    event = chat_event(team="rich", tallygate={"source": "another"})
    (result,) = (await gateway.post(event))["results"]
    (again,) = (await gateway.post(event))["results"]

    assert answer["allowed"] is False
    assert answer["dimensions"]["team"] == {"value": "poor", "provenance": "pinned"}
    charge = await callers[0].call("GET", f"/v1/charges/{result['charge_id']}")
    assert (charge["team"], charge["source"]) == ("poor", "gw-1")
    assert again["outcome"] == "duplicate"
