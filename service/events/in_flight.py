"""How many bytes of request bodies this process holds at one moment, and the refusal to hold more."""

from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import Gauge

from service.errors import Unavailable

BYTES_IN_FLIGHT = Gauge(
    "tallygate_body_bytes_in_flight", "Bytes of event bodies held at this moment.", multiprocess_mode="livesum"
)


class BodyHold:
    """The share of one request."""

    def __init__(self, limiter: "BodyLimiter") -> None:
        self._limiter = limiter
        self.held_bytes = 0

    def grow_to(self, size_bytes: int) -> None:
        """Hold that many bytes in all. Raises Unavailable when the process holds too many already."""
        more = size_bytes - self.held_bytes
        if more > 0:
            self._limiter.take(more)
            self.held_bytes = size_bytes


class BodyLimiter:
    """One per process."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._held_bytes = 0

    @contextmanager
    def hold(self) -> Iterator[BodyHold]:
        """Give a request its share and take it back at the end."""
        hold = BodyHold(self)
        try:
            yield hold
        finally:
            self._held_bytes -= hold.held_bytes
            BYTES_IN_FLIGHT.dec(hold.held_bytes)

    def take(self, size_bytes: int) -> None:
        """Count more bytes. Raises Unavailable beyond the limit."""
        if self._held_bytes + size_bytes > self._limit_bytes:
            raise Unavailable("Too many bytes of bodies are in flight; send it again.", code="too_many_bytes_in_flight")
        self._held_bytes += size_bytes
        BYTES_IN_FLIGHT.inc(size_bytes)
