"""What a counter may spend at an instant: the limit of its budget, increases in force, what was carried in. Pure."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Final

from service.budgets.budget import Budget, Increase, Rollover
from service.budgets.period import CalendarPeriod, FixedPeriod, LifetimePeriod, Period, Window, compute_window
from service.kit.money import EXACT, ZERO, from_micro_usd

LEAST_ROLLOVER_SECONDS: Final = 86_400

# Events are accounted in a window up to an hour after its end; a minute more is for what is just being committed.
CARRY_FIXED_AFTER: Final = timedelta(hours=1, minutes=1)

_LEAST_COUNTED = from_micro_usd(1)
_LAST_INSTANT = datetime(9000, 1, 1, tzinfo=UTC)


def limit_at(budget: Budget, subject: str, at: datetime) -> Decimal:
    """Return the limit of a counter at an instant, in USD, without what was carried into its window."""
    limit = budget.limit_usd
    for increase in budget.increases:
        if _is_for(increase, subject) and increase.granted_at <= at < increase.until:
            limit = EXACT.add(limit, increase.amount_usd)
    return limit


def counted_carry(limit: Decimal, carried: Decimal) -> Decimal:
    """Return how much of what was carried in a limit takes: nothing when checks count it as 0, which denies all."""
    return carried if limit >= _LEAST_COUNTED else ZERO


def increases_at(budget: Budget, subject: str, at: datetime) -> Decimal:
    """Return by how much increases raise the limit of a counter at an instant, in USD."""
    return EXACT.subtract(limit_at(budget, subject, at), budget.limit_usd)


def next_change_at(budget: Budget, subject: str, at: datetime) -> datetime | None:
    """Return when `limit_at` of a counter changes next, as far as is known now; None = never."""
    return min([instant for instant in _changes(budget, subject) if instant > at], default=None)


def last_change_at(budget: Budget, subject: str, at: datetime) -> datetime | None:
    """Return since when `limit_at` of a counter is as it is, as far as is known now; None = ever."""
    return max([instant for instant in _changes(budget, subject) if instant <= at], default=None)


def rollover_problem(period: Period) -> str | None:
    """Return why budgets of a period cannot carry what they left unused; None when they can."""
    match period:
        case CalendarPeriod():
            return None if period.unit != "hour" else "An hour is too short to carry over: the least is a day."
        case FixedPeriod():
            is_long_enough = period.length_seconds >= LEAST_ROLLOVER_SECONDS
            return None if is_long_enough else "Windows shorter than a day carry nothing over."
        case LifetimePeriod():
            return "A lifetime has no next window to carry anything into."
        case _:
            return "A rolling period has no next window to carry anything into."


def carry_is_due(window: Window, at: datetime) -> bool:
    """Tell whether what is carried into a window can be fixed: the one before it has closed for long enough."""
    return window.start + CARRY_FIXED_AFTER <= at


def carried_into(
    budget: Budget,
    window: Window,
    posted: Mapping[datetime, Decimal],
    known: Mapping[datetime, Decimal],
) -> Decimal:
    """Return what a counter carries into a window, in USD.

    `posted`: the sums of its earlier windows, by start; `known`: what was fixed for earlier windows. The windows before
    the first of either carry nothing. By the limit and the cap as they are now; increases are not carried on.
    """
    if budget.terms.rollover is None:
        return ZERO
    first = max([start for start in known if start < window.start], default=None)
    if first is None:
        first = min([start for start in posted if start < window.start and budget.covers(start)], default=window.start)
    carried, start = ZERO if first == window.start else known.get(first, ZERO), first
    while start < window.start:
        carried = _carried_on(budget.limit_usd, budget.terms.rollover, carried, posted.get(start, ZERO))
        start = _end_of(budget.period, start)
    return carried


@lru_cache(maxsize=4_096)
def _end_of(period: Period, start: datetime) -> datetime:
    end = compute_window(period, start).end
    assert end is not None, "a period that is carried over has windows that end"
    return end


def _carried_on(limit: Decimal, rollover: Rollover, carried: Decimal, posted: Decimal) -> Decimal:
    cap = limit if rollover.cap_usd is None else rollover.cap_usd
    return min(cap, max(ZERO, EXACT.subtract(EXACT.add(limit, carried), posted)))


def _is_for(increase: Increase, subject: str) -> bool:
    return increase.subject is None or increase.subject == subject


def _changes(budget: Budget, subject: str) -> list[datetime]:
    return [
        instant
        for increase in budget.increases
        if _is_for(increase, subject)
        for instant in (increase.granted_at, increase.until)
        if instant < _LAST_INSTANT
    ]
