"""What a rate for seconds, images or pixels is for, settled by what the model does. Pure.

"Per second" is the recording of a transcription, the film of a video model, the wall clock of a self-hosted one; the
"input image" of an image generator without another price is the image it makes.
"""

from typing import Final

from service.kit.money import EXACT
from service.pricing import units
from service.pricing.rate_keys import RateTable
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


def settle_units(rates: RateTable, mode: str, *, has_token_rates: bool) -> RateTable:
    """Return the rates by the kinds that quantities have."""
    settled = {rate_key: rate for rate_key, rate in rates.items() if rate_key[0] not in _UNSETTLED}
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
    settled = {rate_key: rate for rate_key, rate in settled.items() if rate_key[0] != units.OUTPUT_PIXELS}
    if units.OUTPUT_PIXELS in _priced_kinds(rates) or units.OUTPUT_IMAGES not in _kinds(settled):
        settled |= pixels
    return settled


def _kinds(rates: RateTable) -> set[str]:
    return {kind for kind, _, _ in rates}


def _priced_kinds(rates: RateTable) -> set[str]:
    return {kind for (kind, _, _), rate in rates.items() if rate}


def _first_priced(rates: RateTable, target: str, sources: tuple[str, ...]) -> RateTable:
    """Return the rates of the first source that is not zero throughout, else of the first one stated."""
    priced, stated = _priced_kinds(rates), _kinds(rates)
    candidates = [kind for kind in sources if kind in priced] or [kind for kind in sources if kind in stated]
    return {(target, above, tier): rate for (kind, above, tier), rate in rates.items() if kind in candidates[:1]}


def _summed(rates: RateTable, target: str, sources: tuple[str, ...]) -> RateTable:
    """Return the rates of the sources together: a second of the wall clock is charged for prompt and answer."""
    total: RateTable = {}
    for (kind, above, tier), rate in rates.items():
        if kind in sources:
            rate_key = (target, above, tier)
            total[rate_key] = EXACT.add(total[rate_key], rate) if rate_key in total else rate
    return total


def _renamed(rates: RateTable, source: str, target: str) -> RateTable:
    """Return the rates with those of the source under the target's name, where the target has none itself."""
    renamed = {(target, above, tier): rate for (kind, above, tier), rate in rates.items() if kind == source}
    return renamed | {rate_key: rate for rate_key, rate in rates.items() if rate_key[0] != source}
