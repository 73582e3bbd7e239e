"""Which tags of a call stay when it has too many: those something looks for, in whatever order they come."""

from random import Random
from uuid import UUID

import msgspec
import pytest

from service.budgets.budget import Budget
from service.budgets.matching import BudgetGathering, BudgetSet
from service.identity.dimensions import MAX_TAGS, CompletedDimensions, Dimensions
from service.identity.tag_names import with_kept_tags
from service.pricing.rules import NO_RULES, PricingRules
from tests.budget_builders import a_budget, a_call
from tests.unit.pricing.rule_builders import a_fee, rules_of

JUNK = tuple(f"a{number:03}" for number in range(100))


def _kept(budgets: BudgetSet, tags: tuple[str, ...], rules: PricingRules = NO_RULES) -> tuple[str, ...]:
    completed = CompletedDimensions(values=Dimensions(user="u", tags=tags), provenance={"tag": "carried"})
    kept = with_kept_tags(completed, (budgets.tag_names, rules.tag_names))
    assert (kept.values.user, kept.provenance) == ("u", {"tag": "carried"})
    return kept.values.tags


@pytest.mark.parametrize("tag", ["zz", {"prefix": "z"}, ["yy", "zz"]])
def test_a_tag_some_budget_names_stays_wherever_it_stands(tag: object):
    budgets = BudgetSet(1, [a_budget({"tag": "*"}), a_budget({"team": "core", "tag": tag})])
    for place in (0, 31, 32, 100):
        kept = _kept(budgets, (*JUNK[:place], "zz", *JUNK[place:]))
        assert len(kept) == MAX_TAGS
        assert "zz" in kept


def test_what_stays_does_not_depend_on_the_order():
    budgets = BudgetSet(1, [a_budget({"tag": "zz"}), a_budget({"tag": {"prefix": "y"}}), a_budget({"tag": "*"})])
    tags = [*JUNK, "zz", "y1", "y2", "user-agent: curl"]
    chance = Random(5)
    first = set(_kept(budgets, tuple(tags)))
    assert {"zz", "y1"} < first
    for _ in range(50):
        chance.shuffle(tags)
        kept = _kept(budgets, tuple(tags))
        assert set(kept) == first
        assert list(kept) == [tag for tag in tags if tag in first], "in the order they came in"


def test_many_tags_with_the_beginning_of_one_budget_push_out_none_that_another_names():
    budgets = BudgetSet(1, [a_budget({"tag": "zz"}), a_budget({"tag": {"prefix": "a"}})])
    assert "zz" in _kept(budgets, (*JUNK, "zz"))


def test_a_tag_with_the_beginning_of_one_budget_pushes_out_none_with_that_of_another():
    budgets = BudgetSet(1, [a_budget({"tag": {"prefix": "a"}}), a_budget({"tag": {"prefix": "zz-"}})])
    assert "zz-red" in _kept(budgets, ("zz-red", *JUNK))


@pytest.mark.parametrize("tag", ["zz", {"prefix": "z"}, ["yy", "zz"]])
def test_a_tag_some_price_rule_names_stays(tag: object):
    rules = rules_of(a_fee("usd_per_request", "1", {"tag": tag}))
    assert "zz" in _kept(BudgetSet(1), (*JUNK, "zz"), rules)
    assert "zz" not in _kept(BudgetSet(1), (*JUNK, "zz"))


def test_tags_of_gateways_take_no_place():
    budgets = BudgetSet(1, [a_budget({"tag": "*"}), a_budget({"tag": {"prefix": "user"}})])
    automatic = tuple(f"user-agent: {number}" for number in range(100))
    assert set(_kept(budgets, (*automatic, *JUNK[:MAX_TAGS]))) == set(JUNK[:MAX_TAGS])


def test_few_tags_all_stay():
    assert _kept(BudgetSet(1), JUNK[:MAX_TAGS]) == JUNK[:MAX_TAGS]


def _named(budgets: BudgetSet) -> list[str]:
    names = budgets.tag_names
    return [tag for tag in ("t1", "t2", "t3", "p-x", "q-x") if names.has(tag) or list(names.prefixes_of(tag))]


def _archived(budget: Budget) -> Budget:
    return msgspec.structs.replace(budget, state="archived")


def test_what_is_named_follows_the_budgets():
    first, second = a_budget({"tag": ["t1", "t2"]}), a_budget({"tag": "t1"})
    prefix = a_budget({"tag": {"prefix": "p-"}})
    budgets = BudgetSet(1, [first, second, prefix, a_budget({"tag": None}), a_budget({"user": "t3"})])
    assert _named(budgets) == ["t1", "t2", "p-x"]
    without = budgets.with_changes(2, [_archived(first)])
    assert _named(without) == ["t1", "p-x"]
    assert _named(without.with_changes(3, [_archived(second), _archived(prefix)])) == []
    more = without.with_changes(3, [a_budget({"tag": ["t3"]}), a_budget({"tag": {"prefix": "q-"}})])
    assert _named(more) == ["t1", "t3", "p-x", "q-x"]
    assert _named(budgets) == ["t1", "t2", "p-x"], "the former set is as it was"


def test_a_set_gathered_in_portions_names_the_same():
    made = [a_budget({"tag": f"t{number}"}, budget_id=UUID(int=number)) for number in (1, 2)]
    gathering = BudgetGathering()
    for budget in made:
        gathering.add([budget])
    gathered = gathering.budget_set(1)
    assert _named(gathered) == _named(BudgetSet(1, made)) == ["t1", "t2"]
    assert len(gathered.with_changes(2, [_archived(made[0])]).match(a_call(tags=("t1", "t2")), made[0].created_at)) == 1
