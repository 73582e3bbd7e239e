import asyncio
from contextvars import ContextVar

import pytest

from service.kit.batching import BatcherClosedError, MicroBatcher


class Recorder:
    """A handler that doubles its items, remembers its batches, and waits until it is let go."""

    def __init__(self, *, is_open: bool = True) -> None:
        self.batches: list[list[int]] = []
        self.in_flight = 0
        self.most_in_flight = 0
        self.started = asyncio.Event()
        self.gate = asyncio.Event()
        if is_open:
            self.gate.set()

    async def __call__(self, items: list[int]) -> list[int]:
        self.batches.append(items)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        self.started.set()
        try:
            await self.gate.wait()
            if -1 in items:
                raise ValueError("minus one")
            return [2 * item for item in items]
        finally:
            self.in_flight -= 1


async def test_items_submitted_together_travel_in_one_batch_and_get_their_own_results():
    handle = Recorder()
    batcher = MicroBatcher(handle, max_items=100, max_wait_ms=0)
    results = await asyncio.gather(*[batcher.submit(n) for n in range(10)])
    assert results == [2 * n for n in range(10)]
    assert handle.batches == [list(range(10))]


async def test_one_batch_is_in_flight_and_what_comes_meanwhile_forms_the_next():
    handle = Recorder(is_open=False)
    batcher = MicroBatcher(handle, max_items=100, max_wait_ms=0)
    first = asyncio.create_task(batcher.submit(1))
    await handle.started.wait()
    later = [asyncio.create_task(batcher.submit(n)) for n in range(2, 30)]
    await asyncio.sleep(0)
    assert batcher.queued_items == 28
    handle.gate.set()
    assert await first == 2
    assert await asyncio.gather(*later) == [2 * n for n in range(2, 30)]
    assert handle.batches == [[1], list(range(2, 30))]
    assert handle.most_in_flight == 1


async def test_a_batch_never_holds_more_than_its_maximum():
    handle = Recorder()
    batcher = MicroBatcher(handle, max_items=4, max_wait_ms=0)
    results = await asyncio.gather(*[batcher.submit(n) for n in range(10)])
    assert results == [2 * n for n in range(10)]
    assert [len(batch) for batch in handle.batches] == [4, 4, 2]


async def test_many_items_of_one_submitter_keep_their_order_over_several_batches():
    handle = Recorder()
    batcher = MicroBatcher(handle, max_items=4, max_wait_ms=0)
    assert await batcher.submit_many(range(11)) == [2 * n for n in range(11)]
    assert await batcher.submit_many([]) == []
    assert [len(batch) for batch in handle.batches] == [4, 4, 3]


async def test_items_submitted_together_are_never_split_below_the_maximum():
    handle = Recorder(is_open=False)
    batcher = MicroBatcher(handle, max_items=4, max_wait_ms=0)
    first = asyncio.create_task(batcher.submit(0))
    await handle.started.wait()
    later = [asyncio.create_task(batcher.submit_many(group)) for group in ([1, 2, 3], [4, 5], [6, 7])]
    handle.gate.set()
    assert await asyncio.gather(first, *later) == [0, [2, 4, 6], [8, 10], [12, 14]]
    assert handle.batches == [[0], [1, 2, 3], [4, 5, 6, 7]]


async def submit_at_once(batcher: MicroBatcher[int, int], count: int) -> None:
    await asyncio.gather(*[batcher.submit(n) for n in range(count)])


async def test_whoever_has_been_alone_does_not_wait_for_company():
    batcher = MicroBatcher(Recorder(), max_items=100, max_wait_ms=60_000)
    async with asyncio.timeout(5):
        assert [await batcher.submit(n) for n in range(3)] == [0, 2, 4]


async def test_an_idle_batcher_waits_until_as_many_are_there_as_came_together_before():
    handle = Recorder()
    batcher = MicroBatcher(handle, max_items=100, max_wait_ms=60_000)
    await submit_at_once(batcher, 4)
    async with asyncio.timeout(5):
        first = [asyncio.create_task(batcher.submit(1)) for _ in range(3)]
        for _ in range(5):
            await asyncio.sleep(0)
        assert handle.batches == [[0, 1, 2, 3]]
        await batcher.submit(2)
        await asyncio.gather(*first)
    assert handle.batches == [[0, 1, 2, 3], [1, 1, 1, 2]]


