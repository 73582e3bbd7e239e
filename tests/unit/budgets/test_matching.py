"""Which budgets a call counts in, and in which counters."""

from datetime import timedelta
from random import Random
from typing import Any
from uuid import UUID

import msgspec
import pytest

from service.budgets.matching import BudgetGathering, BudgetSet
from service.identity.call import CallNames
from tests.budget_builders import NOON, a_budget, a_call, some_terms


def _subjects(match: dict[str, Any], call: CallNames) -> list[str]:
    return [counter.subject for counter in BudgetSet(1, [a_budget(match)]).match(call, NOON)]


@pytest.mark.parametrize(
    ("match", "people", "subjects"),
    [
        ({}, {}, ["{}"]),
        ({"team": "core"}, {"team": "core"}, ["{}"]),
        ({"team": "core"}, {"team": "Core"}, []),
        ({"team": "core"}, {}, []),
        ({"team": ["core", "edge"]}, {"team": "edge"}, ["{}"]),
        ({"team": {"prefix": "co"}}, {"team": "core"}, ["{}"]),
        ({"team": {"prefix": "co"}}, {"team": "c"}, []),
        ({"team": None}, {}, ["{}"]),
        ({"team": None}, {"team": "core"}, []),
        ({"tag": None}, {"tags": ("a",)}, []),
        ({"user": "*"}, {"user": "u1"}, ['{"user":"u1"}']),
        ({"user": "*"}, {"team": "core"}, []),
        ({"team": "core", "user": "*"}, {"team": "core", "user": "u1"}, ['{"user":"u1"}']),
        ({"team": "core", "user": "*"}, {"team": "edge", "user": "u1"}, []),
        ({"user": "*", "team": "*"}, {"team": "core", "user": "ü"}, ['{"team":"core","user":"ü"}']),
        ({"tag": "*"}, {"tags": ("b", "a", "b")}, ['{"tag":"a"}', '{"tag":"b"}']),
        ({"tag": ["a", "b"]}, {"tags": ("b", "a")}, ["{}"]),
        ({"tag": "a"}, {"tags": ("b", "a")}, ["{}"]),
        ({"tag": "*"}, {"tags": ("User-Agent: curl",)}, []),
        (
            {"user": "*", "tag": "*"},
            {"user": "u", "tags": ("a", "b")},
            ['{"tag":"a","user":"u"}', '{"tag":"b","user":"u"}'],
        ),
        (
            {"team": "core", "user": "u", "api_key": "k", "session": None},
            {"team": "core", "user": "u", "api_key": "k"},
            ["{}"],
        ),
    ],
)
def test_conditions(match: dict[str, Any], people: dict[str, Any], subjects: list[str]):
    assert _subjects(match, a_call(**people)) == subjects


@pytest.mark.parametrize(
    ("value", "does_match"),
    [
        ("claude-opus-4-6", True),
        ("Claude-Opus-4-6", True),
        ("vertex_ai/claude-opus-4-6", True),
        ("vertex_ai/claude-opus-4-6@default", True),
        ("anthropic/claude-opus-4-6", False),
        ({"prefix": "vertex_ai/"}, True),
        ({"prefix": "openai/"}, False),
        (["gpt-5", "claude-opus-4-6"], True),
    ],
)
def test_a_model_is_matched_by_any_of_its_forms(value: Any, does_match: bool):
    call = a_call(requested_model="vertex_ai/claude-opus-4-6@default", provider="vertex_ai")
    assert bool(_subjects({"requested_model": value}, call)) is does_match


def test_each_requested_model_is_one_counter_whatever_the_form_of_the_name():
    names = ("claude-opus-4-6", "vertex_ai/claude-opus-4-6", "vertex_ai/claude-opus-4-6@default")
    subjects = [_subjects({"requested_model": "*"}, a_call(requested_model=name)) for name in names]
    assert subjects == [['{"requested_model":"claude-opus-4-6"}']] * 3


def test_charges_from_before_the_window_of_the_creation_do_not_count():
    budget = a_budget(counts_from=NOON)
    budgets = BudgetSet(1, [budget])
    assert budgets.match(a_call(), NOON - timedelta(microseconds=1)) == []
    assert len(budgets.match(a_call(), NOON)) == 1


def test_budgets_of_a_later_configuration_can_be_left_out():
    budgets = BudgetSet(5, [a_budget(config_version=3), a_budget(config_version=5)])
    assert len(budgets.match(a_call(), NOON)) == 2
    assert [counter.budget.config_version for counter in budgets.match(a_call(), NOON, config_version=4)] == [3]


def test_the_broadest_counters_come_last():
    matches = [{}, {"user": "*"}, {"team": "core"}, {"team": "core", "user": "*"}, {"team": "core", "user": "u"}]
    budgets = BudgetSet(1, [a_budget(match) for match in matches])
    found = budgets.match(a_call(team="core", user="u"), NOON)
    assert [[c.dimension for c in counter.budget.match] for counter in found] == [
        ["team", "user"],
        ["team", "user"],
        ["user"],
        ["team"],
        [],
    ]
    assert [counter.budget.breadth for counter in found] == sorted(counter.budget.breadth for counter in found)


def test_the_order_does_not_depend_on_the_order_of_the_budgets():
    budgets = [a_budget({"tag": "*"}, budget_id=UUID(int=number)) for number in (3, 1, 2)]
    call = a_call(tags=("b", "a"))
    one = [(c.budget.budget_id, c.subject) for c in BudgetSet(1, budgets).match(call, NOON)]
    other = [(c.budget.budget_id, c.subject) for c in BudgetSet(1, budgets[::-1]).match(call, NOON)]
    assert one == other == sorted(one)


