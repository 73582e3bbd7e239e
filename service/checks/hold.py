"""What a check asks of the counters and what they answer; reservations. Pure values; amounts are whole micro-USD."""

from datetime import datetime
from typing import Literal

import msgspec

# The largest amount the scripts count with: nine billion dollars.
LARGEST_MICRO_USD = 9_000_000_000_000_000
NO_WINDOW_END_MS = 2**53

MOST_ROUTES = 8

LEAST_TTL_SECONDS = 5
MOST_TTL_SECONDS = 86_400
DEFAULT_TTL_SECONDS = 900

ReservationState = Literal["live", "settled", "voided", "expired"]


# one_bucket: what is posted is that of one bucket; with_carry: and something may have been carried into its window;
# rolling: what is posted is the sum of several buckets.
CounterKind = Literal["one_bucket", "with_carry", "rolling"]


class CounterAsk(msgspec.Struct, frozen=True):
    """One counter of a request, with the limit in force but for what was carried in.

    `bucket`: its start; of a rolling counter '<oldest counted bucket> <seconds of a bucket> <how many>'.
    `most_carried_micro_usd`: what was carried in raises the limit by so much at most.
    """

    key: str
    bucket: str
    limit_micro_usd: int
    enforces: bool
    kind: CounterKind = "one_bucket"
    most_carried_micro_usd: int = LARGEST_MICRO_USD


class RouteAsk(msgspec.Struct, frozen=True):
    """One way the call may take, at its own price, through some of the counters (their positions in the question).

    `name`: a repeat of the request knows the route by it again; hexadecimal, '' = not at all.
    """

    amount_micro_usd: int
    is_free: bool
    counters: tuple[int, ...]
    name: str = ""

    @property
    def least_micro_usd(self) -> int:
        """Return what is compared and held: of what is not free at least one micro-USD; see lua/check_and_hold.lua."""
        return self.amount_micro_usd if self.is_free else max(self.amount_micro_usd, 1)


class HoldAsk(msgspec.Struct, frozen=True, kw_only=True):
    """One request, to be decided against all its counters at once.

    `fingerprint` tells requests under one id apart. [valid_from_ms, valid_until_ms) is where all windows and limits
    hold. `is_ledger_down`: accept copies stale for up to 15 min and let no hold lapse. `placed_by`: no other check has
    it. `routes`: ways the call may take, each through its counters at its amount; every counter is in one at least.
    () = one through all of them at `amount_micro_usd`, which otherwise is the most of any.
    """

    tenant_id: str
    config_version: int
    reservation_id: str
    fingerprint: str
    amount_micro_usd: int
    is_free: bool
    wants_hold: bool
    ttl_ms: int
    requested_model: str
    valid_from_ms: int
    valid_until_ms: int
    counters: tuple[CounterAsk, ...]
    is_ledger_down: bool = False
    placed_by: str = ""
    routes: tuple[RouteAsk, ...] = ()

    @property
    def least_micro_usd(self) -> int:
        """Return what is compared and held of a call that takes one route, as of a route."""
        return self.amount_micro_usd if self.is_free else max(self.amount_micro_usd, 1)


class CounterFigures(msgspec.Struct, frozen=True):
    """One counter at the moment of the decision; `held` includes the request's own hold.

    `denies`: it denies the call, or one of its routes. `limit`: the one in force, `carried` included. `resets_at_ms`:
    when enough falls out of a rolling counter that denies; None = that alone never helps, or it is not one.
    """

    posted_micro_usd: int
    held_micro_usd: int
    denies: bool
    limit_micro_usd: int
    carried_micro_usd: int = 0
    resets_at_ms: int | None = None


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """The counters' answer. `expires_at_ms` 0 = no hold was placed. A replay answers for the hold placed before.

    `routes`: which of those asked about are allowed. `amount_micro_usd`: the most the hold takes in any counter.
    """

    is_allowed: bool
    is_replay: bool
    expires_at_ms: int
    amount_micro_usd: int
    lapsed_holds: int
    figures: tuple[CounterFigures, ...]
    routes: tuple[bool, ...] = ()


class StaleConfig(msgspec.Struct, frozen=True):
    """A newer configuration exists."""

    version: int


class StaleWindow(msgspec.Struct, frozen=True):
    """The clock of the counters is in other windows than the caller's."""

    now_ms: int


class MissingCounters(msgspec.Struct, frozen=True):
    """Counters (their positions) without a fresh copy of the ledger's state."""

    positions: tuple[int, ...]


class IdReused(msgspec.Struct, frozen=True):
    """The id has a live hold of another request."""


HoldAnswer = Decision | StaleConfig | StaleWindow | MissingCounters | IdReused


class Reservation(msgspec.Struct, frozen=True, kw_only=True):
    """A hold as its owner sees it. `consumed`: what events posted under it so far."""

    reservation_id: str
    state: ReservationState
    placed_at: datetime
    expires_at: datetime
    amount_micro_usd: int
    consumed_micro_usd: int
    requested_model: str | None


class SettleCounts(msgspec.Struct, frozen=True, kw_only=True):
    """What one publishing did."""

    states_applied: int = 0
    holds_lowered: int = 0
    holds_settled: int = 0
    came_late: int = 0
    seen_before: int = 0
    without_reservation: int = 0
    overshoot_micro_usd: int = 0
    astray_micro_usd: int = 0  # of calls that went a route their check had denied
