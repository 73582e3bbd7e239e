"""Reads what the gateway says of money: its figures, the basis it billed on, prices set on its deployment. Pure."""

from decimal import Decimal
from typing import Final

import msgspec

from service.events import problems
from service.events.fields import EMPTY, decode_part, is_filled_list, is_object, read_amount, read_text, text_of
from service.events.litellm_details import with_details
from service.events.litellm_parts import Parts
from service.events.litellm_payload import CostPart, Label, Payload, PriceMapKey, PriceMapValue, UsagePart
from service.events.litellm_quantities import Used
from service.events.problems import RefusedEventError
from service.kit.money import EXACT, ZERO
from service.pricing.usage import CustomRates, PricingBasis, ReportedCost

_ADDITIONAL_COSTS = msgspec.json.Decoder(dict[str, Decimal | None])
_PRICE_MAP_VALUE = msgspec.json.Decoder(PriceMapValue)
_PRICE_MAP_KEY = msgspec.json.Decoder(PriceMapKey)
_KEY_FIRST: Final = (b'{"key": "', b'{"key":"')
_KEY_NAME_BYTES: Final = len(b'{"key":')

_MAX_ADDITIONAL_COSTS_BYTES: Final = 16_384
_LONGEST_KEY_BYTES: Final = 512

_STANDARD_TIERS: Final = frozenset({"default", "standard", "auto", "on_demand"})
_NOT_AVAILABLE: Final = "not_available"
# Rates of an entry that are not per token: all that are declared between the first and the last of them.
_OTHER_RATES: Final = PriceMapValue.__struct_fields__[
    PriceMapValue.__struct_fields__.index("input_cost_per_second") : PriceMapValue.__struct_fields__.index(
        "tiered_pricing"
    )
]
_RATES_PATH: Final = "model_map_information.model_map_value"

_NO_RATES: Final = CustomRates()


class AdditionalCosts(msgspec.Struct, frozen=True):
    """What the gateway added to the tokens' cost: a router's flat fee, and anything else."""

    router_usd: Decimal = ZERO
    has_router: bool = False
    has_others: bool = False


NO_ADDITIONAL_COSTS: Final = AdditionalCosts()


def read_additional_costs(cost: CostPart) -> AdditionalCosts:
    """Return the additional costs; only those of a router are a fee, others (a sub-model, a transcription) are not."""
    if not is_object(cost.additional_costs):
        return NO_ADDITIONAL_COSTS
    path = "cost_breakdown.additional_costs"
    if memoryview(cost.additional_costs).nbytes > _MAX_ADDITIONAL_COSTS_BYTES:
        raise RefusedEventError(problems.LIST_TOO_LONG, f"More than {_MAX_ADDITIONAL_COSTS_BYTES} bytes.", path)
    router, has_router, has_others = ZERO, False, False
    for name, value in decode_part(_ADDITIONAL_COSTS, cost.additional_costs, path).items():
        amount = read_amount(value, f"{path}.{name[:100]}")
        if amount and "router" in name.casefold():
            router, has_router = EXACT.add(router, amount), True
        elif amount:
            has_others = True
    return AdditionalCosts(router, has_router, has_others)


def read_reported_cost(
    parts: Parts,
    total_usd: Decimal | None,
    tool_usage_usd: Decimal,
    additional: AdditionalCosts,
    entry: PriceMapValue | None,
    *,
    is_costly: bool,
) -> ReportedCost:
    """Return the gateway's own figures. `is_costly`: the call should cost something, so that a 0 asks for a reason."""
    cost = parts.cost
    return ReportedCost(
        total_usd=total_usd,
        guardrail_usd=read_amount(cost.guardrail_cost, "cost_breakdown.guardrail_cost") or ZERO,
        tool_usage_usd=tool_usage_usd,
        fees_usd=additional.router_usd,
        is_unknown_price=is_costly and not total_usd and _admits_ignorance(parts.payload, entry),
    )


def _admits_ignorance(payload: Payload, entry: PriceMapValue | None) -> bool:
    """Return whether a cost of 0 means that the gateway knows no price.

    It registers a model it does not know by itself, with the integer 0 as rates; a price somebody set to zero is 0.0.
    """
    if is_object(payload.zero_cost_diagnostic) or is_object(payload.response_cost_failure_debug_info):
        return True
    if entry is None:
        return True
    return entry.key != payload.model_id and not any(
        _is_configured(rate) for rate in (entry.input_cost_per_token, entry.output_cost_per_token)
    )


