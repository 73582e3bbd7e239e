"""Budgets read from the database: whole, or what changed since a version; both lead to the same set."""

from decimal import Decimal

from service.budgets.budget import Rollover
from service.budgets.matching import BudgetSet
from service.budgets.repository import load_budgets, load_changed_budgets
from service.db.pools import Pools
from tests.budget_builders import a_budget_draft
from tests.integration.budgets.conftest import Replica


async def test_a_loaded_budget_is_the_budget_that_was_stored(
    replica: Replica, pools: Pools, budget_tenant: str
) -> None:
    match = {"team": ["b", "a"], "served_model": {"prefix": "OpenAI/"}, "user": "*", "session": None}
    draft = a_budget_draft(
        "all-of-it",
        match,
        {"kind": "fixed", "length_seconds": 60, "anchor": "2026-01-01T01:00:00+01:00"},
        name="ünïcode",
        limit_usd=Decimal("0.1000000000000000000000000000000001"),
        mode="shadow",
        thresholds=(Decimal("0.5"), Decimal(1)),
        on_unavailable="deny",
        on_unpriced="deny",
        rollover=Rollover(Decimal("0.30")),
    )
    created = await replica.service.create(budget_tenant, draft, wait_seconds=0)
    async with pools.postgres.connection() as connection:
        assert await load_budgets(connection, budget_tenant) == [created]
    assert (created.match, created.period, created.terms) == (draft.match, draft.period, draft.terms)
    assert (created.config_version, created.changed_version) == (2, 2)


async def test_what_changed_since_a_version_leads_to_the_same_set(
    replica: Replica, pools: Pools, budget_tenant: str
) -> None:
    for slug in ("kept", "changed", "archived", "replaced"):
        await replica.service.create(budget_tenant, a_budget_draft(slug, {"user": slug}), wait_seconds=0)
    async with pools.postgres.connection() as connection:
        version = (await replica.configs.get(budget_tenant)).version
        former = BudgetSet(version, await load_budgets(connection, budget_tenant))
        await replica.service.change_terms(budget_tenant, "changed", {"limit_usd": Decimal(1)})
        await replica.service.archive(budget_tenant, "archived")
        await replica.service.put(budget_tenant, a_budget_draft("replaced", {"user": "other"}), wait_seconds=0)
        await replica.service.create(budget_tenant, a_budget_draft("new", {"user": "new"}), wait_seconds=0)
        changes = await load_changed_budgets(connection, budget_tenant, version)
        whole = await load_budgets(connection, budget_tenant)
        everything = await load_budgets(connection, budget_tenant, include_archived=True)
    assert sorted(budget.slug for budget in changes) == ["archived", "changed", "new", "replaced", "replaced"]
    present = (await replica.configs.get(budget_tenant)).version
    followed = former.with_changes(present, changes)
    by_id = {budget.budget_id: budget for budget in whole}
    assert {budget.budget_id: budget for budget in followed.budgets} == by_id
    assert len(everything) == len(whole) + 2


async def test_budgets_of_one_period_share_the_object_that_knows_its_windows(
    replica: Replica, pools: Pools, budget_tenant: str
) -> None:
    for slug in ("a", "b"):
        await replica.service.create(budget_tenant, a_budget_draft(slug), wait_seconds=0)
    async with pools.postgres.connection() as connection:
        one, other = await load_budgets(connection, budget_tenant)
    assert one.period is other.period
