from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest

from service.access.tokens import token_digest
from service.db.pools import Pools
from tests.api.access.conftest import MakeToken


async def test_a_made_token_works_and_its_text_is_shown_once(client: httpx.AsyncClient, make_token: MakeToken) -> None:
    admin = await make_token()
    end = (datetime.now(UTC) + timedelta(days=30)).isoformat()
    body = {
        "name": "dashboards",
        "roles": ["read"],
        "scope": {"team": ["core", "web"]},
        "pinned": {"organization": "acme", "source": "eu"},
        "trusted_headers": ["X-Tallygate-User"],
        "reserve": True,
        "on_unresolved": "deny",
        "expires_at": end,
    }
    made = await client.post("/v1/tokens", json=body, headers=admin.headers)
    assert made.status_code == 201
    token = made.json()
    text = token.pop("token")
    assert text.startswith("tg_")
    assert token["trusted_headers"] == ["x-tallygate-user"]
    assert {name: token[name] for name in ("name", "roles", "scope", "pinned", "reserve", "on_unresolved")} == {
        name: body[name] for name in ("name", "roles", "scope", "pinned", "reserve", "on_unresolved")
    }
    assert datetime.fromisoformat(token["expires_at"]) == datetime.fromisoformat(end)
    assert (await client.get("/read", headers={"authorization": f"Bearer {text}"})).is_success
    listed = await client.get("/v1/tokens", headers=admin.headers)
    assert token in listed.json()["tokens"]
    for shown in (listed.text, made.text.replace(text, "")):
        assert text not in shown
        assert token_digest(text) not in shown
        assert "sha256" not in shown


async def test_the_table_holds_no_token(client: httpx.AsyncClient, make_token: MakeToken, pools: Pools) -> None:
    admin = await make_token()
    made = await client.post("/v1/tokens", json={"name": "n", "roles": ["read"]}, headers=admin.headers)
    async with pools.postgres.connection() as connection:
        cursor = await connection.execute("SELECT access_token::text FROM access_token")
        rows = "".join(row[0] for row in await cursor.fetchall())
    assert token_digest(made.json()["token"]) in rows
    assert made.json()["token"] not in rows


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ({"roles": ["read"]}, 400, None),
        ({"name": "n", "roles": ["emperor"]}, 400, "roles"),
        ({"name": "n", "roles": "read"}, 400, "roles"),
        ({"name": "n", "roles": ["read"], "is_operator": True}, 400, None),
        ({"name": "n", "roles": ["read"], "tenant_id": "other"}, 400, None),
        ({"name": "n", "roles": ["read"], "expires_at": "2030-01-01T00:00:00"}, 400, "expires_at"),
        ({"name": "n", "roles": ["read"], "on_unresolved": "maybe"}, 400, "on_unresolved"),
        ({"name": "n", "roles": ["read"], "scope": {"team": "core"}}, 400, "scope"),
        ({"name": "", "roles": ["read"]}, 422, "name"),
        ({"name": "n", "roles": []}, 422, "roles"),
        ({"name": "n", "roles": ["read"], "scope": {"planet": ["mars"]}}, 422, "scope"),
        ({"name": "n", "roles": ["read"], "pinned": {"planet": "mars"}}, 422, "pinned"),
        ({"name": "n", "roles": ["check"], "trusted_headers": ["x-evil"]}, 422, "trusted_headers[0]"),
        ({"name": "n", "roles": ["read"], "expires_at": "2020-01-01T00:00:00Z"}, 422, "expires_at"),
        ({"name": "n", "roles": ["read"], "expires_at": "9999-12-31T23:59:59-14:00"}, 422, "expires_at"),
        ([], 400, None),
        ("read", 400, None),
    ],
)
async def test_a_wrong_request_is_refused_with_its_field_and_makes_nothing(
    client: httpx.AsyncClient, make_token: MakeToken, body: Any, status: int, field: str | None
) -> None:
    admin = await make_token()
    refused = await client.post("/v1/tokens", json=body, headers=admin.headers)
    assert refused.status_code == status, refused.text
    assert refused.json()["code"] in {"invalid_input", "invalid_time", "bad_request"}
    if field is not None:
        assert refused.json()["field"].startswith(field)
    assert len((await client.get("/v1/tokens", headers=admin.headers)).json()["tokens"]) == 1


async def test_an_admin_gives_roles_it_lacks(client: httpx.AsyncClient, make_token: MakeToken) -> None:
    admin = await make_token(roles=("admin",))
    for role in ("ingest", "check", "read"):
        made = await client.post("/v1/tokens", json={"name": "n", "roles": [role]}, headers=admin.headers)
        assert (made.status_code, made.json()["roles"]) == (201, [role])


