"""Whose a rate is, slot by slot: an override's only where it states it, else the deployment's, else the list's."""

from decimal import Decimal
from typing import Any

import pytest

from service.kit.money import format_amount
from service.pricing.rating_result import Line
from service.pricing.rules import NO_RULES, PricingRules
from service.pricing.usage import CustomRates, PricingBasis, Usage
from tests.unit.pricing.builders import book_of, rated, tokens
from tests.unit.pricing.rule_builders import an_override, rules_of

IN, OUT, READ = "input_cost_per_token", "output_cost_per_token", "cache_read_input_token_cost"
LONG, PRIORITY, BATCH = f"{IN}_above_200k_tokens", f"{IN}_priority", f"{IN}_batches"
LISTED = {IN: 2e-06, OUT: 8e-06, LONG: 4e-06, PRIORITY: 6e-06}
DEAL = rules_of(an_override({IN: "0.000001"}, name="deal"))
CONTRACT = CustomRates(input_per_token=Decimal("0.0000012"))
THEIRS, CONFIGURED = "override deal", "rate configured on the deployment"


def lines(
    entry: dict[str, Any],
    usage: Usage,
    rules: PricingRules = DEAL,
    *,
    custom: CustomRates | None = None,
    provider: str = "openai",
    **basis: Any,
) -> dict[str, Line]:
    """The lines of a call of a model with this entry, by name."""
    book = book_of({"m": {"litellm_provider": provider, **entry}})
    rating = rated("m", usage, PricingBasis(custom_rates=custom, **basis), book=book, rules=rules)
    return {line.name: line for line in rating.components}


def told(line: Line) -> tuple[str, str | None]:
    return format_amount(line.rate), line.note


@pytest.mark.parametrize(
    ("input_tokens", "basis", "rate"),
    [
        (10, {}, "0.000001"),
        (10, {"service_tier": "priority"}, "0.000006"),
        (300_000, {}, "0.000004"),
        (300_000, {"service_tier": "priority"}, "0.000004"),
    ],
    ids=["base", "tier", "long", "long-and-tier"],
)
def test_a_rate_of_the_list_is_never_told_as_an_overrides(input_tokens: int, basis: dict[str, Any], rate: str):
    line = lines(LISTED, tokens(input_tokens), **basis)["text_input"]
    assert format_amount(line.rate) == rate
    assert ("override" in (line.note or "")) == (rate == "0.000001")


@pytest.mark.parametrize(
    ("input_tokens", "basis"),
    [(300_000, {}), (10, {"service_tier": "priority"}), (300_000, {"service_tier": "priority"})],
    ids=["long", "tier", "long-and-tier"],
)
def test_the_deployments_rate_comes_before_a_listed_one_beside_the_overridden(input_tokens: int, basis: dict[str, Any]):
    without = lines(LISTED, tokens(input_tokens), NO_RULES, custom=CONTRACT, **basis)
    assert lines(LISTED, tokens(input_tokens), custom=CONTRACT, **basis) == without
    assert told(without["text_input"]) == ("0.0000012", CONFIGURED)


def test_an_overridden_rate_of_long_prompts_is_theirs_and_the_base_rate_is_not():
    rules = rules_of(an_override({LONG: "0.000003"}, name="deal"))
    assert told(lines(LISTED, tokens(300_000), rules, custom=CONTRACT)["text_input"]) == ("0.000003", THEIRS)
    assert told(lines(LISTED, tokens(10), rules, custom=CONTRACT)["text_input"]) == ("0.0000012", CONFIGURED)


def test_a_factor_that_finds_no_rate_makes_none_theirs():
    rules = rules_of(an_override({READ: "x0.5", OUT: "x0.5"}, name="deal"))
    entry = {IN: 2e-06, OUT: 8e-06, f"{IN}_cache_hit": 1e-06}
    made = lines(entry, tokens(20, 10, cache_read_input_tokens=10), rules)
    assert told(made["cache_read"]) == ("0.000001", None)
    assert told(made["text_output"]) == ("0.000004", THEIRS)


