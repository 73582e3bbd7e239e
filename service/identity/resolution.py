"""Makes the requested model, the deployment and the served model of one call out of what an event or a check claims.

The one place where names are decided, for both paths, so that tracking and enforcement never mean different models.
Pure: the same claims and the same aliases give the same identity.
"""

from datetime import datetime
from functools import lru_cache
from typing import Final

import msgspec

from service.identity.aliases import AliasBook, AliasEra
from service.identity.models import ModelClaims, ModelIdentity, PriceCandidate
from service.identity.names import clean_name, name_forms, same_model, take_apart
from service.identity.price_names import price_candidates
from service.identity.providers import canonical_provider, qualified
from service.identity.routers import names_deployment
from service.identity.served import UNKNOWN, Evidence, Finding, served_behind_router, served_by_deployment
from service.kit.text import bounded_text, stripped_text

_CACHED_IDENTITIES: Final = 16_384


def resolve_models(
    claims: ModelClaims,
    aliases: AliasBook,
    occurred_at: datetime,
    *,
    requested_from_check: str | None = None,
    requested_from_failure: str | None = None,
) -> ModelIdentity:
    """Return the names of one call.

    `requested_from_check` is what the check of the same request asked for, `requested_from_failure` what its first
    failed attempt did: the gateway itself forgets it in a fallback.
    """
    failed = None if claims.has_fallen_back is False else requested_from_failure
    return _resolve(claims, requested_from_check, failed, aliases.in_force(occurred_at))


def resolve_anew(
    claims: ModelClaims,
    aliases: AliasBook,
    occurred_at: datetime,
    *,
    requested_model: str | None,
    requested_source: str | None,
) -> ModelIdentity:
    """Return the names of a call by other aliases than it was resolved by; what it asked for stays what it was.

    What the check or a failed attempt knew of the requested model is in no claim: it is taken from the former answer.
    """
    return resolve_models(
        claims,
        aliases,
        occurred_at,
        requested_from_check=requested_model if requested_source == "check" else None,
        requested_from_failure=requested_model if requested_source == "failed_attempt" else None,
    )


def resolve_requested(
    model: str, provider: str | None, deployment: str | None, aliases: AliasBook, at: datetime
) -> ModelIdentity:
    """Return the names of a call about to be made, by the rules of events: what it asks for is all it claims."""
    claims = ModelClaims(model_group=model, model=model, provider=provider, deployment_model=deployment)
    return _resolve(claims, None, None, aliases.in_force(at))


@lru_cache(maxsize=_CACHED_IDENTITIES)
def _resolve(
    claims: ModelClaims, requested_from_check: str | None, requested_from_failure: str | None, era: AliasEra
) -> ModelIdentity:
    claims = _clean(claims)
    requested_from_check, requested_from_failure = _name(requested_from_check), _name(requested_from_failure)
    requested = _requested(claims, requested_from_check, requested_from_failure)
    provider = _claimed_provider(claims)
    names = (claims.requested_model, requested_from_check, requested_from_failure, claims.model_group)
    evidence = Evidence(claims, provider.name, frozenset(name.lower() for name in names if name is not None), era)
    is_router = claims.has_router_fee or any(
        evidence.is_router(name) for name in (claims.deployment_model, claims.model, claims.gateway_price_key)
    )
    served = served_behind_router(evidence) if is_router else served_by_deployment(evidence)
    deployment = _deployment(evidence, is_router=is_router)
    if provider.name is None and served.name is not None:
        provider = Finding(take_apart(served.name).provider, "served_model")
    canonical = _canonical(requested.name, served.name, era)
    provenance = {
        "requested_model": requested.source,
        "requested_canonical": canonical.source,
        "deployment": deployment.source,
        "served_model": served.source,
        "provider": provider.source,
    }
    return ModelIdentity(
        requested_model=_bounded(requested.name),
        requested_canonical=_bounded(canonical.name),
        deployment=_bounded(deployment.name),
        deployment_id=claims.deployment_id,
        served_model=_bounded(served.name),
        provider=provider.name,
        is_router=is_router,
        price_candidates=_price_candidates(served, evidence, is_router=is_router),
        provenance={name: source for name, source in provenance.items() if source != UNKNOWN},
    )


