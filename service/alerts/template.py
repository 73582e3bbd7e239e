"""Bodies of deliveries by a template: a JSON value whose texts hold placeholders such as ${budget.name}. Pure.

The template is a document, not a text: placeholders are replaced in its strings after it was parsed, and the result is
encoded again. So no value, whatever is in it, can break out of its string, and none is searched for placeholders.
A string that is one placeholder and nothing else becomes the value itself: an object, a number, null. A template that
is a string makes a plain text. `$$` stands for a dollar sign.
"""

import re
from collections.abc import Iterator, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, Final

import msgspec

from service.errors import InvalidInput
from service.identity.dimensions import DIMENSION_NAMES

MAX_TEMPLATE_BYTES: Final = 16_384
MAX_PLACEHOLDERS: Final = 100
MAX_BODY_BYTES: Final = 262_144
_MAX_DEPTH: Final = 16
_PLACEHOLDER = re.compile(r"\$\$|\$\{([^{}]*)\}")

JSON_TYPE: Final = "application/json"
TEXT_TYPE: Final = "text/plain; charset=utf-8"

# Paths into the document of a delivery; those of `data` stand for themselves.
PLACEHOLDERS: Final = frozenset(
    {
        "type",
        "timestamp",
        "data",
        "id",
        "kind",
        "text",
        "budget",
        "budget.id",
        "budget.slug",
        "budget.name",
        "subject",
        *(f"subject.{name}" for name in DIMENSION_NAMES),
        "window",
        "window.start",
        "window.end",
        "threshold",
        "threshold_percent",
        "posted_usd",
        "limit_usd",
        "projected_spend_usd",
        "projected_exhaustion_at",
        "raised_at",
    }
)

Document = Mapping[str, Any]


class BodyTooLarge(Exception):
    """What would be sent is too large; the text says how large, in the middle of a sentence."""


class Body(msgspec.Struct, frozen=True):
    """What is sent."""

    content: bytes
    content_type: str


def check_template(template: Any, field: str = "template") -> None:
    """Refuse a template that is too large or too deep, and placeholders nobody knows. Raises InvalidInput."""
    placeholders = 0
    for place, text in _texts(template, field, 0):
        if "\x00" in text:
            raise InvalidInput("A template holds no NUL.", field=place)
        for found in _PLACEHOLDER.finditer(text):
            placeholders += found[1] is not None
            if found[1] is not None and found[1] not in PLACEHOLDERS:
                known = ", ".join(sorted(PLACEHOLDERS))
                raise InvalidInput(
                    f"There is no placeholder {found[0][:100]!r}; known are {known}.",
                    code="unknown_placeholder",
                    field=place,
                )
    if placeholders > MAX_PLACEHOLDERS:
        raise InvalidInput(f"A template has at most {MAX_PLACEHOLDERS} placeholders.", field=field)
    if len(msgspec.json.encode(template)) > MAX_TEMPLATE_BYTES:
        raise InvalidInput(f"A template has at most {MAX_TEMPLATE_BYTES} bytes.", field=field)


def plain_numbers(template: Any, field: str = "template", depth: int = 0) -> Any:
    """Return a template as it was read from a body, with plain numbers. Raises InvalidInput where that rounds."""
    if depth > _MAX_DEPTH:
        raise _too_deep(field)
    if isinstance(template, list):
        return [plain_numbers(element, f"{field}[{index}]", depth + 1) for index, element in enumerate(template)]
    if isinstance(template, dict):
        return {key: plain_numbers(element, f"{field}.{key[:50]}", depth + 1) for key, element in template.items()}
    if isinstance(template, bool) or not isinstance(template, int | float):
        return template
    number = float(template) if isinstance(template, float) else template
    written = str(getattr(template, "text", number))
    if not _is_sent_as(written, number):
        detail = f"The number {written[:100]} would be sent as another one; write it as a text."
        raise InvalidInput(detail, code="inexact_number", field=field)
    return number


def _is_sent_as(written: str, number: float) -> bool:
    if isinstance(number, int):
        return -(2**63) <= number < 2**63
    try:
        return Decimal(written) == Decimal(repr(number))
    except InvalidOperation:
        return False


def render(template: Any, document: Document, *, escapes_markup: bool) -> Body:
    """Return the body of a document; without a template (None) it is the document itself. Raises BodyTooLarge."""
    if template is None:
        body = Body(msgspec.json.encode(document), JSON_TYPE)
    elif isinstance(template, str):
        body = Body(_filled_in(template, document, escapes_markup).encode(), TEXT_TYPE)
    else:
        body = Body(msgspec.json.encode(_filled(template, document, escapes_markup)), JSON_TYPE)
    if len(body.content) > MAX_BODY_BYTES:
        raise BodyTooLarge(f"by its template the body has {len(body.content)} bytes, of at most {MAX_BODY_BYTES}")
    return body


def _too_deep(place: str) -> InvalidInput:
    return InvalidInput(f"A template is at most {_MAX_DEPTH} levels deep.", field=place)


def _texts(value: Any, place: str, depth: int) -> Iterator[tuple[str, str]]:
    """Yield every string of a template with its place; keys too, though nothing is put into them."""
    if depth > _MAX_DEPTH:
        raise _too_deep(place)
    if isinstance(value, str):
        yield place, value
    elif isinstance(value, list):
        for index, element in enumerate(value):
            yield from _texts(element, f"{place}[{index}]", depth + 1)
    elif isinstance(value, dict):
        for key, element in value.items():
            if "\x00" in key:
                raise InvalidInput("A template holds no NUL.", field=place)
            yield from _texts(element, f"{place}.{key[:50]}", depth + 1)


def _filled(value: Any, document: Document, escapes_markup: bool) -> Any:
    if isinstance(value, str):
        whole = _PLACEHOLDER.fullmatch(value)
        if whole is not None and whole[1] is not None:
            return _escaped(_find(document, whole[1]), escapes_markup)
        return _filled_in(value, document, escapes_markup)
    if isinstance(value, list):
        return [_filled(element, document, escapes_markup) for element in value]
    if isinstance(value, dict):
        return {key: _filled(element, document, escapes_markup) for key, element in value.items()}
    return value


def _filled_in(text: str, document: Document, escapes_markup: bool) -> str:
    def replace(found: re.Match[str]) -> str:
        return "$" if found[1] is None else _as_text(_escaped(_find(document, found[1]), escapes_markup))

    return _PLACEHOLDER.sub(replace, text)


def _find(document: Document, path: str) -> Any:
    """Return the value at a path; None where this document has none (a subject without that dimension)."""
    if path in ("type", "timestamp", "data"):
        return document[path]
    value: Any = document["data"]
    for name in path.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _as_text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _escaped(value: Any, escapes_markup: bool) -> Any:
    """Return the value with &, < and > of its texts as entities: neither Slack nor HTML sees marks in them."""
    if not escapes_markup:
        return value
    if isinstance(value, str):
        return value.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    if isinstance(value, Mapping):
        return {key: _escaped(element, escapes_markup) for key, element in value.items()}
    if isinstance(value, list):
        return [_escaped(element, escapes_markup) for element in value]
    return value
