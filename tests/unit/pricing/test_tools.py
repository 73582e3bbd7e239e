"""What the tools of a call cost beside its tokens: searches, queries, sessions, by their own and by shared lists."""

from decimal import Decimal
from typing import Any

import pytest

from service.pricing.rating_result import Rating
from service.pricing.usage import PricingBasis, Usage
from tests.unit.pricing.builders import SEARCH, a_model, amounts, book_of, lines, notes, rated, reported, used

M = 1_000_000


def cost(entry: dict[str, Any], usage: Usage, basis: PricingBasis | None = None, **options: Any) -> Rating:
    return rated("m", usage, basis, book=book_of({"m": entry}), **options)


@pytest.mark.parametrize("tool", ["web_searches", "maps_queries", "code_sessions", "file_searches", "moon_landings"])
def test_a_tool_without_a_rate_is_never_left_out(tool: str):
    rating = cost({"input_cost_per_token": 1e-6}, used(M, **{tool: 1}))
    assert (rating.price_state, rating.reason) == ("unpriced", f"no_rate:{tool}")


def test_tools_are_charged_beside_the_tokens():
    entry = {
        "input_cost_per_token": 1e-6,
        "search_context_cost_per_query": {"search_context_size_medium": 0.01},
        "google_maps_grounding_cost_per_query": 0.02,
    }
    rating = cost(entry, used(M, web_searches=3, maps_queries=2), cost=reported("5", tool_usage_usd="0.07"))
    assert lines(rating) == {
        "text_input": ("1000000", "token", "1"),
        "web_searches": ("3", "search", "0.03"),
        "maps_queries": ("2", "query", "0.04"),
    }


def test_a_tool_that_was_paid_for_and_not_counted_is_not_forgotten():
    entry = {"input_cost_per_token": 1e-6, "citation_cost_per_token": 1e-6}
    rating = cost(entry, used(M, citation_tokens=1), cost=reported("1.5", tool_usage_usd="0.5"))
    assert (rating.price_state, rating.reason) == ("reported", "unmeasured:tools")


@pytest.mark.parametrize(
    ("size", "rate", "note"),
    [
        (None, "0.02", "medium search context"),
        ("low", "0.01", "low search context"),
        ("High", "0.03", "high search context"),
        ("vast", "0.02", "medium search context"),
    ],
)
def test_a_search_is_priced_by_its_context(size: str | None, rate: str, note: str):
    entry = {"input_cost_per_token": 1e-6, "search_context_cost_per_query": SEARCH}
    rating = cost(entry, used(M, web_searches=2), PricingBasis(search_context_size=size))
    assert amounts(rating)["web_searches"] == 2 * Decimal(rate)
    assert notes(rating)["web_searches"] == note


@pytest.mark.parametrize(
    ("provider", "billing", "charged"),
    [
        ("gemini", {}, 1),
        ("vertex_ai-language-models", {"web_search_billing_unit": "per_request"}, 1),
        ("vertex_ai", {"web_search_billing_unit": "per_query"}, 3),
        ("vertex_ai-anthropic_models", {}, 3),
        ("openai", {}, 3),
        ("perplexity", {}, 1),
    ],
)
def test_who_bills_a_search_and_who_a_request_that_searched(provider: str, billing: dict[str, str], charged: int):
    entry = {"input_cost_per_token": 1e-6, "search_context_cost_per_query": SEARCH, "litellm_provider": provider}
    rating = cost(entry | billing, used(M, web_searches=3), PricingBasis(search_context_size="low"))
    assert amounts(rating)["web_searches"] == charged * Decimal("0.01")
    assert lines(rating)["web_searches"][1] == ("search" if charged == 3 else "request")


def test_a_search_whose_context_makes_no_difference_is_billed_by_the_query():
    entry = {"search_context_cost_per_query": dict.fromkeys(SEARCH, 0.005), "litellm_provider": "perplexity"}
    assert amounts(cost(entry, used(web_searches=3)))["web_searches"] == Decimal("0.015")


def test_a_free_allowance_is_told_and_not_taken():
    entry = {
        "input_cost_per_token": 1e-6,
        "search_context_cost_per_query": SEARCH,
        "search_free_requests": {"count": 1500, "period": "day", "shared_group": "g"},
        "google_maps_grounding_cost_per_query": 0.02,
    }
    rating = cost(entry, used(M, web_searches=1, maps_queries=1))
    assert notes(rating)["web_searches"] == "medium search context; without the free allowance of 1500 per day"
    assert notes(rating)["maps_queries"] is None
    assert amounts(rating)["web_searches"] == Decimal("0.02")


@pytest.mark.parametrize(
    ("results", "rate"), [(None, "0.005"), (1, "0.005"), (25, "0.005"), (26, "0.025"), (999, "0.025")]
)
def test_a_search_is_priced_by_how_many_results_it_may_return(results: int | None, rate: str):
    rows = [
        {"max_results_range": [26, 100], "input_cost_per_query": 0.025},
        {"max_results_range": [0, 25], "input_cost_per_query": 0.005},
    ]
    rating = cost({"tiered_pricing": rows, "mode": "search"}, used(queries=2), PricingBasis(max_results=results))
    assert amounts(rating) == {"queries": 2 * Decimal(rate)}
    assert notes(rating)["queries"] == f"up to {25 if rate == '0.005' else 100} results"


def test_tools_priced_apart_from_models_are_found_by_the_provider():
    for provider, session in (("openai", "0.03"), ("azure", "0.033"), ("azure_ai", "0.033")):
        rating = rated(a_model("gpt-4.1", provider=provider), used(1000, 0, code_sessions=2), PricingBasis())
        line = rating.components[-1]
        assert line.amount_usd == 2 * Decimal(session)
        assert line.price_key == f"{'azure' if provider == 'azure_ai' else provider}/container"
    assert rating.price_key == "gpt-4.1"
    nobody = rated(a_model("gpt-4.1"), used(1000, 0, code_sessions=2), PricingBasis())
    assert nobody.reason == "no_rate:code_sessions"


def test_a_models_own_price_of_a_tool_comes_before_the_providers():
    book = book_of(
        {
            "m": {"input_cost_per_token": 1e-6, "code_interpreter_cost_per_session": 1},
            "openai/container": {"code_interpreter_cost_per_session": 2},
            "cohere/container": {"mode": "chat"},
        }
    )
    assert rated(a_model("m", provider="openai"), used(M, code_sessions=1), book=book).cost_usd == 2
    bare = rated(
        a_model("m", provider="cohere"), used(code_sessions=1), book=book_of({"m": {"input_cost_per_query": 1}})
    )
    assert bare.reason == "no_rate:code_sessions"


def test_every_file_search_is_charged_by_the_providers_list():
    rating = rated(a_model("gpt-4.1", provider="openai"), used(M, file_searches=3))
    assert amounts(rating)["file_searches"] == Decimal("0.0075")
    assert notes(rating)["file_searches"] == "the provider's list price, in no price book"
    assert rating.components[-1].price_key is None
    azure = rated(a_model("azure/gpt-4.1", provider="azure"), used(M, file_searches=3))
    assert amounts(azure)["file_searches"] == Decimal("0.0075")
    assert rated(a_model("claude-sonnet-4-5", provider="anthropic"), used(M, file_searches=3)).price_state == "unpriced"
