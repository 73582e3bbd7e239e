"""Writes increases an import plans, and ends those an earlier one made that are not planned any more."""

from collections.abc import Sequence
from typing import Final

from service.budgets import increase_repository
from service.budgets.budget import Budget, Increase
from service.budgets.repository import find_live, read_clock
from service.budgets.seeding import ConfigChanges
from service.budgets.trail import record_increase
from service.imports.plan import PlannedIncrease
from service.kit.ids import new_id

AUTHOR: Final = "litellm import"  # of the increases: whose they are to change
_PORTION: Final = 500


class IncreaseWriter:
    """Grants and ends increases, each portion one change of configuration."""

    def __init__(self, configs: ConfigChanges) -> None:
        self._configs = configs

    async def write(
        self,
        tenant_id: str,
        due: Sequence[PlannedIncrease],
        over: Sequence[tuple[Budget, Increase]],
        author: str,
    ) -> None:
        """End what is over and grant what is due, as far as their budgets are live."""
        for start in range(0, len(over), _PORTION):
            async with self._configs.change(tenant_id) as (connection, version):
                for budget, increase in over[start : start + _PORTION]:
                    ended = await increase_repository.end_increase(connection, budget, increase.increase_id, version)
                    if ended is not None:
                        await record_increase(connection, author, budget, increase, ended)
        for start in range(0, len(due), _PORTION):
            portion = due[start : start + _PORTION]
            async with self._configs.change(tenant_id) as (connection, version):
                live = await find_live(connection, tenant_id, sorted({planned.slug for planned in portion}))
                now = await read_clock(connection)
                for planned in portion:
                    if planned.slug not in live or planned.until <= now:
                        continue
                    target = live[planned.slug]
                    increase = Increase(
                        increase_id=new_id(),
                        amount_usd=planned.amount_usd,
                        subject=planned.subject,
                        granted_at=now,
                        until=planned.until,
                        reason=planned.reason,
                        author=AUTHOR,
                    )
                    await increase_repository.insert_increase(connection, target, increase, version)
                    await record_increase(connection, author, target, None, increase)


def compare_increases(
    planned: Sequence[PlannedIncrease], budgets: dict[str, Budget]
) -> tuple[list[PlannedIncrease], list[tuple[Budget, Increase]]]:
    """Return the increases that are not granted yet, and those of earlier imports that no plan has any more."""
    wanted = {_content(one.slug, one): one for one in planned}
    over = [
        (budget, increase)
        for budget in budgets.values()
        for increase in budget.increases
        if increase.author == AUTHOR and wanted.pop(_content(budget.slug, increase), None) is None
    ]
    return list(wanted.values()), over


def _content(slug: str, increase: PlannedIncrease | Increase) -> tuple[object, ...]:
    return slug, increase.subject, increase.amount_usd, increase.until, increase.reason
