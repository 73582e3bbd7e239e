"""Ends tasks of an event loop for certain."""

import asyncio

_AGAIN_SECONDS = 1.0


async def stop(task: "asyncio.Task[None] | None") -> None:
    """Cancel a task until it has ended: one cancellation is lost when it arrives together with an awaited answer."""
    while task is not None and not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=_AGAIN_SECONDS)
