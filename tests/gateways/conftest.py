"""A server, an upstream and real gateways between a client and both. Collected by `make test-gateways` only."""

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx
import pytest

from service.kit.ids import new_id
from tests.faults.replica import Caller, Replica
from tests.faults.server_process import OPERATOR_TOKEN, Ground, ServerProcess
from tests.faults.waiting import until
from tests.gateways.gateway_processes import GATEWAYS, running_gateway
from tests.gateways.upstream import Upstream

collect_ignore_glob = [] if os.environ.get("TALLYGATE_TEST_GATEWAYS") else ["test_*.py"]


@pytest.fixture(scope="session")
def directory() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="tg-gateways-"))
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture(scope="session")
async def server(database_url: str, redis_url: str, directory: Path) -> AsyncIterator[Replica]:
    process = ServerProcess(Ground(database_url, redis_url, directory)).start()
    try:
        replica = Replica(await process.ready())
        yield replica
        await replica.client.aclose()
    finally:
        process.kill()


@pytest.fixture
async def tenant(server: Replica) -> Caller:
    """The administrator of a tenant of this test's own."""
    operator = server.as_caller(OPERATOR_TOKEN)
    made = await operator.call("POST", "/v1/tenants", json={"id": f"t-{new_id().hex}"}, status=201)
    return server.as_caller(made["token"])


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    found = Upstream()
    listener = await asyncio.start_server(found.serve, "127.0.0.1", 0)
    found.port = listener.sockets[0].getsockname()[1]
    yield found
    found.may_go_on.set()
    listener.close()
    await listener.wait_closed()


class OpenGateway:
    """Starts the gateway under test with a token, and returns a client of it."""

    def __init__(self, name: str, stack: AsyncExitStack, directory: Path, upstream: Upstream, server: Replica) -> None:
        self.name = name
        self._stack = stack
        self._directory = directory
        self._upstream = upstream
        self._server = server

    async def __call__(self, token: str, *, tallygate: int | None = None) -> httpx.AsyncClient:
        home = self._directory / f"{self.name}-{new_id().hex}"
        home.mkdir()
        url = self._stack.enter_context(
            running_gateway(
                self.name,
                home,
                upstream=self._upstream.port,
                tallygate=tallygate or self._server.process.port,
                token=token,
            )
        )
        client = await self._stack.enter_async_context(_client(url))

        async def listens() -> bool:
            try:
                await client.get("/__is_it_up__")
            except httpx.TransportError:
                return False
            return True

        await until(listens, f"{self.name} listens", pause=0.05)
        self._upstream.seen.clear()
        return client


@asynccontextmanager
async def _client(url: str) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=url, timeout=20) as client:
        yield client


@pytest.fixture(params=list(GATEWAYS))
async def open_gateway(
    request: pytest.FixtureRequest, directory: Path, upstream: Upstream, server: Replica
) -> AsyncIterator[OpenGateway]:
    async with AsyncExitStack() as stack:
        yield OpenGateway(request.param, stack, directory, upstream, server)