@pytest.mark.parametrize("custom", [None, CONTRACT], ids=["listed", "configured"])
def test_what_stands_in_for_a_rate_is_the_overrides_with_it(custom: CustomRates | None):
    entry = {IN: 2e-06, OUT: 8e-06}
    read = lines(entry, tokens(10, cache_read_input_tokens=10), custom=custom)["cache_read"]
    assert told(read) == ("0.000001", f"no cache_read rate: text_input rate; {THEIRS}")
    batch = lines(entry, tokens(10), custom=custom, is_batch=True)["text_input"]
    assert told(batch) == ("0.0000005", f"{THEIRS}; no batch rate: half the standard rate")
    tier = lines(entry, tokens(10), custom=custom, service_tier="flex")["text_input"]
    assert told(tier) == ("0.000001", f"{THEIRS}; no rate of this service tier: standard rate")
    half = lines(entry, tokens(10, cache_read_input_tokens=10), custom=custom, provider="fireworks_ai")["cache_read"]
    assert told(half) == ("0.0000005", f"no cache_read rate: half the text_input rate; {THEIRS}")


def test_a_listed_batch_rate_is_not_the_overrides():
    assert told(lines({**LISTED, BATCH: 1.5e-06}, tokens(10), is_batch=True)["text_input"]) == ("0.0000015", None)


def test_what_the_deployment_states_for_a_kind_comes_before_what_stands_in_for_it():
    custom = CustomRates(input_per_token=Decimal("0.0000012"), cache_read_per_token=Decimal("0.0000001"))
    made = lines({IN: 2e-06, OUT: 8e-06}, tokens(20, cache_read_input_tokens=10), custom=custom)
    assert told(made["text_input"]) == ("0.000001", THEIRS)
    assert told(made["cache_read"]) == ("0.0000001", CONFIGURED)


@pytest.mark.parametrize(
    ("key", "input_tokens", "basis"),
    [(LONG, 300_000, {}), (PRIORITY, 10, {"service_tier": "priority"})],
    ids=["long", "tier"],
)
def test_what_the_deployment_states_for_such_calls_comes_before_an_overridden_base_rate(
    key: str, input_tokens: int, basis: dict[str, Any]
):
    custom = CustomRates(has_other_rates=True, others=((IN, Decimal("0.0000012")), (key, Decimal("0.0000009"))))
    made = lines({IN: 2e-06, OUT: 8e-06}, tokens(input_tokens), custom=custom, **basis)
    assert told(made["text_input"]) == ("0.0000009", CONFIGURED)
    assert told(lines({IN: 2e-06, OUT: 8e-06}, tokens(10), custom=custom)["text_input"]) == ("0.000001", THEIRS)


def test_an_overridden_rate_the_deployment_has_none_for_is_charged():
    custom = CustomRates(output_per_token=Decimal("0.000009"))
    assert told(lines(LISTED, tokens(10), custom=custom)["text_input"]) == ("0.000001", THEIRS)


def test_an_override_prices_content_the_deployment_has_no_rate_for():
    entry = {"mode": "image_generation", "output_cost_per_image": 0.04}
    rules = rules_of(an_override({"output_cost_per_image": "0.02"}, name="deal"))
    usage = Usage(units=(("output_images", Decimal(1)),))
    custom = CustomRates(has_other_rates=True, others=(("output_cost_per_image_1024", Decimal("0.03")),))
    assert told(lines(entry, usage, rules, custom=custom)["output_images"]) == ("0.02", THEIRS)
    assert told(lines(entry, usage, rules, custom=custom, image_size="1024x1024")["output_images"])[0] == "0.03"


def test_of_a_price_table_only_rows_with_the_rate_are_theirs():
    rows = [{"range": [0, 100], IN: 1e-06, OUT: 4e-06}, {"range": [100, 1000], IN: 2e-06, OUT: 8e-06, READ: 1e-06}]
    for order in (rows, rows[::-1]):
        entry = {"tiered_pricing": order}
        halved = rules_of(an_override({READ: "x0.5"}, name="deal"))
        few, many = (tokens(count, cache_read_input_tokens=10) for count in (50, 500))
        assert told(lines(entry, few, halved)["cache_read"]) == ("0.000001", "no cache_read rate: text_input rate")
        assert told(lines(entry, many, halved)["cache_read"]) == ("0.0000005", THEIRS)
        assert told(lines(entry, many, halved)["text_input"]) == ("0.000002", None)
        assert told(lines(entry, many)["text_input"]) == ("0.000001", THEIRS)


