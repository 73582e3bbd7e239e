"""What a budget would have done to past calls: who would have been denied, when, and what would not have been spent.

Calls are asked in the order of their effective time, each with its actual cost as the amount: there are no holds, so
calls that ran at the same time are asked one after the other. Evaluator and operator are those of checks; a denied call
posts nothing. What came before the range posts without being asked, as it does for a budget created at its start. Pure.
"""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime
from decimal import Decimal
from typing import Final

import msgspec

from service.budgets.budget import Budget
from service.budgets.limits import carried_into, carry_is_due, present_terms
from service.budgets.matching import BudgetCounter, BudgetSet
from service.budgets.period import RollingPeriod, Window, shown_window
from service.errors import InvalidInput
from service.identity.call import CallNames
from service.kit.money import EXACT, ZERO, micro_usd_rounded_down, micro_usd_rounded_up

MAX_SUBJECTS: Final = 50_000
MAX_WINDOWS_KEPT: Final = 20_000  # of all subjects together
_WINDOWS_KEPT_PER_SUBJECT: Final = 50

Narrowed = Mapping[str, AbstractSet[str]]  # values of dimensions a reader may see


class PastCall(msgspec.Struct, frozen=True, kw_only=True):
    """A recorded charge as a back-test sees it. `is_asked`: a call, not a conflict or an opening balance."""

    names: CallNames
    effective_at: datetime
    amount_usd: Decimal
    is_free: bool
    is_unpriced: bool
    is_asked: bool


class DeniedWindow(msgspec.Struct, kw_only=True):
    """A window in which calls would have been denied."""

    window: Window
    first_denied_at: datetime
    denied_calls: int = 0
    denied_usd: Decimal = ZERO


class SubjectResult(msgspec.Struct, kw_only=True):
    """One counter over the range. `spent_usd`: what its calls did cost, those included that would have been denied."""

    subject: str
    values: dict[str, str]
    calls: int = 0
    spent_usd: Decimal = ZERO
    denied_calls: int = 0
    denied_usd: Decimal = ZERO
    first_denied_at: datetime | None = None
    denied_windows: int = 0
    windows: list[DeniedWindow] = []


class Totals(msgspec.Struct, kw_only=True):
    """Every call once, however many counters it is in."""

    calls: int = 0
    spent_usd: Decimal = ZERO
    denied_calls: int = 0
    denied_usd: Decimal = ZERO


