"""The cost of matching: what is looked at for a call does not grow with the number of budgets."""

from collections.abc import Callable
from typing import Any

import pytest

from service.budgets.budget import Budget
from service.budgets.matching import BudgetSet
from tests.budget_builders import NOON, a_budget, a_call

FEW, MANY = 100, 5_000

_CALL = a_call(
    organization="o",
    team="team-7",
    user="user-7",
    api_key="key-7",
    end_user="end-7",
    tags=("a", "b"),
    requested_model="openai/gpt-5-2026-03-17",
    served_model="openai/gpt-5-2026-03-17",
    provider="openai",
)


def _looked_at(make: Callable[[int], dict[str, Any]], count: int) -> int:
    return BudgetSet(1, [a_budget(make(number)) for number in range(count)]).count_candidates(_CALL)


@pytest.mark.parametrize(
    "make",
    [
        lambda n: {"api_key": f"key-{n}"},
        lambda n: {"api_key": [f"key-{n}", f"other-{n}"]},
        lambda n: {"team": f"team-{n}", "user": "*"},
        lambda n: {"organization": "o", "provider": "openai", "user": f"user-{n}"},
        lambda n: {"team": f"team-{n % 150}", "requested_model": "gpt-5" if n % 150 == 7 and n < 150 else f"m-{n}"},
        lambda n: {"user": "user-7", "tag": f"tag-{n}"},
        lambda n: {"team": {"prefix": f"team-{n:05}"}},
        lambda n: {"user": "user-7", "session": None, "team": f"team-{n}"},
        lambda n: {"agent": "*"} if n % 2 else {"session": "*", "user": "*"},
    ],
)
def test_many_budgets_of_a_kind_cost_no_more_than_few(make: Callable[[int], dict[str, Any]]):
    assert _looked_at(make, MANY) == _looked_at(make, FEW) <= 1


def test_a_hundred_thousand_one_key_budgets_are_an_ordinary_set():
    budgets: list[Budget] = [a_budget({"api_key": f"key-{number}"}) for number in range(100_000)]
    whole = BudgetSet(1, budgets)
    assert whole.count_candidates(_CALL) == 1
    assert [c.budget.budget_id for c in whole.match(_CALL, NOON)] == [budgets[7].budget_id]
    assert whole.count_candidates(a_call(api_key="nobody's")) == 0
    changed = whole.with_changes(2, [a_budget({"api_key": "key-7"})])
    assert changed.count_candidates(_CALL) == 2
