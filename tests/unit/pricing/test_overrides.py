"""Overrides: what comes out is the price of a map written that way, and says whose rates it holds."""

from decimal import Decimal
from typing import Any

import pytest

from service.pricing import overrides as overrides_module
from service.pricing import units
from service.pricing.overrides import Overridden, find_overridden
from service.pricing.price_book import FoundPrice, PriceBook
from service.pricing.rules import PriceRule, RatedCall
from service.pricing.usage import PricingBasis
from tests.unit.pricing.builders import WEDNESDAY_AT_8, book_of
from tests.unit.pricing.rule_builders import NOON, a_call, an_override, rules_of

FLAT = {
    "litellm_provider": "openai",
    "mode": "chat",
    "max_output_tokens": 100,
    "input_cost_per_token": 1e-06,
    "output_cost_per_token": 4e-06,
    "cache_read_input_token_cost": 1e-07,
}
IN, OUT, READ = "input_cost_per_token", "output_cost_per_token", "cache_read_input_token_cost"


def overridden(
    entry: dict[str, Any], *rules: PriceRule, call: RatedCall | None = None, rule: str = ""
) -> Overridden | None:
    """The price of a call of the model `m`, which has this entry."""
    book = book_of({"m": entry, "other": FLAT})
    price = book.find("m")
    assert price is not None
    return find_overridden(rules_of(*rules), call or a_call("m"), FoundPrice(price, rule), book)


def rates(found: Overridden | None, input_tokens: int = 10, **basis: Any) -> dict[str, Decimal]:
    """The rates a call is charged by, by kind."""
    assert found is not None
    chosen = found.found.price.rates_for(input_tokens, PricingBasis(**basis), WEDNESDAY_AT_8, found.found.rule)
    return {kind: rate.usd for kind, rate in chosen.items()}


def map_rates(entry: dict[str, Any], input_tokens: int = 10, **basis: Any) -> dict[str, Decimal]:
    """The same by a map with this entry."""
    price = book_of({"m": entry}).find("m")
    assert price is not None
    chosen = price.rates_for(input_tokens, PricingBasis(**basis), WEDNESDAY_AT_8, "")
    return {kind: rate.usd for kind, rate in chosen.items()}


def test_a_stated_rate_replaces_the_listed_one_and_no_other():
    assert rates(overridden(FLAT, an_override({IN: "0.000002"}))) == map_rates({**FLAT, IN: 2e-06})


def test_a_factor_is_of_the_listed_rate():
    assert rates(overridden(FLAT, an_override({IN: "x0.9", READ: "x0"}))) == map_rates({**FLAT, IN: 9e-07, READ: 0})


def test_a_factor_of_a_rate_that_is_not_listed_changes_nothing():
    assert overridden(FLAT, an_override({"output_cost_per_reasoning_token": "x2"})) is None
    found = overridden(FLAT, an_override({"output_cost_per_reasoning_token": "x2", IN: "x2"}))
    assert rates(found) == map_rates({**FLAT, IN: 2e-06})
    assert found is not None
    assert found.keys == {IN}


def test_a_rate_the_list_does_not_state_is_added():
    found = overridden(FLAT, an_override({"output_cost_per_reasoning_token": "0.000009"}))
    assert rates(found) == map_rates({**FLAT, "output_cost_per_reasoning_token": 9e-06})


def test_tiers_of_context_and_of_service_have_rates_of_their_own():
    entry = {**FLAT, "input_cost_per_token_above_200k_tokens": 2e-06, "input_cost_per_token_flex": 5e-07}
    rule = an_override({IN: "0.000003", "input_cost_per_token_above_200k_tokens": "0.000007"})
    changed = {**entry, IN: 3e-06, "input_cost_per_token_above_200k_tokens": 7e-06}
    for tokens, tier in ((10, None), (300_000, None), (10, "flex"), (300_000, "flex")):
        assert rates(overridden(entry, rule), tokens, service_tier=tier) == map_rates(
            changed, tokens, service_tier=tier
        )


