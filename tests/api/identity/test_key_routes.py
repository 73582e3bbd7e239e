from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from service.identity.dimensions import Dimensions
from service.identity.known_key import KeyLesson
from tests.api.identity.conftest import Headers, MakeHeaders, Services

KEY = "0123456789abcdef" * 4
NOBODY = {"team": None, "user": None, "organization": None, "project": None, "alias": None}


async def test_a_declared_key_is_shown_as_declared(client: httpx.AsyncClient, admin: Headers) -> None:
    body = {"team": "core", "user": "u1", "organization": "o", "project": "p", "alias": "checkout", "blocked": True}
    put = await client.put(f"/v1/keys/{KEY}", json=body, headers=admin)
    assert put.status_code == 200
    key = put.json()
    assert {name: key[name] for name in body} == body
    assert (key["api_key"], key["is_declared"], key["learned"]) == (KEY, True, None)
    assert (await client.get(f"/v1/keys/{KEY}", headers=admin)).json() == key
    assert (await client.get("/v1/keys", headers=admin)).json() == {"keys": [key], "next_cursor": None}


async def test_declared_and_learned_values_are_shown_side_by_side(
    client: httpx.AsyncClient, admin: Headers, services: Services, tenant_id: str
) -> None:
    dimensions = Dimensions(api_key=KEY, team="learned", user="u1")
    occurred_at = datetime(2026, 11, 6, tzinfo=UTC)
    await services.key_registry.learn(tenant_id, [KeyLesson(dimensions=dimensions, occurred_at=occurred_at)])
    learned = (await client.get(f"/v1/keys/{KEY}", headers=admin)).json()
    assert (learned["is_declared"], learned["declared"], learned["team"]) == (False, None, "learned")
    await client.put(f"/v1/keys/{KEY}", json={"team": "core"}, headers=admin)
    key = (await client.get(f"/v1/keys/{KEY}", headers=admin)).json()
    assert key["declared"] == NOBODY | {"team": "core"}
    assert key["learned"] == NOBODY | {"team": "learned", "user": "u1"}
    assert (key["team"], key["user"]) == ("core", "u1")
    assert key["learned_from_occurred_at"] == "2026-11-06T00:00:00Z"


async def test_a_declaration_replaces_the_one_before(client: httpx.AsyncClient, admin: Headers) -> None:
    await client.put(f"/v1/keys/{KEY}", json={"team": "core", "user": "u", "blocked": True}, headers=admin)
    key = (await client.put(f"/v1/keys/{KEY}", json={"team": "web"}, headers=admin)).json()
    assert (key["team"], key["user"], key["blocked"]) == ("web", None, False)


async def test_an_id_in_hex_is_one_key_whatever_its_case(client: httpx.AsyncClient, admin: Headers) -> None:
    await client.put(f"/v1/keys/{KEY.upper()}", json={"team": "core"}, headers=admin)
    assert (await client.get(f"/v1/keys/{KEY}", headers=admin)).json()["team"] == "core"


async def test_ids_of_other_gateways_are_taken_as_they_are(client: httpx.AsyncClient, admin: Headers) -> None:
    put = await client.put("/v1/keys/Key.42:eu%20west", json={"team": "core"}, headers=admin)
    assert put.json()["api_key"] == "Key.42:eu west"


async def test_a_key_in_plain_is_refused_and_not_repeated(client: httpx.AsyncClient, admin: Headers) -> None:
    answer = await client.put("/v1/keys/sk-very-secret", json={"team": "core"}, headers=admin)
    assert (answer.status_code, answer.json()["code"]) == (422, "api_key_in_clear")
    assert "very-secret" not in answer.text


@pytest.mark.parametrize(
    ("api_key", "body", "status"),
    [
        (KEY, {"team": ""}, 400),
        (KEY, {"teem": "core"}, 400),
        (KEY, {"team": 7}, 400),
        (KEY, {"blocked": "yes"}, 400),
        (KEY, {"team": " "}, 422),
        (KEY, {"team": "a\u0000b"}, 422),
        ("%00", {"team": "core"}, 422),
        ("x" * 257, {"team": "core"}, 422),
    ],
)
async def test_what_is_no_declaration_is_refused(
    client: httpx.AsyncClient, admin: Headers, api_key: str, body: dict[str, Any], status: int
) -> None:
    assert (await client.put(f"/v1/keys/{api_key}", json=body, headers=admin)).status_code == status


async def test_keys_are_paged(client: httpx.AsyncClient, admin: Headers) -> None:
    for number in range(3):
        await client.put(f"/v1/keys/k{number}", json={"team": "core"}, headers=admin)
    first = (await client.get("/v1/keys", params={"limit": "2"}, headers=admin)).json()
    rest = (await client.get("/v1/keys", params={"cursor": first["next_cursor"]}, headers=admin)).json()
    assert [key["api_key"] for key in first["keys"] + rest["keys"]] == ["k0", "k1", "k2"]
    assert rest["next_cursor"] is None
    wrong = await client.get("/v1/keys", params={"cursor": "WzFd"}, headers=admin)
    assert (wrong.status_code, wrong.json()["code"]) == (422, "invalid_cursor")


async def test_a_deleted_key_is_gone(client: httpx.AsyncClient, admin: Headers) -> None:
    await client.put(f"/v1/keys/{KEY}", json={"team": "core"}, headers=admin)
    assert (await client.delete(f"/v1/keys/{KEY}", headers=admin)).status_code == 204
    assert (await client.get(f"/v1/keys/{KEY}", headers=admin)).status_code == 404
    assert (await client.delete(f"/v1/keys/{KEY}", headers=admin)).status_code == 404


async def test_a_declared_key_is_known_to_the_checks_of_this_process_at_once(
    client: httpx.AsyncClient, admin: Headers, services: Services, tenant_id: str
) -> None:
    for team in ("core", "web"):
        await client.put(f"/v1/keys/{KEY}", json={"team": team}, headers=admin)
        known = await services.key_registry.find(tenant_id, KEY)
        assert known is not None
        assert known.declared.team == team


async def test_only_admins_see_and_change_keys(client: httpx.AsyncClient, make_headers: MakeHeaders) -> None:
    other = await make_headers(roles=("read", "check", "ingest"))
    assert (await client.get("/v1/keys", headers=other)).status_code == 403
    assert (await client.get(f"/v1/keys/{KEY}", headers=other)).status_code == 403
    assert (await client.put(f"/v1/keys/{KEY}", json={}, headers=other)).status_code == 403
    assert (await client.delete(f"/v1/keys/{KEY}", headers=other)).status_code == 403
    assert (await client.get("/v1/keys")).status_code == 401


async def test_tenants_do_not_see_or_touch_each_others_keys(
    client: httpx.AsyncClient, admin: Headers, make_headers: MakeHeaders, tenant_id: str
) -> None:
    await client.put(f"/v1/keys/{KEY}", json={"team": "core"}, headers=admin)
    other = await make_headers(tenant=f"{tenant_id}-b")
    assert (await client.get(f"/v1/keys/{KEY}", headers=other)).status_code == 404
    assert (await client.delete(f"/v1/keys/{KEY}", headers=other)).status_code == 404
    await client.put(f"/v1/keys/{KEY}", json={"team": "theirs"}, headers=other)
    assert (await client.get(f"/v1/keys/{KEY}", headers=admin)).json()["team"] == "core"