async def test_no_token_gives_more_than_it_has(client: httpx.AsyncClient, make_token: MakeToken) -> None:
    admin = await make_token(roles=("admin", "read"), pinned={"team": "core"})
    for body in (
        {"roles": ["read"]},
        {"roles": ["read"], "pinned": {"team": "other"}},
    ):
        refused = await client.post("/v1/tokens", json={"name": "n"} | body, headers=admin.headers)
        assert (refused.status_code, refused.json()["code"]) == (403, "forbidden"), body
    body = {"name": "n", "roles": ["read"], "pinned": {"team": "core"}}
    assert (await client.post("/v1/tokens", json=body, headers=admin.headers)).status_code == 201
    assert len((await client.get("/v1/tokens", headers=admin.headers)).json()["tokens"]) == 2


async def test_not_even_an_operator_makes_operators_here(client: httpx.AsyncClient, make_token: MakeToken) -> None:
    operator = await make_token(is_operator=True)
    made = await client.post("/v1/tokens", json={"name": "n", "roles": ["admin"]}, headers=operator.headers)
    assert made.json()["is_operator"] is False
    answer = await client.get("/v1/tenants", headers={"authorization": f"Bearer {made.json()['token']}"})
    assert answer.status_code == 403


async def test_a_revoked_token_stays_listed_for_who_asks(client: httpx.AsyncClient, make_token: MakeToken) -> None:
    admin, token = await make_token(), await make_token(name="old")
    assert (await client.delete(f"/v1/tokens/{token.id}", headers=admin.headers)).status_code == 204
    assert (await client.delete(f"/v1/tokens/{token.id}", headers=admin.headers)).status_code == 204
    live = (await client.get("/v1/tokens", headers=admin.headers)).json()["tokens"]
    assert [row["id"] for row in live] == [admin.id]
    everything = await client.get("/v1/tokens", params={"include_revoked": True}, headers=admin.headers)
    (revoked,) = (row for row in everything.json()["tokens"] if row["id"] == token.id)
    assert revoked["revoked_at"] is not None


async def test_another_tenants_token_is_as_unknown_as_one_that_never_was(
    client: httpx.AsyncClient, make_token: MakeToken
) -> None:
    admin = await make_token()
    stranger = await make_token(tenant=f"other-{uuid4().hex}")
    theirs = await client.delete(f"/v1/tokens/{stranger.id}", headers=admin.headers)
    nobodys = await client.delete(f"/v1/tokens/{uuid4()}", headers=admin.headers)
    assert (theirs.status_code, nobodys.status_code) == (404, 404)
    assert theirs.json() == nobodys.json()
    assert (await client.get("/read", headers=stranger.headers)).is_success
    assert stranger.id not in (await client.get("/v1/tokens", headers=admin.headers)).text


async def test_an_id_that_is_no_id_is_not_found(client: httpx.AsyncClient, make_token: MakeToken) -> None:
    admin = await make_token()
    assert (await client.delete("/v1/tokens/1%20OR%201=1", headers=admin.headers)).status_code == 404


async def test_only_an_operator_revokes_an_operators_token(client: httpx.AsyncClient, make_token: MakeToken) -> None:
    admin, operator = await make_token(), await make_token(is_operator=True)
    assert (await client.delete(f"/v1/tokens/{operator.id}", headers=admin.headers)).status_code == 403
    assert (await client.get("/read", headers=operator.headers)).is_success
    assert (await client.delete(f"/v1/tokens/{operator.id}", headers=operator.headers)).status_code == 204
    assert (await client.get("/read", headers=operator.headers)).status_code == 401


async def test_pages_hold_every_token_once(client: httpx.AsyncClient, make_token: MakeToken) -> None:
    admin = await make_token()
    made = [admin.id, *[(await make_token(name=f"token {n}")).id for n in range(6)]]
    seen: list[str] = []
    parameters: dict[str, str] = {"limit": "3"}
    while True:
        page = (await client.get("/v1/tokens", params=parameters, headers=admin.headers)).json()
        seen += [row["id"] for row in page["tokens"]]
        if page["next_cursor"] is None:
            break
        parameters["cursor"] = page["next_cursor"]
    assert seen == made


@pytest.mark.parametrize(
    "parameters", [{"limit": "0"}, {"limit": "1001"}, {"limit": "x"}, {"cursor": "x"}, {"cursor": "W10"}]
)
async def test_a_page_that_cannot_be_is_refused(
    client: httpx.AsyncClient, make_token: MakeToken, parameters: dict[str, str]
) -> None:
    admin = await make_token()
    refused = await client.get("/v1/tokens", params=parameters, headers=admin.headers)
    assert (refused.status_code, refused.json()["field"]) == (422, next(iter(parameters)))