def test_a_rate_holds_in_every_row_of_a_price_table():
    rows = [
        {"range": [0, 100], IN: 1e-06, OUT: 4e-06},
        {"range": [100, 1000], IN: 2e-06, OUT: 8e-06},
        {"max_results_range": [0, 25], "input_cost_per_query": 1e-03},
    ]
    entry = {"litellm_provider": "x", "mode": "chat", "tiered_pricing": rows}
    found = overridden(entry, an_override({IN: "0.000005", OUT: "x0.5", READ: "0.000001"}))
    changed = [{**row, IN: 5e-06, OUT: row[OUT] / 2, READ: 1e-06} for row in rows[:2]]
    for tokens in (50, 500):
        assert rates(found, tokens) == map_rates({**entry, "tiered_pricing": [*changed, rows[2]]}, tokens)


def test_a_rate_holds_off_peak_where_the_list_has_another_one_then():
    off_peak = {"windows": [{"hours_utc": "00:00-12:00"}], IN: 5e-07}
    entry = {**FLAT, "off_peak_pricing": off_peak}
    found = overridden(entry, an_override({IN: "0.000002", OUT: "0.000003"}))
    assert rates(found) == map_rates({**FLAT, IN: 2e-06, OUT: 3e-06})
    halved = overridden(entry, an_override({IN: "x0.5"}))
    assert rates(halved) == map_rates({**FLAT, IN: 2.5e-07})


def test_a_rate_of_a_tier_is_no_off_peak_rate():
    entry = {**FLAT, "off_peak_pricing": {"windows": [{"hours_utc": "00:00-12:00"}], IN: 5e-07}}
    found = overridden(entry, an_override({"input_cost_per_token_flex": "0.000009"}))
    assert rates(found)["text_input"] == Decimal("0.0000005")
    assert rates(found, service_tier="flex")["text_input"] == Decimal("0.000009")


def test_a_part_of_a_structured_rate_leaves_the_others():
    name = "search_context_cost_per_query"
    sizes = {"search_context_size_low": 0.01, "search_context_size_medium": 0.02, "search_context_size_high": 0.03}
    entry = {**FLAT, name: sizes}
    rule = an_override({f"{name}.search_context_size_low": "0.005", f"{name}.search_context_size_high": "x0.5"})
    changed = {**sizes, "search_context_size_low": 0.005, "search_context_size_high": 0.015}
    assert rates(overridden(entry, rule)) == map_rates({**entry, name: changed})
    assert rates(overridden(FLAT, rule)) == map_rates({**FLAT, name: {"search_context_size_low": 0.005}})


def test_rates_of_other_units_are_overridden_alike():
    entry = {"litellm_provider": "openai", "mode": "image_generation", "output_cost_per_image": 0.04}
    found = overridden(entry, an_override({"output_cost_per_image": "x0.5"}))
    assert rates(found)[units.OUTPUT_IMAGES] == Decimal("0.02")


def test_with_replace_nothing_of_the_list_stays():
    entry = {**FLAT, "regional_endpoint_uplift_multiplier": 1.1, "tiered_pricing": [{"range": [0, 9], IN: 1}]}
    found = overridden(entry, an_override({OUT: "0.000001"}, replace=True))
    assert found is not None
    assert rates(found) == map_rates({"mode": "chat", OUT: 1e-06})
    assert found.found.price.entry.multipliers == {}
    assert found.found.price.entry.provider == "openai"
    assert found.found.price.entry.max_output_tokens == 100


def test_of_several_the_most_specific_one_states_a_rate():
    general = an_override({IN: "0.000002", OUT: "0.000003"}, name="general")
    special = an_override({IN: "0.000005"}, {"team": "core"}, name="special")
    found = overridden(FLAT, special, general, call=a_call("m", team="core"))
    assert rates(found) == map_rates({**FLAT, IN: 5e-06, OUT: 3e-06})
    assert found is not None
    assert set(found.names) == {"special", "general"}
    assert found.keys == {IN, OUT}


