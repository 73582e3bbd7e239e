"""The index finds what looking at every budget finds, for any budgets and calls, also after any changes."""

from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from service.budgets.budget import Budget
from service.budgets.matching import BudgetCounter, BudgetGathering, BudgetSet
from service.identity.call import CallNames
from tests.budget_builders import NOON, a_budget, a_call

_texts = st.sampled_from(["a", "ab", "abc", "b", "B"])
_models = st.sampled_from(
    ["gpt-5", "openai/gpt-5", "openai/gpt-5-2026-03-17", "qwen", "hosted_vllm/Qwen", "azure/my-dep"]
)
_PEOPLE = ("team", "user", "end_user")
_MODELS = ("requested_model", "deployment", "served_model")


def _conditions(texts: st.SearchStrategy[str]) -> st.SearchStrategy[Any]:
    prefixes = texts.map(lambda text: {"prefix": text[:3]})
    return st.one_of(texts, st.lists(texts, min_size=1, max_size=3), prefixes, st.just("*"), st.none())


matches = st.fixed_dictionaries(
    {},
    optional={name: _conditions(_texts) for name in (*_PEOPLE, "tag")}
    | {name: _conditions(_models) for name in _MODELS}
    | {"provider": _conditions(_texts)},
).filter(lambda document: len(document) <= 8)
budgets = st.lists(matches, max_size=12).map(lambda documents: [a_budget(document) for document in documents])
calls = st.builds(
    a_call,
    **{name: st.none() | _texts for name in (*_PEOPLE, "provider")},
    **{name: st.none() | _models for name in _MODELS},
    tags=st.lists(_texts, max_size=3, unique=True).map(tuple),
)


def _keys(counters: list[BudgetCounter]) -> list[tuple[Any, str]]:
    return sorted((counter.budget.budget_id, counter.subject) for counter in counters)


def _one_by_one(budgets: list[Budget], call: CallNames) -> list[BudgetCounter]:
    """Evaluate the conditions of each budget by themselves, then ask a set of that budget alone for its counters."""
    matching = [b for b in budgets if all(c.holds(call.values.get(c.dimension, ())) for c in b.match)]
    return [counter for budget in matching for counter in BudgetSet(1, [budget]).match(call, NOON)]


@given(budgets, calls)
@settings(max_examples=400)
def test_a_set_matches_what_its_budgets_match_one_by_one(budgets: list[Budget], call: CallNames):
    found = BudgetSet(1, budgets).match(call, NOON)
    assert _keys(found) == _keys(_one_by_one(budgets, call))
    matching = [b for b in budgets if all(c.holds(call.values.get(c.dimension, ())) for c in b.match)]
    assert {counter.budget.budget_id for counter in found} == {budget.budget_id for budget in matching}


@given(budgets, budgets, calls, st.data())
@settings(max_examples=150)
def test_a_changed_set_is_the_set_of_what_there_is_then(
    former: list[Budget], new: list[Budget], call: CallNames, data: st.DataObject
):
    archived = data.draw(st.lists(st.sampled_from(former), unique=True)) if former else []
    gone = {budget.budget_id for budget in archived}
    changes = [a_budget({}, budget_id=budget_id, state="archived") for budget_id in gone]
    changed = BudgetSet(1, former).with_changes(2, [*changes, *new])
    kept = [budget for budget in former if budget.budget_id not in gone]
    assert _keys(changed.match(call, NOON)) == _keys(BudgetSet(2, [*kept, *new]).match(call, NOON))
    assert changed.unresolved(call) == BudgetSet(2, [*kept, *new]).unresolved(call)
    assert changed.route_dimensions == BudgetSet(2, [*kept, *new]).route_dimensions


@given(budgets, calls, st.integers(1, 3))
@settings(max_examples=150)
def test_a_set_made_in_portions_is_the_set_made_in_one_go(budgets: list[Budget], call: CallNames, at_once: int):
    gathering = BudgetGathering()
    for start in range(0, len(budgets), at_once):
        gathering.add(budgets[start : start + at_once])
    gathered, whole = gathering.budget_set(1), BudgetSet(1, budgets)
    assert gathered.match(call, NOON) == whole.match(call, NOON)
    assert gathered.unresolved(call) == whole.unresolved(call)
    assert gathered.route_dimensions == whole.route_dimensions
    changes = [a_budget({}), *[msgspec.structs.replace(budget, state="archived") for budget in budgets[::2]]]
    assert gathered.with_changes(2, changes).match(call, NOON) == whole.with_changes(2, changes).match(call, NOON)
    assert gathered.match(call, NOON) == whole.match(call, NOON)
