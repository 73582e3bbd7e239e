"""Finds where the values of a text begin and end by brackets and quotes alone, without judging what is in them. Pure.

For texts a decoder refuses. Each byte is looked at once, and now and then nothing is yielded, so that others can run.
"""

import re
from collections.abc import Generator
from typing import Any, Final

from service.errors import BodyTooLarge, MalformedBody

MAX_ELEMENTS: Final = 100_000
STEP_BYTES: Final = 256 << 10

NOT_SPACE = re.compile(rb"[^ \t\r\n]")
# An opening bracket, a closing one, or a string; a string that does not end on its line has no group.
_STRUCTURE = re.compile(rb'([\[{])|([\]}])|"(?:[^"\\\n]++|\\.?)*+(?:(")|(?=\n)|\Z)', re.DOTALL)
_OPEN, _CLOSE = 1, 2
_SCALAR = re.compile(rb"[^ \t\r\n,\]}]+")

Buffer = bytes | bytearray


def scan_values(body: Buffer, position: int) -> Generator[list[Any], None, list[tuple[int, int]]]:
    """Return the spans of all values; yield nothing now and then. Raises MalformedBody when the last is not whole."""
    spans: list[tuple[int, int]] = []
    while NOT_SPACE.search(body, position) is not None:
        start, position = yield from scan_value(body, position)
        spans.append((start, position))
        if len(spans) > MAX_ELEMENTS:
            raise BodyTooLarge(f"The body has more than {MAX_ELEMENTS} elements; send fewer at a time.")
    return spans


def scan_value(body: Buffer, position: int) -> Generator[list[Any], None, tuple[int, int]]:
    """Return where the next value begins and ends, without judging what is in it; yield nothing now and then."""
    first = NOT_SPACE.search(body, position)
    if first is None:
        raise MalformedBody("The body breaks off.")
    start = first.start()
    if first[0] not in b'{["':
        scalar = _SCALAR.match(body, start)
        if scalar is None:
            raise MalformedBody(f"The body is no JSON: unexpected character at byte {start}.")
        return start, scalar.end()
    depth = 0
    yield_at = start + STEP_BYTES
    for token in _STRUCTURE.finditer(body, start):
        kind = token.lastindex
        if kind == _OPEN:
            depth += 1
        elif kind == _CLOSE:
            depth -= 1
        elif kind is None:
            break
        if depth <= 0:
            return start, token.end()
        if token.end() >= yield_at:
            yield_at = token.end() + STEP_BYTES
            yield []
    raise MalformedBody("The body breaks off inside of an element.")
