"""What was spent, added up the way budgets will count it: by the same evaluator, in the same windows. Pure."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from hashlib import blake2b
from typing import Final
from uuid import UUID

import msgspec

from service.budgets.budget import Budget, BudgetDraft, BudgetTerms
from service.budgets.matching import BudgetSet
from service.budgets.period import LifetimePeriod, Period, counted_buckets, shown_window
from service.identity.call import CallNames
from service.identity.conditions import Match
from service.imports.plan import Account, Plan
from service.kit.money import EXACT, ZERO

IMPORT_SOURCE: Final = "litellm-import"

_ACCOUNT_TERMS: Final = BudgetTerms(name="account", limit_usd=ZERO)
_INSTANT: Final = timedelta(microseconds=1)


class Figures(msgspec.Struct):
    """What was added up of one budget or account in its present window."""

    spent_usd: Decimal = ZERO
    has_usage: bool = False
    account: Account | None = None


class SpendTally:
    """Adds charges, recorded and planned ones, to the present windows of budgets and accounts."""

    def __init__(self, plan: Plan, now: datetime) -> None:
        self._now = now
        self._budgets: dict[str, Figures] = {}
        self._accounts: dict[Account, Figures] = {}
        self._figures: dict[UUID, Figures] = {}
        self._narrower: dict[Account, str] = {}
        self._counted: dict[Period, frozenset[datetime]] = {}
        counters: list[Budget] = []
        for planned in plan.budgets:
            counters.append(self._counter(planned.draft.match, planned.draft.period, planned.draft))
            self._budgets[planned.draft.slug] = self._figures[counters[-1].budget_id]
            has_counters = any(condition.kind == "each" for condition in planned.draft.match)
            for account in planned.accounts:
                if account.match != planned.draft.match and not has_counters:
                    self._narrower[account] = planned.draft.slug
                if account not in self._accounts:
                    counters.append(self._counter(account.match, account.period, None))
                    self._accounts[account] = self._figures[counters[-1].budget_id]
                    self._accounts[account].account = account
        self._set = BudgetSet(0, counters)

    def add(self, call: CallNames, at: datetime, amount_usd: Decimal, *, is_usage: bool = False) -> None:
        """Add one charge where it counts."""
        for figures in self._matching(call, at):
            figures.spent_usd = EXACT.add(figures.spent_usd, amount_usd)
            figures.has_usage = figures.has_usage or is_usage

    def accounts_of(self, call: CallNames, at: datetime) -> dict[Account, Figures]:
        """Return the accounts a charge would count in, with what was added up of each."""
        return {one.account: one for one in self._matching(call, at) if one.account is not None}

    def _matching(self, call: CallNames, at: datetime) -> Iterator[Figures]:
        for counter in self._set.match(call, at):
            if counter.window.start in self._counted[counter.budget.period]:
                yield self._figures[counter.budget.budget_id]

    def of_budget(self, slug: str) -> Figures:
        """Return what was added up of a budget; of one with a counter per value, of all of them together."""
        return self._budgets[slug]

    def of_account(self, account: Account) -> Figures:
        """Return what was added up of an account."""
        return self._accounts[account]

    def of_counter(self, account: Account) -> Figures:
        """Return what was added up where an account is counted here: in a budget of part of its calls, maybe."""
        slug = self._narrower.get(account)
        return self._accounts[account] if slug is None else self._budgets[slug]

    def _counter(self, match: Match, period: Period, draft: BudgetDraft | None) -> Budget:
        if period not in self._counted:
            self._counted[period] = frozenset(counted_buckets(period, self._now))
        budget_id = UUID(int=len(self._figures) + 1)
        self._figures[budget_id] = Figures()
        return Budget(
            tenant_id="",
            budget_id=budget_id,
            slug="" if draft is None else draft.slug,
            match=match,
            period=period,
            terms=_ACCOUNT_TERMS,
            state="current",
            created_at=self._now,
            config_version=0,
            changed_version=0,
        )


def earliest_start(periods: Iterable[Period], now: datetime) -> datetime:
    """Return when the earliest of the windows began that end at all; now if there are none."""
    finite = [shown_window(period, now).start for period in set(periods) if not isinstance(period, LifetimePeriod)]
    return min(finite, default=now)


def before(start: datetime) -> datetime:
    """Return the instant to book at what was spent before any window that ends began."""
    return start - _INSTANT


def digest_of(*parts: object) -> str:
    """Return 32 hex digits that stand for some values."""
    return blake2b(msgspec.json.encode(parts, enc_hook=str), digest_size=16).hexdigest()


def in_order(accounts: Sequence[Account], now: datetime) -> list[Account]:
    """Return accounts in the order they are brought up: windows that began last first, then narrow ones first."""
    return sorted(accounts, key=lambda one: (-shown_window(one.period, now).start.timestamp(), one.rank, one.subject))
