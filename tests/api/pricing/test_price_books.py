"""`/v1/price-books` and `/v1/prices` of whole servers: shapes, roles, tenants, bodies of every kind."""

import asyncio
import gzip
import json
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest

from service.kit.clock import utc_now
from tests.api.pricing.conftest import Headers, MakeHeaders
from tests.builders import a_litellm_event
from tests.map_server import MapServer, answer

PRICE = {"input_cost_per_token": 1e-6, "output_cost_per_token": 2e-6, "litellm_provider": "openai"}
MODEL = "tallygate-test-model"
PATH = "/v1/price-books"


def a_map(**models: Any) -> bytes:
    """A map that replaces all prices of the program: by far too much to be accepted unasked."""
    return json.dumps({MODEL: PRICE} | models).encode()


async def post(client: httpx.AsyncClient, headers: Headers, body: bytes, status: int, **query: Any) -> dict[str, Any]:
    response = await client.post(PATH, content=body, headers=headers, params=query)
    assert response.status_code == status, response.text[:2000]
    document: dict[str, Any] = response.json()
    return document


async def accepted(client: httpx.AsyncClient, headers: Headers, body: bytes, **query: Any) -> dict[str, Any]:
    """Import a map the way a careful operator does."""
    shown = await post(client, headers, body, 200, dry_run=True, **query)
    return await post(client, headers, body, 201, accept=shown["version"], **query)


async def price_of(client: httpx.AsyncClient, headers: Headers, key: str = MODEL, **query: str) -> dict[str, Any]:
    response = await client.get("/v1/prices", headers=headers, params={"key": key} | query)
    assert response.status_code == 200, response.text
    document: dict[str, Any] = response.json()
    return document


async def test_a_map_is_compared_accepted_and_in_force(client: httpx.AsyncClient, admin: Headers):
    shown = await post(client, admin, a_map(), 200, dry_run=True)
    assert (shown["outcome"], shown["scope"], shown["imported_at"], shown["repriceable"]) == (
        "compared",
        "tenant",
        None,
        None,
    )
    assert shown["report"]["added"] == {"count": 1, "models": [MODEL]}
    assert shown["report"]["removed"]["count"] > 4000
    assert len(shown["report"]["removed"]["models"]) == 500
    assert [objection["code"] for objection in shown["objections"]] == ["prices_gone"]

    refused = await post(client, admin, a_map(), 409)
    assert (refused["code"], refused["field"]) == ("price_book_not_accepted", "accept")
    assert shown["version"] in refused["detail"]
    other = await post(client, admin, a_map(another=PRICE), 409, accept=shown["version"])
    assert other["code"] == "price_book_differs"

    imported = await post(client, admin, a_map(), 201, accept=shown["version"])
    assert (imported["outcome"], imported["version"]) == ("imported", shown["version"])
    assert imported["is_known_everywhere"] is True
    assert imported["report"] == shown["report"]
    assert datetime.fromisoformat(imported["effective_from"]) <= datetime.fromisoformat(imported["imported_at"])

    found = await price_of(client, admin)
    assert (found["price_book_version"], found["scope"]) == (shown["version"], "tenant")
    assert [(rate["kind"], rate["usd"]) for rate in found["prices"][0]["rates"]] == [
        ("text_input", "0.000001"),
        ("text_output", "0.000002"),
    ]
    again = await post(client, admin, a_map(), 200)
    assert again["outcome"] == "unchanged"


async def test_what_changes_is_told_value_by_value(client: httpx.AsyncClient, admin: Headers):
    first = await accepted(client, admin, a_map(b=PRICE, c=PRICE, d=PRICE, e=PRICE, f=PRICE))
    dearer = PRICE | {"input_cost_per_token": 1.5e-6, "cache_read_input_token_cost": 0, "strange_cost": 1}
    second = await post(client, admin, a_map(b=dearer, c=PRICE, d=PRICE, e=PRICE, g={"mode": "chat"}, h=PRICE), 201)
    report = second["report"]
    assert report["compared_with"] == first["version"]
    assert (report["added"]["models"], report["removed"]["models"], report["unchanged_models"]) == (
        ["g", "h"],
        ["f"],
        4,
    )
    [model] = report["changed"]["models"]
    assert model["values"] == [
        {"name": "cache_read_input_token_cost", "old": None, "new": "0", "relative_change": None},
        {"name": "input_cost_per_token", "old": "0.000001", "new": "0.0000015", "relative_change": "0.5"},
        {"name": "strange_cost", "old": None, "new": "1", "relative_change": None},
    ]
    assert report["content"]["not_understood_keys"] == {"strange_cost": 1}
    assert report["content"]["models_without_price"] == 1


