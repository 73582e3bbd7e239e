"""Sizes of images and films, as requests write them: 1024x1024, 1024-x-1536, 2K, 720p, 1280x720. Pure."""

import re
from functools import lru_cache
from typing import Final

# What a request that names no size gets of every provider with a price by size.
DEFAULT_IMAGE_SIZE: Final = (1024, 1024)

_FRAME = re.compile(r"(?<!\d)(\d{2,5})-?[x*:]-?(\d{2,5})(?!\d)")
_LINES_OF: Final[dict[int, str]] = {1440: "2k", 2160: "4k"}
_SIDE_OF: Final[dict[int, str]] = {512: "0.5k", 1024: "1k", 2048: "2k", 4096: "4k"}


@lru_cache(maxsize=1024)
def parse_frame(text: str) -> tuple[int, int] | None:
    """Return width and height in pixels, also of a size inside a longer name; None when there is no size in it."""
    match = _FRAME.search(text.lower())
    return None if match is None else (int(match[1]), int(match[2]))


@lru_cache(maxsize=1024)
def image_qualifiers(size: str) -> tuple[str, ...]:
    """Return the names a price list may have for the size of an image: the side in pixels, or in K."""
    frame = parse_frame(size)
    if frame is None:
        return (size.lower(),)
    side = max(frame)
    return (str(side), _SIDE_OF[side]) if side in _SIDE_OF else (str(side),)


@lru_cache(maxsize=1024)
def film_qualifiers(resolution: str) -> tuple[str, ...]:
    """Return the names a price list may have for a film's resolution: its lines, or 2k and 4k."""
    frame = parse_frame(resolution)
    if frame is None:
        return (resolution.lower(),)
    lines = min(frame)
    return (_LINES_OF.get(lines, f"{lines}p"),)
