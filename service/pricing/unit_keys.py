"""The grammar of a cost map's keys for everything that is no token: characters, seconds, images, queries, pages … Pure.

Some keys mean different things for different modes of model; those are kept under names of their own here, and
`unit_rates` settles them by the mode.
"""

import re
from functools import lru_cache
from typing import Final

import msgspec

from service.pricing import units
from service.pricing.rate_keys import SECOND_NAMES, STANDARD, Slot, parse_rate_key, split_key
from service.pricing.units import qualified

# Meanings that depend on the mode of the model.
INPUT_SECONDS: Final = "input_seconds"
OUTPUT_SECONDS: Final = "output_seconds"
INPUT_PIXELS: Final = "input_pixels"

SEARCH_CONTEXT: Final = "search_context_cost_per_query"
SEARCH_BILLING: Final = "web_search_billing_unit"
SEARCH_ALLOWANCE: Final = "search_free_requests"
GUARDRAIL: Final = "guardrail_cost_per_unit"
# Structured keys whose parts are rates, written with a dot: search_context_cost_per_query.search_context_size_low.
PART_RATES: Final = frozenset({GUARDRAIL, SEARCH_CONTEXT})

SEARCH_SIZES: Final[dict[str, str]] = {f"search_context_size_{size}": size for size in ("low", "medium", "high")}
# Each query is charged, or the request that searched at all.
PER_QUERY: Final = "per_query"
SEARCH_BILLING_UNITS: Final = (PER_QUERY, "per_request")
# A row of `tiered_pricing` for a search by how many results it may return.
RESULTS_RANGE: Final = "max_results_range"
RESULTS_RATE: Final = "input_cost_per_query"
# A part of `provider_specific_entry`: how many images a prompt may hold before they are charged.
FREE_INPUT_IMAGES: Final = "minimax_free_input_images"

_KIND_OF_BASE: Final[dict[str, str]] = {
    "input_cost_per_character": units.INPUT_CHARACTERS,
    "output_cost_per_character": units.OUTPUT_CHARACTERS,
    "input_cost_per_second": INPUT_SECONDS,
    "output_cost_per_second": OUTPUT_SECONDS,
    "input_cost_per_audio_per_second": units.INPUT_AUDIO_SECONDS,
    "input_cost_per_video_per_second": units.INPUT_VIDEO_SECONDS,
    "output_cost_per_video_per_second": units.OUTPUT_VIDEO_SECONDS,
    "input_cost_per_image": units.INPUT_IMAGES,
    "output_cost_per_image": units.OUTPUT_IMAGES,
    "input_cost_per_pixel": INPUT_PIXELS,
    "output_cost_per_pixel": units.OUTPUT_PIXELS,
    "input_cost_per_query": units.QUERIES,
    "input_cost_per_request": units.REQUESTS,
    "input_cost_per_text_message": units.TEXT_MESSAGES,
    "ocr_cost_per_page": units.PAGES,
    "ocr_cost_per_credit": units.CREDITS,
    "annotation_cost_per_page": units.ANNOTATED_PAGES,
    "code_interpreter_cost_per_session": units.CODE_SESSIONS,
    "google_maps_grounding_cost_per_query": units.MAPS_QUERIES,
    "citation_cost_per_token": units.CITATION_TOKENS,
    "file_search_cost_per_1k_calls": units.FILE_SEARCHES,
    "computer_use_input_cost_per_1k_tokens": units.COMPUTER_USE_INPUT_TOKENS,
    "computer_use_output_cost_per_1k_tokens": units.COMPUTER_USE_OUTPUT_TOKENS,
}
_UNIT_SECOND_NAMES: Final[dict[str, str]] = {"cost_per_second": "input_cost_per_second"}
_QUALIFIED: Final = (
    (re.compile(r"output_cost_per_image_(\d+(?:\.\d+)?K?)"), units.OUTPUT_IMAGES),
    (re.compile(r"output_cost_per_second_(\d+[pk])"), units.OUTPUT_VIDEO_SECONDS),
)


class UnitKey(msgspec.Struct, frozen=True):
    """What a map's key prices: a unit (qualified by size or resolution), above a number of prompt tokens, in a tier.

    The amount of the key is for `per` of them. `is_second_name`: another key states the same, if it is there.
    """

    kind: str
    above_tokens: int
    tier: str
    per: int
    is_second_name: bool


@lru_cache(maxsize=2048)
def parse_unit_key(key: str) -> UnitKey | None:
    """Return what a unit rate's key means, or None when it is no key of this grammar."""
    base, above_tokens, tier = split_key(key)
    kind = _KIND_OF_BASE.get(_UNIT_SECOND_NAMES.get(base, base)) or _qualified_kind(base)
    if kind is None:
        return None
    return UnitKey(kind, above_tokens, tier, 1000 if "_per_1k_" in base else 1, base in _UNIT_SECOND_NAMES)


def _qualified_kind(base: str) -> str | None:
    for pattern, unit in _QUALIFIED:
        match = pattern.fullmatch(base)
        if match is not None:
            return qualified(unit, match[1].lower())
    return None


@lru_cache(maxsize=2048)
def slot_of_key(key: str) -> Slot | None:
    """Return where the rate of a map's key is kept, of tokens or of other units; a dot leads into a part."""
    name, _, part = key.partition(".")
    if name == SEARCH_CONTEXT:
        return (qualified(units.WEB_SEARCHES, SEARCH_SIZES[part]), 0, STANDARD) if part in SEARCH_SIZES else None
    if name == GUARDRAIL:
        return (qualified(units.GUARDRAIL_UNITS, part), 0, STANDARD) if part else None
    parsed = parse_rate_key(SECOND_NAMES.get(name, name)) or parse_unit_key(name)
    return None if parsed is None else (parsed.kind, parsed.above_tokens, parsed.tier)
