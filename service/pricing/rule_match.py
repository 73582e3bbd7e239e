"""What a price rule matches: conditions on the dimensions of a call and on how it is priced. Pure.

`identity.conditions` compares, as for budgets; a "*" within the name of a model, route or price key stands for any
characters.
"""

from collections.abc import Mapping
from typing import Final

from service.errors import InvalidInput
from service.identity.conditions import EACH, Match, parse_conditions
from service.identity.dimensions import DIMENSION_NAMES
from service.kit.text import stripped_text

MODEL: Final = "model"  # the served model or the price key
PRICE_KEY: Final = "price_key"
MODE: Final = "mode"
CALL_TYPE: Final = "call_type"

RULE_DIMENSIONS: Final = (*DIMENSION_NAMES, MODEL, PRICE_KEY, MODE, CALL_TYPE)
MAX_CONDITIONS: Final = 8

_PATTERNED: Final = frozenset({"requested_model", "deployment", "served_model", "provider", MODEL, PRICE_KEY})
_HINTS: Final = {
    "tags": "tag",
    "teams": "team",
    "users": "user",
    "models": "model",
    "model_group": "requested_model",
    "key": "api_key or price_key",
    "keys": "api_key",
    "price_keys": "price_key",
    "providers": "provider",
    "deployments": "deployment",
    "call_types": "call_type",
    "modes": "mode",
}


def declared_rule_match(document: object, field: str = "match") -> Match:
    """Return the conditions of a rule to be declared. Raises InvalidInput, also for what looks like another language.

    Elsewhere a leading "!" excludes and a "*" is a pattern. Here both would be literal texts that no call has, and the
    rule would silently never apply; whoever means them literally writes a prefix.
    """
    match = parse_rule_match(document, field)
    assert isinstance(document, Mapping), "whatever else it is was refused"
    for dimension, value in document.items():
        texts = value if isinstance(value, list) else [value]
        for index, text in enumerate(texts):
            path = f"{field}.{dimension}"
            _refuse_other_language(dimension, text, f"{path}[{index}]" if isinstance(value, list) else path)
    return match


def _refuse_other_language(dimension: str, text: object, field: str) -> None:
    if not isinstance(text, str) or text == EACH:
        return
    if stripped_text(text).startswith("!"):
        detail = 'A "!" excludes nothing here: name the values that are meant; {"prefix": "!"} means the character.'
        raise InvalidInput(detail, field=field)
    if EACH in text and dimension not in _PATTERNED:
        detail = 'A "*" within a value is no pattern in this dimension; write {"prefix": "…"}, or "*" alone for any.'
        raise InvalidInput(detail, field=field)


def parse_rule_match(document: object, field: str = "match") -> Match:
    """Return the conditions of a document. Raises InvalidInput with the field path."""
    return parse_conditions(
        document, RULE_DIMENSIONS, field=field, most=MAX_CONDITIONS, hints=_HINTS, patterned=_PATTERNED
    )
