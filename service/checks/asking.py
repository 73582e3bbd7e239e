"""Turns a call and the budgets it counts in into the one question to the counters. Pure."""

from collections.abc import Sequence
from datetime import datetime

import msgspec

from service.budgets.matching import BudgetCounter
from service.checks.appraisal import Appraisal
from service.checks.hold import LARGEST_MICRO_USD, NO_WINDOW_END_MS, CounterAsk, HoldAsk
from service.checks.keys import counter_key, unix_text
from service.checks.request import CheckRequest
from service.config.snapshot import TenantConfig
from service.kit.clock import to_unix_ms
from service.kit.money import micro_usd_rounded_down

# A script runs for all counters of a request at once, and Redis does nothing else meanwhile.
MOST_COUNTERS = 64

_MOST_KNOWN = 50_000


def match_counters(config: TenantConfig, appraisal: Appraisal, at: datetime) -> list[BudgetCounter]:
    """Return the counters a call counts in: those its event will be posted to."""
    return [] if config.enforcement == "off" else config.budgets.match(appraisal.call, at)


def hold_ask(
    request: CheckRequest,
    config: TenantConfig,
    appraisal: Appraisal,
    counters: Sequence[BudgetCounter],
    *,
    reservation_id: str,
    fingerprint: str,
    placed_by: str,
    wants_hold: bool,
) -> HoldAsk:
    """Return the question."""
    is_enforced = config.enforcement == "enforce"
    valid_from, valid_until = 0, NO_WINDOW_END_MS
    asks = []
    for counter in counters:
        known = _known_counter(counter)
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
    )


class _KnownCounter(msgspec.Struct, frozen=True):
    """How a counter is asked for: worked out once per budget, window and subject."""

    counter: BudgetCounter
    start_ms: int
    end_ms: int
    enforced: CounterAsk
    shadow: CounterAsk


_known_counters: dict[int, _KnownCounter] = {}


def _known_counter(counter: BudgetCounter) -> _KnownCounter:
    """Return how a counter is asked for. Found by identity: matching gives the same object again and again."""
    known = _known_counters.get(id(counter))
    if known is None or known.counter is not counter:
        if len(_known_counters) >= _MOST_KNOWN:
            _known_counters.clear()
        known = _known_counters[id(counter)] = _work_out(counter)
    return known


def _work_out(counter: BudgetCounter) -> _KnownCounter:
    budget, window = counter.budget, counter.window
    bucket = unix_text(window.start)
    key = counter_key(budget.tenant_id, budget.budget_id, counter.subject, bucket)
    limit = min(micro_usd_rounded_down(budget.limit_usd), LARGEST_MICRO_USD)
    return _KnownCounter(
        counter=counter,
        start_ms=to_unix_ms(window.start),
        end_ms=NO_WINDOW_END_MS if window.end is None else to_unix_ms(window.end),
        enforced=CounterAsk(key, bucket, limit, budget.mode == "enforce"),
        shadow=CounterAsk(key, bucket, limit, False),  # noqa: FBT003 — the last field of CounterAsk: it enforces nothing
    )
