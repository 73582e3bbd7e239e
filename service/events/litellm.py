"""From a standard logging payload to a UsageEvent, or to the reason why not. Pure.

Facts only: names stay as they came, nothing is resolved or priced here.
"""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Final

import msgspec

from service.events import problems
from service.events.billing import NO_RESULT_YET, READ_AGAIN, find_unbilled_reason, is_final_event
from service.events.call_types import canonical_call_type
from service.events.elements import WireForm
from service.events.event_key import call_event_id, is_id, result_event_id
from service.events.fields import read_amount
from service.events.fingerprint import FINGERPRINT_VERSION, fingerprint_call, fingerprint_result
from service.events.litellm_costs import (
    read_additional_costs,
    read_basis,
    read_custom_rates,
    read_price_entry,
    read_reported_cost,
)
from service.events.litellm_counts import open_counts
from service.events.litellm_legacy import translate_legacy
from service.events.litellm_names import read_dimensions, read_models, read_tags
from service.events.litellm_parts import Parts, open_parts
from service.events.litellm_payload import Payload, UsagePart
from service.events.litellm_quantities import read_used
from service.events.litellm_tool_calls import read_tool_call_cost
from service.events.litellm_usage import find_usage, measure_tokens, with_used
from service.events.problems import RefusedEventError
from service.events.usage_event import EventProblem, UsageEvent
from service.kit.money import ZERO
from service.kit.sources import is_reserved_source
from service.pricing.usage import Usage

DEFAULT_SOURCE: Final = "litellm"
MAX_AHEAD: Final = timedelta(minutes=5)
MAX_AGE: Final = timedelta(days=400)

_MAX_AHEAD_SECONDS: Final = MAX_AHEAD.total_seconds()
_MAX_AGE_SECONDS: Final = MAX_AGE.total_seconds()
_MAX_ATTEMPT: Final = 1_000_000
_STATUSES: Final = frozenset({"success", "failure"})
_NO_TOKENS: Final = Usage()

LITELLM: Final = WireForm(Payload, translate_legacy)


def read_event(
    payload: Payload, *, received_at: datetime, pinned_source: str | None = None
) -> UsageEvent | EventProblem:
    """Return the event; `pinned_source` is what the sender's token says, over whatever the payload says."""
    try:
        return _read_event(open_parts(payload), received_at, pinned_source)
    except RefusedEventError as refused:
        return refused.problem


def _read_event(parts: Parts, received_at: datetime, pinned_source: str | None) -> UsageEvent:
    payload, texts = parts.payload, parts.texts
    status = _read_status(payload.status)
    occurred_at = _read_start(payload.startTime, received_at)
    additional = read_additional_costs(parts.cost)
    found = find_usage(parts)
    counts = open_counts(found.part, found.path, payload)
    tokens = measure_tokens(counts)
    tool_usage_usd = read_amount(parts.cost.tool_usage_cost, "cost_breakdown.tool_usage_cost") or ZERO
    used = read_used(
        parts,
        counts,
        has_tokens=bool(tokens.input_tokens or tokens.output_tokens),
        has_other_costs=additional.has_others,
        tool_usage_usd=tool_usage_usd,
    )
    usage = with_used(tokens, used)
    stated_usd = read_amount(payload.response_cost, "response_cost")
    total_usd = stated_usd or (read_tool_call_cost(parts) if parts.kind.is_tool_call else ZERO) or stated_usd
    unbilled_reason = find_unbilled_reason(parts, usage, total_usd)
    is_costly = status == "success" and payload.cache_hit is not True and unbilled_reason is None
    entry = read_price_entry(parts, always=is_costly and not total_usd)
    tags = read_tags(payload.request_tags)
    call_id, response_id = _id_or_none(texts.litellm_call_id), _id_or_none(texts.id)
    key = _identify(parts, found.part, call_id, response_id, unbilled_reason, stated_usd)
    duration = _read_duration(payload)
    return UsageEvent(
        source=_read_source(pinned_source or texts.source),
        event_id=key.event_id,
        fingerprint=key.fingerprint,
        fingerprint_version=FINGERPRINT_VERSION,
        call_type=parts.call_type,
        status=status,
        is_stream=payload.stream is True,
        is_cache_hit=payload.cache_hit is True,
        occurred_at=occurred_at,
        duration_ms=None if duration is None else round(duration * 1000),
        request_id=call_id,
        response_id=response_id if status == "success" else None,
        trace_id=texts.trace_id,
        reservation_id=texts.reservation_id,
        attempt=_read_attempt(parts.added.attempt),
        is_final=is_final_event(parts, unbilled_reason),
        dimensions=read_dimensions(texts, tags.chosen),
        key_alias=texts.key_alias,
        automatic_tags=tags.automatic,
        models=read_models(parts, additional),
        # Tokens shown by a call that is not billed belong to another call, and were counted there.
        usage=usage if unbilled_reason is None else _NO_TOKENS,
        basis=read_basis(
            parts,
            found.part,
            used,
            duration_seconds=None if duration is None else Decimal(round(duration * 1_000_000)).scaleb(-6),
            unbilled_reason=unbilled_reason,
            custom_rates=read_custom_rates(entry, payload),
        ),
        reported=read_reported_cost(parts, total_usd, tool_usage_usd, additional, entry, is_costly=is_costly),
    )


