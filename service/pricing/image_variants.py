"""Price keys of an image model's variants: `high/1024-x-1024/gpt-image-1`, `azure/hd/1024-x-1792/dall-e-3`. Pure."""

from functools import lru_cache
from typing import Final

from service.pricing.sizes import DEFAULT_IMAGE_SIZE, parse_frame

IMAGE_CALLS: Final = frozenset({"aimage_generation", "image_generation", "aimage_edit", "image_edit"})

_USUAL_QUALITIES: Final = frozenset({"", "auto", "standard"})
_DEFAULT_STEPS: Final = "50-steps"  # no event tells the steps; requests that leave them out get these
_ANY_LARGER_SIZE: Final = "max-x-max"


@lru_cache(maxsize=4096)
def variant_names(name: str, size: str | None, quality: str | None) -> tuple[str, ...]:
    """Return the keys under which a price list may have the image of that size and quality, the likeliest first."""
    if parse_frame(name) is not None:
        return ()
    frame = (None if size is None else parse_frame(size)) or DEFAULT_IMAGE_SIZE
    exact = f"{frame[0]}-x-{frame[1]}"
    prefixes = (
        (f"{quality.lower()}/{exact}",)
        if quality is not None and quality.lower() not in _USUAL_QUALITIES
        else (f"standard/{exact}", exact, f"{exact}/{_DEFAULT_STEPS}", f"{_ANY_LARGER_SIZE}/{_DEFAULT_STEPS}")
    )
    return tuple(placed for prefix in prefixes for placed in _placed(prefix, name))


def _placed(prefix: str, name: str) -> list[str]:
    """Return the name with the prefix after its provider, before it, and without it."""
    provider, _, model = name.partition("/")
    return [f"{provider}/{prefix}/{model}", f"{prefix}/{name}", f"{prefix}/{model}"] if model else [f"{prefix}/{name}"]
