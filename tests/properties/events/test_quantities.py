"""Quantities of events: whatever is sent, what is read is exact and bounded, and comes back whole from the facts."""

import json
from collections.abc import Iterator
from decimal import Decimal
from functools import cache
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from service.events.charging import facts_of
from service.events.elements import Undecoded, read_elements
from service.events.litellm import LITELLM, read_event
from service.events.usage_event import EventProblem, UsageEvent
from service.kit.money import MAX_DECIMAL_PLACES
from service.pricing import units
from service.pricing.facts import CallFacts
from tests.builders import CAPTURED, CAPTURED_RECEIVED_AT, captured_body, captured_events

BODIES = sorted(path.name for path in CAPTURED.iterdir() if path.suffix in {".json", ".ndjson"})
CALL_TYPES = [
    *("acompletion", "aresponses", "aembedding", "aimage_generation", "aimage_edit", "atranscription", "aspeech"),
    *("arerank", "aocr", "asearch", "avector_store_search", "_arealtime", "acreate_video", "avideo_status"),
    *("call_mcp_tool", "aretrieve_batch", "pass_through_endpoint", "brand_new"),
]
# A stored row must stay small whatever a gateway sends.
MAX_FACTS_BYTES = 8192

NUMBERS = st.one_of(
    st.none(),
    st.integers(-5, 10**13),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([0, -0.0, 0.5, 1e-300, 5e-324, 1e12, 1e13, 2**63, "8", "12.5", "NaN", "x", True, [], {}, [1]]),
)
TEXTS = st.none() | st.text(max_size=60) | st.sampled_from(["1024x1024", "720x1280", "auto", "4k", "high", "\x00"])


