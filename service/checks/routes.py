"""The ways a call may go behind the gateway, each by the names its event is going to have. Pure.

Of the requested model: the routes the gateway says it chooses among, and the models a router may choose; else, where
budgets name routes, those the ledger saw lately; else the requested name alone. Of each fallback model the same but for
what is said of the requested one; the model that was asked for stays the requested one, as the hold remembers it.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Final

import msgspec

from service.checks.request import CheckRequest, Route
from service.identity.aliases import AliasBook
from service.identity.models import ModelClaims, ModelIdentity
from service.identity.resolution import resolve_models, resolve_requested

_SEEN: Final = "recent_charges"
_MOST_KNOWN: Final = 10_000


class RecentUse(msgspec.Struct, frozen=True, kw_only=True):
    """What the ledger saw lately of requested models: their routes by use, and what nearly all their calls put out.

    `is_known` False: it could not be asked in time.
    """

    routes: Mapping[str, tuple[Route, ...]] = {}
    output_tokens: Mapping[str, int] = {}
    is_known: bool = True


NOTHING_SEEN: Final = RecentUse()


class Way(msgspec.Struct, frozen=True):
    """One way. `fallback`: the fallback model it belongs to. Ways of one `choice` the caller cannot choose between."""

    models: ModelIdentity
    fallback: str | None
    choice: int


def ways_of(request: CheckRequest, recent: RecentUse, aliases: AliasBook, at: datetime) -> list[Way]:
    """Return the ways of a call, the requested model's first; one at least."""
    if not (request.routes or request.served_models or request.fallback_models or recent.routes):
        return [Way(requested_names(request, aliases, at), None, 0)]
    ways = _requested_ways(request, recent, aliases, at)
    for number, fallback in enumerate(request.fallback_models, start=len(request.routes) + 1):
        ways += [Way(models, fallback, number) for models in _fallback_models(request, fallback, recent, aliases, at)]
    return ways


def names_to_look_up(request: CheckRequest) -> list[str]:
    """Return the models whose routes only the ledger can tell; for the others the caller says where they go."""
    is_told = request.deployment or request.routes or request.served_models
    names = request.fallback_models if is_told or request.model is None else (request.model, *request.fallback_models)
    return list(dict.fromkeys(names))


def requested_names(request: CheckRequest, aliases: AliasBook, at: datetime) -> ModelIdentity:
    """Return what the check itself says of the call: the requested model, wherever it goes."""
    if request.model is None:
        claims = ModelClaims(provider=request.provider, deployment_model=request.deployment)
        return resolve_models(claims, aliases, at)
    return resolve_requested(request.model, request.provider, request.deployment, aliases, at)


def _requested_ways(request: CheckRequest, recent: RecentUse, aliases: AliasBook, at: datetime) -> list[Way]:
    requested = requested_names(request, aliases, at)
    ways = [
        Way(_on_route(request, requested, route, aliases, at), None, number)
        for number, route in enumerate(request.routes, start=1)
    ]
    served = [Route(served_model=name) for name in request.served_models]
    ways += [Way(_on_route(request, requested, route, aliases, at), None, 0) for route in served]
    if ways:
        # What a router or a named deployment serves is not in its name: once it is said, nothing need be assumed.
        is_replaced = bool(request.routes or request.deployment) or requested.served_model is None
        return ways if is_replaced else [Way(requested, None, 0), *ways]
    seen = _seen(request, request.model, recent, aliases, at)
    is_any = request.provider is None
    matching = [Way(models, None, 0) for models in seen if is_any or models.provider == requested.provider]
    return matching or [Way(requested, None, 0)]


def _on_route(
    request: CheckRequest, requested: ModelIdentity, route: Route, aliases: AliasBook, at: datetime
) -> ModelIdentity:
    """Return the identity of the call if it goes this way; behind a router its fee is due all the same."""
    provider, deployment = route.provider or request.provider, route.deployment or request.deployment
    if route.served_model is None:
        if request.model is not None:
            return resolve_requested(request.model, provider, deployment, aliases, at)
        return resolve_models(ModelClaims(provider=provider, deployment_model=deployment), aliases, at)
    deployment = deployment or requested.deployment or (request.model if requested.is_router else None)
    claims = ModelClaims(
        model_group=request.model, model=route.served_model, provider=provider, deployment_model=deployment
    )
    return resolve_models(claims, aliases, at)


def _fallback_models(
    request: CheckRequest, fallback: str, recent: RecentUse, aliases: AliasBook, at: datetime
) -> list[ModelIdentity]:
    """Return the identities of the call if this fallback serves it: its event keeps the requested model."""
    seen = list(_seen(request, fallback, recent, aliases, at))
    if seen:
        return seen
    claims = ModelClaims(model_group=fallback, model=fallback)
    return [resolve_models(claims, aliases, at, requested_from_check=request.model)]


def _seen(
    request: CheckRequest, group: str | None, recent: RecentUse, aliases: AliasBook, at: datetime
) -> Iterator[ModelIdentity]:
    for route in recent.routes.get(group, ()) if group is not None else ():
        claims = ModelClaims(
            model_group=group,
            model=route.served_model,
            provider=route.provider,
            deployment_model=route.deployment,
        )
        requested = request.model if group != request.model else None
        yield _as_seen(route, resolve_models(claims, aliases, at, requested_from_check=requested))


# Identities are made once and kept; what is made of them here is found again by the identity of the object.
_known: dict[tuple[int, bool], tuple[ModelIdentity, ModelIdentity]] = {}


def _as_seen(route: Route, models: ModelIdentity) -> ModelIdentity:
    """Return the names with where they are from. A router that did not tell its choice then tells none now."""
    is_untold = route.served_model is None and route.deployment is not None
    known = _known.get((id(models), is_untold))
    if known is None or known[0] is not models:
        if len(_known) >= _MOST_KNOWN:
            _known.clear()
        known = _known[id(models), is_untold] = (models, _marked(models, is_untold=is_untold))
    return known[1]


def _marked(models: ModelIdentity, *, is_untold: bool) -> ModelIdentity:
    sources = {name: _SEEN for name in ("deployment", "served_model", "provider") if name in models.provenance}
    provenance = models.provenance | sources
    if is_untold and not models.provenance.get("served_model", "").startswith("alias"):
        provenance.pop("served_model", None)
        return msgspec.structs.replace(
            models, served_model=None, is_router=True, price_candidates=(), provenance=provenance
        )
    return msgspec.structs.replace(models, provenance=provenance)
