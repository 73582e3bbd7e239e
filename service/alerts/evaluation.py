"""Compares counters with the thresholds of their budgets, by what is committed now, and raises what was not raised.

The same counter may be evaluated by many processes at the same time: the database lets one of them raise an alert.
"""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final, NamedTuple
from uuid import UUID

import msgspec
import structlog

from service.alerts import evaluation_repository as repository
from service.alerts import metrics
from service.alerts.alert import Alert, Kind
from service.alerts.evaluation_repository import AskedCounter, BudgetKey, CounterFigures
from service.budgets.budget import Budget
from service.budgets.forecast import Projection
from service.budgets.limits import next_change_at, present_terms, terms_of
from service.budgets.period import RollingPeriod, counted_buckets, shown_window, window_of
from service.budgets.thresholds import next_amount, reached
from service.db.pools import PostgresConnection, PostgresPool
from service.db.row_errors import ROW_ERRORS
from service.kit.ids import new_id
from service.kit.money import EXACT

_log = structlog.get_logger(__name__)

# Other processes add to other buckets of a rolling counter: what was read of it is good for so long.
_ROLLING_OUTLOOK: Final = timedelta(seconds=10)
_MICROSECOND: Final = timedelta(microseconds=1)


class CounterKey(NamedTuple):
    """One bucket of a counter."""

    tenant_id: str
    budget_id: UUID
    subject: str
    bucket: datetime


class Outlook(msgspec.Struct, frozen=True):
    """When a counter is worth another look: as soon as the bucket `newest` sums up to `look_at_usd` (None = never).

    It holds for the budget as of its changed_version `version`, until `until` (None = for good), and says nothing of
    other buckets.
    """

    version: int
    newest: datetime
    look_at_usd: Decimal | None
    until: datetime | None


class Evaluator:
    """Evaluates counters; `on_raised` is called after alerts have been committed."""

    def __init__(self, pool: PostgresPool, on_raised: Callable[[], None]) -> None:
        self._pool = pool
        self._on_raised = on_raised

    async def evaluate(self, counters: Sequence[CounterKey]) -> dict[CounterKey, Outlook]:
        """Raise what is due for the counters; return the outlook of those whose budgets are live and have thresholds.

        Raises what the database driver raises.
        """
        async with self._pool.connection() as connection:
            keys = sorted({_budget_key(counter) for counter in counters})
            budgets = await repository.load_live_budgets(connection, keys)
            now = await repository.read_clock(connection)
            asked = {
                counter: _asked(counter, budget, now)
                for counter in counters
                if (budget := budgets.get(_budget_key(counter))) is not None and budget.terms.thresholds
            }
            if not asked:
                return {}
            read = await repository.read_counters(connection, list(dict.fromkeys(asked.values())))
            due = [alert for each in read for alert in _due(budgets[each.tenant_id, each.budget_id], each)]
            await self.raise_all(connection, due)
        figures = {(each.tenant_id, each.budget_id, each.subject, each.last): each for each in read}
        return {
            counter: _outlook(budgets[_budget_key(counter)], found, now)
            for counter, each in asked.items()
            if (found := figures.get((each.tenant_id, each.budget_id, each.subject, each.last))) is not None
        }

    async def raise_all(self, connection: PostgresConnection, alerts: Sequence[Alert]) -> int:
        """Raise those of the alerts nobody has raised; return how many that were.

        In one statement, or, when the database refuses one of them, in some that leave it out.
        """
        if not alerts:
            return 0
        raised = await _raise_or_bisect(connection, alerts)
        for kind in raised:
            metrics.RAISED.labels(kind).inc()
        if raised:
            self._on_raised()
        return len(raised)


async def _raise_or_bisect(connection: PostgresConnection, alerts: Sequence[Alert]) -> list[Kind]:
    """Raise alerts; bisect down to those the database refuses, and return the kind of each that was raised."""
    try:
        async with connection.transaction():
            return await repository.raise_alerts(connection, alerts)
    except ROW_ERRORS as error:
        if len(alerts) == 1:
            metrics.EVALUATION_FAILURES.inc()
            budget_id = str(alerts[0].budget_id)
            _log.error("alert_refused", budget_id=budget_id, error=type(error).__name__, sqlstate=error.sqlstate)
            return []
    middle = len(alerts) // 2
    return [kind for half in (alerts[:middle], alerts[middle:]) for kind in await _raise_or_bisect(connection, half)]


def make_alert(
    budget: Budget,
    subject: str,
    *,
    bucket: datetime,
    at: datetime,
    kind: Kind,
    threshold: Decimal,
    posted_usd: Decimal,
    limit_usd: Decimal,
    projection: Projection | None = None,
) -> Alert:
    """Return an alert of a counter in the window of a bucket; of a rolling one in the window shown at the instant."""
    is_rolling = isinstance(budget.period, RollingPeriod)
    window = shown_window(budget.period, at if is_rolling else bucket)
    return Alert(
        alert_id=new_id(),
        tenant_id=budget.tenant_id,
        budget_id=budget.budget_id,
        slug=budget.slug,
        name=budget.name,
        subject=subject,
        bucket=bucket,
        kind=kind,
        threshold=threshold,
        is_rolling=is_rolling,
        window_start=window.start,
        window_end=window.end,
        posted_usd=posted_usd,
        limit_usd=limit_usd,
        projected_spend_usd=None if projection is None else projection.projected_spend_usd,
        projected_exhaustion_at=None if projection is None else projection.projected_exhaustion_at,
        raised_at=at,
    )


def _budget_key(counter: CounterKey) -> BudgetKey:
    return counter.tenant_id, counter.budget_id


def _asked(counter: CounterKey, budget: Budget, now: datetime) -> AskedCounter:
    """Return what to read: a closed window is judged by the limit it closed with, a rolling one as it is now."""
    if isinstance(budget.period, RollingPeriod):
        buckets = counted_buckets(budget.period, now)
        first, last, at, terms = buckets[0], buckets[-1], now, present_terms(budget)
    else:
        window = window_of(budget.period, counter.bucket)
        first = last = window.start
        terms = terms_of(budget, window, now)
        at = max(now if window.end is None else min(now, window.end - _MICROSECOND), window.start)
    return AskedCounter(
        tenant_id=counter.tenant_id,
        budget_id=counter.budget_id,
        subject=counter.subject,
        first=first,
        last=last,
        at=at,
        limit_usd=terms.limit_usd,
        most_carried_usd=terms.most_carried_usd,
    )


def _due(budget: Budget, figures: CounterFigures) -> list[Alert]:
    return [
        make_alert(
            budget,
            figures.subject,
            bucket=figures.last,
            at=figures.at,
            kind="threshold",
            threshold=share,
            posted_usd=figures.posted,
            limit_usd=figures.limit_usd,
        )
        for share in reached(figures.posted, figures.limit_usd, budget.terms.thresholds)
        if share not in figures.raised
    ]


def _outlook(budget: Budget, figures: CounterFigures, now: datetime) -> Outlook:
    thresholds = budget.terms.thresholds
    raised = {*figures.raised, *reached(figures.posted, figures.limit_usd, thresholds)}
    amount = next_amount(figures.limit_usd, thresholds, raised)
    until = next_change_at(budget, figures.subject, now)
    if isinstance(budget.period, RollingPeriod):
        until = min(until or now + _ROLLING_OUTLOOK, now + _ROLLING_OUTLOOK)
        others = EXACT.subtract(figures.posted, figures.newest)
        amount = None if amount is None else EXACT.subtract(amount, others)
    return Outlook(version=budget.changed_version, newest=figures.last, look_at_usd=amount, until=until)
