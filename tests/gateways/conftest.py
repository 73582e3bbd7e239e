"""A server, an upstream and real gateways between a client and both. Collected by `make test-gateways` only."""

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from service.kit.ids import new_id
from tests.faults.replica import Caller, Replica
from tests.faults.server_process import OPERATOR_TOKEN, Ground, ServerProcess
from tests.faults.waiting import until
from tests.gateways.gateway_processes import GATEWAYS, find_gateway, running_gateway
from tests.gateways.litellm_proxy import PLACE, LiteLLMProxy
from tests.gateways.provider import Provider
from tests.gateways.relay import Relay
from tests.gateways.upstream import Upstream

# `all`: every gateway must be there. `installed`: the tests of others are skipped.
WANTED = os.environ.get("TALLYGATE_TEST_GATEWAYS")
collect_ignore_glob = [] if WANTED else ["test_*.py"]


def require(name: str, is_installed: object) -> None:
    """Skip a test whose gateway is not there, where that is allowed."""
    if not is_installed and WANTED == "installed":
        pytest.skip(f"{name} is not installed, and cannot be had here")


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
    require(request.param, find_gateway(request.param))
    async with AsyncExitStack() as stack:
        yield OpenGateway(request.param, stack, directory, upstream, server)


@dataclass
class Household:
    """A tenant of the LiteLLM proxies of this session, what they send it through, and their token."""

    admin: Caller
    relay: Relay
    token: str
    tallygate: str

    def variables(self, **others: str) -> dict[str, str]:
        """Return the adapter's environment; a busy machine gets a generous deadline."""
        return {
            "TALLYGATE_URL": f"http://127.0.0.1:{self.relay.port}",
            "TALLYGATE_TOKEN": self.token,
            "TALLYGATE_DEADLINE_MS": "3000",
        } | others


@pytest.fixture(scope="session")
async def shared_household(server: Replica) -> AsyncIterator[Household]:
    made = await server.as_caller(OPERATOR_TOKEN).call(
        "POST", "/v1/tenants", json={"id": f"t-{new_id().hex}"}, status=201
    )
    admin = server.as_caller(made["token"])
    terms = {"name": "litellm", "roles": ["check", "ingest"]}
    token = (await admin.call("POST", "/v1/tokens", json=terms, status=201))["token"]
    relay = Relay(server.process.url)
    await relay.back()
    yield Household(admin, relay, token, server.process.url)
    await relay.close()


@pytest.fixture
async def household(shared_household: Household) -> AsyncIterator[Household]:
    """The same for all, put in order again after each test."""
    yield shared_household
    await shared_household.relay.back()
    await shared_household.admin.call("PATCH", "/v1/settings", json={"deny_status": 402})


@pytest.fixture(scope="session")
async def shared_provider() -> AsyncIterator[Provider]:
    found = Provider()
    listener = await asyncio.start_server(found.serve, "127.0.0.1", 0)
    found.port = listener.sockets[0].getsockname()[1]
    yield found
    listener.close()


@pytest.fixture
async def provider(shared_provider: Provider) -> AsyncIterator[Provider]:
    shared_provider.seen.clear()
    shared_provider.may_go_on.clear()
    yield shared_provider
    shared_provider.may_go_on.set()


@pytest.fixture(scope="session")
async def proxy(shared_household: Household, shared_provider: Provider, directory: Path) -> AsyncIterator[LiteLLMProxy]:
    """A proxy with the adapter, letting calls through while Tallygate cannot be asked."""
    async with running_proxy(shared_household, shared_provider, directory) as proxy:
        yield proxy


@asynccontextmanager
async def running_proxy(
    household: Household,
    provider: Provider,
    directory: Path,
    *,
    recipe: str = "config.yaml",
    workers: int = 1,
    **variables: str,
) -> AsyncIterator[LiteLLMProxy]:
    require("litellm", (PLACE / "bin/litellm").exists())
    home = directory / f"litellm-{new_id().hex}"
    proxy = LiteLLMProxy(home, provider.port, recipe=recipe, workers=workers, **household.variables(**variables))
    try:
        yield await proxy.start().ready()
    finally:
        proxy.kill()
        await proxy.client.aclose()
