"""Who asked: the dimensions of one call that budgets and reports group by. Pure values.

Order of trust for each value: pinned by the token > declared in the key registry > carried by the event or check >
learned from events.
"""

from hashlib import sha256
from typing import Final

import msgspec

from service.kit.text import bounded_text, stripped_text

PEOPLE = ("organization", "team", "project", "user", "api_key", "end_user", "agent", "session")
# What the entry of a key can tell of a call.
KEY_DIMENSIONS = ("organization", "team", "project", "user")
ROUTE_DIMENSIONS = ("deployment", "served_model", "provider")
MODELS = ("requested_model", *ROUTE_DIMENSIONS)
DIMENSION_NAMES = (*PEOPLE, "tag", *MODELS)

MAX_TAGS = 32

_PLAIN_KEYS = ("sk-", "tg_")
_SHA256_HEX_LENGTH = 64
_HEX_DIGITS = frozenset("0123456789abcdefABCDEF")


class Dimensions(msgspec.Struct, frozen=True, kw_only=True):
    """Values of the dimensions that are not models; None = absent (the empty string is never a value).

    `tags`: as read, each once, in any number; `with_kept_tags` leaves those that count.
    """

    organization: str | None = None
    team: str | None = None
    project: str | None = None
    user: str | None = None
    api_key: str | None = None
    end_user: str | None = None
    agent: str | None = None
    session: str | None = None
    tags: tuple[str, ...] = ()


NO_DIMENSIONS: Final = Dimensions()


class CompletedDimensions(msgspec.Struct, frozen=True, kw_only=True):
    """Dimensions after completion from the key registry, with where each value came from.

    `provenance` maps a dimension name to `pinned`, `declared`, `carried` or `learned`.
    """

    values: Dimensions
    provenance: dict[str, str]
    is_key_blocked: bool = False


def is_plain_key(text: str) -> bool:
    """Tell whether a text looks like a key itself rather than its id: it must never come to lie in a table."""
    return text[:3].lower() in _PLAIN_KEYS


def clean_value(dimension: str, text: str) -> str | None:
    """Return a value as events, checks, tokens, filters and budgets compare it; None if there is nothing to see in it.

    The id of a key is the SHA-256 of it in lower-case hex, as LiteLLM makes it; a key in plain becomes its id.
    """
    value = stripped_text(text)
    if not value:
        return None
    if dimension == "api_key":
        if is_plain_key(value):
            return sha256(value.encode("utf-8", "surrogatepass")).hexdigest()
        if len(value) == _SHA256_HEX_LENGTH and _HEX_DIGITS.issuperset(value):
            return value.lower()
    return bounded_text(value)