async def test_an_event_posted_to_any_server_is_priced_by_what_was_just_imported(
    clients: list[httpx.AsyncClient], admin: Headers
):
    began_at = utc_now() - timedelta(hours=1)
    for number in range(1, 6):
        price = {"input_cost_per_token": number, "litellm_provider": "openai"}
        imported = await accepted(clients[number % 2], admin, a_map(**{MODEL: price}), effective_from="2026-01-01")
        event = a_litellm_event(
            began_at=began_at,
            model=MODEL,
            model_group=MODEL,
            usage={"prompt_tokens": 7, "completion_tokens": 0, "total_tokens": 7, "prompt_tokens_details": None},
            prompt_tokens=7,
            completion_tokens=0,
            model_map_information={"model_map_key": MODEL},
            hidden_params={"litellm_model_name": f"openai/{MODEL}"},
        )
        posted = await clients[(number + 1) % 2].post("/v1/events", json=event, headers=admin)
        [result] = posted.json()["results"]
        charge = (await clients[0].get(f"/v1/charges/{result['charge_id']}", headers=admin)).json()
        assert (charge["price_book_version"], result["price_state"]) == (imported["version"], "priced"), charge
        assert charge["components"][0]["rate"] == str(number)


async def test_a_book_for_the_past_offers_what_was_priced_meanwhile(client: httpx.AsyncClient, admin: Headers):
    later = await accepted(client, admin, a_map(b=PRICE), effective_from="2026-11-10T00:00:00+01:00")
    earlier = await accepted(client, admin, a_map(), effective_from="2026-11-01")
    assert earlier["effective_to"] == later["effective_from"] == "2026-11-09T23:00:00Z"
    assert earlier["repriceable"] == {"from": "2026-11-01T00:00:00Z", "to": "2026-11-09T23:00:00Z"}
    assert later["repriceable"]["to"] == later["imported_at"]
    at = {"2026-11-09T22:59:59.999999Z": earlier["version"], "2026-11-09T23:00:00Z": later["version"]}
    for instant, version in at.items():
        assert (await price_of(client, admin, at=instant))["price_book_version"] == version
    before = await client.get("/v1/prices", headers=admin, params={"key": MODEL, "at": "2026-10-31"})
    assert before.status_code == 404


async def test_versions_are_listed_latest_import_first(client: httpx.AsyncClient, admin: Headers):
    made = [await accepted(client, admin, a_map(**{f"model-{number}": PRICE})) for number in range(3)]
    pages: list[dict[str, Any]] = []
    cursor: str | None = None
    while cursor is not None or not pages:
        query = {"limit": "2"} | ({} if cursor is None else {"cursor": cursor})
        page = (await client.get(PATH, headers=admin, params=query)).json()
        pages, cursor = [*pages, *page["price_books"]], page["next_cursor"]
    own = [row for row in pages if row["scope"] == "tenant"]
    assert [row["version"] for row in own] == [one["version"] for one in reversed(made)]
    assert [row["is_in_force"] for row in pages] == [True, *[False] * (len(pages) - 1)]
    assert (own[0]["models"], own[0]["imported_by"].partition(" ")[0]) == (2, "test")
    assert own[0]["origin"].startswith("posted by test")
    shared = [row for row in pages if row["scope"] == "installation"]
    assert shared
    assert all(row["imported_by"] is None for row in shared)
    assert shared[-1]["models"] > 4000


async def test_one_version_shows_its_report(client: httpx.AsyncClient, admin: Headers):
    imported = await accepted(client, admin, a_map())
    shown = (await client.get(f"{PATH}/{imported['version']}", headers=admin)).json()
    assert shown["report"] == imported["report"]
    assert [row["effective_from"] for row in shown["imports"]] == [imported["effective_from"]]
    missing = await client.get(f"{PATH}/sha256-0", headers=admin)
    assert (missing.status_code, missing.json()["code"]) == (404, "not_found")


