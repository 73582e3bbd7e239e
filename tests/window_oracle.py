"""The oracle of budget windows: what every counter must be, recomputed from the charges and the budgets alone."""

from decimal import Decimal
from typing import Any

import msgspec
from psycopg.rows import namedtuple_row

from service.budgets.budget import Budget
from service.budgets.matching import BudgetSet
from service.budgets.repository import load_budgets
from service.db.pools import PostgresPool
from service.identity.call import call_names_of_charge

Counters = dict[tuple[Any, ...], Decimal]  # (budget_id, subject, bucket)


async def assert_windows_equal_charges(pool: PostgresPool, tenant_id: str) -> None:
    """Every counter, also of archived budgets, is the sum of the charges its budget has counted."""
    async with pool.connection() as connection, connection.cursor(row_factory=namedtuple_row) as cursor:
        budgets = await load_budgets(connection, tenant_id, include_archived=True)
        await cursor.execute("SELECT * FROM charge WHERE tenant_id = %s", (tenant_id,))
        charges = await cursor.fetchall()
        await cursor.execute(
            "SELECT budget_id, subject, bucket, enforced FROM budget_window WHERE tenant_id = %s", (tenant_id,)
        )
        stored = {(row.budget_id, row.subject, row.bucket): row.enforced for row in await cursor.fetchall()}
    expected = _recomputed(budgets, charges)
    assert stored == expected, _difference(stored, expected)


def _recomputed(budgets: list[Budget], charges: list[Any]) -> Counters:
    as_if_live = BudgetSet(0, [msgspec.structs.replace(budget, state="current") for budget in budgets])
    by_id = {budget.budget_id: budget for budget in budgets}
    sums: Counters = {}
    for charge in charges:
        for counter in as_if_live.match(call_names_of_charge(charge), charge.effective_at):
            budget = by_id[counter.budget.budget_id]
            if budget.has_counted(charge.config_version, charge.effective_at, charge.charge_id):
                key = (budget.budget_id, counter.subject, counter.window.start)
                sums[key] = sums.get(key, Decimal(0)) + charge.enforced_usd
    return sums


def _difference(stored: Counters, expected: Counters) -> str:
    wrong = {key for key in {*stored, *expected} if stored.get(key) != expected.get(key)}
    shown = [f"{key}: stored {stored.get(key)}, charges say {expected.get(key)}" for key in sorted(wrong, key=str)[:5]]
    return f"{len(wrong)} counters differ: " + "; ".join(shown)
