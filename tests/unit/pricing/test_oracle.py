"""A sample of what LiteLLM's own calculator charges: we agree, but where its answer is known to be wrong.

Tallygate differs on purpose where a row is `suspect` (then the map's own rates are given as `independent`), and for
batches above a context threshold, whose long-context rate LiteLLM forgets.
"""

import json
from datetime import datetime
from decimal import Decimal
from math import isclose
from pathlib import Path
from typing import Any

import pytest

from service.pricing.rating_result import Rating
from service.pricing.usage import CustomRates, PricingBasis, Usage
from tests.unit.pricing.builders import WEDNESDAY_AT_8, a_model, rated

_FILE = Path(__file__).parents[2] / "data" / "pricing" / "oracle_sample.jsonl"
ROWS = [json.loads(line, parse_float=Decimal) for line in _FILE.read_text().splitlines()]
_BATCH_WITHOUT_LONG_CONTEXT_RATE = {"batch_over_200k", "batch_over_100k"}


def usage_of(wire: dict[str, Any]) -> Usage:
    inputs, outputs = wire.get("prompt_tokens_details", {}), wire.get("completion_tokens_details", {})
    split = inputs.get("cache_creation_token_details", {})
    one_hour = split.get("ephemeral_1h_input_tokens", 0)
    cached = inputs.get("cached_tokens_details", {})
    return Usage(
        input_tokens=wire.get("prompt_tokens", 0),
        output_tokens=wire.get("completion_tokens", 0),
        cache_read_input_tokens=inputs.get("cached_tokens", 0),
        cache_write_5m_input_tokens=inputs.get("cache_creation_tokens", 0) - one_hour,
        cache_write_1h_input_tokens=one_hour,
        audio_input_tokens=inputs.get("audio_tokens", 0),
        image_input_tokens=inputs.get("image_tokens", 0),
        video_input_tokens=inputs.get("video_tokens", 0),
        cache_read_audio_input_tokens=cached.get("audio_tokens", 0),
        reasoning_output_tokens=outputs.get("reasoning_tokens", 0),
        audio_output_tokens=outputs.get("audio_tokens", 0),
        image_output_tokens=outputs.get("image_tokens", 0),
    )


def rated_row(row: dict[str, Any]) -> Rating:
    params = row.get("params", {})
    configured = params.get("custom_pricing")
    basis = PricingBasis(
        call_type=row["call_type"],
        service_tier=row.get("service_tier"),
        data_residency=params.get("data_residency"),
        vertex_location=params.get("vertex_location"),
        inference_geography=row["usage"].get("inference_geo"),
        speed=row["usage"].get("speed"),
        is_batch=row["call_type"] == "aretrieve_batch",
        custom_rates=None
        if configured is None
        else CustomRates(
            input_per_token=configured.get("input_cost_per_token"),
            output_per_token=configured.get("output_cost_per_token"),
            cache_read_per_token=configured.get("cache_read_input_token_cost"),
            cache_write_per_token=configured.get("cache_creation_input_token_cost"),
        ),
    )
    billed_at = params.get("billed_at")
    return rated(
        a_model(row.get("priced_as", row["model"]), provider=row["provider"]),
        usage_of(row["usage"]),
        basis,
        occurred_at=WEDNESDAY_AT_8 if billed_at is None else datetime.fromisoformat(billed_at),
    )


def _id(row: dict[str, Any]) -> str:
    return f"{row['mix']}-{row['model']}"


@pytest.mark.parametrize("row", ROWS, ids=_id)
def test_a_call_costs_what_the_price_map_says(row: dict[str, Any]):
    rating = rated_row(row)
    if rating.price_state == "unpriced":
        assert rating.reason in {"no_rate:text_input", "not_priced_by_tokens", "no_price"}
        return
    wanted = row.get("independent", row["expected"])
    if row["mix"] in _BATCH_WITHOUT_LONG_CONTEXT_RATE:
        assert rating.cost_usd >= wanted
    else:
        assert isclose(rating.cost_usd, wanted, rel_tol=1e-9)


def test_only_few_rows_have_no_price_of_ours():
    assert sum(rated_row(row).price_state == "unpriced" for row in ROWS) <= len(ROWS) // 20


def test_cached_tokens_without_a_rate_cost_the_input_rate_at_every_provider():
    # LiteLLM's own code halves them for one provider; a price list says nothing of the kind.
    usage = Usage(input_tokens=10_000, cache_read_input_tokens=7168)
    assert rated("fireworks-ai-4.1b-to-16b", usage).cost_usd == Decimal("0.002")


def test_a_batch_with_batch_rates_keeps_the_surcharge_of_a_long_prompt():
    # LiteLLM: 0.135000625, the batch rate of short prompts.
    rating = rated("gemini-2.5-pro", Usage(input_tokens=200_001, output_tokens=2000), PricingBasis(is_batch=True))
    assert rating.cost_usd == Decimal("0.26500125")
