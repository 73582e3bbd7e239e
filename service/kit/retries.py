"""Whoever fails waits before its next turn, for longer each time, and keeps nobody else from theirs."""

from collections.abc import Callable, Collection

from service.kit.clock import monotonic


class Retries:
    """Waits by name: `first_seconds` after the first failure, twice as long after each further one, at most `most`."""

    def __init__(self, first_seconds: float, most_seconds: float, *, clock: Callable[[], float] = monotonic) -> None:
        self._first_seconds = first_seconds
        self._most_seconds = most_seconds
        self._clock = clock
        self._waits: dict[str, tuple[float, float]] = {}  # seconds waited for, until when

    def is_waiting(self, name: str) -> bool:
        """Tell whether it is too early for another turn."""
        wait = self._waits.get(name)
        return wait is not None and self._clock() < wait[1]

    def failed(self, name: str) -> float:
        """Note a failure; return how many seconds the next turn is away."""
        former = self._waits.get(name)
        seconds = self._first_seconds if former is None else min(2 * former[0], self._most_seconds)
        self._waits[name] = (seconds, self._clock() + seconds)
        return seconds

    def succeeded(self, name: str) -> None:
        """Forget the failures."""
        self._waits.pop(name, None)

    def keep(self, names: Collection[str]) -> None:
        """Forget all but these: what else failed has nothing left to do."""
        self._waits = {name: wait for name, wait in self._waits.items() if name in names}
