"""Reads one event of a test as ingest does."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec

from service.events.elements import Undecoded, read_elements
from service.events.litellm import LITELLM, read_event
from service.events.usage_event import EventProblem, UsageEvent
from tests.builders import a_litellm_event

NOW = datetime(2026, 11, 6, 12, 0, tzinfo=UTC)
NO_TOKENS = {"prompt_tokens": 0, "completion_tokens": 0}


def read_outcome(**overrides: Any) -> UsageEvent | EventProblem:
    """Return what becomes of a chat completion with other fields."""
    event = a_litellm_event(began_at=NOW - timedelta(seconds=2), **overrides)
    return outcome_of(msgspec.json.encode(event))


def outcome_of(raw: bytes) -> UsageEvent | EventProblem:
    """Return what becomes of an element as it stands."""
    [[element]] = list(read_elements(raw, LITELLM))
    return element.problem if isinstance(element, Undecoded) else read_event(element, received_at=NOW)


def raw_event(path: str, value: str, **overrides: Any) -> bytes:
    """Return a chat completion with other fields whose value at a path is written as it stands."""
    event = a_litellm_event(began_at=NOW - timedelta(seconds=2), **overrides)
    *parents, last = path.split(".")
    place = event
    for parent in parents:
        place[parent] = dict(place.get(parent) or {})
        place = place[parent]
    place[last] = "PLACE-OF-THE-VALUE"
    return msgspec.json.encode(event).replace(b'"PLACE-OF-THE-VALUE"', value.encode())


def read(**overrides: Any) -> UsageEvent:
    """Return the event of a chat completion with other fields."""
    found = read_outcome(**overrides)
    assert isinstance(found, UsageEvent), found
    return found


def read_call(call_type: str, usage_object: dict[str, Any] | None = None, **overrides: Any) -> UsageEvent:
    """Return an event of another call type, whose usage object and answer are nothing but what is given."""
    metadata = {"usage_object": usage_object or {}} | overrides.pop("metadata", {})
    whole = NO_TOKENS | {"response": {}, "cost_breakdown": None} | overrides
    response = whole.pop("response")
    event = a_litellm_event(began_at=NOW - timedelta(seconds=2), call_type=call_type, metadata=metadata, **whole)
    event["response"] = response
    found = outcome_of(msgspec.json.encode(event))
    assert isinstance(found, UsageEvent), found
    return found


def units_of(event: UsageEvent) -> dict[str, Decimal]:
    """Return the units of an event by name, each named once."""
    units = dict(event.usage.units)
    assert len(units) == len(event.usage.units)
    return units


def amounts(**quantities: Any) -> dict[str, Decimal]:
    """Return quantities as exact numbers."""
    return {name: Decimal(str(quantity)) for name, quantity in quantities.items()}
