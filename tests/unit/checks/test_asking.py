"""The question put to the counters holds as long as windows and limits do, to the millisecond."""

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from service.budgets.budget import Budget, Rollover
from service.budgets.matching import BudgetSet
from service.checks.asking import hold_ask
from service.checks.hold import HoldAsk
from service.kit.clock import from_unix_ms, to_unix_ms
from tests.budget_builders import NOON, a_budget, a_call, some_terms
from tests.unit.budgets.test_limits import an_increase


class _Any:
    """Stands for what a question only passes on."""

    def __init__(self, **values: Any) -> None:
        self.__dict__.update(values)


def _ask(budget: Budget, at: datetime, *, enforcement: str = "enforce") -> HoldAsk:
    config: Any = _Any(tenant_id="t", version=1, enforcement=enforcement)
    appraisal: Any = _Any(amount_micro_usd=1, is_free=False, models=_Any(requested_model=None))
    request: Any = _Any(ttl_seconds=60)
    counters = BudgetSet(1, [budget]).match(a_call(), at)
    return hold_ask(
        request,
        config,
        appraisal,
        counters,
        at=at,
        reservation_id="r",
        fingerprint="f",
        placed_by="p",
        wants_hold=True,
    )


def test_a_question_holds_as_long_as_its_window():
    ask = _ask(a_budget(period="1h"), NOON)
    assert (from_unix_ms(ask.valid_from_ms), from_unix_ms(ask.valid_until_ms)) == (NOON, NOON + timedelta(hours=1))


def test_a_question_holds_no_longer_than_its_limit_and_is_put_with_the_next_one_then():
    start, until = NOON + timedelta(seconds=1), NOON + timedelta(seconds=2)
    budget = a_budget(period="1h", increases=(an_increase("5", start, until),))
    asks = [_ask(budget, at) for at in (NOON, start, until - timedelta(microseconds=1), until, NOON)]
    limits = [ask.counters[0].limit_micro_usd // 1_000_000 for ask in asks]
    assert limits == [100, 105, 105, 100, 100]
    ends = [(from_unix_ms(ask.valid_from_ms), from_unix_ms(ask.valid_until_ms)) for ask in asks]
    hour = NOON + timedelta(hours=1)
    assert ends == [(NOON, start), (start, until), (start, until), (until, hour), (NOON, start)]


@pytest.mark.parametrize("microseconds", [0, 1, 499, 999])
def test_within_any_millisecond_the_question_put_for_it_holds_in_it(microseconds: int):
    """What comes back as the counters' time, in whole milliseconds, must lead to a question they take."""
    until = NOON + timedelta(milliseconds=7, microseconds=microseconds)
    budget = a_budget(period="1h", increases=(an_increase("5", NOON, until),))
    for millisecond in range(5, 11):
        at = NOON + timedelta(milliseconds=millisecond)
        ask = _ask(budget, at)
        assert ask.valid_from_ms <= to_unix_ms(at) < ask.valid_until_ms
        assert (ask.counters[0].limit_micro_usd == 105_000_000) is (at < until)


def test_a_rolling_counter_is_asked_for_all_its_buckets_under_one_key():
    budget = a_budget(period={"kind": "rolling", "length_seconds": 60})
    first, later = _ask(budget, NOON), _ask(budget, NOON + timedelta(seconds=2))
    start = int(NOON.timestamp()) - 60
    assert (first.counters[0].bucket, first.counters[0].kind) == (f"{start} 2 31", "rolling")
    assert later.counters[0].bucket == f"{start + 2} 2 31"
    assert first.counters[0].key == later.counters[0].key
    assert from_unix_ms(first.valid_until_ms) == NOON + timedelta(seconds=2) == from_unix_ms(later.valid_from_ms)


def test_only_a_budget_that_carries_over_is_asked_what_was_carried_in():
    carrying = a_budget(terms=some_terms(rollover=Rollover(Decimal(5))))
    assert [_ask(each, NOON).counters[0].kind for each in (carrying, a_budget())] == ["with_carry", "one_bucket"]


def test_where_nothing_is_enforced_no_counter_does():
    assert [_ask(a_budget(), NOON, enforcement=each).counters[0].enforces for each in ("enforce", "shadow")] == [
        True,
        False,
    ]
