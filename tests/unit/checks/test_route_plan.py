"""Candidates become the routes of one question: alike ones are one, none is lost, merging favours no call."""

from decimal import Decimal

from service.budgets.budget import Budget
from service.checks.attempt import Attempt
from service.checks.hold import CounterFigures, Decision, RouteAsk
from service.checks.outcome import Allowed, Denied, Outcome
from service.checks.request import CheckRequest, Route
from service.checks.verdict import verdict
from service.identity.dimensions import Dimensions
from tests.check_builders import a_config, a_limit, a_request, an_attempt, routes_to, seen

ALL = a_limit({})
OPENAI = a_limit({"provider": "openai"})
AZURE = a_limit({"provider": "azure"})
# Of 1000 tokens, in micro-USD.
SMALL, AZURE_SMALL, LARGE = 1_000, 2_000, 10_000


def ask(request: CheckRequest, *budgets: Budget, enforcement: str = "enforce") -> Attempt:
    return an_attempt(request, a_config(*budgets, enforcement=enforcement))


def routes(attempt: Attempt) -> list[tuple[int, set[Budget]]]:
    asked = attempt.ask.routes or (RouteAsk(attempt.ask.amount_micro_usd, is_free=False, counters=tuple(range(9))),)
    budgets = [counter.budget for counter in attempt.counters]
    return [(each.amount_micro_usd, {budgets[i] for i in each.counters if i < len(budgets)}) for each in asked]


def decide(attempt: Attempt, bits: str, left: int = 10**9) -> Outcome:
    """Return the verdict when the counters answer so: a bit per route; each has as much left, all deny if one does."""
    allowed = tuple(bit == "1" for bit in bits)
    figures = tuple(
        CounterFigures(each.limit_micro_usd - left, 0, not all(allowed), each.limit_micro_usd)
        for each in attempt.ask.counters
    )
    return verdict(
        attempt,
        Decision(
            is_allowed=any(allowed),
            is_replay=False,
            expires_at_ms=0,
            amount_micro_usd=0,
            lapsed_holds=0,
            figures=figures,
            routes=allowed,
        ),
    )


def test_one_way_is_one_question_to_all_its_counters():
    attempt = ask(a_request(model="openai/small"), ALL, OPENAI, AZURE)
    assert attempt.ask.routes == ()
    assert {counter.budget for counter in attempt.counters} == {ALL, OPENAI}
    assert attempt.ask.amount_micro_usd == SMALL


def test_ways_nobody_can_choose_between_are_one_route_as_dear_as_the_dearest():
    recent = seen(smart=routes_to("openai/small", "openai/large"))
    attempt = an_attempt(a_request(), a_config(ALL, OPENAI), recent)
    assert (attempt.ask.routes, attempt.ask.amount_micro_usd) == ((), LARGE)


def test_ways_nobody_can_choose_between_are_decided_apart_where_they_count_apart():
    recent = seen(smart=routes_to("openai/small", "openai/large", "azure/small"))
    attempt = an_attempt(a_request(), a_config(ALL, OPENAI, AZURE), recent)
    assert routes(attempt) == [(LARGE, {ALL, OPENAI}), (AZURE_SMALL, {ALL, AZURE})]


def test_ways_the_caller_names_are_decided_each_by_its_own_amount():
    attempt = ask(a_request(routes=routes_to("openai/small", "openai/large")), ALL)
    assert routes(attempt) == [(SMALL, {ALL}), (LARGE, {ALL})]
    same = ask(a_request(routes=(Route(deployment="openai/small"), Route(served_model="openai/small"))), ALL)
    assert (same.ask.routes, len(same.plan.routes[0].candidates)) == ((), 2)


def test_the_amount_a_caller_gives_is_that_of_every_way():
    request = a_request(routes=routes_to("openai/small", "openai/large"), estimated_cost_usd=Decimal("0.5"))
    assert routes(ask(request, ALL)) == [(500_000, {ALL})]


def test_of_more_than_eight_routes_the_last_are_one_as_strict_as_all_of_them():
    names = [f"openai/d{number}" for number in range(12)]
    budgets = [a_limit({"deployment": name}) for name in names]
    request = a_request(routes=routes_to(*names[:8]), fallback_models=tuple(names[8:]))
    asked = routes(ask(request, ALL, *budgets))
    assert len(asked) == 8
    assert [each[1] - {ALL} for each in asked[:7]] == [{budget} for budget in budgets[:7]]
    assert asked[7][1] == {ALL, *budgets[7:]}


