"""The dearest usage a call can come to: what may happen to any token, what must be declared, what nobody knows."""

from decimal import Decimal
from typing import Any

import pytest

from service.pricing.estimation import Estimate, PlannedCall, Prospect, foresee
from service.pricing.rules import NO_RULES, PricingRules
from service.pricing.usage import PricingBasis
from service.pricing.worst_case import Declared
from tests.unit.pricing.builders import FALLBACK, WEDNESDAY_AT_8, a_model, book_of, shipped_book
from tests.unit.pricing.rule_builders import a_fee, an_adjustment, an_override, rules_of

CLAUDE = {
    "input_cost_per_token": 5e-6,
    "output_cost_per_token": 25e-6,
    "cache_creation_input_token_cost": 6.25e-6,
    "cache_creation_input_token_cost_above_1hr": 1e-5,
    "cache_read_input_token_cost": 5e-7,
    "litellm_provider": "anthropic",
    "mode": "chat",
}


def prospect(
    entry: dict[str, Any] | None,
    input_tokens: int = 1000,
    max_output_tokens: int | None = 100,
    *,
    rules: PricingRules = NO_RULES,
    call_type: str = "acompletion",
    parts: dict[str, int] | None = None,
    **units: int,
) -> Prospect:
    declared = Declared(
        prompt_parts=tuple((parts or {}).items()),
        units=tuple((unit, Decimal(quantity)) for unit, quantity in units.items()),
    )
    return foresee(
        PlannedCall(
            input_tokens=input_tokens,
            max_output_tokens=max_output_tokens,
            models=a_model("m"),
            basis=PricingBasis(call_type=call_type),
            book=book_of({"m": entry} if entry is not None else {"other": {"input_cost_per_token": 1e-6}}),
            fallback=FALLBACK,
            occurred_at=WEDNESDAY_AT_8,
            rules=rules,
            declared=declared,
        )
    )


def estimated(*call: Any, **given: Any) -> Estimate:
    return prospect(*call, **given).estimate()


def lines_of(estimate: Estimate) -> list[tuple[str, int]]:
    return [(line.name, int(line.quantity)) for line in estimate.components]


def test_a_prompt_is_plain_text_but_for_what_is_declared():
    assert lines_of(estimated(CLAUDE)) == [("text_input", 1000), ("text_output", 100)]
    declared = estimated(CLAUDE, parts={"cache_write_5m_input_tokens": 300, "cache_write_1h_input_tokens": 200})
    assert lines_of(declared) == [
        ("text_input", 500), ("cache_write_5m", 300), ("cache_write_1h", 200), ("text_output", 100)
    ]  # fmt: skip


def test_more_declared_than_the_prompt_has_is_all_of_it_the_dearest_first():
    declared = estimated(CLAUDE, parts={"cache_write_5m_input_tokens": 900, "cache_write_1h_input_tokens": 800})
    assert lines_of(declared) == [("cache_write_5m", 200), ("cache_write_1h", 800), ("text_output", 100)]


def test_parts_that_are_cheaper_than_text_make_nothing_cheaper():
    assert estimated(CLAUDE | {"input_cost_per_audio_token": 1e-6}, parts={"audio_input_tokens": 1000}) == estimated(
        CLAUDE | {"input_cost_per_audio_token": 1e-6}
    )


def test_a_dearer_cache_read_may_happen_to_any_prompt():
    assert lines_of(estimated(CLAUDE | {"cache_read_input_token_cost": 6e-6}))[0] == ("cache_read", 1000)


@pytest.mark.parametrize(("provider", "kind"), [("openai", "cache_write_5m"), ("anthropic", "text_input")])
def test_a_cache_that_takes_prompts_unasked_may_write_any_prompt(provider: str, kind: str):
    assert lines_of(estimated(CLAUDE | {"litellm_provider": provider}))[0] == (kind, 1000)


@pytest.mark.parametrize("part", ["audio", "image", "video"])
def test_what_a_model_can_put_out_it_may_put_out(part: str):
    entry = CLAUDE | {f"output_cost_per_{part}_token": 1e-4}
    assert lines_of(estimated(entry))[-1] == (f"{part}_output", 100)


