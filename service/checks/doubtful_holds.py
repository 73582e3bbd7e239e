"""Takes back what a check may have been allowed to hold when it was answered otherwise: its outcome never came.

Each hold is asked for several times: the counters are away when it becomes doubtful, and a check that is still on its
way to them may arrive after the first try. Only what that check placed is taken back; what cannot be ends by its time.
"""

import asyncio
from contextlib import suppress
from typing import Final

from service.checks.hold import HoldAsk
from service.checks.hold_store import HoldStore
from service.checks.scripts import CountersUnavailable
from service.kit.patience import patience

_PAUSES_SECONDS: Final = (0.1, 1.0, 5.0)
_MOST_UNDER_WAY: Final = 1_000


class DoubtfulHolds:
    """Works beside the answers. One instance per process."""

    def __init__(self, holds: HoldStore, *, pauses_seconds: tuple[float, ...] = _PAUSES_SECONDS) -> None:
        self._holds = holds
        self._pauses_seconds = pauses_seconds
        self._under_way: set[asyncio.Task[None]] = set()
        self._is_closing = asyncio.Event()

    def take_back(self, ask: HoldAsk) -> None:
        """Begin to take back what this question may have placed."""
        if len(self._under_way) < _MOST_UNDER_WAY:
            task = asyncio.create_task(self._take_back(ask))
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)

    async def close(self) -> None:
        """Finish what is under way, without further pauses."""
        self._is_closing.set()
        if self._under_way:
            await asyncio.wait(self._under_way)

    async def _take_back(self, ask: HoldAsk) -> None:
        for pause_seconds in self._pauses_seconds:
            await self._rest(pause_seconds)
            with suppress(CountersUnavailable):
                found = await self._holds.void(ask.tenant_id, ask.reservation_id, placed_by=ask.placed_by)
                if found is not None:
                    return

    async def _rest(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with patience(seconds):
                await self._is_closing.wait()
