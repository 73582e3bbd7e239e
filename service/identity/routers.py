"""Knows Azure's Model Router, a deployment that picks the model itself and bills a fee of its own, by name. Pure."""

from functools import lru_cache
from typing import Final

from service.identity.names import take_apart
from service.identity.providers import canonical_provider, house_of

_MARKS: Final = ("model_router", "model-router")


@lru_cache(maxsize=8192)
def is_router_name(name: str, provider: str | None) -> bool:
    """Tell whether a name is a model router's: by `model_router` in it, at Azure only."""
    lower = name.lower()
    if not any(mark in lower for mark in _MARKS):
        return False
    prefix = take_apart(lower).provider or (canonical_provider(provider) if provider else None)
    return prefix is None or house_of(prefix) == "azure"


def names_deployment(router_name: str) -> bool:
    """Tell a router's deployment (`azure_ai/model_router/prod`) from the entry of its fee (`azure_ai/model_router`)."""
    return bool(take_apart(router_name).route)
