"""`GET /v1/audit`: every administrative change, by whom, without a secret; read only."""

import json
from hashlib import sha256
from typing import Any

import pytest

from service.access.service import TenantService
from service.audit.repository import COMMAND_LINE
from service.kit.ids import new_id
from tests.api.checks.world import World
from tests.api.events.test_events import an_event, encoded

KEY = sha256(b"sk-a-key").hexdigest()


async def trail(world: World, **wanted: Any) -> list[dict[str, Any]]:
    return (await world.call("GET", "/v1/audit", params=wanted))["entries"]


async def test_an_alias_leaves_its_trail(world: World):
    made = await world.call("POST", "/v1/aliases", json={"alias": "fast", "model": "gpt-4.1-mini"}, expect=201)
    await world.call("DELETE", f"/v1/aliases/{made['id']}", expect=204)
    deleted, created = await trail(world, subject_type="alias")
    assert (created["action"], deleted["action"]) == ("alias.created", "alias.deleted")
    assert created["subject_id"] == deleted["subject_id"] == made["id"]
    assert (created["after"]["alias"], created["after"]["model"]) == ("fast", "gpt-4.1-mini")
    assert deleted["before"] == created["after"]
    assert created["before"] is deleted["after"] is None


async def test_an_alias_deleted_by_its_name_leaves_an_entry_per_alias(world: World):
    for year in (2025, 2026):
        dates = {"effective_from": f"{year}-01-01T00:00:00Z", "effective_to": f"{year + 1}-01-01T00:00:00Z"}
        await world.call("POST", "/v1/aliases", json={"alias": "fast", "model": "gpt-4.1-mini", **dates}, expect=201)
    await world.call("DELETE", "/v1/aliases", params={"alias": "FAST"}, expect=204)
    assert len(await trail(world, action="alias.deleted")) == 2


async def test_a_key_leaves_its_trail(world: World):
    await world.call("PUT", f"/v1/keys/{KEY}", json={"team": "core"})
    await world.call("PUT", f"/v1/keys/{KEY}", json={"team": "new", "blocked": True})
    await world.call("DELETE", f"/v1/keys/{KEY}", expect=204)
    deleted, changed, declared = await trail(world, subject_type="key", subject_id=KEY)
    assert [entry["action"] for entry in (declared, changed, deleted)] == [
        "key.declared",
        "key.declared",
        "key.deleted",
    ]
    assert declared["before"] is None
    assert declared["after"] == changed["before"]
    assert (declared["after"]["team"], declared["after"]["blocked"]) == ("core", False)
    assert (changed["after"]["team"], changed["after"]["blocked"]) == ("new", True)
    assert (deleted["before"], deleted["after"]) == (changed["after"], None)


async def test_settings_leave_their_trail(world: World):
    await world.call("PATCH", "/v1/settings", json={"enforcement": "shadow", "deny_status": 429})
    [entry] = await trail(world, action="settings.changed")
    assert (entry["before"]["enforcement"], entry["after"]["enforcement"]) == ("enforce", "shadow")
    assert (entry["before"]["deny_status"], entry["after"]["deny_status"]) == (402, 429)
    assert entry["after"]["fallback_input_usd_per_million"] == "5"
    assert entry["subject_id"] == world.tenant_id


async def test_a_token_leaves_its_trail_and_never_its_text(world: World):
    request = {"name": "gateway", "roles": ["ingest"], "pinned": {"team": "core"}}
    made = await world.call("POST", "/v1/tokens", json=request, expect=201)
    await world.call("DELETE", f"/v1/tokens/{made['id']}", expect=204)
    await world.call("DELETE", f"/v1/tokens/{made['id']}", expect=204)
    entries = await trail(world, subject_id=made["id"])
    assert [entry["action"] for entry in entries] == ["token.revoked", "token.created"]
    assert entries[1]["after"]["pinned"] == {"team": "core"}
    assert entries[1]["after"]["roles"] == ["ingest"]
    everything = json.dumps(await trail(world))
    assert made["token"] not in everything
    assert sha256(made["token"].encode()).hexdigest() not in everything