async def test_company_that_does_not_come_is_waited_for_up_to_the_limit_and_then_for_fewer():
    handle = Recorder()
    batcher = MicroBatcher(handle, max_items=100, max_wait_ms=1)
    await submit_at_once(batcher, 4)
    async with asyncio.timeout(5):
        for number in range(3):
            assert await batcher.submit(number) == 2 * number
    assert handle.batches == [[0, 1, 2, 3], [0], [1], [2]]


async def test_a_full_batch_does_not_wait():
    handle = Recorder()
    batcher = MicroBatcher(handle, max_items=2, max_wait_ms=60_000)
    async with asyncio.timeout(5):
        assert await asyncio.gather(batcher.submit(1), batcher.submit(2)) == [2, 4]
        assert await asyncio.gather(batcher.submit(3), batcher.submit(4)) == [6, 8]


async def test_a_failing_batch_fails_only_its_own_submitters():
    handle = Recorder()
    batcher = MicroBatcher(handle, max_items=2, max_wait_ms=0)
    results = await asyncio.gather(*[batcher.submit(n) for n in (-1, 1, 2, 3, 4)], return_exceptions=True)
    assert [isinstance(result, ValueError) for result in results] == [True, True, False, False, False]
    assert results[2:] == [4, 6, 8]
    assert await batcher.submit(5) == 10


async def test_many_items_with_one_failing_batch_raise_after_all_batches_ended():
    handle = Recorder()
    batcher = MicroBatcher(handle, max_items=2, max_wait_ms=0)
    with pytest.raises(ValueError, match="minus one"):
        await batcher.submit_many([-1, 1, 2, 3])
    assert handle.batches == [[-1, 1], [2, 3]]
    assert handle.in_flight == 0


async def test_a_wrong_number_of_results_fails_the_batch():
    async def forget_one(items: list[int]) -> list[int]:
        return items[1:]

    batcher = MicroBatcher(forget_one, max_items=10, max_wait_ms=0)
    with pytest.raises(AssertionError, match="2 items gave 1 results"):
        await batcher.submit_many([1, 2])


async def test_cancelling_a_queued_submitter_takes_its_item_back_and_harms_nobody():
    handle = Recorder(is_open=False)
    batcher = MicroBatcher(handle, max_items=100, max_wait_ms=0)
    first = asyncio.create_task(batcher.submit(1))
    await handle.started.wait()
    second, third = asyncio.create_task(batcher.submit(2)), asyncio.create_task(batcher.submit(3))
    await asyncio.sleep(0)
    second.cancel()
    handle.gate.set()
    assert await asyncio.gather(first, third) == [2, 6]
    assert second.cancelled() or second.cancelling()
    assert handle.batches == [[1], [3]]


async def test_cancelling_a_submitter_in_flight_does_not_cancel_the_batch():
    handle = Recorder(is_open=False)
    batcher = MicroBatcher(handle, max_items=100, max_wait_ms=0)
    first, second = asyncio.create_task(batcher.submit(1)), asyncio.create_task(batcher.submit(2))
    await handle.started.wait()
    first.cancel()
    await asyncio.sleep(0)
    handle.gate.set()
    assert await second == 4
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_a_deadline_of_one_submitter_leaves_the_others_alone():
    handle = Recorder(is_open=False)
    batcher = MicroBatcher(handle, max_items=100, max_wait_ms=0)

    async def impatient() -> int:
        async with asyncio.timeout(0.01):
            return await batcher.submit(1)

    patient = asyncio.create_task(batcher.submit(2))
    with pytest.raises(TimeoutError):
        await impatient()
    handle.gate.set()
    assert await patient == 4


async def test_close_handles_what_is_queued_and_refuses_what_comes_later():
    handle = Recorder()
    batcher = MicroBatcher(handle, max_items=100, max_wait_ms=60_000)
    waiting = [asyncio.create_task(batcher.submit(n)) for n in range(3)]
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        await batcher.close()
        assert await asyncio.gather(*waiting) == [0, 2, 4]
    with pytest.raises(BatcherClosedError):
        await batcher.submit(9)


async def test_a_batch_does_not_run_in_the_context_of_the_request_that_opened_it():
    request_id: ContextVar[str] = ContextVar("request_id", default="none")
    seen: list[str] = []

    async def handle(items: list[int]) -> list[int]:
        seen.append(request_id.get())
        return items

    batcher = MicroBatcher(handle, max_items=10, max_wait_ms=0)
    token = request_id.set("first request")
    await batcher.submit(1)
    request_id.reset(token)
    assert seen == ["none"]