class _Key(msgspec.Struct, frozen=True, gc=False):
    event_id: str
    fingerprint: bytes


def _read_source(source: str | None) -> str:
    if source is None:
        return DEFAULT_SOURCE
    if is_reserved_source(source):
        detail = "The ledger's own entries come from this source."
        raise RefusedEventError(problems.RESERVED_SOURCE, detail, "tallygate.source")
    return source


def _identify(
    parts: Parts,
    usage: UsagePart,
    call_id: str | None,
    response_id: str | None,
    unbilled_reason: str | None,
    total_usd: Decimal | None,
) -> _Key:
    """Return what tells the event from others, and what tells whether two under one id are the same."""
    payload, texts = parts.payload, parts.texts
    if parts.kind.is_poll and payload.status == "success" and response_id is not None:
        call_type = canonical_call_type(parts.call_type)
        is_open = unbilled_reason in (NO_RESULT_YET, READ_AGAIN)
        return _Key(
            result_event_id(call_type, texts.provider, response_id, is_open=is_open),
            fingerprint_result(call_type, texts.provider, response_id, None if is_open else usage),
        )
    fingerprint = fingerprint_call(parts, usage, reported_usd=total_usd)
    # Two calls without a whole id are told apart by everything else they say.
    content = b"" if call_id and response_id else fingerprint + f"{texts.trace_id}\n{payload.endTime}".encode()
    event_id = call_event_id(
        parts.call_type, str(payload.status), call_id, response_id, attempt=parts.added.attempt, content=content
    )
    return _Key(event_id, fingerprint)


def _read_status(status: str | None) -> str:
    if status in _STATUSES:
        return status
    if status is None:
        raise RefusedEventError(problems.FIELD_MISSING, "An event says whether the call was a success.", "status")
    raise RefusedEventError(problems.INVALID_FIELD, "Neither `success` nor `failure`.", "status")


def _read_start(seconds: float | None, received_at: datetime) -> datetime:
    """Return the start, exact to the microsecond: floats of this size hold more."""
    if seconds is None:
        raise RefusedEventError(problems.FIELD_MISSING, "An event says when the call began.", "startTime")
    age = received_at.timestamp() - seconds
    if age < -_MAX_AHEAD_SECONDS:
        raise RefusedEventError(problems.OCCURRED_IN_FUTURE, "More than 5 minutes ahead of our clock.", "startTime")
    if age > _MAX_AGE_SECONDS:
        raise RefusedEventError(problems.OCCURRED_TOO_LONG_AGO, "More than 400 days ago.", "startTime")
    return datetime.fromtimestamp(seconds, UTC)


def _read_duration(payload: Payload) -> float | None:
    """Return the seconds the call took; an end that is unknown, before the start or 400 days after it tells nothing."""
    if payload.startTime is None or payload.endTime is None:
        return None
    duration = payload.endTime - payload.startTime
    return duration if 0 <= duration <= _MAX_AGE_SECONDS else None


def _read_attempt(attempt: int | None) -> int | None:
    if attempt is not None and not 0 <= attempt <= _MAX_ATTEMPT:
        raise RefusedEventError(problems.INVALID_NUMBER, "Not from 0 to 1,000,000.", "tallygate.attempt")
    return attempt


def _id_or_none(text: str | None) -> str | None:
    return text if is_id(text) else None
