"""Splits a body into elements and decodes each one by itself: a bad element never fails its batch. Pure.

One object, a JSON array, or values one after the other (NDJSON), whatever the content type says. An array is decoded in
runs of whole elements; a run that contains something bad is split and its elements are decoded singly. What is no JSON
at all (an array that breaks off included) raises MalformedBody, possibly after elements were handed out: nothing may be
stored before the iterator has ended.
"""

import re
from collections.abc import Callable, Generator, Iterator
from typing import Final, Generic, TypeVar

import msgspec

from service.errors import BodyTooLarge, MalformedBody
from service.events import problems
from service.events.json_scan import MAX_ELEMENTS, NOT_SPACE, STEP_BYTES, Buffer, scan_value, scan_values
from service.events.repair import repair_element, repair_for_splitting
from service.events.usage_event import EventProblem

CHUNK_ELEMENTS: Final = 100

# Sizes to try for a run. The largest bounds what a body of tiny elements can make us hold: some 150 bytes per 3 sent.
_RUN_BYTES: Final = (96 << 10, 2 << 20)

T = TypeVar("T")

_MAX_BOUNDARY_GUESSES: Final = 4

_DECODE_ERRORS: Final = (msgspec.MsgspecError, RecursionError, UnicodeDecodeError)
_COMMA_BEFORE = re.compile(rb",[ \t\r\n]{0,8}\Z")
_BETWEEN_ELEMENTS = re.compile(rb"[ \t\r\n,]*")
_OPENING = re.compile(rb'\{[ \t\r\n]*(?:"[^"\\]{0,80}")?')
_RAW = msgspec.json.Decoder(msgspec.Raw)
_RAW_LIST = msgspec.json.Decoder(list[msgspec.Raw])


class Undecoded(msgspec.Struct, frozen=True):
    """An element that is not what was declared; `raw` is all of it, repaired or translated where that was tried."""

    raw: bytes
    problem: EventProblem


class WireForm(Generic[T]):
    """How elements of one kind are decoded.

    `translate` makes an element that does not fit into one that may, if it is of another form we know; it refuses
    (RefusedEventError) one of that form that cannot be read.
    """

    def __init__(self, element_type: type[T], translate: Callable[[bytes], bytes | None] | None = None) -> None:
        self._one: msgspec.json.Decoder[T | None] = msgspec.json.Decoder(element_type | None)
        self.run: msgspec.json.Decoder[list[T | None]] = msgspec.json.Decoder(
            list[element_type | None]  # type: ignore[valid-type]
        )
        self._translate = translate

    def decode(self, raw: Buffer) -> T | Undecoded:
        """Return the element, or what is wrong with it."""
        try:
            return self.accept(self._one.decode(raw))
        except _DECODE_ERRORS as error:
            return self._second_try(bytes(raw), error)

    def accept(self, element: T | None) -> T | Undecoded:
        """Return the element; a null is one that the gateway failed to build."""
        return _MISSING if element is None else element

    def _second_try(self, raw: bytes, error: Exception) -> T | Undecoded:
        repaired = repair_element(raw)
        if repaired is None and self._translate is not None:
            try:
                translated = self._translate(raw)
            except problems.RefusedEventError as refused:
                return Undecoded(raw, refused.problem)
            if translated is not None:
                return self._last_try(translated, is_repaired=False)
        if repaired is not None:
            return self._last_try(repaired, is_repaired=True)
        return Undecoded(raw, problems.problem_of(error))

    def _last_try(self, raw: bytes, *, is_repaired: bool) -> T | Undecoded:
        try:
            return self.accept(self._one.decode(raw))
        except _DECODE_ERRORS as error:
            return Undecoded(raw, problems.problem_of(error, is_repaired=is_repaired))


_MISSING: Final = Undecoded(
    b"null", EventProblem(code=problems.EVENT_MISSING, detail="The element is null: the gateway failed to build it.")
)


def read_elements(body: Buffer, form: WireForm[T]) -> Iterator[list[T | Undecoded]]:
    """Yield the elements in order, in chunks of about a hundred (some empty), so that the caller can let others run.

    Raises MalformedBody for what is no JSON at all, BodyTooLarge for more than MAX_ELEMENTS.
    """
    count = 0
    for chunk in _read_any(body, form):
        count += len(chunk)
        if count > MAX_ELEMENTS:
            raise BodyTooLarge(f"The body has more than {MAX_ELEMENTS} elements; send fewer at a time.")
        for start in range(0, max(len(chunk), 1), CHUNK_ELEMENTS):
            yield chunk[start : start + CHUNK_ELEMENTS]


def _read_any(body: Buffer, form: WireForm[T]) -> Iterator[list[T | Undecoded]]:
    first = NOT_SPACE.search(body, 3 if body.startswith(b"\xef\xbb\xbf") else 0)
    if first is None:
        raise MalformedBody("The body is empty.")
    if first[0] == b"[":
        return _read_array(body, first.end(), form)
    return _read_values(body, first.start(), form)


# --- an array


def _read_array(body: Buffer, start: int, form: WireForm[T]) -> Iterator[list[T | Undecoded]]:
    """Yield the elements between the opening bracket before `start` and the closing one that ends the body."""
    end = body.rfind(b"]")
    if end < start or NOT_SPACE.search(body, end + 1) is not None:
        raise MalformedBody("The array breaks off, or something follows it.")
    first = NOT_SPACE.search(body, start)
    assert first is not None
    if first.start() == end:
        return
    opening = _OPENING.match(body, first.start())
    position = start
    while position < end:
        run = _decode_run(body, position, end, opening[0] if opening else b"{", form)
        if run is None:
            position = yield from _scan_run(body, position, end, form)
        else:
            elements, position = run
            yield elements


