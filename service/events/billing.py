"""Which calls cost nothing by their nature, and which are not the end of what a caller asked for. Pure."""

from decimal import Decimal
from typing import Final

from service.events.fields import text_of
from service.events.litellm_parts import Parts
from service.pricing.usage import Usage

# Reasons of a charge of 0 that is `free`.
NEVER_BILLED: Final = "never_billed"  # no model runs: files, lists, cancellations …
NO_COST_REPORTED: Final = "no_cost_reported"  # costs only what the gateway says, and it says nothing
NO_RESULT_YET: Final = "no_result_yet"  # billed once its result is fetched
READ_AGAIN: Final = "read_again"  # the usage shown is that of the call that made what was read

_POLL_ORIGIN: Final = "background_response_cost_poll"  # the gateway's own fetching of a result: no sub-call
_UNFINISHED: Final = frozenset({"queued", "in_progress"})


def find_unbilled_reason(parts: Parts, usage: Usage, total_usd: Decimal | None) -> str | None:
    """Return why the call costs nothing whatever its model costs, or None if it is billed."""
    kind, response = parts.kind, parts.response
    if kind.billing == "never":
        return NEVER_BILLED
    if parts.payload.status != "success" or total_usd:
        return None
    if kind.billing == "as_reported":
        return NO_COST_REPORTED
    has_tokens = bool(usage.input_tokens or usage.output_tokens)
    is_background = bytes(response.background) == b"true"
    if not has_tokens and (kind.is_poll or (is_background and text_of(response.status) in _UNFINISHED)):
        return NO_RESULT_YET
    if kind.is_poll and not kind.is_batch and not is_background:
        return READ_AGAIN
    return None


def is_final_event(parts: Parts, unbilled_reason: str | None) -> bool:
    """Return whether nothing more will come for what the caller asked for, so that the rest of a hold may go.

    An adapter that knows better says so in `tallygate.final`.
    """
    if parts.added.final is not None:
        return parts.added.final
    is_sub_call = parts.texts.internal_call_origin not in (None, _POLL_ORIGIN)
    is_done = parts.payload.status == "success" and unbilled_reason != NO_RESULT_YET
    return is_done and parts.kind.is_final and not is_sub_call
