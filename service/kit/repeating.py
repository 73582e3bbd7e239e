"""Something done again and again in the background of an event loop until it is closed."""

import asyncio
from collections.abc import Awaitable, Callable
from random import Random

from service.kit.stopping import stop


class Repeating:
    """Runs `action` every `interval_seconds`, a tenth sooner or later, so that replicas do not march in step.

    An action that fails is told to `on_error` and tried again at the next time. One run at a time.
    """

    def __init__(
        self,
        action: Callable[[], Awaitable[object]],
        interval_seconds: float,
        on_error: Callable[[Exception], None],
    ) -> None:
        self._action = action
        self._interval_seconds = interval_seconds
        self._on_error = on_error
        self._jitter = Random()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin with the first run at once."""
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Stop; a run under way is cancelled."""
        await stop(self._task)

    async def _run(self) -> None:
        while True:
            try:
                await self._action()
            except Exception as error:  # noqa: BLE001 - whatever it is, the next run must come
                self._on_error(error)
            await asyncio.sleep(self._interval_seconds * self._jitter.uniform(0.9, 1.1))
