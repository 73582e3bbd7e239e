"""Whatever is sent: nothing crashes, order is kept, and how events are framed changes nothing."""

import json
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from service.errors import MalformedBody
from service.events import elements
from service.events.declared_fields import declared_document
from service.events.elements import Undecoded, read_elements
from service.events.litellm import LITELLM, read_event
from service.events.litellm_payload import Payload
from service.events.repair import repair_element, repair_for_splitting
from service.events.usage_event import EventProblem, UsageEvent
from tests.builders import a_litellm_event, captured_body

NOW = datetime(2026, 11, 6, 12, 0, tzinfo=UTC)

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["NaN", "Infinity", '"', "\\", "]", "}", ",", "\n", "\ud800", "\udc00\ud800"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
EVENT = a_litellm_event(began_at=NOW, is_new=False)


def paths_of(value: Any, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    if not isinstance(value, dict):
        return [path]
    return [path, *(found for name, each in value.items() for found in paths_of(each, (*path, name)))]


PATHS = [path for path in paths_of(EVENT) if path]


def with_value(path: tuple[str, ...], value: Any) -> dict[str, Any]:
    changed: dict[str, Any] = json.loads(json.dumps(EVENT))
    place = changed
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    return changed


def read_all(body: bytes) -> list[Payload | Undecoded]:
    return [element for chunk in read_elements(body, LITELLM) for element in chunk]


def outcome(element: Payload | Undecoded) -> UsageEvent | EventProblem:
    return element.problem if isinstance(element, Undecoded) else read_event(element, received_at=NOW)


def dumps(value: Any) -> bytes:
    return json.dumps(value).encode()


@given(st.lists(JSON, max_size=8))
@example([float("inf"), float("nan"), {}, float("-inf")])
@settings(max_examples=300, deadline=None)
def test_any_json_array_is_read_element_by_element_in_order(values: list[Any]):
    found = read_all(dumps(values))
    assert len(found) == len(values)
    for value, element in zip(values, found, strict=True):
        if value is None:
            assert isinstance(element, Undecoded)
            assert element.problem.code == "event_missing"
        elif not isinstance(value, dict):
            assert isinstance(element, Undecoded)
            assert element.problem.code in {"not_an_object", "invalid_field"}
        outcome(element)


@given(st.lists(st.dictionaries(st.sampled_from(sorted(EVENT)), JSON, max_size=5), min_size=1, max_size=6))
@settings(max_examples=200, deadline=None)
def test_an_array_lines_and_single_bodies_say_the_same(values: list[dict[str, Any]]):
    single = [outcome(read_all(dumps(value))[0]) for value in values]
    assert [outcome(each) for each in read_all(dumps(values))] == single
    assert [outcome(each) for each in read_all(b"\n".join(map(dumps, values)))] == single
    assert [outcome(each) for each in read_all(b" ".join(map(dumps, values)))] == single
    compact = json.dumps(values, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogatepass")
    assert len(read_all(compact)) == len(values)


@given(st.sampled_from(PATHS), JSON)
@settings(max_examples=500, deadline=None)
@example(("metadata",), [])
@example(("startTime",), 1e308)
@example(("response_cost",), 10**400)
@example(("request_tags",), {"": None})
@example(("request_tags",), {})
def test_any_value_anywhere_gives_an_event_or_a_reason(path: tuple[str, ...], value: Any):
    raw = dumps(with_value(path, value))
    [element] = read_all(raw)
    found = outcome(element)
    if isinstance(found, EventProblem):
        assert found.code
        assert found.detail
    else:
        assert len(found.event_id) <= 256
        assert found.reported.total_usd is None or found.reported.total_usd >= 0
        assert found.usage.cache_read_input_tokens <= found.usage.input_tokens
        msgspec.json.encode(found)
    kept = declared_document(raw if isinstance(element, Undecoded) else element)
    if kept is not None:
        assert b"\\u0000" not in kept
        assert b"Summarise the incident" not in kept
        [again] = read_all(kept)
        assert isinstance(outcome(again), UsageEvent) == isinstance(found, UsageEvent)


@given(st.binary(max_size=200))
@settings(max_examples=500, deadline=None)
def test_any_bytes_are_read_or_malformed(body: bytes):
    try:
        for element in read_all(body):
            outcome(element)
    except MalformedBody:
        pass


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_a_damaged_body_is_read_or_malformed(data: st.DataObject):
    body = bytearray(captured_body(data.draw(st.sampled_from(["plain_chat.json", "format_ndjson.ndjson"])))[:40_000])
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(0, len(body) - 1))
        match data.draw(st.sampled_from(["change", "cut", "insert"])):
            case "change":
                body[position] = data.draw(st.integers(0, 255))
            case "cut":
                del body[position : position + data.draw(st.integers(1, 3000))]
            case _:
                body[position:position] = data.draw(st.sampled_from([b'"', b"}", b"]", b"NaN", b"\n", b"{", b"\\"]))
        if not body:
            break
    try:
        for element in read_all(bytes(body)):
            outcome(element)
    except MalformedBody:
        pass


@given(st.lists(st.dictionaries(st.text(max_size=6), JSON, max_size=4), min_size=1, max_size=5))
@settings(max_examples=300, deadline=None)
def test_repairs_make_valid_json_and_move_nothing(values: list[dict[str, Any]]):
    for value in values:
        raw = dumps(value)
        repaired = repair_element(raw) or raw
        msgspec.json.decode(repaired, type=msgspec.Raw)
        assert len(repair_for_splitting(raw)) == len(raw)
        if b"NaN" not in raw and b"Infinity" not in raw and b"\\ud" not in raw:
            assert repaired is raw


@given(st.integers(1, 30), st.integers(0, 30), st.integers(0, 3))
@settings(max_examples=30, deadline=None)
def test_large_arrays_are_read_alike_with_and_without_flaws(good: int, bad_at: int, kind: int):
    event = dumps(EVENT)
    flaw = [b'{"startTime": NaN}', b"null", b'{"a": tru}', event.replace(b'"messages": [', b'"x": NaN, "messages": [')][
        kind
    ]
    parts = [event] * good
    parts.insert(min(bad_at, good), flaw)
    found = [outcome(each) for each in read_all(b"[" + b", ".join(parts) + b"]")]
    assert len(found) == good + 1
    assert sum(isinstance(each, UsageEvent) for each in found) == good + (kind == 3)


@given(
    st.lists(st.none() | st.dictionaries(st.sampled_from(["id", "trace_id", "x"]), JSON, max_size=3), max_size=25),
    st.integers(8, 400),
    st.sampled_from([None, 1]),
)
@settings(max_examples=200, deadline=None)
def test_where_runs_are_cut_changes_nothing(values: list[Any], run_bytes: int, indent: int | None):
    body = json.dumps(values, indent=indent).encode()
    whole = [outcome(each) for each in read_all(body)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(elements, "_RUN_BYTES", (run_bytes, run_bytes * 8))
        assert [outcome(each) for each in read_all(body)] == whole
    assert len(whole) == len(values)
