"""A micro-batcher: what many tasks of one event loop submit at one moment is handled together, one batch at a time.

A batch waits for company only when nothing is in flight: until as many submitters are there as lately came together,
for `max_wait_ms` at most; who has been alone does not wait. Under load the batch in flight is the waiting time, so
batches grow by themselves. A failing batch fails its own submitters and nobody else; a submitter that is
cancelled takes its items back as long as they are not in flight, and never disturbs others.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class BatcherClosedError(RuntimeError):
    """Something was submitted after `close`."""


class _Chunk(Generic[T, R]):
    """Items of one submitter that travel in one batch, and where its results go."""

    __slots__ = ("done", "items")

    def __init__(self, items: Sequence[T], done: "asyncio.Future[list[R]]") -> None:
        self.items = items
        self.done = done


class MicroBatcher(Generic[T, R]):
    """Collects items and hands them to `handle`, at most `max_items` at once, in the order they came.

    `handle` returns one result per item, in order. It runs in a task of its own: no submitter's cancellation, context
    variables or deadline reach it.
    """

    def __init__(self, handle: Callable[[list[T]], Awaitable[list[R]]], max_items: int, max_wait_ms: float) -> None:
        assert max_items > 0
        self._handle = handle
        self._max_items = max_items
        self._max_wait_seconds = max_wait_ms / 1000
        self._queue: deque[_Chunk[T, R]] = deque()
        self._queued_items = 0
        self._runner: asyncio.Task[None] | None = None
        self._expected_submitters = 1
        self._has_company = asyncio.Event()
        self._is_closed = False

    @property
    def queued_items(self) -> int:
        """Return how many items wait for the next batch; those in flight are not counted."""
        return self._queued_items

    async def submit(self, item: T) -> R:
        """Return the result of one item. Raises what its batch raised."""
        return (await self._enqueue((item,)))[0]

    async def submit_many(self, items: Sequence[T]) -> list[R]:
        """Return the results of the items, in order; more than `max_items` travel in several batches.

        Every batch is finished before this returns or raises; it raises what the first failing one raised.
        """
        if len(items) <= self._max_items:
            return await self._enqueue(items) if items else []
        pieces = [items[start : start + self._max_items] for start in range(0, len(items), self._max_items)]
        parts = await asyncio.gather(*[self._enqueue(piece) for piece in pieces], return_exceptions=True)
        results: list[R] = []
        for part in parts:
            if isinstance(part, BaseException):
                raise part
            results += part
        return results

    async def close(self) -> None:
        """Refuse new items, handle those queued at once, and return when the last batch is finished."""
        self._is_closed = True
        self._has_company.set()
        if self._runner is not None:
            await asyncio.wait([self._runner])

    def _enqueue(self, items: Sequence[T]) -> "asyncio.Future[list[R]]":
        if self._is_closed:
            raise BatcherClosedError("this batcher is closed")
        loop = asyncio.get_running_loop()
        chunk: _Chunk[T, R] = _Chunk(items, loop.create_future())
        self._queue.append(chunk)
        self._queued_items += len(items)
        if self._is_company():
            self._has_company.set()
        if self._runner is None:
            self._runner = loop.create_task(self._run(), context=Context())
        return chunk.done

    async def _run(self) -> None:
        """Handle batch after batch until the queue is empty."""
        try:
            await self._wait_for_company()
            while self._queue:
                batch = self._take()
                if batch:
                    await self._handle_batch(batch)
        finally:
            self._runner = None
            for chunk in self._queue:  # only when the loop is going down and this task was cancelled
                chunk.done.cancel()
            self._queue.clear()
            self._queued_items = 0

    async def _wait_for_company(self) -> None:
        if self._max_wait_seconds <= 0 or self._has_company.is_set():
            # One turn of the loop: whoever is ready to run now still comes along.
            await asyncio.sleep(0)
            return
        try:
            async with asyncio.timeout(self._max_wait_seconds):
                await self._has_company.wait()
        except TimeoutError:
            pass

    def _take(self) -> list[_Chunk[T, R]]:
        """Remove and return the chunks of the next batch; those whose submitter is gone are dropped."""
        batch: list[_Chunk[T, R]] = []
        room = self._max_items
        while self._queue and len(self._queue[0].items) <= room:
            chunk = self._queue.popleft()
            self._queued_items -= len(chunk.items)
            if not chunk.done.done():
                batch.append(chunk)
                room -= len(chunk.items)
        # Half as many are expected still: one small batch between large ones does not split what comes together.
        self._expected_submitters = max(len(batch), self._expected_submitters // 2, 1)
        if not self._is_closed and not self._is_company():
            self._has_company.clear()
        return batch

    def _is_company(self) -> bool:
        return len(self._queue) >= self._expected_submitters or self._queued_items >= self._max_items

    async def _handle_batch(self, batch: list[_Chunk[T, R]]) -> None:
        items = [item for chunk in batch for item in chunk.items]
        try:
            results = await self._handle(items)
            if len(results) != len(items):
                raise AssertionError(f"a batch of {len(items)} items gave {len(results)} results")  # noqa: TRY301
        except Exception as error:  # noqa: BLE001 — whatever it is, it belongs to the submitters of this batch
            for chunk in batch:
                if not chunk.done.done():
                    chunk.done.set_exception(error)
        except BaseException:
            for chunk in batch:
                chunk.done.cancel()
            raise
        else:
            start = 0
            for chunk in batch:
                end = start + len(chunk.items)
                if not chunk.done.done():
                    chunk.done.set_result(results[start:end])
                start = end
