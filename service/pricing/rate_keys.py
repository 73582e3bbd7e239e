"""The grammar of a cost map's keys: which token kind, context threshold and service tier a rate is for. Pure.

`<base>[_above_1hr][_above_Nk_tokens][_<tier>]`. Rates of other units have the same endings and bases of their own
(`unit_keys`); what else a key may be says `map_keys`.
"""

import re
from decimal import Decimal
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

INPUT_KINDS: Final = frozenset(TOKEN_KINDS[: TOKEN_KINDS.index(TEXT_OUTPUT)])
OUTPUT_KINDS: Final = frozenset(TOKEN_KINDS) - INPUT_KINDS

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

# Where a table states a rate: kind, above how many prompt tokens, service tier.
Slot = tuple[str, int, str]
# USD for one.
RateTable = dict[Slot, Decimal]

STANDARD: Final = ""
BATCHES: Final = "batches"
SERVICE_TIERS: Final = frozenset({"flex", "priority", "balanced", "ultrafast", "decisions", BATCHES})

_THRESHOLD = re.compile(r"^(?P<base>.+?)_above_(?P<thousands>\d{1,6})k_tokens$")

# Other names of rates, used where the first name is not stated. OpenAI bills no writing of audio to its cache: the
# list names its price of reading it so.
SECOND_NAMES: Final[dict[str, str]] = {
    "input_cost_per_token_cache_hit": "cache_read_input_token_cost",
    "cache_creation_input_audio_token_cost": "cache_read_input_audio_token_cost",
}

TIERED_PRICING: Final = "tiered_pricing"
OFF_PEAK_PRICING: Final = "off_peak_pricing"
PROVIDER_SPECIFIC: Final = "provider_specific_entry"
MULTIPLIER_KEYS: Final[dict[str, str]] = {
    "regional_processing_uplift_multiplier_eu": "data residency eu",
    "regional_processing_uplift_multiplier_us": "data residency us",
    "regional_endpoint_uplift_multiplier": "regional endpoint",
}
PROVIDER_MULTIPLIERS: Final[dict[str, str]] = {"us": "inference geography us", "fast": "fast mode"}


class RateKey(msgspec.Struct, frozen=True):
    """What a map's key prices: a token kind, above a number of prompt tokens (0 = from the first), in a tier."""

    kind: str
    above_tokens: int
    tier: str


@lru_cache(maxsize=2048)
def parse_rate_key(key: str) -> RateKey | None:
    """Return what a token rate's key means, or None when it is no key of this grammar."""
    base, above_tokens, tier = split_key(key)
    kind = _KIND_OF_BASE.get(base)
    return None if kind is None else RateKey(kind, above_tokens, tier)


def split_key(key: str) -> tuple[str, int, str]:
    """Return the base of a key, above how many prompt tokens it holds, and its service tier."""
    stem, tier = _split_tier(key)
    base, above_tokens = _split_threshold(stem)
    return base, above_tokens, tier


def _split_tier(key: str) -> tuple[str, str]:
    stem, _, last = key.rpartition("_")
    return (stem, last) if last in SERVICE_TIERS else (key, STANDARD)


def _split_threshold(stem: str) -> tuple[str, int]:
    match = _THRESHOLD.match(stem)
    return (stem, 0) if match is None else (match["base"], int(match["thousands"]) * 1000)
