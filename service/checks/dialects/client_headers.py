"""Reads what the headers of a passed-on request say of its client: keys, and what the gateway vouches for. Pure.

A key never leaves this module but as its SHA-256 in hex. Tokens of this service are nobody's client key. Headers are
names in lower case with values, as ASGI has them.
"""

from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from hashlib import sha256
from typing import Final

import msgspec

from service.access.tokens import TOKEN_PREFIX
from service.identity.call import AUTOMATIC_TAG
from service.identity.dimensions import Dimensions, clean_value
from service.kit.text import bounded_text

Headers = Iterable[tuple[bytes, bytes]]

KEY_HEADERS: Final = (b"authorization", b"x-api-key", b"api-key", b"x-litellm-api-key", b"x-goog-api-key")
# Set by Envoy AI Gateway from the body; anybody else's client may send it too, so a body that names a model wins.
MODEL_HEADER: Final = b"x-ai-eg-model"
# How long the body is that the gateway did not pass on. Whoever forges it can only raise an estimate.
LENGTH_HEADERS: Final = (b"content-length", b"x-original-content-length")

_TOKEN_PREFIX: Final = TOKEN_PREFIX.encode()
_BEARER: Final = b"bearer "
_DIMENSION_HEADERS: Final = {
    "x-tallygate-organization": "organization",
    "x-tallygate-team": "team",
    "x-tallygate-user": "user",
    "x-tallygate-end-user": "end_user",
}
_TAGS: Final = "x-tallygate-tags"
_MOST_DIGITS: Final = 12


class Vouched(msgspec.Struct, frozen=True, kw_only=True):
    """What the headers say that the token trusts; `ambiguous`: trusted headers that came more than once."""

    dimensions: Dimensions
    model: str | None
    input_tokens: int
    max_output_tokens: int
    ambiguous: tuple[str, ...]


def header_values(headers: Headers, name: bytes) -> list[bytes]:
    """Return all values of a header."""
    return [value.strip() for found, value in headers if found == name]


def own_tokens(headers: Headers, name: bytes) -> list[bytes]:
    """Return the tokens of this service a key header holds."""
    return [key for key in _plain_keys(headers, name) if key.startswith(_TOKEN_PREFIX)]


def client_keys(headers: Headers) -> tuple[str, ...]:
    """Return the ids of all keys a client shows, each once."""
    plain = [key for name in KEY_HEADERS for key in _plain_keys(headers, name) if not key.startswith(_TOKEN_PREFIX)]
    return tuple(dict.fromkeys(sha256(key).hexdigest() for key in plain))


def model_header(headers: Headers) -> tuple[str, ...]:
    """Return the models the gateway's own header names."""
    return tuple(dict.fromkeys(bounded_text(_text(value)) for value in _parts(headers, MODEL_HEADER)))


def body_length(headers: Headers) -> int:
    """Return the largest length of the body any header tells."""
    values = [value for name in LENGTH_HEADERS for value in header_values(headers, name)]
    return max(map(_count, values), default=0)


def vouched(headers: Headers, trusted: AbstractSet[str]) -> Vouched:
    """Return what the trusted headers say; those that are not trusted might as well not be there."""
    said = {name: header_values(headers, name.encode()) for name in sorted(trusted)}
    texts = {name: _text(values[0]) for name, values in said.items() if len(values) == 1 and values[0]}
    people = {
        dimension: clean_value(dimension, texts[name])
        for name, dimension in _DIMENSION_HEADERS.items()
        if name in texts
    }
    return Vouched(
        dimensions=Dimensions(**people, tags=clean_tags(texts.get(_TAGS, "").split(","))),
        model=bounded_text(texts["x-tallygate-model"]) if "x-tallygate-model" in texts else None,
        input_tokens=_count(texts.get("x-tallygate-input-tokens", "").encode()),
        max_output_tokens=_count(texts.get("x-tallygate-max-output-tokens", "").encode()),
        ambiguous=tuple([name for name, values in said.items() if len(values) > 1]),
    )


def clean_tags(texts: Sequence[str]) -> tuple[str, ...]:
    """Return tags as budgets compare them."""
    tags = dict.fromkeys(clean_value("tag", text) for text in texts)
    return tuple([tag for tag in tags if tag and not tag.lower().startswith(AUTOMATIC_TAG)])


def _plain_keys(headers: Headers, name: bytes) -> list[bytes]:
    """Return the keys of one header; of Authorization those of the scheme Bearer, elsewhere the scheme is optional.

    Envoy joins headers of one name by commas, which no key contains.
    """
    keys = []
    for value in _parts(headers, name):
        is_bearer = value[: len(_BEARER)].lower() == _BEARER
        if is_bearer or name != b"authorization":
            keys.append(value[len(_BEARER) :].strip() if is_bearer else value)
    return [key for key in keys if key]


def _parts(headers: Headers, name: bytes) -> list[bytes]:
    return [part.strip() for value in header_values(headers, name) for part in value.split(b",") if part.strip()]


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def _count(value: bytes) -> int:
    return int(value) if value.isdigit() and len(value) <= _MOST_DIGITS else 0
