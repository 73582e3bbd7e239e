"""Which rate a quantity that is no token has: by size of an image, resolution of a film, context of a search. Pure.

What a request does not say is what the provider takes by default.
"""

from decimal import Decimal
from typing import Final, NamedTuple

import msgspec

from service.kit.money import ZERO
from service.pricing import units
from service.pricing.model_price import ModelPrice, Rate, Rates
from service.pricing.price_book import PriceBook
from service.pricing.providers import vendor_of
from service.pricing.sizes import DEFAULT_IMAGE_SIZE, film_qualifiers, image_qualifiers, parse_frame
from service.pricing.units import UNIT_OF, qualified
from service.pricing.usage import PricingBasis

_ONE: Final = Decimal(1)

# Providers that round each image up to whole megapixels.
_IN_WHOLE_MEGAPIXELS: Final = frozenset({"fal_ai"})
_MEGAPIXEL: Final = 1024 * 1024

_USUAL_CONTEXT: Final = "medium"
_USUAL_CONTEXT_OF: Final[dict[str, str]] = {"perplexity": "low"}

# List prices of providers for tools that no price book has.
_LISTED_TOOLS: Final[dict[tuple[str, str], Decimal]] = {
    (units.FILE_SEARCHES, "openai"): Decimal("0.0025"),
    (units.FILE_SEARCHES, "azure"): Decimal("0.0025"),
}


class Charged(NamedTuple):
    """A quantity with its rate: what a line is made of."""

    name: str
    unit: str
    rate: Rate
    quantity: Decimal


def charge_unit(unit: str, quantity: Decimal, basis: PricingBasis, rates: Rates, price: ModelPrice) -> Charged | None:
    """Return what a quantity is charged by, or None when the price has no rate for it."""
    if unit == units.OUTPUT_IMAGES:
        return _charge_images(quantity, basis, rates, price)
    if unit == units.WEB_SEARCHES:
        return _charge_searches(quantity, basis, rates, price)
    if unit == units.OUTPUT_VIDEO_SECONDS:
        wanted = () if basis.video_resolution is None else film_qualifiers(basis.video_resolution)
        rate = _qualified_rate(unit, wanted, rates)
    elif unit == units.QUERIES and price.entry.result_limits:
        rate = rates.get(qualified(unit, _result_limit(basis, price.entry.result_limits)))
    else:
        rate = rates.get(unit)
    if rate is None:
        return None
    if unit == units.INPUT_IMAGES:
        quantity = max(quantity - price.entry.free_input_images, ZERO)
    return Charged(unit, UNIT_OF[unit], rate, quantity)


def charge_tool(unit: str, quantity: Decimal, provider: str | None, book: PriceBook) -> Charged | None:
    """Return what a tool costs whichever model of the provider used it, by the book or by the provider's list."""
    price = book.find_tool_price(unit, provider)
    stated = None if price is None else price.unit_rates().get(unit)
    if stated is None:
        usd = _LISTED_TOOLS.get((unit, "" if provider is None else vendor_of(provider)))
        stated = None if usd is None else Rate(usd, usd, _ONE, None, "the provider's list price, in no price book")
    return None if stated is None else Charged(unit, UNIT_OF[unit], stated, quantity)


def _charge_images(images: Decimal, basis: PricingBasis, rates: Rates, price: ModelPrice) -> Charged | None:
    size = basis.image_size
    frame = None if size is None else parse_frame(size)
    per_pixel = rates.get(units.OUTPUT_PIXELS)
    rate = _qualified_rate(units.OUTPUT_IMAGES, () if size is None else image_qualifiers(size), rates)
    if per_pixel is not None and (frame is not None or rate is None):
        width, height = frame or parse_frame(price.key) or DEFAULT_IMAGE_SIZE
        pixels = width * height
        if price.entry.provider in _IN_WHOLE_MEGAPIXELS:
            pixels = -(-pixels // _MEGAPIXEL) * _MEGAPIXEL
        return Charged(units.OUTPUT_PIXELS, UNIT_OF[units.OUTPUT_PIXELS], per_pixel, images * pixels)
    return None if rate is None else Charged(units.OUTPUT_IMAGES, UNIT_OF[units.OUTPUT_IMAGES], rate, images)


def _charge_searches(searches: Decimal, basis: PricingBasis, rates: Rates, price: ModelPrice) -> Charged | None:
    usual = _USUAL_CONTEXT_OF.get(price.entry.provider, _USUAL_CONTEXT)
    wanted = (usual,) if basis.search_context_size is None else (basis.search_context_size.lower(), usual)
    rate = next((rates[kind] for size in wanted if (kind := qualified(units.WEB_SEARCHES, size)) in rates), None)
    if rate is None:
        return None
    if price.entry.is_search_per_request:
        return Charged(units.WEB_SEARCHES, UNIT_OF[units.REQUESTS], rate, _ONE)
    return Charged(units.WEB_SEARCHES, UNIT_OF[units.WEB_SEARCHES], rate, searches)


def _result_limit(basis: PricingBasis, limits: tuple[int, ...]) -> str:
    """Return the row of a search; without a number of results the first one, which holds what an engine returns."""
    wanted = basis.max_results or 0
    return str(next((limit for limit in limits if wanted <= limit), limits[-1]))


def _qualified_rate(unit: str, wanted: tuple[str, ...], rates: Rates) -> Rate | None:
    """Return the rate of the size wanted, else the one for any, which then says so."""
    for qualifier in wanted:
        rate = rates.get(qualified(unit, qualifier))
        if rate is not None:
            return rate
    general = rates.get(unit)
    if general is None or not wanted or not any(kind.startswith(f"{unit}/") for kind in rates):
        return general
    note = f"no rate for {wanted[0]}: general rate"
    return msgspec.structs.replace(general, note=note if general.note is None else f"{note}; {general.note}")
