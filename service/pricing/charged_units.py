"""What a call is charged for beside its tokens or instead of them. Pure.

Content that tokens measure is charged by tokens: they are what a provider bills when it reports them.
"""

from collections.abc import Iterator
from decimal import Decimal
from typing import Final

from service.pricing import reasons, units
from service.pricing.model_price import ModelPrice
from service.pricing.price_book import PriceBook
from service.pricing.rate_selection import SelectedRates
from service.pricing.unit_choice import Charged, charge_tool, charge_unit
from service.pricing.units import CALL_SECONDS, DOCUMENTS, INPUT_CONTENT, OUTPUT_CONTENT, REQUESTS, UNIT_OF
from service.pricing.usage import PricingBasis, Usage

_ONE: Final = Decimal(1)
_INPUTS: Final = INPUT_CONTENT | DOCUMENTS
_NOTHING: Final[frozenset[str]] = frozenset()


def charge_units(
    usage: Usage, basis: PricingBasis, selected: SelectedRates, book: PriceBook, provider: str | None
) -> list[Charged] | str:
    """Return all that is charged beside tokens, or the reason why that cannot be said."""
    covered = _covered_by_tokens(usage, selected.price)
    charged: list[Charged] = []
    unrated = None
    for unit, quantity in usage.units:
        if unit in covered or unit.startswith(units.GUARDRAIL_UNITS):
            continue
        part = charge_unit(unit, quantity, basis, selected.rates, selected.price)
        if part is None and unit in units.TOOLS:
            part = charge_tool(unit, quantity, provider, book)
        if part is not None:
            charged.append(part)
        elif unit in units.TOOLS or unit not in UNIT_OF:
            return f"{reasons.NO_RATE}:{unit}"
        else:
            unrated = unrated or unit
    charged += _charge_call(basis, selected)
    missing = _unmeasured(charged, covered, selected.price)
    if missing:
        return f"{reasons.UNMEASURED}:{','.join(sorted(missing))}"
    if unrated is not None and not charged and not covered:
        return f"{reasons.NO_RATE}:{unrated}"
    return [part for part in charged if part.quantity]


def _covered_by_tokens(usage: Usage, price: ModelPrice) -> frozenset[str]:
    """Return the units whose content the tokens of the call measure, and price, already.

    A prompt's tokens are of all its content, those of an embedding of text alone; its characters come before them,
    because a list that prices both bills characters.
    """
    outputs = OUTPUT_CONTENT if usage.output_tokens and price.is_output_by_tokens else _NOTHING
    if not usage.input_tokens or not price.is_input_by_tokens:
        return outputs
    return frozenset(_embedded_as_tokens(usage)) if price.entry.mode == "embedding" else _INPUTS | outputs


def _embedded_as_tokens(usage: Usage) -> Iterator[str]:
    yield units.QUERIES
    if usage.image_input_tokens:
        yield units.INPUT_IMAGES
    if usage.audio_input_tokens:
        yield units.INPUT_AUDIO_SECONDS
    if usage.video_input_tokens:
        yield units.INPUT_VIDEO_SECONDS


def _charge_call(basis: PricingBasis, selected: SelectedRates) -> Iterator[Charged]:
    """Yield what the call costs by itself: a price per request, and of the wall clock if tokens have none."""
    per_request = selected.rates.get(REQUESTS)
    if per_request is not None:
        yield Charged(REQUESTS, UNIT_OF[REQUESTS], per_request, _ONE)
    per_second = selected.rates.get(CALL_SECONDS)
    if per_second is not None and not selected.prices_tokens and basis.duration_seconds:
        yield Charged(CALL_SECONDS, UNIT_OF[CALL_SECONDS], per_second, basis.duration_seconds)


def _unmeasured(charged: list[Charged], covered: frozenset[str], price: ModelPrice) -> frozenset[str]:
    """Return the units that price such a call and that nobody counted: what it makes, else what it is given."""
    counted = {part.name for part in charged}
    priced = price.unit_kinds
    made = _NOTHING if price.is_output_by_tokens else priced & OUTPUT_CONTENT
    needed = made or (_NOTHING if price.is_input_by_tokens else priced & _INPUTS)
    if not price.is_priced_by_tokens and not needed:
        needed = priced & {CALL_SECONDS}
    return _NOTHING if needed & (counted | covered) else needed
