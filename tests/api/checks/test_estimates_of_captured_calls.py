"""What a gateway could have told before each captured call: the estimate covers what its event was charged."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from service.checks.quantities import UNITS
from tests.api.checks.world import World

DATA = Path(__file__).parents[2] / "data"
BODIES = sorted(path.name for path in DATA.iterdir() if path.suffix in {".json", ".ndjson"})
# What the gateway knows of the route and an event's charge does not show in a column of its own.
ROUTES = {
    "anthropic_geo_us.json": {"inference_geography": "us"},
    "openai_eu_residency.json": {"data_residency": "eu"},
    "vertex_default.json": {"vertex_location": "us-east5"},
    "vertex_region_uplift.json": {"vertex_location": "europe-west1"},
}
PARTS = {
    "cache_write_5m": "cache_write_5m_input_tokens",
    "cache_write_1h": "cache_write_1h_input_tokens",
    "audio_input": "audio_input_tokens",
    "image_input": "image_input_tokens",
}


@pytest.mark.parametrize("name", BODIES)
async def test_what_was_charged_was_covered_by_its_estimate(world: World, name: str):
    answer = await world.call("POST", "/v1/events?results=all", content=(DATA / name).read_bytes())
    for result in answer["results"]:
        if result.get("price_state") == "priced":
            charge = await world.call("GET", f"/v1/charges/{result['charge_id']}")
            estimate = await world.call("POST", "/v1/estimates", json=told_before(charge) | ROUTES.get(name, {}))
            if not any("configured on the deployment" in (line["note"] or "") for line in charge["components"]):
                assert Decimal(estimate["estimate"]["amount_usd"]) >= Decimal(charge["cost_usd"])
                assert estimate["estimate"]["price_state"] == "priced"


def told_before(charge: dict[str, Any]) -> dict[str, Any]:
    """The names, the bounds and what was used beside plain text."""
    quantities: dict[str, Any] = {}
    for line in charge["components"]:
        declared = PARTS.get(line["name"], line["name"])
        if line["name"] in PARTS or line["name"] in UNITS:
            quantities[declared] = line["quantity"]
    return {
        "model": charge["requested_model"],
        "deployment": charge["deployment"],
        "provider": charge["provider"],
        "served_models": [charge["served_model"]],
        "call_type": charge["call_type"],
        "input_tokens": charge["input_tokens"],
        "max_output_tokens": charge["output_tokens"],
        "service_tier": charge["service_tier"],
        "quantities": quantities,
    }
