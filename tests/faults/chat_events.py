"""Events as a LiteLLM proxy posts them: one captured call, with new ids, and whatever a test wants otherwise.

Left out is the gateway's price map entry, two thirds of the bytes: loads are made of many events.
"""

import copy
import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from service.kit.clock import utc_now
from service.kit.ids import new_id

_CAPTURED: dict[str, Any] = json.loads((Path(__file__).parents[1] / "data" / "plain_chat.json").read_text())[0]

_CAPTURED["model_map_information"]["model_map_value"] = None

Event = dict[str, Any]


def chat_event(
    *,
    input_tokens: int = 412,
    output_tokens: int = 96,
    at: datetime | None = None,
    team: str | None = "team-4f1c",
    user: str | None = "u-1001",
    api_key: str | None = None,
    model: str = "openai/gpt-4.1-mini",
    model_group: str = "gpt-4.1-mini",
    provider: str | None = "openai",
    price_key: str | None = None,
    tallygate: dict[str, Any] | None = None,
    **fields: Any,
) -> Event:
    """Return a successful chat completion that began two seconds ago; `fields` replace those of the payload."""
    event = copy.deepcopy(_CAPTURED)
    start = (at or utc_now() - timedelta(seconds=2)).timestamp()
    unique = new_id().hex
    usage = event["metadata"]["usage_object"] | {
        "prompt_tokens": input_tokens,
        "completion_tokens": output_tokens,
        "total_tokens": input_tokens + output_tokens,
    }
    event["metadata"] |= {
        "user_api_key_hash": api_key or event["metadata"]["user_api_key_hash"],
        "user_api_key_team_id": team,
        "user_api_key_user_id": user,
        "usage_object": usage,
    }
    event["response"] |= {"id": f"chatcmpl-{unique}", "model": model_group, "usage": usage}
    event["hidden_params"] |= {"litellm_model_name": model}
    event["model_map_information"] |= {"model_map_key": price_key or model}
    event |= {
        "id": f"chatcmpl-{unique}",
        "litellm_call_id": f"call-{unique}",
        "startTime": start,
        "endTime": start + 0.2,
        "completionStartTime": start + 0.2,
        "prompt_tokens": input_tokens,
        "completion_tokens": output_tokens,
        "total_tokens": input_tokens + output_tokens,
        "model": model,
        "model_group": model_group,
        "custom_llm_provider": provider,
    }
    if tallygate is not None:
        event["tallygate"] = tallygate
    return event | fields


def body(*elements: Any) -> bytes:
    """Return the array of the elements; bytes are put in as they are."""
    parts = [each if isinstance(each, bytes) else json.dumps(each).encode() for each in elements]
    return b"[" + b", ".join(parts) + b"]"
