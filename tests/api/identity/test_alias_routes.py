from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.api.identity.conftest import Headers, MakeHeaders


async def test_a_declared_alias_is_listed_with_its_dates(client: httpx.AsyncClient, admin: Headers) -> None:
    body = {
        "alias": "claude-opus-4-6",
        "model": "vertex_ai/claude-opus-4-6@default",
        "effective_from": "2026-11-01T02:00:00+02:00",
        "effective_to": "2026-12-01T00:00:00Z",
    }
    made = await client.post("/v1/aliases", json=body, headers=admin)
    assert made.status_code == 201
    alias = made.json()
    assert alias.pop("repricing_offers") == []
    assert alias["effective_from"] == "2026-11-01T00:00:00Z"
    assert (alias["alias"], alias["model"], alias["effective_to"]) == (
        body["alias"],
        body["model"],
        body["effective_to"],
    )
    listed = (await client.get("/v1/aliases", headers=admin)).json()
    assert listed == {"aliases": [alias], "next_cursor": None}


async def test_an_alias_without_dates_holds_for_all_times(client: httpx.AsyncClient, admin: Headers) -> None:
    alias = (await client.post("/v1/aliases", json={"alias": " fast ", "model": "gpt-4.1-nano"}, headers=admin)).json()
    assert alias["alias"] == "fast"
    assert (alias["effective_from"], alias["effective_to"]) == ("1970-01-01T00:00:00Z", None)


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ({"alias": "a"}, 400, None),
        ({"alias": "", "model": "m"}, 400, "alias"),
        ({"alias": "a", "model": "m", "effective_at": "x"}, 400, None),
        ({"alias": "a", "model": "m", "effective_from": "2026-11-01T00:00:00"}, 400, "effective_from"),
        ({"alias": "  ", "model": "m"}, 422, "alias"),
        ({"alias": "a\u0000b", "model": "m"}, 422, "alias"),
        ({"alias": "a", "model": "m\n"}, 201, None),
        ({"alias": "a", "model": "b\u202ec"}, 422, "model"),
        ({"alias": "a", "model": "m", "effective_from": "0001-01-01T00:00:00+14:00"}, 422, "effective_from"),
        ({"alias": "a", "model": "m", "effective_to": "9999-12-31T23:59:59-14:00"}, 422, "effective_to"),
        (
            {
                "alias": "a",
                "model": "m",
                "effective_from": "2026-11-01T00:00:00Z",
                "effective_to": "2026-11-01T00:00:00Z",
            },
            422,
            "effective_to",
        ),
    ],
)
async def test_what_is_no_alias_is_refused_with_its_field(
    client: httpx.AsyncClient, admin: Headers, body: dict[str, Any], status: int, field: str | None
) -> None:
    answer = await client.post("/v1/aliases", json=body, headers=admin)
    assert answer.status_code == status
    assert answer.json().get("field") == field or field is None


async def test_a_taken_name_and_a_circle_are_conflicts(client: httpx.AsyncClient, admin: Headers) -> None:
    await client.post("/v1/aliases", json={"alias": "a", "model": "b"}, headers=admin)
    taken = await client.post("/v1/aliases", json={"alias": "A", "model": "c"}, headers=admin)
    circle = await client.post("/v1/aliases", json={"alias": "b", "model": "a"}, headers=admin)
    assert (taken.status_code, taken.json()["code"]) == (409, "alias_overlaps")
    assert (circle.status_code, circle.json()["code"]) == (409, "alias_circle")


async def test_aliases_are_paged_and_filtered(client: httpx.AsyncClient, admin: Headers) -> None:
    for number in range(5):
        await client.post("/v1/aliases", json={"alias": f"a{number}", "model": "m"}, headers=admin)
    seen: list[str] = []
    cursor: str | None = None
    while True:
        page = (
            await client.get(
                "/v1/aliases", params={"limit": "2"} | ({"cursor": cursor} if cursor else {}), headers=admin
            )
        ).json()
        seen += [alias["alias"] for alias in page["aliases"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == ["a0", "a1", "a2", "a3", "a4"]
    one = (await client.get("/v1/aliases", params={"alias": "A3"}, headers=admin)).json()
    assert [alias["alias"] for alias in one["aliases"]] == ["a3"]
    wrong = await client.get("/v1/aliases", params={"cursor": "WyJ4Il0"}, headers=admin)
    assert (wrong.status_code, wrong.json()["code"]) == (422, "invalid_cursor")


async def test_an_alias_is_deleted_by_id_or_by_name(client: httpx.AsyncClient, admin: Headers) -> None:
    one = (await client.post("/v1/aliases", json={"alias": "x/one", "model": "m"}, headers=admin)).json()
    await client.post("/v1/aliases", json={"alias": "x/two", "model": "m"}, headers=admin)
    assert (await client.delete(f"/v1/aliases/{one['id']}", headers=admin)).status_code == 204
    assert (await client.delete("/v1/aliases", params={"alias": "X/Two"}, headers=admin)).status_code == 204
    assert (await client.get("/v1/aliases", headers=admin)).json()["aliases"] == []
    assert (await client.delete(f"/v1/aliases/{uuid4()}", headers=admin)).status_code == 404
    assert (await client.delete("/v1/aliases", params={"alias": "x/two"}, headers=admin)).status_code == 404
    assert (await client.delete("/v1/aliases", headers=admin)).status_code == 400


async def test_readers_see_aliases_and_only_admins_change_them(
    client: httpx.AsyncClient, make_headers: MakeHeaders
) -> None:
    reader = await make_headers(roles=("read",))
    assert (await client.get("/v1/aliases", headers=reader)).status_code == 200
    assert (await client.post("/v1/aliases", json={"alias": "a", "model": "m"}, headers=reader)).status_code == 403
    assert (await client.delete(f"/v1/aliases/{uuid4()}", headers=reader)).status_code == 403
    gateway = await make_headers(roles=("ingest", "check"))
    assert (await client.get("/v1/aliases", headers=gateway)).status_code == 403
    assert (await client.get("/v1/aliases")).status_code == 401


async def test_tenants_do_not_see_or_touch_each_others_aliases(
    client: httpx.AsyncClient, admin: Headers, make_headers: MakeHeaders, tenant_id: str
) -> None:
    alias = (await client.post("/v1/aliases", json={"alias": "a", "model": "m"}, headers=admin)).json()
    other = await make_headers(tenant=f"{tenant_id}-b")
    assert (await client.get("/v1/aliases", headers=other)).json()["aliases"] == []
    assert (await client.delete(f"/v1/aliases/{alias['id']}", headers=other)).status_code == 404
    assert (await client.post("/v1/aliases", json={"alias": "a", "model": "n"}, headers=other)).status_code == 201
    assert [row["id"] for row in (await client.get("/v1/aliases", headers=admin)).json()["aliases"]] == [alias["id"]]
