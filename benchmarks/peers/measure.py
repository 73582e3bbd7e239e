"""What litellm and genai-prices take to price calls. Run by the Python of .venv-peers; knows nothing of this project.

Reads {"rounds", "calls": [{"provider", "model", "usage", "call_type"}]} from standard input and prints, per peer, what
each call costs (null: it cannot price it) and how long it takes: the best of the rounds, in microseconds of processor
time. Whatever can be made before pricing is made before the time is taken.
"""

import contextlib
import json
import os
import sys
from collections.abc import Callable
from time import process_time_ns
from typing import Any

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # the map in the package, which is the one we ship; no network

import litellm
from genai_prices import Usage, calc_price
from litellm.types.utils import CompletionTokensDetailsWrapper, ModelResponse, PromptTokensDetailsWrapper
from litellm.types.utils import Usage as LitellmUsage

_REPEATS = 20


def _litellm_usage(usage: dict[str, int]) -> LitellmUsage:
    written = usage.get("cache_write_5m_input_tokens", 0), usage.get("cache_write_1h_input_tokens", 0)
    prompt, completion = usage.get("input_tokens", 0), usage.get("output_tokens", 0)
    return LitellmUsage(
        prompt_tokens=prompt,
        completion_tokens=completion,
        total_tokens=prompt + completion,
        prompt_tokens_details=PromptTokensDetailsWrapper(
            cached_tokens=usage.get("cache_read_input_tokens", 0),
            audio_tokens=usage.get("audio_input_tokens", 0),
            cache_creation_tokens=sum(written),
            cache_creation_token_details={
                "ephemeral_5m_input_tokens": written[0],
                "ephemeral_1h_input_tokens": written[1],
            },
        ),
        completion_tokens_details=CompletionTokensDetailsWrapper(
            reasoning_tokens=usage.get("reasoning_output_tokens", 0), audio_tokens=usage.get("audio_output_tokens", 0)
        ),
        cache_creation_input_tokens=sum(written),
        cache_read_input_tokens=usage.get("cache_read_input_tokens", 0),
    )


def _completion_cost(call: dict[str, Any]) -> Callable[[], float]:
    response = ModelResponse(model=call["model"], usage=_litellm_usage(call["usage"]))
    model, provider, call_type = call["model"], call["provider"], call["call_type"]
    return lambda: litellm.completion_cost(
        completion_response=response, model=model, custom_llm_provider=provider, call_type=call_type
    )


def _cost_per_token(call: dict[str, Any]) -> Callable[[], float]:
    usage = _litellm_usage(call["usage"])
    model, provider = call["model"], call["provider"]
    return lambda: sum(litellm.cost_per_token(model=model, custom_llm_provider=provider, usage_object=usage))


def _calc_price(call: dict[str, Any]) -> Callable[[], float]:
    counts = call["usage"]
    written = counts.get("cache_write_5m_input_tokens", 0) + counts.get("cache_write_1h_input_tokens", 0)
    usage = Usage(
        input_tokens=counts.get("input_tokens", 0),
        output_tokens=counts.get("output_tokens", 0),
        cache_read_tokens=counts.get("cache_read_input_tokens", 0),
        cache_write_tokens=written,
        input_audio_tokens=counts.get("audio_input_tokens", 0),
        output_audio_tokens=counts.get("audio_output_tokens", 0),
    )
    model, provider = call["model"], call["provider"]
    return lambda: float(calc_price(usage, model_ref=model, provider_id=provider).total_price)


PEERS = {
    "litellm completion_cost": _completion_cost,
    "litellm cost_per_token": _cost_per_token,
    "genai-prices calc_price": _calc_price,
}


def _price(price: Callable[[], float]) -> float | None:
    with contextlib.suppress(Exception):  # each peer has errors of its own for what it does not know
        return price()
    return None


def _best_us(price: Callable[[], float], rounds: int) -> float:
    best = float("inf")
    for _ in range(rounds):
        started = process_time_ns()
        for _ in range(_REPEATS):
            price()
        best = min(best, (process_time_ns() - started) / _REPEATS / 1000)
    return best


def main() -> None:
    """Measure every peer with every call."""
    asked = json.load(sys.stdin)
    answer: dict[str, list[dict[str, float] | None]] = {}
    for name, prepare in PEERS.items():
        figures: list[dict[str, float] | None] = []
        for call in asked["calls"]:
            price = prepare(call)
            cost = _price(price)
            figures.append({"cost_usd": cost, "us": _best_us(price, asked["rounds"])} if cost else None)
        answer[name] = figures
    print(json.dumps(answer))


if __name__ == "__main__":
    with contextlib.redirect_stderr(None):
        main()
