"""Which routes the counters are asked about: candidates that count alike are one route. Pure.

Candidates the caller cannot choose between are one route per set of counters, as dear as the dearest; those it can
choose between also differ by their amounts. One question takes eight routes: of more, all but the first seven become
one that goes through all their counters, as dear as the dearest. It is allowed only if each of them is, so that what is
merged can be denied too early, but never allowed too early.
"""

from collections.abc import Sequence
from datetime import datetime
from hashlib import blake2b
from typing import Final
from uuid import UUID

import msgspec

from service.budgets.matching import BudgetCounter
from service.checks.appraisal import Appraisal, Candidate
from service.checks.hold import RouteAsk
from service.checks.keys import counter_name
from service.config.snapshot import TenantConfig

MOST_ROUTES: Final = 8

_FIRST: Final = tuple(range(64))


class PlannedRoute(msgspec.Struct, frozen=True, kw_only=True):
    """Candidates that count in the same counters (positions). `is_refused`: a budget stops what has no price."""

    candidates: tuple[Candidate, ...]
    counters: tuple[int, ...]
    amount_micro_usd: int
    is_free: bool
    is_unpriced: bool
    is_refused: bool

    @property
    def least_micro_usd(self) -> int:
        """Return what is compared and held: of what is not free at least one micro-USD."""
        return self.amount_micro_usd if self.is_free else max(self.amount_micro_usd, 1)


class RoutePlan(msgspec.Struct, frozen=True):
    """All counters any route of a call goes through, and the routes; one at least."""

    counters: list[BudgetCounter]
    routes: tuple[PlannedRoute, ...]

    @property
    def is_refused(self) -> bool:
        """Tell whether nothing need be held: no route is open."""
        return self.routes[0].is_refused and all(route.is_refused for route in self.routes)

    @property
    def open_routes(self) -> list[PlannedRoute]:
        """Return the routes that are not refused, whatever the counters say."""
        return [route for route in self.routes if not route.is_refused]

    def asks(self, most_counters: int) -> tuple[RouteAsk, ...]:
        """Return the open routes as the counters are asked about them; () = one through all counters."""
        if len(self.routes) == 1 or self.is_refused:
            return ()
        return tuple(
            [
                RouteAsk(
                    route.amount_micro_usd,
                    route.is_free,
                    tuple([position for position in route.counters if position < most_counters]),
                    self._name(route),
                )
                for route in self.open_routes
            ]
        )

    def _name(self, route: PlannedRoute) -> str:
        """Return what stays the same in each question of a request: which choices go through which counters."""
        choices = sorted({(candidate.way.choice, candidate.is_unpriced) for candidate in route.candidates})
        through = [self.counters[position] for position in route.counters]
        names = sorted([counter_name(each.budget.budget_id, each.subject) for each in through])
        return blake2b(" ".join([*map(str, choices), *names]).encode(), digest_size=8).hexdigest()


def plan_routes(config: TenantConfig, appraisal: Appraisal, at: datetime) -> RoutePlan:
    """Return the counters of a call, those its event will be posted to whichever way it goes, and the routes."""
    is_enforced = config.enforcement == "enforce"
    if len(appraisal.candidates) == 1:
        counters = _match(config, appraisal.dearest, at)
        only = appraisal.dearest
        route = PlannedRoute(
            candidates=appraisal.candidates,
            counters=_FIRST[: len(counters)] if len(counters) <= len(_FIRST) else tuple(range(len(counters))),
            amount_micro_usd=only.amount_micro_usd,
            is_free=only.is_free,
            is_unpriced=only.is_unpriced,
            is_refused=only.is_unpriced and is_enforced and any(map(refuses_unpriced, counters)),
        )
        return RoutePlan(counters, (route,))
    numbers: dict[tuple[UUID, str], int] = {}
    counters = []
    groups: dict[tuple[tuple[int, ...], int, bool], list[Candidate]] = {}
    for candidate in appraisal.candidates:
        positions = []
        for counter in _match(config, candidate, at):
            # What memories give for two candidates may be equal without being the same object.
            name = (counter.budget.budget_id, counter.subject)
            if name not in numbers:
                numbers[name] = len(counters)
                counters.append(counter)
            positions.append(numbers[name])
        groups.setdefault((tuple(positions), candidate.way.choice, candidate.is_unpriced), []).append(candidate)
    routes = _without_repeats(
        [_route(group, positions, counters, is_enforced=is_enforced) for (positions, *_), group in groups.items()]
    )
    return RoutePlan(counters, tuple(_at_most(MOST_ROUTES, routes)))


def refuses_unpriced(counter: BudgetCounter) -> bool:
    """Tell whether a budget stops calls nobody knows a price for."""
    return counter.budget.on_unpriced == "deny" and counter.budget.mode == "enforce"


def _match(config: TenantConfig, candidate: Candidate, at: datetime) -> list[BudgetCounter]:
    return [] if config.enforcement == "off" else config.budgets.match_again(candidate.call, at)


def _route(
    candidates: Sequence[Candidate], positions: tuple[int, ...], counters: Sequence[BudgetCounter], *, is_enforced: bool
) -> PlannedRoute:
    is_unpriced = any(candidate.is_unpriced for candidate in candidates)
    return PlannedRoute(
        candidates=tuple(candidates),
        counters=positions,
        amount_micro_usd=max([candidate.amount_micro_usd for candidate in candidates]),
        is_free=all(candidate.is_free for candidate in candidates),
        is_unpriced=is_unpriced,
        is_refused=is_unpriced and is_enforced and any(refuses_unpriced(counters[i]) for i in positions),
    )


def _without_repeats(routes: Sequence[PlannedRoute]) -> list[PlannedRoute]:
    alike: dict[object, list[PlannedRoute]] = {}
    for route in routes:
        name = (route.counters, route.amount_micro_usd, route.is_free, route.is_unpriced)
        alike.setdefault(name, []).append(route)
    return [group[0] if len(group) == 1 else _merged(group) for group in alike.values()]


def _at_most(most: int, routes: Sequence[PlannedRoute]) -> list[PlannedRoute]:
    """Return as many open routes at most; refused ones are not asked about."""
    opened = [route for route in routes if not route.is_refused]
    if len(opened) <= most:
        return list(routes)
    refused = [route for route in routes if route.is_refused]
    return [*opened[: most - 1], _merged(opened[most - 1 :]), *refused]


def _merged(routes: Sequence[PlannedRoute]) -> PlannedRoute:
    return PlannedRoute(
        candidates=tuple([candidate for route in routes for candidate in route.candidates]),
        counters=tuple(sorted({position for route in routes for position in route.counters})),
        amount_micro_usd=max([route.amount_micro_usd for route in routes]),
        is_free=all(route.is_free for route in routes),
        is_unpriced=any(route.is_unpriced for route in routes),
        is_refused=any(route.is_refused for route in routes),
    )
