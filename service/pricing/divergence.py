"""When our cost and the gateway's own figure of a call differ by more than rounding and noise. Pure."""

from decimal import Decimal
from typing import Final

import msgspec

from service.kit.money import EXACT
from service.pricing.rating_result import PriceState

# States in which the cost is our own: a `reported` one is the gateway's figure itself.
OWN_STATES: Final[frozenset[PriceState]] = frozenset({"priced", "free"})


class Tolerance(msgspec.Struct, frozen=True):
    """A difference counts if it is above `least_usd` and above `ratio` of our cost."""

    ratio: Decimal = Decimal("0.01")
    least_usd: Decimal = Decimal("0.000001")

    def is_exceeded(self, cost_usd: Decimal, reported_usd: Decimal) -> bool:
        """Tell whether the two amounts diverge."""
        difference = EXACT.abs(EXACT.subtract(reported_usd, cost_usd))
        return difference > self.least_usd and difference > EXACT.multiply(EXACT.abs(cost_usd), self.ratio)


DEFAULT_TOLERANCE: Final = Tolerance()
