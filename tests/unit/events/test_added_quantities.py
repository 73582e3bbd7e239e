"""What an adapter measured itself comes before what the gateway wrote; strange quantities are refused by their path."""

import json
from decimal import Decimal
from typing import Any

import pytest

from service.events.usage_event import EventProblem, UsageEvent
from service.pricing import units
from tests.unit.events.reading import amounts, outcome_of, raw_event, read_call, units_of


def added(
    quantities: Any, call_type: str = "aspeech", usage: dict[str, Any] | None = None, **overrides: Any
) -> UsageEvent:
    return read_call(call_type, usage, tallygate={"quantities": quantities}, **overrides)


def test_an_adapter_can_count_what_the_gateway_does_not():
    event = added({"input_characters": 47})
    assert units_of(event) == amounts(input_characters=47)
    assert event.usage.unmeasured == ()


def test_what_an_adapter_counted_wins():
    event = added({"input_audio_seconds": "61.25", "web_searches": 1}, "atranscription", {"seconds": 63})
    assert units_of(event) == amounts(input_audio_seconds="61.25", web_searches=1)


def test_an_adapter_that_counted_nothing_measured_nothing_to_pay_for():
    event = added({"web_searches": 0}, "acompletion", {"num_search_queries": 2, "prompt_tokens": 5})
    assert (event.usage.units, event.usage.unmeasured) == ((), ())
    charged = added({"code_sessions": 0}, "acompletion", {"prompt_tokens": 5}, cost_breakdown={"tool_usage_cost": 0.03})
    assert (charged.usage.units, charged.usage.unmeasured) == ((), ())


def test_seconds_are_named_by_whoever_knows_what_they_are_of():
    assert added({}, "brand_new", {"duration_seconds": 3}).usage.unmeasured == ("seconds",)
    event = added({"output_audio_seconds": 3}, "brand_new", {"duration_seconds": 3})
    assert (units_of(event), event.usage.unmeasured) == (amounts(output_audio_seconds=3), ())


@pytest.mark.parametrize(
    "name", sorted(units.UNIT_OF.keys() - {units.OUTPUT_PIXELS, units.CALL_SECONDS, units.REQUESTS})
)
def test_every_unit_that_events_may_name_can_be_added(name: str):
    assert units_of(added({name: "0.5"}))[name] == Decimal("0.5")


def test_units_of_guardrails_are_added_by_policy():
    assert added({"guardrail_units/topicPolicyUnits": 2}).usage.units == (
        ("guardrail_units/topicPolicyUnits", Decimal(2)),
    )


@pytest.mark.parametrize("quantities", [None, {}])
def test_nothing_added_is_nothing(quantities: Any):
    assert added(quantities).usage.unmeasured == ("input_characters",)


def test_an_exact_number_stays_exact():
    raw = raw_event("tallygate.quantities.input_characters", "12.1234567890123456789")
    found = outcome_of(raw)
    assert isinstance(found, UsageEvent)
    assert dict(found.usage.units)["input_characters"] == Decimal("12.1234567890123456789")


@pytest.mark.parametrize(
    ("value", "code", "field"),
    [
        ("-1", "invalid_number", ".pages"),
        ("-0.5", "invalid_number", ".pages"),
        ('"NaN"', "invalid_number", ".pages"),
        ('"-Infinity"', "invalid_number", ".pages"),
        ("1e400", "invalid_number", ".pages"),
        ("1e999999999", "invalid_number", ".pages"),
        ("1e-41", "invalid_number", ".pages"),
        ("1000000000001", "invalid_number", ".pages"),
        (f'"{"9" * 5000}"', "invalid_number", ".pages"),
        ("NaN", "invalid_field", "[...]"),
        ("true", "invalid_field", "[...]"),
        ("null", "invalid_field", "[...]"),
        ("[]", "invalid_field", "[...]"),
        ('"a lot"', "invalid_field", "[...]"),
    ],
    ids=lambda value: value[:20],
)
def test_a_strange_quantity_of_an_adapter_is_refused_by_its_path(value: str, code: str, field: str):
    problem = outcome_of(raw_event("tallygate.quantities.pages", value))
    assert isinstance(problem, EventProblem), problem
    assert (problem.code, problem.field) == (code, f"tallygate.quantities{field}")


@pytest.mark.parametrize(
    "name", ["page", "", "output_pixels", "requests", "x" * 1000, "guardrail_units/" + "x" * 100, "é"]
)
def test_a_name_no_price_is_for_is_refused(name: str):
    problem = outcome_of(raw_event("tallygate.quantities", json.dumps({name: 1})))
    assert isinstance(problem, EventProblem), problem
    assert problem.code == "invalid_field"
    assert (problem.field or "").startswith("tallygate.quantities.")
    assert len(problem.field or "") < 200


