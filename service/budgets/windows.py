"""What the counters of a budget say: spent, held and left, against the limit in force, and where that is heading."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Protocol
from uuid import UUID

import msgspec

from service.budgets import window_queries
from service.budgets.budget import Budget
from service.budgets.forecast import Projection, project, rolling_run
from service.budgets.limits import increases_at, terms_of
from service.budgets.period import RollingPeriod, Window, shown_window, window_of
from service.budgets.repository import Scope, read_clock
from service.budgets.subject import subject_values
from service.budgets.window_queries import WindowRow
from service.db.pools import PostgresPool
from service.kit.money import EXACT, ZERO

# A request holds at most this long, so a window that ended earlier has nothing held.
_LONGEST_HOLD = timedelta(days=1)

CounterKey = tuple[UUID, str, datetime | None]  # budget_id, subject, start of the window; None: rolling


class HoldReader(Protocol):
    """Reads what requests in flight hold in counters."""

    async def read_held(self, tenant_id: str, counters: Sequence[CounterKey]) -> list[Decimal] | None:
        """Return the held amount of each counter; None when the holds cannot be read in time. Never raises for that."""
        ...


class WindowState(msgspec.Struct, frozen=True, kw_only=True):
    """One counter in one window; available = limit - posted - held, below 0 when more was spent.

    `limit_usd` is the effective limit: of a closed window the one it closed with, of any other that of today with
    increases in force now (of the present window only); and what was carried in.
    """

    subject: str
    values: dict[str, str]
    window: Window
    is_present: bool
    limit_usd: Decimal
    increases_usd: Decimal
    carried_in_usd: Decimal
    posted_usd: Decimal
    held_usd: Decimal
    available_usd: Decimal
    projection: Projection | None


class WindowPage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of counters; `are_holds_known` False: nothing could be said about holds, they are shown as 0."""

    windows: list[WindowState]
    are_holds_known: bool


class WindowReader:
    """Reads the windows of a budget's counters."""

    def __init__(self, pool: PostgresPool, holds: HoldReader) -> None:
        self._pool = pool
        self._holds = holds

    async def list_page(
        self,
        budget: Budget,
        *,
        subject: str | None,
        start: datetime,
        end: datetime,
        scope: Scope,
        after: tuple[str, datetime] | None,
        limit: int,
    ) -> WindowPage:
        """Return the counters whose windows meet [start, end), by subject and time, those after (subject, start)."""
        async with self._pool.connection() as connection:
            now = await read_clock(connection)
            present = shown_window(budget.period, now)
            if isinstance(budget.period, RollingPeriod) and not _meets(present, start, end):
                return WindowPage(windows=[], are_holds_known=True)
            rows = await window_queries.list_windows(
                connection,
                budget,
                subject=subject,
                present=present,
                range_=(window_of(budget.period, start).start, end),
                scope=scope,
                after=after,
                limit=limit,
            )
        held = await self._held(budget, rows, now)
        windows = [
            _state(budget, row, present, now, amount)
            for row, amount in zip(rows, held or [ZERO] * len(rows), strict=True)
        ]
        return WindowPage(windows=windows, are_holds_known=held is not None)

    async def _held(self, budget: Budget, rows: Sequence[WindowRow], now: datetime) -> list[Decimal] | None:
        """Return what is held in each counter; only windows that may still hold something are asked for."""
        keys = [_counter_key(budget, row, now) for row in rows]
        asked = [key for key in keys if key is not None]
        if not asked:
            return [ZERO] * len(rows)
        amounts = await self._holds.read_held(budget.tenant_id, asked)
        if amounts is None:
            return None
        held = dict(zip(asked, amounts, strict=True))
        return [ZERO if key is None else held[key] for key in keys]


def _meets(window: Window, start: datetime, end: datetime) -> bool:
    return window.start < end and (window.end is None or window.end > start)


def _counter_key(budget: Budget, row: WindowRow, now: datetime) -> CounterKey | None:
    if isinstance(budget.period, RollingPeriod):
        return budget.budget_id, row.subject, None
    end = window_of(budget.period, row.bucket).end
    may_hold = end is None or end + _LONGEST_HOLD > now
    return (budget.budget_id, row.subject, row.bucket) if may_hold else None


def _state(budget: Budget, row: WindowRow, present: Window, now: datetime, held: Decimal) -> WindowState:
    is_present = row.bucket == present.start
    window = present if is_present else window_of(budget.period, row.bucket)
    increases = increases_at(budget, row.subject, now) if is_present else ZERO
    terms = terms_of(budget, window, now)
    limit = EXACT.add(terms.limit_usd, increases)
    carried = terms.counted_carry(limit, row.carried)
    limit = EXACT.add(limit, carried)
    return WindowState(
        subject=row.subject,
        values=subject_values(row.subject),
        window=window,
        is_present=is_present,
        limit_usd=limit,
        increases_usd=increases,
        carried_in_usd=carried,
        posted_usd=row.enforced,
        held_usd=held,
        available_usd=EXACT.subtract(EXACT.subtract(limit, row.enforced), held),
        projection=_projection(budget, row, window, now, limit) if is_present else None,
    )


def _projection(budget: Budget, row: WindowRow, window: Window, now: datetime, limit: Decimal) -> Projection | None:
    if budget.state == "archived":
        return None
    if isinstance(budget.period, RollingPeriod):
        if row.first_spent_at is None:
            return None
        window = rolling_run(budget.period.length_seconds, row.first_spent_at)
    return project(row.enforced, window, now, limit_usd=limit)