def test_a_free_way_is_free_and_a_merged_one_only_if_all_of_it_is():
    free, dear = ask(a_request(routes=routes_to("other/free", "openai/small")), ALL).ask.routes
    assert (free.is_free, dear.is_free) == (True, False)
    recent = seen(smart=routes_to("other/free", "openai/small"))
    assert an_attempt(a_request(), a_config(ALL), recent).ask.is_free is False
    assert an_attempt(a_request(model="other/free"), a_config(ALL)).ask.is_free is True


def test_unpriced_ways_are_not_asked_about_where_a_budget_refuses_them():
    strict = a_limit({}, on_unpriced="deny")
    attempt = ask(a_request(routes=routes_to("openai/unheard-of", "openai/small")), strict)
    assert routes(attempt) == [(SMALL, {strict})]
    assert attempt.ask.wants_hold
    nothing = ask(a_request(routes=routes_to("openai/unheard-of", "azure/unheard-of")), strict)
    assert (nothing.ask.routes, nothing.ask.wants_hold) == ((), False)
    shadow = ask(a_request(routes=routes_to("openai/unheard-of", "openai/small")), strict, enforcement="shadow")
    assert len(shadow.ask.routes) == 2


def test_a_tenant_that_checks_nothing_has_ways_and_no_counters():
    attempt = ask(a_request(routes=routes_to("openai/small", "azure/small")), ALL, enforcement="off")
    assert (attempt.counters, [each.counters for each in attempt.ask.routes]) == ([], [(), ()])


def test_the_estimate_is_that_of_the_dearest_allowed_way():
    attempt = ask(a_request(routes=routes_to("openai/small", "azure/small", "openai/large")), ALL, OPENAI, AZURE)
    outcome = decide(attempt, "110", left=5_000)
    assert isinstance(outcome, Allowed)
    assert outcome.explanation.appraisal.amount_micro_usd == AZURE_SMALL
    assert [route.is_allowed for route in outcome.explanation.routes] == [True, True, False]
    denied = decide(attempt, "000", left=500)
    assert isinstance(denied, Denied)
    assert denied.explanation.appraisal.amount_micro_usd == LARGE
    assert [route.amount_micro_usd for route in denied.closed] == [SMALL, AZURE_SMALL, LARGE]


def test_a_counter_denies_the_ways_that_are_too_dear_for_it_and_no_other():
    attempt = ask(a_request(routes=routes_to("openai/small", "openai/large")), ALL)
    outcome = decide(attempt, "10", left=5_000)
    assert [len(route.denied_by) for route in outcome.explanation.routes] == [0, 1]
    assert not outcome.explanation.standings[0].is_aside


def test_a_counter_only_closed_ways_go_through_stands_aside():
    attempt = ask(a_request(routes=routes_to("openai/small", "azure/small")), OPENAI, AZURE)
    outcome = decide(attempt, "10")
    aside = {standing.counter.budget: standing.is_aside for standing in outcome.explanation.standings}
    assert aside == {OPENAI: False, AZURE: True}


def test_affordable_is_what_every_allowed_way_affords_and_of_a_denied_call_what_some_way_does():
    request = a_request(routes=routes_to("openai/small", "openai/large"), input_tokens=0, max_output_tokens=10)
    attempt = ask(request, ALL)
    assert decide(attempt, "11", left=1_000).explanation.max_affordable_output_tokens == 100
    assert decide(attempt, "10", left=1_000).explanation.max_affordable_output_tokens == 1_000
    assert decide(attempt, "00", left=5).explanation.max_affordable_output_tokens == 5


def test_what_some_way_lacks_and_a_budget_wants_is_unresolved():
    each = a_limit({"served_model": "*"})
    router = (Route(deployment="azure_ai/model_router/prod", provider="azure_ai"), *routes_to("openai/small"))
    attempt = ask(a_request(routes=router, dimensions=Dimensions()), each, a_limit({"user": "*"}))
    assert decide(attempt, "11").explanation.unresolved == ["user", "served_model"]
