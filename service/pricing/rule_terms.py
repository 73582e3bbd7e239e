"""What price rules say: rates that override, fees, discounts and markups; read from documents and bounded. Pure."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final, Literal, get_args

import msgspec

from service.errors import InvalidInput
from service.kit.money import EXACT, AmountError, check_amount, format_amount, parse_amount
from service.pricing.rate_keys import parse_rate_key
from service.pricing.unit_keys import PART_RATES, parse_unit_key, slot_of_key

FeeKind = Literal[
    "usd_per_million_input_tokens",
    "usd_per_million_output_tokens",
    "usd_per_million_total_tokens",
    "usd_per_request",
    "usd_per_second",
    "percent_of_model_cost",
]
AdjustmentKind = Literal["discount_percent", "discount_usd", "markup_percent", "markup_usd"]
RuleKind = Literal["override", "fee", "discount"]

FEE_KINDS: Final[tuple[FeeKind, ...]] = get_args(FeeKind)
ADJUSTMENT_KINDS: Final[tuple[AdjustmentKind, ...]] = get_args(AdjustmentKind)

MAX_RATES: Final = 100
MAX_KEY_CHARACTERS: Final = 120
MAX_USD: Final = Decimal(1_000_000)
MAX_FACTOR: Final = Decimal(1_000)
_WHOLE: Final = Decimal(100)
# Few enough that products of them stay far inside the digits amounts are kept with.
_MAX_PLACES: Final = 20

_MAX_PERCENT: Final[dict[str, Decimal]] = {
    "percent_of_model_cost": Decimal(10_000),
    "discount_percent": _WHOLE,
    "markup_percent": Decimal(10_000),
}


class OverrideRate(msgspec.Struct, frozen=True):
    """One rate of an override: a price in USD, or a factor on the listed one."""

    value: Decimal
    is_factor: bool

    def document(self) -> dict[str, str]:
        """Return it as it is written."""
        return {"factor" if self.is_factor else "usd": format_amount(self.value)}


class OverrideTerms(msgspec.Struct, frozen=True):
    """Rates by the map's keys (a dot leads into a structured one); `replace`: nothing but these is the price."""

    rates: dict[str, OverrideRate]
    replace: bool = False

    def document(self) -> dict[str, Any]:
        """Return the terms as they are written."""
        return {"rates": {key: rate.document() for key, rate in self.rates.items()}, "replace": self.replace}


class FeeTerms(msgspec.Struct, frozen=True):
    """A fee: so many USD, or percent, per what the kind says."""

    kind: FeeKind
    amount: Decimal

    def document(self) -> dict[str, Any]:
        """Return the terms as they are written."""
        return {"kind": self.kind, "amount": format_amount(self.amount)}


class AdjustmentTerms(msgspec.Struct, frozen=True):
    """A discount or a markup: percent of the list cost, or USD per request."""

    kind: AdjustmentKind
    amount: Decimal

    @property
    def is_discount(self) -> bool:
        """Tell whether it makes calls cheaper."""
        return self.kind in ("discount_percent", "discount_usd")

    @property
    def is_percentage(self) -> bool:
        """Tell whether the amount is percent of the list cost."""
        return self.kind in ("discount_percent", "markup_percent")

    def document(self) -> dict[str, Any]:
        """Return the terms as they are written."""
        return {self.kind: format_amount(self.amount)}


Terms = OverrideTerms | FeeTerms | AdjustmentTerms


def stored_terms(kind: RuleKind, document: Mapping[str, Any]) -> Terms:
    """Return the terms of a document that was checked when it was stored."""
    if kind == "override":
        return OverrideTerms({key: _stored_rate(rate) for key, rate in document["rates"].items()}, document["replace"])
    if kind == "fee":
        return FeeTerms(document["kind"], Decimal(document["amount"]))
    [adjustment] = [name for name in ADJUSTMENT_KINDS if name in document]
    return AdjustmentTerms(adjustment, Decimal(document[adjustment]))


def _stored_rate(document: Mapping[str, str]) -> OverrideRate:
    [(form, value)] = document.items()
    return OverrideRate(Decimal(value), is_factor=form == "factor")


