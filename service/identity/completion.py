"""Completes the dimensions of a call from what is known of its key, the same way for checks and events. Pure."""

from collections.abc import Mapping

from service.identity.dimensions import KEY_DIMENSIONS, PEOPLE, CompletedDimensions, Dimensions
from service.identity.known_key import NOTHING, KnownKey

_NOT_OF_KEYS = tuple(name for name in PEOPLE if name not in KEY_DIMENSIONS)


def complete_dimensions(
    carried: Dimensions, key: KnownKey | None, pinned: Mapping[str, str] | None = None
) -> CompletedDimensions:
    """Return each dimension's value by rank: pinned by the token, declared for the key, carried, learned of the key.

    `key` is what the registry knows of the key the call has in the end: see `effective_key`.
    """
    values: dict[str, str] = {}
    provenance: dict[str, str] = {}
    declared, learned = (NOTHING, NOTHING) if key is None else (key.declared, key.learned)
    for name in _NOT_OF_KEYS:
        value = getattr(carried, name)
        if value:
            values[name], provenance[name] = value, "carried"
    for name in KEY_DIMENSIONS:
        if value := getattr(declared, name):
            values[name], provenance[name] = value, "declared"
        elif value := getattr(carried, name):
            values[name], provenance[name] = value, "carried"
        elif value := getattr(learned, name):
            values[name], provenance[name] = value, "learned"
    for name, value in (pinned or {}).items():
        if name in PEOPLE and value:
            values[name], provenance[name] = value, "pinned"
    if carried.tags:
        provenance["tag"] = "carried"
    return CompletedDimensions(
        values=Dimensions(**values, tags=carried.tags),
        provenance=provenance,
        is_key_blocked=key is not None and key.is_blocked,
    )


def effective_key(carried: Dimensions, pinned: Mapping[str, str] | None = None) -> str | None:
    """Return the key to look up for a call: the pinned one overwrites the carried one."""
    return (pinned or {}).get("api_key") or carried.api_key