def test_off_peak_only_rates_of_that_name_are_theirs():
    windows = {"windows": [{"hours_utc": "00:00-12:00"}]}
    usage = tokens(20, 10, cache_read_input_tokens=10)
    entry = {IN: 2e-06, OUT: 8e-06, READ: 1e-06, "off_peak_pricing": {**windows, IN: 5e-07, f"{IN}_cache_hit": 2e-07}}
    rules = rules_of(an_override({IN: "x0.5", OUT: "x0.5", READ: "x0.5"}, name="deal"))
    made = lines(entry, usage, rules)
    assert told(made["text_input"]) == ("0.00000025", f"{THEIRS}; off-peak")
    assert told(made["text_output"]) == ("0.000004", f"{THEIRS}; off-peak")
    assert told(made["cache_read"]) == ("0.0000002", "off-peak")


def test_of_units_too_only_the_rate_an_override_states_is_theirs():
    entry = {"mode": "ocr", "ocr_cost_per_page": 0.02, "ocr_cost_per_page_batches": 0.015}
    rules = rules_of(an_override({"ocr_cost_per_page": "0.01"}, name="deal"))
    usage = Usage(units=(("pages", Decimal(1)), ("annotated_pages", Decimal(1))))
    custom = CustomRates(has_other_rates=True, others=(("ocr_cost_per_page", Decimal("0.012")),))
    assert told(lines(entry, usage, rules)["pages"]) == ("0.01", THEIRS)
    assert told(lines(entry, usage, rules)["annotated_pages"])[1] == f"no annotated_pages rate: pages rate; {THEIRS}"
    assert told(lines(entry, usage, rules, is_batch=True)["pages"]) == ("0.015", None)
    assert told(lines(entry, usage, rules, custom=custom, is_batch=True)["pages"]) == ("0.012", CONFIGURED)


def test_a_deployments_annotated_pages_come_before_overridden_pages():
    entry = {"mode": "ocr", "ocr_cost_per_page": 0.02}
    rules = rules_of(an_override({"ocr_cost_per_page": "0.01"}, name="deal"))
    others = (("annotation_cost_per_page", Decimal("0.003")), ("ocr_cost_per_page", Decimal("0.012")))
    custom = CustomRates(has_other_rates=True, others=others)
    made = lines(entry, Usage(units=(("pages", Decimal(1)), ("annotated_pages", Decimal(1)))), rules, custom=custom)
    assert told(made["pages"]) == ("0.01", THEIRS)
    assert told(made["annotated_pages"]) == ("0.003", CONFIGURED)


def test_a_second_is_theirs_only_if_the_rate_it_is_made_of_is():
    entry = {"mode": "audio_transcription", "input_cost_per_second": 0.1, "output_cost_per_second": 0.2}
    usage = Usage(units=(("input_audio_seconds", Decimal(1)),))
    for key, expected in (("output_cost_per_second", ("0.1", None)), ("input_cost_per_second", ("0.05", THEIRS))):
        rules = rules_of(an_override({key: "0.05"}, name="deal"))
        assert told(lines(entry, usage, rules)["input_audio_seconds"]) == expected


def test_queries_by_their_results_are_theirs():
    rows = [{"max_results_range": [0, limit], "input_cost_per_query": limit / 1000} for limit in (25, 50)]
    rules = rules_of(an_override({"input_cost_per_query": "0.5"}, name="deal"))
    line = lines({"mode": "search", "tiered_pricing": rows}, Usage(units=(("queries", Decimal(1)),)), rules)["queries"]
    assert told(line) == ("0.5", f"{THEIRS}; up to 25 results")


def test_of_a_structured_rate_only_the_parts_an_override_states_are_theirs():
    name = "search_context_cost_per_query"
    entry = {IN: 2e-06, name: {"search_context_size_low": 0.01, "search_context_size_medium": 0.02}}
    rules = rules_of(an_override({f"{name}.search_context_size_low": "x0.5"}, name="deal"))
    usage = Usage(input_tokens=1, units=(("web_searches", Decimal(1)),))
    low = lines(entry, usage, rules, search_context_size="low")["web_searches"]
    assert told(low) == ("0.005", f"{THEIRS}; low search context")
    assert told(lines(entry, usage, rules)["web_searches"]) == ("0.02", "medium search context")
