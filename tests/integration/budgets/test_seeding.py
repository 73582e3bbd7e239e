"""Budgets created in the middle of a window: what was recorded before counts exactly once, whatever happens."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from service.budgets import seeding, seeding_repository
from service.budgets.budget import Budget
from service.budgets.seeding import BudgetSeeder
from service.db.pools import Pools
from service.errors import Unavailable
from service.kit.clock import monotonic, utc_now
from service.ledger.charge import ChargeDraft, Recorded
from service.ledger.queries import ChargeQueries
from service.ledger.reversal import ReversalService
from tests.budget_builders import a_budget_draft
from tests.drafts import a_draft
from tests.integration.budgets.conftest import NotingPublisher, Replica, posted, rows

LIFETIME = {"kind": "lifetime"}


async def _create(replica: Replica, tenant_id: str, **fields: Any) -> Budget:
    """Create a budget without waiting for its seeding."""
    draft = a_budget_draft(**{"period": LIFETIME} | fields)
    return await replica.service.create(tenant_id, draft, wait_seconds=0)


async def _spend(replica: Replica, tenant_id: str, amounts: Sequence[str], **fields: Any) -> None:
    await replica.recorder.record([a_draft(tenant_id, cost=amount, **fields) for amount in amounts])


async def test_what_was_spent_before_a_budget_existed_counts_once(
    replica: Replica, pools: Pools, budget_tenant: str
) -> None:
    for user in ("u1", "u2"):
        await _spend(replica, budget_tenant, ["0.1"] * 10, user=user)
    budget = await _create(replica, budget_tenant, match={"user": "*"})
    assert budget.state == "seeding"
    await _spend(replica, budget_tenant, ["5"])
    await replica.seed_all()
    seeded = await replica.service.get(budget_tenant, budget.budget_id)
    assert seeded.state == "current"
    assert await posted(pools, budget.budget_id) == {'{"user":"u1"}': Decimal(6), '{"user":"u2"}': Decimal(1)}


async def test_a_small_ledger_is_counted_when_the_creation_is_answered(replica: Replica, budget_tenant: str) -> None:
    await _spend(replica, budget_tenant, ["1"] * 20)
    budget = await replica.service.create(budget_tenant, a_budget_draft(), wait_seconds=10)
    assert budget.state == "current"


async def test_without_earlier_charges_a_budget_is_current_from_the_start(replica: Replica, budget_tenant: str) -> None:
    long_ago = utc_now() - timedelta(days=40)
    await _spend(replica, budget_tenant, ["1"], effective_at=long_ago)
    monthly = await replica.service.create(budget_tenant, a_budget_draft(), wait_seconds=0)
    ever = await _create(replica, budget_tenant, slug="ever")
    assert (monthly.state, ever.state) == ("current", "seeding")
    await replica.seed_all()


async def test_only_the_window_of_the_creation_counts(replica: Replica, pools: Pools, budget_tenant: str) -> None:
    now = utc_now()
    day_start = now.replace(hour=0, minute=0, second=0, microsecond=0)
    before, within = day_start - timedelta(microseconds=1), day_start
    await _spend(replica, budget_tenant, ["1"], effective_at=before)
    await _spend(replica, budget_tenant, ["2"], effective_at=within)
    budget = await _create(replica, budget_tenant, period="1d")
    await _spend(replica, budget_tenant, ["4"], effective_at=before)
    await replica.seed_all()
    assert (await posted(pools, budget.budget_id))["{}"] == Decimal(2)


async def test_charges_of_one_instant_are_told_apart_at_the_end_of_a_chunk(
    replica: Replica, pools: Pools, budget_tenant: str
) -> None:
    await _spend(replica, budget_tenant, ["1"] * 20, effective_at=utc_now())
    budget = await _create(replica, budget_tenant)
    await replica.seed_all()
    assert await posted(pools, budget.budget_id) == {"{}": Decimal(20)}


async def test_a_finished_seeding_is_a_change_of_configuration(
    replica: Replica, other_replica: Replica, budget_tenant: str
) -> None:
    await _spend(replica, budget_tenant, ["1"])
    budget = await _create(replica, budget_tenant)
    known = await other_replica.configs.get(budget_tenant)
    await replica.seed_all()
    seeded = await other_replica.service.get(budget_tenant, budget.budget_id)
    assert seeded.changed_version > known.version >= budget.config_version == seeded.config_version
    reloaded = (await other_replica.configs.reload(budget_tenant)).budgets.find(budget.budget_id)
    assert reloaded is not None
    assert reloaded.state == "current"


async def test_several_seeders_at_once_count_nothing_twice(
    replica: Replica, other_replica: Replica, pools: Pools, budget_tenant: str
) -> None:
    await _spend(replica, budget_tenant, ["0.01"] * 100)
    budgets = [await _create(replica, budget_tenant, slug=f"b{number}") for number in range(3)]
    await asyncio.gather(*(r.seeder.run_once() for r in (replica, other_replica, replica, other_replica)))
    await replica.seed_all()
    assert [await posted(pools, budget.budget_id) for budget in budgets] == [{"{}": Decimal(1)}] * 3


async def test_even_without_the_lock_that_saves_work_nothing_counts_twice(
    replica: Replica, other_replica: Replica, pools: Pools, budget_tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def take_no_lock(*_: Any) -> bool:
        return True

    monkeypatch.setattr(seeding_repository, "try_lock", take_no_lock)
    await _spend(replica, budget_tenant, ["0.01"] * 100)
    budget = await _create(replica, budget_tenant)
    await asyncio.gather(*(r.seeder.run_once() for r in (replica, other_replica, replica, other_replica)))
    await replica.seed_all()
    assert await posted(pools, budget.budget_id) == {"{}": Decimal(1)}


class _Crash(BaseException):
    """The process is gone: no error anybody handles."""


@pytest.mark.parametrize("when", ["before_commit", "after_commit", "before_finish"])
async def test_a_crash_between_chunks_loses_and_doubles_nothing(
    replica: Replica,
    other_replica: Replica,
    pools: Pools,
    budget_tenant: str,
    when: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await _spend(replica, budget_tenant, ["0.01"] * 20)
    budget = await _create(replica, budget_tenant)
    await replica.seeder.step(budget_tenant)
    write_chunk = seeding_repository.seed_chunk

    async def write_and_crash(*arguments: Any) -> Any:
        await write_chunk(*arguments)
        raise _Crash

    async def crash(*_: Any) -> Any:
        raise _Crash

    with monkeypatch.context() as patch:
        if when == "before_commit":
            patch.setattr(seeding.repository, "seed_chunk", write_and_crash)
        else:
            patch.setattr(BudgetSeeder, "_publish" if when == "after_commit" else "_finish", crash)
        with pytest.raises(_Crash):
            await replica.seeder.run_once()
    await other_replica.seed_all()
    assert (await replica.service.get(budget_tenant, budget.budget_id)).state == "current"
    assert await posted(pools, budget.budget_id) == {"{}": Decimal("0.2")}


async def test_seeded_counters_are_owed_to_redis_until_they_are_published(
    replica: Replica, publisher: NotingPublisher, pools: Pools, budget_tenant: str
) -> None:
    await _spend(replica, budget_tenant, ["1"] * 10)
    publisher.is_up = False
    budget = await _create(replica, budget_tenant)
    await replica.seeder.step(budget_tenant)
    [(counters, settlements)] = await rows(
        pools, "SELECT counters, settlements FROM outbox WHERE tenant_id = %s", budget_tenant
    )
    assert [(counter[0], counter[1]) for counter in counters] == [(str(budget.budget_id), "{}")]
    assert settlements == []
    publisher.is_up = True
    await replica.seed_all()
    assert len(await rows(pools, "SELECT FROM outbox WHERE tenant_id = %s", budget_tenant)) == 1
    state = publisher.posts[-1].counters[0]
    assert (state.budget_id, state.enforced, state.version) == (budget.budget_id, Decimal(10), 2)


async def test_budgets_that_start_together_share_a_pass(
    pools: Pools, publisher: NotingPublisher, budget_tenant: str
) -> None:
    replica = Replica(pools, publisher, chunk_charges=10)
    await _spend(replica, budget_tenant, ["1"] * 35)
    for number in range(20):
        await _create(replica, budget_tenant, slug=f"b{number}", match={"user": f"u{number}"})
    steps = []
    async with asyncio.timeout(30):
        while (step := await replica.seeder.step(budget_tenant)) != "idle":
            steps.append(step)
    # Four passes for twenty budgets; a server of other tests on this database may take some of them over.
    assert steps.count("advanced") <= 4
    for slug in ("b0", "b19"):
        assert (await replica.service.get(budget_tenant, slug)).state == "current"
    await replica.close()


async def test_an_archived_budget_is_not_seeded_further(replica: Replica, pools: Pools, budget_tenant: str) -> None:
    await _spend(replica, budget_tenant, ["1"] * 20)
    budget = await _create(replica, budget_tenant)
    await replica.seeder.step(budget_tenant)
    await replica.service.archive(budget_tenant, budget.budget_id)
    await replica.seed_all()
    await _spend(replica, budget_tenant, ["1"])
    assert await posted(pools, budget.budget_id) == {"{}": Decimal(7)}


async def test_a_charge_reversed_while_its_budget_is_seeded_counts_nothing(
    replica: Replica, pools: Pools, budget_tenant: str
) -> None:
    outcomes = await replica.recorder.record([a_draft(budget_tenant, cost="1") for _ in range(15)])
    budget = await _create(replica, budget_tenant)
    reversals = ReversalService(ChargeQueries(pools.postgres), replica.recorder)
    for outcome in (outcomes[0], outcomes[14]):
        assert isinstance(outcome, Recorded)
        await reversals.reverse(budget_tenant, outcome.summary.charge_id, "wrong")
        await replica.seeder.step(budget_tenant)
    await replica.seed_all()
    assert await posted(pools, budget.budget_id) == {"{}": Decimal(13)}


async def test_a_limit_changed_while_seeding_stays_changed(replica: Replica, pools: Pools, budget_tenant: str) -> None:
    await _spend(replica, budget_tenant, ["1"] * 20)
    budget = await _create(replica, budget_tenant)
    await replica.seeder.step(budget_tenant)
    await replica.service.change_terms(budget_tenant, budget.budget_id, {"limit_usd": Decimal(3)})
    await replica.seed_all()
    seeded = await replica.service.get(budget_tenant, budget.budget_id)
    assert (seeded.state, seeded.limit_usd) == ("current", Decimal(3))
    assert await posted(pools, budget.budget_id) == {"{}": Decimal(20)}


async def test_the_background_seeds_what_nobody_waits_for(replica: Replica, budget_tenant: str) -> None:
    await _spend(replica, budget_tenant, ["1"] * 30)
    replica.seeder.start()
    budget = await _create(replica, budget_tenant)
    deadline = monotonic() + 20
    while (await replica.service.get(budget_tenant, budget.budget_id)).state != "current":
        assert monotonic() < deadline
        await asyncio.sleep(0.01)


async def test_a_tenant_that_cannot_be_seeded_keeps_no_other_from_its_turn(
    replica: Replica, other_replica: Replica, pools: Pools, budget_tenant: str
) -> None:
    later = f"{budget_tenant}-later"  # whose turn comes after
    async with pools.postgres.connection() as connection:
        await connection.execute("INSERT INTO tenant (tenant_id, name) VALUES (%s, 'test')", (later,))
    for tenant_id in (budget_tenant, later):
        await _spend(replica, tenant_id, ["1"])
    broken, sound = await _create(replica, budget_tenant), await _create(replica, later)
    async with pools.postgres.connection() as connection:  # nothing here reads such a period
        await connection.execute("UPDATE budget SET period = '{}' WHERE budget_id = %s", (broken.budget_id,))
    try:
        async with asyncio.timeout(30):
            while (await replica.service.get(later, sound.budget_id)).state != "current":
                await replica.seeder.run_once()
    finally:
        async with pools.postgres.connection() as connection:
            await connection.execute(
                "UPDATE budget SET period = %s::jsonb WHERE budget_id = %s", ('{"kind":"lifetime"}', broken.budget_id)
            )
    assert (await replica.service.get(budget_tenant, broken.budget_id)).state == "seeding"
    await other_replica.seed_all()
    assert (await replica.service.get(budget_tenant, broken.budget_id)).state == "current"


async def test_closing_ends_the_background_whatever_it_is_at(pools: Pools, publisher: NotingPublisher) -> None:
    for turns in range(60):
        seeder = Replica(pools, publisher).seeder
        seeder.start()
        for _ in range(turns):
            await asyncio.sleep(0)
        await asyncio.wait_for(seeder.close(), 10)


@pytest.mark.slow
@pytest.mark.faults
async def test_budgets_come_and_go_under_load_and_no_event_is_missed_or_doubled(
    replica: Replica, other_replica: Replica, pools: Pools, budget_tenant: str
) -> None:
    """Created, cut below what was spent, deleted, created again, on two replicas, while events flow through both."""
    stop = asyncio.Event()
    recorded = 0

    async def flow(own: Replica, number: int) -> None:
        nonlocal recorded
        while not stop.is_set():
            drafts = [
                a_draft(budget_tenant, cost="0.01", user=f"u{(number + n) % 3}", tags=("a", "b")[: n % 3])
                for n in range(20)
            ]
            await record(own, drafts)
            recorded += len(drafts)

    async def record(own: Replica, drafts: list[ChargeDraft]) -> None:
        """Send the same again while the answer is "unavailable", as gateways do."""
        while True:
            with suppress(Unavailable):
                await own.recorder.record(drafts)
                return

    async def more_events() -> None:
        deadline, enough = monotonic() + 30, recorded + 100
        while recorded < enough:
            assert monotonic() < deadline
            await asyncio.sleep(0.001)

    async def administer(own: Replica, slug: str, match: dict[str, Any]) -> None:
        for _ in range(4):
            await own.service.create(budget_tenant, a_budget_draft(slug, match, LIFETIME), wait_seconds=0)
            await more_events()
            await own.seeder.step(budget_tenant)
            await own.service.change_terms(budget_tenant, slug, {"limit_usd": Decimal("0.05")})
            await own.seeder.step(budget_tenant)
            await more_events()
            await own.service.archive(budget_tenant, slug)
            await more_events()
        await own.service.put(budget_tenant, a_budget_draft(slug, match, LIFETIME), wait_seconds=0)
        await more_events()

    flows = [asyncio.create_task(flow(own, n)) for own in (replica, other_replica) for n in range(3)]
    await asyncio.gather(
        administer(replica, "all", {}),
        administer(other_replica, "users", {"user": "*"}),
        administer(replica, "tags", {"tag": "*", "team": "core"}),
    )
    stop.set()
    await asyncio.gather(*flows)
    await asyncio.gather(replica.seeder.run_once(), other_replica.seeder.run_once())
    await replica.seed_all()
    total = await replica.service.get(budget_tenant, "all")
    assert total.state == "current"
    assert await posted(pools, total.budget_id) == {"{}": recorded * Decimal("0.01")}
