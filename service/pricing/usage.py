"""What one model call consumed, and the facts of the event that a price depends on. Pure values."""

from decimal import Decimal

import msgspec

from service.kit.money import ZERO


class Usage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Quantities of one call in tokens, normalised over all wire shapes.

    `input_tokens` includes cache reads, cache writes, audio, image and video tokens; `output_tokens` includes
    reasoning, audio, image and video tokens. No part is ever larger than its whole (the decoder clamps).
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_input_tokens: int = 0
    cache_write_5m_input_tokens: int = 0
    cache_write_1h_input_tokens: int = 0
    audio_input_tokens: int = 0
    image_input_tokens: int = 0
    video_input_tokens: int = 0
    # Each is a part of cache_read_input_tokens AND of its modality (`cached_tokens_details`): charged once, as cached.
    cache_read_audio_input_tokens: int = 0
    cache_read_image_input_tokens: int = 0
    reasoning_output_tokens: int = 0
    audio_output_tokens: int = 0
    image_output_tokens: int = 0
    video_output_tokens: int = 0
    # Quantities that are no tokens, by their names in `units`: what is priced per second, image, page, query …
    units: tuple[tuple[str, Decimal], ...] = ()
    # Names of priced quantities the event shows and this Usage cannot hold ("web_search", "seconds", "pages", …):
    # with any of them the token price alone would be too low, so the gateway's own figure is used.
    unmeasured: tuple[str, ...] = ()


class CustomRates(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Rates an operator configured on the gateway's deployment, in USD per token; None = not configured."""

    input_per_token: Decimal | None = None
    output_per_token: Decimal | None = None
    cache_read_per_token: Decimal | None = None
    cache_write_per_token: Decimal | None = None
    # True when the deployment is priced by something else (seconds, queries): tokens alone do not price it.
    has_other_rates: bool = False
    # Those other rates, each by its key of a cost map; empty where they have a form that does not fit in here (tiers).
    others: tuple[tuple[str, Decimal], ...] = ()


class PricingBasis(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Facts beside tokens that select a rate: what was *billed*, not what was asked for."""

    call_type: str = ""
    service_tier: str | None = None
    data_residency: str | None = None
    vertex_location: str | None = None
    inference_geography: str | None = None
    speed: str | None = None
    # What a price per image, per second of video or per search depends on, as the request said it.
    image_size: str | None = None
    image_quality: str | None = None
    video_resolution: str | None = None
    search_context_size: str | None = None
    # How many results a search was asked for: some engines price a query by it.
    max_results: int | None = None
    # How long the call took by the clock: what a self-hosted model priced per second is charged for.
    duration_seconds: Decimal | None = None
    is_batch: bool = False
    is_cache_hit: bool = False
    is_failure: bool = False
    # Why the call costs nothing by its very nature (a file download, the creation of a batch); None = it is billed.
    unbilled_reason: str | None = None
    custom_rates: CustomRates | None = None


class ReportedCost(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The gateway's own figures in USD; `total_usd` is None when it names none."""

    total_usd: Decimal | None = None
    # This very zero: as a default it is left out where the facts of a call are stored.
    guardrail_usd: Decimal = ZERO
    tool_usage_usd: Decimal = ZERO
    fees_usd: Decimal = ZERO
    # True when the gateway says it does not know a price (a total of 0 then means nothing).
    is_unknown_price: bool = False
