"""Decides without the counters, by what each budget says about that: `ledger`, `deny` or `allow`; the strictest wins.

`ledger`: committed totals, read at most every 250 ms per counter and process, plus the holds this process saw last and
those it placed since. A limit of 0 denies by any policy: nothing need be known for that.
Approvals are never cached. When the ledger cannot be read either, `ledger` denies: nobody knows what was spent.
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

import msgspec

from service.budgets.budget import OnUnavailable
from service.budgets.matching import BudgetCounter
from service.checks import metrics
from service.checks.hold import LARGEST_MICRO_USD, CounterAsk, Decision, HoldAsk, RouteAsk
from service.checks.keys import ref_of
from service.checks.ledger_reader import LedgerReader, LedgerUnavailable
from service.checks.local_holds import LocalHolds
from service.checks.outcome import DenialCode, Standing
from service.errors import StateConflict
from service.kit.patience import patience

T = TypeVar("T")

_TOTALS_SECONDS = 0.25
_HELD_REMEMBERED_SECONDS = 5.0
_MOST_COUNTERS_KEPT = 50_000
_STRICTNESS: dict[OnUnavailable, int] = {"allow": 0, "ledger": 1, "deny": 2}


class DegradedDecision(msgspec.Struct, frozen=True):
    """The decision by policy. `amount_micro_usd`: what is held at most in any counter; `routes`: which are allowed."""

    is_allowed: bool
    standings: tuple[Standing, ...]
    amount_micro_usd: int
    routes: tuple[bool, ...] = ()


class _Total(msgspec.Struct, frozen=True):
    """What the ledger said of a counter, and when."""

    read_at: float
    posted_micro_usd: int
    carried_micro_usd: int


_NEVER = _Total(-1.0, 0, 0)


class DegradedGate:
    """Decides by policy. One instance per process."""

    def __init__(self, ledger: LedgerReader, local_holds: LocalHolds, now: Callable[[], float]) -> None:
        self._ledger = ledger
        self._local_holds = local_holds
        self._now = now
        self._totals: dict[str, _Total] = {}
        self._seen: dict[str, tuple[float, int]] = {}

    def remember_held(self, asks: Sequence[CounterAsk], decision: Decision) -> None:
        """Keep what the counters said was held: for a moment it is the best that is known when they fall silent."""
        self._local_holds.drop_lapsed()
        now = self._now()
        for asked, figures in zip(asks, decision.figures, strict=True):
            _keep(self._seen, asked.key, (now, figures.held_micro_usd))

    async def decide(
        self,
        ask: HoldAsk,
        counters: Sequence[BudgetCounter],
        *,
        patience_seconds: float,
        is_repeat_refused: bool = False,
    ) -> DegradedDecision:
        """Decide one request within the time left for it, and remember its hold in this process.

        Raises StateConflict (`request_id_reused`) if it shall be nobody's repeat and its id has a hold already.
        """
        policy = _strictest(ask, counters)
        metrics.DEGRADED.labels(policy).inc()
        totals = await self._read_totals(ask, counters, patience_seconds) if policy == "ledger" else None
        self._local_holds.drop_lapsed()
        if self._local_holds.has(ask.tenant_id, ask.reservation_id):
            if is_repeat_refused:
                raise id_reused()
            self._local_holds.release(ask.tenant_id, ask.reservation_id)
        routes = ask.routes or (RouteAsk(ask.amount_micro_usd, ask.is_free, tuple(range(len(ask.counters)))),)
        standings = tuple(
            [
                self._standing(
                    ask.counters[index],
                    counter,
                    policy,
                    None if totals is None else totals[index],
                    [route for route in routes if index in route.counters],
                )
                for index, counter in enumerate(counters)
            ]
        )
        allowed = [not any(_denies(standings[i], route) for i in route.counters) for route in routes]
        passing = [route for route, is_allowed in zip(routes, allowed, strict=True) if is_allowed]
        if passing and ask.wants_hold:
            self._local_holds.place(ask.tenant_id, ask.reservation_id, _shares(ask, passing), ask.ttl_ms / 1000)
        return DegradedDecision(
            is_allowed=bool(passing),
            standings=standings,
            amount_micro_usd=max([route.least_micro_usd for route in passing], default=0),
            routes=tuple(allowed) if ask.routes else (),
        )

    def _standing(
        self,
        asked: CounterAsk,
        counter: BudgetCounter,
        policy: OnUnavailable,
        total: _Total | None,
        routes: Sequence[RouteAsk],
    ) -> Standing:
        posted = None if total is None else total.posted_micro_usd
        limit = asked.limit_micro_usd
        # A limit of 0 denies whatever was left before, and what was carried counts for as long as the budget says so.
        if limit and total is not None and asked.kind == "with_carry":
            limit = min(limit + min(total.carried_micro_usd, asked.most_carried_micro_usd), LARGEST_MICRO_USD)
        held = self._local_holds.held_micro_usd(asked.key) + self._remembered_held(asked.key)
        standing = Standing(
            counter=counter,
            limit_micro_usd=limit,
            posted_micro_usd=posted,
            held_micro_usd=None if posted is None else held,
            available_micro_usd=None if posted is None else limit - posted - held,
            reason=None,
            enforces=asked.enforces,
        )
        reason: DenialCode | None = None
        if (policy == "deny" and counter.budget.on_unavailable == "deny") or (policy == "ledger" and posted is None):
            reason = "counters_unavailable"
        elif any(_exceeds(standing, route) for route in routes):
            reason = "budget_exceeded"
        return msgspec.structs.replace(standing, reason=reason)

    def _remembered_held(self, key: str) -> int:
        seen_at, held = self._seen.get(key, (0.0, 0))
        return held if held and self._now() - seen_at < _HELD_REMEMBERED_SECONDS else 0

    async def _read_totals(
        self, ask: HoldAsk, counters: Sequence[BudgetCounter], patience_seconds: float
    ) -> list[_Total] | None:
        """Return the committed totals; None when they cannot be read in time."""
        keys = [asked.key for asked in ask.counters]
        now = self._now()
        totals = {key: self._totals.get(key, _NEVER) for key in keys}
        wanted = [i for i, key in enumerate(keys) if totals[key].read_at < now - _TOTALS_SECONDS]
        if wanted:
            try:
                async with patience(patience_seconds):
                    readings = await self._ledger.read([ref_of(counters[i]) for i in wanted])
            except (LedgerUnavailable, TimeoutError):
                return None
            for i, reading in zip(wanted, readings, strict=True):
                totals[keys[i]] = _Total(now, reading.posted_micro_usd, reading.carried_micro_usd)
                _keep(self._totals, keys[i], totals[keys[i]])
        return [totals[key] for key in keys]


def _keep(kept: dict[str, T], key: str, value: T) -> None:
    """Remember a value of a counter in place of the oldest, when there are too many."""
    kept.pop(key, None)
    while len(kept) >= _MOST_COUNTERS_KEPT:
        del kept[next(iter(kept))]
    kept[key] = value


def id_reused() -> StateConflict:
    """Return the refusal of an id that has the hold of another call."""
    return StateConflict(
        "This request_id holds for another request: take a new id, or void that hold.", code="request_id_reused"
    )


def _strictest(ask: HoldAsk, counters: Sequence[BudgetCounter]) -> OnUnavailable:
    policies = [
        counter.budget.on_unavailable for counter, asked in zip(counters, ask.counters, strict=True) if asked.enforces
    ]
    return max(policies, key=_STRICTNESS.__getitem__, default="allow")


def _denies(standing: Standing, route: RouteAsk) -> bool:
    """Tell whether a counter stops a route; one that does not know what was spent stops all."""
    if not standing.enforces:
        return False
    return standing.reason == "counters_unavailable" or _exceeds(standing, route)


def _exceeds(standing: Standing, route: RouteAsk) -> bool:
    """The operator of every check; see lua/check_and_hold.lua."""
    if standing.limit_micro_usd == 0:
        return True
    available = standing.available_micro_usd
    return available is not None and not route.is_free and route.least_micro_usd > available


def _shares(ask: HoldAsk, passing: Sequence[RouteAsk]) -> dict[str, int]:
    """Return what each counter holds: the most of what the allowed routes through it may take."""
    shares: dict[str, int] = {}
    for route in passing:
        for position in route.counters:
            key = ask.counters[position].key
            shares[key] = max(shares.get(key, 0), route.least_micro_usd)
    return shares
