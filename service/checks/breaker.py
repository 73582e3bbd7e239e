"""A circuit breaker: after a few failures in a row nobody waits for the engine any more, but single probes. Pure."""

from collections.abc import Callable


class CircuitBreaker:
    """Counts failures in a row. Open, it lets one attempt through per interval, which doubles up to a maximum."""

    def __init__(
        self,
        now: Callable[[], float],
        *,
        failures_to_open: int = 3,
        first_pause_seconds: float = 0.1,
        longest_pause_seconds: float = 2.0,
    ) -> None:
        self._now = now
        self._failures_to_open = failures_to_open
        self._first_pause = first_pause_seconds
        self._longest_pause = longest_pause_seconds
        self._failures = 0
        self._pause = first_pause_seconds
        self._next_probe_at = 0.0
        self._opened_at: float | None = None

    @property
    def is_open(self) -> bool:
        """Tell whether attempts are refused, but for probes."""
        return self._opened_at is not None

    @property
    def open_seconds(self) -> float:
        """Return for how long it has been open; 0 when it is closed."""
        return 0.0 if self._opened_at is None else self._now() - self._opened_at

    def admits(self) -> bool:
        """Tell whether to try now; when open, whoever is told yes is the probe."""
        if self._opened_at is None:
            return True
        now = self._now()
        if now < self._next_probe_at:
            return False
        self._next_probe_at = now + self._pause
        return True

    def succeeded(self) -> None:
        """Note that the engine answered: closed."""
        self._failures = 0
        self._pause = self._first_pause
        self._opened_at = None

    def failed(self) -> None:
        """Note that the engine did not answer, or not in time."""
        self._failures += 1
        now = self._now()
        if self._opened_at is not None:
            self._pause = min(2 * self._pause, self._longest_pause)
            self._next_probe_at = now + self._pause
        elif self._failures >= self._failures_to_open:
            self._opened_at = now
            self._next_probe_at = now + self._pause
