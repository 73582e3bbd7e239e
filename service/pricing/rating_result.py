"""What rating makes of one call: lines, fees, sums and states. Pure values; nothing is rounded."""

from decimal import Decimal
from typing import Literal

import msgspec

PriceState = Literal["priced", "free", "reported", "unpriced"]


class Line(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """One quantity x rate. amount_usd = quantity * rate * multiplier, exactly."""

    name: str
    quantity: Decimal
    unit: str
    rate: Decimal
    amount_usd: Decimal
    price_key: str | None = None
    multiplier: Decimal = Decimal(1)
    note: str | None = None


class Rating(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The priced form of one call. cost_usd = model_cost_usd + fees_usd; enforced_usd = cost_usd + assumed_usd."""

    components: tuple[Line, ...]
    fees: tuple[Line, ...]
    model_cost_usd: Decimal
    fees_usd: Decimal
    list_cost_usd: Decimal
    cost_usd: Decimal
    assumed_usd: Decimal
    enforced_usd: Decimal
    reported_cost_usd: Decimal | None
    price_state: PriceState
    fees_price_state: PriceState
    price_key: str | None
    price_book_version: str
    reason: str | None  # why it is unpriced, reported or free
