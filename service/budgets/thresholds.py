"""When a counter has reached a share of its limit: the rule of alerts; service/alerts/sql says the same in SQL.

A share is reached when posted >= share x limit, and none is before anything was spent, whatever the limit. Pure.
"""

from collections.abc import Collection, Sequence
from decimal import Decimal

from service.kit.money import EXACT, ZERO

Shares = Sequence[Decimal]  # of the limit, ascending


def reached(posted_usd: Decimal, limit_usd: Decimal, thresholds: Shares) -> tuple[Decimal, ...]:
    """Return the thresholds the posted amount has reached, ascending: a jump over several reaches each."""
    if posted_usd <= ZERO:
        return ()
    return tuple(share for share in thresholds if posted_usd >= EXACT.multiply(share, limit_usd))


def next_amount(limit_usd: Decimal, thresholds: Shares, raised: Collection[Decimal]) -> Decimal | None:
    """Return the posted amount at which the lowest threshold not yet raised is reached; None = all are raised."""
    for share in thresholds:
        if share not in raised:
            return EXACT.multiply(share, limit_usd)
    return None
