"""Waits on conditions, with a deadline."""

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic


async def until(
    condition: Callable[[], bool | Awaitable[bool]], what: str, *, deadline_seconds: float = 15.0, pause: float = 0.01
) -> float:
    """Wait until the condition holds, and return after how many seconds it did."""
    started = monotonic()
    while True:
        holds = condition()
        if not isinstance(holds, bool):
            holds = await holds
        if holds:
            return monotonic() - started
        assert monotonic() - started < deadline_seconds, f"not within {deadline_seconds:.0f} s: {what}"
        await asyncio.sleep(pause)
