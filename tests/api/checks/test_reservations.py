"""`/v1/reservations`: holds by their id, within their tenant."""

from datetime import datetime

from service.kit.ids import new_id
from tests.api.checks.world import World


async def test_a_reservation_can_be_shown_renewed_and_voided(world: World):
    await world.put_budget(limit_usd="1")
    taken = (await world.check(reserve=True, estimated_cost_usd="0.4", ttl_seconds=60))["reservation"]
    shown = await world.call("GET", f"/v1/reservations/{taken['id']}")
    assert (shown["state"], shown["amount_usd"], shown["consumed_usd"]) == ("live", "0.4", "0")
    assert shown["requested_model"] == "gpt-4.1-mini"
    assert shown["expires_at"] == taken["expires_at"]
    renewed = await world.call("POST", f"/v1/reservations/{taken['id']}/renew", json={"ttl_seconds": 3600})
    gained = datetime.fromisoformat(renewed["expires_at"]) - datetime.fromisoformat(taken["expires_at"])
    assert 3500 < gained.total_seconds() <= 3600
    voided = await world.call("DELETE", f"/v1/reservations/{taken['id']}")
    assert voided["state"] == "voided"
    assert (await world.check())["budgets"][0]["held_usd"] == "0"
    assert (await world.call("DELETE", f"/v1/reservations/{taken['id']}"))["state"] == "voided"
    problem = await world.call("POST", f"/v1/reservations/{taken['id']}/renew", expect=409)
    assert problem["code"] == "reservation_ended"


async def test_unknown_reservations_are_not_found(world: World):
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/renew")):
        problem = await world.call(method, f"/v1/reservations/{new_id()}{path}", expect=404)
        assert problem["code"] == "not_found"


async def test_another_tenants_reservation_does_not_exist(world: World):
    await world.put_budget(limit_usd="1")
    taken = (await world.check(reserve=True, estimated_cost_usd="0.4"))["reservation"]
    stranger = World(world.services, world.client, f"{world.tenant_id[:50]}-b")
    await stranger.create_tenant()
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/renew")):
        await stranger.call(method, f"/v1/reservations/{taken['id']}{path}", expect=404)
    assert (await stranger.check(request_id=taken["id"], reserve=True))["reservation"]["id"] == taken["id"]
    await stranger.call("DELETE", f"/v1/reservations/{taken['id']}")
    assert (await world.check())["budgets"][0]["held_usd"] == "0.4"


async def test_events_that_are_not_final_consume_and_the_final_one_settles(world: World):
    await world.put_budget(limit_usd="1")
    call_id = str(new_id())
    await world.check(request_id=call_id, reserve=True, estimated_cost_usd="0.4")
    await world.post_event(cost="0.1", litellm_call_id=call_id, tallygate={"final": False})
    standing = (await world.check())["budgets"][0]
    assert (standing["posted_usd"], standing["held_usd"]) == ("0.1", "0.3")
    shown = await world.call("GET", f"/v1/reservations/{call_id}")
    assert (shown["state"], shown["consumed_usd"]) == ("live", "0.1")
    await world.post_event(cost="0.1", tallygate={"reservation_id": call_id})
    standing = (await world.check())["budgets"][0]
    assert (standing["posted_usd"], standing["held_usd"]) == ("0.2", "0")


async def test_bad_renewals_are_refused(world: World):
    await world.put_budget(limit_usd="1")
    taken = (await world.check(reserve=True))["reservation"]
    for body in ({"ttl_seconds": 4}, {"ttl_seconds": 86_401}, {"ttl_seconds": "60"}, {"seconds": 60}):
        await world.call("POST", f"/v1/reservations/{taken['id']}/renew", expect=422, json=body)
    await world.call("POST", f"/v1/reservations/{taken['id']}/renew")
