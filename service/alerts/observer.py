"""Looks at every committed counter, in memory; asks the database only about those that may have reached a threshold.

The publisher hands over each batch, live or from the outbox, and keeps its outbox row until the batch was observed: a
crash in between repeats both. What a process knows of a counter (its outlook) is a bound below which nothing can be
due; it is forgotten when the budget changes, and soon after it was archived.
"""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from itertools import islice
from typing import Final
from uuid import UUID

import psycopg
import structlog
from psycopg_pool import PoolTimeout

from service.alerts import metrics
from service.alerts.evaluation import CounterKey, Evaluator, Outlook
from service.budgets.budget import Budget
from service.budgets.period import RollingPeriod
from service.config.service import ConfigStore
from service.db.row_errors import ROW_ERRORS
from service.kit.batching import BatcherClosedError, MicroBatcher
from service.kit.clock import utc_now
from service.kit.money import EXACT
from service.ledger.posts import CommittedPosts, CounterState

_log = structlog.get_logger(__name__)

# With exceptions: some of what the driver calls operational is about a row.
_PASSING: Final = (psycopg.OperationalError, psycopg.InterfaceError, PoolTimeout)
_MOST_AT_ONCE: Final = 500
_MOST_QUEUED: Final = 50_000
_MOST_OUTLOOKS: Final = 100_000


class _Watched:
    """A budget with thresholds and what is known of its counters."""

    __slots__ = ("budget", "first_usd", "is_rolling", "outlooks")

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self.is_rolling = isinstance(budget.period, RollingPeriod)
        # No effective limit is lower than the plain one, of closed windows than a former one: below its first threshold
        # there is nothing to look at.
        least = min([budget.limit_usd, *[former.limit_usd for former in budget.former_limits]])
        self.first_usd = EXACT.multiply(budget.terms.thresholds[0], least)
        self.outlooks: dict[tuple[str, datetime | None], Outlook] = {}


class AlertObserver:
    """The publisher's observer. One instance per process."""

    def __init__(self, configs: ConfigStore, evaluator: Evaluator) -> None:
        self._configs = configs
        self._evaluator = evaluator
        self._watched: dict[UUID, _Watched] = {}
        self._outlooks = 0
        self._batcher: MicroBatcher[CounterKey, bool] = MicroBatcher(
            self._evaluate, max_items=_MOST_AT_ONCE, max_wait_ms=0
        )

    def observe(self, posts: Sequence[CommittedPosts]) -> "asyncio.Task[bool] | None":
        """Return None when nothing can be due; else a task that tells whether the posts are observed.

        False: they are to be observed again. It never raises.
        """
        counters = [counter for each in posts for counter in self._noteworthy(each)]
        if not counters:
            return None
        return asyncio.get_running_loop().create_task(self._settle(counters))

    async def close(self) -> None:
        """Evaluate what is queued; later posts are left to other processes."""
        await self._batcher.close()

    def _noteworthy(self, posts: CommittedPosts) -> list[CounterKey]:
        """Return the counters that may have reached a threshold, those of unknown budgets included."""
        config = self._configs.find(posts.tenant_id)
        found: list[CounterKey] = []
        for state in posts.counters:
            budget = None if config is None else config.budgets.find(state.budget_id)
            if budget is not None and (not budget.terms.thresholds or not self._may_be_due(budget, state)):
                continue
            found.append(CounterKey(posts.tenant_id, state.budget_id, state.subject, state.bucket))
        return found

    def _may_be_due(self, budget: Budget, state: CounterState) -> bool:
        watched = self._watched.get(budget.budget_id)
        if watched is None or watched.budget is not budget:
            watched = self._watch(budget)
        if not watched.is_rolling and state.enforced < watched.first_usd:
            return False
        outlook = watched.outlooks.get((state.subject, None if watched.is_rolling else state.bucket))
        if outlook is None or outlook.newest != state.bucket:
            return True
        if outlook.until is not None and outlook.until <= utc_now():
            return True
        return outlook.look_at_usd is not None and state.enforced >= outlook.look_at_usd

    def _watch(self, budget: Budget) -> _Watched:
        self._drop(budget.budget_id)
        # Those looked at longest ago. Two for each new one keep those that are in force no more to a part of all.
        for budget_id in list(islice(self._watched, 2)):
            former = self._drop(budget_id)
            if former is not None and self._is_in_force(former.budget):
                self._watched[budget_id] = former
                self._outlooks += len(former.outlooks)
        watched = self._watched[budget.budget_id] = _Watched(budget)
        return watched

    def _drop(self, budget_id: UUID) -> _Watched | None:
        watched = self._watched.pop(budget_id, None)
        if watched is not None:
            self._outlooks -= len(watched.outlooks)
        return watched

    def _is_in_force(self, budget: Budget) -> bool:
        config = self._configs.find(budget.tenant_id)
        return config is not None and config.budgets.find(budget.budget_id) is budget

    async def _settle(self, counters: list[CounterKey]) -> bool:
        if self._batcher.queued_items > _MOST_QUEUED:
            metrics.EVALUATION_FAILURES.inc()
            return False
        try:
            return all(await self._batcher.submit_many(counters))
        except BatcherClosedError:
            return False

    async def _evaluate(self, counters: list[CounterKey]) -> list[bool]:
        """Evaluate and remember; one counter that cannot be evaluated must not keep outbox rows open for ever."""
        distinct = list(dict.fromkeys(counters))
        try:
            await self._evaluate_distinct(distinct)
        except _PASSING as error:
            metrics.EVALUATION_FAILURES.inc()
            _log.warning("alerts_not_evaluated", counters=len(distinct), error=type(error).__name__)
            return [False] * len(counters)
        return [True] * len(counters)

    async def _evaluate_distinct(self, counters: list[CounterKey]) -> None:
        """Evaluate counters; bisect down to those that cannot be. Raises what may be over by the next time."""
        try:
            outlooks = await self._evaluator.evaluate(counters)
        except Exception as error:
            is_of_a_row = isinstance(error, ROW_ERRORS)
            if isinstance(error, _PASSING) and not is_of_a_row:
                raise
            if len(counters) == 1 or (isinstance(error, psycopg.Error) and not is_of_a_row):
                # Logged with its trace; the schedule looks at these counters once more.
                metrics.EVALUATION_FAILURES.inc()
                _log.exception("alerts_not_evaluated", counters=len(counters), first_budget=str(counters[0].budget_id))
                return
        else:
            for counter, outlook in outlooks.items():
                self._remember(counter, outlook)
            return
        middle = len(counters) // 2
        await self._evaluate_distinct(counters[:middle])
        await self._evaluate_distinct(counters[middle:])

    def _remember(self, counter: CounterKey, outlook: Outlook) -> None:
        watched = self._watched.get(counter.budget_id)
        if watched is None or watched.budget.changed_version != outlook.version:
            return
        if self._outlooks >= _MOST_OUTLOOKS:
            self._watched.clear()
            self._outlooks = 0
            return
        key = (counter.subject, None if watched.is_rolling else counter.bucket)
        self._outlooks += key not in watched.outlooks
        watched.outlooks[key] = outlook
