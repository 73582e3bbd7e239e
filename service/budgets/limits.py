"""What a counter may spend at an instant: the limit of its budget, increases in force, what was carried in. Pure."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Final

import msgspec

from service.budgets.budget import Budget, BudgetTerms, FormerLimit, Increase, Rollover
from service.budgets.period import CalendarPeriod, FixedPeriod, LifetimePeriod, Period, Window, compute_window
from service.kit.money import EXACT, ZERO, from_micro_usd

LEAST_ROLLOVER_SECONDS: Final = 86_400

# Events are accounted in a window up to an hour after its end; a minute more is for what is just being committed.
CARRY_FIXED_AFTER: Final = timedelta(hours=1, minutes=1)

# Of windows in which limit or roll-over changed; the limit of those further back is the oldest remembered.
MOST_FORMER_LIMITS: Final = 64

_LEAST_COUNTED = from_micro_usd(1)
_LAST_INSTANT = datetime(9000, 1, 1, tzinfo=UTC)


def limit_at(budget: Budget, subject: str, at: datetime) -> Decimal:
    """Return the limit of a counter at an instant, in USD, without what was carried into its window."""
    limit = budget.limit_usd
    for increase in budget.increases:
        if _is_for(increase, subject) and increase.granted_at <= at < increase.until:
            limit = EXACT.add(limit, increase.amount_usd)
    return limit


class WindowTerms(msgspec.Struct, frozen=True):
    """The limit of a budget for a window, without increases, and the most that counts of what was carried in."""

    limit_usd: Decimal
    most_carried_usd: Decimal

    def counted_carry(self, limit: Decimal, carried: Decimal) -> Decimal:
        """Return how much of what was carried in counts beside a limit with increases.

        Nothing when checks count that as 0, which denies all.
        """
        return min(carried, self.most_carried_usd) if limit >= _LEAST_COUNTED else ZERO


def present_terms(budget: Budget) -> WindowTerms:
    """Return what counts in the windows that are not over, whatever the clocks of those who ask say."""
    return _window_terms(budget.limit_usd, budget.terms.rollover)


def closing_terms(budget: Budget, end: datetime) -> WindowTerms:
    """Return what counted at the end of a window that is over: what is changed later leaves it as it was.

    Whether anything is carried over at all is for the present terms to say, for windows of the past too.
    """
    for former in budget.former_limits:
        if former.until >= end:
            rollover = budget.terms.rollover
            return _window_terms(former.limit_usd, None if rollover is None else former.rollover or rollover)
    return present_terms(budget)


def terms_of(budget: Budget, window: Window, at: datetime) -> WindowTerms:
    """Return what counts in a window, as of an instant."""
    return present_terms(budget) if window.end is None or at < window.end else closing_terms(budget, window.end)


def changed_budget(budget: Budget, terms: BudgetTerms, *, version: int, at: datetime) -> Budget:
    """Return a budget with other terms from an instant on, which remembers the limit its closed windows had."""
    return msgspec.structs.replace(
        budget, terms=terms, changed_version=version, former_limits=_former_limits(budget, terms, at)
    )


def _former_limits(budget: Budget, terms: BudgetTerms, at: datetime) -> tuple[FormerLimit, ...]:
    present, former = budget.terms, budget.former_limits
    is_same = (present.limit_usd, present.rollover) == (terms.limit_usd, terms.rollover)
    if is_same or not isinstance(budget.period, CalendarPeriod | FixedPeriod):
        return former
    if former and former[-1].until > compute_window(budget.period, at).start:
        return former  # what counts at the end of the window is to come yet
    ceased = FormerLimit(limit_usd=present.limit_usd, rollover=present.rollover, until=at)
    return (*former, ceased)[-MOST_FORMER_LIMITS:]


def _window_terms(limit_usd: Decimal, rollover: Rollover | None) -> WindowTerms:
    if rollover is None:
        return WindowTerms(limit_usd, ZERO)
    return WindowTerms(limit_usd, limit_usd if rollover.cap_usd is None else rollover.cap_usd)


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
    the first of either carry nothing. Each window carries on by the limit and cap it closed with, without increases.
    """
    if budget.terms.rollover is None:
        return ZERO
    first = max([start for start in known if start < window.start], default=None)
    if first is None:
        first = min([start for start in posted if start < window.start and budget.covers(start)], default=window.start)
    carried, start = ZERO if first == window.start else known.get(first, ZERO), first
    while start < window.start:
        end = _end_of(budget.period, start)
        carried = _carried_on(closing_terms(budget, end), carried, posted.get(start, ZERO))
        start = end
    return carried


@lru_cache(maxsize=4_096)
def _end_of(period: Period, start: datetime) -> datetime:
    end = compute_window(period, start).end
    assert end is not None, "a period that is carried over has windows that end"
    return end


def _carried_on(terms: WindowTerms, carried: Decimal, posted: Decimal) -> Decimal:
    most = terms.most_carried_usd
    return min(most, max(ZERO, EXACT.subtract(EXACT.add(terms.limit_usd, min(carried, most)), posted)))


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
