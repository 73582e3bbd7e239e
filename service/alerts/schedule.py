"""Alerts that come with time, also when nobody sends a request: a limit was lowered or an increase is over, a threshold
was added, a window exhausts its limit at its present pace. Whatever else was missed is found here, too.

One replica at a time, once per interval for all of them; page by page, so that neither a million counters nor a hundred
thousand budgets are ever in memory. Also ends deliveries that wait for a disabled webhook, and forgets old ones.
"""

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Final, NamedTuple

import msgspec
import psycopg
import structlog

from service.alerts import delivery_repository as outbox
from service.alerts import evaluation_repository as repository
from service.alerts import metrics
from service.alerts.alert import Alert
from service.alerts.evaluation import Evaluator, make_alert
from service.alerts.evaluation_repository import AskedWindow, BudgetKey, BudgetPeriod, DueAlert
from service.budgets.budget import Budget
from service.budgets.forecast import LEAST_ELAPSED_SHARE, project, rolling_run
from service.budgets.period import Period, RollingPeriod, counted_buckets, window_of
from service.budgets.period_document import parse_period
from service.db.pools import PostgresConnection, PostgresPool
from service.db.row_errors import ROW_ERRORS
from service.kit.clock import monotonic
from service.settings import AlertsSettings

_log = structlog.get_logger(__name__)

# Some milliseconds of work for this process, which answers checks meanwhile.
_BUDGETS_AT_ONCE: Final = 250
_ALERTS_AT_ONCE: Final = 500
_DELIVERIES_AT_ONCE: Final = 5_000
_MICROSECOND: Final = timedelta(microseconds=1)


class AlertSchedule:
    """Makes passes over everything that may be due; see `run`."""

    def __init__(self, pool: PostgresPool, evaluator: Evaluator, settings: AlertsSettings) -> None:
        self._pool = pool
        self._evaluator = evaluator
        self._interval = timedelta(seconds=settings.interval_seconds)
        self._give_up_after = timedelta(hours=settings.give_up_hours)
        self._kept = timedelta(days=settings.deliveries_kept_days)

    async def run(self) -> None:
        """Make a pass, unless another replica is at one or has made one in this interval."""
        async with self._pool.connection() as connection:
            if not await repository.try_lock_schedule(connection):
                return
            try:
                if await repository.begin_pass(connection, self._interval):
                    await self._make_pass(connection)
            finally:
                await repository.unlock_schedule(connection)

    async def _make_pass(self, connection: PostgresConnection) -> None:
        started = monotonic()
        raised = await self.evaluate_all(connection)
        await _until_done(lambda: outbox.give_up_disabled(connection, self._give_up_after, _DELIVERIES_AT_ONCE))
        await _until_done(lambda: outbox.forget_ended(connection, self._kept, _DELIVERIES_AT_ONCE))
        metrics.SCHEDULE_SECONDS.set(monotonic() - started)
        if raised:
            _log.info("alerts_raised_by_schedule", alerts=raised)

    async def evaluate_all(self, connection: PostgresConnection) -> int:
        """Raise what is due in the present windows of all live budgets with thresholds; return how many alerts."""
        raised = 0
        page = await repository.list_periods(connection, None, _BUDGETS_AT_ONCE)
        while page:
            raised += await self._try_page(connection, page)
            last = page[-1]
            page = await repository.list_periods(connection, (last.tenant_id, last.budget_id), _BUDGETS_AT_ONCE)
        return raised

    async def _try_page(self, connection: PostgresConnection, page: Sequence[BudgetPeriod]) -> int:
        """Evaluate a page, in halves when something in it cannot be: it must hide nothing beside it or after it."""
        try:
            return await self._evaluate_page(connection, page)
        except Exception as error:
            if connection.closed:
                raise
            is_trouble = isinstance(error, psycopg.Error) and not isinstance(error, ROW_ERRORS)
            if is_trouble or len(page) == 1:  # halves would fare no better
                metrics.EVALUATION_FAILURES.inc()
                _log.exception("alerts_not_evaluated", budgets=len(page), first_budget=str(page[0].budget_id))
                return 0
        return await self._try_halves(connection, page)

    async def _try_halves(self, connection: PostgresConnection, page: Sequence[BudgetPeriod]) -> int:
        middle = len(page) // 2
        return await self._try_page(connection, page[:middle]) + await self._try_page(connection, page[middle:])

    async def _evaluate_page(self, connection: PostgresConnection, page: Sequence[BudgetPeriod]) -> int:
        now = await repository.read_clock(connection)
        frames = {text: _frame(_period_of(text), now) for text in {each.period for each in page}}
        windows = [_present_window(each, frames[each.period], now) for each in page]
        rolling = [window for window in windows if window.first < window.last]
        if rolling:
            await repository.rearm(connection, rolling)
        raised = 0
        while due := await repository.find_due(connection, windows, _ALERTS_AT_ONCE):
            keys = sorted({(each.tenant_id, each.budget_id) for each in due})
            budgets = await repository.load_live_budgets(connection, keys)
            alerts = [_alert(budget, each, now) for each in due if (budget := budgets.get(_key(each))) is not None]
            newly = await self._evaluator.raise_all(connection, alerts)
            raised += newly
            if len(due) < _ALERTS_AT_ONCE:
                break
            if not newly:
                # Others raise them meanwhile, or nobody can: the same would be found again, and nothing behind it.
                return raised + (await self._try_halves(connection, page) if len(page) > 1 else 0)
        return raised


