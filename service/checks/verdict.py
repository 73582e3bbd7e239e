"""Makes the outcome of a check from what the counters, or the policies in their place, said. Pure."""

from collections.abc import Sequence

import msgspec

from service.checks.asking import MOST_COUNTERS
from service.checks.attempt import Attempt
from service.checks.hold import Decision
from service.checks.outcome import Allowed, DenialCode, Denied, Explanation, Hold, Outcome, Standing
from service.checks.route_outcomes import (
    affordable_tokens,
    closed_routes,
    open_flags,
    own_holds,
    route_outcomes,
    unresolved_names,
)
from service.checks.route_plan import RoutePlan, refuses_unpriced
from service.kit.clock import from_unix_ms


def find_refusal(attempt: Attempt) -> Denied | None:
    """Return the denial of what need not be asked: a blocked key, more counters than one call may have.

    And of what cannot be asked: a key that could not be read might have brought budgets into play that do not go on
    without. `ledger` denies, too, as the ledger is what did not answer.
    """
    code: DenialCode | None = None
    if attempt.asked.dimensions.is_key_blocked:
        code = "key_blocked"
    elif len(attempt.counters) > MOST_COUNTERS:
        code = "too_many_budgets"
    elif not {"ledger", "deny"}.isdisjoint(attempt.config.budgets.policies(attempt.asked.untold)):
        code = "counters_unavailable"
    if code is None or not attempt.is_enforced:
        return None
    return Denied(_explain(attempt, (), [False] * len(attempt.plan.routes), {}, is_degraded=False), code)


def verdict(attempt: Attempt, decision: Decision) -> Outcome:
    """Return what the counters' decision means for the call."""
    standings = []
    for counter, asked, figures in zip(attempt.counters, attempt.ask.counters, decision.figures, strict=False):
        posted, held, limit = figures.posted_micro_usd, figures.held_micro_usd, figures.limit_micro_usd
        standings.append(
            Standing(
                counter=counter,
                limit_micro_usd=limit,
                posted_micro_usd=posted,
                held_micro_usd=held,
                available_micro_usd=limit - posted - held,
                reason="budget_exceeded" if figures.denies else None,
                enforces=asked.enforces,
                falls_out_at_ms=figures.resets_at_ms,
            )
        )
    hold = None
    if decision.expires_at_ms:
        hold = Hold(attempt.asked.reservation_id, decision.amount_micro_usd, from_unix_ms(decision.expires_at_ms))
    flags = open_flags(attempt.plan, decision.routes, is_allowed=decision.is_allowed)
    own = own_holds(attempt.plan, flags, decision.amount_micro_usd if hold else 0)
    return _conclude(attempt, standings, hold, flags, own, is_degraded=False)


def verdict_by_policy(
    attempt: Attempt,
    standings: Sequence[Standing],
    hold: Hold | None,
    routes: tuple[bool, ...],
    *,
    is_allowed: bool,
) -> Outcome:
    """Return what the decision without the counters means for the call; its figures leave out its own hold."""
    flags = open_flags(attempt.plan, routes, is_allowed=is_allowed)
    return _conclude(attempt, standings, hold, flags, {}, is_degraded=True)


def _conclude(
    attempt: Attempt,
    standings: Sequence[Standing],
    hold: Hold | None,
    flags: list[bool],
    own: dict[int, int],
    *,
    is_degraded: bool,
) -> Outcome:
    standings = _marked(attempt.plan, standings, flags)
    explanation = _explain(attempt, standings, flags, own, is_degraded=is_degraded)
    if any(flags):
        return Allowed(explanation, hold)
    reasons = [standing.reason for standing in standings if standing.enforces and standing.reason is not None]
    return Denied(
        explanation, reasons[0] if reasons else "budget_exceeded", closed_routes(attempt.plan, standings, own)
    )


def _marked(plan: RoutePlan, standings: Sequence[Standing], flags: list[bool]) -> tuple[Standing, ...]:
    """Return the standings with what else is to be said of them: no price, or no allowed route through them."""
    if all(flags) and not any(route.is_unpriced for route in plan.routes):
        return tuple(standings)
    marked = list(standings)
    for route in plan.routes:
        for position in route.counters if route.is_unpriced else ():
            if position < len(marked) and marked[position].reason is None and refuses_unpriced(plan.counters[position]):
                marked[position] = msgspec.structs.replace(marked[position], reason="unpriced_model")
    if any(flags) and not all(flags):
        routes = zip(plan.routes, flags, strict=True)
        taken = {position for route, is_allowed in routes if is_allowed for position in route.counters}
        for position in range(len(marked)):
            if position not in taken:
                marked[position] = msgspec.structs.replace(marked[position], is_aside=True)
    return tuple(marked)


def _explain(
    attempt: Attempt,
    standings: tuple[Standing, ...],
    flags: list[bool],
    own: dict[int, int],
    *,
    is_degraded: bool,
) -> Explanation:
    plan, appraisal = attempt.plan, attempt.appraisal
    if any(flags) and not all(flags):
        routes = zip(plan.routes, flags, strict=True)
        appraisal = appraisal.of([each for route, is_allowed in routes if is_allowed for each in route.candidates])
    return Explanation(
        dimensions=attempt.dimensions,
        appraisal=appraisal,
        routes=route_outcomes(plan, flags, standings, own, is_named=attempt.asked.request.names_ways),
        unresolved=unresolved_names(attempt),
        standings=standings,
        is_degraded=is_degraded or attempt.asked.is_key_unread,
        max_affordable_output_tokens=affordable_tokens(plan, flags, standings, own),
        settings=attempt.config.settings,
    )
