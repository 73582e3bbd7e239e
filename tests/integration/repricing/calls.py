"""Calls whose price is not known yet."""

from typing import Any

from tests.builders import a_litellm_event

MYSTERY = "azure/contoso-chat-01"


def an_unpriced_event(**fields: Any) -> dict[str, Any]:
    """Return a call of a deployment whose model nobody has a price for, and no figure of the gateway's."""
    names = {"model": MYSTERY, "model_group": "mystery", "custom_llm_provider": "azure", "response_cost": 0}
    event = a_litellm_event(**(names | fields))
    event["hidden_params"] |= {"litellm_model_name": MYSTERY}
    event["model_map_information"] = {"model_map_key": MYSTERY, "model_map_value": None}
    event.pop("cost_breakdown", None)
    return event
