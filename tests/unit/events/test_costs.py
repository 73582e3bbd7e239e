"""Prices set on a deployment, and what a cost of zero means."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from service.events.elements import read_elements
from service.events.litellm import LITELLM, read_event
from service.events.litellm_payload import Payload
from service.events.usage_event import EventProblem, UsageEvent
from service.pricing.usage import CustomRates
from tests.builders import a_litellm_event

NOW = datetime(2026, 11, 6, 12, 0, tzinfo=UTC)
OWN = "deployment-1"


def read(entry: str | None, **overrides: Any) -> UsageEvent | EventProblem:
    event = a_litellm_event(began_at=NOW - timedelta(seconds=2), model_id=OWN, **overrides)
    event["model_map_information"] = {"model_map_key": "openai/x", "model_map_value": "ENTRY"}
    raw = msgspec.json.encode(event).replace(b'"ENTRY"', (entry or "null").encode())
    [[payload]] = list(read_elements(raw, LITELLM))
    assert isinstance(payload, Payload), payload
    return read_event(payload, received_at=NOW)


def rates(entry: str | None) -> CustomRates | None:
    event = read(entry)
    assert isinstance(event, UsageEvent), event
    return event.basis.custom_rates


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        (None, None),
        ('{"key": "other", "input_cost_per_token": 1e-06}', None),
        ('{"input_cost_per_token": 1e-06}', None),
        ('{"key": null, "input_cost_per_token": 1e-06}', None),
        ('{"key": "deployment-1"}', None),
        ('{"key": "deployment-1", "input_cost_per_token": 0, "output_cost_per_token": 0}', None),
        (
            '{"key": "deployment-1", "input_cost_per_token": 0.0, "output_cost_per_token": 0}',
            CustomRates(input_per_token=Decimal(0)),
        ),
        (
            '{"input_cost_per_token": 1e-06, "key": "deployment-1", "cache_read_input_token_cost": 2e-07}',
            CustomRates(input_per_token=Decimal("0.000001"), cache_read_per_token=Decimal("0.0000002")),
        ),
        (
            '{"key":"deployment-1","output_cost_per_token":1e-06,"cache_creation_input_token_cost":0.0}',
            CustomRates(output_per_token=Decimal("0.000001"), cache_write_per_token=Decimal(0)),
        ),
        (
            '{"key": "deployment-1", "input_cost_per_token": 0, "input_cost_per_second": 0.0005}',
            CustomRates(has_other_rates=True, others=(("input_cost_per_second", Decimal("0.0005")),)),
        ),
        (
            '{"key": "deployment-1", "output_cost_per_image": 0.0, "ocr_cost_per_page": 0, "tiered_pricing": []}',
            CustomRates(others=(("output_cost_per_image", Decimal(0)),)),
        ),
        (
            '{"key": "deployment-1", "input_cost_per_second": 0.1, "tiered_pricing": [{"range": [0, 1]}]}',
            CustomRates(has_other_rates=True),
        ),
        ('{"key": "deployment-1", "tiered_pricing": [{"range": [0, 1]}]}', CustomRates(has_other_rates=True)),
        ('{"key": "deployment-1", "off_peak_pricing": {"windows": []}}', CustomRates(has_other_rates=True)),
    ],
)
def test_only_rates_somebody_set_on_the_deployment_are_its_own(entry: str | None, expected: CustomRates | None):
    assert rates(entry) == expected


@pytest.mark.parametrize("key", ['"deployment\\u002d1"', '"deployment-1"'])
def test_the_key_is_compared_as_text_and_not_as_bytes(key: str):
    assert rates(f'{{"key": {key}, "input_cost_per_token": 1e-06}}') is not None


@pytest.mark.parametrize(
    ("rate", "code", "field"),
    [
        ("-1e-06", "invalid_number", "input_cost_per_token"),
        ("1e400", "invalid_number", "input_cost_per_token"),
        ('"cheap"', "invalid_field", "input_cost_per_token"),
    ],
)
def test_a_strange_rate_of_the_deployment_is_refused(rate: str, code: str, field: str):
    problem = read(f'{{"key": "deployment-1", "input_cost_per_token": {rate}}}')
    assert isinstance(problem, EventProblem)
    assert (problem.code, problem.field) == (code, f"model_map_information.model_map_value.{field}")


@pytest.mark.parametrize(
    ("entry", "overrides", "is_unknown"),
    [
        ('{"key": "x", "input_cost_per_token": 0, "output_cost_per_token": 0}', {}, True),
        ('{"key": "x"}', {}, True),
        (None, {}, True),
        ('{"key": "x", "input_cost_per_token": 0.0, "output_cost_per_token": 0.0}', {}, False),
        ('{"key": "x", "input_cost_per_token": 1e-06, "output_cost_per_token": 0}', {}, False),
        ('{"key": "deployment-1", "input_cost_per_token": 0, "output_cost_per_token": 0}', {}, False),
        ('{"key": "x", "input_cost_per_token": 1e-06}', {"zero_cost_diagnostic": {"reason": "missing"}}, True),
        (
            '{"key": "x", "input_cost_per_token": 1e-06}',
            {"response_cost_failure_debug_info": {"error_str": "no"}},
            True,
        ),
        ('{"key": "x", "input_cost_per_token": 0}', {"response_cost": 0.1}, False),
        ('{"key": "x", "input_cost_per_token": 0}', {"cache_hit": True}, False),
        ('{"key": "x", "input_cost_per_token": 0}', {"status": "failure"}, False),
        ('{"key": "x", "input_cost_per_token": 0}', {"call_type": "afile_content"}, False),
    ],
)
def test_zero_means_nothing_when_the_gateway_knows_no_price(
    entry: str | None, overrides: dict[str, Any], is_unknown: bool
):
    event = read(entry, **({"response_cost": 0.0} | overrides))
    assert isinstance(event, UsageEvent), event
    assert event.reported.is_unknown_price is is_unknown


@pytest.mark.parametrize(
    ("billed", "tier"),
    [
        ({"service_tier": "flex"}, "flex"),
        ({"service_tier": "Priority"}, "priority"),
        ({"service_tier": "default"}, None),
        ({"service_tier": "auto"}, None),
        ({"service_tier": "standard"}, None),
        ({"service_tier": ""}, None),
        ({"service_tier": None}, None),
    ],
)
def test_the_tier_is_the_billed_one(billed: dict[str, Any], tier: str | None):
    event = read(
        None, cost_breakdown=billed, usage={"service_tier": "priority"}, model_parameters={"service_tier": "x"}
    )
    assert isinstance(event, UsageEvent)
    assert event.basis.service_tier == tier


def test_without_a_breakdown_the_providers_word_counts():
    assert getattr(read(None, cost_breakdown=None, usage={"service_tier": "flex"}), "basis").service_tier == "flex"  # noqa: B009
    event = read(None, cost_breakdown=None, response={"service_tier": "priority"})
    assert isinstance(event, UsageEvent)
    assert event.basis.service_tier == "priority"


def test_geography_and_speed_that_are_not_available_are_absent():
    event = read(None, usage={"inference_geo": "not_available", "speed": "fast"})
    assert isinstance(event, UsageEvent)
    assert (event.basis.inference_geography, event.basis.speed) == (None, "fast")
