"""A deadline that does not mistake a busy event loop for a slow answer.

While the loop is busy with something else a question is not sent, an answer lies unread in the socket, and yet the
clock goes on. So time is counted in steps between which the loop turns: a turn that takes long counts as one step. When
all are over the loop gets some more turns, in each of which it reads what is there; an idle one takes no time for them.
"""

import asyncio
from types import TracebackType
from typing import Self

_STEPS = 5
_LAST_TURNS = 16


class patience:  # noqa: N801 — reads as `async with patience(0.05):`, like asyncio.timeout
    """Raise TimeoutError in the block when `seconds` of a loop that is not busy have passed."""

    __slots__ = ("_expired", "_handle", "_loop", "_outer_cancels", "_step_seconds", "_steps", "_task", "_turns")

    def __init__(self, seconds: float) -> None:
        self._step_seconds = max(seconds, 0.0) / _STEPS
        self._steps = _STEPS
        self._turns = _LAST_TURNS
        self._expired = False

    async def __aenter__(self) -> Self:
        task = asyncio.current_task()
        assert task is not None, "a deadline needs a task to interrupt"
        self._task = task
        self._outer_cancels = task.cancelling()
        self._loop = asyncio.get_running_loop()
        self._handle: asyncio.Handle = self._loop.call_later(self._step_seconds, self._step)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._handle.cancel()
        if self._expired and self._task.uncancel() <= self._outer_cancels and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def _step(self) -> None:
        self._steps -= 1
        if self._steps > 0:
            self._handle = self._loop.call_later(self._step_seconds, self._step)
        else:
            self._turn()

    def _turn(self) -> None:
        if self._turns > 0:
            self._turns -= 1
            self._handle = self._loop.call_soon(self._turn)
        else:
            self._expired = True
            self._task.cancel()
