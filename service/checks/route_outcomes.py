"""What the figures of the counters say of each way a call may go. Pure."""

from collections.abc import Sequence

from service.checks.appraisal import affordable_output_tokens
from service.checks.attempt import Attempt
from service.checks.outcome import ClosedRoute, RouteOutcome, Standing
from service.checks.route_plan import PlannedRoute, RoutePlan, refuses_unpriced
from service.identity.dimensions import DIMENSION_NAMES
from service.kit.money import from_micro_usd


def open_flags(plan: RoutePlan, decided: tuple[bool, ...], *, is_allowed: bool) -> list[bool]:
    """Return which routes are allowed. `decided`: the answer for the open ones; () = one question for all counters."""
    if not decided:
        return [is_allowed and not route.is_refused for route in plan.routes]
    answers = iter(decided)
    return [not route.is_refused and next(answers) for route in plan.routes]


def own_holds(plan: RoutePlan, flags: Sequence[bool], held_micro_usd: int) -> dict[int, int]:
    """Return what the call itself holds, by the position of the counter; `held_micro_usd` is the most of it."""
    if not held_micro_usd:
        return {}
    if len(plan.routes) == 1:
        return dict.fromkeys(plan.routes[0].counters, held_micro_usd)
    own: dict[int, int] = {}
    for route, is_allowed in zip(plan.routes, flags, strict=True):
        for position in route.counters if is_allowed else ():
            own[position] = min(max(own.get(position, 0), route.least_micro_usd), held_micro_usd)
    return own


def route_outcomes(
    plan: RoutePlan, flags: Sequence[bool], standings: Sequence[Standing], own: dict[int, int], *, is_named: bool
) -> tuple[RouteOutcome, ...]:
    """Return what becomes of each candidate, in the order they were found; () for one that is not named."""
    if len(plan.routes) == 1 and len(plan.routes[0].candidates) == 1 and not is_named:
        return ()
    outcomes = []
    for route, is_allowed in zip(plan.routes, flags, strict=True):
        denied_by = () if is_allowed else _denied_by(route, standings, own)
        outcomes += [RouteOutcome(candidate, is_allowed, denied_by) for candidate in route.candidates]
    return tuple(outcomes)


def closed_routes(plan: RoutePlan, standings: Sequence[Standing], own: dict[int, int]) -> tuple[ClosedRoute, ...]:
    """Return why a denied call can go no way."""
    return tuple([ClosedRoute(route.least_micro_usd, _denied_by(route, standings, own)) for route in plan.routes])


def affordable_tokens(
    plan: RoutePlan, flags: Sequence[bool], standings: Sequence[Standing], own: dict[int, int]
) -> int | None:
    """Return how many output tokens what is left pays for: on each allowed route, or if there is none on some route.

    None = no bound is known.
    """
    if len(plan.routes) == 1:
        return _affordable_on(plan.routes[0], standings, own)
    is_any = any(flags)
    bounds = [
        _affordable_on(route, standings, own)
        for route, is_allowed in zip(plan.routes, flags, strict=True)
        if is_allowed or not is_any
    ]
    known = [bound for bound in bounds if bound is not None]
    if is_any:
        return min(known, default=None)
    return max(known) if len(known) == len(bounds) else None


def unresolved_names(attempt: Attempt) -> list[str]:
    """Return the dimensions some budget asks for and the call has no value of, on some way it may go.

    Where it goes is not known either if the ledger had to be asked and did not answer, nor is what a key tells that
    could not be read, whether a budget asks for it or not.
    """
    budgets, request = attempt.config.budgets, attempt.asked.request
    candidates, untold = attempt.appraisal.candidates, attempt.asked.untold
    if len(candidates) == 1 and attempt.asked.recent.is_known and not untold:
        return budgets.unresolved(candidates[0].call)
    names = {name for candidate in candidates for name in budgets.unresolved(candidate.call)}.union(untold)
    if not attempt.asked.recent.is_known:
        told = {name for name in ("deployment", "provider") if getattr(request, name)}
        names |= set(budgets.route_dimensions) - told
    return [name for name in DIMENSION_NAMES if name in names]


def _denied_by(route: PlannedRoute, standings: Sequence[Standing], own: dict[int, int]) -> tuple[Standing, ...]:
    through = [(position, standings[position]) for position in route.counters if position < len(standings)]
    return tuple([each for position, each in through if each.enforces and _stops(route, each, own.get(position, 0))])


def _stops(route: PlannedRoute, standing: Standing, own_micro_usd: int) -> bool:
    if standing.reason is None:
        return False
    if route.is_unpriced and refuses_unpriced(standing.counter):
        return True
    available = standing.available_micro_usd
    if standing.reason == "counters_unavailable" or available is None:
        return True
    is_too_much = not route.is_free and route.least_micro_usd > available + own_micro_usd
    return standing.limit_micro_usd == 0 or is_too_much


def _affordable_on(route: PlannedRoute, standings: Sequence[Standing], own: dict[int, int]) -> int | None:
    left: int | None = None
    for position in route.counters:
        if position >= len(standings):
            continue
        standing = standings[position]
        available = standing.available_micro_usd
        if standing.enforces and available is not None:
            available += own.get(position, 0)
            left = available if left is None else min(left, available)
    return None if left is None else affordable_output_tokens(route.candidates, from_micro_usd(max(left, 0)))