async def test_a_tenant_never_sees_another_tenants_book(
    client: httpx.AsyncClient, admin: Headers, make_headers: MakeHeaders
):
    other = await make_headers(f"other-{utc_now().timestamp():.0f}")
    imported = await accepted(client, admin, a_map())
    assert (await client.get("/v1/prices", headers=other, params={"key": MODEL})).status_code == 404
    assert (await client.get(f"{PATH}/{imported['version']}", headers=other)).status_code == 404
    listed = (await client.get(PATH, headers=other)).json()["price_books"]
    assert {row["scope"] for row in listed} == {"installation"}
    found = (await client.get("/v1/prices", headers=other, params={"key": "gpt-4.1-mini"})).json()
    assert found["scope"] == "installation"


async def test_only_an_operator_imports_for_all_tenants(
    client: httpx.AsyncClient, admin: Headers, make_headers: MakeHeaders
):
    refused = await post(client, admin, a_map(), 403, scope="installation", dry_run=True)
    assert (refused["code"], refused["field"]) == ("forbidden", "scope")
    operator, other = await make_headers(is_operator=True), await make_headers("another-tenant")
    everybody = (await client.get("/v1/prices", headers=other, params={"limit": "1000"})).json()
    models = {price["key"]: PRICE for price in everybody["prices"]}
    start = "2031-05-01"
    await accepted(
        client,
        operator,
        json.dumps({"only-from-2031": PRICE, **models}).encode(),
        scope="installation",
        effective_from=start,
    )
    assert (await price_of(client, other, "only-from-2031", at=start))["scope"] == "installation"
    [entry] = (await client.get("/v1/audit?scope=installation&limit=1", headers=operator)).json()["entries"]
    assert (entry["action"], entry["after"]["effective_from"]) == ("price_book.imported", "2031-05-01T00:00:00Z")
    assert (await client.get("/v1/audit?scope=installation", headers=admin)).status_code == 403
    shown = (await client.get(PATH, headers=operator)).json()["price_books"][0]
    assert (shown["scope"], shown["imported_by"].partition(" ")[0]) == ("installation", "test")


@pytest.mark.parametrize("roles", [("ingest",), ("check",), ("read",)])
async def test_importing_takes_an_admin(client: httpx.AsyncClient, make_headers: MakeHeaders, roles: tuple[str, ...]):
    headers = await make_headers(roles=roles)
    await post(client, headers, a_map(), 403, dry_run=True)
    for path in (PATH, "/v1/prices?limit=1", f"{PATH}/sha256-0"):
        status = (await client.get(path, headers=headers)).status_code
        assert (status == 403) == (roles != ("read",)), (path, status)


async def test_without_a_token_there_is_nothing(client: httpx.AsyncClient):
    for path in (PATH, "/v1/prices", f"{PATH}/sha256-0"):
        assert (await client.get(path)).status_code == 401
    assert (await client.post(PATH, content=a_map())).status_code == 401


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "malformed_body"),
        (b"  \n", 400, "malformed_body"),
        (b"<!doctype html><html><body>Not found</body></html>", 422, "invalid_cost_map"),
        (b"{}", 422, "invalid_cost_map"),
        (b"[]", 422, "invalid_cost_map"),
        (b'{"message": "API rate limit exceeded"}', 422, "invalid_cost_map"),
        (b'{"sample_spec": {"mode": "chat"}}', 422, "invalid_cost_map"),
        (b'{"m": {"input_cost_per_token": -1}}', 422, "invalid_cost_map"),
        (b'{"m": {"input_cost_per_token": NaN}}', 422, "invalid_cost_map"),
        (b'{"m": {"input_cost_per_token": 1e999999999}}', 422, "invalid_cost_map"),
        (b'{"m": {"input_cost_per_token": "1e-6"}}', 422, "invalid_cost_map"),
        (b'{"m": ' + b"[" * 100_000, 422, "invalid_cost_map"),
        (b'{"a\\u0000b": {}}', 422, "invalid_cost_map"),
        (b'{"url": "file:///etc/passwd"}', 422, "url_not_allowed"),
        (b'{"url": "http://169.254.169.254/latest/meta-data"}', 422, "url_not_allowed"),
        (b'{"url": ""}', 422, "url_not_allowed"),
        (b'{"url": 5}', 422, "invalid_cost_map"),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_bodies_that_are_no_map_are_refused_with_a_code(
    client: httpx.AsyncClient, admin: Headers, body: bytes, status: int, code: str
):
    refused = await post(client, admin, body, status)
    assert refused["code"] == code
    assert len(refused["detail"]) < 1000


