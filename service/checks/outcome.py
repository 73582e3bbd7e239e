"""What a check comes to, with everything that explains it. Pure values."""

from datetime import datetime
from typing import Literal

import msgspec

from service.access.settings import TenantSettings
from service.budgets.matching import BudgetCounter
from service.checks.appraisal import Appraisal
from service.identity.dimensions import CompletedDimensions

DenialCode = Literal["budget_exceeded", "unpriced_model", "counters_unavailable", "too_many_budgets", "key_blocked"]


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """One counter of the call, in micro-USD; `held` includes the own hold. None = not known at the moment.

    `available`: what is left of the limit, below 0 when more was spent. `reason`: why it denies; a shadow (`enforces`
    False) denies too, and lets through.
    """

    counter: BudgetCounter
    limit_micro_usd: int
    posted_micro_usd: int | None
    held_micro_usd: int | None
    available_micro_usd: int | None
    reason: DenialCode | None
    enforces: bool


class Hold(msgspec.Struct, frozen=True):
    """The hold placed for the call, now or by an earlier check under the same id."""

    reservation_id: str
    amount_micro_usd: int
    expires_at: datetime


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """What led to the decision. `unresolved`: dimensions some budget asks for and the call has no value of."""

    dimensions: CompletedDimensions
    appraisal: Appraisal
    unresolved: list[str]
    standings: tuple[Standing, ...]
    is_degraded: bool
    max_affordable_output_tokens: int | None
    settings: TenantSettings


class Allowed(msgspec.Struct, frozen=True):
    """The call may be made."""

    explanation: Explanation
    hold: Hold | None


class Denied(msgspec.Struct, frozen=True):
    """The call must not be made."""

    explanation: Explanation
    code: DenialCode

    @property
    def denied_by(self) -> list[Standing]:
        """Return the counters that stand in the way."""
        return [standing for standing in self.explanation.standings if standing.enforces and standing.reason]


Outcome = Allowed | Denied
