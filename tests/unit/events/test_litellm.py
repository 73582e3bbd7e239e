from datetime import UTC, datetime, timedelta
from decimal import Decimal
from hashlib import sha256
from typing import Any

import msgspec
import pytest

from service.events.elements import Undecoded, read_elements
from service.events.litellm import LITELLM, read_event
from service.events.usage_event import EventProblem, UsageEvent
from service.identity.dimensions import MAX_TAGS
from tests.builders import a_litellm_event

NOW = datetime(2026, 11, 6, 12, 0, tzinfo=UTC)


def read_raw(raw: bytes, **options: Any) -> UsageEvent | EventProblem:
    [[element]] = list(read_elements(raw, LITELLM))
    if isinstance(element, Undecoded):
        return element.problem
    return read_event(element, received_at=options.pop("received_at", NOW), **options)


def read(event: dict[str, Any], **options: Any) -> UsageEvent | EventProblem:
    return read_raw(msgspec.json.encode(event), **options)


def read_ok(event: dict[str, Any], **options: Any) -> UsageEvent:
    found = read(event, **options)
    assert isinstance(found, UsageEvent), found
    return found


def an_event(**overrides: Any) -> dict[str, Any]:
    return a_litellm_event(began_at=overrides.pop("began_at", NOW - timedelta(seconds=2)), **overrides)


def raw_with(path: str, value: str) -> bytes:
    """Return an event whose field at a path has a value that is written as it stands."""
    event = an_event()
    *parents, last = path.split(".")
    place = event
    for parent in parents:
        place[parent] = dict(place.get(parent) or {})
        place = place[parent]
    place[last] = "PLACE-OF-THE-VALUE"
    return msgspec.json.encode(event).replace(b'"PLACE-OF-THE-VALUE"', value.encode())


USAGE = "metadata.usage_object"


@pytest.mark.parametrize(
    ("path", "value", "code"),
    [
        ("response_cost", "-0.01", "invalid_number"),
        ("response_cost", "NaN", "invalid_number"),
        ("response_cost", '"NaN"', "invalid_number"),
        ("response_cost", "Infinity", "invalid_number"),
        ("response_cost", '"Infinity"', "invalid_number"),
        ("response_cost", "1e400", "invalid_number"),
        ("response_cost", "1e999999999", "invalid_number"),
        ("response_cost", "1e-41", "invalid_number"),
        ("response_cost", "9223372036854775808", "invalid_number"),
        ("response_cost", "true", "invalid_field"),
        ("response_cost", '"free"', "invalid_field"),
        ("response_cost", "{}", "invalid_field"),
        ("cost_breakdown.guardrail_cost", "-1", "invalid_number"),
        ("cost_breakdown.tool_usage_cost", "1e13", "invalid_number"),
        ("cost_breakdown.additional_costs.Azure Model Router Flat Cost", "-1", "invalid_number"),
        (f"{USAGE}.prompt_tokens", "-1", "invalid_number"),
        (f"{USAGE}.prompt_tokens", "NaN", "invalid_number"),
        (f"{USAGE}.prompt_tokens", "true", "invalid_field"),
        (f"{USAGE}.prompt_tokens", "12.5", "invalid_number"),
        (f"{USAGE}.prompt_tokens", "0.1234567890123456789012345", "invalid_number"),
        (f"{USAGE}.prompt_tokens", "9223372036854775808", "invalid_number"),
        (f"{USAGE}.prompt_tokens", "1e400", "invalid_number"),
        (f"{USAGE}.prompt_tokens", '"12"', "invalid_field"),
        (f"{USAGE}.completion_tokens", "[]", "invalid_field"),
        (f"{USAGE}.prompt_tokens_details.cached_tokens", "-5", "invalid_number"),
        (f"{USAGE}.prompt_tokens_details.web_search_requests", "-5", "invalid_number"),
        (f"{USAGE}.completion_tokens_details.reasoning_tokens", "1e15", "invalid_number"),
        (f"{USAGE}.cache_read_input_tokens", "-5", "invalid_number"),
        ("startTime", "null", "field_missing"),
        ("startTime", "NaN", "invalid_number"),
        ("startTime", "-1", "occurred_too_long_ago"),
        ("startTime", "1e300", "occurred_in_future"),
        ("startTime", "1e400", "invalid_number"),
        ("startTime", '"2026-11-06"', "invalid_field"),
        ("startTime", "true", "invalid_field"),
        ("status", "null", "field_missing"),
        ("status", '"done"', "invalid_field"),
        ("id", "true", "invalid_field"),
        ("model", "[1]", "invalid_field"),
        ("model", "NaN", "invalid_number"),
        ("trace_id", f'"{"x" * 16_385}"', "text_too_long"),
        ("metadata.user_api_key_team_id", "1.5", "invalid_field"),
        ("metadata.user_api_key_team_id", f'"{"x" * 16_385}"', "text_too_long"),
        ("metadata.user_api_key_hash", "{}", "invalid_field"),
        ("request_tags", '"a,b"', "invalid_field"),
        ("request_tags", f'["{"x" * 65_536}"]', "list_too_long"),
        ("tallygate.attempt", "-1", "invalid_number"),
        ("tallygate.attempt", "1e30", "invalid_field"),
        ("tallygate.final", '"yes"', "invalid_field"),
    ],
)
def test_a_value_that_cannot_be_taken_is_refused_with_its_path(path: str, value: str, code: str):
    problem = read_raw(raw_with(path, value))
    assert isinstance(problem, EventProblem)
    assert (problem.code, problem.field) == (code, path)
    assert problem.detail.endswith(".")
    assert "PLACE" not in problem.detail