def test_of_equally_specific_ones_the_newer_states_a_rate():
    older, newer = an_override({IN: "0.000002"}, number=1, name="older"), an_override({IN: "0.000003"}, number=2)
    found = overridden(FLAT, newer, older)
    assert rates(found)["text_input"] == Decimal("0.000003")
    assert found is not None
    assert found.names == ("a rule",)


def test_factors_of_several_rules_are_never_multiplied():
    rules = [an_override({IN: "x0.5"}), an_override({IN: "x0.5"}, {"team": "core"})]
    assert rates(overridden(FLAT, *rules, call=a_call("m", team="core")))["text_input"] == Decimal("0.0000005")


def test_what_is_more_specific_than_a_replacement_changes_the_replacement():
    rules = [
        an_override({IN: "0.5"}, name="hidden"),
        an_override({IN: "0.000002", OUT: "0.000008"}, {"provider": "openai"}, replace=True, name="contract"),
        an_override({OUT: "x0.5", READ: "x0.5"}, {"provider": "openai", "team": "core"}, name="team"),
    ]
    found = overridden(FLAT, *rules, call=a_call("m", team="core"))
    assert rates(found) == map_rates({"mode": "chat", IN: 2e-06, OUT: 4e-06})
    assert found is not None
    assert found.names == ("contract", "team")
    assert found.keys == {IN, OUT}


def test_the_most_specific_of_several_replacements_is_the_price():
    rules = [
        an_override({IN: "0.000002"}, replace=True),
        an_override({OUT: "0.000003"}, {"team": "core"}, replace=True),
    ]
    assert rates(overridden(FLAT, *rules, call=a_call("m", team="core"))) == map_rates({"mode": "chat", OUT: 3e-06})


def price_then_factor(match: dict[str, Any], *, is_factor_newer: bool, **rest: Any) -> tuple[PriceRule, PriceRule]:
    """A price by model and factors by team, either of them the more specific one."""
    prices = an_override({IN: "0.000002", OUT: "0.000003"}, match, name="prices", number=7)
    factors = {IN: "x0.5", OUT: "x0.5"} | rest
    return prices, an_override(factors, {"team": "core"}, name="factors", number=8 if is_factor_newer else 6)


@pytest.mark.parametrize("is_factor_newer", [True, False])
def test_a_factor_without_a_listed_rate_takes_no_price_away(*, is_factor_newer: bool):
    rules = price_then_factor({"model": "own/model"}, is_factor_newer=is_factor_newer)
    found = unlisted(*rules, call=a_call("own/model", team="core"))
    assert set(rates(found).values()) == {Decimal("0.000002"), Decimal("0.000003")}
    assert found is not None
    assert (found.keys, found.names) == ({IN, OUT}, ("prices",))


@pytest.mark.parametrize("is_factor_newer", [True, False])
def test_of_a_listed_rate_the_more_specific_one_of_price_and_factor_holds(*, is_factor_newer: bool):
    rules = price_then_factor({"model": "m"}, is_factor_newer=is_factor_newer)
    found = overridden(FLAT, *rules, call=a_call("m", team="core"))
    expected = {IN: 5e-07, OUT: 2e-06} if is_factor_newer else {IN: 2e-06, OUT: 3e-06}
    assert rates(found) == map_rates({**FLAT, **expected})
    assert found is not None
    assert found.names == (("factors",) if is_factor_newer else ("prices",))


def test_each_rate_is_decided_for_itself():
    entry = {"litellm_provider": "openai", "mode": "chat", IN: 1e-06}
    found = overridden(entry, *price_then_factor({"model": "m"}, is_factor_newer=True), call=a_call("m", team="core"))
    assert rates(found) == map_rates({**entry, IN: 5e-07, OUT: 3e-06})
    assert found is not None
    assert set(found.names) == {"factors", "prices"}