def test_a_shared_counter_is_made_once_per_window():
    budgets = BudgetSet(1, [a_budget()])
    [first] = budgets.match(a_call(), NOON)
    [second] = budgets.match(a_call(user="u"), NOON + timedelta(hours=1))
    [later] = budgets.match(a_call(), NOON + timedelta(days=30))
    assert first is second
    assert later.window.start == first.window.end


def test_changes_make_a_new_set_and_leave_the_old_one_alone():
    kept, changed, archived = (a_budget({"user": f"u{number}"}) for number in range(3))
    former = BudgetSet(1, [kept, changed, archived])
    new = a_budget({"user": "u3"})
    changed_now = a_budget({"user": "u1"}, budget_id=changed.budget_id, state="current", changed_version=2)
    archived_now = a_budget({"user": "u2"}, budget_id=archived.budget_id, state="archived", changed_version=2)
    later = former.with_changes(2, [changed_now, archived_now, new])
    assert (former.version, len(former), later.version, len(later)) == (1, 3, 2, 3)
    assert {b.budget_id for b in later.budgets} == {kept.budget_id, changed.budget_id, new.budget_id}
    assert later.find(changed.budget_id) is changed_now
    assert later.find(archived.budget_id) is None
    users = {f"u{n}": len(later.match(a_call(user=f"u{n}"), NOON)) for n in range(4)}
    assert users == {"u0": 1, "u1": 1, "u2": 0, "u3": 1}
    assert len(former.match(a_call(user="u2"), NOON)) == 1


@pytest.mark.parametrize("is_gathered", [False, True])
def test_what_budgets_do_without_a_value_they_want_is_known(is_gathered: bool):
    known = [
        a_budget({"team": "a", "user": None}, terms=some_terms(on_unavailable="deny")),
        a_budget({"team": "b", "project": "*"}, terms=some_terms(on_unavailable="allow")),
        a_budget({"user": "u"}, terms=some_terms(on_unavailable="deny", mode="shadow")),
    ]
    gathering = BudgetGathering()
    gathering.add(known)
    budgets = gathering.budget_set(1) if is_gathered else BudgetSet(1, known)
    assert budgets.policies(("team", "user")) == ["deny", "allow"]
    assert budgets.policies(("project",)) == ["allow"]
    assert budgets.policies(("user", "session")) == []
    changed = [
        msgspec.structs.replace(known[0], state="archived"),
        msgspec.structs.replace(known[2], terms=some_terms(on_unavailable="ledger")),
    ]
    later = budgets.with_changes(2, changed)
    assert (later.policies(("team",)), later.policies(("user",))) == (["allow"], ["ledger"])


def test_dimensions_that_budgets_want_and_a_call_lacks_are_unresolved():
    budgets = BudgetSet(1, [a_budget({"team": "core", "user": "*"}), a_budget({"session": None})])
    assert budgets.unresolved(a_call(team="core")) == ["user"]
    gone = [a_budget({}, budget_id=budget.budget_id, state="archived") for budget in budgets.budgets]
    assert budgets.with_changes(2, gone).unresolved(a_call()) == []


def test_budgets_that_name_where_a_call_goes_are_known_also_by_its_absence():
    plain = BudgetSet(1, [a_budget({"team": "core"}), a_budget({"requested_model": "gpt-5"})])
    assert plain.route_dimensions == ()
    routed = plain.with_changes(2, [a_budget({"provider": None}), a_budget({"served_model": "*"})])
    assert routed.route_dimensions == ("served_model", "provider")
    gone = [a_budget({}, budget_id=budget.budget_id, state="archived") for budget in routed.budgets]
    assert routed.with_changes(3, gone).route_dimensions == ()


def test_the_counters_of_a_check_and_of_its_charge_are_the_same_value():
    budgets = BudgetSet(1, [a_budget({"requested_model": "gpt-5", "user": "*"})])
    check = budgets.match(a_call(requested_model="gpt-5", user="u"), NOON)
    charge = budgets.match(a_call(requested_model="azure/gpt-5-2026-03-17", user="u", provider="azure"), NOON)
    assert check == charge


def test_calls_made_again_and_again_count_in_the_same_at_every_instant_and_in_whatever_order():
    periods = [
        {"kind": "calendar", "unit": "hour", "timezone": "Asia/Kathmandu"},
        {"kind": "calendar", "unit": "month", "timezone": "UTC", "start_day": 1},
        {"kind": "fixed", "length_seconds": 5400, "anchor": "2026-01-01T00:00:00Z"},
        {"kind": "rolling", "length_seconds": 3600},
        {"kind": "lifetime"},
    ]
    budgets = BudgetSet(
        1,
        [
            a_budget(match, period, counts_from=counts_from)
            for match in ({}, {"user": "*"}, {"team": "core"})
            for period in periods
            for counts_from in (None, NOON + timedelta(minutes=10))
        ],
    )
    calls = [a_call(user="u"), a_call(user="v", team="core"), a_call(session="s")]
    chance = Random(7)
    for _ in range(2_000):
        call, at = chance.choice(calls), NOON + timedelta(seconds=chance.randrange(-3_000, 3_000))
        assert budgets.match_again(call, at) == budgets.match(call, at), (call, at)


def test_an_object_in_the_place_of_a_call_that_is_gone_is_matched_by_itself():
    budgets = BudgetSet(1, [a_budget({"user": "*"})])
    for number in range(200):
        # Each is dropped before the next is made, which most often gets its address.
        [counter] = budgets.match_again(a_call(user=f"u{number}"), NOON)
        assert counter.subject == f'{{"user":"u{number}"}}'


def test_what_is_done_with_the_counters_of_a_call_changes_no_later_answer():
    budgets, call = BudgetSet(1, [a_budget()]), a_call()
    budgets.match_again(call, NOON).clear()
    assert len(budgets.match_again(call, NOON)) == 1