def _objects(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.fixed_dictionaries({}, optional=fields) | st.none()


ITEMS = st.sampled_from(
    ["web_search_call", "file_search_call", "code_interpreter_call", "image_generation_call", "message", 5, None]
)
RESPONSES = _objects(
    data=st.lists(_objects(b64_json=st.just("x")), max_size=4) | NUMBERS,
    output=st.lists(_objects(type=ITEMS, status=TEXTS, container_id=TEXTS), max_size=4) | NUMBERS,
    choices=st.lists(_objects(message=_objects(annotations=st.just([{"type": "url_citation"}]))), max_size=2) | NUMBERS,
    results=st.lists(_objects(type=ITEMS, usage=_objects(seconds=NUMBERS)), max_size=3) | NUMBERS,
    meta=_objects(billed_units=_objects(search_units=NUMBERS, total_tokens=NUMBERS)) | NUMBERS,
    usage_info=_objects(pages_processed=NUMBERS, pages_processed_annotation=NUMBERS, credits=NUMBERS) | NUMBERS,
    duration=NUMBERS,
    seconds=NUMBERS,
    size=TEXTS,
    quality=TEXTS,
)
PARAMETERS = _objects(
    n=NUMBERS, seconds=NUMBERS, size=TEXTS, resolution=TEXTS, query=st.just(["a"]), max_results=NUMBERS
)
USAGES = _objects(
    prompt_tokens=st.integers(0, 10**6),
    completion_tokens=st.integers(0, 10**6),
    output_image_count=NUMBERS,
    duration_seconds=NUMBERS,
    video_count=NUMBERS,
    num_search_queries=NUMBERS,
    server_tool_use=_objects(web_search_requests=NUMBERS),
    prompt_tokens_details=_objects(character_count=NUMBERS, audio_length_seconds=NUMBERS, web_search_requests=NUMBERS),
)
ADDED = st.none() | st.dictionaries(st.sampled_from([units.PAGES, units.WEB_SEARCHES, "x"]), NUMBERS, max_size=2)


@cache
def _plain_event() -> str:
    return json.dumps(captured_events("plain_chat.json")[0])


def _event(call_type: str, usage: Any, response: Any, parameters: Any, added: Any) -> dict[str, Any]:
    event: dict[str, Any] = json.loads(_plain_event())
    event |= {"call_type": call_type, "response": response, "model_parameters": parameters}
    event["metadata"]["usage_object"] = usage
    return event | {"tallygate": {"quantities": added}}


def _outcome(event: dict[str, Any]) -> UsageEvent | EventProblem:
    [[element]] = list(read_elements(json.dumps(event).encode(), LITELLM))
    if isinstance(element, Undecoded):
        return element.problem
    return read_event(element, received_at=CAPTURED_RECEIVED_AT)


@given(st.sampled_from(CALL_TYPES), USAGES, RESPONSES, PARAMETERS, ADDED)
@example("acreate_video", {"duration_seconds": 1e12, "video_count": 10**12}, None, None, None)
@example("aimage_generation", None, {"data": [{}] * 3, "size": "\x00"}, None, None)
@settings(max_examples=400, deadline=None)
def test_whatever_is_sent_quantities_are_positive_exact_and_bounded(
    call_type: str, usage: Any, response: Any, parameters: Any, added: Any
):
    event = _outcome(_event(call_type, usage, response, parameters, added))
    if isinstance(event, EventProblem):
        assert event.field is not None
        assert event.field.startswith(("metadata.usage_object", "tallygate.quantities"))
        return
    found = dict(event.usage.units)
    assert len(found) == len(event.usage.units)
    for name, quantity in found.items():
        assert name in units.UNIT_OF
        assert quantity.is_finite()
        assert 0 < quantity <= Decimal(10) ** 24
        assert -int(quantity.as_tuple().exponent) <= MAX_DECIMAL_PLACES
    assert not found.keys() & set(event.usage.unmeasured)
    facts = facts_of(event)
    stored = msgspec.json.encode(facts)
    assert msgspec.json.decode(stored, type=CallFacts) == facts
    assert len(stored) <= MAX_FACTS_BYTES
    assert b"\\u0000" not in stored


@given(st.sampled_from(["aocr", "aspeech", "acompletion"]), st.decimals(0, 10**12, places=6))
@settings(max_examples=100, deadline=None)
def test_what_an_adapter_adds_comes_out_as_it_went_in(call_type: str, amount: Decimal):
    event = _outcome(_event(call_type, {}, {"usage_info": {"pages_processed": 7}}, {}, {"pages": str(amount)}))
    assert isinstance(event, UsageEvent)
    assert dict(event.usage.units).get(units.PAGES, Decimal(0)) == amount


def _captured() -> Iterator[UsageEvent]:
    for name in BODIES:
        for chunk in read_elements(captured_body(name), LITELLM):
            for payload in chunk:
                assert not isinstance(payload, Undecoded)
                event = read_event(payload, received_at=CAPTURED_RECEIVED_AT)
                assert isinstance(event, UsageEvent), event
                yield event


def test_the_facts_of_every_captured_call_come_back_as_they_were_stored():
    sizes = []
    for event in _captured():
        facts = facts_of(event)
        stored = msgspec.json.encode(facts)
        assert msgspec.json.decode(stored, type=CallFacts) == facts
        assert msgspec.json.encode(msgspec.json.decode(stored, type=CallFacts)) == stored
        sizes.append(len(stored))
    assert max(sizes) < 1000
    assert sum(sizes) / len(sizes) < 600


@pytest.mark.parametrize("name", BODIES)
def test_no_content_is_in_the_facts(name: str):
    for chunk in read_elements(captured_body(name), LITELLM):
        for payload in chunk:
            assert not isinstance(payload, Undecoded)
            event = read_event(payload, received_at=CAPTURED_RECEIVED_AT)
            assert isinstance(event, UsageEvent)
            stored = msgspec.json.encode(facts_of(event)).decode()
            assert not any(
                secret in stored for secret in ("pong", "Summarise", "example.com", "sk-", "b64", "markdown")
            )
