"""How often each of many names may do something: a bucket of permits per name that fills itself again. Pure."""

from collections import OrderedDict
from collections.abc import Callable

_MOST_NAMES = 10_000


class Throttle:
    """Permits per name: `burst` at once, then `per_second`. The names used longest ago are forgotten first."""

    def __init__(
        self, clock: Callable[[], float], *, per_second: float, burst: int, most_names: int = _MOST_NAMES
    ) -> None:
        self._clock = clock
        self._per_second = per_second
        self._burst = float(burst)
        self._most_names = most_names
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # permits left, and when that was so

    def take(self, name: str) -> bool:
        """Take a permit; tell whether there was one."""
        left = self._left(name)
        is_admitted = left >= 1
        self._buckets[name] = (left - 1 if is_admitted else left, self._clock())
        self._buckets.move_to_end(name)
        if len(self._buckets) > self._most_names:
            self._buckets.popitem(last=False)
        return is_admitted

    def _left(self, name: str) -> float:
        left, since = self._buckets.get(name, (self._burst, self._clock()))
        return min(self._burst, left + (self._clock() - since) * self._per_second)
