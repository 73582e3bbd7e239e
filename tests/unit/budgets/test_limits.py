"""What a counter may spend at an instant: increases begin and end exactly, roll-over adds what was left, capped."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from service.budgets.budget import Budget, Increase, Rollover
from service.budgets.limits import (
    CARRY_FIXED_AFTER,
    MOST_FORMER_LIMITS,
    carried_into,
    carry_is_due,
    changed_budget,
    closing_terms,
    increases_at,
    last_change_at,
    limit_at,
    next_change_at,
    present_terms,
    rollover_problem,
    terms_of,
)
from service.budgets.period import Window, window_of
from service.budgets.period_document import parse_period
from service.kit.ids import new_id
from tests.budget_builders import NOON, a_budget, some_terms

_TICK = timedelta(microseconds=1)
_HOUR = timedelta(hours=1)


def an_increase(amount: str, start: datetime, until: datetime, subject: str | None = None) -> Increase:
    return Increase(
        increase_id=new_id(),
        amount_usd=Decimal(amount),
        subject=subject,
        granted_at=start,
        until=until,
        reason="a test",
        author="somebody",
    )


def test_an_increase_is_in_force_from_the_grant_to_just_before_its_end():
    budget = a_budget(increases=(an_increase("5", NOON, NOON + _HOUR),))
    instants = (NOON - _TICK, NOON, NOON + _HOUR - _TICK, NOON + _HOUR)
    assert [limit_at(budget, "{}", each) for each in instants] == [100, 105, 105, 100]
    assert [increases_at(budget, "{}", each) for each in instants] == [0, 5, 5, 0]


def test_increases_add_up_and_those_of_other_counters_do_not_count():
    mine, other = '{"user":"u1"}', '{"user":"u2"}'
    budget = a_budget(
        increases=(
            an_increase("1", NOON, NOON + _HOUR),
            an_increase("20", NOON, NOON + _HOUR, mine),
            an_increase("300", NOON, NOON + _HOUR, other),
        )
    )
    assert [limit_at(budget, subject, NOON) for subject in (mine, other, "{}")] == [121, 401, 101]


def test_a_limit_says_since_when_and_until_when_it_is_as_it_is():
    budget = a_budget(
        increases=(an_increase("1", NOON, NOON + 3 * _HOUR), an_increase("2", NOON + _HOUR, NOON + 2 * _HOUR, "x"))
    )
    assert [next_change_at(budget, "x", NOON + n * _HOUR - _TICK) for n in range(5)] == [
        NOON, NOON + _HOUR, NOON + 2 * _HOUR, NOON + 3 * _HOUR, None
    ]  # fmt: skip
    assert [last_change_at(budget, "x", NOON + n * _HOUR) for n in range(-1, 4)] == [
        None, NOON, NOON + _HOUR, NOON + 2 * _HOUR, NOON + 3 * _HOUR
    ]  # fmt: skip
    assert next_change_at(budget, "{}", NOON) == NOON + 3 * _HOUR
    assert (next_change_at(a_budget(), "{}", NOON), last_change_at(a_budget(), "{}", NOON)) == (None, None)


@pytest.mark.parametrize("period", ["1d", "1w", "1mo", "1y", "90d", {"kind": "fixed", "length_seconds": 86_400}])
def test_periods_of_a_day_and_longer_can_carry_over(period: Any):
    assert rollover_problem(parse_period(period)) is None


@pytest.mark.parametrize(
    "period",
    [
        "1h",
        {"kind": "calendar", "unit": "hour"},
        {"kind": "fixed", "length_seconds": 86_399},
        {"kind": "lifetime"},
        {"kind": "rolling", "length_seconds": 604_800},
    ],
)
def test_periods_without_a_next_window_or_shorter_than_a_day_cannot(period: Any):
    assert rollover_problem(parse_period(period))


def test_what_is_carried_is_fixed_no_sooner_than_late_events_are_accounted_elsewhere():
    window = Window(NOON, NOON + 24 * _HOUR)
    assert CARRY_FIXED_AFTER >= _HOUR
    assert not carry_is_due(window, NOON + CARRY_FIXED_AFTER - _TICK)
    assert carry_is_due(window, NOON + CARRY_FIXED_AFTER)


def _monthly(cap: str | None = None, limit: str = "100", **fields: Any) -> Budget:
    rollover = Rollover(None if cap is None else Decimal(cap))
    return a_budget(terms=some_terms(limit_usd=Decimal(limit), rollover=rollover), **fields)


def _month(month: int) -> datetime:
    return datetime(2026, month, 1, tzinfo=UTC)


def _carried(budget: Budget, month: int, posted: dict[int, str], known: dict[int, str] | None = None) -> Decimal:
    return carried_into(
        budget,
        window_of(budget.period, _month(month)),
        {_month(each): Decimal(amount) for each, amount in posted.items()},
        {_month(each): Decimal(amount) for each, amount in (known or {}).items()},
    )


@pytest.mark.parametrize(
    ("cap", "posted", "expected"),
    [
        (None, {}, 0),  # the first window there is
        (None, {3: "30"}, 70),
        (None, {3: "0"}, 100),
        (None, {3: "100"}, 0),
        (None, {3: "250"}, 0),  # no debt
        ("50", {3: "30"}, 50),
        ("0", {3: "30"}, 0),
        ("500", {1: "10", 2: "20", 3: "30"}, 240),
        ("500", {1: "10", 3: "30"}, 260),  # nothing spent in February
        ("150", {1: "10", 3: "30"}, 150),
        ("500", {1: "1000", 2: "90", 3: "30"}, 80),
    ],
)
def test_what_is_left_goes_from_window_to_window(cap: str | None, posted: dict[int, str], expected: int):
    assert _carried(_monthly(cap), 4, posted) == expected


def test_what_was_fixed_before_is_built_on_whatever_the_sums_are_now():
    assert _carried(_monthly("500"), 4, {1: "0", 2: "0", 3: "30"}, {3: "7"}) == 77
    assert _carried(_monthly("500"), 4, {3: "30"}, {2: "40"}) == 210
    assert _carried(_monthly("500"), 4, {4: "30"}, {4: "40"}) == 0, "neither its own window nor a later one counts"


def test_windows_from_before_the_budget_counts_carry_nothing():
    budget = _monthly("500", counts_from=_month(3))
    assert _carried(budget, 4, {1: "5", 2: "5", 3: "30"}) == 70
    assert _carried(budget, 3, {1: "5", 2: "5"}) == 0


@pytest.mark.parametrize(("limit", "counted"), [("0", 0), ("0.0000009", 0), ("0.000001", 5), ("3", 5)])
def test_a_limit_that_denies_all_takes_nothing_of_what_was_carried_in(limit: str, counted: int):
    budget = a_budget(terms=some_terms(rollover=Rollover(Decimal(7))))
    assert present_terms(budget).counted_carry(Decimal(limit), Decimal(5)) == counted


def test_without_roll_over_nothing_is_carried():
    assert _carried(a_budget(), 4, {3: "1"}) == 0


def test_days_of_a_zone_that_changes_its_clock_are_carried_one_after_the_other():
    period = {"kind": "calendar", "unit": "day", "timezone": "Europe/Berlin"}
    budget = _monthly("1000", "10", period=period)
    start = window_of(budget.period, datetime(2026, 10, 24, 12, tzinfo=UTC)).start
    window = window_of(budget.period, datetime(2026, 10, 27, 12, tzinfo=UTC))
    assert carried_into(budget, window, {start: Decimal(4)}, {}) == 26, "6 of the 24th, 10 of the 25th and the 26th"


def _with_limit(budget: Budget, limit: str, at: datetime, cap: str | None = None) -> Budget:
    rollover = None if budget.terms.rollover is None else Rollover(None if cap is None else Decimal(cap))
    terms = msgspec.structs.replace(budget.terms, limit_usd=Decimal(limit), rollover=rollover)
    return changed_budget(budget, terms, version=budget.changed_version + 1, at=at)


def _closing_limits(budget: Budget, *months: int) -> list[Decimal]:
    return [closing_terms(budget, _month(month + 1)).limit_usd for month in months]


def test_a_closed_window_keeps_the_limit_it_closed_with():
    budget = _monthly(limit="10")
    for month, days, limit in ((3, 4, "20"), (3, 9, "30"), (3, 20, "40"), (5, 1, "50"), (5, 2, "40"), (7, 1, "60")):
        budget = _with_limit(budget, limit, _month(month) + timedelta(days=days))
    assert _closing_limits(budget, 1, 2, 3, 4, 5, 6, 7, 8) == [10, 10, 40, 40, 40, 40, 60, 60]
    assert len(budget.former_limits) == 3, "one for each window in which it changed"
    assert (budget.limit_usd, budget.changed_version) == (60, 7)


def test_a_change_at_the_instant_a_window_ends_is_the_next_one_s():
    budget = _with_limit(_monthly(limit="10"), "20", _month(4))
    assert _closing_limits(budget, 3, 4) == [10, 20]
    assert _closing_limits(_with_limit(_monthly(limit="10"), "20", _month(4) - _TICK), 3, 4) == [20, 20]


def test_a_window_that_is_not_over_has_the_present_limit_whatever_a_clock_says():
    """Clocks of replicas differ: a change may lie in what one of them takes for the future."""
    budget = _with_limit(_monthly(limit="10"), "20", NOON)
    window = window_of(budget.period, NOON)
    assert window.end is not None
    asked = (NOON - _HOUR, NOON - _TICK, NOON, window.end - _TICK)
    assert [terms_of(budget, window, at).limit_usd for at in asked] == [20, 20, 20, 20]
    former = window_of(budget.period, window.start - _TICK)
    assert terms_of(budget, former, NOON).limit_usd == 10
    changed_again = _with_limit(budget, "30", window.end + _HOUR)
    assert terms_of(changed_again, window, window.end).limit_usd == 20


def test_a_change_of_something_else_is_not_remembered_and_a_change_of_the_cap_is():
    budget = _monthly("50", limit="10")
    named = changed_budget(
        budget, some_terms(name="other", limit_usd=Decimal(10), rollover=Rollover(Decimal(50))), version=2, at=NOON
    )
    assert named.former_limits == ()
    capped = _with_limit(budget, "10", NOON, cap="5")
    assert [each.rollover for each in capped.former_limits] == [Rollover(Decimal(50))]
    before = [closing_terms(capped, _month(month)).most_carried_usd for month in (11, 12)]
    assert (before, present_terms(capped).most_carried_usd) == ([50, 5], 5)


@pytest.mark.parametrize("period", [{"kind": "rolling", "length_seconds": 3600}, {"kind": "lifetime"}])
def test_a_period_whose_windows_do_not_close_remembers_nothing(period: Any):
    assert _with_limit(a_budget(period=period), "20", NOON).former_limits == ()


def test_what_is_remembered_is_bounded_and_the_latest_stays():
    budget = a_budget(period="1d", terms=some_terms(limit_usd=Decimal(0)))
    for number in range(1, MOST_FORMER_LIMITS + 11):
        budget = _with_limit(budget, str(number), NOON + timedelta(days=number))
    assert [each.limit_usd for each in budget.former_limits] == list(range(10, MOST_FORMER_LIMITS + 10))


def test_each_window_carries_on_by_the_limit_it_closed_with():
    budget = _with_limit(_monthly("500", limit="10"), "100", _month(3) + _HOUR, cap="500")
    # 9 of 10 in January, nothing in February, 30 of 100 in March.
    assert _carried(budget, 2, {1: "1"}) == 9
    assert _carried(budget, 3, {1: "1"}) == 19
    assert _carried(budget, 4, {1: "1", 3: "30"}) == 89
    lowered = _with_limit(budget, "1", _month(4) + _HOUR, cap="500")
    assert _carried(lowered, 4, {1: "1", 3: "30"}) == 89


def test_nothing_carried_counts_beyond_the_cap_of_the_window_it_was_carried_into():
    budget = _with_limit(_monthly(limit="100"), "1", _month(4) + _HOUR)
    assert _carried(budget, 4, {3: "10"}) == 90, "it was left in March, under the limit of March"
    assert present_terms(budget).counted_carry(Decimal(1), Decimal(90)) == 1
    assert _carried(budget, 5, {3: "10", 4: "1"}) == 1, "of the 90 only 1 counted in April"


def test_roll_over_that_is_switched_off_counts_for_no_window_and_switched_on_for_closed_ones():
    never = a_budget(terms=some_terms(limit_usd=Decimal(10)))
    on = changed_budget(never, some_terms(limit_usd=Decimal(20), rollover=Rollover()), version=2, at=_month(4) + _HOUR)
    assert _carried(on, 4, {3: "3"}) == 7
    off = changed_budget(on, some_terms(limit_usd=Decimal(20)), version=3, at=_month(5) + _HOUR)
    assert closing_terms(off, _month(5)).most_carried_usd == 0
