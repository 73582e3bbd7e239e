"""The one internal form of what a gateway reports about one model call, whatever wire form it came in. Pure values."""

from datetime import datetime

import msgspec

from service.identity.dimensions import Dimensions
from service.identity.models import ModelClaims
from service.pricing.usage import PricingBasis, ReportedCost, Usage


class UsageEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One model call as reported: declared fields only, never prompts, responses or headers."""

    source: str
    event_id: str
    fingerprint: bytes
    fingerprint_version: int
    call_type: str
    status: str  # "success" | "failure"
    is_stream: bool
    is_cache_hit: bool
    occurred_at: datetime
    duration_ms: int | None
    request_id: str | None  # the gateway's id of the request (litellm_call_id)
    response_id: str | None
    trace_id: str | None
    reservation_id: str | None
    attempt: int | None
    is_final: bool
    dimensions: Dimensions
    key_alias: str | None = None  # readable name of the api_key, for the key registry to learn
    automatic_tags: tuple[str, ...]  # kept for display, never matched by budgets
    models: ModelClaims
    usage: Usage
    basis: PricingBasis
    reported: ReportedCost


class EventProblem(msgspec.Struct, frozen=True, kw_only=True):
    """Why one element was rejected: a stable code, a text for people, the path of the field."""

    code: str
    detail: str
    field: str | None = None
