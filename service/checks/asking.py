"""Turns a call and the budgets it counts in into the one question to the counters. Pure."""

from collections.abc import Sequence
from datetime import datetime

import msgspec

from service.budgets.limits import last_change_at, limit_at, next_change_at, present_terms
from service.budgets.matching import BudgetCounter
from service.budgets.period import RollingPeriod, shown_window
from service.checks.appraisal import Appraisal
from service.checks.hold import LARGEST_MICRO_USD, NO_WINDOW_END_MS, CounterAsk, CounterKind, HoldAsk, RouteAsk
from service.checks.keys import key_of, ref_of, unix_text
from service.checks.request import CheckRequest
from service.config.snapshot import TenantConfig
from service.kit.clock import to_unix_ms, unix_ms_rounded_up
from service.kit.money import micro_usd_rounded_down

# A script runs for all counters of a request at once, and Redis does nothing else meanwhile.
MOST_COUNTERS = 64

_MOST_KNOWN = 50_000


def hold_ask(
    request: CheckRequest,
    config: TenantConfig,
    appraisal: Appraisal,
    counters: Sequence[BudgetCounter],
    *,
    at: datetime,
    reservation_id: str,
    fingerprint: str,
    placed_by: str,
    wants_hold: bool,
    routes: tuple[RouteAsk, ...] = (),
) -> HoldAsk:
    """Return the question as it is put at an instant: it holds as long as all windows and all limits do."""
    is_enforced, at_ms = config.enforcement == "enforce", to_unix_ms(at)
    valid_from, valid_until = 0, NO_WINDOW_END_MS
    asks = []
    for counter in counters:
        known = _known_counter(counter, at, at_ms)
        valid_from, valid_until = max(valid_from, known.start_ms), min(valid_until, known.end_ms)
        asks.append(known.enforced if is_enforced else known.shadow)
    return HoldAsk(
        tenant_id=config.tenant_id,
        config_version=config.version,
        reservation_id=reservation_id,
        fingerprint=fingerprint,
        amount_micro_usd=appraisal.amount_micro_usd,
        is_free=appraisal.is_free,
        wants_hold=wants_hold,
        ttl_ms=request.ttl_seconds * 1000,
        requested_model=appraisal.models.requested_model or "",
        valid_from_ms=valid_from,
        valid_until_ms=valid_until,
        counters=tuple(asks),
        placed_by=placed_by,
        routes=routes,
    )


class _KnownCounter(msgspec.Struct, frozen=True):
    """How a counter is asked for: worked out once per budget, window and subject, and anew when its limit changes."""

    counter: BudgetCounter
    start_ms: int
    end_ms: int
    enforced: CounterAsk
    shadow: CounterAsk


_known_counters: dict[int, _KnownCounter] = {}


def _known_counter(counter: BudgetCounter, at: datetime, at_ms: int) -> _KnownCounter:
    """Return how a counter is asked for. Found by identity: matching gives the same object again and again."""
    known = _known_counters.get(id(counter))
    if known is None or known.counter is not counter or not known.start_ms <= at_ms < known.end_ms:
        if len(_known_counters) >= _MOST_KNOWN:
            _known_counters.clear()
        known = _known_counters[id(counter)] = _work_out(counter, at)
    return known


def _work_out(counter: BudgetCounter, at: datetime) -> _KnownCounter:
    budget, window = counter.budget, counter.window
    bucket, kind = _bucket_of(counter)
    key = key_of(ref_of(counter))
    limit = min(micro_usd_rounded_down(limit_at(budget, counter.subject, at)), LARGEST_MICRO_USD)
    most_carried = min(micro_usd_rounded_down(present_terms(budget).most_carried_usd), LARGEST_MICRO_USD)
    # Both ends are rounded up: milliseconds that begin before a change belong to what was before it.
    since = last_change_at(budget, counter.subject, at)
    until = next_change_at(budget, counter.subject, at)
    return _KnownCounter(
        counter=counter,
        start_ms=max([unix_ms_rounded_up(each) for each in (window.start, since) if each is not None]),
        end_ms=min(
            [unix_ms_rounded_up(each) for each in (window.end, until) if each is not None], default=NO_WINDOW_END_MS
        ),
        enforced=CounterAsk(key, bucket, limit, budget.mode == "enforce", kind, most_carried),
        shadow=CounterAsk(key, bucket, limit, False, kind, most_carried),  # noqa: FBT003 — it enforces nothing
    )


def _bucket_of(counter: BudgetCounter) -> tuple[str, CounterKind]:
    period, start = counter.budget.period, counter.window.start
    if isinstance(period, RollingPeriod):
        oldest = unix_text(shown_window(period, start).start)
        return f"{oldest} {period.bucket_seconds} {period.bucket_count}", "rolling"
    return unix_text(start), "one_bucket" if counter.budget.terms.rollover is None else "with_carry"
