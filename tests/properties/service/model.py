"""What the state machine knows of one tenant: its budgets, the calls it has let through, the events it has sent."""

from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from service.budgets.subject import SHARED_SUBJECT, subject_text

Counter = tuple[UUID, str]  # a lifetime budget, and a subject
SHAPES: dict[str, dict[str, Any]] = {"all": {}, "each-user": {"user": "*"}, "red": {"team": "red"}}
USERS = ("u1", "u2")


@dataclass
class Caller:
    """Who calls."""

    team: str
    user: str


@dataclass
class Limit:
    """A live budget; amounts are cents."""

    id: str
    slug: str
    base: int
    increases: dict[str, int] = field(default_factory=dict)

    @property
    def cents(self) -> int:
        """The limit in force."""
        return self.base + sum(self.increases.values())

    def counter_of(self, caller: Caller) -> Counter | None:
        if self.slug == "each-user":
            return (UUID(self.id), subject_text({"user": caller.user}))
        return (UUID(self.id), SHARED_SUBJECT) if self.slug == "all" or caller.team == "red" else None


@dataclass
class Hold:
    """A call that was let through: what it still holds, where. `is_whole`: no event of it has come yet."""

    reservation_id: str
    caller: Caller
    left: dict[Counter, int]
    is_due: bool = False
    is_whole: bool = True

    @property
    def amount(self) -> int:
        return max(self.left.values())


@dataclass
class Sent:
    """An event that was recorded."""

    body: dict[str, Any]
    charge_id: str
    is_reversed: bool = False


@dataclass
class Model:
    """All of it."""

    limits: dict[str, Limit] = field(default_factory=dict)
    holds: dict[str, Hold] = field(default_factory=dict)
    sent: list[Sent] = field(default_factory=list)
    # Counters in which more may be spent than their limit: nobody was asked, or less was held than it cost.
    excused: set[Counter] = field(default_factory=set)

    @property
    def live_holds(self) -> list[Hold]:
        return [hold for hold in self.holds.values() if not hold.is_due]

    def counters_of(self, caller: Caller) -> dict[Counter, int]:
        """Return the counters of a call, with their limits."""
        found = {limit.counter_of(caller): limit.cents for limit in self.limits.values()}
        return {counter: cents for counter, cents in found.items() if counter is not None}

    def counters_seen(self, limit: Limit) -> set[Counter]:
        """Return all counters a budget may have."""
        found = {limit.counter_of(Caller("red", user)) for user in USERS}
        return {counter for counter in found if counter is not None}

    def excuse_all(self, limit: Limit) -> None:
        self.excused |= self.counters_seen(limit)

    def held(self, counter: Counter, *, due: bool = False) -> int:
        """Return what live holds take, or, of those whose time is over, what may not have been dropped yet."""
        return sum(hold.left.get(counter, 0) for hold in self.holds.values() if hold.is_due is due)

    def end(self, hold: Hold) -> None:
        del self.holds[hold.reservation_id]

    def drop_due(self) -> None:
        """Somebody has looked at all counters: holds whose time is over are gone."""
        self.holds = {name: hold for name, hold in self.holds.items() if not hold.is_due}
