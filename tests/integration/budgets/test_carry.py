"""What a window left unused is carried into the next one: once, late enough, and never more than the cap."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from service.budgets.apply import ApplyOrder, BudgetApplier
from service.budgets.budget import Budget, Rollover
from service.budgets.carry import CarryFixer
from service.budgets.matching import BudgetCounter
from service.budgets.period import window_of
from service.budgets.subject import subject_text, subject_values
from service.db.pools import Pools
from service.kit.clock import utc_now
from service.ledger.queries import ChargeQueries
from service.ledger.reversal import ReversalService
from tests.budget_builders import a_budget_draft
from tests.drafts import a_draft
from tests.integration.budgets.conftest import Replica, rows

DAY = timedelta(days=1)
MINUTE = timedelta(minutes=1)
# The first day the budgets of these tests count; noon is far from both of its ends.
TODAY = utc_now().replace(hour=0, minute=0, second=0, microsecond=0)


def day(number: int) -> datetime:
    return TODAY + number * DAY


class At:
    """A clock that stands where a test puts it."""

    def __init__(self, instant: datetime) -> None:
        self.instant = instant

    def __call__(self) -> datetime:
        return self.instant


async def _create(replica: Replica, tenant_id: str, cap: str | None = None, **fields: Any) -> Budget:
    rollover = Rollover(None if cap is None else Decimal(cap))
    values = {"period": "1d", "limit_usd": Decimal(100), "rollover": rollover} | fields
    return await replica.service.create(tenant_id, a_budget_draft(**values), wait_seconds=0)


async def _spend(replica: Replica, tenant_id: str, amount: str, at: datetime, **fields: Any) -> Any:
    (recorded,) = await replica.recorder.record([a_draft(tenant_id, cost=amount, effective_at=at, **fields)])
    return recorded


def _counter(budget: Budget, at: datetime, **values: str) -> BudgetCounter:
    return BudgetCounter(budget, values, subject_text(values), window_of(budget.period, at))


async def _carried(pools: Pools, budget: Budget, at: datetime, **values: str) -> Decimal | None:
    """Return what is carried into the window of an instant, asked for then."""
    fixed = await CarryFixer(pools.postgres, At(at)).fix([_counter(budget, at, **values)])
    return next(iter(fixed.values()), None)


async def test_what_is_left_is_carried_an_hour_after_the_window_has_closed(
    replica: Replica, pools: Pools, budget_tenant: str
) -> None:
    budget = await _create(replica, budget_tenant)
    await _spend(replica, budget_tenant, "30.5", day(0) + 12 * timedelta(hours=1))
    assert await _carried(pools, budget, day(1) + timedelta(hours=1)) is None
    assert await _carried(pools, budget, day(1) + timedelta(hours=1, minutes=1)) == Decimal("69.5")


async def test_a_late_event_before_it_is_fixed_is_counted_and_one_after_is_not(
    replica: Replica, pools: Pools, budget_tenant: str
) -> None:
    budget = await _create(replica, budget_tenant)
    await _spend(replica, budget_tenant, "10", day(0))
    await _spend(replica, budget_tenant, "20", day(1) - MINUTE)  # arrives late, an hour at most
    assert await _carried(pools, budget, day(1) + 2 * timedelta(hours=1)) == 70
    await _spend(replica, budget_tenant, "30", day(1) - MINUTE)
    assert await _carried(pools, budget, day(1) + 5 * timedelta(hours=1)) == 70


async def test_a_correction_of_a_closed_window_changes_nothing_that_was_fixed(
    replica: Replica, pools: Pools, budget_tenant: str
) -> None:
    budget = await _create(replica, budget_tenant, "1000")
    recorded = await _spend(replica, budget_tenant, "40", day(0))
    assert await _carried(pools, budget, day(1) + timedelta(hours=2)) == 60
    reversals = ReversalService(ChargeQueries(pools.postgres), replica.recorder)
    await reversals.reverse(budget_tenant, recorded.summary.charge_id, "a test")
    assert await _carried(pools, budget, day(1) + timedelta(hours=3)) == 60
    # Whatever the sum is now, the next window builds on what was fixed.
    assert await _carried(pools, budget, day(2) + timedelta(hours=2)) == 160


async def test_what_is_carried_grows_to_the_cap_and_no_further(
    replica: Replica, pools: Pools, budget_tenant: str
) -> None:
    budget = await _create(replica, budget_tenant, "150")
    await _spend(replica, budget_tenant, "20", day(0))
    carried = [await _carried(pools, budget, day(number) + timedelta(hours=2)) for number in (1, 2, 3)]
    assert carried == [80, 150, 150]
    await _spend(replica, budget_tenant, "200", day(3) + timedelta(hours=3))
    assert await _carried(pools, budget, day(4) + timedelta(hours=2)) == 50


async def test_without_a_cap_one_limit_is_carried_at_most(replica: Replica, pools: Pools, budget_tenant: str) -> None:
    budget = await _create(replica, budget_tenant)
    await _spend(replica, budget_tenant, "1", day(0))
    assert [await _carried(pools, budget, day(n) + timedelta(hours=2)) for n in (1, 2, 3)] == [99, 100, 100]


async def test_windows_nobody_asked_about_are_reckoned_with_all_the_same(
    replica: Replica, pools: Pools, budget_tenant: str
) -> None:
    budget = await _create(replica, budget_tenant, "1000")
    await _spend(replica, budget_tenant, "90", day(0))
    await _spend(replica, budget_tenant, "250", day(3))
    # 10, 110 and 210 were left after the first three days, 310 - 250 after the fourth.
    assert await _carried(pools, budget, day(5) + timedelta(hours=2)) == 160


async def test_what_was_spent_above_the_limit_is_no_debt(replica: Replica, pools: Pools, budget_tenant: str) -> None:
    budget = await _create(replica, budget_tenant)
    await _spend(replica, budget_tenant, "170", day(0))
    assert await _carried(pools, budget, day(1) + timedelta(hours=2)) == 0


async def test_each_counter_carries_its_own_and_a_new_one_nothing(
    replica: Replica, pools: Pools, budget_tenant: str
) -> None:
    budget = await _create(replica, budget_tenant, match={"user": "*"})
    for user, amount in (("u1", "10"), ("u2", "60")):
        await _spend(replica, budget_tenant, amount, day(0), user=user)
    later = day(1) + timedelta(hours=2)
    assert [await _carried(pools, budget, later, user=user) for user in ("u1", "u2", "u3")] == [90, 40, None]


async def test_the_first_window_of_a_budget_carries_nothing_in(
    replica: Replica, pools: Pools, budget_tenant: str
) -> None:
    await _spend(replica, budget_tenant, "1", day(-1))
    budget = await _create(replica, budget_tenant)
    await _spend(replica, budget_tenant, "1", day(0))
    assert await _carried(pools, budget, day(0) + timedelta(hours=12)) is None


async def test_budgets_without_roll_over_and_archived_ones_carry_nothing(
    replica: Replica, pools: Pools, budget_tenant: str
) -> None:
    plain = await _create(replica, budget_tenant, slug="plain", rollover=None)
    archived = await _create(replica, budget_tenant, slug="archived")
    await _spend(replica, budget_tenant, "1", day(0))
    await replica.service.archive(budget_tenant, archived.budget_id)
    archived = await replica.service.get(budget_tenant, archived.budget_id)
    assert [await _carried(pools, each, day(1) + timedelta(hours=2)) for each in (plain, archived)] == [None, None]


async def _change(replica: Replica, budget: Budget, limit: str) -> Budget:
    return await replica.service.change_terms(budget.tenant_id, budget.budget_id, {"limit_usd": Decimal(limit)})


async def test_who_asks_after_a_limit_was_raised_carries_what_those_did_who_asked_before(
    replica: Replica, pools: Pools, budget_tenant: str
) -> None:
    budget = await _create(replica, budget_tenant, match={"user": "*"}, limit_usd=Decimal(10))
    async with replica.configs.change(budget_tenant) as (connection, version):
        changed = "UPDATE budget SET counts_from = %s, changed_version = %s WHERE budget_id = %s"
        await connection.execute(changed, (day(-3), version, budget.budget_id))
    users = ("early", "late", "idle")
    for user, days in zip(users, (3, 3, 1), strict=True):
        for number, usd in ((-3, "9"), (-2, "10"), (-1, "10.7"))[:days]:
            await _spend(replica, budget_tenant, usd, day(number), user=user)
    budget = await replica.service.get(budget_tenant, budget.budget_id)
    later = day(0) + timedelta(hours=2)
    assert await _carried(pools, budget, later, user="early") == Decimal("0.3")
    budget = await _change(replica, budget, "100")
    assert [await _carried(pools, budget, later, user=user) for user in users] == [Decimal("0.3"), Decimal("0.3"), 10]
    # The day of the change closes with the limit it then has.
    assert await _carried(pools, budget, day(1) + timedelta(hours=2), user="late") == 100


async def test_every_way_to_change_a_limit_remembers_the_former_one(
    replica: Replica, pools: Pools, budget_tenant: str
) -> None:
    drafts = {slug: a_budget_draft(slug, period="1d", limit_usd=Decimal(10)) for slug in ("patch", "put", "apply")}
    for draft in drafts.values():
        await replica.service.create(budget_tenant, draft, wait_seconds=0)
    created = {slug: await replica.service.get(budget_tenant, slug) for slug in drafts}
    other = {slug: a_budget_draft(slug, period="1d", limit_usd=Decimal(20)) for slug in drafts}
    before = utc_now()
    await replica.service.change_terms(budget_tenant, "patch", {"limit_usd": Decimal(20)})
    await replica.service.put(budget_tenant, other["put"], wait_seconds=0)
    applier = BudgetApplier(pools.postgres, replica.configs)
    order = ApplyOrder(tenant_id=budget_tenant, drafts=[other["apply"]], author="a test")
    await applier.apply(order, await applier.plan(order))
    for slug, former in created.items():
        budget = await replica.service.get(budget_tenant, slug)
        assert (former.budget_id, former.former_limits) == (budget.budget_id, ())
        (ceased,) = budget.former_limits
        assert (ceased.limit_usd, ceased.rollover) == (10, None)
        assert before - timedelta(seconds=5) <= ceased.until <= utc_now() + timedelta(seconds=5)
        assert (budget.limit_usd, budget.changed_version > former.changed_version) == (20, True)


async def _stored(pools: Pools, tenant_id: str) -> dict[tuple[str, datetime], Decimal]:
    found = await rows(pools, "SELECT subject, bucket, carried_usd FROM budget_carry WHERE tenant_id = %s", tenant_id)
    return {
        (subject_values(subject).get("user", ""), bucket.astimezone(UTC)): carried for subject, bucket, carried in found
    }


async def _pass(pools: Pools, instants: Sequence[datetime], replicas: int = 1) -> int:
    clock = At(instants[0])
    fixers = [CarryFixer(pools.postgres, clock) for _ in range(replicas)]
    count = 0
    for instant in instants:
        clock.instant = instant
        count += sum(await asyncio.gather(*[fixer.fix_due() for fixer in fixers]))
    return count


async def test_the_background_fixes_every_counter_that_spent_and_each_once(
    replica: Replica, pools: Pools, budget_tenant: str
) -> None:
    await _create(replica, budget_tenant, match={"user": "*"})
    await asyncio.gather(*[_spend(replica, budget_tenant, str(n), day(0), user=f"u{n}") for n in range(30)])
    early, due = day(1) + timedelta(minutes=60), day(1) + timedelta(minutes=62)
    await _pass(pools, [early])
    assert await _stored(pools, budget_tenant) == {}
    await _pass(pools, [due], replicas=3)
    fixed = {(f"u{n}", day(1)): Decimal(100 - n) for n in range(30)}
    assert await _stored(pools, budget_tenant) == fixed
    await _spend(replica, budget_tenant, "7", day(0), user="u1")
    await _pass(pools, [due, due + MINUTE], replicas=2)
    assert await _stored(pools, budget_tenant) == fixed


async def test_a_pass_in_portions_leaves_nobody_out(
    replica: Replica, pools: Pools, budget_tenant: str, monkeypatch: Any
) -> None:
    monkeypatch.setattr("service.budgets.carry._SUBJECTS_AT_ONCE", 4)
    await _create(replica, budget_tenant, match={"user": "*"})
    await asyncio.gather(*[_spend(replica, budget_tenant, "1", day(0), user=f"u{n}") for n in range(13)])
    await _pass(pools, [day(1) + timedelta(hours=2)])
    assert len(await _stored(pools, budget_tenant)) == 13


async def test_the_background_goes_on_in_every_window(replica: Replica, pools: Pools, budget_tenant: str) -> None:
    budget = await _create(replica, budget_tenant, "500")
    for number in range(3):
        await _spend(replica, budget_tenant, "10", day(number))
    await _pass(pools, [day(number) + timedelta(hours=2) for number in (1, 2, 3)])
    assert await _stored(pools, budget_tenant) == {("", day(1)): 90, ("", day(2)): 180, ("", day(3)): 270}
    assert await _carried(pools, budget, day(3) + timedelta(hours=3)) == 270


async def test_replicas_that_fix_the_same_at_once_agree(replica: Replica, pools: Pools, budget_tenant: str) -> None:
    budget = await _create(replica, budget_tenant, match={"user": "*"})
    users = [f"u{n}" for n in range(20)]
    await asyncio.gather(*[_spend(replica, budget_tenant, "1", day(0), user=user) for user in users])
    later = day(1) + timedelta(hours=2)
    counters = [_counter(budget, later, user=user) for user in users]
    fixers = [CarryFixer(pools.postgres, At(later)) for _ in range(4)]
    answers = await asyncio.gather(
        *[fixer.fix(counters[::-1] if number % 2 else counters) for number, fixer in enumerate(fixers)]
    )
    assert all(answer == answers[0] and len(answer) == 20 for answer in answers)


async def test_a_ledger_that_is_away_carries_nothing_for_now(replica: Replica, budget_tenant: str) -> None:
    from psycopg_pool import AsyncConnectionPool

    budget = await _create(replica, budget_tenant)
    dead: Any = AsyncConnectionPool("host=127.0.0.1 port=1 connect_timeout=1", min_size=0, max_size=1, open=False)
    await dead.open(wait=False)
    later = day(1) + timedelta(hours=2)
    assert await CarryFixer(dead, At(later)).fix([_counter(budget, later)]) == {}
    await dead.close()