async def test_a_budget_leaves_its_trail(world: World):
    body = {"match": {"team": "core"}, "limit_usd": "10", "period": "monthly"}
    made = await world.call("PUT", "/v1/budgets/b", json=body, expect=201)
    await world.call("PATCH", "/v1/budgets/b", json={"limit_usd": "20"})
    await world.call("PUT", "/v1/budgets/b", json={**body, "limit_usd": "20"})
    await world.call("PUT", "/v1/budgets/b", json={**body, "limit_usd": "30"})
    other = await world.call("PUT", "/v1/budgets/b", json={**body, "match": {"team": "x"}}, expect=201)
    await world.call("DELETE", "/v1/budgets/b", expect=204)
    created = await world.call("POST", "/v1/budgets", json={**body, "slug": "c"}, expect=201)
    entries = await trail(world, subject_type="budget")
    assert [(entry["action"], entry["subject_id"]) for entry in reversed(entries)] == [
        ("budget.created", made["budget_id"]),
        ("budget.changed", made["budget_id"]),
        ("budget.changed", made["budget_id"]),
        ("budget.archived", made["budget_id"]),
        ("budget.created", other["budget_id"]),
        ("budget.archived", other["budget_id"]),
        ("budget.created", created["budget_id"]),
    ]
    limits = [(entry["before"] or {}).get("limit_usd") for entry in reversed(entries)]
    assert limits == [None, "10", "20", "30", None, "10", None]
    assert entries[-1]["after"]["match"] == {"team": "core"}
    assert entries[-1]["after"]["slug"] == "b"


async def test_who_changed_something_is_the_token_by_name_and_id(world: World):
    made = await world.call("POST", "/v1/tokens", json={"name": "second", "roles": ["admin"]}, expect=201)
    headers = {"authorization": f"Bearer {made['token']}"}
    await world.call("PUT", f"/v1/keys/{KEY}", json={}, headers=headers)
    [entry] = await trail(world, subject_type="key")
    assert entry["changed_by"] == f"second ({made['id']})"
    assert await trail(world, changed_by=entry["changed_by"]) == [entry]


async def test_what_the_command_line_makes_is_in_the_trail_of_its_tenant(world: World):
    tenant_id = f"t-{new_id().hex}"
    _, token = await TenantService(world.services.pools.postgres).create(tenant_id, "Name")
    headers = {"authorization": f"Bearer {token.text}"}
    shown = (await world.call("GET", "/v1/audit", headers=headers))["entries"]
    assert [(entry["action"], entry["changed_by"]) for entry in shown] == [
        ("token.created", COMMAND_LINE),
        ("tenant.created", COMMAND_LINE),
    ]
    assert shown[1]["after"] == {"name": "Name"}


async def test_an_operator_is_named_in_the_trail_of_the_tenant_it_creates(world: World):
    operator = await world.make_token(name="operator", is_operator=True)
    tenant_id = f"t-{new_id().hex}"
    made = await world.call("POST", "/v1/tenants", json={"id": tenant_id}, headers=operator, expect=201)
    headers = {"authorization": f"Bearer {made['token']}"}
    shown = (await world.call("GET", "/v1/audit", headers=headers))["entries"]
    assert all(entry["changed_by"].startswith("operator (") for entry in shown)
    assert len(shown) == 2
    assert await trail(world, subject_type="tenant") == []


async def test_the_trail_is_paged_newest_first_and_narrowed_to_a_time(world: World):
    for number in range(5):
        await world.call("PUT", f"/v1/keys/{KEY}", json={"team": str(number)})
    whole = await trail(world, subject_type="key")
    assert [entry["after"]["team"] for entry in whole] == ["4", "3", "2", "1", "0"]
    pages, cursor = [], None
    while True:
        page = await world.call(
            "GET", "/v1/audit", params={"subject_type": "key", "limit": "2"} | ({"cursor": cursor} if cursor else {})
        )
        pages += page["entries"]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert pages == whole
    middle = whole[2]["changed_at"]
    assert await trail(world, subject_type="key", **{"from": middle}) == whole[:3]
    assert await trail(world, subject_type="key", to=middle) == whole[3:]