def test_of_several_prices_a_factor_stands_back_for_the_most_specific_one():
    rules = [
        an_override({IN: "0.000001"}, name="general"),
        an_override({IN: "0.000002"}, {"provider": "openai"}, name="special"),
        an_override({IN: "x0.5"}, {"provider": "openai", "team": "core"}),
        an_override({IN: "x0.1"}, {"provider": "openai", "team": "core", "user": None}),
    ]
    found = unlisted(*rules, call=a_call("own/model", team="core"))
    assert rates(found)["text_input"] == Decimal("0.000002")
    assert found is not None
    assert found.names == ("special",)


def test_a_factor_and_a_price_are_decided_in_each_row_of_a_price_table():
    rows = [{"range": [0, 100], IN: 1e-06, OUT: 4e-06}, {"range": [100, 1000], IN: 2e-06, OUT: 8e-06}]
    entry = {"litellm_provider": "x", "mode": "chat", "tiered_pricing": rows}
    prices = an_override({IN: "0.000005", READ: "0.000001"}, name="prices")
    factors = an_override({IN: "x0.5", READ: "x0.5"}, {"team": "core"}, name="factors")
    found = overridden(entry, prices, factors, call=a_call("m", team="core"))
    changed = [{**row, IN: row[IN] / 2, READ: 1e-06} for row in rows]
    for tokens in (50, 500):
        assert rates(found, tokens) == map_rates({**entry, "tiered_pricing": changed}, tokens)


def test_a_factor_and_a_price_are_decided_off_peak_by_what_is_listed_then():
    off_peak = {"windows": [{"hours_utc": "00:00-12:00"}], IN: 5e-07}
    entry = {"litellm_provider": "openai", "mode": "chat", "off_peak_pricing": off_peak}
    prices = an_override({IN: "0.000005", OUT: "0.000009"}, name="prices")
    factors = an_override({IN: "x0.5", OUT: "x0.5"}, {"team": "core"}, name="factors")
    found = overridden(entry, prices, factors, call=a_call("m", team="core"))
    changed = {**entry, IN: 5e-06, OUT: 9e-06, "off_peak_pricing": {**off_peak, IN: 2.5e-07}}
    assert rates(found) == map_rates(changed)


def test_a_factor_and_a_price_are_decided_for_each_part_of_a_structured_rate():
    name = "search_context_cost_per_query"
    low, high = f"{name}.search_context_size_low", f"{name}.search_context_size_high"
    entry = {**FLAT, name: {"search_context_size_low": 0.01}}
    prices = an_override({low: "0.5", high: "0.7"}, name="prices")
    factors = an_override({low: "x0.5", high: "x0.5"}, {"team": "core"}, name="factors")
    found = overridden(entry, prices, factors, call=a_call("m", team="core"))
    changed = {"search_context_size_low": 0.005, "search_context_size_high": 0.7}
    assert rates(found) == map_rates({**entry, name: changed})


def test_lines_say_whose_rate_it_is():
    found = overridden(FLAT, an_override({IN: "0.000002"}, name="contract"), rule="alias")
    assert found is not None
    chosen = found.found.price.rates_for(10, PricingBasis(), None, found.found.rule)
    assert chosen["text_input"].note == "override contract; price found by alias"
    assert chosen["text_output"].note == "price found by alias"
    assert chosen["text_input"].price_key == "m"


def test_without_an_override_that_applies_the_price_stays():
    assert overridden(FLAT) is None
    assert overridden(FLAT, an_override({IN: "1"}, {"team": "core"})) is None
    assert overridden(FLAT, an_override({IN: "1"}, start=NOON, end=None), call=a_call("m", occurred_at=None)) is None


@pytest.mark.parametrize("match", [{"mode": "chat"}, {"price_key": "m"}, {"model": "m*"}, {"model": "served"}])
def test_an_override_is_found_by_what_the_price_is(match: dict[str, Any]):
    assert overridden(FLAT, an_override({IN: "1"}, match), call=a_call("served")) is not None