async def test_a_body_larger_than_a_map_is_refused_also_when_it_is_compressed(
    client: httpx.AsyncClient, admin: Headers
):
    large = b'{"m": {"x": "' + bytes(5 << 20) + b'"}}'
    assert (await post(client, admin, large, 413))["code"] == "body_too_large"
    packed = admin | {"content-encoding": "gzip"}
    assert (await post(client, packed, gzip.compress(large), 413))["code"] == "body_too_large"
    assert (await post(client, packed, a_map(), 400))["code"] == "malformed_body"


async def test_a_compressed_map_is_taken(client: httpx.AsyncClient, admin: Headers):
    shown = await post(client, admin | {"content-encoding": "gzip"}, gzip.compress(a_map()), 200, dry_run=True)
    assert shown["version"] == (await post(client, admin, a_map(), 200, dry_run=True))["version"]


async def test_models_stated_twice_and_hostile_names_of_keys_are_reported_and_kept(
    client: httpx.AsyncClient, admin: Headers
):
    strange = json.dumps({"x_cost\x00y": 1, "z_cost" * 200: 1})[1:-1]
    body = b'{"m": {"input_cost_per_token": 1}, "n": {}, "m": {"input_cost_per_token": 2, ' + strange.encode() + b"}}"
    imported = await accepted(client, admin, body)
    assert imported["report"]["repeated_models"] == {"count": 1, "models": ["m"]}
    assert len(imported["report"]["content"]["not_understood_keys"]) == 2
    kept = (await client.get(f"{PATH}/{imported['version']}", headers=admin)).json()["report"]
    assert kept == imported["report"]


@pytest.mark.parametrize(
    "query",
    [
        {"effective_from": "yesterday"},
        {"effective_from": "2026-11-01T00:00:00"},
        {"effective_from": "9999-12-31"},
        {"effective_from": "2150-01-01"},
        {"scope": "world"},
        {"dry_run": "perhaps"},
    ],
    ids=str,
)
async def test_parameters_that_mean_nothing_are_refused(
    client: httpx.AsyncClient, admin: Headers, query: dict[str, str]
):
    response = await client.post(PATH, content=a_map(), headers=admin, params=query)
    assert response.status_code in (400, 422), response.text
    assert response.json()["code"] in ("invalid_time", "invalid_input")


async def test_a_map_is_imported_from_an_address(client: httpx.AsyncClient, admin: Headers, map_server: MapServer):
    map_server.answers["/map?key=secret"] = answer(a_map())
    body = json.dumps({"url": f"{map_server.url}/map?key=secret"}).encode()
    imported = await accepted(client, admin, body)
    assert imported["origin"] == f"{map_server.url}/map"
    map_server.answers["/page"] = answer(b"<html>moved</html>")
    for path, code in (("/page", "invalid_cost_map"), ("/nothing", "download_failed")):
        refused = await post(client, admin, json.dumps({"url": map_server.url + path}).encode(), 422)
        assert refused["code"] == code


async def test_a_removed_model_that_was_used_lately_is_the_first_warning(
    client: httpx.AsyncClient, admin: Headers, make_headers: MakeHeaders
):
    posted = await client.post("/v1/events", json=a_litellm_event(), headers=admin)
    assert posted.json()["results"][0]["served_model"] == "openai/gpt-4.1-mini"
    shown = await post(client, admin, a_map(), 200, dry_run=True)
    [warning] = shown["report"]["warnings"]["warnings"]
    assert (warning["code"], warning["model"]) == ("used_model_removed", "gpt-4.1-mini")
    of_others = await post(client, await make_headers("a-quiet-tenant"), a_map(), 200, dry_run=True)
    assert of_others["report"]["warnings"]["count"] == 0
    operator = await make_headers(is_operator=True)
    of_all = await post(client, operator, a_map(), 200, dry_run=True, scope="installation")
    assert "gpt-4.1-mini" in {warning["model"] for warning in of_all["report"]["warnings"]["warnings"]}


async def test_checks_and_events_go_on_while_a_large_map_is_imported(client: httpx.AsyncClient, admin: Headers):
    entries = {f"model-{number}": {"input_cost_per_token": number} for number in range(25_000)}
    # The first check of a tenant has its configuration to load, which may take longer than a check's deadline.
    await client.post("/v1/events", json=a_litellm_event(), headers=admin)
    running = asyncio.create_task(accepted(client, admin, json.dumps(entries).encode()))
    answered = 0
    while not running.done():
        posted, checked = await asyncio.gather(
            client.post("/v1/events", json=a_litellm_event(), headers=admin),
            client.post("/v1/check", json={"model": "gpt-4.1-mini", "input_tokens": 10}, headers=admin),
        )
        assert (posted.status_code, checked.status_code) == (200, 200)
        answered += 1
    assert (await running)["outcome"] == "imported"
    assert answered > 3