@pytest.mark.parametrize(
    ("value", "code"), [("[1]", "invalid_field"), ('"x"', "invalid_field"), ("7", "invalid_field")]
)
def test_quantities_are_an_object(value: str, code: str):
    problem = outcome_of(raw_event("tallygate.quantities", value))
    assert isinstance(problem, EventProblem)
    assert (problem.code, problem.field) == (code, "tallygate.quantities")


def test_quantities_without_end_are_refused():
    problem = outcome_of(raw_event("tallygate.quantities", json.dumps({f"n{n}": 1 for n in range(5000)})))
    assert isinstance(problem, EventProblem)
    assert (problem.code, problem.field) == ("list_too_long", "tallygate.quantities")


USAGE = "metadata.usage_object"


@pytest.mark.parametrize(
    "path",
    [
        "prompt_tokens_details.character_count",
        "prompt_tokens_details.image_count",
        "prompt_tokens_details.audio_length_seconds",
        "prompt_tokens_details.video_length_seconds",
        "prompt_tokens_details.query_count",
        "prompt_tokens_details.web_search_requests",
        "prompt_tokens_details.google_maps_grounding_requests",
        "server_tool_use.web_search_requests",
        "server_side_tool_usage_details.web_search_calls",
        "num_search_queries",
        "citation_tokens",
        "output_image_count",
        "duration_seconds",
        "seconds",
    ],
)
@pytest.mark.parametrize(
    ("value", "codes"),
    [
        ("-1", {"invalid_number"}),
        ("1e13", {"invalid_number"}),
        ("1e400", {"invalid_number"}),
        ("1e-300", {"invalid_number"}),
        ("NaN", {"invalid_number"}),
        ('"3"', {"invalid_field"}),
        ("true", {"invalid_field"}),
        ("[1]", {"invalid_field"}),
        ("{}", {"invalid_field"}),
    ],
)
def test_a_strange_quantity_of_a_usage_object_is_refused_by_its_path(path: str, value: str, codes: set[str]):
    problem = outcome_of(raw_event(f"{USAGE}.{path}", value))
    assert isinstance(problem, EventProblem), problem
    assert problem.code in codes
    assert problem.field == f"{USAGE}.{path}"


@pytest.mark.parametrize(
    "value",
    [
        "-1",
        "1e400",
        "1e999",
        "1e-300",
        "1e13",
        f'"{"1" * 70}"',
        '"many"',
        "true",
        "[]",
        "{}",
        "null",
        '""',
        "1e-41",
        '"-3"',
        "NaN",
    ],
)
@pytest.mark.parametrize(
    ("call_type", "path"),
    [
        ("atranscription", "response.duration"),
        ("acreate_video", "response.seconds"),
        ("acreate_video", "model_parameters.seconds"),
        ("aimage_generation", "model_parameters.n"),
        ("arerank", "response.meta.billed_units.search_units"),
        ("arerank", "response.meta.billed_units.total_tokens"),
        ("arerank", "response.meta.billed_units"),
        ("arerank", "response.meta"),
        ("aocr", "response.usage_info.pages_processed"),
        ("aocr", "response.usage_info.credits"),
        ("aocr", "response.usage_info"),
        ("aocr", "response.pages"),
        ("aimage_generation", "response.data"),
        ("aresponses", "response.output"),
        ("acompletion", "response.choices"),
        ("acompletion", "response"),
        ("acompletion", "model_parameters"),
        ("acompletion", "standard_built_in_tools_params"),
        ("acompletion", "guardrail_information"),
    ],
)
def test_what_nobody_promised_is_ignored_when_it_is_strange(call_type: str, path: str, value: str):
    found = outcome_of(raw_event(path, value, call_type=call_type))
    assert isinstance(found, UsageEvent), found
    assert found.usage.units == ()


@pytest.mark.parametrize(
    "path",
    [
        "metadata.mcp_tool_call_metadata.mcp_server_cost_info.default_cost_per_query",
        "metadata.mcp_tool_call_metadata.mcp_server_cost_info.tool_name_to_cost_per_query.search",
    ],
)
@pytest.mark.parametrize("value", ["-1", "1e400", "1e13", '"NaN"', "true", "[]"])
def test_a_strange_price_of_a_tool_is_refused_by_its_path(path: str, value: str):
    call = {"name": "search", "mcp_server_cost_info": {}}
    raw = raw_event(path, value, call_type="call_mcp_tool", response_cost=0, metadata={"mcp_tool_call_metadata": call})
    problem = outcome_of(raw)
    assert isinstance(problem, EventProblem), problem
    assert (problem.field or "").startswith(path.removesuffix(".search"))