def read_price_entry(parts: Parts, *, always: bool) -> PriceMapValue | None:
    """Return the price map's entry if it is the deployment's own, any readable entry if `always`.

    The entry is half of an event's bytes, and says nothing we need unless its key is the deployment's id.
    """
    raw, model_id = parts.price_map.model_map_value, parts.payload.model_id
    if raw is EMPTY or (not always and _begins_with_other_key(raw, model_id)) or not is_object(raw):
        return None
    if model_id and text_of(decode_part(_PRICE_MAP_KEY, raw, _RATES_PATH).key) == model_id:
        return decode_part(_PRICE_MAP_VALUE, raw, _RATES_PATH)
    try:
        return _PRICE_MAP_VALUE.decode(raw) if always else None
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return None


def _begins_with_other_key(raw: msgspec.Raw, model_id: Label) -> bool:
    """Return whether the entry's key stands first, as the gateway writes it, and is not the deployment's id."""
    beginning = memoryview(raw)[:_LONGEST_KEY_BYTES].tobytes()
    if not beginning.startswith(_KEY_FIRST):
        return False
    start = beginning.find(b'"', _KEY_NAME_BYTES) + 1
    key = beginning[start : beginning.find(b'"', start)]
    return b"\\" not in key and key != str(model_id).encode("utf-8", "replace")


def read_custom_rates(entry: PriceMapValue | None, payload: Payload) -> CustomRates | None:
    """Return the rates an operator configured on the deployment itself, or None."""
    if entry is None or not payload.model_id or entry.key != payload.model_id:
        return None
    has_tiers, others = _has_tiers(entry), _other_rates(entry)
    rates = CustomRates(
        input_per_token=_configured(entry.input_cost_per_token, "input_cost_per_token"),
        output_per_token=_configured(entry.output_cost_per_token, "output_cost_per_token"),
        cache_read_per_token=_configured(entry.cache_read_input_token_cost, "cache_read_input_token_cost"),
        cache_write_per_token=_configured(entry.cache_creation_input_token_cost, "cache_creation_input_token_cost"),
        has_other_rates=has_tiers or any(rate for _, rate in others),
        others=() if has_tiers else others,
    )
    return None if rates == _NO_RATES else rates


def _has_tiers(entry: PriceMapValue) -> bool:
    return (
        is_filled_list(entry.tiered_pricing)
        or is_filled_list(entry.off_peak_pricing)
        or is_object(entry.off_peak_pricing)
    )


def _other_rates(entry: PriceMapValue) -> tuple[tuple[str, Decimal], ...]:
    stated = ((field, _configured(getattr(entry, field), field)) for field in _OTHER_RATES)
    return tuple((field, rate) for field, rate in stated if rate is not None)


def _is_configured(rate: Decimal | None) -> bool:
    """Return whether somebody set the rate: the integer 0 only fills a gap, 0.0 is a price."""
    return rate is not None and (bool(rate) or rate.as_tuple().exponent != 0)


def _configured(rate: Decimal | None, field: str) -> Decimal | None:
    return read_amount(rate, f"{_RATES_PATH}.{field}") if _is_configured(rate) else None


def read_basis(
    parts: Parts,
    usage: UsagePart,
    used: Used,
    *,
    duration_seconds: Decimal | None,
    unbilled_reason: str | None,
    custom_rates: CustomRates | None,
) -> PricingBasis:
    """Return the facts that select a rate."""
    payload = parts.payload
    # With a breakdown its tier was billed, whatever was asked for; without one the provider's word is all there is.
    has_breakdown = payload.cost_breakdown is not None
    tier = parts.texts.service_tier if has_breakdown else usage.service_tier or text_of(parts.response.service_tier)
    basis = PricingBasis(
        call_type=parts.call_type,
        service_tier=_service_tier(tier),
        data_residency=parts.texts.data_residency,
        vertex_location=parts.texts.vertex_location,
        inference_geography=_available(usage.inference_geo),
        speed=_available(usage.speed),
        duration_seconds=duration_seconds,
        is_batch=parts.kind.is_batch,
        is_cache_hit=payload.cache_hit is True,
        is_failure=payload.status == "failure",
        unbilled_reason=unbilled_reason,
        custom_rates=custom_rates,
    )
    return basis if not used.units else with_details(basis, used, usage, parts)


def _service_tier(tier: str | None) -> str | None:
    if not tier:
        return None
    name = (read_text(tier, "cost_breakdown.service_tier") or "").lower()
    return None if name in _STANDARD_TIERS else name


def _available(value: str | None) -> str | None:
    return None if not value or value == _NOT_AVAILABLE else read_text(value, "metadata.usage_object")
