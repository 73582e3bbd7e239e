"""A tenant's own price rules, compiled for rating: overrides of rates, fees, discounts and markups. Pure values."""

from datetime import datetime
from typing import Final

import msgspec

from service.identity.dimensions import Dimensions
from service.identity.models import ModelIdentity


class RatedCall(msgspec.Struct, frozen=True):
    """What rules look at to tell whether they apply to a call.

    `price_key` and `mode` are those of the price book's entry, "" while none is known. Without `occurred_at` no rule
    is in force.
    """

    models: ModelIdentity
    dimensions: Dimensions
    call_type: str
    occurred_at: datetime | None
    price_key: str = ""
    mode: str = ""


class PricingRules:
    """The rules of one tenant. Falsy when there are none: most calls then skip them."""

    __slots__ = ()

    def __bool__(self) -> bool:
        return False


NO_RULES: Final = PricingRules()
