"""Whatever ways calls may go, whichever allowed one they take, asked about again or not: no limit is ever passed."""

import asyncio
from datetime import timedelta
from decimal import Decimal
from typing import Any

import redis.asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.checks.attempt import Attempt
from service.checks.hold import Decision, MissingCounters
from service.checks.hold_store import HoldStore
from service.checks.keys import CounterRef, ref_of
from service.checks.outcome import Allowed, Outcome, RouteOutcome
from service.checks.request import CheckRequest
from service.checks.route_plan import MOST_ROUTES
from service.checks.scripts import ScriptLane
from service.checks.verdict import verdict
from service.identity.dimensions import Dimensions
from service.kit.clock import utc_now
from service.kit.ids import new_id
from tests.check_builders import RATES, a_config, a_limit, a_request, an_attempt, routes_to, seen
from tests.integration.checks.gate import Gate

MODELS = [*sorted(RATES), "openai/d1", "openai/d2", "azure/d3", "azure/d4", "azure/d5", "other/d6"]
USERS = ["u1", "u2"]

matches = st.one_of(
    st.just({}),
    st.sampled_from(["openai", "azure", "other", "*"]).map(lambda value: {"provider": value}),
    st.sampled_from([*MODELS, "*"]).map(lambda value: {"served_model": value}),
    st.lists(st.sampled_from(MODELS), min_size=1, max_size=3).map(lambda values: {"deployment": values}),
    st.just({"user": "*"}),
    st.sampled_from(["openai", "azure"]).map(lambda value: {"user": "u1", "provider": value}),
    st.just({"requested_model": "smart"}),
)
limits = st.sampled_from(["0", "0.000001", "0.01", "0.025", "0.06", "1"])
budgets = st.lists(st.tuples(matches, limits, st.sampled_from(["assume", "deny"])), min_size=1, max_size=6)
calls = st.fixed_dictionaries(
    {
        # What was seen stands in where the call names no routes: about as often as not.
        "routes": st.one_of(st.just([]), st.lists(st.sampled_from(MODELS), max_size=8, unique=True)),
        "fallbacks": st.one_of(st.just([]), st.lists(st.sampled_from(MODELS), max_size=4, unique=True)),
        "seen": st.lists(st.sampled_from(MODELS), max_size=8, unique=True),
        "user": st.sampled_from(USERS),
        "pick": st.integers(0, 99),
        "share": st.sampled_from([0, 1, 50, 99, 100]),  # of the estimate, in percent: what it comes to
        "ends": st.sampled_from(["at once", "later", "never"]),
        "is_again": st.booleans(),
        "seen_by_then": st.permutations(MODELS),
        "late": st.sampled_from([0, 0, 1, 5]),  # from so many months calls come in late
    }
)