def test_a_model_without_a_text_rate_may_be_charged_the_assumed_one():
    entry = {"input_cost_per_token": 1e-6, "output_cost_per_reasoning_token": 1e-6, "mode": "chat"}
    estimate = estimated(entry)
    assert (estimate.price_state, estimate.reason) == ("unpriced", "no_rate:text_output")
    assert estimate.amount_usd == Decimal("0.0075")
    assert estimated(entry | {"output_cost_per_reasoning_token": 1e-3}).price_state == "priced"


def test_units_that_tokens_would_measure_are_charged_if_an_event_tells_no_tokens():
    entry = {"input_cost_per_token": 1e-6, "output_cost_per_image_token": 1e-6, "output_cost_per_image": 0.1,
             "mode": "image_generation"}  # fmt: skip
    estimate = estimated(entry, call_type="aimage_generation", output_images=2)
    assert estimate.amount_usd >= Decimal("0.2")
    assert estimated(entry, call_type="aimage_generation").amount_usd == Decimal("0.0011")


def test_an_image_that_is_not_spoken_of_is_one_and_other_units_are_not_guessed():
    entry = {"output_cost_per_image": 0.04, "mode": "image_generation"}
    assert estimated(entry, 10, None, call_type="aimage_generation").amount_usd == Decimal("0.04")
    assert estimated(entry, 10, None, call_type="aimage_generation", output_images=3).amount_usd == Decimal("0.12")
    seconds = {"input_cost_per_second": 0.0001, "mode": "audio_transcription"}
    assert estimated(seconds, 0, None, call_type="atranscription").price_state == "unpriced"
    assert estimated(seconds, 0, None, call_type="atranscription", input_audio_seconds=60).amount_usd == Decimal(
        "0.006"
    )


def test_a_discount_and_a_markup_are_lines_and_the_list_cost_is_kept():
    rules = rules_of(an_adjustment(discount_percent="10"), an_adjustment(markup_usd="0.001"))
    estimate = estimated(CLAUDE, rules=rules)
    assert (estimate.list_cost_usd, estimate.amount_usd) == (Decimal("0.0075"), Decimal("0.00775"))


@pytest.mark.parametrize(
    ("rules", "available", "affordable"),
    [
        # 0.005 for the prompt; an output token costs 0.000025
        (rules_of(a_fee("usd_per_request", "0.001")), "0.006", 0),
        (rules_of(a_fee("usd_per_request", "0.001")), "0.006025", 1),
        (rules_of(a_fee("usd_per_million_output_tokens", "25")), "0.01", 100),
        (rules_of(a_fee("percent_of_model_cost", "100")), "0.01", 0),
        (rules_of(a_fee("percent_of_model_cost", "100")), "0.0101", 2),
        (rules_of(an_adjustment(discount_percent="50")), "0.005", 200),
        # Nothing is due until the discount is used up.
        (rules_of(an_adjustment(discount_usd="0.01")), "0", 200),
        (rules_of(an_adjustment(discount_usd="0.01")), "0.0001", 204),
        (rules_of(an_override({"output_cost_per_token": "x0.5"})), "0.006", 80),
        (rules_of(an_override({"output_cost_per_token": "0"})), "0.006", None),
        (rules_of(a_fee("usd_per_request", "1")), "0.9", 0),
    ],
)  # fmt: skip
def test_an_amount_is_turned_into_output_tokens_whatever_rules_make_of_them(
    rules: PricingRules, available: str, affordable: int | None
):
    assert prospect(CLAUDE, rules=rules).max_affordable_output_tokens(Decimal(available)) == affordable


def test_no_more_than_the_model_can_put_out_is_affordable_under_rules_too():
    rules = rules_of(a_fee("usd_per_request", "1"))
    assert prospect(CLAUDE | {"max_output_tokens": 64}, rules=rules).max_affordable_output_tokens(Decimal(100)) == 64


def test_a_context_above_a_threshold_is_dearer_for_the_inverse_too():
    def affordable(input_tokens: int) -> int | None:
        call = PlannedCall(
            input_tokens=input_tokens,
            max_output_tokens=None,
            models=a_model("gpt-5.4"),
            basis=PricingBasis(call_type="acompletion"),
            book=shipped_book(),
            fallback=FALLBACK,
        )
        return foresee(call).max_affordable_output_tokens(Decimal("1.382505"))

    # 0.68 + n x 0.000015 below, 1.360005 + n x 0.0000225 above
    assert (affordable(272_000), affordable(272_001)) == (46_833, 1000)
