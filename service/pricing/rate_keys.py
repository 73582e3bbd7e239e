"""The grammar of a cost map's keys: which token kind, context threshold and service tier a rate is for. Pure.

`<base>[_above_1hr][_above_Nk_tokens][_<tier>]`. Whatever is price-relevant and outside this grammar is named in the
import report, never guessed at.
"""

import re
from functools import lru_cache
from typing import Final

import msgspec

# The token kinds a line can be for, in the order lines appear; also the names of the lines.
TEXT_INPUT: Final = "text_input"
CACHE_READ: Final = "cache_read"
CACHE_READ_AUDIO: Final = "cache_read_audio"
CACHE_READ_IMAGE: Final = "cache_read_image"
CACHE_WRITE_5M: Final = "cache_write_5m"
CACHE_WRITE_1H: Final = "cache_write_1h"
AUDIO_INPUT: Final = "audio_input"
IMAGE_INPUT: Final = "image_input"
VIDEO_INPUT: Final = "video_input"
TEXT_OUTPUT: Final = "text_output"
REASONING: Final = "reasoning"
AUDIO_OUTPUT: Final = "audio_output"
IMAGE_OUTPUT: Final = "image_output"
VIDEO_OUTPUT: Final = "video_output"

TOKEN_KINDS: Final = (
    TEXT_INPUT,
    CACHE_READ,
    CACHE_READ_AUDIO,
    CACHE_READ_IMAGE,
    CACHE_WRITE_5M,
    CACHE_WRITE_1H,
    AUDIO_INPUT,
    IMAGE_INPUT,
    VIDEO_INPUT,
    TEXT_OUTPUT,
    REASONING,
    AUDIO_OUTPUT,
    IMAGE_OUTPUT,
    VIDEO_OUTPUT,
)

# What stands in for a rate the map does not have; parents come before their children in TOKEN_KINDS.
SUBSTITUTE_OF: Final[dict[str, str]] = {
    CACHE_READ: TEXT_INPUT,
    CACHE_READ_AUDIO: CACHE_READ,
    CACHE_READ_IMAGE: CACHE_READ,
    CACHE_WRITE_5M: TEXT_INPUT,
    CACHE_WRITE_1H: CACHE_WRITE_5M,
    AUDIO_INPUT: TEXT_INPUT,
    IMAGE_INPUT: TEXT_INPUT,
    VIDEO_INPUT: TEXT_INPUT,
    REASONING: TEXT_OUTPUT,
    AUDIO_OUTPUT: TEXT_OUTPUT,
    IMAGE_OUTPUT: TEXT_OUTPUT,
    VIDEO_OUTPUT: TEXT_OUTPUT,
}

_KIND_OF_BASE: Final[dict[str, str]] = {
    "input_cost_per_token": TEXT_INPUT,
    "cache_read_input_token_cost": CACHE_READ,
    "cache_read_input_audio_token_cost": CACHE_READ_AUDIO,
    "cache_read_input_image_token_cost": CACHE_READ_IMAGE,
    "cache_creation_input_token_cost": CACHE_WRITE_5M,
    "cache_creation_input_token_cost_above_1hr": CACHE_WRITE_1H,
    "input_cost_per_audio_token": AUDIO_INPUT,
    "input_cost_per_image_token": IMAGE_INPUT,
    "input_cost_per_video_token": VIDEO_INPUT,
    "output_cost_per_token": TEXT_OUTPUT,
    "output_cost_per_reasoning_token": REASONING,
    "output_cost_per_audio_token": AUDIO_OUTPUT,
    "output_cost_per_image_token": IMAGE_OUTPUT,
    "output_cost_per_video_token": VIDEO_OUTPUT,
}

STANDARD: Final = ""
BATCHES: Final = "batches"
SERVICE_TIERS: Final = frozenset({"flex", "priority", "balanced", "ultrafast", "decisions", BATCHES})

_THRESHOLD = re.compile(r"^(?P<base>.+?)_above_(?P<thousands>\d{1,6})k_tokens$")

# A second name for a rate that every entry using it also states under the first name.
_SECOND_NAMES: Final = frozenset({"input_cost_per_token_cache_hit"})

TIERED_PRICING: Final = "tiered_pricing"
OFF_PEAK_PRICING: Final = "off_peak_pricing"
PROVIDER_SPECIFIC: Final = "provider_specific_entry"
MULTIPLIER_KEYS: Final[dict[str, str]] = {
    "regional_processing_uplift_multiplier_eu": "data residency eu",
    "regional_processing_uplift_multiplier_us": "data residency us",
    "regional_endpoint_uplift_multiplier": "regional endpoint",
}
PROVIDER_MULTIPLIERS: Final[dict[str, str]] = {"us": "inference geography us", "fast": "fast mode"}

_STRUCTURED_KEYS: Final = frozenset({TIERED_PRICING, OFF_PEAK_PRICING, PROVIDER_SPECIFIC, *MULTIPLIER_KEYS})
_OTHER_PRICE_KEYS: Final = frozenset({"search_free_requests", "web_search_billing_unit"})

# Priced beside the tokens of a call, and only when the call used them (the event then shows it as `unmeasured`).
_TOOL_KEYS: Final = frozenset(
    {
        *_OTHER_PRICE_KEYS,
        "citation_cost_per_token",
        "code_interpreter_cost_per_session",
        "file_search_cost_per_1k_calls",
        "file_search_cost_per_gb_per_day",
        "google_maps_grounding_cost_per_query",
        "input_dbu_cost_per_token",
        "output_dbu_cost_per_token",
        "search_context_cost_per_query",
        "vector_store_cost_per_gb_per_day",
    }
)


class RateKey(msgspec.Struct, frozen=True):
    """What a map's key prices: a token kind, above a number of prompt tokens (0 = from the first), in a tier."""

    kind: str
    above_tokens: int
    tier: str


@lru_cache(maxsize=2048)
def parse_rate_key(key: str) -> RateKey | None:
    """Return what a token rate's key means, or None when it is no key of this grammar."""
    stem, tier = _split_tier(key)
    base, above_tokens = _split_threshold(stem)
    kind = _KIND_OF_BASE.get(base)
    return None if kind is None else RateKey(kind, above_tokens, tier)


def _split_tier(key: str) -> tuple[str, str]:
    stem, _, last = key.rpartition("_")
    return (stem, last) if last in SERVICE_TIERS else (key, STANDARD)


def _split_threshold(stem: str) -> tuple[str, int]:
    match = _THRESHOLD.match(stem)
    return (stem, 0) if match is None else (match["base"], int(match["thousands"]) * 1000)


@lru_cache(maxsize=2048)
def is_price_relevant(key: str) -> bool:
    """Tell whether a key of a cost map can change what a call costs."""
    return "cost" in key or "multiplier" in key or key in _STRUCTURED_KEYS or key in _OTHER_PRICE_KEYS


@lru_cache(maxsize=2048)
def is_understood(key: str) -> bool:
    """Tell whether rating uses the key (the inside of structured ones is judged where it is read)."""
    return parse_rate_key(key) is not None or key in _STRUCTURED_KEYS or key in _SECOND_NAMES


@lru_cache(maxsize=2048)
def prices_other_units(key: str) -> bool:
    """Tell whether the key prices the call itself by something else than tokens (seconds, pages, images …)."""
    return is_price_relevant(key) and not is_understood(key) and key not in _TOOL_KEYS