def parse_override(rates: Any, *, replace: bool = False) -> OverrideTerms:
    """Return the terms of an override. Raises InvalidInput with the path of the rate that cannot be taken."""
    if not isinstance(rates, Mapping) or not 1 <= len(rates) <= MAX_RATES:
        raise InvalidInput(f"Name 1 to {MAX_RATES} rates by the cost map's keys.", field="rates")
    parsed = {str(key): _parse_rate(str(key), rate, replace=replace) for key, rate in rates.items()}
    return OverrideTerms(parsed, replace)


def parse_fee(kind: Any, amount: Any) -> FeeTerms:
    """Return the terms of a fee. Raises InvalidInput with the field."""
    if kind not in FEE_KINDS:
        raise InvalidInput(f"A fee is one of {', '.join(FEE_KINDS)}.", field="kind")
    return FeeTerms(kind, _positive(amount, _MAX_PERCENT.get(kind, MAX_USD), "amount"))


def parse_adjustment(amounts: Mapping[str, Any]) -> AdjustmentTerms:
    """Return the terms of the one amount that is given, by its kind. Raises InvalidInput with the field."""
    if len(amounts) != 1:
        raise InvalidInput(f"Give exactly one of {', '.join(ADJUSTMENT_KINDS)}.", field="discount_percent")
    [(kind, amount)] = amounts.items()
    assert kind in ADJUSTMENT_KINDS
    return AdjustmentTerms(kind, _positive(amount, _MAX_PERCENT.get(kind, MAX_USD), kind))


def _parse_rate(key: str, rate: Any, *, replace: bool) -> OverrideRate:
    field = f"rates.{key}"[:MAX_KEY_CHARACTERS]
    if len(key) > MAX_KEY_CHARACTERS or not is_rate_key(key):
        # A rule that changes nothing would be worse than none.
        raise InvalidInput("The cost map has no such rate.", code="unknown_rate", field=field)
    if not isinstance(rate, Mapping) or list(rate) not in (["usd"], ["factor"]):
        raise InvalidInput('A rate is {"usd": "…"}, or {"factor": "…"} of the listed one.', field=field)
    [(form, value)] = rate.items()
    if form == "usd":
        return OverrideRate(_bounded(value, MAX_USD, f"{field}.usd"), is_factor=False)
    if replace:
        raise InvalidInput('With "replace" there is no listed rate left to be a factor of.', field=f"{field}.factor")
    return OverrideRate(_bounded(value, MAX_FACTOR, f"{field}.factor"), is_factor=True)


def is_rate_key(key: str) -> bool:
    """Tell whether a key of the cost map, or a part of a structured one, is a rate that rating uses.

    Of a rate with two names it is the first: the second is looked at only where the first is not stated.
    """
    name, dot, _ = key.partition(".")
    if dot:
        return name in PART_RATES and slot_of_key(key) is not None
    unit_key = parse_unit_key(key)
    return parse_rate_key(key) is not None or (unit_key is not None and not unit_key.is_second_name)


def _positive(value: Any, largest: Decimal, field: str) -> Decimal:
    amount = _bounded(value, largest, field)
    if not amount:
        raise InvalidInput("This must be more than 0.", field=field)
    return amount


def _bounded(value: Any, largest: Decimal, field: str) -> Decimal:
    """Return an amount from 0 to `largest` of at most 20 places, by the one way of writing it."""
    try:
        amount = check_amount(value) if isinstance(value, Decimal) else parse_amount(value)
    except (AmountError, ArithmeticError, TypeError, ValueError) as error:
        raise InvalidInput("This is no amount.", field=field) from error
    exponent = amount.as_tuple().exponent
    assert isinstance(exponent, int)
    if not 0 <= amount <= largest or -exponent > _MAX_PLACES:
        detail = f"This takes 0 to {format_amount(largest)}, with at most {_MAX_PLACES} decimal places."
        raise InvalidInput(detail, field=field)
    return EXACT.normalize(amount) if amount else Decimal(0)
