import asyncio
import time

import pytest

from service.kit.patience import patience


async def test_what_ends_in_time_is_left_alone():
    async with patience(5):
        result = await asyncio.sleep(0, "done")
    assert result == "done"
    await asyncio.sleep(0)
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_what_takes_longer_ends_with_a_timeout():
    started = time.monotonic()
    with pytest.raises(TimeoutError):
        async with patience(0.02):
            await asyncio.sleep(60)
    assert 0.015 < time.monotonic() - started < 5
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_no_time_at_all_still_gives_the_loop_some_turns():
    async with patience(-1):
        for _ in range(5):
            await asyncio.sleep(0)
    with pytest.raises(TimeoutError):
        async with patience(0):
            await asyncio.sleep(60)


async def test_an_answer_that_waits_in_the_socket_of_a_busy_loop_is_read():
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(b"answer\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    async with patience(0.01):
        writer.write(b"question\n")
        await asyncio.sleep(0)
        time.sleep(0.05)  # noqa: ASYNC251 — the loop is busy with something else for longer than the deadline
        assert await reader.readline() == b"answer\n"
    writer.close()
    server.close()
    await server.wait_closed()


async def test_cancelling_the_task_from_outside_is_no_timeout():
    async def wait() -> None:
        async with patience(60):
            await asyncio.sleep(60)

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_an_error_of_the_block_comes_through():
    with pytest.raises(ValueError, match="own"):
        async with patience(60):
            raise ValueError("own")
