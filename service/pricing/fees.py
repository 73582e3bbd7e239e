"""Fees: what a call costs beside its model, each a line of its own. Pure.

Azure's Model Router takes a flat rate of all prompt tokens, cached ones included, whichever model served. A guardrail's
cost is known from the gateway only.
"""

from decimal import Decimal
from typing import Final

import msgspec

from service.kit.money import EXACT, ZERO
from service.pricing.lines import line_of
from service.pricing.price_book import GUARDRAILS_KEY, PriceBook
from service.pricing.rate_keys import STANDARD, TEXT_INPUT
from service.pricing.rating_result import Line, PriceState
from service.pricing.units import GUARDRAIL_UNITS
from service.pricing.usage import ReportedCost, Usage

ROUTER_FEE: Final = "Azure Model Router Flat Cost"
GUARDRAIL_FEE: Final = "Guardrail cost"

_ONE: Final = Decimal(1)
_GUARDRAIL_PREFIX: Final = f"{GUARDRAIL_UNITS}/"
# The state of several fees together is that of the least certain one.
_CERTAINTY: Final[tuple[PriceState, ...]] = ("free", "priced", "reported", "unpriced")
_FLAT_RATE: Final = (TEXT_INPUT, 0, STANDARD)


class Fees(msgspec.Struct, frozen=True):
    """Fee lines, their sum, and how sure it is ("free" = no fee applies)."""

    lines: tuple[Line, ...]
    total_usd: Decimal
    state: PriceState


NO_FEES: Final = Fees((), ZERO, "free")


def guardrail_fees(usage: Usage, reported: ReportedCost, book: PriceBook) -> Fees:
    """Return the guardrail's cost: by its units and the book, else as the gateway reports it within its total."""
    if usage.units:
        priced = _guardrail_units(usage, book)
        if priced is not None:
            return priced
    amount = reported.guardrail_usd
    if amount <= 0 or (reported.total_usd is not None and reported.total_usd < amount):
        return NO_FEES
    return Fees((_reported_line(GUARDRAIL_FEE, amount),), amount, "reported")


def _guardrail_units(usage: Usage, book: PriceBook) -> Fees | None:
    """Return a line for each policy whose units were counted; None when there is none, or one has no price."""
    counted = [(unit, quantity) for unit, quantity in usage.units if unit.startswith(_GUARDRAIL_PREFIX)]
    price = book.find(GUARDRAILS_KEY)
    if not counted or price is None:
        return None
    rates = price.unit_rates()
    if not all(unit in rates for unit, _ in counted):
        return None
    lines = tuple(line_of(GUARDRAIL_FEE, "unit", rates[unit], quantity) for unit, quantity in counted)
    total = ZERO
    for line in lines:
        total = EXACT.add(total, line.amount_usd)
    return Fees(lines, total, "priced" if total else "free")


def router_fees(input_tokens: int, provider: str | None, reported: ReportedCost, book: PriceBook) -> Fees:
    """Return the router's flat fee: by the book, else what the gateway says it took, else unpriced."""
    price = book.find_router_fee(provider)
    rate = None if price is None else price.entry.rates.get(_FLAT_RATE)
    if price is None or rate is None or not input_tokens:
        if reported.fees_usd > 0:
            return Fees((_reported_line(ROUTER_FEE, reported.fees_usd),), reported.fees_usd, "reported")
        return Fees((), ZERO, "unpriced")
    quantity = Decimal(input_tokens)
    amount = EXACT.multiply(quantity, rate)
    line = Line(name=ROUTER_FEE, quantity=quantity, unit="token", rate=rate, amount_usd=amount, price_key=price.key)
    return Fees((line,), amount, "priced" if amount else "free")


def add_fees(first: Fees, second: Fees) -> Fees:
    """Return both together."""
    if first is NO_FEES or second is NO_FEES:
        return second if first is NO_FEES else first
    state = max(first.state, second.state, key=_CERTAINTY.index)
    return Fees((*first.lines, *second.lines), EXACT.add(first.total_usd, second.total_usd), state)


def _reported_line(name: str, amount: Decimal) -> Line:
    return Line(
        name=name, quantity=_ONE, unit="request", rate=amount, amount_usd=amount, note="reported by the gateway"
    )