def _decode_run(
    body: Buffer, start: int, end: int, opening: bytes, form: WireForm[T]
) -> tuple[list[T | Undecoded], int] | None:
    """Return as many whole elements as lie in a run, and the position behind the comma after them.

    Where an element ends is guessed from how the first one begins. A wrong guess cannot pass: what was cut inside of an
    element is no JSON. None: no guess held.
    """
    for size in _RUN_BYTES:
        if end - start <= size:
            elements = _decode_window(_as_array(body, start, end), form)
            return None if elements is None else (elements, end)
        limit = start + size
        for _ in range(_MAX_BOUNDARY_GUESSES):
            limit = body.rfind(opening, start + 1, limit)
            if limit < 0:
                break
            comma = _COMMA_BEFORE.search(body, max(start, limit - 9), limit)
            if comma is None:
                continue
            elements = _decode_window(_as_array(body, start, comma.start()), form)
            if elements is not None:
                return elements, comma.end()
    return None


def _as_array(body: Buffer, start: int, end: int) -> bytes:
    with memoryview(body) as view, view[start:end] as window:
        return b"".join((b"[", window, b"]"))


def _decode_window(text: bytes, form: WireForm[T]) -> list[T | Undecoded] | None:
    """Return the elements of what was made an array, or None when it was not cut between elements."""
    try:
        elements = form.run.decode(text)
    except _DECODE_ERRORS:
        parts = _split_window(text)
        return None if parts is None else [form.decode(part) for part in parts]
    return [form.accept(element) for element in elements] or None


def _split_window(text: bytes) -> list[bytes] | None:
    try:
        return [bytes(raw) for raw in _RAW_LIST.decode(text)]
    except _DECODE_ERRORS:
        pass
    try:
        repaired = _RAW_LIST.decode(repair_for_splitting(text))
    except _DECODE_ERRORS:
        return None
    parts: list[bytes] = []
    position = 1
    for raw in repaired:
        found = _BETWEEN_ELEMENTS.match(text, position)
        assert found is not None
        position = found.end() + memoryview(raw).nbytes
        parts.append(text[found.end() : position])
    return parts


def _scan_run(body: Buffer, position: int, end: int, form: WireForm[T]) -> Generator[list[T | Undecoded], None, int]:
    """Yield elements found bracket by bracket, for one run; return the position behind the comma after them."""
    stop = min(position + _RUN_BYTES[0], end)
    while position < stop:
        start, position = yield from scan_value(body, position)
        found = NOT_SPACE.search(body, position)
        if found is None or position > end or (found[0] != b"," and found.start() != end):
            raise MalformedBody("The array is no valid JSON.")
        yield [form.decode(body[start:position])]
        position = found.end()
        if found.start() != end and position >= end:
            raise MalformedBody("The array ends with a comma.")
    return position


# --- values one after the other


def _read_values(body: Buffer, start: int, form: WireForm[T]) -> Iterator[list[T | Undecoded]]:
    """Yield one value, or the values of lines, or values that follow each other in any other way."""
    newline = body.find(b"\n", start)
    has_lines = newline >= 0 and NOT_SPACE.search(body, newline) is not None
    if has_lines and _decode_alone(body[start:newline], form) is not None:
        yield from _read_lines(body, start, form)
        return
    whole = _decode_alone(body[start:], form)
    if whole is not None:
        yield [whole]
        return
    try:
        spans = yield from scan_values(body, start)
    except MalformedBody:
        if not has_lines:
            raise
        yield from _read_lines(body, start, form)
        return
    has_json = False
    for first, last in spans:
        element = form.decode(body[first:last])
        has_json = has_json or not _is_malformed(element)
        yield [element]
    if not has_json:
        raise MalformedBody("The body is no JSON.")


def _decode_alone(text: Buffer, form: WireForm[T]) -> T | Undecoded | None:
    """Return the element if the text is one JSON value and nothing else, or None.

    A decoder stops at the first field it dislikes: only then it has to be found out whether more follows.
    """
    element = form.decode(text)
    if not isinstance(element, Undecoded) or _is_json(text) or _is_json(repair_for_splitting(bytes(text))):
        return element
    return None


def _is_json(text: Buffer) -> bool:
    try:
        _RAW.decode(text)
    except _DECODE_ERRORS:
        return False
    return True


def _read_lines(body: Buffer, start: int, form: WireForm[T]) -> Iterator[list[T | Undecoded]]:
    """Yield the elements of all lines that are not blank; a line that is no JSON is refused by itself."""
    chunk: list[T | Undecoded] = []
    has_json = False
    yield_at = start + STEP_BYTES
    while start < len(body):
        newline = body.find(b"\n", start)
        end = len(body) if newline < 0 else newline
        line = body[start:end].strip()
        if line:
            chunk.append(form.decode(line))
            has_json = has_json or not _is_malformed(chunk[-1])
        start = end + 1
        if len(chunk) >= CHUNK_ELEMENTS or start >= yield_at:
            yield chunk
            chunk, yield_at = [], start + STEP_BYTES
    yield chunk
    if not has_json:
        raise MalformedBody("The body is no JSON.")


def _is_malformed(element: object) -> bool:
    return isinstance(element, Undecoded) and element.problem.code == problems.MALFORMED_JSON
