"""What budgets match a call against: built one way, for checks, for events and for stored charges. Pure."""

from functools import lru_cache
from typing import Any, Final, NamedTuple

import msgspec

from service.identity.dimensions import PEOPLE, Dimensions
from service.identity.models import ModelIdentity
from service.identity.names import match_key, name_forms
from service.kit.text import bounded_text

# Gateways add these tags by themselves; they say nothing about whose money is spent.
AUTOMATIC_TAG: Final = "user-agent:"

Values = dict[str, tuple[str, ...]]


class CallNames(msgspec.Struct, frozen=True):
    """One call as budgets see it.

    `values`: per dimension every text a budget value may equal, () = absent; names of models in lower case and in all
    their spellings. `each`: the values that have a counter of their own under "*".
    """

    values: Values
    each: Values


class _ModelNames(NamedTuple):
    requested_model: str | None
    requested_canonical: str | None
    deployment: str | None
    deployment_id: str | None
    served_model: str | None
    provider: str | None


def call_names(dimensions: Dimensions, models: ModelIdentity) -> CallNames:
    """Return what budgets match a call with these dimensions and names against: the same object for equal ones."""
    names = _ModelNames(
        models.requested_model,
        models.requested_canonical,
        models.deployment,
        models.deployment_id,
        models.served_model,
        models.provider,
    )
    return _known_call_names(dimensions, names)


@lru_cache(maxsize=16_384)
def _known_call_names(dimensions: Dimensions, names: _ModelNames) -> CallNames:
    return _call_names(dimensions, names)


def call_names_of_charge(charge: Any) -> CallNames:
    """Return the same from a charge, stored or about to be: anything with the identity columns as attributes."""
    names = _ModelNames(
        charge.requested_model,
        charge.requested_canonical,
        charge.deployment,
        charge.deployment_id,
        charge.served_model,
        charge.provider,
    )
    return _call_names(charge, names)


def _call_names(people: Any, names: _ModelNames) -> CallNames:
    shared: Values = {}
    for name in PEOPLE:
        value = getattr(people, name)
        shared[name] = (value,) if value else ()
    tags = people.tags
    shared["tag"] = tuple(tag for tag in tags if tag and not tag.lower().startswith(AUTOMATIC_TAG)) if tags else ()
    model_values, model_each = _model_values(names)
    return CallNames(values=shared | model_values, each=shared | model_each)


@lru_cache(maxsize=16_384)
def _model_values(names: _ModelNames) -> tuple[Values, Values]:
    """Return (values, each) of the dimensions that are models. Shared by many calls: never changed."""
    canonical = names.requested_canonical
    provider = (names.provider,) if names.provider else ()
    deployment_id = (bounded_text(names.deployment_id.lower()),) if names.deployment_id else ()
    values = {
        "requested_model": tuple(dict.fromkeys(_forms(names.requested_model) + _forms(canonical))),
        "deployment": tuple(dict.fromkeys(_forms(names.deployment) + deployment_id)),
        "served_model": _forms(names.served_model),
        "provider": provider,
    }
    each: Values = {
        "requested_model": (match_key(canonical),) if canonical else (),
        "deployment": (match_key(names.deployment),) if names.deployment else deployment_id,
        "served_model": (bounded_text(names.served_model.lower()),) if names.served_model else (),
        "provider": provider,
    }
    return values, each


def _forms(name: str | None) -> tuple[str, ...]:
    return name_forms(name) if name else ()
