"""One call about to be made, as a gateway describes it before it forwards it. Pure values."""

from decimal import Decimal
from hashlib import blake2b

import msgspec

from service.identity.dimensions import Dimensions
from service.pricing.worst_case import NOTHING_DECLARED, Declared


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """One way a gateway may send a call: what it knows of deployment, model and provider; None = not known."""

    deployment: str | None = None
    served_model: str | None = None
    provider: str | None = None


class CheckRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One call about to be made. `estimated_cost_usd` replaces our estimate; `wants_hold` reserves it.

    `routes`: what the gateway may choose among for the requested model; `served_models`: what a router may.
    `occasion` tells a call from all others under its id, where end clients choose the ids: it is nobody's repeat.
    """

    request_id: str | None
    wants_hold: bool
    ttl_seconds: int
    dimensions: Dimensions
    model: str | None
    provider: str | None
    deployment: str | None
    fallback_models: tuple[str, ...]
    call_type: str
    input_tokens: int
    max_output_tokens: int | None
    service_tier: str | None
    estimated_cost_usd: Decimal | None
    served_models: tuple[str, ...] = ()
    routes: tuple[Route, ...] = ()
    declared: Declared = NOTHING_DECLARED
    duration_seconds: Decimal | None = None
    image_size: str | None = None
    image_quality: str | None = None
    video_resolution: str | None = None
    search_context_size: str | None = None
    data_residency: str | None = None
    vertex_location: str | None = None
    inference_geography: str | None = None
    speed: str | None = None
    occasion: str = ""

    @property
    def names_ways(self) -> bool:
        """Tell whether the caller says where the call may go, and so wants to hear of each way, if only of one."""
        return bool(self.routes or self.fallback_models)


_encoder = msgspec.msgpack.Encoder()


def fingerprint_of(request: CheckRequest, pinned: dict[str, str]) -> str:
    """Return what tells requests under one id apart: who, which models, how many tokens, which amount."""
    content = (
        sorted(pinned.items()),
        request.dimensions,
        request.model,
        request.provider,
        request.deployment,
        request.fallback_models,
        request.call_type,
        request.input_tokens,
        request.max_output_tokens,
        request.service_tier,
        request.estimated_cost_usd,
        request.served_models,
        request.routes,
        request.declared,
        request.duration_seconds,
        request.image_size,
        request.image_quality,
        request.video_resolution,
        request.search_context_size,
        request.data_residency,
        request.vertex_location,
        request.inference_geography,
        request.speed,
        request.occasion,
    )
    return blake2b(_encoder.encode(content), digest_size=16).hexdigest()
