"""Which keys of a cost map are about money, which of them rating understands, and which are no part of a call's price.

Whatever is price-relevant and neither is named by the import report, never guessed at. Pure.
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Final

from service.pricing import rate_keys, unit_keys
from service.pricing.rate_keys import parse_rate_key
from service.pricing.unit_keys import parse_unit_key

STRUCTURED_KEYS: Final = frozenset(
    {
        rate_keys.TIERED_PRICING,
        rate_keys.OFF_PEAK_PRICING,
        rate_keys.PROVIDER_SPECIFIC,
        unit_keys.SEARCH_CONTEXT,
        unit_keys.SEARCH_BILLING,
        unit_keys.GUARDRAIL,
    }
)

_OFF_PEAK_PARTS: Final = frozenset({"windows", "weekday_timezone"})
_PROVIDER_PARTS: Final = frozenset({*rate_keys.PROVIDER_MULTIPLIERS, unit_keys.FREE_INPUT_IMAGES})

_STORAGE: Final = "Storage over days is no call's cost."
_DATABRICKS: Final = "The same rate in Databricks units; the rate in USD beside it is charged."
_VIDEO_INTERVAL: Final = (
    "No event tells the interval at which a video was sampled; the rate of the default interval is charged."
)

_REQUEST_FORM: Final = "How a request is written, and no price."

# Understood, but no part of a call's price; why. A dot leads into a structured key.
NOT_CHARGED: Final[dict[str, str]] = {
    "explicit_cache_read_input_token_cost": (
        "No event tells reads of an explicit cache from others; all are charged at the cache read rate, the dearer one."
    ),
    "file_search_cost_per_gb_per_day": _STORAGE,
    "input_cost_per_video_per_second_above_15s_interval": _VIDEO_INTERVAL,
    "input_cost_per_video_per_second_above_8s_interval": _VIDEO_INTERVAL,
    "input_dbu_cost_per_token": _DATABRICKS,
    "output_dbu_cost_per_token": _DATABRICKS,
    "provider_specific_entry.bedrock_invocation_schema": _REQUEST_FORM,
    "provider_specific_entry.dashscope_video_reference_input": _REQUEST_FORM,
    "provider_specific_entry.volcengine_video_frames": (
        "The rate per second is exact for 16:9; no event tells the frame of another ratio."
    ),
    "search_free_requests": (
        "What a group of models used of a day's or month's allowance cannot be known from one call: every search is "
        "charged, and its line says so."
    ),
    "vector_store_cost_per_gb_per_day": _STORAGE,
}


@lru_cache(maxsize=2048)
def is_price_relevant(key: str) -> bool:
    """Tell whether a key of a cost map can change what a call costs."""
    return "cost" in key or "multiplier" in key or key in STRUCTURED_KEYS or key in NOT_CHARGED


@lru_cache(maxsize=2048)
def is_understood(key: str) -> bool:
    """Tell whether rating uses the key; the inside of structured ones is another matter."""
    return (
        key in STRUCTURED_KEYS
        or key in rate_keys.MULTIPLIER_KEYS
        or key in rate_keys.SECOND_NAMES
        or parse_rate_key(key) is not None
        or parse_unit_key(key) is not None
    )


def not_understood(entry: dict[str, Any]) -> Iterator[str]:
    """Yield the price-relevant keys of an entry that nobody here knows; a dot leads into a structured key."""
    return (name for name in _unused_keys(entry) if name not in NOT_CHARGED)


def not_charged(entry: dict[str, Any]) -> Iterator[str]:
    """Yield the keys of an entry that are known, and for the reason in `NOT_CHARGED` no part of any price."""
    return (name for name in _unused_keys(entry) if name in NOT_CHARGED)


def _unused_keys(entry: dict[str, Any]) -> Iterator[str]:
    for name, value in entry.items():
        if not is_price_relevant(name):
            continue
        if not is_understood(name):
            yield name
        elif name in STRUCTURED_KEYS:
            yield from (f"{name}.{part}" for part in _unused_parts(name, value))


def _unused_parts(name: str, value: Any) -> Iterator[str]:
    match name:
        case rate_keys.TIERED_PRICING:
            yield from (part for row in value for part in row if not _is_used_in_row(part, row))
        case rate_keys.OFF_PEAK_PRICING:
            yield from (part for part in value if part not in _OFF_PEAK_PARTS and parse_rate_key(part) is None)
        case rate_keys.PROVIDER_SPECIFIC:
            yield from (part for part in value if part not in _PROVIDER_PARTS)
        case unit_keys.SEARCH_CONTEXT:
            yield from (part for part in value if part not in unit_keys.SEARCH_SIZES)
        case unit_keys.SEARCH_BILLING if str(value) not in unit_keys.SEARCH_BILLING_UNITS:
            yield str(value)


def _is_used_in_row(part: str, row: dict[str, Any]) -> bool:
    if unit_keys.RESULTS_RANGE in row:
        return part in {unit_keys.RESULTS_RANGE, unit_keys.RESULTS_RATE}
    return "range" in row and (part == "range" or parse_rate_key(part) is not None)
