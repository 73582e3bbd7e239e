"""Very many budgets are put in force in portions: others have their turn in between."""

import asyncio
from collections.abc import Awaitable

import msgspec

from service.budgets.matching import BudgetSet
from service.config import service
from tests.budget_builders import NOON, a_budget, a_call

MANY = 3_000
LEAST_TURNS = MANY // 1_000


async def count_turns(making: Awaitable[BudgetSet]) -> tuple[BudgetSet, int]:
    """Return what is made, and how often somebody else had a turn meanwhile."""
    turns = 0

    async def take_turns() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    other = asyncio.create_task(take_turns())
    made = await making
    other.cancel()
    return made, turns


async def test_others_have_turns_while_a_set_is_made_and_while_it_is_changed():
    budgets = [a_budget({"user": f"u{number}"}) for number in range(MANY)]
    made, turns = await count_turns(service._gathered(7, budgets))
    assert turns >= LEAST_TURNS
    assert (made.version, len(made)) == (7, MANY)
    moved = [msgspec.structs.replace(budget, changed_version=8) for budget in budgets]
    gone = [msgspec.structs.replace(budget, state="archived") for budget in moved[:10]]
    changed, turns = await count_turns(service._with_changes(made, 8, [*gone, *moved[10:]]))
    assert turns >= LEAST_TURNS
    assert (changed.version, len(changed)) == (8, MANY - 10)
    assert [counter.budget for counter in changed.match(a_call(user="u10"), NOON)] == [moved[10]]
    assert changed.match(a_call(user="u9"), NOON) == []
    assert [counter.budget for counter in made.match(a_call(user="u9"), NOON)] == [budgets[9]]


async def test_no_budgets_are_a_set_too():
    made, _ = await count_turns(service._gathered(1, []))
    assert (made.version, len(made)) == (1, 0)
    assert (await service._with_changes(made, 2, [])).version == 2
