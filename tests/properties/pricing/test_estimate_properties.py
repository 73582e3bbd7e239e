"""The guarantee of holds: no event within what was told costs more than was estimated. And the exact inverse."""

from decimal import Decimal
from typing import Any

from hypothesis import assume, given
from hypothesis import strategies as st

from service.pricing.estimation import PlannedCall, Prospect, foresee
from service.pricing.price_book import PriceBook
from service.pricing.rate_keys import SERVICE_TIERS
from service.pricing.rating import rate
from service.pricing.rules import NO_RULES, PricingRules
from service.pricing.usage import PricingBasis, Usage
from service.pricing.worst_case import NOTHING_DECLARED, Declared
from tests.unit.pricing.builders import FALLBACK, NOTHING_REPORTED, WEDNESDAY_AT_8, a_model, book_of, shipped_book
from tests.unit.pricing.rule_builders import a_fee, an_adjustment, an_override, rules_of

RATES = st.decimals(min_value=0, max_value=Decimal("0.001"), places=9).map(float)
AMOUNTS = st.decimals(min_value=0, max_value=10_000, places=9)
TOKENS = st.integers(0, 400_000)
TOKEN_KEYS = (
    "input_cost_per_token",
    "output_cost_per_token",
    "cache_read_input_token_cost",
    "cache_creation_input_token_cost",
    "cache_creation_input_token_cost_above_1hr",
    "input_cost_per_audio_token",
    "input_cost_per_image_token",
    "cache_read_input_audio_token_cost",
    "output_cost_per_reasoning_token",
    "output_cost_per_audio_token",
    "output_cost_per_image_token",
    "output_cost_per_video_token",
)
SUFFIXES = ("", "_above_128k_tokens", "_flex", "_priority", "_above_128k_tokens_priority")
UNIT_KEYS = (
    "output_cost_per_image",
    "input_cost_per_image",
    "input_cost_per_query",
    "input_cost_per_audio_per_second",
    "output_cost_per_second",
    "ocr_cost_per_page",
    "input_cost_per_character",
    "input_cost_per_request",
)
UNITS = ("output_images", "input_images", "queries", "input_audio_seconds", "output_video_seconds", "pages")
PARTS = (
    "cache_write_5m_input_tokens",
    "cache_write_1h_input_tokens",
    "audio_input_tokens",
    "image_input_tokens",
    "video_input_tokens",
)
OUTPUT_PARTS = ("reasoning_output_tokens", "audio_output_tokens", "image_output_tokens", "video_output_tokens")
# What such a call puts out is what it is for.
SINGLE_MINDED = ("aimage_generation", "aspeech")

token_entries = st.dictionaries(
    st.tuples(st.sampled_from(TOKEN_KEYS), st.sampled_from(SUFFIXES)).map("".join), RATES, max_size=10
)
unit_entries = st.dictionaries(st.sampled_from(UNIT_KEYS), RATES, max_size=3)
details = st.fixed_dictionaries(
    {"mode": st.sampled_from(["chat", "embedding", "image_generation", "rerank", "ocr"])},
    optional={
        "litellm_provider": st.sampled_from(["openai", "anthropic"]),
        "max_output_tokens": st.integers(1, 300_000),
        "search_context_cost_per_query": st.just({"search_context_size_medium": 0.01}),
    },
)
bases = st.builds(
    PricingBasis,
    call_type=st.sampled_from(["acompletion", "aembedding", "arerank", *SINGLE_MINDED]),
    service_tier=st.sampled_from([None, "default", *sorted(SERVICE_TIERS)]),
    duration_seconds=st.sampled_from([None, Decimal("1.5")]),
)
percents = st.integers(1, 50).map(str)
rules = st.builds(
    lambda fees, adjustments, overrides: rules_of(*fees, *adjustments, *overrides),
    st.lists(
        st.builds(
            a_fee,
            st.sampled_from(
                [
                    "usd_per_million_input_tokens",
                    "usd_per_million_output_tokens",
                    "usd_per_million_total_tokens",
                    "usd_per_request",
                    "usd_per_second",
                    "percent_of_model_cost",
                ]
            ),
            percents,
        ),
        max_size=3,
    ),
    st.lists(
        st.sampled_from(["discount_percent", "discount_usd", "markup_percent", "markup_usd"]).flatmap(
            lambda kind: percents.map(lambda amount: an_adjustment(**{kind: amount}))
        ),
        max_size=2,
    ),
    st.lists(
        st.dictionaries(
            st.sampled_from(TOKEN_KEYS), st.sampled_from(["x0.5", "x3", "0.000002"]), min_size=1, max_size=3
        ).map(an_override),
        max_size=1,
    ),
)


@st.composite
def planned_calls(draw: st.DrawFn) -> PlannedCall:
    entry = draw(token_entries) | draw(unit_entries) | draw(details)
    book = book_of({"m": entry, "azure/model-router": {"input_cost_per_token": 1.4e-7}})
    declared = draw(
        st.just(NOTHING_DECLARED)
        | st.builds(
            Declared,
            prompt_parts=st.dictionaries(st.sampled_from(PARTS), st.integers(1, 400_000)).map(_pairs),
            units=st.dictionaries(st.sampled_from((*UNITS, "web_searches")), st.integers(1, 50).map(Decimal)).map(
                _pairs
            ),
        )
    )
    return PlannedCall(
        input_tokens=draw(TOKENS),
        max_output_tokens=draw(TOKENS),
        models=a_model(draw(st.sampled_from(["m", "m", "m", "nobody"])), is_router=draw(st.booleans())),
        basis=draw(bases),
        book=book,
        fallback=FALLBACK,
        occurred_at=WEDNESDAY_AT_8,
        rules=draw(st.just(NO_RULES) | rules),
        declared=declared,
    )


