"""Where the spend of a window is heading: the present pace, continued to the end. Pure.

Linear on purpose: an estimate everybody can check by hand. A window younger than a twentieth of itself says nothing
yet, and one without end (lifetime) has no pace: there the projection is None. The window of a rolling period is what
`rolling_run` makes of it: a sum stops growing once its first call falls out, so only the run up to there is projected.
"""

from datetime import datetime, timedelta
from decimal import ROUND_CEILING, Decimal
from typing import Final

import msgspec

from service.budgets.period import Window
from service.kit.money import EXACT, ZERO, from_micro_usd

# The share of a window that must be over before its pace means anything.
LEAST_ELAPSED_SHARE: Final = Decimal("0.05")

_MICRO_PER_USD: Final = 1_000_000
_MICROSECOND: Final = timedelta(microseconds=1)


class Projection(msgspec.Struct, frozen=True, kw_only=True):
    """What a window comes to at its present pace.

    `projected_spend_usd`: at its end, whole micro-USD, rounded up. `projected_exhaustion_at`: when the limit is
    reached, the present instant when it is already; None = not in this window.
    """

    projected_spend_usd: Decimal
    projected_exhaustion_at: datetime | None


def project(posted_usd: Decimal, window: Window, at: datetime, *, limit_usd: Decimal) -> Projection | None:
    """Return the projection of a window as of an instant within it; None where there is nothing to go by.

    `posted_usd` is what the window has spent, `limit_usd` its effective limit (increases and carried rest included).
    A closed window, one just begun and one without end have no projection.
    """
    if window.end is None or not window.holds(at):
        return None
    elapsed, length = (at - window.start) // _MICROSECOND, (window.end - window.start) // _MICROSECOND
    if elapsed < LEAST_ELAPSED_SHARE * length:
        return None
    spend = _rounded_up(EXACT.multiply(posted_usd, Decimal(length)), elapsed)
    return Projection(
        projected_spend_usd=spend,
        projected_exhaustion_at=_exhaustion(posted_usd, window.start, at, limit_usd, window.end),
    )


def rolling_run(length_seconds: int, first_bucket: datetime) -> Window:
    """Return the window to project for a rolling period, given the start of its oldest counted bucket with spend.

    It ends where that first spend falls out of the sum; a run as long as the period holds its sum, and is projected no
    further.
    """
    return Window(first_bucket, first_bucket + timedelta(seconds=length_seconds))


def _exhaustion(
    posted_usd: Decimal, start: datetime, at: datetime, limit_usd: Decimal, end: datetime
) -> datetime | None:
    if posted_usd >= limit_usd:
        return at
    if posted_usd <= ZERO:
        return None
    elapsed = (at - start) // _MICROSECOND
    # Compared before it is divided: a pace near zero would lead beyond the calendar.
    if EXACT.multiply(limit_usd, Decimal(elapsed)) > EXACT.multiply(posted_usd, Decimal((end - start) // _MICROSECOND)):
        return None
    whole = _divided_up(EXACT.multiply(limit_usd, Decimal(elapsed)), posted_usd)
    return min(start + whole * _MICROSECOND, end)


def _rounded_up(usd_times_length: Decimal, elapsed: int) -> Decimal:
    return from_micro_usd(_divided_up(EXACT.multiply(usd_times_length, Decimal(_MICRO_PER_USD)), Decimal(elapsed)))


def _divided_up(dividend: Decimal, divisor: Decimal) -> int:
    """Return the quotient, rounded up to a whole number, exactly."""
    quotient = EXACT.divide_int(dividend, divisor)
    rest = EXACT.subtract(dividend, EXACT.multiply(quotient, divisor))
    return int(quotient.to_integral_value(rounding=ROUND_CEILING)) + (1 if rest > ZERO else 0)
