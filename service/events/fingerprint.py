"""What makes two posts under one event id the same event: a digest over values as they came, nothing resolved. Pure.

Stored with its version and compared by it, so that neither aliases nor releases turn a retry into a conflict: the list
of values of a version never changes.
"""

from decimal import Decimal
from hashlib import sha256
from typing import Final

import msgspec

from service.events.litellm_parts import Parts
from service.events.litellm_payload import CacheWrites, InputDetails, OutputDetails, UsagePart

FINGERPRINT_VERSION: Final = 1

_NO_INPUT: Final = InputDetails()
_NO_OUTPUT: Final = OutputDetails()
_NO_WRITES: Final = CacheWrites()

_encode = msgspec.json.Encoder().encode

Wire = str | int | float | Decimal | None


def fingerprint_call(parts: Parts, usage: UsagePart, *, reported_usd: Decimal | None) -> bytes:
    """Return the fingerprint of a call: names, status, quantities, start, who, and the gateway's figure.

    Not in it: what an adapter adds beside the payload, so that the same call from the stock logger stays the same.
    """
    payload, metadata = parts.payload, parts.metadata
    return _digest(
        FINGERPRINT_VERSION,
        payload.call_type,
        payload.status,
        payload.model,
        payload.model_group,
        payload.model_id,
        parts.hidden.litellm_model_name,
        payload.custom_llm_provider,
        payload.startTime,
        metadata.user_api_key_hash,
        metadata.user_api_key_team_id,
        metadata.user_api_key_user_id,
        reported_usd,
        *_quantities(usage),
    )


def fingerprint_result(call_type: str, provider: str | None, result_id: str, usage: UsagePart | None) -> bytes:
    """Return the fingerprint of a result that may be fetched often: not when, by whom, or at which prices."""
    return _digest(FINGERPRINT_VERSION, call_type, provider, result_id, *(() if usage is None else _quantities(usage)))


def _digest(*values: Wire) -> bytes:
    return sha256(_encode(values)).digest()


def _quantities(usage: UsagePart) -> tuple[Wire, ...]:
    inputs = usage.prompt_tokens_details or usage.input_tokens_details or _NO_INPUT
    outputs = usage.completion_tokens_details or usage.output_tokens_details or _NO_OUTPUT
    writes = inputs.cache_creation_token_details or usage.cache_creation or _NO_WRITES
    return (
        usage.prompt_tokens,
        usage.completion_tokens,
        usage.input_tokens,
        usage.output_tokens,
        usage.cache_read_input_tokens,
        usage.cache_creation_input_tokens,
        usage.output_image_count,
        usage.duration_seconds,
        usage.seconds,
        inputs.cached_tokens,
        inputs.audio_tokens,
        inputs.image_tokens,
        inputs.video_tokens,
        inputs.cache_creation_tokens,
        inputs.cache_write_tokens,
        writes.ephemeral_5m_input_tokens,
        writes.ephemeral_1h_input_tokens,
        outputs.reasoning_tokens,
        outputs.audio_tokens,
        outputs.image_tokens,
        outputs.video_tokens,
    )
