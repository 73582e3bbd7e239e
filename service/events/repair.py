"""What gateways write although JSON forbids it: bare NaN and Infinity, and halves of surrogate pairs. Pure.

An exact repair touches one element and changes nothing else in it. A rough one keeps every byte where it is and serves
only to find where elements end.
"""

import re
from typing import Final

# An element larger than this with such a flaw is refused instead of searched byte by byte.
MAX_REPAIRED_BYTES: Final = 8 << 20

_NON_FINITE_OR_TEXT = re.compile(rb'"(?:[^"\\]++|\\.)*+"|-?Infinity|NaN', re.DOTALL)
_ESCAPE = re.compile(rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\u[dD][89a-fA-F][0-9a-fA-F]{2}|\\.")
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")
_HALF_LENGTH: Final = len(rb"\ud800")


def repair_element(raw: bytes) -> bytes | None:
    """Return the element as valid JSON, or None if neither flaw is in it.

    A number that is none becomes `[]`: harmless where nobody looks, refused with its field path wherever a value is
    declared. Half a surrogate pair becomes U+FFFD, as NUL does: the same text gives the same key every time.
    """
    if len(raw) > MAX_REPAIRED_BYTES:
        return None
    repaired = raw
    if b"NaN" in raw or b"Infinity" in raw:
        repaired = _NON_FINITE_OR_TEXT.sub(_keep_text, repaired)
    if _SURROGATE.search(raw) is not None:
        repaired = _ESCAPE.sub(_keep_whole_characters, repaired)
    return None if repaired == raw else repaired


def repair_for_splitting(text: bytes) -> bytes:
    """Return the text with both flaws painted over, inside of strings too, every other byte at its place."""
    without_non_finite = text.replace(b"NaN", b"1e0").replace(b"Infinity", b"1e000000")
    return _SURROGATE.sub(rb"\\u0041", without_non_finite)


def _keep_text(match: re.Match[bytes]) -> bytes:
    found = match[0]
    return found if found[:1] == b'"' else b"[]"


def _keep_whole_characters(match: re.Match[bytes]) -> bytes:
    found = match[0]
    return rb"\ufffd" if len(found) == _HALF_LENGTH else found
