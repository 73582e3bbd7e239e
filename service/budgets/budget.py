"""A budget: which calls it counts, in which windows, up to which limit, and what its own state is. Pure values."""

from datetime import datetime
from decimal import Decimal
from typing import Literal
from uuid import UUID

import msgspec

from service.budgets.period import Period
from service.identity.conditions import Match
from service.identity.dimensions import DIMENSION_NAMES

Mode = Literal["enforce", "shadow"]
OnUnavailable = Literal["ledger", "deny", "allow"]
OnUnpriced = Literal["assume", "deny"]
HoldBasis = Literal["worst_case"]
State = Literal["seeding", "current", "archived"]


class Rollover(msgspec.Struct, frozen=True):
    """What a window left unused is carried into the next one, up to `cap_usd` (None = up to one limit)."""

    cap_usd: Decimal | None = None


class Increase(msgspec.Struct, frozen=True, kw_only=True):
    """A limit raised for a time, [granted_at, until): of one counter, or of all (`subject` None)."""

    increase_id: UUID
    amount_usd: Decimal
    subject: str | None
    granted_at: datetime
    until: datetime
    reason: str
    author: str


class FormerLimit(msgspec.Struct, frozen=True, kw_only=True):
    """What limit and roll-over were up to an instant (exclusive)."""

    limit_usd: Decimal
    rollover: Rollover | None
    until: datetime


class BudgetTerms(msgspec.Struct, frozen=True, kw_only=True):
    """What may change in place."""

    name: str
    limit_usd: Decimal
    mode: Mode = "enforce"
    thresholds: tuple[Decimal, ...] = ()  # shares of the limit, ascending
    on_unavailable: OnUnavailable = "ledger"
    on_unpriced: OnUnpriced = "assume"
    hold_basis: HoldBasis = "worst_case"
    rollover: Rollover | None = None


class BudgetDraft(msgspec.Struct, frozen=True, kw_only=True):
    """A budget as somebody asks for it. Another match or period is another budget."""

    slug: str
    match: Match
    period: Period
    terms: BudgetTerms


# There may be 100,000, and of what they are filed by too: a garbage collection that visits each keeps checks waiting.
# Nothing they hold leads back to them.
class Budget(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A budget as it is stored.

    `config_version`: charges of a lower one were recorded before the budget existed; the seeding adds those effective
    from `counts_from` (None = ever), in the order (effective_at, charge_id), up to (`seeded_through`,
    `seeded_charge_id`) so far. `changed_version`: the config_version of its last change, which versions the limit.
    `increases`: those that were not over when it was loaded, so limits.py asks each for its time. `former_limits`: what
    counted before the present terms, oldest first; of changes in one window only what it began with.
    """

    tenant_id: str
    budget_id: UUID
    slug: str
    match: Match
    period: Period
    terms: BudgetTerms
    state: State
    created_at: datetime
    archived_at: datetime | None = None
    config_version: int
    changed_version: int
    counts_from: datetime | None = None
    seeded_through: datetime | None = None
    seeded_charge_id: UUID | None = None
    increases: tuple[Increase, ...] = ()
    former_limits: tuple[FormerLimit, ...] = ()
    # How many calls may share a counter, derived from the match: orders row locks, the most shared counters last.
    breadth: int = -1

    def __post_init__(self) -> None:
        if self.breadth < 0:
            msgspec.structs.force_setattr(self, "breadth", breadth_of(self.match))

    @property
    def name(self) -> str:
        """The name for people."""
        return self.terms.name

    @property
    def limit_usd(self) -> Decimal:
        """The hard amount per window."""
        return self.terms.limit_usd

    @property
    def mode(self) -> Mode:
        """`enforce`, or `shadow`: decides and counts, lets through."""
        return self.terms.mode

    @property
    def on_unavailable(self) -> OnUnavailable:
        """What a check does when the counters cannot be asked."""
        return self.terms.on_unavailable

    @property
    def on_unpriced(self) -> OnUnpriced:
        """What a check does about a model without a price."""
        return self.terms.on_unpriced

    @property
    def hold_basis(self) -> HoldBasis:
        """How large a hold is."""
        return self.terms.hold_basis

    def covers(self, effective_at: datetime) -> bool:
        """Tell whether charges of that time count at all; what came before the window of the creation never does."""
        return self.counts_from is None or self.counts_from <= effective_at

    def has_counted(self, config_version: int, effective_at: datetime, charge_id: UUID) -> bool:
        """Tell whether a matching charge is in the counters: live, or by the seeding as far as it has come."""
        if not self.covers(effective_at):
            return False
        if config_version >= self.config_version:
            return self.state != "archived" or config_version < self.changed_version
        if self.seeded_through is None or self.seeded_charge_id is None:
            return False
        return (effective_at, charge_id) <= (self.seeded_through, self.seeded_charge_id)


def breadth_of(conditions: Match) -> int:
    """Return the order of breadth: fewer conditions are broader, and a shared counter is broader than one per value."""
    has_counter_per_value = any(condition.kind == "each" for condition in conditions)
    return 2 * (len(DIMENSION_NAMES) - len(conditions)) + (0 if has_counter_per_value else 1)
