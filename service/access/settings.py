"""What a tenant can set at run time: values with defaults, and how a change to them is merged and stored. Pure.

Only what somebody set is stored, so that a better default of a later version reaches everybody who never chose.
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Literal

import msgspec

from service.errors import InvalidInput
from service.kit.money import AmountError, format_amount, parse_amount

Enforcement = Literal["enforce", "shadow", "off"]
DenyStatus = Literal[402, 403, 422, 429]
DenyDetail = Literal["none", "summary", "full"]

RATE_NAMES = ("fallback_input_usd_per_million", "fallback_output_usd_per_million")


class TenantSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of one tenant; the enforcement switch beside them is a column of its own.

    The fallback rates, USD per million tokens, price what has no price, in budgets only. `deny_detail` is how much of
    other budgets a denied end client is told.
    """

    fallback_input_usd_per_million: Decimal = Decimal(5)
    fallback_output_usd_per_million: Decimal = Decimal(25)
    deny_status: DenyStatus = 402
    deny_detail: DenyDetail = "summary"
    trust_gateway_custom_prices: bool = True


SETTING_NAMES = TenantSettings.__struct_fields__


def decode_settings(document: Mapping[str, Any]) -> TenantSettings:
    """Return the settings of a stored document; members of another version are passed over."""
    return msgspec.convert(document, TenantSettings)


def merge_settings(document: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the document to store after `changes` (None = back to the default). Raises InvalidInput with the field.

    Amounts come and stay as decimal text; the types of the other members were checked when the change was read.
    """
    merged = dict(document)
    for name, value in changes.items():
        assert name in SETTING_NAMES, f"no such setting: {name}"
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = _checked_rate(name, value) if name in RATE_NAMES else value
    return merged


def _checked_rate(name: str, text: str) -> str:
    try:
        rate = parse_amount(text)
    except AmountError as error:
        raise InvalidInput(f"Not an amount: {error}.", field=name) from error
    if rate < 0:
        raise InvalidInput("A rate cannot be negative.", field=name)
    return format_amount(rate)
