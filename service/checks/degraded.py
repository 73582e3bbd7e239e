"""Decides without the counters, by what each budget says about that: `ledger`, `deny` or `allow`; the strictest wins.

`ledger`: committed totals, read at most every 250 ms per counter and process, plus the holds this process saw last and
those it placed since.
Approvals are never cached. When the ledger cannot be read either, `ledger` denies: nobody knows what was spent.
"""

from collections.abc import Callable, Sequence

import msgspec

from service.budgets.budget import OnUnavailable
from service.budgets.matching import BudgetCounter
from service.checks import metrics
from service.checks.freshness import ref_of
from service.checks.hold import CounterAsk, Decision, HoldAsk
from service.checks.ledger_reader import LedgerReader, LedgerUnavailable
from service.checks.local_holds import LocalHolds
from service.checks.outcome import DenialCode, Standing
from service.checks.publishing import posted_micro_usd
from service.errors import StateConflict
from service.kit.patience import patience

_TOTALS_SECONDS = 0.25
_HELD_REMEMBERED_SECONDS = 5.0
_MOST_COUNTERS_KEPT = 50_000
_STRICTNESS: dict[OnUnavailable, int] = {"allow": 0, "ledger": 1, "deny": 2}


class DegradedDecision(msgspec.Struct, frozen=True):
    """The decision by policy."""

    is_allowed: bool
    standings: tuple[Standing, ...]


class DegradedGate:
    """Decides by policy. One instance per process."""

    def __init__(self, ledger: LedgerReader, local_holds: LocalHolds, now: Callable[[], float]) -> None:
        self._ledger = ledger
        self._local_holds = local_holds
        self._now = now
        self._totals: dict[str, tuple[float, int]] = {}
        self._seen: dict[str, tuple[float, int]] = {}

    def remember_held(self, asks: Sequence[CounterAsk], decision: Decision) -> None:
        """Keep what the counters said was held: for a moment it is the best that is known when they fall silent."""
        if len(self._seen) > _MOST_COUNTERS_KEPT:
            self._seen.clear()
        self._local_holds.drop_lapsed()
        now = self._now()
        for asked, figures in zip(asks, decision.figures, strict=True):
            self._seen[asked.key] = (now, figures.held_micro_usd)

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
        posted = await self._posted(ask, counters, patience_seconds) if policy == "ledger" else None
        self._local_holds.drop_lapsed()
        if self._local_holds.has(ask.tenant_id, ask.reservation_id):
            if is_repeat_refused:
                raise id_reused()
            self._local_holds.release(ask.tenant_id, ask.reservation_id)
        standings = tuple(
            self._standing(ask, index, counter, policy, None if posted is None else posted[index])
            for index, counter in enumerate(counters)
        )
        is_allowed = not any(standing.reason and standing.enforces for standing in standings)
        if is_allowed and ask.wants_hold:
            keys = [asked.key for asked in ask.counters]
            self._local_holds.place(ask.tenant_id, ask.reservation_id, keys, ask.least_micro_usd, ask.ttl_ms / 1000)
        return DegradedDecision(is_allowed, standings)

    def _standing(
        self, ask: HoldAsk, index: int, counter: BudgetCounter, policy: OnUnavailable, posted: int | None
    ) -> Standing:
        asked = ask.counters[index]
        held = self._local_holds.held_micro_usd(asked.key) + self._remembered_held(asked.key)
        reason: DenialCode | None = None
        if (policy == "deny" and counter.budget.on_unavailable == "deny") or (policy == "ledger" and posted is None):
            reason = "counters_unavailable"
        elif posted is not None and _exceeds(ask, posted + held, asked.limit_micro_usd):
            reason = "budget_exceeded"
        return Standing(
            counter=counter,
            limit_micro_usd=asked.limit_micro_usd,
            posted_micro_usd=posted,
            held_micro_usd=None if posted is None else held,
            available_micro_usd=None if posted is None else asked.limit_micro_usd - posted - held,
            reason=reason,
            enforces=asked.enforces,
        )

    def _remembered_held(self, key: str) -> int:
        seen_at, held = self._seen.get(key, (0.0, 0))
        return held if held and self._now() - seen_at < _HELD_REMEMBERED_SECONDS else 0

    async def _posted(
        self, ask: HoldAsk, counters: Sequence[BudgetCounter], patience_seconds: float
    ) -> list[int] | None:
        """Return the committed totals; None when they cannot be read in time."""
        keys = [asked.key for asked in ask.counters]
        now = self._now()
        wanted = [i for i, key in enumerate(keys) if self._totals.get(key, (-1.0, 0))[0] < now - _TOTALS_SECONDS]
        if wanted:
            try:
                async with patience(patience_seconds):
                    readings = await self._ledger.read([ref_of(counters[i]) for i in wanted])
            except (LedgerUnavailable, TimeoutError):
                return None
            if len(self._totals) > _MOST_COUNTERS_KEPT:
                self._totals.clear()
            for i, reading in zip(wanted, readings, strict=True):
                self._totals[keys[i]] = (now, posted_micro_usd(reading.state.enforced))
        return [self._totals[key][1] for key in keys]


def id_reused() -> StateConflict:
    """Return the refusal of an id that has the hold of another call."""
    return StateConflict("This request_id holds for another request.", code="request_id_reused")


def _strictest(ask: HoldAsk, counters: Sequence[BudgetCounter]) -> OnUnavailable:
    policies = [
        counter.budget.on_unavailable for counter, asked in zip(counters, ask.counters, strict=True) if asked.enforces
    ]
    return max(policies, key=_STRICTNESS.__getitem__, default="allow")


def _exceeds(ask: HoldAsk, taken: int, limit: int) -> bool:
    """The operator of every check; see lua/check_and_hold.lua."""
    return limit == 0 or (not ask.is_free and taken + ask.least_micro_usd > limit)
