"""A server that has become a replica: it answers, and refuses every write."""

import asyncio
from collections.abc import AsyncIterator

import hiredis
import pytest
import redis.asyncio

from service.checks.lua_scripts import VOID, script_command
from service.checks.scripts import CountersUnavailable, ScriptLane
from service.kit.clock import monotonic


class DemotedAtFirst:
    """Speaks as a replica on its first connection, and as a primary on the next ones."""

    connections = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        is_demoted = self.connections == 1
        commands = hiredis.Reader()
        while received := await reader.read(65_536):
            commands.feed(received)
            while (command := commands.gets()) is not False:
                if command[0] != b"EVALSHA":
                    writer.write(b"+OK\r\n")
                else:
                    writer.write(
                        b"-READONLY You can't write against a read only replica.\r\n" if is_demoted else b"*0\r\n"
                    )
            await writer.drain()
        writer.close()


@pytest.fixture
async def server() -> AsyncIterator[tuple[DemotedAtFirst, int]]:
    demoted = DemotedAtFirst()
    listener = await asyncio.start_server(demoted.serve, "127.0.0.1", 0)
    yield demoted, listener.sockets[0].getsockname()[1]
    listener.close()


async def test_a_connection_to_a_demoted_primary_is_given_up(server: tuple[DemotedAtFirst, int]):
    demoted, port = server
    async with redis.asyncio.Redis(host="127.0.0.1", port=port) as client:
        lane = ScriptLane(client, timeout_ms=2_000)
        command = script_command(VOID, ["{t}:r:x"], ["x", ""])
        with pytest.raises(CountersUnavailable):
            await lane.call(command)
        assert lane.is_down
        deadline = monotonic() + 5
        while lane.is_down:
            assert monotonic() < deadline
            try:
                assert await lane.call(command) == []
            except CountersUnavailable:
                await asyncio.sleep(0.01)
        assert demoted.connections == 2
        await lane.close()
