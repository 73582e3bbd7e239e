"""Makes the outcome of a check from what the counters, or the policies in their place, said. Pure."""

from collections.abc import Sequence
from datetime import datetime

import msgspec

from service.checks.appraisal import affordable_output_tokens
from service.checks.asking import MOST_COUNTERS
from service.checks.attempt import Attempt, refuses_unpriced
from service.checks.hold import Decision
from service.checks.outcome import Allowed, DenialCode, Denied, Explanation, Hold, Outcome, Standing
from service.kit.clock import from_unix_ms
from service.kit.money import from_micro_usd


def find_refusal(attempt: Attempt) -> Denied | None:
    """Return the denial of what need not be asked: a blocked key, more counters than one call may have."""
    code: DenialCode | None = None
    if attempt.asked.dimensions.is_key_blocked:
        code = "key_blocked"
    elif len(attempt.counters) > MOST_COUNTERS:
        code = "too_many_budgets"
    if code is None or not attempt.is_enforced:
        return None
    return Denied(_explain(attempt, (), own_micro_usd=0, is_degraded=False), code)


def verdict(attempt: Attempt, decision: Decision) -> Outcome:
    """Return what the counters' decision means for the call."""
    standings = []
    for counter, asked, figures in zip(attempt.counters, attempt.ask.counters, decision.figures, strict=False):
        posted, held, limit = figures.posted_micro_usd, figures.held_micro_usd, asked.limit_micro_usd
        standings.append(
            Standing(
                counter=counter,
                limit_micro_usd=limit,
                posted_micro_usd=posted,
                held_micro_usd=held,
                available_micro_usd=limit - posted - held,
                reason="budget_exceeded" if figures.denies else None,
                enforces=asked.enforces,
            )
        )
    hold = None
    if decision.expires_at_ms:
        hold = Hold(attempt.asked.reservation_id, decision.amount_micro_usd, from_unix_ms(decision.expires_at_ms))
    return _conclude(attempt, tuple(standings), hold, is_allowed=decision.is_allowed, is_degraded=False)


def verdict_by_policy(
    attempt: Attempt, standings: tuple[Standing, ...], held_until: datetime | None, *, is_allowed: bool
) -> Outcome:
    """Return what the decision without the counters means for the call."""
    hold = None
    if held_until is not None:
        hold = Hold(attempt.asked.reservation_id, attempt.ask.least_micro_usd, held_until)
    return _conclude(attempt, standings, hold, is_allowed=is_allowed, is_degraded=True)


def _conclude(
    attempt: Attempt, standings: tuple[Standing, ...], hold: Hold | None, *, is_allowed: bool, is_degraded: bool
) -> Outcome:
    if attempt.appraisal.is_unpriced:
        standings = _refuse_unpriced(standings)
        is_allowed = not any(standing.reason and standing.enforces for standing in standings)
    own = 0 if hold is None else hold.amount_micro_usd
    explanation = _explain(attempt, standings, own_micro_usd=own, is_degraded=is_degraded)
    if is_allowed:
        return Allowed(explanation, hold)
    code = next(standing.reason for standing in standings if standing.enforces and standing.reason)
    assert code is not None
    return Denied(explanation, code)


def _refuse_unpriced(standings: Sequence[Standing]) -> tuple[Standing, ...]:
    return tuple(
        msgspec.structs.replace(standing, reason="unpriced_model")
        if standing.reason is None and refuses_unpriced(standing.counter)
        else standing
        for standing in standings
    )


def _explain(
    attempt: Attempt, standings: tuple[Standing, ...], *, own_micro_usd: int, is_degraded: bool
) -> Explanation:
    left = [
        available
        for standing in standings
        if standing.enforces and (available := standing.available_micro_usd) is not None
    ]
    affordable = None
    if left:
        affordable = affordable_output_tokens(attempt.appraisal, from_micro_usd(max(min(left) + own_micro_usd, 0)))
    return Explanation(
        dimensions=attempt.asked.dimensions,
        appraisal=attempt.appraisal,
        unresolved=attempt.config.budgets.unresolved(attempt.appraisal.call),
        standings=standings,
        is_degraded=is_degraded,
        max_affordable_output_tokens=affordable,
        settings=attempt.config.settings,
    )
