"""What comes with time: windows that exhaust their limit at their pace, rolling sums, what is forgotten."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest

from service.alerts import schedule
from service.alerts.evaluation import Evaluator
from service.alerts.evaluation_repository import AskedWindow, try_lock_schedule, unlock_schedule
from service.alerts.schedule import AlertSchedule
from service.kit.clock import utc_now
from service.settings import AlertsSettings
from tests.api.alerts.alert_world import AlertWorld

HOUR = timedelta(hours=1)


def a_window(elapsed: timedelta, length: timedelta) -> dict[str, Any]:
    """Return a period whose present window began so long ago."""
    anchor = (utc_now() - elapsed).replace(microsecond=0)
    return {"kind": "fixed", "length_seconds": int(length.total_seconds()), "anchor": anchor.isoformat()}


async def spend(world: AlertWorld, cost: str, times: int = 5) -> None:
    for _ in range(times):
        await world.post_event(cost=cost)


async def of_kind(world: AlertWorld, kind: str) -> list[Any]:
    return [alert for alert in await world.alerts() if alert["kind"] == kind]


async def started_at(world: AlertWorld) -> datetime:
    async with world.services.pools.postgres.connection() as connection:
        row = await (await connection.execute("SELECT started_at FROM alert_schedule")).fetchone()
    assert row is not None
    instant: datetime = row[0]
    return instant


async def test_a_pace_that_exhausts_the_limit_raises_one_alert_per_window(world: AlertWorld):
    await world.put_budget(limit_usd="10", thresholds=[1.0], period=a_window(6 * HOUR, 24 * HOUR))
    await spend(world, "1")
    await world.make_pass()
    (alert,) = await world.raised(1)
    assert (alert["kind"], alert["threshold"], alert["posted_usd"]) == ("projected_exhaustion", 1.0, "5")
    assert 19 < float(alert["projected_spend_usd"]) <= 20
    start, end = (datetime.fromisoformat(alert["window"][name]) for name in ("start", "end"))
    exhaustion = datetime.fromisoformat(alert["projected_exhaustion_at"])
    assert start + 11.9 * HOUR < exhaustion < start + 12.1 * HOUR < end
    await spend(world, "0.1")
    await world.make_pass()
    assert len(await world.alerts()) == 1


@pytest.mark.parametrize(
    ("elapsed", "cost", "times"),
    [
        (6 * HOUR, "0.4", 5),  # a pace that stays below the limit
        (6 * HOUR, "5", 1),  # one large call is no pace
        (1 * HOUR, "1", 5),  # a window that has just begun
    ],
)
async def test_without_evidence_nothing_is_projected(world: AlertWorld, elapsed: timedelta, cost: str, times: int):
    await world.put_budget(limit_usd="10", thresholds=[1.0], period=a_window(elapsed, 24 * HOUR))
    await spend(world, cost, times)
    await world.make_pass()
    assert await world.alerts() == []


async def test_lifetimes_and_budgets_without_thresholds_are_not_projected(world: AlertWorld):
    await world.put_budget("lifetime", limit_usd="10", thresholds=[1.0])
    await world.put_budget("silent", limit_usd="10", period=a_window(6 * HOUR, 24 * HOUR))
    await spend(world, "1")
    await world.make_pass()
    assert await world.alerts() == []


async def test_a_limit_that_is_exhausted_is_not_projected_any_more(world: AlertWorld):
    await world.put_budget(limit_usd="10", thresholds=[1.0], period=a_window(6 * HOUR, 24 * HOUR))
    await spend(world, "2")
    await world.make_pass()
    assert [alert["kind"] for alert in await world.raised(1)] == ["threshold"]


async def test_a_rolling_sum_raises_an_alert_again_once_it_has_fallen_below(world: AlertWorld):
    await world.put_budget(limit_usd="10", thresholds=[0.5], period={"kind": "rolling", "length_seconds": 3_540})
    await world.post_event(cost="3")
    await world.post_event(cost="3")
    (alert,) = await world.raised(1)
    assert (alert["kind"], alert["posted_usd"]) == ("threshold", "6")
    await world.post_event(cost="1")
    await world.make_pass()
    assert len(await world.alerts()) == 1
    # As if it were a good hour later.
    for table, column in (("budget_window", "bucket"), ("alert", "bucket"), ("alert", "raised_at")):
        await world.execute(
            f"UPDATE {table} SET {column} = {column} - interval '7080 seconds' WHERE tenant_id = %s", world.tenant_id
        )
    await world.make_pass()
    assert len(await world.alerts()) == 1
    await world.post_event(cost="6")
    await world.make_pass()
    assert len(await world.alerts()) == 2
    # The charges stay where they were: what was moved is put back for the oracle.
    for table, column in (("budget_window", "bucket"),):
        await world.execute(f"DELETE FROM {table} WHERE tenant_id = %s AND {column} IS NOT NULL", world.tenant_id)


async def test_a_rolling_sum_of_several_buckets_is_what_counts(world: AlertWorld):
    await world.put_budget(limit_usd="10", thresholds=[0.5], period={"kind": "rolling", "length_seconds": 60})
    past = utc_now() - timedelta(seconds=20)
    await world.post_event(cost="3", startTime=past.timestamp(), endTime=past.timestamp() + 1)
    await world.post_event(cost="3")
    (alert,) = await world.raised(1)
    assert alert["posted_usd"] == "6"


async def test_a_page_that_cannot_be_evaluated_hides_none_after_it(world: AlertWorld, monkeypatch: pytest.MonkeyPatch):
    await world.put_budget("broken", limit_usd="10")
    broken = (await world.call("GET", "/v1/budgets/broken"))["budget_id"]
    await world.put_budget("sound", limit_usd="10")
    await spend(world, "6", 1)
    for slug in ("broken", "sound"):
        await world.put_budget(slug, limit_usd="10", thresholds=[0.5])
    monkeypatch.setattr(schedule, "_BUDGETS_AT_ONCE", 1)
    find_due = schedule.repository.find_due

    async def fail_for_one(connection: Any, windows: Sequence[AskedWindow], limit: int) -> Any:
        if str(windows[0].budget_id) == broken:
            await connection.execute("SELECT 1 / 0")
        return await find_due(connection, windows, limit)

    monkeypatch.setattr(schedule.repository, "find_due", fail_for_one)
    await world.make_pass()
    (alert,) = await world.alerts()
    assert alert["budget"]["slug"] == "sound"


async def test_one_replica_makes_a_pass_in_an_interval(world: AlertWorld):
    pool = world.services.pools.postgres
    schedule = AlertSchedule(pool, Evaluator(pool, lambda: None), AlertsSettings(interval_seconds=3_600))
    await world.execute("UPDATE alert_schedule SET started_at = 'epoch'")
    await schedule.run()
    first = await started_at(world)
    assert first > utc_now() - HOUR
    await schedule.run()
    assert await started_at(world) == first
    async with pool.connection() as connection:
        await world.execute("UPDATE alert_schedule SET started_at = 'epoch'")
        assert await try_lock_schedule(connection)
        await schedule.run()
        assert await started_at(world) < first
        await unlock_schedule(connection)
    await schedule.run()
    assert await started_at(world) > first


async def test_ended_deliveries_are_forgotten_and_their_alerts_are_not(world: AlertWorld):
    _, path = await world.create_webhook()
    await world.put_budget(limit_usd="10", thresholds=[0.5])
    await world.post_event(cost="6")
    await world.received(path)
    await world.settled("delivered")
    await world.execute(
        "UPDATE webhook_delivery SET finished_at = now() - interval '91 days' WHERE tenant_id = %s", world.tenant_id
    )
    pool = world.services.pools.postgres
    await world.execute("UPDATE alert_schedule SET started_at = 'epoch'")
    await AlertSchedule(pool, Evaluator(pool, lambda: None), AlertsSettings()).run()
    assert await world.deliveries() == []
    assert len(await world.alerts()) == 1
    await world.post_event(cost="1")
    assert len(world.receiver.at(path)) == 1
