"""Rows of the oracle as events: read by the event decoder and named by identity, as ingest does, then rated."""

import gzip
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from service.events.elements import Undecoded, read_elements
from service.events.litellm import LITELLM, read_event
from service.events.usage_event import UsageEvent
from service.identity.aliases import AliasBook
from service.identity.resolution import resolve_models
from service.pricing.rating_result import Rating
from service.pricing.usage import CustomRates
from tests.unit.pricing.builders import WEDNESDAY_AT_8, rated

FILE = Path(__file__).parents[2] / "data" / "pricing" / "oracle.jsonl.gz"
_NO_ALIASES = AliasBook()
_RATES = {
    "input_per_token": "input_cost_per_token",
    "output_per_token": "output_cost_per_token",
    "cache_read_per_token": "cache_read_input_token_cost",
    "cache_write_per_token": "cache_creation_input_token_cost",
}


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One usage and what LiteLLM charges for it; `suspect` says why its answer is doubtful."""

    model: str
    event_model: str
    provider: str
    call_type: str
    mix: str
    usage: dict[str, Any]
    params: dict[str, Any] = {}
    service_tier: str | None = None
    expected: Decimal | None = None
    suspect: str | None = None
    independent: Decimal | None = None


def load_rows() -> list[Row]:
    lines = gzip.decompress(FILE.read_bytes()).splitlines()
    return [msgspec.json.decode(line, type=Row) for line in lines]


def rate_row(row: Row) -> Rating:
    """Return our rating of the row, without the gateway's own figure to fall back to."""
    event = event_of(row)
    basis = event.basis
    configured = row.params.get("custom_pricing")
    if configured is not None:
        rates = {field: Decimal(str(configured[key])) for field, key in _RATES.items() if key in configured}
        basis = msgspec.structs.replace(basis, custom_rates=CustomRates(**rates))
    models = resolve_models(event.models, _NO_ALIASES, event.occurred_at)
    return rated(models, event.usage, basis, occurred_at=event.occurred_at)


def event_of(row: Row) -> UsageEvent:
    [[element]] = list(read_elements(msgspec.json.encode(_payload(row)), LITELLM))
    assert not isinstance(element, Undecoded), element
    event = read_event(element, received_at=WEDNESDAY_AT_8 + timedelta(days=30))
    assert isinstance(event, UsageEvent), event
    return event


def _payload(row: Row) -> dict[str, Any]:
    params = row.params
    start = params.get("billed_at") or WEDNESDAY_AT_8.isoformat()
    began = WEDNESDAY_AT_8.fromisoformat(start)
    ended = began + timedelta(milliseconds=float(params.get("response_time_ms", 0)))
    return {
        "id": "a",
        "litellm_call_id": "b",
        "call_type": row.call_type,
        "status": "success",
        "startTime": began.timestamp(),
        "endTime": ended.timestamp(),
        "model": params.get("served_model", row.event_model),
        "custom_llm_provider": row.provider,
        "hidden_params": {"litellm_model_name": params.get("deployment_model", row.event_model)},
        "metadata": {"usage_object": row.usage | _counted(row)},
        "model_parameters": {key: params[key] for key in ("n", "size", "quality", "resolution") if key in params},
        "response": _answer(row),
        "response_cost": 1.0,
        "cost_breakdown": {
            "service_tier": row.service_tier,
            "data_residency": params.get("data_residency"),
            "vertex_location": params.get("vertex_location"),
        },
        "tallygate": {"quantities": _added(row)},
    }


def _counted(row: Row) -> dict[str, Any]:
    """What a usage object tells of other calls than chats."""
    told = {
        "duration_seconds": row.params.get("duration_seconds", row.params.get("duration")),
        "video_resolution": row.params.get("video_resolution"),
    }
    return {name: value for name, value in told.items() if value is not None}


def _answer(row: Row) -> dict[str, Any]:
    params = row.params
    if row.call_type == "aocr":
        counted = ("pages_processed", "pages_processed_annotation")
        return {"usage_info": {key: params[key] for key in counted if key in params}}
    if row.call_type == "arerank":
        return {"meta": {"billed_units": params["billed_units"]}}
    return {}


def _added(row: Row) -> dict[str, Any]:
    """What no event of a gateway tells, and an adapter adds."""
    added = {
        "input_characters": row.params.get("characters"),
        "queries": row.params.get("number_of_queries"),
        "web_searches": row.params.get("web_search_requests"),
    }
    return {name: str(quantity) for name, quantity in added.items() if quantity is not None}
