"""Fixes what counters carry into their windows: once, an hour after the window before has closed, and never again.

Until then nothing is carried in, so no counter is ever given what a late event takes away; corrections of closed
windows come too late for it. Counters that spent in the window before are fixed in the background, any other when it
is seeded.
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from uuid import UUID

import psycopg
import structlog
from psycopg_pool import PoolTimeout

from service.budgets import carry_repository as repository
from service.budgets.budget import Budget
from service.budgets.carry_repository import CarryKey
from service.budgets.limits import carried_into, carry_is_due
from service.budgets.matching import BudgetCounter
from service.budgets.period import Window, compute_window, window_of
from service.db.pools import PostgresConnection, PostgresPool
from service.kit.patience import patience

_log = structlog.get_logger(__name__)

_SUBJECTS_AT_ONCE = 500
_STATEMENT_SECONDS = 1.0
_MICROSECOND = timedelta(microseconds=1)


class CarryFixer:
    """Fixes what is carried in. Any number of processes may do so at the same time."""

    def __init__(self, pool: PostgresPool, clock: Callable[[], datetime]) -> None:
        self._pool = pool
        self._clock = clock
        # The window for which a budget's counters are fixed already.
        self._done: dict[UUID, datetime] = {}

    def is_due(self, counter: BudgetCounter) -> bool:
        """Tell whether something may be carried into the counter's window and can be fixed by now."""
        budget = counter.budget
        if budget.terms.rollover is None or budget.state != "current":
            return False
        return carry_is_due(counter.window, self._clock())

    async def fix(self, counters: Iterable[BudgetCounter]) -> dict[CarryKey, Decimal]:
        """Fix what is carried into counters that are due; those without a past carry nothing and stay unfixed.

        The ledger's trouble is not the caller's: nothing is carried in then, until a later attempt.
        """
        due = [(each.budget, each.subject, each.window) for each in counters if self.is_due(each)]
        if not due:
            return {}
        try:
            async with (
                patience(_STATEMENT_SECONDS),
                self._pool.connection(timeout=_STATEMENT_SECONDS) as connection,
                connection.transaction(),
            ):
                return await _fix(connection, due)
        except (psycopg.Error, PoolTimeout, OSError, TimeoutError) as error:
            _log.warning("carry_not_fixed", counters=len(due), error=type(error).__name__)
            return {}

    async def fix_due(self) -> int:
        """Fix the counters of all budgets whose present window is old enough, and return how many were."""
        async with self._pool.connection() as connection:
            budgets = await repository.load_budgets_with_rollover(connection)
        now = self._clock()
        self._done = {budget.budget_id: done for budget in budgets if (done := self._done.get(budget.budget_id))}
        fixed = 0
        for budget in budgets:
            window = window_of(budget.period, now)
            if carry_is_due(window, now) and self._done.get(budget.budget_id) != window.start:
                fixed += await self._fix_budget(budget, window)
        return fixed

    async def _fix_budget(self, budget: Budget, window: Window) -> int:
        former = compute_window(budget.period, window.start - _MICROSECOND)
        after, fixed = "", 0
        while True:
            async with self._pool.connection() as connection, connection.transaction():
                if not await repository.try_lock(connection):
                    return fixed
                subjects = await repository.find_subjects_to_fix(
                    connection, budget, former=former.start, bucket=window.start, after=after, limit=_SUBJECTS_AT_ONCE
                )
                if subjects:
                    fixed += len(await _fix(connection, [(budget, subject, window) for subject in subjects]))
            if len(subjects) < _SUBJECTS_AT_ONCE:
                self._done[budget.budget_id] = window.start
                return fixed
            after = subjects[-1]


def carry_key(budget: Budget, subject: str, window: Window) -> CarryKey:
    """Return the key of what is carried into a window."""
    return budget.tenant_id, budget.budget_id, subject, window.start


async def _fix(connection: PostgresConnection, due: Sequence[tuple[Budget, str, Window]]) -> dict[CarryKey, Decimal]:
    keys = [carry_key(*each) for each in due]
    histories = await repository.read_histories(connection, keys)
    carried = {
        key: carried_into(budget, window, history.posted, history.known)
        for key, (budget, _, window), history in zip(keys, due, histories, strict=True)
        if history.posted or history.known
    }
    return await repository.fix(connection, carried) if carried else {}
