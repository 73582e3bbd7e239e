"""When alerts are raised, and that each is raised once."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from service.kit.clock import utc_now
from tests.api.alerts.alert_world import SHARES, AlertWorld
from tests.api.checks.world import until


def shares(alerts: list[Any]) -> list[float]:
    return sorted(alert["threshold"] for alert in alerts)


async def test_events_raise_an_alert_for_each_threshold_they_reach(world: AlertWorld):
    await world.put_budget(limit_usd="10", thresholds=SHARES)
    await world.post_event(cost="4.99")
    await world.post_event(cost="0.01")
    (alert,) = await world.raised(1)
    assert (alert["kind"], alert["threshold"], alert["threshold_percent"]) == ("threshold", 0.5, 50)
    assert (alert["posted_usd"], alert["limit_usd"]) == ("5", "10")
    assert alert["budget"]["slug"] == "b"
    assert alert["text"] == "Budget 'b' has reached 50 % of its limit: 5 of 10 USD."
    await world.post_event(cost="4")
    await world.post_event(cost="0.5")
    assert shares(await world.raised(2)) == [0.5, 0.8]


async def test_a_jump_over_several_thresholds_raises_each(world: AlertWorld):
    await world.put_budget(limit_usd="10", thresholds=SHARES)
    await world.post_event(cost="50")
    alerts = await world.raised(3)
    assert shares(alerts) == SHARES
    assert {alert["posted_usd"] for alert in alerts} == {"50"}


async def test_each_counter_of_a_budget_has_its_own_alerts(world: AlertWorld):
    await world.put_budget(limit_usd="10", match={"user": "*"}, thresholds=[0.5])
    for user in ("ann", "bob", "ann"):
        await world.post_event(cost="6", metadata={"user_api_key_user_id": user})
    alerts = await world.raised(2)
    assert sorted(alert["subject"]["user"] for alert in alerts) == ["ann", "bob"]
    assert "(user ann)" in next(alert["text"] for alert in alerts if alert["subject"]["user"] == "ann")


async def test_budgets_without_thresholds_raise_nothing(world: AlertWorld):
    await world.put_budget(limit_usd="1")
    await world.post_event(cost="5")
    await world.make_pass()
    assert await world.alerts() == []


async def test_a_limit_of_nothing_is_reached_by_the_first_cost(world: AlertWorld):
    await world.put_budget(limit_usd="0", thresholds=[1.0])
    await world.make_pass()
    assert await world.alerts() == []
    await world.post_event(cost="0.000001")
    await world.raised(1)


async def test_passes_of_the_schedule_raise_nothing_twice(world: AlertWorld):
    await world.put_budget(limit_usd="10", thresholds=SHARES)
    await world.post_event(cost="9")
    await world.raised(2)
    await world.make_pass()
    await world.make_pass()
    assert len(await world.alerts()) == 2


async def test_a_limit_that_is_cut_raises_alerts_without_a_request(world: AlertWorld):
    await world.put_budget(limit_usd="100", thresholds=SHARES)
    await world.post_event(cost="9")
    await world.make_pass()
    assert await world.alerts() == []
    await world.call("PATCH", "/v1/budgets/b", json={"limit_usd": "10"})
    await world.make_pass()
    alerts = await world.raised(2)
    assert shares(alerts) == [0.5, 0.8]
    assert {alert["limit_usd"] for alert in alerts} == {"10"}


async def test_a_threshold_that_is_added_is_raised_if_it_was_passed_already(world: AlertWorld):
    await world.put_budget(limit_usd="10", thresholds=[0.9])
    await world.post_event(cost="5")
    await world.call("PATCH", "/v1/budgets/b", json={"thresholds": [0.4, 0.9]})
    await world.make_pass()
    assert shares(await world.raised(1)) == [0.4]


async def test_events_after_a_change_are_judged_by_it_at_once(world: AlertWorld):
    await world.put_budget(limit_usd="10", thresholds=[1.0])
    await world.post_event(cost="10")
    await world.raised(1)
    await world.call("PATCH", "/v1/budgets/b", json={"thresholds": [0.5, 2.0], "limit_usd": "12"})
    await world.post_event(cost="1")
    assert shares(await world.raised(2)) == [0.5, 1.0]


async def test_an_increase_that_is_over_raises_what_it_held_back(world: AlertWorld):
    budget = await world.put_budget(limit_usd="10", thresholds=[1.0])
    now = utc_now()
    await world.execute(
        "INSERT INTO budget_increase (tenant_id, increase_id, budget_id, amount_usd, granted_at, until, reason, author)"
        " VALUES (%s, gen_random_uuid(), %s, 10, %s, %s, 'a launch', 'test')",
        world.tenant_id,
        budget["budget_id"],
        now - timedelta(hours=1),
        now + timedelta(hours=1),
    )
    await world.post_event(cost="15")
    await world.make_pass()
    assert await world.alerts() == []
    await world.execute("UPDATE budget_increase SET until = now() WHERE budget_id = %s", budget["budget_id"])
    await world.make_pass()
    (alert,) = await world.raised(1)
    assert alert["limit_usd"] == "10"


@pytest.mark.parametrize(("cap", "in_force"), [(None, 15), ("3", 13)])
async def test_what_was_carried_in_raises_the_limit_of_its_window(world: AlertWorld, cap: str | None, in_force: int):
    period = {"kind": "calendar", "unit": "month", "timezone": "UTC"}
    budget = await world.put_budget(limit_usd="10", thresholds=[1.0], period=period, rollover={"cap_usd": cap})
    start = utc_now().replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    await world.execute(
        "INSERT INTO budget_carry (tenant_id, budget_id, subject, bucket, carried_usd, fixed_at)"
        " VALUES (%s, %s, '{}', %s, 5, now()) ON CONFLICT (tenant_id, budget_id, subject, bucket)"
        " DO UPDATE SET carried_usd = 5",
        world.tenant_id,
        budget["budget_id"],
        start,
    )
    await world.post_event(cost=str(in_force - 1))
    await world.make_pass()
    assert [alert for alert in await world.alerts() if alert["kind"] == "threshold"] == []
    await world.post_event(cost="1")

    async def is_raised() -> bool:
        return any(alert["limit_usd"] == str(in_force) for alert in await world.alerts(kind="threshold"))

    await until(is_raised)


async def test_what_was_carried_in_does_not_raise_a_limit_of_nothing(world: AlertWorld):
    period = {"kind": "calendar", "unit": "month", "timezone": "UTC"}
    budget = await world.put_budget(limit_usd="0", thresholds=[1.0], period=period, rollover={"cap_usd": "20"})
    start = utc_now().replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    await world.execute(
        "INSERT INTO budget_carry (tenant_id, budget_id, subject, bucket, carried_usd, fixed_at)"
        " VALUES (%s, %s, '{}', %s, 5, now()) ON CONFLICT (tenant_id, budget_id, subject, bucket)"
        " DO UPDATE SET carried_usd = 5",
        world.tenant_id,
        budget["budget_id"],
        start,
    )
    await world.post_event(cost="1")

    async def is_raised() -> bool:
        return any(alert["limit_usd"] == "0" for alert in await world.alerts(kind="threshold"))

    await until(is_raised)


async def test_corrections_raise_what_they_reach(world: AlertWorld):
    await world.put_budget(limit_usd="10", thresholds=[0.5])
    house = {"model": "house-model", "model_group": "house-model", "custom_llm_provider": "hosted_vllm"}
    await world.post_event(**house)
    rates = {"input_cost_per_token": {"usd": "0.008"}, "output_cost_per_token": {"usd": "0"}}
    override = {"name": "house", "match": {"model": "house-model"}, "rates": rates}
    dated = override | {"effective_from": "2020-01-01T00:00:00Z"}
    offer = (await world.call("POST", "/v1/price-overrides", json=dated, expect=201))["repricing_offers"][0]
    assert await world.alerts() == []
    await world.call("POST", "/v1/repricings", json=offer["repricing"] | {"apply": True})
    (alert,) = await world.raised(1)
    assert alert["posted_usd"] == "8"


async def test_a_reversal_takes_no_alert_back_and_what_follows_raises_it_no_second_time(world: AlertWorld):
    await world.put_budget(limit_usd="10", thresholds=[0.5])
    recorded = await world.post_event(cost="6")
    await world.raised(1)
    reason = {"reason": "counted twice"}
    await world.call("POST", f"/v1/charges/{recorded['charge_id']}/reverse", json=reason, expect=201)
    await world.post_event(cost="6")
    await world.make_pass()
    await world.raised(1)


async def test_seeding_raises_what_was_spent_before_the_budget_existed(world: AlertWorld):
    for _ in range(3):
        await world.post_event(cost="3")
    await world.put_budget(limit_usd="10", thresholds=SHARES)
    alerts = await world.raised(2)
    assert shares(alerts) == [0.5, 0.8]


async def test_an_event_that_comes_late_raises_the_alert_of_its_closed_window(world: AlertWorld):
    period = {"kind": "fixed", "length_seconds": 600}
    await world.put_budget(limit_usd="10", thresholds=[0.5], period=period)
    now = utc_now()
    past = now - timedelta(minutes=30)
    # Windows before the one a budget was created in do not count.
    await world.execute(
        "UPDATE budget SET counts_from = %s WHERE tenant_id = %s", now - timedelta(days=1), world.tenant_id
    )
    await world.services.config_store.reload(world.tenant_id)
    world.services.config_store._configs.pop(world.tenant_id)
    await world.post_event(cost="6", startTime=past.timestamp(), endTime=past.timestamp() + 1)
    (alert,) = await world.raised(1)
    start, end = (datetime.fromisoformat(alert["window"][name]) for name in ("start", "end"))
    assert start <= past < end <= now.astimezone(UTC)
    await world.post_event(cost="6", startTime=now.timestamp() - 1, endTime=now.timestamp())
    await world.raised(2)


async def test_a_closed_window_is_judged_by_the_limit_it_closed_with(world: AlertWorld):
    await world.put_budget(limit_usd="10", thresholds=[0.5], period={"kind": "fixed", "length_seconds": 600})
    now = utc_now()
    past = now.timestamp() - 1800
    await world.execute(
        "UPDATE budget SET counts_from = %s WHERE tenant_id = %s", now - timedelta(days=1), world.tenant_id
    )
    await world.call("PATCH", "/v1/budgets/b", json={"limit_usd": "100"})
    world.services.config_store._configs.pop(world.tenant_id)
    await world.post_event(cost="4.9", startTime=past, endTime=past + 1)
    await world.post_event(cost="49", startTime=now.timestamp() - 1, endTime=now.timestamp())
    assert await world.alerts() == []
    await world.post_event(cost="0.1", startTime=past, endTime=past + 1)
    (alert,) = await world.raised(1)
    assert (alert["posted_usd"], alert["limit_usd"]) == ("5", "10")


async def test_an_archived_budget_raises_nothing(world: AlertWorld):
    await world.put_budget(limit_usd="10", thresholds=[0.5])
    await world.post_event(cost="4")
    await world.call("DELETE", "/v1/budgets/b", expect=204)
    await world.post_event(cost="4")
    await world.make_pass()
    assert await world.alerts() == []


async def test_amounts_are_exact_to_the_last_digit(world: AlertWorld):
    await world.put_budget(limit_usd="10", thresholds=[0.5])
    await world.post_event(cost="4.999999999")
    await world.make_pass()
    assert await world.alerts() == []
    await world.post_event(cost="0.000000001")
    (alert,) = await world.raised(1)
    assert Decimal(alert["posted_usd"]) == 5