def test_a_strange_additional_cost_is_refused_with_the_path_of_the_map():
    problem = read_raw(raw_with("cost_breakdown.additional_costs.fee", '"x"'))
    assert isinstance(problem, EventProblem)
    assert (problem.code, problem.field) == ("invalid_field", "cost_breakdown.additional_costs[...]")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("messages", "NaN"),
        ("response_time", "Infinity"),
        ("model_parameters.temperature", "-Infinity"),
        ("metadata.user_api_key_max_budget", "NaN"),
        ("metadata.spend_logs_metadata", '{"a": [1, 2, {"b": "c"}]}'),
        ("response", '"redacted"'),
        ("response", "[1, 2]"),
        ("response", "5"),
        ("response", "null"),
        ("response", '{"model": {"no": "name"}, "usage": [1], "status": 3, "background": "x"}'),
        ("hidden_params.additional_headers", '{"x-litellm-attempted-fallbacks": {"a": 1}}'),
        ("model_map_information.model_map_value", "null"),
        ("model_map_information", "null"),
        ("cost_breakdown", "null"),
        ("hidden_params", "null"),
        ("tallygate", "null"),
        ("request_tags", "null"),
        (f"{USAGE}.cost", '{"total_cost": 1}'),
    ],
)
def test_what_nobody_reads_or_what_may_be_missing_does_no_harm(path: str, value: str):
    event = read_raw(raw_with(path, value))
    assert isinstance(event, UsageEvent), event
    assert event.usage.input_tokens == 412


@pytest.mark.parametrize("raw", [b"{}", b'{"metadata": {}}', b'{"call_type": "acompletion"}'])
def test_an_object_that_is_no_event_is_refused(raw: bytes):
    problem = read_raw(raw)
    assert isinstance(problem, EventProblem)
    assert problem.code == "field_missing"


def test_whole_numbers_may_be_written_as_floats():
    event = read_raw(raw_with(f"{USAGE}.prompt_tokens", "12.0"))
    assert isinstance(event, UsageEvent)
    assert event.usage.input_tokens == 12


@pytest.mark.parametrize(
    ("value", "amount"),
    [
        ("0", "0"),
        ("-0.0", "0"),
        ("1.0000000000000001e-09", "0.0000000010000000000000001"),
        ('"0.5"', "0.5"),
        ("5.7199999999999994e-05", "0.000057199999999999994"),
    ],
)
def test_amounts_are_exact_to_the_last_digit_of_the_text(value: str, amount: str):
    event = read_raw(raw_with("response_cost", value))
    assert isinstance(event, UsageEvent)
    assert event.reported.total_usd == Decimal(amount)
    assert event.reported.total_usd is not None
    assert not event.reported.total_usd.is_signed()


def test_a_missing_cost_is_unknown_and_not_zero():
    assert read_ok(an_event(response_cost=None)).reported.total_usd is None


@pytest.mark.parametrize(
    ("offset", "code"),
    [
        (timedelta(minutes=4), None),
        (timedelta(minutes=6), "occurred_in_future"),
        (-timedelta(days=399), None),
        (-timedelta(days=401), "occurred_too_long_ago"),
    ],
)
def test_events_of_other_times_are_refused(offset: timedelta, code: str | None):
    found = read(an_event(began_at=NOW + offset))
    assert getattr(found, "code", None) == code
    if code is None:
        assert isinstance(found, UsageEvent)
        assert found.occurred_at == NOW + offset


def test_an_end_before_the_start_tells_no_duration():
    event = an_event()
    assert read_ok(event | {"endTime": event["startTime"] - 1}).duration_ms is None
    assert read_ok(event | {"endTime": None}).duration_ms is None
    assert read_ok(event | {"endTime": 1e12}).duration_ms is None
    assert read_ok(event | {"endTime": event["startTime"] + 1.5}).duration_ms == 1500


def test_empty_texts_are_no_values():
    event = read_ok(an_event(end_user="", model_id="", model_group="", session_id="", custom_llm_provider=""))
    assert event.dimensions.end_user is None
    assert event.models.model_group is None
    assert event.models.deployment_id is None
    assert event.models.provider is None


