"""Collects the bytes of a request body, inflating gzip, and never keeps more of them than allowed. Pure."""

import zlib
from collections.abc import Iterator
from typing import Final

from service.errors import BodyTooLarge, MalformedBody

# Inflate at most this much at a time, so that a bomb is noticed before it has unfolded and the event loop can breathe.
_STEP_BYTES: Final = 1 << 20
_GZIP: Final = 31  # zlib's way to say "gzip header, 32 kB window"


def is_gzip(content_encoding: str) -> bool:
    """Tell whether a Content-Encoding header announces gzip. Raises MalformedBody for any other encoding."""
    name = content_encoding.strip().lower()
    if name in ("", "identity"):
        return False
    if name in ("gzip", "x-gzip"):
        return True
    raise MalformedBody("Content-Encoding is gzip or absent.", code="encoding_not_supported")


class BodyCollector:
    """Takes a body chunk by chunk. `content` is one buffer: decoders read it in place.

    Raises BodyTooLarge as soon as the (inflated) size passes `limit_bytes`, MalformedBody for what is not gzip.
    """

    def __init__(self, limit_bytes: int, *, is_gzip: bool = False) -> None:
        self._limit_bytes = limit_bytes
        self._content = bytearray()
        self._inflater = zlib.decompressobj(_GZIP) if is_gzip else None
        self._is_between_members = is_gzip

    def add(self, chunk: bytes) -> Iterator[int]:
        """Take a chunk; yield the size so far after each step of work, so that the caller can let others run."""
        if self._inflater is None:
            self._append(chunk)
            yield len(self._content)
            return
        has_more = bool(chunk)
        while has_more:
            chunk, has_more = self._inflate(chunk)
            yield len(self._content)

    def content(self) -> bytearray:
        """Return the whole body, once all chunks are in. The collector keeps nothing."""
        if self._inflater is not None and not self._is_between_members:
            raise MalformedBody("The gzip body ends too early.")
        content, self._content = self._content, bytearray()
        return content

    def _inflate(self, chunk: bytes) -> tuple[bytes, bool]:
        """Inflate one step; return the input that is left, and whether another step is due now."""
        inflater = self._inflater
        assert inflater is not None
        try:
            inflated = inflater.decompress(chunk, _STEP_BYTES)
        except zlib.error as error:
            raise MalformedBody("The body is announced as gzip and is not.") from error
        self._append(inflated)
        self._is_between_members = inflater.eof
        if not inflater.eof:
            # All input may be consumed while output still waits inside zlib.
            left = inflater.unconsumed_tail
            return left, bool(left) or len(inflated) == _STEP_BYTES
        # Members may follow each other, as `cat a.gz b.gz` makes them; zero padding may follow the last.
        left = inflater.unused_data.lstrip(b"\0")
        self._inflater = zlib.decompressobj(_GZIP)
        return left, bool(left)

    def _append(self, chunk: bytes) -> None:
        if len(self._content) + len(chunk) > self._limit_bytes:
            raise BodyTooLarge(f"The body is larger than {self._limit_bytes} bytes.")
        self._content += chunk
