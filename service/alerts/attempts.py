"""What an answer to a delivery means, and when it is tried again. Pure.

2xx: delivered. 410: the receiver is gone for good. Everything else, redirects included, is tried again: after 5 s,
20 s, 80 s … 6 h, a fifth sooner or later, and not before a Retry-After, until the delivery is too old.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final, Literal

import msgspec

FIRST_DELAY_SECONDS: Final = 5.0
LONGEST_DELAY_SECONDS: Final = 6 * 3600.0
LONGEST_RETRY_AFTER_SECONDS: Final = 24 * 3600.0
_GROWTH: Final = 4.0
_JITTER: Final = 0.2
_SUCCESS: Final = range(200, 300)
_REDIRECT: Final = range(300, 400)
_GONE: Final = 410

Verdict = Literal["delivered", "gone", "again"]


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """How one attempt ended: `status` None = there was no answer; `error` says what was wrong."""

    verdict: Verdict
    status: int | None = None
    error: str | None = None
    retry_after_seconds: float | None = None


def judge_answer(status: int, headers: Mapping[str, str], now: datetime) -> Attempt:
    """Return what an answer means; names of headers in lower case."""
    if status in _SUCCESS:
        return Attempt(verdict="delivered", status=status)
    if status == _GONE:
        return Attempt(verdict="gone", status=status, error="the receiver says that it is gone")
    error = "redirects are not followed" if status in _REDIRECT else f"the receiver answered with status {status}"
    waiting = _retry_after(headers.get("retry-after", ""), now)
    return Attempt(verdict="again", status=status, error=error, retry_after_seconds=waiting)


def delay_seconds(attempts: int, attempt: Attempt, chance: float) -> float:
    """Return how long to wait after so many attempts (1, 2 …); `chance` from 0 to 1 spreads them."""
    # The exponent is bounded: delays are longest by then, and a float goes no further than 4 ** 511.
    plain = min(FIRST_DELAY_SECONDS * _GROWTH ** min(attempts - 1, 20), LONGEST_DELAY_SECONDS)
    spread = plain * (1 + _JITTER * (2 * chance - 1))
    return max(spread, attempt.retry_after_seconds or 0.0)


def _retry_after(text: str, now: datetime) -> float | None:
    """Return the seconds of a Retry-After in either of its forms, within bounds; None when it says nothing."""
    if text.isascii() and text.isdecimal():
        seconds = float(text[:9])
    else:
        try:
            instant = parsedate_to_datetime(text)
            seconds = (instant if instant.tzinfo else instant.replace(tzinfo=UTC)).timestamp() - now.timestamp()
        except (ValueError, OverflowError):
            return None
    return min(max(seconds, 0.0), LONGEST_RETRY_AFTER_SECONDS)
