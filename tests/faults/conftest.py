"""Servers of the fault tests: three replicas on one database and one logical Redis database of their own.

Every tenant a test gets is audited when the test is over: the ledger oracle is the last word of each fault.
"""

import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from random import Random
from secrets import randbits

import psycopg
import pytest
import redis
from sqlalchemy import make_url

from service.db import migrator
from service.db.embedded import EngineUrls
from service.db.pools import Pools, open_pools
from service.kit.ids import new_id
from service.settings import Settings
from tests.faults.replica import Caller, Replica
from tests.faults.server_process import OPERATOR_TOKEN, Ground, ServerProcess
from tests.oracle import assert_sound

REPLICAS = 3
_LAST_LOGICAL_DATABASE = 15


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.faults)


@dataclass(frozen=True)
class Tenant:
    """A tenant of one test."""

    id: str
    token: str


@pytest.fixture(scope="package")
def ground(engines: EngineUrls, worker_id: str) -> Iterator[Ground]:
    """A migrated database and a logical Redis database that no other test uses."""
    assert engines.database_url is not None
    assert engines.redis_url is not None
    name = f"tallygate_faults_{new_id().hex}"
    number = _LAST_LOGICAL_DATABASE - int(worker_id.removeprefix("gw") if worker_id != "master" else 0)
    redis_url = f"{engines.redis_url.rstrip('/')}{'?' if engines.redis_url.startswith('unix:') else '/?'}db={number}"
    directory = Path(tempfile.mkdtemp(prefix="tg-faults-"))
    with psycopg.connect(engines.database_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE template0")
        try:
            url = make_url(engines.database_url).set(database=name).render_as_string(hide_password=False)
            migrator.upgrade(url)
            yield Ground(url, redis_url, directory)
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
            with redis.Redis.from_url(redis_url) as client:
                client.flushdb()
            shutil.rmtree(directory)


@pytest.fixture(scope="package")
async def ledger(ground: Ground) -> AsyncIterator[Pools]:
    """Pools of the tests' own on the ground of the servers."""
    settings = Settings().with_engines(database_url=ground.database_url, redis_url=ground.redis_url)
    async with open_pools(settings) as pools:
        yield pools


@pytest.fixture(scope="package")
async def replicas(ground: Ground) -> AsyncIterator[list[Replica]]:
    """Three servers that live as long as the folder's tests; who harms one starts one of its own."""
    async with AsyncExitStack() as stack:
        started = []
        for _ in range(REPLICAS):
            process = ServerProcess(ground).start()
            stack.callback(process.kill)
            started.append(process)
        found = [Replica(await process.ready()) for process in started]
        for replica in found:
            stack.push_async_callback(replica.client.aclose)
        yield found


StartServer = Callable[..., Awaitable[Replica]]


@pytest.fixture
async def start_server(ground: Ground) -> AsyncIterator[StartServer]:
    """Start servers of the test's own; what is left of them is killed."""
    async with AsyncExitStack() as stack:

        async def start(**options: str) -> Replica:
            process = ServerProcess(ground, **options).start()
            stack.callback(process.kill)
            replica = Replica(await process.ready())
            stack.push_async_callback(replica.client.aclose)
            return replica

        yield start


MakeTenant = Callable[[], Awaitable[Tenant]]


@pytest.fixture
async def make_tenant(replicas: list[Replica], ledger: Pools) -> AsyncIterator[MakeTenant]:
    """Make tenants; when the test is over each must satisfy the oracle."""
    made: list[Tenant] = []

    async def make() -> Tenant:
        operator = replicas[0].as_caller(OPERATOR_TOKEN)
        answer = await operator.call("POST", "/v1/tenants", json={"id": f"t-{new_id().hex}"}, status=201)
        made.append(Tenant(answer["id"], answer["token"]))
        return made[-1]

    yield make
    for tenant in made:
        await assert_sound(ledger, tenant.id)


@pytest.fixture
async def tenant(make_tenant: MakeTenant) -> Tenant:
    return await make_tenant()


@pytest.fixture
def callers(replicas: list[Replica], tenant: Tenant) -> list[Caller]:
    """The tenant's administrator at each of the replicas."""
    return [replica.as_caller(tenant.token) for replica in replicas]


@pytest.fixture
def random(request: pytest.FixtureRequest) -> Random:
    """Chance that can be had again: TALLYGATE_TEST_SEED."""
    seed = int(os.environ.get("TALLYGATE_TEST_SEED", "0")) or randbits(32)
    print(f"TALLYGATE_TEST_SEED={seed} for {request.node.nodeid}")  # noqa: T201
    return Random(seed)