async def test_prices_are_found_by_part_of_their_name_page_by_page(
    client: httpx.AsyncClient, make_headers: MakeHeaders
):
    headers = await make_headers(roles=("read",))
    keys: list[str] = []
    cursor: str | None = None
    while cursor is not None or not keys:
        query = {"model": "GPT-5.4", "limit": "3"} | ({} if cursor is None else {"cursor": cursor})
        page = (await client.get("/v1/prices", headers=headers, params=query)).json()
        assert len(page["prices"]) <= 3
        keys, cursor = [*keys, *(price["key"] for price in page["prices"])], page["next_cursor"]
    assert keys == sorted(set(keys))
    assert {"gpt-5.4", "azure/gpt-5.4"} <= set(keys)
    assert all("gpt-5.4" in key for key in keys)


async def test_a_price_shows_tiers_thresholds_units_windows_and_multipliers(
    client: httpx.AsyncClient, make_headers: MakeHeaders
):
    headers = await make_headers(roles=("read",))
    [price] = (await price_of(client, headers, "gpt-5.4"))["prices"]
    assert price["multipliers"]["data residency eu"] == "1.1"
    rates = {(rate["kind"], rate["service_tier"], rate["from_input_tokens"]): rate["usd"] for rate in price["rates"]}
    assert rates["text_input", None, None] == "0.0000025"
    assert rates["text_input", "flex", None] == "0.00000125"
    assert rates["text_input", None, 272_001] == "0.000005"
    [price] = (await price_of(client, headers, "whisper-1"))["prices"]
    assert {(rate["kind"], rate["unit"]) for rate in price["rates"]} >= {("input_audio_seconds", "second")}
    [price] = (await price_of(client, headers, "deepseek-v4-flash"))["prices"]
    assert any(rate["is_off_peak"] for rate in price["rates"])
    assert price["off_peak_windows"]
    [price] = (await price_of(client, headers, "azure_ai/model_router"))["prices"]
    assert price["rates"][0]["usd"] == "0.00000014"


async def test_a_name_that_is_not_there_is_answered_with_similar_ones(
    client: httpx.AsyncClient, make_headers: MakeHeaders
):
    headers = await make_headers(roles=("read",))
    response = await client.get("/v1/prices", headers=headers, params={"key": "gpt-5.44"})
    assert (response.status_code, response.json()["code"]) == (404, "not_found")
    assert "Similar: gpt-5.4" in response.json()["detail"]
    # The name charges give to a model that its list has without the provider.
    response = await client.get("/v1/prices", headers=headers, params={"key": "openai/gpt-5.4"})
    assert "Similar: gpt-5.4," in response.json()["detail"]
    for key in ("x" * 5000, "\x00", ""):
        assert (await client.get("/v1/prices", headers=headers, params={"key": key})).status_code == 404


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ({"at": "now"}, "invalid_time"),
        ({"key": "a", "model": "b"}, "invalid_input"),
        ({"cursor": "x"}, "invalid_cursor"),
        ({"cursor": "WzVd"}, "invalid_cursor"),
        ({"limit": "0"}, "invalid_limit"),
    ],
    ids=str,
)
async def test_questions_that_mean_nothing_are_refused(
    client: httpx.AsyncClient, admin: Headers, query: dict[str, str], code: str
):
    response = await client.get("/v1/prices", headers=admin, params=query)
    assert (response.status_code, response.json()["code"]) == (422, code)


@pytest.mark.parametrize("cursor", ["x", "WzUsNSw1XQ", "WyIyMDI2IiwiIiwieCJd", "WyIyMDI2LTExLTAxIiwiXHUwMDAwIiwieCJd"])
async def test_a_cursor_of_another_list_is_refused(client: httpx.AsyncClient, admin: Headers, cursor: str):
    response = await client.get(PATH, headers=admin, params={"cursor": cursor})
    assert (response.status_code, response.json()["code"]) == (422, "invalid_cursor")


async def test_imports_are_counted_without_naming_anybody(client: httpx.AsyncClient, admin: Headers, tenant_id: str):
    await post(client, admin, a_map(), 409)
    lines = [line for line in (await client.get("/metrics")).text.splitlines() if "price_book_imports" in line]
    assert any('outcome="refused"' in line for line in lines)
    assert not any(tenant_id in line for line in lines)
