from typing import Any

import httpx
import pytest

from service.kit.ids import new_id
from tests.api.access.conftest import MakeToken


def bearer(text: str) -> dict[str, str]:
    return {"authorization": f"Bearer {text}"}


async def test_a_new_tenant_comes_with_one_admin_token_shown_once(
    client: httpx.AsyncClient, make_token: MakeToken
) -> None:
    operator = await make_token(is_operator=True)
    tenant = f"new-{new_id().hex}"
    made = await client.post("/v1/tenants", json={"id": tenant, "name": "Acme"}, headers=operator.headers)
    assert made.status_code == 201
    assert (made.json()["id"], made.json()["name"], made.json()["enforcement"]) == (tenant, "Acme", "enforce")
    first = bearer(made.json()["token"])
    (row,) = (await client.get("/v1/tokens", headers=first)).json()["tokens"]
    assert row["id"] == made.json()["token_id"]
    assert row["roles"] == ["ingest", "check", "read", "admin"]
    assert not row["is_operator"]
    assert (await client.get("/v1/tenants", headers=first)).status_code == 403
    assert (await client.get("/read", headers=first)).json()["tenant_id"] == tenant


async def test_a_taken_id_is_refused_and_gives_no_token(client: httpx.AsyncClient, make_token: MakeToken) -> None:
    operator = await make_token(is_operator=True)
    tenant = f"taken-{new_id().hex}"
    first = (await client.post("/v1/tenants", json={"id": tenant}, headers=operator.headers)).json()
    again = await client.post("/v1/tenants", json={"id": tenant}, headers=operator.headers)
    assert (again.status_code, again.json()["code"], again.json()["field"]) == (409, "already_exists", "id")
    assert len((await client.get("/v1/tokens", headers=bearer(first["token"]))).json()["tokens"]) == 1


@pytest.mark.parametrize(
    "tenant", ["", "-a", "_a", "A", "a b", "a{b}", "{}", "ä", "a\n", "a" * 64, "a/b", "a.b", "\u202ea", "a\u0000"]
)
async def test_an_id_that_does_not_fit_a_key_is_refused(
    client: httpx.AsyncClient, make_token: MakeToken, tenant: str
) -> None:
    operator = await make_token(is_operator=True)
    refused = await client.post("/v1/tenants", json={"id": tenant}, headers=operator.headers)
    assert (refused.status_code, refused.json()["field"]) == (422, "id")


@pytest.mark.parametrize("body", [{}, {"id": 5}, {"id": "ok-id", "operator": True}, [], None])
async def test_a_wrong_request_is_refused(client: httpx.AsyncClient, make_token: MakeToken, body: Any) -> None:
    operator = await make_token(is_operator=True)
    assert (await client.post("/v1/tenants", json=body, headers=operator.headers)).status_code == 400


async def test_pages_hold_every_tenant_once(client: httpx.AsyncClient, make_token: MakeToken) -> None:
    operator = await make_token(is_operator=True)
    prefix = f"page-{new_id().hex}"
    for number in range(5):
        await client.post("/v1/tenants", json={"id": f"{prefix}-{number}"}, headers=operator.headers)
    seen: list[str] = []
    parameters: dict[str, str] = {"limit": "2"}
    while True:
        page = (await client.get("/v1/tenants", params=parameters, headers=operator.headers)).json()
        seen += [row["id"] for row in page["tenants"]]
        if page["next_cursor"] is None:
            break
        parameters["cursor"] = page["next_cursor"]
    assert seen == sorted(set(seen))
    assert [tenant for tenant in seen if tenant.startswith(prefix)] == [f"{prefix}-{number}" for number in range(5)]
