"""How a budget comes to be: from when it counts, and whether it has to be told what was charged before it existed."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from psycopg import AsyncConnection

from service.budgets import repository
from service.budgets.budget import Budget, BudgetDraft
from service.budgets.period import LifetimePeriod, Period, shown_window
from service.kit.ids import new_id


def counts_from(period: Period, created_at: datetime) -> datetime | None:
    """Return since when a budget created at an instant counts: the start of its window; None = ever."""
    return None if isinstance(period, LifetimePeriod) else shown_window(period, created_at).start


async def make_budgets(
    connection: AsyncConnection[Any], tenant_id: str, drafts: Sequence[BudgetDraft], version: int
) -> list[Budget]:
    """Return the budgets of drafts, not stored yet, inside a change of configuration.

    The tenant's lock is ours: charges recorded so far are all there is of older ones.
    """
    now = await repository.read_clock(connection)
    has_history: dict[datetime | None, bool] = {}
    budgets = []
    for draft in drafts:
        since = counts_from(draft.period, now)
        if since not in has_history:
            has_history[since] = await repository.has_charges(connection, tenant_id, since)
        budgets.append(
            Budget(
                tenant_id=tenant_id,
                budget_id=new_id(),
                slug=draft.slug,
                match=draft.match,
                period=draft.period,
                terms=draft.terms,
                state="seeding" if has_history[since] else "current",
                created_at=now,
                config_version=version,
                changed_version=version,
                counts_from=since,
            )
        )
    return budgets
