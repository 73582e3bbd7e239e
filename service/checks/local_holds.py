"""Holds a process places while the counters cannot be asked: in memory, lost with the process, ended by time. Pure."""

from collections.abc import Callable, Mapping, Sequence
from heapq import heapify, heappop, heappush

import msgspec

_FEW = 64


class _LocalHold(msgspec.Struct):
    amounts: dict[str, int]
    expires_at: float


class LocalHolds:
    """Sums of local holds per counter key. `now` is a clock in seconds of which only differences mean anything."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._holds: dict[tuple[str, str], _LocalHold] = {}
        self._held: dict[str, int] = {}
        # (end, name) of every hold, and for a while of some that have ended.
        self._ends: list[tuple[float, tuple[str, str]]] = []

    def held_micro_usd(self, key: str) -> int:
        """Return what live holds take in a counter."""
        return self._held.get(key, 0)

    def place(self, tenant_id: str, reservation_id: str, amounts: Mapping[str, int], ttl_seconds: float) -> None:
        """Hold amounts (micro-USD), by counter key; another hold under the same id gives way."""
        self.release(tenant_id, reservation_id)
        name, expires_at = (tenant_id, reservation_id), self._now() + ttl_seconds
        self._holds[name] = _LocalHold(dict(amounts), expires_at)
        heappush(self._ends, (expires_at, name))
        for key, amount in amounts.items():
            self._held[key] = self._held.get(key, 0) + amount

    def has(self, tenant_id: str, reservation_id: str) -> bool:
        """Tell whether there is a live hold under the id."""
        hold = self._holds.get((tenant_id, reservation_id))
        return hold is not None and hold.expires_at > self._now()

    def release(self, tenant_id: str, reservation_id: str) -> bool:
        """End a hold; tell whether there was one."""
        hold = self._holds.pop((tenant_id, reservation_id), None)
        if hold is None:
            return False
        for key, amount in hold.amounts.items():
            left = self._held[key] - amount
            if left > 0:
                self._held[key] = left
            else:
                del self._held[key]
        self._forget_ended()
        return True

    def release_first(self, tenant_id: str, reservation_ids: Sequence[str]) -> None:
        """End the first of these holds that is there."""
        if self._holds:
            any(self.release(tenant_id, reservation_id) for reservation_id in reservation_ids)

    def drop_lapsed(self) -> None:
        """End the holds whose time is over."""
        now = self._now()
        while self._ends and self._ends[0][0] <= now:
            _, name = heappop(self._ends)
            hold = self._holds.get(name)
            if hold is not None and hold.expires_at <= now:
                self.release(*name)

    def _forget_ended(self) -> None:
        """Keep the ends of live holds only, when most are of holds that were released."""
        if len(self._ends) > 2 * len(self._holds) + _FEW:
            self._ends = [(hold.expires_at, name) for name, hold in self._holds.items()]
            heapify(self._ends)
