"""Reads what a price per image, per second of video or per search depends on: size, quality, resolution. Pure.

What the answer says comes before what was asked for: a request may leave it to the provider.
"""

import re
from typing import Final

import msgspec

from service.events.fields import find_quantity, text_of
from service.events.litellm_answer import AnswerPart, ModelParameters, find_search_options
from service.events.litellm_parts import Parts
from service.events.litellm_payload import UsagePart
from service.events.litellm_quantities import Used
from service.pricing import units
from service.pricing.usage import PricingBasis

_LONGEST_LABEL: Final = 40
_LEFT_OPEN: Final = frozenset({"", "auto"})
_MAX_RESULTS: Final = 1_000_000
_SIZE = re.compile(r"(\d{1,5})-?x-?(\d{1,5})")


def with_details(basis: PricingBasis, used: Used, usage: UsagePart, parts: Parts) -> PricingBasis:
    """Return the basis with the details of what was used; of nothing else are any looked for."""
    answer, parameters = used.answer, used.parameters
    names = {name for name, _ in used.units}
    has_images, has_videos = units.OUTPUT_IMAGES in names, units.OUTPUT_VIDEO_SECONDS in names
    return msgspec.structs.replace(
        basis,
        image_size=_first(_label(answer.size), _label(parameters.size)) if has_images else None,
        image_quality=_first(_label(answer.quality), _label(parameters.quality)) if has_images else None,
        video_resolution=_video_resolution(usage, answer, parameters) if has_videos else None,
        search_context_size=_search_context_size(usage, parts) if units.WEB_SEARCHES in names else None,
        max_results=_max_results(parameters) if units.QUERIES in names else None,
    )


def _video_resolution(usage: UsagePart, answer: AnswerPart, parameters: ModelParameters) -> str | None:
    """Return a resolution as price lists name it: `720p` for 1280x720 and for 720x1280, `4k` as it stands."""
    stated = None if usage.video_resolution is None else _short(str(usage.video_resolution))
    found = _first(stated, _label(parameters.resolution), _label(answer.size), _label(parameters.size))
    if found is None:
        return None
    size = _SIZE.fullmatch(found)
    return found.lower() if size is None else f"{min(int(size[1]), int(size[2]))}p"


def _search_context_size(usage: UsagePart, parts: Parts) -> str | None:
    options = find_search_options(parts.payload)
    asked = None if options is None else options.search_context_size
    return _first(_short(usage.search_context_size), _short(asked))


def _max_results(parameters: ModelParameters) -> int | None:
    return min(int(find_quantity(parameters.max_results)), _MAX_RESULTS) or None


def _first(*labels: str | None) -> str | None:
    return next((label for label in labels if label is not None), None)


def _label(raw: msgspec.Raw) -> str | None:
    return _short(text_of(raw)) if memoryview(raw).nbytes <= 4 * _LONGEST_LABEL else None


def _short(text: str | None) -> str | None:
    """Return a word that may be part of a price list's name for something."""
    label = (text or "").strip()
    is_word = len(label) <= _LONGEST_LABEL and label.isprintable()
    return label if is_word and label.lower() not in _LEFT_OPEN else None