def _pairs(counted: dict[str, Any]) -> tuple[tuple[str, Any], ...]:
    return tuple(counted.items())


@st.composite
def usages_within(draw: st.DrawFn, call: PlannedCall) -> Usage:
    """Whatever the event may say of a call that was told so much of: any split, any part up to its bound."""
    inputs = call.input_tokens
    bounds = {name: min(tokens, inputs) for name, tokens in call.declared.prompt_parts}
    parts = {name: draw(st.integers(0, bound)) for name, bound in bounds.items()}
    parts["cache_read_input_tokens"] = draw(st.integers(0, inputs))
    for modality in ("audio", "image"):
        cached = min(parts.get(f"{modality}_input_tokens", 0), parts["cache_read_input_tokens"])
        parts[f"cache_read_{modality}_input_tokens"] = draw(st.integers(0, cached))
    outputs = 0 if _puts_out_nothing(call) else draw(st.integers(0, call.max_output_tokens or 0))
    if call.basis.call_type not in SINGLE_MINDED:
        parts |= {name: draw(st.integers(0, outputs)) for name in draw(st.sets(st.sampled_from(OUTPUT_PARTS)))}
    # Of content that tokens measure an event may tell the one, the other, or both.
    if call.declared.units and draw(st.booleans()):
        inputs, parts = 0, {name: tokens for name, tokens in parts.items() if name.endswith("output_tokens")}
    return Usage(input_tokens=inputs, output_tokens=outputs, units=call.declared.units, **parts)


def _puts_out_nothing(call: PlannedCall) -> bool:
    price = call.book.find("m")
    return bool(call.models.served_model == "m" and price and price.entry.mode in {"embedding", "rerank"})


@given(st.data())
def test_no_event_within_its_bounds_costs_more_than_was_estimated(data: st.DataObject):
    call = data.draw(planned_calls())
    usage = data.draw(usages_within(call))
    charged = rate(
        usage,
        call.basis,
        call.models,
        NOTHING_REPORTED,
        call.book,
        FALLBACK,
        occurred_at=call.occurred_at,
        rules=call.rules,
    )
    # An event that does not say what it used is charged for its tokens at other rates: nobody can foresee that.
    assume(charged.reason is None or not charged.reason.startswith("unmeasured"))
    estimate = foresee(call).estimate()
    assert estimate.amount_usd >= charged.enforced_usd
    assert estimate.amount_usd == _sum(estimate.components) + _sum(estimate.fees)
    assert charged.enforced_usd == 0 or estimate.price_state != "free"


def _sum(lines: Any) -> Decimal:
    return sum((line.amount_usd for line in lines), Decimal(0))


@given(planned_calls(), AMOUNTS)
def test_what_is_affordable_fits_and_one_token_more_would_not(call: PlannedCall, available: Decimal):
    prospect = foresee(call)
    _check_inverse(prospect, available)


@given(AMOUNTS, TOKENS, st.sampled_from(["gpt-5.4", "claude-opus-4-6", "nobody"]), st.just(NO_RULES) | rules)
def test_what_is_affordable_of_real_models_fits_and_one_token_more_would_not(
    available: Decimal, input_tokens: int, model: str, some: PricingRules
):
    call = PlannedCall(
        input_tokens=input_tokens,
        max_output_tokens=None,
        models=a_model(model),
        basis=PricingBasis(call_type="acompletion"),
        book=shipped_book(),
        fallback=FALLBACK,
        occurred_at=WEDNESDAY_AT_8,
        rules=some,
    )
    _check_inverse(foresee(call), available)


def _check_inverse(prospect: Prospect, available: Decimal) -> None:
    def amount(output_tokens: int) -> Decimal:
        return _foreseen(prospect.call, output_tokens).rating.enforced_usd

    affordable = prospect.max_affordable_output_tokens(available)
    price = prospect.selected.price
    maximum = None if price is None else price.entry.max_output_tokens
    if affordable is None:
        assert maximum is None
        assert amount(10**12) <= available
    elif affordable == 0:
        assert amount(1) > available
    else:
        assert amount(affordable) <= available
        assert affordable == maximum or amount(affordable + 1) > available


def _foreseen(call: PlannedCall, output_tokens: int) -> Prospect:
    changed = {name: getattr(call, name) for name in call.__struct_fields__} | {"max_output_tokens": output_tokens}
    return foresee(PlannedCall(**changed))


@given(st.sampled_from([None, "flex", "priority"]), st.integers(0, 400_000), st.integers(0, 50_000))
def test_plain_text_is_estimated_at_exactly_what_it_costs(tier: str | None, input_tokens: int, output_tokens: int):
    basis = PricingBasis(call_type="acompletion", service_tier=tier)
    book: PriceBook = shipped_book()
    call = PlannedCall(
        input_tokens=input_tokens,
        max_output_tokens=output_tokens,
        models=a_model("gpt-5.4"),
        basis=basis,
        book=book,
        fallback=FALLBACK,
    )
    usage = Usage(input_tokens=input_tokens, output_tokens=output_tokens)
    charged = rate(usage, basis, call.models, NOTHING_REPORTED, book, FALLBACK)
    assert foresee(call).estimate().amount_usd == charged.enforced_usd
