"""Every captured body, posted to a running server: our cost is the gateway's, and where not, there is a reason."""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

DATA = Path(__file__).parents[2] / "data"
BODIES = sorted(
    path.name for path in DATA.iterdir() if path.suffix in {".json", ".ndjson"} and "legacy" not in path.name
)
# Gateways sum in binary floating point.
TOLERANCE = Decimal("1e-9")

# What each call of a body costs, where that is not what the gateway says.
OURS: dict[str, dict[str, str]] = {
    "custom_price_per_second.json": {
        "0.000178312": "by the start and the end the event names, 0.356624 s; the gateway's own clock said 0.362841 s"
    },
    "ocr.json": {"0.012": "the gateway looked the price up under the name in the answer and found none: 3 pages"},
    "router_base_model.json": {"0.00539": "the gateway charges the router's fee alone, the model's own cost is lost"},
    "zero_usage.json": {"0": "no usage: nothing to price, nothing reported"},
}
# Calls whose own price cannot be computed: by the gateway's figure, or not at all.
NOT_BY_OURS: dict[str, tuple[str, str]] = {
    "azure_no_base_model.json": ("reported", "no_price"),
    "prefix_missing.json": ("unpriced", "no_price"),
    "router_gpt41nano_stream.json": ("reported", "no_model"),
    "router_hidden_name.json": ("unpriced", "no_model"),
    "speech_tts1.json": ("reported", "unmeasured:input_characters"),
    "vllm_unmapped.json": ("unpriced", "no_price"),
    "zero_usage.json": ("unpriced", "no_usage"),
}


def events_of(name: str) -> list[dict[str, Any]]:
    body = (DATA / name).read_bytes()
    found = [json.loads(line) for line in body.splitlines()] if name.endswith(".ndjson") else json.loads(body)
    return found if isinstance(found, list) else [found]


def agrees(ours: str, gateway: Decimal) -> bool:
    return abs(Decimal(ours) - gateway) <= gateway * TOLERANCE


@pytest.mark.parametrize("name", BODIES)
async def test_a_captured_call_costs_what_the_gateway_says_or_there_is_a_reason(
    client: httpx.AsyncClient, headers: dict[str, str], name: str
) -> None:
    answer = await client.post(
        "/v1/events", content=(DATA / name).read_bytes(), headers=headers, params={"results": "all"}
    )
    assert answer.status_code == 200, answer.text
    different = OURS.get(name, {})
    for event, result in zip(events_of(name), answer.json()["results"], strict=True):
        charge = (await client.get(f"/v1/charges/{result['charge_id']}", headers=headers)).json()
        gateway = Decimal(str(event["response_cost"]))
        assert charge["cost_usd"] in different or agrees(charge["cost_usd"], gateway), (charge["cost_usd"], gateway)
        lines = [*charge["components"], *charge["fees"]]
        assert sum(Decimal(line["amount_usd"]) for line in lines) == Decimal(charge["cost_usd"])
        state = (charge["price_state"], charge["price_reason"])
        if name in NOT_BY_OURS:
            assert state == NOT_BY_OURS[name]
        else:
            assert charge["price_state"] in {"priced", "free"}, state


def test_every_exception_is_about_a_body_there_is() -> None:
    assert {*OURS, *NOT_BY_OURS} <= set(BODIES)
