"""Amounts of US dollars: Decimal from text, never through float; plain notation on the wire; micro-USD as integers.

Arithmetic that must not round runs in `EXACT`, whose precision no product of two finite amounts of ours can exceed.
Bodies declare amounts as `AmountText`, are decoded by an `amount_decoder`, and the text goes through `parse_amount`: a
field of type Decimal would take "1_0" and the digits of every script.
"""

import re
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal, Inexact, InvalidOperation
from typing import Any, Final, TypeVar

import msgspec

ZERO = Decimal(0)
MICRO = Decimal(1_000_000)

# 200 digits: rates carry at most 40 significant digits, quantities 19, and sums of 10^6 such lines stay below it.
EXACT = Context(prec=200, traps=[InvalidOperation, Inexact])

MAX_AMOUNT_USD = Decimal(10) ** 12
MAX_DECIMAL_PLACES = 40

# Decimal() by itself also takes underscores, blanks around and the digits of every script.
_NOTATION = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?", re.ASCII)


_Body = TypeVar("_Body")
_SCHEMA: Final = {"type": "string", "format": "decimal"}


class AmountError(ValueError):
    """The text is no finite amount within bounds."""


class AmountText(str):
    """An amount as it stands in a body, a text or a number, not looked at yet."""

    __slots__ = ()


def amount_decoder(body: type[_Body]) -> msgspec.json.Decoder[_Body]:
    """Return a decoder of bodies with amounts: it keeps the text of numbers, too."""
    return msgspec.json.Decoder(body, dec_hook=_amount_text, float_hook=AmountText)


def amount_schema(kind: type) -> dict[str, Any]:
    """Return the JSON schema of an amount, as the hook of a schema generator."""
    if kind is AmountText:
        return dict(_SCHEMA)
    raise NotImplementedError(kind)


def _amount_text(kind: type, value: object) -> AmountText:
    if kind is not AmountText:
        raise NotImplementedError(kind)
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError("Expected an amount, as text or number")  # noqa: TRY004 — msgspec adds the path to a ValueError only
    return AmountText(value)


def parse_amount(text: str) -> Decimal:
    """Return the amount of a plain decimal text (an exponent allowed), exactly.

    Raises AmountError for any other notation, NaN, infinities, absurd magnitudes and precisions.
    """
    if _NOTATION.fullmatch(text) is None:
        raise AmountError("not a decimal number")
    try:
        amount = Decimal(text)
    except InvalidOperation as error:
        raise AmountError("not a decimal number") from error
    return check_amount(amount)


def check_amount(amount: Decimal) -> Decimal:
    """Return the amount unless it is not finite, above 10^12 USD, or finer than 40 decimal places."""
    if not amount.is_finite():
        raise AmountError("not a finite number")
    # A comparison takes any exponent; abs() overflows beyond the context's.
    if not -MAX_AMOUNT_USD <= amount <= MAX_AMOUNT_USD:
        raise AmountError("larger than 10^12")
    text = str(amount)
    # Nearly every amount is short and has no exponent: taking it apart costs six times as much as writing it.
    if len(text) > MAX_DECIMAL_PLACES or "E" in text:
        exponent = amount.as_tuple().exponent
        if isinstance(exponent, int) and exponent < -MAX_DECIMAL_PLACES:
            raise AmountError("more than 40 decimal places")
    return amount


def format_amount(amount: Decimal) -> str:
    """Return plain notation: no exponent, no trailing zeros, zero (also the negative one) is "0"."""
    if not amount:
        return "0"
    text = format(amount, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def micro_usd_rounded_up(amount: Decimal) -> int:
    """Return whole micro-USD, rounded towards plus infinity: a counter never shows less than was spent."""
    return int(EXACT.multiply(amount, MICRO).to_integral_value(rounding=ROUND_CEILING))


def micro_usd_rounded_down(amount: Decimal) -> int:
    """Return whole micro-USD, rounded towards minus infinity: a limit or a release is never larger than stated."""
    return int(EXACT.multiply(amount, MICRO).to_integral_value(rounding=ROUND_FLOOR))


def from_micro_usd(micro_usd: int) -> Decimal:
    """Return the amount in USD of whole micro-USD."""
    return Decimal(micro_usd).scaleb(-6)
