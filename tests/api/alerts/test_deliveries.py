"""Alerts are told to webhooks: signed, by template, again until they are taken."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from service.alerts import sender as sender_module
from service.alerts.delivery_repository import claim_deliveries
from service.alerts.sender import Sender
from service.settings import AlertsSettings
from tests.api.alerts.alert_world import AlertWorld
from tests.api.checks.world import until
from tests.webhook_receiver import status


async def cross(world: AlertWorld, **fields: Any) -> None:
    """Make a budget and reach its only threshold."""
    await world.put_budget(limit_usd="10", thresholds=[0.5], **fields)
    await world.post_event(cost="6")


async def make_due(world: AlertWorld) -> None:
    """Let what waits for another attempt be due now."""
    await world.execute(
        "UPDATE webhook_delivery SET next_attempt_at = now() WHERE tenant_id = %s AND state = 'pending'",
        world.tenant_id,
    )


async def test_an_alert_is_delivered_signed_to_every_webhook_that_wants_it(world: AlertWorld):
    first, first_path = await world.create_webhook()
    second, second_path = await world.create_webhook()
    await cross(world)
    (alert,) = await world.raised(1)
    for webhook, path in ((first, first_path), (second, second_path)):
        (received,) = await world.received(path)
        received.assert_signed_with(webhook["secret"])
        assert received.headers["content-type"] == "application/json"
        assert received.document == {
            "type": "budget.threshold_reached",
            "timestamp": alert["raised_at"],
            "data": alert,
        }
    deliveries = await world.settled("delivered", 2)
    assert {delivery["webhook_id"] for delivery in deliveries} == {first["id"], second["id"]}
    assert {(d["alert_id"], d["attempts"], d["last_status"]) for d in deliveries} == {(alert["id"], 1, 204)}
    (received,) = world.receiver.at(first_path)
    assert received.headers["webhook-id"] == next(d["id"] for d in deliveries if d["webhook_id"] == first["id"])


async def test_webhooks_are_told_only_of_the_events_and_budgets_they_name(world: AlertWorld):
    for slug in ("b", "another"):
        await world.put_budget(slug)
    _, wanted = await world.create_webhook(events=["budget.threshold_reached"], budgets=["b"])
    await world.create_webhook(events=["budget.projected_exhaustion"])
    await world.create_webhook(budgets=["another"])
    await cross(world)
    await world.received(wanted)
    assert len(await world.deliveries()) == 1


async def test_slacks_form_is_a_template(world: AlertWorld):
    webhook, path = await world.create_webhook(template={"text": ":warning: ${text}"}, escape_markup=True)
    await cross(world, name="<!channel> R&D")
    (received,) = await world.received(path)
    received.assert_signed_with(webhook["secret"])
    assert received.document == {
        "text": ":warning: Budget '&lt;!channel&gt; R&amp;D' has reached 50 % of its limit: 6 of 10 USD."
    }


async def test_a_text_is_delivered_as_text(world: AlertWorld):
    _, path = await world.create_webhook(template="${budget.slug}: ${posted_usd} of $$${limit_usd}")
    await cross(world)
    (received,) = await world.received(path)
    assert received.body == b"b: 6 of $10"
    assert received.headers["content-type"] == "text/plain; charset=utf-8"


async def test_what_is_refused_is_tried_again_with_the_same_id(world: AlertWorld):
    webhook, path = await world.create_webhook()
    world.receiver.answers[path] = [status(500), status(503), status(200)]
    await cross(world)
    for attempts in (1, 2):
        await world.received(path, attempts)

        async def is_put_off(attempts: int = attempts) -> bool:
            (delivery,) = await world.deliveries()
            return delivery["last_status"] is not None and delivery["attempts"] == attempts

        await until(is_put_off)
        (delivery,) = await world.deliveries(state="pending")
        assert delivery["last_error"] == f"the receiver answered with status {delivery['last_status']}"
        assert delivery["next_attempt_at"] > delivery["created_at"]
        await make_due(world)
    (delivery,) = await world.settled("delivered")
    received = world.receiver.at(path)
    assert [each.headers["webhook-id"] for each in received] == [delivery["id"]] * 3
    assert delivery["attempts"] == 3
    received[-1].assert_signed_with(webhook["secret"])


async def test_a_retry_after_is_respected(world: AlertWorld):
    _, path = await world.create_webhook()
    world.receiver.answers[path] = [status(429, retry_after="3600")]
    await cross(world)
    await world.received(path)

    async def is_put_off() -> bool:
        (delivery,) = await world.deliveries()
        return delivery["last_status"] == 429

    await until(is_put_off)
    async with world.services.pools.postgres.connection() as connection:
        cursor = await connection.execute(
            "SELECT next_attempt_at - now() > interval '59 minutes' FROM webhook_delivery WHERE tenant_id = %s",
            (world.tenant_id,),
        )
        assert await cursor.fetchone() == (True,)


async def test_redirects_are_not_followed(world: AlertWorld):
    _, path = await world.create_webhook()
    world.receiver.answers[path] = [status(307, location=f"{world.receiver.url}/elsewhere{path}")]
    await cross(world)
    await world.received(path)

    async def is_noted() -> bool:
        (delivery,) = await world.deliveries()
        return bool(delivery["last_error"] == "redirects are not followed")

    await until(is_noted)
    assert world.receiver.at(f"/elsewhere{path}") == []
    assert world.receiver.at(f"GET /elsewhere{path}") == []


async def test_a_receiver_that_does_not_answer_is_given_up_in_time(world: AlertWorld):
    _, path = await world.create_webhook()
    world.receiver.answers[path] = [world.receiver.never()]
    await cross(world)

    async def is_noted() -> bool:
        return any(delivery["last_error"] == "no answer within 1 s" for delivery in await world.deliveries())

    await until(is_noted)


async def test_the_body_of_an_answer_is_not_read(world: AlertWorld):
    _, path = await world.create_webhook()
    world.receiver.answers[path] = [world.receiver.endless()]
    await cross(world)
    await world.settled("delivered")


async def test_nobody_listening_is_told_and_tried_again(world: AlertWorld):
    async with await asyncio.start_server(lambda _, __: None, "127.0.0.1", 0) as listener:
        port = listener.sockets[0].getsockname()[1]
    await world.call("POST", "/v1/webhooks", json={"url": f"http://127.0.0.1:{port}/"}, expect=201)
    await cross(world)

    async def is_noted() -> bool:
        return any(d["last_error"] == "ConnectError while talking to the receiver" for d in await world.deliveries())

    await until(is_noted)


async def test_a_receiver_that_is_gone_disables_its_webhook(world: AlertWorld):
    webhook, path = await world.create_webhook()
    world.receiver.answers[path] = [status(410)]
    await cross(world)
    (delivery,) = await world.settled("failed")
    assert delivery["last_status"] == 410
    shown = await world.call("GET", f"/v1/webhooks/{webhook['id']}")
    assert (shown["enabled"], shown["disabled_reason"]) == (False, "the receiver answered 410 Gone")
    entries = await world.call("GET", "/v1/audit", params={"subject_id": webhook["id"]})
    assert [entry["action"] for entry in entries["entries"]] == ["webhook.disabled", "webhook.created"]
    await world.post_event(cost="0.01")
    await world.call("POST", f"/v1/webhooks/{webhook['id']}/test", expect=409)


async def test_what_is_too_old_has_failed(world: AlertWorld):
    _, path = await world.create_webhook()
    world.receiver.answers[path] = [status(500)]
    await cross(world)
    await world.received(path)
    await world.execute(
        "UPDATE webhook_delivery SET created_at = now() - interval '73 hours' WHERE tenant_id = %s", world.tenant_id
    )
    await make_due(world)

    async def has_failed() -> bool:
        async with world.services.pools.postgres.connection() as connection:
            cursor = await connection.execute(
                "SELECT state FROM webhook_delivery WHERE tenant_id = %s", (world.tenant_id,)
            )
            return await cursor.fetchone() == ("failed",)

    await until(has_failed)


async def test_what_waits_for_a_disabled_webhook_goes_on_when_it_is_enabled(world: AlertWorld):
    webhook, path = await world.create_webhook()
    world.receiver.answers[path] = [status(500), status(204)]
    await cross(world)
    await world.received(path)
    await world.call("PATCH", f"/v1/webhooks/{webhook['id']}", json={"enabled": False})
    await make_due(world)
    await world.call("POST", "/v1/webhooks", json={"url": f"{world.receiver.url}/marker"}, expect=201)
    assert [delivery["state"] for delivery in await world.deliveries()] == ["pending"]
    await world.call("PATCH", f"/v1/webhooks/{webhook['id']}", json={"enabled": True})
    await make_due(world)
    await world.settled("delivered")
    assert len(world.receiver.at(path)) == 2


async def test_deleting_a_webhook_cancels_what_waits_for_it(world: AlertWorld):
    webhook, path = await world.create_webhook()
    world.receiver.answers[path] = [status(500)]
    await cross(world)
    await world.received(path)
    await world.call("DELETE", f"/v1/webhooks/{webhook['id']}", expect=204)
    (delivery,) = await world.settled("canceled")
    assert delivery["next_attempt_at"] is None


async def test_a_test_is_delivered_like_an_alert(world: AlertWorld):
    webhook, path = await world.create_webhook()
    answer = await world.call("POST", f"/v1/webhooks/{webhook['id']}/test", expect=202)
    (received,) = await world.received(path)
    received.assert_signed_with(webhook["secret"])
    assert received.headers["webhook-id"] == answer["delivery_id"]
    assert received.document["type"] == "webhook.test"
    (delivery,) = await world.settled("delivered")
    assert (delivery["event"], delivery["alert_id"]) == ("webhook.test", None)


def a_sender(world: AlertWorld, **settings: int) -> Sender:
    chosen = AlertsSettings(allow_private_addresses=True, delivery_timeout_seconds=60, **settings)
    return Sender(world.services.pools.postgres, chosen)


@asynccontextmanager
async def without_sender(world: AlertWorld) -> AsyncIterator[None]:
    """Let the application deliver nothing."""
    sender = world.services.webhook_service._sender
    await sender.close()
    try:
        yield
    finally:
        sender.start()


async def test_a_dead_host_does_not_hold_up_another(world: AlertWorld):
    _, dead = await world.create_webhook()
    world.receiver.answers[dead] = [world.receiver.never()]
    alive = f"/alive{dead}"
    await world.call("POST", "/v1/webhooks", json={"url": f"http://localhost:{world.receiver.port}{alive}"}, expect=201)
    await world.put_budget(match={"user": "*"}, limit_usd="10", thresholds=[0.5])
    sender = a_sender(world, max_deliveries=4, max_deliveries_per_host=2)
    async with without_sender(world):
        for number in range(8):
            await world.post_event(cost="6", metadata={"user_api_key_user_id": f"u{number}"})
        await world.raised(8)
        # The dead host has waited longer: it comes first.
        await world.execute(
            "UPDATE webhook_delivery AS d SET next_attempt_at = now() - interval '1 hour' FROM webhook AS w"
            " WHERE w.webhook_id = d.webhook_id AND w.host LIKE '127.%%' AND d.tenant_id = %s",
            world.tenant_id,
        )
        sender.start()
        try:
            await world.received(alive, 8)
            assert len(world.receiver.at(dead)) == 2
        finally:
            await sender.close()
    assert len({each.headers["webhook-id"] for each in world.receiver.at(alive)}) == 8


async def test_a_sender_that_ends_gives_back_what_it_was_at(world: AlertWorld):
    webhook, path = await world.create_webhook()
    world.receiver.answers[path] = [world.receiver.never(), status(204)]
    async with without_sender(world):
        first = a_sender(world)
        first.start()
        await world.call("POST", f"/v1/webhooks/{webhook['id']}/test", expect=202)
        await world.received(path)
        await first.close()
        (delivery,) = await world.deliveries()
        assert (delivery["state"], delivery["attempts"]) == ("pending", 0)
        second = a_sender(world)
        second.start()
        (delivery,) = await world.settled("delivered")
        await second.close()
    assert delivery["attempts"] == 1
    assert len({each.headers["webhook-id"] for each in world.receiver.at(path)}) == 1


@pytest.mark.parametrize("step", ["claim_deliveries", "read_oldest_pending_seconds"])
async def test_an_error_of_our_own_does_not_end_the_sender(
    world: AlertWorld, monkeypatch: pytest.MonkeyPatch, step: str
):
    webhook, path = await world.create_webhook()
    sound = getattr(sender_module.repository, step)
    failures = 0

    async def fail_once(*arguments: Any, **named: Any) -> Any:
        nonlocal failures
        failures += 1
        if failures == 1:
            raise LookupError("a mistake")
        return await sound(*arguments, **named)

    async with without_sender(world):
        monkeypatch.setattr(sender_module.repository, step, fail_once)
        sender = a_sender(world)
        sender.start()
        try:
            for _ in range(2):
                await world.call("POST", f"/v1/webhooks/{webhook['id']}/test", expect=202)
                sender.wake()
            await world.received(path, 2)
            await world.settled("delivered", 2)
        finally:
            await sender.close()
    assert failures > 1
    assert not +sender._in_flight


async def test_a_delivery_whose_sender_died_comes_up_again(world: AlertWorld):
    webhook, path = await world.create_webhook()
    async with without_sender(world):
        await world.call("POST", f"/v1/webhooks/{webhook['id']}/test", expect=202)
        async with world.services.pools.postgres.connection() as connection:
            claimed = await claim_deliveries(connection, in_flight={}, per_host=8, most=500, lease_seconds=0.1)
        assert webhook["id"] in {str(each.webhook_id) for each in claimed}
        assert all(webhook["secret"] not in repr(each) for each in claimed)
        sender = a_sender(world)
        sender.start()
        (delivery,) = await world.settled("delivered")
        await sender.close()
    assert delivery["attempts"] == 2
    assert len(world.receiver.at(path)) == 1


async def test_the_answer_to_a_claim_that_was_lost_changes_nothing(world: AlertWorld):
    """Who comes back after its lease is over has no say any more."""
    webhook, path = await world.create_webhook()
    world.receiver.answers[path] = [world.receiver.never()]
    await world.call("POST", f"/v1/webhooks/{webhook['id']}/test", expect=202)
    await world.received(path)
    await world.execute("UPDATE webhook_delivery SET attempts = attempts + 1 WHERE tenant_id = %s", world.tenant_id)
    world.receiver.answers[path] = [status(204)]
    await make_due(world)
    (delivery,) = await world.settled("delivered")
    assert delivery["attempts"] == 3


@pytest.mark.parametrize("address", ["169.254.169.254", "[::ffff:169.254.169.254]", "[fe80::1]"])
async def test_an_address_is_judged_again_at_every_attempt(world: AlertWorld, address: str):
    """As if the name had meant something else when the webhook was created."""
    webhook, _ = await world.create_webhook()
    await world.execute(
        "UPDATE webhook SET url = %s WHERE webhook_id = %s", f"http://{address}/latest/meta-data", webhook["id"]
    )
    await world.call("POST", f"/v1/webhooks/{webhook['id']}/test", expect=202)

    async def is_refused() -> bool:
        (delivery,) = await world.deliveries()
        return "never asked" in (delivery["last_error"] or "")

    await until(is_refused)


async def test_a_body_that_is_too_large_is_not_sent_and_the_list_says_so(world: AlertWorld):
    """Of a template that is older than its bounds."""
    webhook, path = await world.create_webhook()
    template = json.dumps(["${data}"] * 10_000)
    await world.execute("UPDATE webhook SET template = %s::json WHERE webhook_id = %s", template, webhook["id"])
    await world.call("POST", f"/v1/webhooks/{webhook['id']}/test", expect=202)

    async def is_told() -> bool:
        (delivery,) = await world.deliveries()
        return "of at most 262144" in (delivery["last_error"] or "")

    await until(is_told)
    assert world.receiver.at(path) == []
