"""The declared fields of LiteLLM's standard logging payload: nothing else of it is ever kept or even built. Pure.

Fields that can be huge, or whose shape differs between versions, stay undecoded (`msgspec.Raw`: a view of the body)
until they are needed. Amounts are Decimal from the text of the number.
"""

from decimal import Decimal
from typing import TYPE_CHECKING

import msgspec

from service.events.fields import EMPTY

# Clients send numbers where ids are expected.
Label = str | int | None
# Whole numbers; some gateways write them as 12.0. Checking turns them into what the type checker is told they are.
if TYPE_CHECKING:
    Count = int | None
else:
    Count = int | float | None
# Lengths of time and the like.
Quantity = int | float | None
Amount = Decimal | None


class CacheWrites(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """Tokens written to the provider's cache, by how long they live there."""

    ephemeral_5m_input_tokens: Count = None
    ephemeral_1h_input_tokens: Count = None


class CachedParts(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """Which of the tokens read from the provider's cache are not text."""

    audio_tokens: Count = None
    image_tokens: Count = None


class InputDetails(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """`prompt_tokens_details`, or `input_tokens_details` of the Responses API. Counts of tokens come first."""

    cached_tokens: Count = None
    audio_tokens: Count = None
    image_tokens: Count = None
    video_tokens: Count = None
    cache_creation_tokens: Count = None
    cache_write_tokens: Count = None
    cache_creation_token_details: CacheWrites | None = None
    cached_tokens_details: CachedParts | None = None
    web_search_requests: Quantity = None
    google_maps_grounding_requests: Quantity = None
    query_count: Quantity = None
    character_count: Quantity = None
    image_count: Quantity = None
    audio_length_seconds: Quantity = None
    video_length_seconds: Quantity = None


class OutputDetails(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """`completion_tokens_details`, or `output_tokens_details` of the Responses API."""

    reasoning_tokens: Count = None
    audio_tokens: Count = None
    image_tokens: Count = None
    video_tokens: Count = None


class ServerTools(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """What the provider did by itself."""

    web_search_requests: Quantity = None


class ServerSideTools(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """The same in xAI's words."""

    web_search_calls: Quantity = None


class UsagePart(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """A usage object in any of its shapes: chat completions, Responses, Anthropic messages. Counts come first."""

    prompt_tokens: Count = None
    completion_tokens: Count = None
    input_tokens: Count = None
    output_tokens: Count = None
    cache_read_input_tokens: Count = None
    cache_creation_input_tokens: Count = None
    prompt_tokens_details: InputDetails | None = None
    completion_tokens_details: OutputDetails | None = None
    input_tokens_details: InputDetails | None = None
    output_tokens_details: OutputDetails | None = None
    cache_creation: CacheWrites | None = None
    server_tool_use: ServerTools | None = None
    server_side_tool_usage_details: ServerSideTools | None = None
    num_search_queries: Quantity = None
    citation_tokens: Quantity = None
    output_image_count: Quantity = None
    duration_seconds: Quantity = None
    seconds: Quantity = None
    video_count: Quantity = None
    video_resolution: Label = None
    search_context_size: str | None = None
    inference_geo: str | None = None
    speed: str | None = None
    service_tier: str | None = None


class MetadataPart(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """Who asked, and the usage."""

    user_api_key_hash: str | None = None
    user_api_key_alias: str | None = None
    user_api_key_team_id: Label = None
    user_api_key_org_id: Label = None
    user_api_key_project_id: Label = None
    user_api_key_user_id: Label = None
    user_api_key_end_user_id: Label = None
    internal_call_origin: str | None = None
    usage_object: UsagePart | None = None
    mcp_tool_call_metadata: msgspec.Raw = EMPTY


class CostPart(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """`cost_breakdown`: what the gateway computed, and the basis it was billed on."""

    guardrail_cost: Amount = None
    tool_usage_cost: Amount = None
    additional_costs: msgspec.Raw = EMPTY
    service_tier: str | None = None
    data_residency: str | None = None
    vertex_location: str | None = None


class HeadersPart(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """Of the headers the gateway answered with, the one that tells of fallbacks; streams have none."""

    attempted_fallbacks: msgspec.Raw = msgspec.field(default=EMPTY, name="x-litellm-attempted-fallbacks")


class HiddenPart(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """What the gateway sent on, and the models of a batch."""

    litellm_model_name: str | None = None
    batch_models: msgspec.Raw = EMPTY
    additional_headers: HeadersPart | None = None
    usage_object: msgspec.Raw = EMPTY


class PriceMapPart(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """The gateway's own look-up of a price."""

    model_map_key: str | None = None
    model_map_value: msgspec.Raw = EMPTY


class TallygatePart(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """What our adapters add to the payload."""

    requested_model: str | None = None
    reservation_id: str | None = None
    session: Label = None
    agent: Label = None
    attempt: int | None = None
    final: bool | None = None
    source: str | None = None
    quantities: msgspec.Raw = EMPTY


class Payload(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One standard logging payload."""

    id: Label = None
    litellm_call_id: Label = None
    trace_id: Label = None
    session_id: Label = None
    call_type: str | None = None
    status: str | None = None
    stream: bool | None = None
    cache_hit: bool | None = None
    custom_llm_provider: str | None = None
    startTime: float | None = None  # noqa: N815  (LiteLLM's name)
    endTime: float | None = None  # noqa: N815  (same)
    model: str | None = None
    model_id: Label = None
    model_group: str | None = None
    response_cost: Amount = None
    prompt_tokens: Count = None
    completion_tokens: Count = None
    end_user: Label = None
    request_tags: msgspec.Raw = EMPTY
    metadata: MetadataPart | None = None
    cost_breakdown: CostPart | None = None
    hidden_params: HiddenPart | None = None
    model_map_information: PriceMapPart | None = None
    model_parameters: msgspec.Raw = EMPTY
    standard_built_in_tools_params: msgspec.Raw = EMPTY
    guardrail_information: msgspec.Raw = EMPTY
    response: msgspec.Raw = EMPTY
    response_cost_failure_debug_info: msgspec.Raw = EMPTY
    zero_cost_diagnostic: msgspec.Raw = EMPTY
    tallygate: TallygatePart | None = None


class ResponsePart(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """What is read of every `response`: never its content; litellm_answer has what is read of some."""

    model: msgspec.Raw = EMPTY
    status: msgspec.Raw = EMPTY
    background: msgspec.Raw = EMPTY
    usage: msgspec.Raw = EMPTY
    service_tier: msgspec.Raw = EMPTY
    output: msgspec.Raw = EMPTY


class PriceMapKey(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """Whose entry of the price map it is."""

    key: msgspec.Raw = EMPTY


class PriceMapValue(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """The rates of a price map entry that tell a deployment's own price from a list price, and unknown from free."""

    key: str | None = None
    input_cost_per_token: Amount = None
    output_cost_per_token: Amount = None
    cache_read_input_token_cost: Amount = None
    cache_creation_input_token_cost: Amount = None
    input_cost_per_second: Amount = None
    output_cost_per_second: Amount = None
    cost_per_second: Amount = None
    input_cost_per_character: Amount = None
    output_cost_per_character: Amount = None
    input_cost_per_query: Amount = None
    input_cost_per_request: Amount = None
    input_cost_per_image: Amount = None
    output_cost_per_image: Amount = None
    input_cost_per_pixel: Amount = None
    output_cost_per_pixel: Amount = None
    ocr_cost_per_page: Amount = None
    ocr_cost_per_credit: Amount = None
    annotation_cost_per_page: Amount = None
    input_cost_per_audio_per_second: Amount = None
    input_cost_per_video_per_second: Amount = None
    output_cost_per_video_per_second: Amount = None
    tiered_pricing: msgspec.Raw = EMPTY
    off_peak_pricing: msgspec.Raw = EMPTY