class Ledger:
    """Counters, and what calls under way post when they end."""

    def __init__(self, gate: Gate, chosen: list[tuple[Any, str, str]]) -> None:
        self.gate = gate
        terms = [a_limit(match, limit, on_unpriced=rule, tenant_id=gate.tenant_id) for match, limit, rule in chosen]
        self.config = a_config(*terms, tenant_id=gate.tenant_id)
        self.limits: dict[CounterRef, Decimal] = {}
        self.open: list[tuple[str, RouteOutcome | None, Attempt, int]] = []
        self.at = utc_now()

    async def check(self, call: dict[str, Any]) -> None:
        reservation_id = new_id().hex
        attempt = self._attempt(call, call["seen"], reservation_id)
        self._match_late_calls(attempt, call["late"])
        outcome = await self._decide(attempt)
        self._assert_explained(outcome)
        if not isinstance(outcome, Allowed):
            return
        assert outcome.hold is not None
        if call["is_again"]:
            await self._check_again(call, reservation_id, outcome)
        allowed = [route for route in outcome.explanation.routes if route.is_allowed]
        chosen = allowed[call["pick"] % len(allowed)] if allowed else None
        candidate = attempt.appraisal.dearest if chosen is None else chosen.candidate
        actual = candidate.amount_micro_usd * call["share"] // 100
        assert candidate.amount_micro_usd <= outcome.hold.amount_micro_usd
        self.open.append((reservation_id, chosen, attempt, actual))
        if call["ends"] == "at once":
            await self.end(len(self.open) - 1)
        elif call["ends"] == "later":
            await self.end(call["pick"] % len(self.open))

    def _attempt(self, call: dict[str, Any], models: list[str], reservation_id: str) -> Attempt:
        recent = seen(smart=routes_to(*models))
        return an_attempt(_request(call), self.config, recent, reservation_id=reservation_id, at=self.at)

    def _match_late_calls(self, attempt: Attempt, months: int) -> None:
        """Let what is remembered of the counters of some ways be older than what is remembered of others."""
        for number in range(1, months + 1):
            for candidate in attempt.appraisal.candidates:
                self.config.budgets.match(candidate.call, self.at - timedelta(days=31 * number))

    async def _check_again(self, call: dict[str, Any], reservation_id: str, first: Allowed) -> None:
        """Ask again when other ways are the most used ones: what may be done is the same."""
        models = [model for model in call["seen_by_then"] if model in call["seen"]]
        again = await self._decide(self._attempt(call, models, reservation_id))
        assert isinstance(again, Allowed)
        assert again.hold == first.hold
        if len(first.explanation.routes) <= MOST_ROUTES:  # of more some are merged, and not always the same
            assert _flags(again) == _flags(first)

    async def end(self, number: int) -> None:
        reservation_id, chosen, attempt, actual = self.open.pop(number)
        candidate = attempt.appraisal.dearest if chosen is None else chosen.candidate
        posted_to = [ref_of(counter) for counter in self.config.budgets.match(candidate.call, self.at)]
        counts = await self.gate.post(reservation_id, actual, *posted_to)
        assert (counts.overshoot_micro_usd, counts.astray_micro_usd, counts.came_late) == (0, 0, 0)

    async def assert_within_limits(self) -> None:
        for ref, limit in self.limits.items():
            assert await self.gate.posted(ref) + await self.gate.held(ref) <= limit * 1_000_000
        await self.gate.assert_sound(*self.limits)

    async def _decide(self, attempt: Attempt) -> Outcome:
        for counter in attempt.counters:
            self.limits[ref_of(counter)] = counter.budget.limit_usd
        keys = [asked.key for asked in attempt.ask.counters]
        assert len(set(keys)) == len(keys), "a counter is asked about once"
        answer = await self.gate.store.check_and_hold(attempt.ask)
        if isinstance(answer, MissingCounters):
            await self.gate.seed(*[ref_of(attempt.counters[position]) for position in answer.positions])
            answer = await self.gate.store.check_and_hold(attempt.ask)
        assert isinstance(answer, Decision), answer
        return verdict(attempt, answer)

    def _assert_explained(self, outcome: Outcome) -> None:
        explanation = outcome.explanation
        for route in explanation.routes:
            assert bool(route.denied_by) is not route.is_allowed
            matched = self.config.budgets.match(route.candidate.call, self.at)
            if route.is_allowed:
                assert not any(counter.budget.limit_usd == 0 for counter in matched)
            if len(explanation.routes) <= 8:
                assert {each.counter.budget for each in route.denied_by} <= {counter.budget for counter in matched}
        if explanation.routes:
            assert isinstance(outcome, Allowed) is any(route.is_allowed for route in explanation.routes)


def _flags(outcome: Outcome) -> dict[tuple[str | None, str | None, int], bool]:
    return {
        (route.candidate.way.models.deployment, route.candidate.way.fallback, route.candidate.way.choice): (
            route.is_allowed
        )
        for route in outcome.explanation.routes
    }


def _request(call: dict[str, Any]) -> CheckRequest:
    return a_request(
        routes=routes_to(*call["routes"]),
        fallback_models=tuple(call["fallbacks"]),
        dimensions=Dimensions(user=call["user"]),
    )


@given(budgets, st.lists(calls, min_size=1, max_size=12))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], print_blob=True)
def test_no_limit_is_passed_and_nothing_stays_held(
    redis_url: str, chosen: list[tuple[Any, str, str]], asked: list[dict[str, Any]]
):
    asyncio.run(_play(redis_url, chosen, asked))


async def _play(redis_url: str, chosen: list[tuple[Any, str, str]], asked: list[dict[str, Any]]) -> None:
    client = redis.asyncio.Redis.from_url(redis_url)
    gate = Gate(client, f"p-{new_id().hex}", HoldStore(client, deadline_ms=5_000), ScriptLane(client, timeout_ms=5_000))
    ledger = Ledger(gate, chosen)
    try:
        for call in asked:
            await ledger.check(call)
            await ledger.assert_within_limits()
        while ledger.open:
            await ledger.end(0)
        await ledger.assert_within_limits()
        assert {ref: await gate.held(ref) for ref in ledger.limits} == dict.fromkeys(ledger.limits, 0)
    finally:
        await gate.store.close()
        await gate.lane.close()
        await client.aclose()
