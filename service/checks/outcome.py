"""What a check comes to, with everything that explains it. Pure values."""

from datetime import datetime
from typing import Literal

import msgspec

from service.access.settings import TenantSettings
from service.budgets.matching import BudgetCounter
from service.budgets.period import RollingPeriod, Window, shown_window
from service.checks.appraisal import Appraisal, Candidate
from service.identity.dimensions import CompletedDimensions
from service.kit.clock import from_unix_ms

DenialCode = Literal["budget_exceeded", "unpriced_model", "counters_unavailable", "too_many_budgets", "key_blocked"]


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """One counter of the call, in micro-USD; `held` includes the own hold. None = not known at the moment.

    `available`: what is left of the limit, below 0 when more was spent. `reason`: why it denies, of several routes any;
    a shadow (`enforces` False) denies too, and lets through. `is_aside`: only routes the call must not take go through.
    """

    counter: BudgetCounter
    limit_micro_usd: int
    posted_micro_usd: int | None
    held_micro_usd: int | None
    available_micro_usd: int | None
    reason: DenialCode | None
    enforces: bool
    is_aside: bool = False
    falls_out_at_ms: int | None = None  # of a rolling counter: when so much has fallen out that the call fits

    @property
    def resets_at(self) -> datetime | None:
        """Return when waiting helps: the end of the window; None = never."""
        if isinstance(self.counter.budget.period, RollingPeriod):
            return None if self.falls_out_at_ms is None else from_unix_ms(self.falls_out_at_ms)
        return self.counter.window.end

    @property
    def window(self) -> Window:
        """Return the window as people see it: of a rolling budget all that is counted."""
        return window_shown(self.counter)


def window_shown(counter: BudgetCounter) -> Window:
    """Return the window of a counter as people see it: of a rolling budget all that is counted."""
    period = counter.budget.period
    return shown_window(period, counter.window.start) if isinstance(period, RollingPeriod) else counter.window


class Hold(msgspec.Struct, frozen=True):
    """The hold placed for the call, now or by an earlier check under the same id."""

    reservation_id: str
    amount_micro_usd: int
    expires_at: datetime


class RouteOutcome(msgspec.Struct, frozen=True):
    """One way the call may go, and which counters stop it there."""

    candidate: Candidate
    is_allowed: bool
    denied_by: tuple[Standing, ...]


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """What led to the decision. `is_degraded`: the counters or the key could not be asked in time.

    `unresolved`: dimensions some budget asks for and the call has no value of, and those a key tells that was not read.
    `appraisal`: of the candidates the call may go on with; of all when it is denied. `routes`: () if there is one only.
    """

    dimensions: CompletedDimensions
    appraisal: Appraisal
    routes: tuple[RouteOutcome, ...]
    unresolved: list[str]
    standings: tuple[Standing, ...]
    is_degraded: bool
    max_affordable_output_tokens: int | None
    settings: TenantSettings


class Allowed(msgspec.Struct, frozen=True):
    """The call may be made."""

    explanation: Explanation
    hold: Hold | None


class ClosedRoute(msgspec.Struct, frozen=True):
    """A denied route: what the call would cost there, and the counters that stop it."""

    amount_micro_usd: int
    denied_by: tuple[Standing, ...]


class Denied(msgspec.Struct, frozen=True):
    """The call must not be made. `closed`: its routes, one at least unless no counter was asked."""

    explanation: Explanation
    code: DenialCode
    closed: tuple[ClosedRoute, ...] = ()

    @property
    def denied_by(self) -> list[Standing]:
        """Return the counters that stand in the way."""
        return [standing for standing in self.explanation.standings if standing.enforces and standing.reason]


Outcome = Allowed | Denied
