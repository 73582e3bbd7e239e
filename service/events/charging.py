"""From an event, who it was, which model it was and what it costs to the draft of a charge. Pure."""

from datetime import datetime, timedelta

from service.events.usage_event import UsageEvent
from service.identity.dimensions import CompletedDimensions, Dimensions
from service.identity.models import ModelIdentity
from service.kit.ids import new_id
from service.ledger.charge import ChargeDraft
from service.ledger.totals import bucket_of, core_key_digest
from service.pricing.facts import CallFacts
from service.pricing.rating_result import Rating
from service.pricing.usage import Usage

# A charge counts where it occurred if it is reported within this time, else when it was received: closed hours and
# windows stay closed but for the last hour. A constant of the schema: totals and windows were booked by it. Nothing
# counts later than it was received: it would be in a window no check asks about yet, while its hold is gone.
LATE_AFTER = timedelta(hours=1)

_FURTHER = (
    "cache_write_5m_input_tokens",
    "cache_write_1h_input_tokens",
    "audio_input_tokens",
    "image_input_tokens",
    "video_input_tokens",
    "audio_output_tokens",
    "image_output_tokens",
    "video_output_tokens",
)

_NOTHING = Usage()


def effective_time(occurred_at: datetime, received_at: datetime) -> datetime:
    """Return the time a charge is accounted at."""
    return occurred_at if timedelta(0) <= received_at - occurred_at <= LATE_AFTER else received_at


def facts_of(event: UsageEvent) -> CallFacts:
    """Return what the price of the event depends on."""
    return CallFacts(claims=event.models, usage=event.usage, basis=event.basis, reported=event.reported)


def draft_charge(
    tenant_id: str,
    event: UsageEvent,
    dimensions: CompletedDimensions,
    models: ModelIdentity,
    facts: CallFacts,
    rating: Rating,
    *,
    received_at: datetime,
    reservation_id: str | None,
    config_version: int,
) -> ChargeDraft:
    """Return the charge of one event, complete but for its budget windows; it was priced by that `config_version`."""
    values = dimensions.values
    effective_at = effective_time(event.occurred_at, received_at)
    counted = _NOTHING if event.is_cache_hit else event.usage
    # Written out, not gathered from tuples of names: that took three times as long, for every event.
    # fmt: off
    return ChargeDraft(
        tenant_id=tenant_id, charge_id=new_id(), kind="usage", source=event.source, event_id=event.event_id,
        fingerprint=event.fingerprint, fingerprint_version=event.fingerprint_version,
        occurred_at=event.occurred_at, received_at=received_at, effective_at=effective_at,
        duration_ms=event.duration_ms, config_version=config_version, price_book_version=rating.price_book_version,
        request_id=event.request_id, response_id=event.response_id, trace_id=event.trace_id,
        reservation_id=reservation_id, attempt=event.attempt, is_final=event.is_final,
        call_type=event.call_type, status=event.status, is_stream=event.is_stream, is_cache_hit=event.is_cache_hit,
        organization=values.organization, team=values.team, project=values.project, user=values.user,
        api_key=values.api_key, end_user=values.end_user, agent=values.agent, session=values.session,
        tags=values.tags, automatic_tags=event.automatic_tags,
        requested_model=models.requested_model, requested_canonical=models.requested_canonical,
        deployment=models.deployment, deployment_id=models.deployment_id,
        served_model=models.served_model, provider=models.provider,
        provenance=dimensions.provenance | models.provenance,
        gateway_price_key=event.models.gateway_price_key, price_key=rating.price_key,
        service_tier=event.basis.service_tier, price_state=rating.price_state,
        fees_price_state=rating.fees_price_state, price_reason=rating.reason,
        requests=1, failed_requests=int(event.status == "failure"),
        unpriced_requests=int(rating.price_state == "unpriced"),
        input_tokens=counted.input_tokens, output_tokens=counted.output_tokens,
        cache_read_input_tokens=counted.cache_read_input_tokens,
        cache_write_input_tokens=counted.cache_write_5m_input_tokens + counted.cache_write_1h_input_tokens,
        reasoning_output_tokens=counted.reasoning_output_tokens, quantities=_further_quantities(event, values),
        cost_usd=rating.cost_usd, model_cost_usd=rating.model_cost_usd, fees_usd=rating.fees_usd,
        list_cost_usd=rating.list_cost_usd, enforced_usd=rating.enforced_usd, assumed_usd=rating.assumed_usd,
        reported_cost_usd=rating.reported_cost_usd, components=rating.components, fees=rating.fees,
        facts=facts,
        bucket=bucket_of(effective_at), key_digest=core_key_digest(_core_key(event, values, models, rating)),
    )
    # fmt: on


def _core_key(event: UsageEvent, values: Dimensions, models: ModelIdentity, rating: Rating) -> tuple[str | None, ...]:
    """Return the values of ledger.totals.CORE_KEY."""
    return (
        values.organization,
        values.team,
        values.project,
        values.user,
        values.api_key,
        models.requested_model,
        models.deployment,
        models.served_model,
        models.provider,
        event.call_type,
        rating.price_state,
        event.basis.service_tier,
        event.status,
    )


def _further_quantities(event: UsageEvent, values: Dimensions) -> dict[str, int]:
    """Return what has no column of its own; the tokens of a cache hit are kept apart: nobody bought them.

    Of the tags that do not count only the number is kept.
    """
    usage = event.usage
    further = {name: quantity for name in _FURTHER if (quantity := getattr(usage, name))}
    if dropped_tags := len(event.dimensions.tags) - len(values.tags):
        further["dropped_tags"] = dropped_tags
    if event.is_cache_hit:
        further["cache_hit_input_tokens"] = usage.input_tokens
        further["cache_hit_output_tokens"] = usage.output_tokens
    return further