# Models the book does not know.


def unlisted(*rules: PriceRule, call: RatedCall | None = None, book: PriceBook | None = None) -> Overridden | None:
    return find_overridden(rules_of(*rules), call or a_call("own/model"), None, book or book_of({"m": FLAT}))


def test_a_model_the_book_does_not_know_is_priced_by_stated_rates():
    found = unlisted(an_override({IN: "0.000001", OUT: "x2"}, {"model": "own/*"}, name="own"))
    assert rates(found) == {kind: Decimal("0.000001") for kind in rates(found)}
    assert found is not None
    assert (found.found.price.key, found.found.rule) == ("own/model", "")
    assert found.found.price.entry.provider == "openai"


def test_a_replacement_prices_a_model_the_book_does_not_know():
    assert rates(unlisted(an_override({IN: "0.000001"}, replace=True)))["text_input"] == Decimal("0.000001")


def test_factors_alone_price_nothing():
    assert unlisted(an_override({IN: "x0.5"})) is None
    assert unlisted(an_override({IN: "x0.5"}), an_override({OUT: "1"})) is not None


def test_a_model_without_any_name_has_no_price():
    assert unlisted(an_override({IN: "1"}), call=a_call(None)) is None


def test_without_candidates_the_served_name_is_the_key():
    found = unlisted(an_override({IN: "1"}), call=a_call("served", candidates=()))
    assert found is not None
    assert found.found.price.key == "served"
    first = unlisted(an_override({IN: "1"}), call=a_call("served", candidates=("a", "b")))
    assert first is not None
    assert first.found.price.key == "a"


def test_a_provider_that_is_not_known_is_none():
    found = unlisted(an_override({IN: "1"}), call=a_call("x", provider=None))
    assert found is not None
    assert found.found.price.entry.provider == ""


# What is compiled is kept.


def test_a_price_is_compiled_once_per_book_model_and_set_of_rules():
    rules = rules_of(an_override({IN: "x2"}, {"team": "core"}), an_override({OUT: "x2"}))
    book, dearer = book_of({"m": FLAT}), book_of({"m": {**FLAT, IN: 3e-06}})

    def price(book: PriceBook, **who: Any) -> Any:
        listed = book.find("m")
        assert listed is not None
        found = find_overridden(rules, a_call("m", **who), FoundPrice(listed, ""), book)
        assert found is not None
        return found.found.price

    assert price(book, user="a") is price(book, user="b")
    assert price(book, team="core") is not price(book)
    assert price(dearer) is not price(book)
    assert len(rules.compiled) == 3


def test_the_same_name_is_not_mixed_up_by_where_it_comes_from():
    rules = rules_of(an_override({IN: "0.000007"}))
    book = book_of({"m": FLAT})
    listed = book.find("m")
    assert listed is not None
    known = find_overridden(rules, a_call("m"), FoundPrice(listed, ""), book)
    unknown = find_overridden(rules, a_call("m", provider=None), None, book)
    other = find_overridden(rules, a_call("m", provider="xai"), None, book)
    assert known is not None
    assert unknown is not None
    assert other is not None
    assert [found.found.price.entry.provider for found in (known, unknown, other)] == ["openai", "", "xai"]


def test_of_a_listed_model_the_provider_of_the_call_makes_no_other_price():
    rules, book = rules_of(an_override({IN: "0.000007"})), book_of({"m": FLAT})
    listed = book.find("m")
    assert listed is not None
    for provider in ("openai", "azure"):
        assert find_overridden(rules, a_call("m", provider=provider), FoundPrice(listed, ""), book) is not None
    assert len(rules.compiled) == 1


def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(overrides_module, "_MAX_COMPILED", 2)
    rules, book = rules_of(an_override({IN: "1"})), book_of({"m": FLAT})
    for number in range(7):
        assert find_overridden(rules, a_call(f"x{number}"), None, book) is not None
        assert len(rules.compiled) <= 2
