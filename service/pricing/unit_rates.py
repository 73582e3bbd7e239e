"""What a rate for seconds, images or pixels is for, settled by what the model does. Pure.

"Per second" is the recording of a transcription, the film of a video model, the wall clock of a self-hosted one; the
"input image" of an image generator without another price is the image it makes.
"""

from collections.abc import Iterable
from functools import reduce
from typing import Final

from service.kit.money import EXACT
from service.pricing import units
from service.pricing.rate_keys import RateTable, Slot
from service.pricing.unit_keys import INPUT_PIXELS, INPUT_SECONDS, OUTPUT_SECONDS

_UNSETTLED: Final = frozenset({INPUT_SECONDS, OUTPUT_SECONDS, INPUT_PIXELS})
# The first of the kinds that has a price is what a second of such a model is.
_SECONDS_OF_MODE: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
    "audio_transcription": (units.INPUT_AUDIO_SECONDS, (INPUT_SECONDS, OUTPUT_SECONDS)),
    "realtime": (units.INPUT_AUDIO_SECONDS, (INPUT_SECONDS,)),
    "audio_speech": (units.OUTPUT_AUDIO_SECONDS, (OUTPUT_SECONDS,)),
    "video_generation": (units.OUTPUT_VIDEO_SECONDS, (OUTPUT_SECONDS,)),
}
_IMAGE_MODES: Final = frozenset({"image_generation", "image_edit"})


# What a settled rate is made of: the slots, of the keys as they are written, whose rates are added up.
Sources = dict[Slot, tuple[Slot, ...]]


def settle_units(rates: RateTable, mode: str, *, has_token_rates: bool) -> RateTable:
    """Return the rates by the kinds that quantities have."""
    sources = unit_sources(rates, mode, has_token_rates=has_token_rates)
    return {slot: reduce(EXACT.add, [rates[source] for source in made_of]) for slot, made_of in sources.items()}


def unit_sources(rates: RateTable, mode: str, *, has_token_rates: bool) -> Sources:
    """Return what the rates are made of that quantities have."""
    settled: Sources = {slot: (slot,) for slot in rates if slot[0] not in _UNSETTLED}
    if mode in _SECONDS_OF_MODE:
        target, sources = _SECONDS_OF_MODE[mode]
        settled = _first_priced(rates, target, sources) | settled
    else:
        settled = _summed(rates, units.CALL_SECONDS, (INPUT_SECONDS, OUTPUT_SECONDS)) | settled
    if mode == "audio_speech":
        # Music is priced by the piece; the list says so in the only word it has for one.
        settled = _renamed(settled, units.OUTPUT_IMAGES, units.REQUESTS)
    if mode in _IMAGE_MODES and not has_token_rates:
        settled = _renamed(settled, units.INPUT_IMAGES, units.OUTPUT_IMAGES)
    pixels = _first_priced(rates, units.OUTPUT_PIXELS, (units.OUTPUT_PIXELS, INPUT_PIXELS))
    settled = {slot: made_of for slot, made_of in settled.items() if slot[0] != units.OUTPUT_PIXELS}
    if units.OUTPUT_PIXELS in _priced_kinds(rates) or units.OUTPUT_IMAGES not in _kinds(settled):
        settled |= pixels
    return settled


def _kinds(slots: Iterable[Slot]) -> set[str]:
    return {kind for kind, _, _ in slots}


def _priced_kinds(rates: RateTable) -> set[str]:
    return {kind for (kind, _, _), rate in rates.items() if rate}


def _first_priced(rates: RateTable, target: str, sources: tuple[str, ...]) -> Sources:
    """Return the rates of the first source that is not zero throughout, else of the first one stated."""
    priced, stated = _priced_kinds(rates), _kinds(rates)
    candidates = [kind for kind in sources if kind in priced] or [kind for kind in sources if kind in stated]
    return {(target, above, tier): ((kind, above, tier),) for kind, above, tier in rates if kind in candidates[:1]}


def _summed(rates: RateTable, target: str, sources: tuple[str, ...]) -> Sources:
    """Return the rates of the sources together: a second of the wall clock is charged for prompt and answer."""
    total: Sources = {}
    for kind, above, tier in rates:
        if kind in sources:
            slot = (target, above, tier)
            total[slot] = (*total.get(slot, ()), (kind, above, tier))
    return total


def _renamed(settled: Sources, source: str, target: str) -> Sources:
    """Return the rates with those of the source under the target's name, where the target has none itself."""
    renamed = {(target, above, tier): made_of for (kind, above, tier), made_of in settled.items() if kind == source}
    return renamed | {slot: made_of for slot, made_of in settled.items() if slot[0] != source}
