"""What the ledger says of a counter, as checks need it. Pure."""

from decimal import Decimal

import msgspec

from service.checks.hold import LARGEST_MICRO_USD
from service.checks.keys import CounterRef
from service.kit.money import micro_usd_rounded_down, micro_usd_rounded_up
from service.ledger.posts import CounterState


class CounterReading(msgspec.Struct, frozen=True, kw_only=True):
    """A counter's committed states and the epoch of the ledger they were read in.

    `states`: the one of its bucket (version 0 = nothing was posted yet); of a rolling counter those there are from
    `counter.bucket` on, ascending. `carried_usd`: what its window carried in; None = not fixed (yet).
    """

    epoch: int
    counter: CounterRef
    states: tuple[CounterState, ...]
    carried_usd: Decimal | None = None

    @property
    def posted_micro_usd(self) -> int:
        """Return the sum of the buckets, as counters know it."""
        return min(sum([posted_micro_usd(state.enforced) for state in self.states]), LARGEST_MICRO_USD)

    @property
    def carried_micro_usd(self) -> int:
        """Return what was carried in, rounded down as limits are."""
        return 0 if self.carried_usd is None else min(micro_usd_rounded_down(self.carried_usd), LARGEST_MICRO_USD)


def posted_micro_usd(enforced_usd: Decimal) -> int:
    """Return the posted amount of a state as counters know it: rounded up, within what the scripts can count."""
    return min(micro_usd_rounded_up(enforced_usd), LARGEST_MICRO_USD)
