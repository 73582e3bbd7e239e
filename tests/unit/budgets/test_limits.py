"""What a counter may spend at an instant: increases begin and end exactly, roll-over adds what was left, capped."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from service.budgets.budget import Budget, Increase, Rollover
from service.budgets.limits import (
    CARRY_FIXED_AFTER,
    carried_into,
    carry_is_due,
    counted_carry,
    increases_at,
    last_change_at,
    limit_at,
    next_change_at,
    rollover_problem,
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
    assert counted_carry(Decimal(limit), Decimal(5)) == counted


def test_without_roll_over_nothing_is_carried():
    assert _carried(a_budget(), 4, {3: "1"}) == 0


def test_days_of_a_zone_that_changes_its_clock_are_carried_one_after_the_other():
    period = {"kind": "calendar", "unit": "day", "timezone": "Europe/Berlin"}
    budget = _monthly("1000", "10", period=period)
    start = window_of(budget.period, datetime(2026, 10, 24, 12, tzinfo=UTC)).start
    window = window_of(budget.period, datetime(2026, 10, 27, 12, tzinfo=UTC))
    assert carried_into(budget, window, {start: Decimal(4)}, {}) == 26, "6 of the 24th, 10 of the 25th and the 26th"
