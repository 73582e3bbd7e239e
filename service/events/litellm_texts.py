"""All texts of a payload that end up in keys and columns, bounded. Pure.

Nearly always every one of them is a short text: that is found out for all at once, and only otherwise one by one.
"""

import msgspec

from service.events.fields import read_text
from service.events.litellm_payload import (
    CostPart,
    HiddenPart,
    Label,
    MetadataPart,
    Payload,
    PriceMapPart,
    TallygatePart,
)
from service.kit.text import MAX_KEY_TEXT

# In the order of the fields of Texts.
_PATHS = (
    "id",
    "litellm_call_id",
    "trace_id",
    "session_id",
    "call_type",
    "custom_llm_provider",
    "model",
    "model_id",
    "model_group",
    "end_user",
    "metadata.user_api_key_hash",
    "metadata.user_api_key_alias",
    "metadata.user_api_key_team_id",
    "metadata.user_api_key_org_id",
    "metadata.user_api_key_project_id",
    "metadata.user_api_key_user_id",
    "metadata.user_api_key_end_user_id",
    "metadata.internal_call_origin",
    "hidden_params.litellm_model_name",
    "model_map_information.model_map_key",
    "cost_breakdown.service_tier",
    "cost_breakdown.data_residency",
    "cost_breakdown.vertex_location",
    "tallygate.requested_model",
    "tallygate.reservation_id",
    "tallygate.session",
    "tallygate.agent",
    "tallygate.source",
)


class Texts(msgspec.Struct, frozen=True, gc=False):
    """Bounded texts; None = absent or empty."""

    id: str | None
    litellm_call_id: str | None
    trace_id: str | None
    session_id: str | None
    call_type: str | None
    provider: str | None
    model: str | None
    model_id: str | None
    model_group: str | None
    end_user: str | None
    api_key: str | None
    key_alias: str | None
    team: str | None
    organization: str | None
    project: str | None
    user: str | None
    key_end_user: str | None
    internal_call_origin: str | None
    litellm_model_name: str | None
    model_map_key: str | None
    service_tier: str | None
    data_residency: str | None
    vertex_location: str | None
    requested_model: str | None
    reservation_id: str | None
    added_session: str | None
    agent: str | None
    source: str | None


def read_texts(
    payload: Payload,
    metadata: MetadataPart,
    hidden: HiddenPart,
    price_map: PriceMapPart,
    cost: CostPart,
    added: TallygatePart,
) -> Texts:
    """Return all texts, refusing one that is absurdly long."""
    values = (
        # By itself: ids of the Responses API are long, which must not make all others be looked at one by one.
        read_text(payload.id, "id"),
        payload.litellm_call_id,
        payload.trace_id,
        # The gateway nearly always writes it, empty.
        None if payload.session_id == "" else payload.session_id,
        payload.call_type,
        payload.custom_llm_provider,
        payload.model,
        payload.model_id,
        payload.model_group,
        payload.end_user,
        metadata.user_api_key_hash,
        metadata.user_api_key_alias,
        metadata.user_api_key_team_id,
        metadata.user_api_key_org_id,
        metadata.user_api_key_project_id,
        metadata.user_api_key_user_id,
        metadata.user_api_key_end_user_id,
        metadata.internal_call_origin,
        hidden.litellm_model_name,
        price_map.model_map_key,
        cost.service_tier,
        cost.data_residency,
        cost.vertex_location,
        added.requested_model,
        added.reservation_id,
        added.session,
        added.agent,
        added.source,
    )
    if are_short_texts(values):
        return Texts(*values)  # type: ignore[arg-type]  # just found to be texts
    return Texts(*[read_text(value, path) for value, path in zip(values, _PATHS, strict=True)])


def are_short_texts(values: tuple[Label, ...]) -> bool:
    """Return whether every value is None, or a text that is not empty and needs no bounding."""
    texts = [*filter(None, values)]
    try:
        joined = "".join(texts)  # type: ignore[arg-type]  # a number raises
    except TypeError:
        return False
    # The number zero and empty texts are the only ones that are neither None nor among the texts.
    if len(texts) + values.count(None) != len(values) or "\x00" in joined:
        return False
    return len(joined) <= MAX_KEY_TEXT or max(map(len, texts)) <= MAX_KEY_TEXT  # type: ignore[arg-type]
