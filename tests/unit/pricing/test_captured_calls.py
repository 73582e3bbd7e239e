"""Calls a real gateway reported: ours costs what the gateway says, and where not, there is a reason."""

import json
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from service.identity.models import ModelIdentity, PriceCandidate
from service.pricing.usage import PricingBasis, ReportedCost, Usage
from tests.unit.pricing.builders import rated

_FILE = Path(__file__).parents[2] / "data" / "pricing" / "captured_calls.jsonl"
CALLS = [json.loads(line) for line in _FILE.read_text().splitlines()]
_FLOAT_TOLERANCE = Decimal("1e-9")


def rated_call(call: dict[str, Any]) -> Any:
    models = ModelIdentity(
        requested_model=None,
        requested_canonical=None,
        deployment=None,
        deployment_id=None,
        served_model=None,
        provider=call["provider"],
        is_router=call["is_router"],
        price_candidates=tuple(PriceCandidate(name=name, rule=rule) for name, rule in call["candidates"]),
        provenance={},
    )
    return rated(
        models,
        msgspec.convert(call["usage"], Usage),
        msgspec.convert(call["basis"], PricingBasis),
        msgspec.convert(call["reported"], ReportedCost),
        occurred_at=datetime.fromisoformat(call["occurred_at"]),
    )


@pytest.mark.parametrize("call", CALLS, ids=[call["event"] for call in CALLS])
def test_a_captured_call_costs_exactly_what_was_expected(call: dict[str, Any]):
    rating = rated_call(call)
    expected = call["expected"]
    assert rating.cost_usd == Decimal(expected["cost_usd"])
    assert (rating.price_state, rating.fees_price_state, rating.reason) == (
        expected["price_state"],
        expected["fees_price_state"],
        expected["reason"],
    )
    assert rating.cost_usd == sum((line.amount_usd for line in (*rating.components, *rating.fees)), Decimal(0))


@pytest.mark.parametrize("call", CALLS, ids=[call["event"] for call in CALLS])
def test_we_and_the_gateway_agree_unless_there_is_a_reason(call: dict[str, Any]):
    gateway = Decimal(call["reported"].get("total_usd", "0"))
    agree = abs(rated_call(call).cost_usd - gateway) <= gateway * _FLOAT_TOLERANCE
    assert agree == ("differs_from_gateway" not in call)