class _Frame(NamedTuple):
    """The present window of a period: its oldest and newest bucket, its length and how much of it is over.

    In microseconds; `length_us` None = it has no end, `elapsed_us` None = each counter has its own pace.
    """

    first: datetime
    last: datetime
    length_us: int | None
    elapsed_us: int | None


def _frame(period: Period, now: datetime) -> _Frame:
    buckets = counted_buckets(period, now)
    if isinstance(period, RollingPeriod):
        return _Frame(buckets[0], buckets[-1], period.length_seconds * 1_000_000, None)
    window = window_of(period, now)
    length = None if window.end is None else (window.end - window.start) // _MICROSECOND
    return _Frame(window.start, window.start, length, (now - window.start) // _MICROSECOND)


def _present_window(budget: BudgetPeriod, frame: _Frame, now: datetime) -> AskedWindow:
    return AskedWindow(
        tenant_id=budget.tenant_id,
        budget_id=budget.budget_id,
        first=frame.first,
        last=frame.last,
        at=now,
        length_us=frame.length_us,
        least_share=_least_share(Decimal(budget.first_threshold), frame),
    )


def _least_share(first_threshold: Decimal, frame: _Frame) -> Decimal:
    """Return a share of the limit below which neither a threshold nor a projection can be due."""
    if frame.length_us is None:
        return first_threshold
    if frame.elapsed_us is None:
        return min(first_threshold, LEAST_ELAPSED_SHARE)
    share = Decimal(frame.elapsed_us * 1_000_000 // frame.length_us).scaleb(-6)
    return first_threshold if share < LEAST_ELAPSED_SHARE else min(first_threshold, share)


def _alert(budget: Budget, due: DueAlert, now: datetime) -> Alert:
    projection = None
    if due.kind == "projected_exhaustion":
        window = (
            rolling_run(budget.period.length_seconds, due.oldest)
            if isinstance(budget.period, RollingPeriod)
            else window_of(budget.period, now)
        )
        projection = project(due.posted, window, now, limit_usd=due.limit_usd)
    return make_alert(
        budget,
        due.subject,
        bucket=window_of(budget.period, now).start,
        at=now,
        kind=due.kind,
        threshold=due.threshold,
        posted_usd=due.posted,
        limit_usd=due.limit_usd,
        projection=projection,
    )


def _key(due: DueAlert) -> BudgetKey:
    return due.tenant_id, due.budget_id


@lru_cache(maxsize=4096)
def _period_of(text: str) -> Period:
    return parse_period(msgspec.json.decode(text))


async def _until_done(step: Callable[[], Awaitable[int]]) -> None:
    """Repeat a step of bounded size until it finds nothing more to do."""
    while await step() == _DELIVERIES_AT_ONCE:
        pass