class Replay:
    """One budget and the calls of one range, taken in order."""

    def __init__(self, budget: Budget, start: datetime, *, narrowed: Narrowed | None = None) -> None:
        self._set = BudgetSet(1, [budget])
        self._budget = budget
        self._start = start
        self._narrowed = narrowed or {}
        self._terms = present_terms(budget)
        self._limit = micro_usd_rounded_down(budget.limit_usd)
        self._tallies: dict[str, _Tally] = {}
        self._windows_kept = 0
        self.results: dict[str, SubjectResult] = {}
        self.totals = Totals()

    def take(self, call: PastCall) -> None:
        """Ask a call, no earlier than those taken before. Raises InvalidInput beyond MAX_SUBJECTS."""
        counters = [each for each in self._set.match(call.names, call.effective_at) if self._is_visible(each)]
        if not counters:
            return
        tallies = [self._tally(counter, call.effective_at) for counter in counters]
        is_in_range = call.effective_at >= self._start
        denying: Sequence[BudgetCounter] = ()
        if is_in_range and call.is_asked:
            denying = [c for c, tally in zip(counters, tallies, strict=True) if self._denies(call, tally, c)]
        if is_in_range:
            self._note(call, counters, denying)
        if not denying:
            for counter, tally in zip(counters, tallies, strict=True):
                tally.post(counter.window.start, call.amount_usd)

    def _is_visible(self, counter: BudgetCounter) -> bool:
        values = counter.subject_values
        return all(values[name] in allowed for name, allowed in self._narrowed.items() if name in values)

    def _tally(self, counter: BudgetCounter, at: datetime) -> "_Tally":
        tally = self._tallies.get(counter.subject)
        if tally is None:
            if len(self._tallies) >= MAX_SUBJECTS:
                raise InvalidInput(
                    f"The budget has more than {MAX_SUBJECTS} counters in this range; match fewer of them.",
                    code="too_many_subjects",
                    field="budget.match",
                )
            tally = self._tallies[counter.subject] = _Tally()
        tally.move_to(self._budget, counter.window, at)
        return tally

    def _denies(self, call: PastCall, tally: "_Tally", counter: BudgetCounter) -> bool:
        carried = tally.carried(self._budget, counter.window, call.effective_at)
        limit = self._limit + micro_usd_rounded_down(self._terms.counted_carry(self._budget.limit_usd, carried))
        if limit == 0 or (call.is_unpriced and self._budget.on_unpriced == "deny"):
            return True
        amount = micro_usd_rounded_up(call.amount_usd)
        if call.is_free and not amount:
            return False
        return micro_usd_rounded_up(tally.posted) + max(amount, 1) > limit

    def _note(self, call: PastCall, counters: Sequence[BudgetCounter], denying: Sequence[BudgetCounter]) -> None:
        self.totals.spent_usd = EXACT.add(self.totals.spent_usd, call.amount_usd)
        self.totals.calls += call.is_asked
        if denying:
            self.totals.denied_calls += 1
            self.totals.denied_usd = EXACT.add(self.totals.denied_usd, call.amount_usd)
        for counter in counters:
            result = self._result(counter)
            result.calls += call.is_asked
            result.spent_usd = EXACT.add(result.spent_usd, call.amount_usd)
        for counter in denying:
            self._note_denial(call, self._result(counter), counter.window)

    def _result(self, counter: BudgetCounter) -> SubjectResult:
        result = self.results.get(counter.subject)
        if result is None:
            result = SubjectResult(subject=counter.subject, values=counter.subject_values)
            self.results[counter.subject] = result
        return result

    def _note_denial(self, call: PastCall, result: SubjectResult, window: Window) -> None:
        result.denied_calls += 1
        result.denied_usd = EXACT.add(result.denied_usd, call.amount_usd)
        if result.first_denied_at is None:
            result.first_denied_at = call.effective_at
        if isinstance(self._budget.period, RollingPeriod):
            return
        tally = self._tallies[result.subject]
        if not tally.has_denied:
            tally.has_denied = True
            result.denied_windows += 1
            if len(result.windows) < _WINDOWS_KEPT_PER_SUBJECT and self._windows_kept < MAX_WINDOWS_KEPT:
                result.windows.append(DeniedWindow(window=window, first_denied_at=call.effective_at))
                self._windows_kept += 1
        if result.windows and result.windows[-1].window == window:
            kept = result.windows[-1]
            kept.denied_calls += 1
            kept.denied_usd = EXACT.add(kept.denied_usd, call.amount_usd)


class _Tally:
    """What one counter has posted in the window a replay has come to, or in each bucket that still counts."""

    __slots__ = ("_buckets", "_carried", "_carried_is_final", "_former", "has_denied", "posted")

    def __init__(self) -> None:
        self._buckets: dict[datetime, Decimal] = {}
        self._former: tuple[datetime, Decimal, Decimal] | None = None  # start, posted and carried of the last window
        self._carried = ZERO
        self._carried_is_final = False
        self.posted = ZERO
        self.has_denied = False

    def move_to(self, budget: Budget, window: Window, at: datetime) -> None:
        """Leave behind what counts no more."""
        if window.start in self._buckets:
            return
        oldest = shown_window(budget.period, at).start
        left = [start for start in self._buckets if start < oldest]
        if left and budget.terms.rollover is not None:
            self._former = (left[-1], self.posted, self.carried(budget, Window(left[-1], None), at))
        for start in left:
            self.posted = EXACT.subtract(self.posted, self._buckets.pop(start))
        self._buckets[window.start] = ZERO
        if left:
            self.has_denied, self._carried, self._carried_is_final = False, ZERO, False

    def post(self, bucket: datetime, amount: Decimal) -> None:
        """Add what a call cost."""
        self._buckets[bucket] = EXACT.add(self._buckets[bucket], amount)
        self.posted = EXACT.add(self.posted, amount)

    def carried(self, budget: Budget, window: Window, at: datetime) -> Decimal:
        """Return what was carried into the window, by that time: nothing until the one before has long closed."""
        if self._former is None or budget.terms.rollover is None:
            return ZERO
        if not self._carried_is_final and carry_is_due(window, at):
            start, posted, carried = self._former
            self._carried = carried_into(budget, window, {start: posted}, {start: carried})
            self._carried_is_final = True
        return self._carried
