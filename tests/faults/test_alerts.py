"""Fault 34: alerts crossed by concurrent batches, and by batches whose server died, are raised and told once."""

import json
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import httpx
import pytest

from service.db.pools import Pools
from tests.faults.chat_events import chat_event
from tests.faults.conftest import StartServer, Tenant
from tests.faults.replica import Caller, together
from tests.faults.server_process import Ground
from tests.faults.waiting import until
from tests.webhook_receiver import WebhookReceiver, status

# 1,000 tokens in at 0.40 and 1,000 out at 1.60 per million.
COST = Decimal("0.002")
EVENTS = 240
USERS = 6
SHARES = [0.25, 0.5, 0.75, 1.0]


@pytest.fixture(scope="module")
def receiver() -> Iterator[WebhookReceiver]:
    with WebhookReceiver().running() as running:
        yield running


@pytest.fixture
async def unscheduled(ledger: Pools) -> AsyncIterator[None]:
    """What is raised here is raised by ingest and by the outbox: no pass of the schedule is made meanwhile."""
    async with ledger.postgres.connection() as connection:
        await connection.execute("UPDATE alert_schedule SET started_at = 'infinity'")
        yield
        await connection.execute("UPDATE alert_schedule SET started_at = 'epoch'")


def an_event(user: str = "u-1") -> dict[str, Any]:
    return chat_event(input_tokens=1_000, output_tokens=1_000, user=user)


async def create_webhook(caller: Caller, receiver: WebhookReceiver, path: str) -> None:
    await caller.call("POST", "/v1/webhooks", json={"url": f"{receiver.url}{path}"}, status=201)


async def alerts_of(caller: Caller) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await caller.call("GET", "/v1/alerts?limit=1000"))["alerts"]
    return found


async def deliveries_of(caller: Caller) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await caller.call("GET", "/v1/alerts/deliveries?limit=1000"))["deliveries"]
    return found


async def wait_until_told(caller: Caller, count: int) -> None:
    async def are_told() -> bool:
        deliveries = await deliveries_of(caller)
        return len(deliveries) >= count and all(each["state"] == "delivered" for each in deliveries)

    await until(are_told, f"{count} alerts raised and delivered")


async def test_thresholds_crossed_by_concurrent_batches_of_three_servers_are_raised_and_delivered_once(
    callers: list[Caller], tenant: Tenant, receiver: WebhookReceiver, random: Random, unscheduled: None
):
    path = f"/{tenant.id}"
    await create_webhook(callers[0], receiver, path)
    # One is not taken at first: what is sent again is the same delivery.
    receiver.answers[path] = [status(500), status(204)]
    total = str(COST * EVENTS)
    await callers[0].create_budget("all", {}, total, thresholds=SHARES)
    await callers[1].create_budget("each-user", {"user": "*"}, str(COST * EVENTS / USERS), thresholds=SHARES)
    events = [an_event(f"u-{number % USERS}") for number in range(EVENTS)]
    random.shuffle(events)

    await together(
        callers[number % 3].post(*events[start : start + 4]) for number, start in enumerate(range(0, EVENTS, 4))
    )

    expected = {("all", None, share) for share in SHARES}
    expected |= {("each-user", f"u-{number}", share) for number in range(USERS) for share in SHARES}
    await wait_until_told(callers[0], len(expected))
    alerts = await alerts_of(callers[0])
    assert len(alerts) == len(expected)
    found = {(alert["budget"]["slug"], alert["subject"].get("user"), alert["threshold"]) for alert in alerts}
    assert found == expected
    for alert in alerts:
        assert Decimal(alert["posted_usd"]) >= Decimal(str(alert["threshold"])) * Decimal(alert["limit_usd"])
    told = Counter(received.document["data"]["id"] for received in receiver.at(path))
    assert told.keys() == {alert["id"] for alert in alerts}
    assert told.total() == len(alerts) + 1
    assert len({received.headers["webhook-id"] for received in receiver.at(path)}) == len(alerts)


@pytest.mark.parametrize("point", ["after_commit", "before_publish", "between_publishes", "after_publish"])
async def test_an_alert_whose_server_died_after_the_commit_is_raised_by_another(
    start_server: StartServer,
    callers: list[Caller],
    ground: Ground,
    tenant: Tenant,
    receiver: WebhookReceiver,
    unscheduled: None,
    point: str,
):
    path = f"/{tenant.id}"
    await create_webhook(callers[0], receiver, path)
    await callers[0].create_budget("all", {}, str(COST * 2), thresholds=[0.5, 1.0])
    plan_file = ground.directory / "alert-crash-plan"
    doomed = await start_server(module="tests.faults.crashing_server", CRASH_PLAN=str(plan_file))
    doomed_caller = doomed.as_caller(tenant.token)
    await doomed_caller.call("GET", "/v1/budgets")
    plan(plan_file, point)

    with pytest.raises(httpx.TransportError):
        await doomed_caller.post(an_event())

    assert not plan_file.exists(), "the server did not crash where it was to"
    await wait_until_told(callers[0], 1)
    (alert,) = await alerts_of(callers[0])
    assert (alert["threshold"], Decimal(alert["posted_usd"])) == (0.5, COST)
    assert {received.document["data"]["id"] for received in receiver.at(path)} == {alert["id"]}


def plan(plan_file: Path, point: str) -> None:
    drafted = plan_file.with_suffix(".draft")
    drafted.write_text(json.dumps({"point": point, "turn": 1, "seed": 1}))
    drafted.rename(plan_file)
