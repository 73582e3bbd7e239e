"""Enters changes of budgets into the audit trail, in the transaction of the change."""

from typing import Any

import msgspec
from psycopg import AsyncConnection

from service.audit.repository import record
from service.budgets.budget import Budget
from service.budgets.period_document import period_document
from service.identity.conditions import match_document


async def record_change(
    connection: AsyncConnection[Any], author: str, before: Budget | None, after: Budget | None
) -> None:
    """Enter what a budget was and is; None = there was none, there is none any more."""
    budget = after or before
    assert budget is not None
    verb = "created" if before is None else "archived" if after is None else "changed"
    await record(
        connection,
        budget.tenant_id,
        changed_by=author,
        action=f"budget.{verb}",
        subject_type="budget",
        subject_id=str(budget.budget_id),
        before=_document(before),
        after=_document(after),
    )


def _document(budget: Budget | None) -> dict[str, Any] | None:
    if budget is None:
        return None
    return {
        "slug": budget.slug,
        "match": match_document(budget.match),
        "period": period_document(budget.period),
        **msgspec.structs.asdict(budget.terms),
    }
