"""Alerts the database refuses, budgets nobody can read: the others are evaluated and raised beside them."""

from random import Random
from typing import Any

import psycopg
import pytest

from service.alerts import schedule
from service.alerts.evaluation import CounterKey, Evaluator
from tests.api.alerts.alert_world import AlertWorld


@pytest.fixture
async def crowd(world: AlertWorld) -> Any:
    """Three budgets whose thresholds are reached and not raised; the second has a counter no index of alerts takes."""
    for slug in ("a", "broken", "z"):
        await world.put_budget(slug, limit_usd="10")
    await world.post_event(cost="6")
    ids = {}
    for slug in ("a", "broken", "z"):
        budget = await world.put_budget(slug, limit_usd="10", thresholds=[0.5])
        ids[slug] = budget["budget_id"]
    yield ids | {"subject": await insert_the_longest(world, ids["broken"])}
    await world.execute("DELETE FROM budget_window WHERE budget_id = %s AND subject <> '{}'", ids["broken"])


async def insert_the_longest(world: AlertWorld, budget_id: str) -> str:
    """Insert the counter with the longest subject that the key of counters takes; that of alerts has less room."""
    text = Random(7).randbytes(1_400).hex()  # does not compress
    for length in range(2_700, 2_500, -1):
        subject = f'{{"user":"{text[:length]}"}}'
        try:
            await world.execute(
                "INSERT INTO budget_window (tenant_id, budget_id, subject, bucket, enforced, version)"
                " SELECT tenant_id, budget_id, %s, bucket, 7, 1 FROM budget_window WHERE budget_id = %s LIMIT 1",
                subject,
                budget_id,
            )
        except psycopg.errors.ProgramLimitExceeded:
            continue
        return subject
    raise AssertionError("no key took it")


async def raised(world: AlertWorld) -> list[tuple[str, dict[str, str]]]:
    return sorted([(alert["budget"]["slug"], alert["subject"]) for alert in await world.alerts()], key=str)


ALL_OTHERS = [("a", {}), ("broken", {}), ("z", {})]


@pytest.mark.parametrize("at_once", [500, 1])
async def test_the_schedule_raises_what_is_beside_an_alert_the_database_refuses(
    world: AlertWorld, crowd: dict[str, str], monkeypatch: pytest.MonkeyPatch, at_once: int
):
    """Also when no more alerts are looked for at once than are refused."""
    monkeypatch.setattr(schedule, "_ALERTS_AT_ONCE", at_once)
    await world.make_pass()
    others = ALL_OTHERS if at_once > 1 else [ALL_OTHERS[0], ALL_OTHERS[2]]
    assert set(map(str, others)) <= set(map(str, await raised(world)))


async def test_what_is_published_with_a_counter_whose_alert_is_refused_raises_its_alerts(
    world: AlertWorld, crowd: dict[str, str]
):
    pool = world.services.pools.postgres
    async with pool.connection() as connection:
        cursor = await connection.execute(
            "SELECT tenant_id, budget_id, subject, bucket FROM budget_window WHERE tenant_id = %s", (world.tenant_id,)
        )
        counters = [CounterKey(*row) for row in await cursor.fetchall()]
    assert crowd["subject"] in {counter.subject for counter in counters}
    await Evaluator(pool, lambda: None).evaluate(counters)
    assert await raised(world) == ALL_OTHERS


async def test_a_budget_nobody_can_read_hides_none_on_its_page(world: AlertWorld, crowd: dict[str, str]):
    await world.execute("UPDATE budget SET period = '{}' WHERE budget_id = %s", crowd["broken"])
    try:
        await world.make_pass()
    finally:
        await world.execute(
            "UPDATE budget SET period = %s::jsonb WHERE budget_id = %s", '{"kind":"lifetime"}', crowd["broken"]
        )
    assert await raised(world) == [ALL_OTHERS[0], ALL_OTHERS[2]]
