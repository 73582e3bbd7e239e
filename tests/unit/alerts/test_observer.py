"""What of a committed batch the database is asked about: as little as possible, and never too little."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, cast
from uuid import UUID, uuid4

import psycopg
import pytest

from service.alerts.evaluation import CounterKey, Evaluator, Outlook
from service.alerts.observer import AlertObserver
from service.budgets.budget import Budget, BudgetTerms
from service.budgets.matching import BudgetSet
from service.budgets.period import LifetimePeriod, Period, RollingPeriod
from service.config.service import ConfigStore
from service.kit.clock import utc_now
from service.ledger.posts import CommittedPosts, CounterState

START = datetime(2026, 11, 1, tzinfo=UTC)


def a_budget(
    *shares: str, limit: str = "100", period: Period | None = None, version: int = 1, number: int = 1
) -> Budget:
    terms = BudgetTerms(name="b", limit_usd=Decimal(limit), thresholds=tuple(map(Decimal, shares)))
    return Budget(
        tenant_id="t",
        budget_id=UUID(int=number),
        slug="b",
        match=(),
        period=period or LifetimePeriod(),
        terms=terms,
        state="current",
        created_at=START,
        config_version=1,
        changed_version=version,
    )


class FixedConfigs:
    """Stands where the configuration is."""

    def __init__(self, *budgets: Budget) -> None:
        self.budgets = BudgetSet(1, budgets)

    def find(self, tenant_id: str) -> Any:
        return self if tenant_id == "t" else None


class NotingEvaluator:
    """Stands where the database is: notes what is asked, and answers with one outlook."""

    def __init__(self, **outlook: Any) -> None:
        self.asked: list[CounterKey] = []
        self.outlook = {"version": 1, "look_at_usd": None, "until": None} | outlook
        self.error: Exception | None = None

    async def evaluate(self, counters: Sequence[CounterKey]) -> dict[CounterKey, Outlook]:
        self.asked += counters
        if self.error is not None:
            raise self.error
        return {counter: Outlook(**{"newest": counter.bucket} | self.outlook) for counter in counters}


def an_observer(evaluator: NotingEvaluator, *budgets: Budget) -> tuple[AlertObserver, FixedConfigs]:
    configs = FixedConfigs(*budgets)
    return AlertObserver(cast("ConfigStore", configs), cast("Evaluator", evaluator)), configs


def posts(*amounts: str, bucket: datetime = START, tenant: str = "t", number: int = 1) -> list[CommittedPosts]:
    counters = tuple(
        CounterState(budget_id=UUID(int=number), subject="{}", bucket=bucket, enforced=Decimal(amount), version=version)
        for version, amount in enumerate(amounts)
    )
    return [CommittedPosts(tenant_id=tenant, outbox_id=uuid4(), epoch=1, counters=counters, settlements=())]


async def settle(observer: AlertObserver, *amounts: str, **options: Any) -> bool | None:
    observing = observer.observe(posts(*amounts, **options))
    return None if observing is None else await observing


async def test_below_the_first_threshold_nothing_is_asked():
    evaluator = NotingEvaluator()
    observer, _ = an_observer(evaluator, a_budget("0.5", "0.8"))
    assert await settle(observer, "0", "49.999999") is None
    assert evaluator.asked == []


async def test_budgets_without_thresholds_are_not_looked_at():
    evaluator = NotingEvaluator()
    observer, _ = an_observer(evaluator, a_budget())
    assert await settle(observer, "1000") is None


async def test_a_threshold_that_is_reached_is_asked_about_once_until_the_next_is():
    evaluator = NotingEvaluator(look_at_usd=Decimal(80))
    observer, _ = an_observer(evaluator, a_budget("0.5", "0.8"))
    assert await settle(observer, "50") is True
    assert await settle(observer, "60", "79.99") is None
    evaluator.outlook["look_at_usd"] = None
    assert await settle(observer, "80") is True
    assert await settle(observer, "1000000") is None
    assert len(evaluator.asked) == 2


async def test_another_window_of_the_same_counter_is_asked_about():
    evaluator = NotingEvaluator()
    observer, _ = an_observer(evaluator, a_budget("0.5"))
    assert await settle(observer, "50") is True
    assert await settle(observer, "50", bucket=START + timedelta(days=1)) is True


async def test_what_is_known_of_a_budget_is_forgotten_when_it_changes():
    evaluator = NotingEvaluator()
    observer, configs = an_observer(evaluator, a_budget("0.5"))
    assert await settle(observer, "50") is True
    configs.budgets = BudgetSet(2, [a_budget("0.5", "0.6", version=2)])
    evaluator.outlook["version"] = 2
    assert await settle(observer, "55") is True
    assert await settle(observer, "55") is None


async def test_what_the_database_says_of_another_version_of_a_budget_is_not_remembered():
    evaluator = NotingEvaluator(version=2)
    observer, _ = an_observer(evaluator, a_budget("0.5"))
    assert await settle(observer, "50") is True
    assert await settle(observer, "50") is True


async def test_archived_budgets_are_forgotten_as_others_come_and_those_in_force_are_not():
    lasting = a_budget("0.5")
    observer, configs = an_observer(NotingEvaluator(), lasting)
    assert await settle(observer, "50") is True
    for number in range(2, 102):
        configs.budgets = BudgetSet(number, [lasting, a_budget("0.5", number=number)])
        assert await settle(observer, "50", number=number) is True
    assert await settle(observer, "50") is None
    assert len(observer._watched) <= 4
    assert observer._outlooks == sum([len(each.outlooks) for each in observer._watched.values()])


async def test_an_outlook_ends_with_its_time():
    evaluator = NotingEvaluator(until=utc_now() - timedelta(seconds=1))
    observer, _ = an_observer(evaluator, a_budget("0.5"))
    assert await settle(observer, "50") is True
    assert await settle(observer, "50") is True
    evaluator.outlook["until"] = utc_now() + timedelta(hours=1)
    assert await settle(observer, "50") is True
    assert await settle(observer, "50") is None


async def test_rolling_counters_are_asked_about_by_bucket():
    evaluator = NotingEvaluator(look_at_usd=Decimal(20))
    observer, _ = an_observer(evaluator, a_budget("0.5", period=RollingPeriod(3_600)))
    assert await settle(observer, "1") is True
    assert await settle(observer, "19.99") is None
    assert await settle(observer, "20") is True
    assert await settle(observer, "1", bucket=START + timedelta(minutes=1)) is True


async def test_budgets_and_tenants_nobody_knows_here_are_asked_about():
    evaluator = NotingEvaluator()
    observer, _ = an_observer(evaluator)
    assert await settle(observer, "0.01") is True
    assert await settle(observer, "0.01", tenant="another") is True
    assert {counter.tenant_id for counter in evaluator.asked} == {"t", "another"}


async def test_what_the_database_cannot_answer_is_to_be_observed_again():
    evaluator = NotingEvaluator()
    evaluator.error = psycopg.OperationalError("gone")
    observer, _ = an_observer(evaluator, a_budget("0.5"))
    assert await settle(observer, "50") is False
    evaluator.error = None
    assert await settle(observer, "50") is True


async def test_an_error_of_our_own_keeps_no_outbox_row_open():
    evaluator = NotingEvaluator()
    evaluator.error = AssertionError("a mistake")
    observer, _ = an_observer(evaluator, a_budget("0.5"))
    assert await settle(observer, "50") is True


async def test_after_the_end_posts_are_left_to_others():
    observer, _ = an_observer(NotingEvaluator(), a_budget("0.5"))
    await observer.close()
    assert await settle(observer, "50") is False


async def test_many_batches_are_evaluated_together():
    evaluator = NotingEvaluator()
    observer, _ = an_observer(evaluator, a_budget("0.5"))
    observing = [observer.observe(posts("50")) for _ in range(50)]
    assert await asyncio.gather(*[each for each in observing if each is not None]) == [True] * 50
    assert len(evaluator.asked) == len(set(evaluator.asked)) == 1


@pytest.mark.parametrize("error", [psycopg.errors.ProgramLimitExceeded("too large"), AssertionError("a mistake")])
async def test_a_counter_that_cannot_be_evaluated_keeps_no_outbox_row_open_and_no_other_unseen(error: Exception):
    class RefusingOne(NotingEvaluator):
        async def evaluate(self, counters: Sequence[CounterKey]) -> dict[CounterKey, Outlook]:
            if any(counter.budget_id == UUID(int=3) for counter in counters):
                raise error
            return await super().evaluate(counters)

    evaluator = RefusingOne()
    budgets = [a_budget("0.5", number=number) for number in range(1, 8)]
    observer, _ = an_observer(evaluator, *budgets)
    batch = [each for number in range(1, 8) for each in posts("60", number=number)]
    observing = observer.observe(batch)
    assert observing is not None
    assert await observing is True
    assert {counter.budget_id.int for counter in evaluator.asked} == {1, 2, 4, 5, 6, 7}
    assert observer.observe(posts("60", number=7)) is None
