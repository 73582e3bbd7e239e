"""What a budget matches: conditions on the dimensions of a call, by `identity.conditions`. Pure."""

from typing import Final

from service.identity.conditions import Match, parse_conditions
from service.identity.dimensions import DIMENSION_NAMES

MAX_CONDITIONS: Final = 8

_HINTS: Final = {
    "tags": "tag",
    "teams": "team",
    "users": "user",
    "models": "requested_model, deployment or served_model",
    "model": "requested_model, deployment or served_model",
    "model_group": "requested_model",
    "key": "api_key",
    "keys": "api_key",
    "api_keys": "api_key",
    "customer": "end_user",
    "end_users": "end_user",
    "organizations": "organization",
    "projects": "project",
    "agents": "agent",
    "sessions": "session",
    "providers": "provider",
    "deployments": "deployment",
}


def parse_match(document: object, field: str = "match") -> Match:
    """Return the conditions of a document, in the order of the dimensions. Raises InvalidInput with the field path."""
    return parse_conditions(document, DIMENSION_NAMES, field=field, most=MAX_CONDITIONS, hints=_HINTS)
