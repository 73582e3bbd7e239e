"""What this process knows of tokens, by digest: bounded, with a time limit on every entry. Pure; told what time it is.

A known caller may be used for 5 s without asking again. For 15 min it is kept for the case that nobody can be asked.
"""

from collections import OrderedDict
from dataclasses import dataclass
from math import inf

from service.access.tokens import Caller

FRESH_SECONDS = 5.0
# A token in use is asked for again before its time is up, beside the requests and not in one of them.
RENEWAL_SECONDS = 2.5
OUTAGE_SECONDS = 900.0
UNKNOWN_SECONDS = 1.0

MAX_CALLERS = 10_000
MAX_UNKNOWN = 10_000


@dataclass(slots=True)
class CachedCaller:
    """A caller and until when, on the monotonic clock, it may be used for what."""

    caller: Caller
    renewed_from: float
    fresh_until: float
    usable_until: float
    expires_at: float


class CallerCache:
    """Known callers, least recently used ones dropped first, and digests that name no live token."""

    def __init__(self, max_callers: int = MAX_CALLERS, max_unknown: int = MAX_UNKNOWN) -> None:
        self._max_callers = max_callers
        self._max_unknown = max_unknown
        self._callers: OrderedDict[str, CachedCaller] = OrderedDict()
        self._unknown: OrderedDict[str, float] = OrderedDict()

    def find(self, digest: str) -> CachedCaller | None:
        """Return what is known of a token, however old, and count it as used."""
        cached = self._callers.get(digest)
        if cached is not None:
            self._callers.move_to_end(digest)
        return cached

    def is_unknown(self, digest: str, now: float) -> bool:
        """Tell whether there was no such token a moment ago."""
        return self._unknown.get(digest, -inf) > now

    def keep(self, digest: str, caller: Caller, *, asked_at: float, seconds_left: float | None) -> CachedCaller:
        """Remember a caller as it was when the database was asked."""
        self._unknown.pop(digest, None)
        cached = CachedCaller(
            caller=caller,
            renewed_from=asked_at + RENEWAL_SECONDS,
            fresh_until=asked_at + FRESH_SECONDS,
            usable_until=asked_at + OUTAGE_SECONDS,
            expires_at=inf if seconds_left is None else asked_at + seconds_left,
        )
        self._callers[digest] = cached
        self._callers.move_to_end(digest)
        if len(self._callers) > self._max_callers:
            self._callers.popitem(last=False)
        return cached

    def keep_unknown(self, digest: str, *, asked_at: float) -> None:
        """Remember for a moment that there is no such token."""
        self._callers.pop(digest, None)
        self._unknown[digest] = asked_at + UNKNOWN_SECONDS
        self._unknown.move_to_end(digest)
        if len(self._unknown) > self._max_unknown:
            self._unknown.popitem(last=False)

    def forget(self, digest: str) -> None:
        """Drop what is known of a token: it has just changed."""
        self._callers.pop(digest, None)
        self._unknown.pop(digest, None)

    def distrust(self) -> None:
        """Let every caller be asked for again: news may have been missed."""
        self._unknown.clear()
        for cached in self._callers.values():
            cached.renewed_from = cached.fresh_until = -inf
