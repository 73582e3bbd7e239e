"""The rates assumed for a model nobody has a price for: they count against budgets, never in reports. Pure."""

from decimal import Decimal

import msgspec

from service.kit.money import EXACT

_PER_MILLION = Decimal("0.000001")


class FallbackRates(msgspec.Struct, frozen=True):
    """A tenant's assumed rates, in USD per million tokens."""

    input_usd_per_million: Decimal = Decimal(5)
    output_usd_per_million: Decimal = Decimal(25)

    @property
    def input_per_token(self) -> Decimal:
        """USD per input token."""
        return EXACT.multiply(self.input_usd_per_million, _PER_MILLION)

    @property
    def output_per_token(self) -> Decimal:
        """USD per output token."""
        return EXACT.multiply(self.output_usd_per_million, _PER_MILLION)

    def assume(self, input_tokens: int, output_tokens: int) -> Decimal:
        """Return the assumed cost of that many tokens in USD, exactly."""
        return EXACT.add(
            EXACT.multiply(Decimal(input_tokens), self.input_per_token),
            EXACT.multiply(Decimal(output_tokens), self.output_per_token),
        )
