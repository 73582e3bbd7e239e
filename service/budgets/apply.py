"""Makes a tenant's budgets be as a file says, by slug; the same file again changes nothing.

Steps are taken in portions, each one change of configuration: while it is written, events of the tenant wait, so none
may take long. What is different by then is found again under the tenant's lock. An apply that was interrupted is done
again; every portion is whole or not there.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec
from psycopg import AsyncConnection

from service.budgets import repository
from service.budgets.apply_plan import Step, plan_steps
from service.budgets.budget import Budget, BudgetDraft
from service.budgets.creation import make_budgets
from service.budgets.limits import changed_budget
from service.budgets.repository import load_budgets
from service.budgets.schemas import check_highest_limit
from service.budgets.seeding import ConfigChanges
from service.budgets.trail import record_changes
from service.db.pools import PostgresPool, connected

# As many as a process answering requests beside it may take into its index in one go.
PORTION: Final = 500

Progress = Callable[[int], None]


class ApplyOrder(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be. `prunes`: live budgets the file does not name are archived, those whose slug has the prefix."""

    tenant_id: str
    drafts: Sequence[BudgetDraft]
    prunes: bool = False
    slug_prefix: str = ""
    author: str


class BudgetApplier:
    """Plans and applies."""

    def __init__(self, pool: PostgresPool, configs: ConfigChanges) -> None:
        self._pool = pool
        self._configs = configs

    async def plan(self, order: ApplyOrder) -> list[Step]:
        """Return what would be done now. Raises Unavailable, and InvalidInput for a limit too high with increases."""
        async with connected(self._pool) as connection, connection.transaction():
            budgets = await load_budgets(connection, order.tenant_id)
        present = {budget.slug: budget for budget in budgets}
        prunable = [slug for slug in present if slug.startswith(order.slug_prefix)] if order.prunes else []
        return _checked(plan_steps(present, order.drafts, prunable=prunable))

    async def apply(self, order: ApplyOrder, steps: Sequence[Step], progress: Progress = lambda _: None) -> list[Step]:
        """Take the steps of a plan and return those that were taken, by what was there when they were."""
        due = [step for step in steps if step.verb != "unchanged"]
        taken: list[Step] = []
        for start in range(0, len(due), PORTION):
            portion = due[start : start + PORTION]
            async with self._configs.change(order.tenant_id) as (connection, version):
                taken += await _take(connection, order, portion, version)
            progress(len(portion))
        return taken


async def _take(
    connection: AsyncConnection[Any], order: ApplyOrder, portion: Sequence[Step], version: int
) -> list[Step]:
    present = await repository.find_live(connection, order.tenant_id, [step.slug for step in portion])
    drafts = [step.draft for step in portion if step.draft is not None]
    steps = _checked(plan_steps(present, drafts, prunable=[step.slug for step in portion if step.draft is None]))
    changed = [step for step in steps if step.verb == "change"]
    gone = [step.present for step in steps if step.verb in {"replace", "prune"} and step.present is not None]
    wanted = [step.draft for step in steps if step.verb in {"replace", "create"} and step.draft is not None]
    pairs: list[tuple[Budget | None, Budget | None]] = [(budget, None) for budget in gone]
    await repository.archive_all(connection, gone, version)
    now = await repository.read_clock(connection)
    after = [_with_terms(step, version, now) for step in changed]
    await repository.store_terms_of_all(connection, after)
    pairs += [(step.present, budget) for step, budget in zip(changed, after, strict=True)]
    made = await make_budgets(connection, order.tenant_id, wanted, version)
    await repository.insert_all(connection, made)
    pairs += [(None, budget) for budget in made]
    await record_changes(connection, order.author, pairs)
    return [step for step in steps if step.verb != "unchanged"]


def _checked(steps: list[Step]) -> list[Step]:
    for step in steps:
        if step.verb == "change" and step.present is not None and step.draft is not None and step.present.increases:
            check_highest_limit(msgspec.structs.replace(step.present, terms=step.draft.terms), field="limit_usd")
    return steps


def _with_terms(step: Step, version: int, at: datetime) -> Budget:
    assert step.present is not None
    assert step.draft is not None
    return changed_budget(step.present, step.draft.terms, version=version, at=at)