def _clean(claims: ModelClaims) -> ModelClaims:
    """Return the claims with their names as they are compared: blanks around one make no other model."""
    return msgspec.structs.replace(
        claims,
        requested_model=_name(claims.requested_model),
        model_group=_name(claims.model_group),
        model=_name(claims.model),
        deployment_model=_name(claims.deployment_model),
        deployment_id=stripped_text(claims.deployment_id or "") or None,
        response_model=_name(claims.response_model),
        provider=stripped_text(claims.provider or "") or None,
        gateway_price_key=_name(claims.gateway_price_key),
    )


def _name(name: str | None) -> str | None:
    return None if name is None else clean_name(name)


def _requested(claims: ModelClaims, requested_from_check: str | None, requested_from_failure: str | None) -> Finding:
    if claims.requested_model is not None:
        return Finding(claims.requested_model, "adapter")
    if requested_from_check is not None:
        return Finding(requested_from_check, "check")
    if requested_from_failure is not None and requested_from_failure != claims.model_group:
        return Finding(requested_from_failure, "failed_attempt")
    if claims.model_group is None:
        return Finding(None, UNKNOWN)
    # The gateway then names the group that served; what was asked for is in no field of this event.
    return Finding(claims.model_group, "group_after_fallback" if claims.has_fallen_back else "model_group")


def _claimed_provider(claims: ModelClaims) -> Finding:
    """Return the provider the event states, else the prefix of the names it gives."""
    if claims.provider is not None:
        return Finding(canonical_provider(claims.provider), "event")
    for name in (claims.deployment_model, claims.model):
        prefix = take_apart(name).provider if name is not None else None
        if prefix is not None:
            return Finding(canonical_provider(prefix), "name")
    return Finding(None, UNKNOWN)


def _deployment(evidence: Evidence, *, is_router: bool) -> Finding:
    """Return the route: as the event states it, else (streams, failures) as the other names tell."""
    claims = evidence.claims
    if claims.deployment_model is not None:
        return evidence.qualify(claims.deployment_model, "event")
    if is_router:
        return _router_deployment(evidence)
    if claims.model is None or (evidence.provider is None and evidence.is_requested(claims.model)):
        return Finding(None, UNKNOWN)
    return evidence.qualify(claims.model, "model")


def _router_deployment(evidence: Evidence) -> Finding:
    """Return the router: its own name where one is given, else the entry of its fee."""
    key, model = evidence.claims.gateway_price_key, evidence.claims.model
    if key is not None and evidence.is_router(key) and names_deployment(key):
        return evidence.qualify(key, "price_key")
    if model is not None and _is_router_deployment(model, evidence):
        return evidence.qualify(model, "model")
    if key is not None and evidence.is_router(key):
        return evidence.qualify(key, "price_key")
    return Finding(None, UNKNOWN)


def _is_router_deployment(model: str, evidence: Evidence) -> bool:
    if evidence.is_router(model):
        # `model-router` without a provider may be just the public name.
        return evidence.provider is not None or not evidence.is_requested(model)
    return not evidence.is_requested(model) and served_behind_router(evidence).source.partition("+")[0] != "model"


def _canonical(requested: str | None, served: str | None, era: AliasEra) -> Finding:
    """Return the name budgets and checks compare by: the requested one after aliases, or else the served one."""
    name = requested or served
    if name is None:
        return Finding(None, UNKNOWN)
    declared = era.find(name) or _declared_spelling(name, era)
    if declared is not None:
        return Finding(declared.lower(), "alias")
    return Finding(name.lower(), "requested_model" if requested else "served_model")


def _declared_spelling(name: str, era: AliasEra) -> str | None:
    """Return the model declared for a shorter spelling of the name, if it is another spelling of the same model.

    vertex_ai/claude-opus-4-6 is meant by an alias claude-opus-4-6; azure/gpt-4 is not meant by gpt-4 -> gpt-4.1-mini.
    """
    for form in name_forms(name):
        target = era.find(form)
        if target is not None and same_model(target, name):
            return target
    return None


def _price_candidates(served: Finding, evidence: Evidence, *, is_router: bool) -> tuple[PriceCandidate, ...]:
    if served.name is None:
        return ()
    candidates = price_candidates(served.name, "alias" if served.source.startswith("alias") else "")
    key = evidence.claims.gateway_price_key
    # A model whose gateway was told to price it by another one; behind a router that other one would be the router.
    if is_router or key is None or key == evidence.claims.deployment_id or evidence.is_same(key, served.name):
        return candidates
    known = {candidate.name for candidate in candidates}
    further = price_candidates(qualified(key, evidence.provider), "base_model")
    return candidates + tuple(candidate for candidate in further if candidate.name not in known)


def _bounded(name: str | None) -> str | None:
    return None if name is None else bounded_text(name)
