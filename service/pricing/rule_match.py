"""What a price rule matches: conditions on the dimensions of a call and on how it is priced. Pure.

`identity.conditions` compares, as for budgets; a "*" within the name of a model, route or price key stands for any
characters.
"""

from typing import Final

from service.identity.conditions import Match, parse_conditions
from service.identity.dimensions import DIMENSION_NAMES

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


def parse_rule_match(document: object, field: str = "match") -> Match:
    """Return the conditions of a document. Raises InvalidInput with the field path."""
    return parse_conditions(
        document, RULE_DIMENSIONS, field=field, most=MAX_CONDITIONS, hints=_HINTS, patterned=_PATTERNED
    )
