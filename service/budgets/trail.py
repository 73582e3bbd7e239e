"""Enters changes of budgets into the audit trail, in the transaction of the change."""

from collections.abc import Sequence
from typing import Any

import msgspec
from psycopg import AsyncConnection

from service.audit.repository import NewEntry, record, record_all
from service.budgets.budget import Budget, Increase
from service.budgets.period_document import period_document
from service.identity.conditions import match_document
from service.kit.money import format_amount

BeforeAndAfter = tuple[Budget | None, Budget | None]


async def record_change(
    connection: AsyncConnection[Any], author: str, before: Budget | None, after: Budget | None
) -> None:
    """Enter what a budget was and is; None = there was none, there is none any more."""
    await record_changes(connection, author, [(before, after)])


async def record_changes(connection: AsyncConnection[Any], author: str, pairs: Sequence[BeforeAndAfter]) -> None:
    """Enter what budgets of one tenant were and are."""
    if not pairs:
        return
    entries = [_entry(before, after) for before, after in pairs]
    await record_all(connection, _one_of(*pairs[0]).tenant_id, entries, changed_by=author)


async def record_increase(
    connection: AsyncConnection[Any], author: str, budget: Budget, before: Increase | None, after: Increase
) -> None:
    """Enter that a budget's limit was raised for a time, or that this was ended early."""
    await record(
        connection,
        budget.tenant_id,
        changed_by=author,
        action="budget_increase.granted" if before is None else "budget_increase.ended",
        subject_type="budget",
        subject_id=str(budget.budget_id),
        before=None if before is None else _increase_document(before),
        after=_increase_document(after),
    )


def _entry(before: Budget | None, after: Budget | None) -> NewEntry:
    verb = "created" if before is None else "archived" if after is None else "changed"
    budget_id = str(_one_of(before, after).budget_id)
    return NewEntry(f"budget.{verb}", "budget", budget_id, _document(before), _document(after))


def _one_of(before: Budget | None, after: Budget | None) -> Budget:
    budget = after or before
    assert budget is not None
    return budget


def _document(budget: Budget | None) -> dict[str, Any] | None:
    if budget is None:
        return None
    return {
        "slug": budget.slug,
        "match": match_document(budget.match),
        "period": period_document(budget.period),
        **msgspec.structs.asdict(budget.terms),
    }


def _increase_document(increase: Increase) -> dict[str, Any]:
    return {**msgspec.structs.asdict(increase), "amount_usd": format_amount(increase.amount_usd)}
