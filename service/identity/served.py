"""Decides which model really answered, from names of very different worth. Pure.

Worth, from the best: what an operator declared for the deployment; the name the gateway gives beside a router's; a base
model configured for a deployment; the provider's own answer where it can be told from the name the caller used; the
deployment's name. What none of these tells is not claimed.
"""

from typing import Final, NamedTuple

from service.identity.aliases import AliasEra
from service.identity.models import ModelClaims
from service.identity.names import same_model, take_apart
from service.identity.providers import OWNER_NAMED, house_of, qualified
from service.identity.routers import is_router_name

UNKNOWN: Final = "unknown"
ADDED: Final = "+provider_added"


class Finding(NamedTuple):
    """A name and where it is from; a name that is None was found nowhere."""

    name: str | None
    source: str


class Evidence(NamedTuple):
    """The claims of one event with what is known around them."""

    claims: ModelClaims
    provider: str | None
    requested_names: frozenset[str]  # all names the caller may have used, in lower case
    era: AliasEra

    def is_requested(self, name: str) -> bool:
        """Tell whether the name is the caller's own, which gateways write over the provider's."""
        return name.lower() in self.requested_names

    def is_router(self, name: str | None) -> bool:
        """Tell whether the name is a model router's, or declared to be one."""
        if name is None:
            return False
        declared = self.era.find(qualified(name, self.provider)) or self.era.find(name)
        return is_router_name(declared or name, self.provider)

    def qualify(self, name: str, source: str) -> Finding:
        """Return the name with its provider in front; the source says so when it was missing."""
        full = qualified(name, self.provider)
        return Finding(full, source if full == name else source + ADDED)

    def is_same(self, one: str, other: str | None) -> bool:
        """Tell whether two names are one but for case and the provider in front."""
        return other is not None and qualified(one, self.provider).lower() == qualified(other, self.provider).lower()


def served_behind_router(evidence: Evidence) -> Finding:
    """Return the model a router selected: never the router's name, never the caller's."""
    claims = evidence.claims
    model = claims.model
    if model is not None and _is_selected(model, evidence) and not _is_deployment_of_failure(evidence):
        return evidence.qualify(model, "model")
    answer = claims.response_model
    if answer is None or not _is_selected(answer, evidence):
        return Finding(None, UNKNOWN)
    if model is not None and evidence.is_requested(model) and not take_apart(answer).is_snapshot:
        # A stream whose names the gateway has overwritten: the answer may be one more name of the caller's.
        return Finding(None, UNKNOWN)
    return evidence.qualify(answer, "response_model")


def served_by_deployment(evidence: Evidence) -> Finding:
    """Return the model behind a plain deployment."""
    named = _named(evidence)
    if named.name is None:
        return named
    declared = _declared(named.name, evidence)
    if declared is not None:
        return _refined(declared, evidence)
    configured = _configured(named.name, evidence)
    if configured is not None:
        return _refined(configured, evidence)
    return _answered(named, evidence) or _refined(named, evidence)


def _is_selected(name: str, evidence: Evidence) -> bool:
    return not (
        evidence.is_router(name)
        or evidence.is_requested(name)
        or evidence.is_same(name, evidence.claims.deployment_model)
    )


def _is_deployment_of_failure(evidence: Evidence) -> bool:
    """A failed call of a router known only by its configuration names its deployment, with prefix, and no model."""
    claims = evidence.claims
    if not claims.is_failure or claims.deployment_model is not None or claims.model is None:
        return False
    parts = take_apart(claims.model)
    return bool(parts.providers) and not parts.is_snapshot


def _named(evidence: Evidence) -> Finding:
    """Return the name the gateway gives the model, before anything is made of it."""
    claims = evidence.claims
    model, deployment = claims.model, claims.deployment_model
    if model is not None and evidence.is_requested(model):
        if deployment is not None:
            return evidence.qualify(deployment, "deployment")
        if evidence.provider is None:
            # Nothing but the caller's word; a failed call of this kind never reached a model.
            return Finding(None, UNKNOWN) if claims.is_failure else Finding(model, "requested_model")
    if model is not None:
        return evidence.qualify(model, "model")
    if deployment is not None:
        return evidence.qualify(deployment, "deployment")
    answer = claims.response_model
    if answer is not None and not evidence.is_requested(answer):
        return evidence.qualify(answer, "response_model")
    return Finding(None, UNKNOWN)


def _declared(named: str, evidence: Evidence) -> Finding | None:
    """Return what an operator declared for the deployment's name, full or as the event has it."""
    for name in (named, evidence.claims.deployment_model, evidence.claims.model):
        target = evidence.era.find(name) if name is not None else None
        if target is not None:
            return evidence.qualify(target, "alias")
    # `gpt-4` declared for a public name says nothing about openai/gpt-4; but owners of deployments name them freely.
    parts = take_apart(named)
    if parts.provider in OWNER_NAMED:
        target = evidence.era.find(named.partition("/")[2])
        if target is not None:
            return evidence.qualify(target, "alias")
    return None


def _configured(named: str, evidence: Evidence) -> Finding | None:
    """Return the base model of a deployment: the gateway prices it by another model than its name says."""
    claims = evidence.claims
    key = claims.gateway_price_key
    if key is None or key == claims.deployment_id or evidence.is_router(key) or same_model(key, named):
        return None
    if claims.deployment_model is not None and not evidence.is_same(named, claims.deployment_model):
        return None  # the event itself names the model beside the deployment
    return evidence.qualify(key, "base_model")


def _answered(named: Finding, evidence: Evidence) -> Finding | None:
    """Return the provider's answer where a deployment's name says nothing: a dated name the caller did not use."""
    claims = evidence.claims
    answer = claims.response_model
    if answer is None or claims.has_fallen_back is False or house_of(evidence.provider or "") != "azure":
        return None
    if not take_apart(answer).is_snapshot or evidence.is_requested(answer) or evidence.is_router(answer):
        return None
    if named.name is None or same_model(answer, named.name):
        return None
    return evidence.qualify(answer, "response_model")


def _refined(found: Finding, evidence: Evidence) -> Finding:
    """Return the provider's answer instead of the same model named less exactly."""
    answer = evidence.claims.response_model
    if answer is None or found.name is None or evidence.is_requested(answer) or not same_model(answer, found.name):
        return found
    parts = take_apart(found.name)
    is_plain = not (parts.is_snapshot or parts.fine_tune or parts.vendor or parts.area or parts.route or parts.resource)
    if not (is_plain and take_apart(answer).is_snapshot):
        return found
    provider = parts.provider or evidence.provider
    full = qualified(answer, provider)
    return Finding(full, "response_model" if full == answer else "response_model" + ADDED)