def test_long_texts_become_bounded_keys_and_nul_is_replaced():
    long = "v" * 10_000
    event = read_ok(an_event(end_user=long, model=f"m\0{long}", request_tags=[long, "a\0b"]))
    assert event.dimensions.end_user is not None
    assert len(event.dimensions.end_user) < 256
    assert event.models.model is not None
    assert "\0" not in event.models.model
    assert event.dimensions.tags[1] == "a\ufffdb"
    assert read_ok(an_event(end_user=long)).dimensions.end_user == event.dimensions.end_user


def test_numbers_as_ids_are_texts():
    event = read_ok(an_event(end_user=42, metadata={"user_api_key_user_id": 7}, request_tags=[5, "a"]))
    assert (event.dimensions.end_user, event.dimensions.user, event.dimensions.tags) == ("42", "7", ("5", "a"))


def test_scripts_of_all_directions_are_kept():
    assert (
        read_ok(an_event(end_user="\u202e\u0645\u0631 {} \U0001f4b8")).dimensions.end_user
        == "\u202e\u0645\u0631 {} \U0001f4b8"
    )


def test_tags_are_kept_once_and_automatic_ones_apart():
    event = read_ok(an_event(request_tags=["a", "", "b", "a", "User-Agent: x", "User-Agentish", None]))
    assert event.dimensions.tags == ("a", "b", "User-Agentish")
    assert event.automatic_tags == ("User-Agent: x",)


def test_all_tags_are_read_whichever_of_them_may_stay_in_the_end():
    tags = tuple(f"t{n}" for n in range(MAX_TAGS + 8))
    assert read_ok(an_event(request_tags=list(tags))).dimensions.tags == tags


def test_what_an_adapter_adds_is_read():
    event = read_ok(
        an_event(
            tallygate={
                "requested_model": "claude",
                "reservation_id": "r-1",
                "session": "s-1",
                "agent": "planner",
                "attempt": 2,
                "final": False,
                "source": "adapter",
            }
        )
    )
    assert event.models.requested_model == "claude"
    assert event.reservation_id == "r-1"
    assert (event.dimensions.session, event.dimensions.agent) == ("s-1", "planner")
    assert (event.attempt, event.is_final, event.source) == (2, False, "adapter")


def test_what_an_adapter_adds_does_not_make_it_another_event():
    event = an_event()
    plain, added = read_ok(event), read_ok(event | {"tallygate": {"requested_model": "x", "attempt": 1}})
    assert (plain.event_id, plain.fingerprint) == (added.event_id, added.fingerprint)


@pytest.mark.parametrize("source", ["tallygate", "TALLYGATE", " Tallygate "])
def test_the_source_of_the_ledgers_own_entries_is_refused(source: str):
    problem = read(an_event(tallygate={"source": source}))
    assert isinstance(problem, EventProblem)
    assert (problem.code, problem.field) == ("reserved_source", "tallygate.source")
    assert read_ok(an_event(tallygate={"source": "tallygate-2"})).source == "tallygate-2"
    assert read_ok(an_event(tallygate={"source": source}), pinned_source="pinned").source == "pinned"


def test_the_source_a_token_pins_overrides_the_events():
    event = an_event(tallygate={"source": "claimed"})
    assert read_ok(event, pinned_source="pinned").source == "pinned"
    assert read_ok(event).source == "claimed"
    assert read_ok(an_event()).source == "litellm"


def test_the_session_is_the_adapters_else_the_gateways_else_the_trace():
    assert read_ok(an_event(trace_id="t", session_id="")).dimensions.session == "t"
    assert read_ok(an_event(trace_id="t", session_id="s")).dimensions.session == "s"
    assert read_ok(an_event(trace_id="t", session_id="s", tallygate={"session": 5})).dimensions.session == "5"


@pytest.mark.parametrize(
    ("overrides", "is_final"),
    [
        ({}, True),
        ({"status": "failure"}, False),
        ({"status": "failure", "tallygate": {"final": True}}, True),
        ({"tallygate": {"final": False}}, False),
        ({"call_type": "acreate_batch", "response_cost": 0.0}, False),
        ({"call_type": "aretrieve_batch"}, True),
        ({"call_type": "call_mcp_tool"}, False),
        ({"call_type": "asearch"}, False),
        ({"call_type": "afile_content"}, False),
        ({"metadata": {"internal_call_origin": "autorouter_classifier"}}, False),
        ({"metadata": {"internal_call_origin": "background_response_cost_poll"}}, True),
        ({"call_type": "something_new"}, True),
    ],
)
def test_only_the_end_of_what_a_caller_asked_for_is_final(overrides: dict[str, Any], is_final: bool):
    assert read_ok(an_event(**overrides)).is_final is is_final


def test_who_asked_is_cleaned_and_a_plain_key_hashed():
    found = read_ok(an_event(end_user=" mia\u200b", request_tags=[" a ", "a", " "])).dimensions
    assert (found.end_user, found.tags) == ("mia", ("a",))
    event = an_event()
    key = read_ok(event | {"metadata": event["metadata"] | {"user_api_key_hash": "sk-1234"}}).dimensions.api_key
    assert key == sha256(b"sk-1234").hexdigest()
