"""Waits on a condition, with a deadline."""

import asyncio
from collections.abc import Callable
from time import monotonic

DEADLINE_SECONDS = 10.0


async def until(condition: Callable[[], bool]) -> None:
    give_up_at = monotonic() + DEADLINE_SECONDS
    while not condition():
        assert monotonic() < give_up_at, "the condition did not come true in time"
        await asyncio.sleep(0.005)