async def test_the_trail_of_one_tenant_is_nothing_to_another(world: World, other_world: World):
    await world.call("PUT", f"/v1/keys/{KEY}", json={})
    assert await trail(other_world, subject_type="key") == []


async def test_the_trail_is_for_admins_and_for_reading(world: World):
    reader = await world.make_token(roles=("read", "ingest", "check"))
    await world.call("GET", "/v1/audit", headers=reader, expect=403)
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        await world.call(method, "/v1/audit", expect=405)


@pytest.mark.parametrize(
    "wanted",
    [
        {"cursor": "x"},
        {"cursor": "WzFd"},
        {"limit": "0"},
        {"from": "yesterday"},
        {"to": "x"},
        {"subject_id": "a\u0000b"},
        {"action": "x" * 1001},
    ],
)
async def test_a_hostile_question_is_refused(world: World, wanted: dict[str, str]):
    await world.call("GET", "/v1/audit", params=wanted, expect=422)


async def test_a_refused_change_leaves_no_entry(world: World):
    before = await trail(world)
    await world.call("POST", "/v1/aliases", json={"alias": "a", "model": "a"}, expect=409)
    await world.call("DELETE", f"/v1/aliases/{new_id()}", expect=404)
    await world.call("DELETE", "/v1/aliases", params={"alias": "nobody"}, expect=404)
    await world.call("DELETE", f"/v1/keys/{KEY}", expect=404)
    await world.call("PATCH", "/v1/settings", json={"fallback_input_usd_per_million": "-1"}, expect=422)
    await world.call("PATCH", "/v1/budgets/none", json={"limit_usd": "1"}, expect=404)
    assert await trail(world) == before


async def test_a_budget_that_is_put_as_it_is_leaves_no_entry(world: World):
    await world.put_budget(limit_usd="1")
    count = len(await trail(world, subject_type="budget"))
    await world.put_budget(limit_usd="1")
    assert len(await trail(world, subject_type="budget")) == count


async def test_a_reversal_leaves_its_entry_once(world: World):
    charge = await world.post_event()
    path = f"/v1/charges/{charge['charge_id']}/reverse"
    done = await world.call("POST", path, json={"reason": "a test"}, expect=201)
    await world.call("POST", path, json={"reason": "again"}, expect=409)
    [entry] = await trail(world, subject_type="charge")
    assert (entry["action"], entry["subject_id"]) == ("charge.reversed", charge["charge_id"])
    assert entry["after"] == {"reversal_id": done["charge_id"], "reason": "a test"}


async def test_decisions_over_the_quarantine_leave_their_entries(world: World):
    usage = an_event()["metadata"]["usage_object"] | {"prompt_tokens": 1000, "completion_tokens": 0}
    other = an_event(metadata=an_event()["metadata"] | {"usage_object": usage}, prompt_tokens=1000, completion_tokens=0)
    bad = [an_event(id=name, prompt_tokens=-1, messages=[{"content": "the secret plan"}]) for name in ("a", "b")]
    for body in (encoded(an_event()), encoded(other), encoded(*bad)):
        await world.call("POST", "/v1/events", content=body)
    waiting = (await world.call("GET", "/v1/quarantine"))["elements"]
    [conflict] = [element for element in waiting if element["kind"] == "conflict"]
    rejected = [element for element in waiting if element["kind"] == "rejected"]
    await world.call("POST", f"/v1/quarantine/{conflict['id']}/accept", json={"reason": "late"}, expect=204)
    await world.call("DELETE", f"/v1/quarantine/{rejected[0]['id']}", params={"reason": "noise"}, expect=204)
    await world.call("POST", f"/v1/quarantine/{rejected[1]['id']}/retry")
    entries = await trail(world, subject_type="quarantine")
    assert [(entry["action"], entry["subject_id"]) for entry in entries] == [
        ("quarantine.deleted", rejected[0]["id"]),
        ("quarantine.accepted", conflict["id"]),
    ]
    assert [entry["after"] for entry in entries] == [{"reason": "noise"}, {"reason": "late"}]
    assert entries[1]["before"]["conflict_charge_id"] == conflict["charge_id"]
    assert "secret" not in json.dumps(entries)
