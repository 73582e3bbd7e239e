import logging
from collections.abc import AsyncIterator

import httpx
import pytest

from service.access.tokens import ROLES, TokenTerms, new_token_text, token_digest
from service.db.pools import Pools
from tests.api.access.conftest import MakeToken, Services

ROUTES = {
    "ingest": [("GET", "/ingest")],
    "check": [("GET", "/check"), ("POST", "/hot-check")],
    "read": [("GET", "/read")],
    "admin": [("GET", "/admin"), ("GET", "/v1/tokens"), ("GET", "/v1/settings")],
}
EVERY_ROUTE = [route for routes in ROUTES.values() for route in routes]


def assert_problem(answer: httpx.Response, status: int, code: str) -> None:
    assert answer.status_code == status
    assert answer.headers["content-type"].startswith("application/problem+json")
    assert answer.json()["code"] == code
    assert answer.json()["status"] == status


@pytest.mark.parametrize("role", ROLES)
async def test_a_role_opens_its_own_routes_and_no_others(
    client: httpx.AsyncClient, make_token: MakeToken, role: str
) -> None:
    token = await make_token(roles=(role,))
    for wanted, routes in ROUTES.items():
        for method, path in routes:
            answer = await client.request(method, path, headers=token.headers)
            if wanted == role:
                assert answer.is_success, (path, answer.text)
            else:
                assert_problem(answer, 403, "forbidden")


async def test_only_operators_see_tenants(client: httpx.AsyncClient, make_token: MakeToken) -> None:
    admin, operator = await make_token(), await make_token(is_operator=True)
    assert_problem(await client.get("/v1/tenants", headers=admin.headers), 403, "forbidden")
    assert_problem(await client.post("/v1/tenants", json={"id": "x"}, headers=admin.headers), 403, "forbidden")
    assert (await client.get("/v1/tenants", headers=operator.headers)).is_success


@pytest.mark.parametrize(("method", "path"), [*EVERY_ROUTE, ("GET", "/anybody"), ("GET", "/v1/tenants")])
@pytest.mark.parametrize("value", [None, "", "Bearer", "Basic dXNlcjpwYXNzd29yZA==", "Bearer tg_" + "x" * 43])
async def test_without_a_valid_token_every_route_answers_401_alike(
    client: httpx.AsyncClient, method: str, path: str, value: str | None
) -> None:
    answer = await client.request(method, path, headers={} if value is None else {"authorization": value})
    assert_problem(answer, 401, "unauthenticated")
    assert answer.headers["www-authenticate"] == "Bearer"


async def test_two_authorization_headers_are_refused(client: httpx.AsyncClient, make_token: MakeToken) -> None:
    token = await make_token()
    headers = [("authorization", f"Bearer {new_token_text()}"), ("authorization", f"Bearer {token.text}")]
    assert_problem(await client.get("/read", headers=headers), 401, "unauthenticated")


async def test_a_body_of_an_unknown_caller_is_not_read(client: httpx.AsyncClient) -> None:
    async def body() -> AsyncIterator[bytes]:
        raise AssertionError("the body was asked for")
        yield b""

    assert_problem(await client.post("/hot-check", content=body()), 401, "unauthenticated")


@pytest.mark.parametrize(("method", "path"), EVERY_ROUTE)
async def test_a_revoked_token_stops_at_once(
    client: httpx.AsyncClient, make_token: MakeToken, method: str, path: str
) -> None:
    admin, token = await make_token(), await make_token()
    assert (await client.request(method, path, headers=token.headers)).is_success
    assert (await client.delete(f"/v1/tokens/{token.id}", headers=admin.headers)).status_code == 204
    assert_problem(await client.request(method, path, headers=token.headers), 401, "unauthenticated")


async def test_a_token_past_its_end_is_refused_on_every_route(
    client: httpx.AsyncClient, make_token: MakeToken, pools: Pools
) -> None:
    token = await make_token()
    async with pools.postgres.connection() as connection:
        await connection.execute("UPDATE access_token SET expires_at = now() WHERE token_id = %s", (token.id,))
    for method, path in EVERY_ROUTE:
        assert_problem(await client.request(method, path, headers=token.headers), 401, "token_expired")


async def test_forged_identity_headers_change_nothing(client: httpx.AsyncClient, make_token: MakeToken) -> None:
    victim = f"victim-{new_token_text()[3:20].lower().strip('_-')}"
    await make_token(tenant=victim)
    token = await make_token(name="me", pinned={"team": "core", "source": "eu"})
    honest = await client.get("/ingest", headers=token.headers)
    forged = token.headers | {
        "x-tallygate-tenant": victim,
        "x-tallygate-team": "other",
        "x-tallygate-user": "root",
        "x-tallygate-organization": "other",
        "x-tallygate-roles": "admin",
        "x-tallygate-operator": "true",
        "x-tallygate-token": new_token_text(),
        "x-forwarded-user": "root",
        "cookie": "tenant=other",
    }
    for method, path in [*EVERY_ROUTE, ("GET", "/anybody")]:
        assert (await client.request(method, path, headers=forged)).is_success
    assert (await client.get("/ingest", headers=forged)).json() == honest.json()
    assert (await client.get("/v1/settings", headers=forged)).json() == (
        await client.get("/v1/settings", headers=token.headers)
    ).json()
    weak = await make_token(roles=("read",))
    escalated = {**forged, **weak.headers}
    assert_problem(await client.get("/admin", headers=escalated), 403, "forbidden")
    assert_problem(await client.get("/v1/tenants", headers=escalated), 403, "forbidden")


async def test_a_token_in_the_query_or_a_cookie_is_no_token(client: httpx.AsyncClient, make_token: MakeToken) -> None:
    token = await make_token()
    assert_problem(await client.get("/read", params={"token": token.text}), 401, "unauthenticated")
    assert_problem(await client.get("/read", headers={"cookie": f"token={token.text}"}), 401, "unauthenticated")


async def test_no_log_line_holds_a_token(
    client: httpx.AsyncClient,
    make_token: MakeToken,
    services: Services,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    admin = await make_token()
    answer = await client.post("/v1/tokens", json={"name": "n", "roles": ["read"]}, headers=admin.headers)
    guess = new_token_text()
    await client.get("/read", headers={"authorization": f"Bearer {guess}"})
    await client.post("/v1/tokens", content=b"{", headers=admin.headers)
    await client.delete(f"/v1/tokens/{answer.json()['id']}", headers=admin.headers)
    created = await services.token_service.create(
        (await client.get("/read", headers=admin.headers)).json()["tenant_id"],
        TokenTerms(name="n", roles=("read",)),
        None,
    )
    written = "".join(capfd.readouterr()) + caplog.text + repr(created) + repr(services)
    for secret in (admin.text, guess, answer.json()["token"], created.text, token_digest(admin.text)):
        assert secret not in written
