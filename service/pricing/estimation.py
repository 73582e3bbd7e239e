"""What a call may cost at most, before it is made, by the same rates that will charge it; and the inverse. Pure.

The worst case: the prompt as plain text in its context tier, nothing cached; every allowed output token at the dearer
of the output and the reasoning rate; a router's fee.
"""

from datetime import datetime
from decimal import Decimal
from typing import Final

import msgspec

from service.identity.models import ModelIdentity
from service.kit.money import EXACT
from service.pricing import rate_keys, reasons
from service.pricing.fallback import FallbackRates
from service.pricing.fees import NO_FEES, Fees, router_fees
from service.pricing.lines import token_lines
from service.pricing.model_price import ModelPrice, Rate, Rates
from service.pricing.price_book import PriceBook
from service.pricing.quantities import output_kinds
from service.pricing.rate_selection import NoRates, SelectedRates, select_rates
from service.pricing.rating_result import Line, PriceState
from service.pricing.usage import PricingBasis, ReportedCost

DEFAULT_MAX_OUTPUT_TOKENS: Final = 4096

_ONE: Final = Decimal(1)
# Models of these modes answer without output tokens.
_SILENT_MODES: Final = frozenset({"embedding", "moderation", "rerank"})
_ASSUMED_NOTE: Final = "fallback rate of the tenant: no price is known"
_NOTHING_REPORTED: Final = ReportedCost()


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """The worst case of a call. amount_usd = sum of components and fees.

    `price_state` is `free` only if neither the model nor a fee can cost anything; `unpriced` = assumed rates.
    """

    amount_usd: Decimal
    price_state: PriceState
    served_model: str | None
    components: tuple[Line, ...]
    fees: tuple[Line, ...]
    max_output_tokens: int
    price_key: str | None
    price_book_version: str
    reason: str | None


class _Prospect(msgspec.Struct, frozen=True):
    """What a call will meet: the rate of its prompt, the dearest of its output, what is due whatever it puts out."""

    input: tuple[str, Rate]
    output: tuple[str, Rate] | None
    fees: Fees
    price: ModelPrice | None
    reason: str | None  # why nothing but assumed rates is known


def estimate(
    input_tokens: int,
    max_output_tokens: int | None,
    models: ModelIdentity,
    basis: PricingBasis,
    book: PriceBook,
    fallback: FallbackRates,
    *,
    occurred_at: datetime | None = None,
    trust_custom_rates: bool = True,
) -> Estimate:
    """Return the worst case; without `max_output_tokens` the smaller of the model's maximum and 4096 is assumed."""
    prospect = _foresee(input_tokens, models, basis, book, fallback, occurred_at, trust_custom_rates)
    output_tokens = _default_output_tokens(prospect.price) if max_output_tokens is None else max_output_tokens
    wanted = ((prospect.input, input_tokens), (prospect.output, output_tokens))
    lines, total = token_lines((*kind, tokens) for kind, tokens in wanted if kind is not None and tokens)
    return Estimate(
        amount_usd=EXACT.add(total, prospect.fees.total_usd),
        price_state=_state(prospect),
        served_model=models.served_model,
        components=lines,
        fees=prospect.fees.lines,
        max_output_tokens=output_tokens,
        price_key=prospect.input[1].price_key,
        price_book_version=book.version,
        reason=prospect.reason,
    )


def max_affordable_output_tokens(
    available_usd: Decimal,
    input_tokens: int,
    models: ModelIdentity,
    basis: PricingBasis,
    book: PriceBook,
    fallback: FallbackRates,
    *,
    occurred_at: datetime | None = None,
    trust_custom_rates: bool = True,
) -> int | None:
    """Return how many output tokens `available_usd` pays for after prompt and fees, at most the model's maximum.

    0 also when the prompt alone is too dear; None = output costs nothing and the model has no known maximum.
    """
    prospect = _foresee(input_tokens, models, basis, book, fallback, occurred_at, trust_custom_rates)
    prompt = EXACT.multiply(Decimal(input_tokens), prospect.input[1].charged_usd)
    left = EXACT.subtract(available_usd, EXACT.add(prompt, prospect.fees.total_usd))
    if left < 0:
        return 0
    maximum = None if prospect.price is None else prospect.price.entry.max_output_tokens
    if prospect.output is None or not prospect.output[1].charged_usd:
        return maximum
    affordable = int(EXACT.divide_int(left, prospect.output[1].charged_usd))
    return affordable if maximum is None else min(affordable, maximum)


def _foresee(
    input_tokens: int,
    models: ModelIdentity,
    basis: PricingBasis,
    book: PriceBook,
    fallback: FallbackRates,
    occurred_at: datetime | None,
    trust_custom_rates: bool,
) -> _Prospect:
    fees = router_fees(input_tokens, models.provider, _NOTHING_REPORTED, book) if models.is_router else NO_FEES
    selected = select_rates(
        models, basis, book, input_tokens, occurred_at=occurred_at, trust_custom_rates=trust_custom_rates
    )
    reason = selected.reason if isinstance(selected, NoRates) else None
    if isinstance(selected, SelectedRates):
        prompt = selected.rates.get(rate_keys.TEXT_INPUT)
        output = _dearest_output(selected.rates, basis.call_type)
        if prompt is not None and (output is not None or _is_silent(selected.price)):
            return _Prospect((rate_keys.TEXT_INPUT, prompt), output, fees, selected.price, None)
        reason = f"{reasons.NO_RATE}:{rate_keys.TEXT_OUTPUT if prompt is not None else rate_keys.TEXT_INPUT}"
    assumed = [
        (kind, Rate(usd, usd, _ONE, None, _ASSUMED_NOTE))
        for kind, usd in (
            (rate_keys.TEXT_INPUT, fallback.input_per_token),
            (rate_keys.TEXT_OUTPUT, fallback.output_per_token),
        )
    ]
    return _Prospect(assumed[0], assumed[1], fees, selected.price, reason)


def _dearest_output(rates: Rates, call_type: str) -> tuple[str, Rate] | None:
    known = [(kind, rate) for kind in output_kinds(call_type) if (rate := rates.get(kind)) is not None]
    return max(known, key=lambda kind_and_rate: kind_and_rate[1].charged_usd, default=None)


def _is_silent(price: ModelPrice | None) -> bool:
    return price is not None and price.entry.mode in _SILENT_MODES


def _default_output_tokens(price: ModelPrice | None) -> int:
    if _is_silent(price):
        return 0
    maximum = None if price is None else price.entry.max_output_tokens
    return min(maximum or DEFAULT_MAX_OUTPUT_TOKENS, DEFAULT_MAX_OUTPUT_TOKENS)


def _state(prospect: _Prospect) -> PriceState:
    if prospect.reason is not None:
        return "unpriced"
    rates = [prospect.input[1], *([] if prospect.output is None else [prospect.output[1]])]
    return "priced" if prospect.fees.total_usd or any(rate.charged_usd for rate in rates) else "free"
