from typing import Any
from uuid import uuid4

import httpx
import pytest

from service.config.fence import fence_key
from service.config.service import ConfigStore
from service.db.pools import Pools
from tests.api.access.conftest import MakeToken

DEFAULTS = {
    "enforcement": "enforce",
    "fallback_input_usd_per_million": "5",
    "fallback_output_usd_per_million": "25",
    "deny_status": 402,
    "deny_detail": "summary",
    "trust_gateway_custom_prices": True,
}


async def settings_of(client: httpx.AsyncClient, headers: dict[str, str]) -> dict[str, Any]:
    answer = await client.get("/v1/settings", headers=headers)
    assert answer.status_code == 200, answer.text
    settings: dict[str, Any] = answer.json()
    return settings


async def test_a_new_tenant_has_the_defaults(client: httpx.AsyncClient, make_token: MakeToken) -> None:
    admin = await make_token()
    assert await settings_of(client, admin.headers) == DEFAULTS | {"config_version": 1}


@pytest.mark.parametrize(
    "change",
    [
        {"enforcement": "shadow"},
        {"enforcement": "off"},
        {"fallback_input_usd_per_million": "0.0000001"},
        {"fallback_output_usd_per_million": "0"},
        {"deny_status": 429},
        {"deny_detail": "none"},
        {"trust_gateway_custom_prices": False},
        {"enforcement": "shadow", "deny_status": 403, "deny_detail": "full"},
    ],
)
async def test_a_change_names_what_changes_and_leaves_the_rest(
    client: httpx.AsyncClient, make_token: MakeToken, change: dict[str, Any]
) -> None:
    admin = await make_token()
    changed = await client.patch("/v1/settings", json=change, headers=admin.headers)
    assert changed.status_code == 200, changed.text
    assert changed.json() == DEFAULTS | change | {"config_version": 2}
    assert await settings_of(client, admin.headers) == changed.json()


async def test_a_change_is_in_force_when_it_is_answered(
    client: httpx.AsyncClient, make_token: MakeToken, configs: ConfigStore, pools: Pools, tenant_id: str
) -> None:
    admin = await make_token()
    before = await configs.get(tenant_id)
    assert (before.enforcement, before.settings.deny_status, before.version) == ("enforce", 402, 1)
    await client.patch("/v1/settings", json={"enforcement": "shadow", "deny_status": 429}, headers=admin.headers)
    after = await configs.get(tenant_id)
    assert (after.enforcement, after.settings.deny_status, after.version) == ("shadow", 429, 2)
    # Checks elsewhere, made with what was in force before, are told to reload.
    assert await pools.redis.get(fence_key(tenant_id)) == b"2"


async def test_changes_add_up_and_null_undoes_one(client: httpx.AsyncClient, make_token: MakeToken) -> None:
    admin = await make_token()
    for change in ({"deny_status": 429}, {"deny_detail": "none"}, {"deny_status": None}):
        assert (await client.patch("/v1/settings", json=change, headers=admin.headers)).status_code == 200
    assert await settings_of(client, admin.headers) == DEFAULTS | {"deny_detail": "none", "config_version": 4}


async def test_a_change_of_nothing_is_no_change(client: httpx.AsyncClient, make_token: MakeToken) -> None:
    admin = await make_token()
    assert (await client.patch("/v1/settings", json={}, headers=admin.headers)).json()["config_version"] == 1


@pytest.mark.parametrize(
    ("change", "status", "field"),
    [
        ({"enforcement": "sometimes"}, 400, "enforcement"),
        ({"enforcement": None}, 400, "enforcement"),
        ({"deny_status": 500}, 400, "deny_status"),
        ({"deny_status": 402.5}, 400, "deny_status"),
        ({"deny_detail": "everything"}, 400, "deny_detail"),
        ({"trust_gateway_custom_prices": "yes"}, 400, "trust_gateway_custom_prices"),
        ({"fallback_input_usd_per_million": 5}, 400, "fallback_input_usd_per_million"),
        ({"fallback_input_usd_per_million": "NaN"}, 422, "fallback_input_usd_per_million"),
        ({"fallback_input_usd_per_million": "-1"}, 422, "fallback_input_usd_per_million"),
        ({"fallback_output_usd_per_million": "1e400"}, 422, "fallback_output_usd_per_million"),
        ({"colour": "blue"}, 400, None),
    ],
)
async def test_a_wrong_value_is_refused_with_its_field_and_changes_nothing(
    client: httpx.AsyncClient, make_token: MakeToken, change: dict[str, Any], status: int, field: str | None
) -> None:
    admin = await make_token()
    refused = await client.patch("/v1/settings", json={"deny_detail": "full"} | change, headers=admin.headers)
    assert refused.status_code == status, refused.text
    if field is not None:
        assert refused.json()["field"] == field
    assert await settings_of(client, admin.headers) == DEFAULTS | {"config_version": 1}


async def test_one_tenants_change_is_no_other_tenants(client: httpx.AsyncClient, make_token: MakeToken) -> None:
    admin, stranger = await make_token(), await make_token(tenant=f"other-{uuid4().hex}")
    await client.patch("/v1/settings", json={"enforcement": "off"}, headers=admin.headers)
    assert await settings_of(client, stranger.headers) == DEFAULTS | {"config_version": 1}
