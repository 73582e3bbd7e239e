"""Fault 18: replicas on a Redis Cluster of three primaries: a busy slot moves, a server dies, a primary dies."""

import asyncio
import os
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from decimal import Decimal
from pathlib import Path
from random import Random

import httpx
import pytest

from service.db import migrator
from service.db.embedded import EngineUrls
from service.db.pools import Pools, open_pools
from service.kit.ids import new_id
from service.settings import RedisSettings, Settings
from tests.conftest import fresh_database
from tests.faults.chat_events import chat_event
from tests.faults.conftest import Tenant
from tests.faults.replica import Answer, Caller, Replica, together
from tests.faults.server_process import OPERATOR_TOKEN, Ground, ServerProcess
from tests.faults.waiting import until
from tests.oracle import assert_sound
from tests.redis_cluster import RedisCluster, running_cluster, slot_of

# The cluster is made of the wheel's own servers.
pytestmark = pytest.mark.embedded

CALL = {"model": "gpt-4.1-mini", "input_tokens": 1_000, "max_output_tokens": 1_000}
COST = Decimal("0.002")
TENANTS = 50
CALLS_ALLOWED = 10
CALLS = 1_200
WORKERS = 24


@pytest.fixture
def cluster() -> Iterator[RedisCluster]:
    with running_cluster() as running:
        yield running


@pytest.fixture
def cluster_ground(engines: EngineUrls, cluster: RedisCluster, tmp_path: Path) -> Iterator[Ground]:
    """A database of these servers' own: who works off its outbox must know the cluster."""
    with fresh_database(engines) as database_url:
        migrator.upgrade(database_url)
        yield Ground(database_url, cluster.url, tmp_path)


@pytest.fixture
async def cluster_ledger(cluster_ground: Ground) -> AsyncIterator[Pools]:
    settings = Settings(redis=RedisSettings(cluster=True)).with_engines(
        database_url=cluster_ground.database_url, redis_url=cluster_ground.redis_url
    )
    async with open_pools(settings) as pools:
        yield pools


StartServers = Callable[[int], Awaitable[list[Replica]]]


@pytest.fixture
async def start_servers(cluster_ground: Ground) -> AsyncIterator[StartServers]:
    async with AsyncExitStack() as stack:

        async def start(count: int) -> list[Replica]:
            processes = [ServerProcess(cluster_ground, TALLYGATE_REDIS_CLUSTER="true").start() for _ in range(count)]
            for process in processes:
                stack.callback(process.kill)
            replicas = [Replica(await process.ready()) for process in processes]
            for replica in replicas:
                stack.push_async_callback(replica.client.aclose)
            return replicas

        yield start


async def _make_tenants(replica: Replica, count: int) -> list[Tenant]:
    operator = replica.as_caller(OPERATOR_TOKEN)

    async def make() -> Tenant:
        answer = await operator.call("POST", "/v1/tenants", json={"id": f"t-{new_id().hex}"}, status=201)
        return Tenant(answer["id"], answer["token"])

    return await together(make() for _ in range(count))


class _Load:
    """Calls that are asked about, made when allowed, and reported; what a dead server left unanswered is sent again."""

    def __init__(self, replicas: list[Replica], tenants: list[Tenant], random: Random) -> None:
        self._replicas = list(replicas)
        self._tenants = tenants
        self._random = random
        self.left = CALLS
        self._running: asyncio.Task[None] | None = None
        self.admitted: Counter[str] = Counter()
        self.denied: Counter[str] = Counter()

    def lose(self, replica: Replica) -> None:
        """Send nothing to it from now on."""
        self._replicas.remove(replica)

    def start(self) -> None:
        self._running = asyncio.create_task(self._run())

    async def until_left(self, share: float) -> None:
        """Wait until no more than a share of the calls is left to be made."""
        assert self._running is not None
        running = self._running
        await until(lambda: running.done() or self.left <= share * CALLS, "calls are made", deadline_seconds=60)
        if running.done() or share == 0:
            await running

    async def _run(self) -> None:
        await together(self._work() for _ in range(WORKERS))

    async def _work(self) -> None:
        while self.left > 0:
            self.left -= 1
            # Every third call is one of the busy tenant's.
            tenant = self._tenants[0] if self.left % 3 == 0 else self._random.choice(self._tenants)
            await self._call(tenant)

    async def _call(self, tenant: Tenant) -> None:
        request_id = new_id().hex
        user = f"u{self._random.randrange(3)}"
        asked = CALL | {"request_id": request_id, "reserve": True, "dimensions": {"user": user}}
        answer = await self._answered(tenant, lambda caller: caller.check(**asked))
        assert answer["degraded"] is False
        if not answer["allowed"]:
            self.denied[tenant.id] += 1
            return
        self.admitted[tenant.id] += 1
        tallygate = {"reservation_id": request_id}
        event = chat_event(user=user, input_tokens=1_000, output_tokens=1_000, tallygate=tallygate)
        reported = await self._answered(tenant, lambda caller: caller.post(event))
        assert reported["recorded"] + reported["duplicates"] == 1

    async def _answered(self, tenant: Tenant, ask: Callable[[Caller], Awaitable[Answer]]) -> Answer:
        async with asyncio.timeout(30):
            while True:
                try:
                    return await ask(self._random.choice(self._replicas).as_caller(tenant.token))
                except httpx.TransportError:
                    await asyncio.sleep(0.01)


async def test_no_limit_is_passed_while_a_busy_slot_moves_and_a_server_dies(
    cluster: RedisCluster,
    cluster_ground: Ground,
    cluster_ledger: Pools,
    start_servers: StartServers,
    random: Random,
):
    replicas = await start_servers(4)
    tenants = await _make_tenants(replicas[0], TENANTS)
    for tenant in tenants:
        caller = replicas[0].as_caller(tenant.token)
        # The busy tenant's counters stay in use until the end.
        limit = COST * (CALLS_ALLOWED if tenant is not tenants[0] else CALLS // 4)
        await caller.create_budget("all", {}, str(limit))
        await caller.create_budget("each-user", {"user": "*"}, "100")
    load = _Load(replicas, tenants, random)
    load.start()

    slot = slot_of(tenants[0].id)
    source = cluster.owner_of(tenants[0].id)
    target = random.choice([node for node in cluster.nodes if node is not source])
    await load.until_left(0.8)
    assert await asyncio.to_thread(cluster.move_slot, slot, source, target) > 0
    await load.until_left(0.5)
    load.lose(replicas[3])
    replicas[3].process.kill()
    await load.until_left(0.3)
    await asyncio.to_thread(cluster.move_slot_at_once, slot, target, source)
    await load.until_left(0)

    assert cluster.owner_of(tenants[0].id) is source
    assert 150 < load.admitted[tenants[0].id] <= CALLS // 4
    for tenant in tenants[1:]:
        assert 0 < load.admitted[tenant.id] <= CALLS_ALLOWED
    assert sum(load.denied.values()) > 100
    for tenant in tenants:
        spent = Decimal(await replicas[0].as_caller(tenant.token).posted_usd("all"))
        assert spent == load.admitted[tenant.id] * COST
        await assert_sound(cluster_ledger, tenant.id)
    _assert_no_drift(cluster_ground, tenants)


async def test_a_dead_primary_leaves_its_tenants_to_their_policies_and_the_others_as_they_were(
    cluster: RedisCluster, cluster_ledger: Pools, start_servers: StartServers
):
    replicas = await start_servers(2)
    tenants = await _make_tenants(replicas[0], 12)
    callers = [replicas[number % 2].as_caller(tenant.token) for number, tenant in enumerate(tenants)]
    dead = cluster.owner_of(tenants[0].id)
    hit = [tenant for tenant in tenants if cluster.owner_of(tenant.id) is dead]
    assert 0 < len(hit) < len(tenants)
    for number, caller in enumerate(callers):
        policy = ("ledger", "deny", "allow")[number % 3]
        await caller.create_budget("all", {}, "1", on_unavailable=policy)
        assert (await caller.check(**CALL))["degraded"] is False

    dead.kill()

    async def ask_all() -> None:
        answers = await together(caller.check(**CALL) for caller in callers)
        for number, (tenant, answer) in enumerate(zip(tenants, answers, strict=True)):
            assert answer["degraded"] is (tenant in hit)
            assert answer["allowed"] is not (tenant in hit and number % 3 == 1)

    async def is_found_out() -> bool:
        survivor = next(node for node in cluster.nodes if node is not dead)
        return "cluster_slots_fail:0" not in await asyncio.to_thread(survivor.ask, "CLUSTER INFO")

    await ask_all()
    await together(caller.post(chat_event(input_tokens=1_000, output_tokens=1_000)) for caller in callers)
    await until(is_found_out, "the others know that it is dead")
    await ask_all()
    for replica in replicas:
        assert (await replica.client.get("/health/ready")).status_code == httpx.codes.OK
    for tenant in tenants:
        if tenant not in hit:
            await assert_sound(cluster_ledger, tenant.id)

    await asyncio.to_thread(dead.start)

    async def is_back() -> bool:
        return not any(answer["degraded"] for answer in await together(caller.check(**CALL) for caller in callers))

    await until(is_back, "all tenants' counters answer", pause=0.1)
    for tenant, caller in zip(tenants, callers, strict=True):
        assert await caller.posted_usd("all") == str(COST)
        await assert_sound(cluster_ledger, tenant.id)


def _assert_no_drift(ground: Ground, tenants: list[Tenant]) -> None:
    environment = os.environ | {
        "TALLYGATE_DATABASE_URL": ground.database_url,
        "TALLYGATE_REDIS_URL": ground.redis_url,
        "TALLYGATE_REDIS_CLUSTER": "true",
    }
    checked = subprocess.run(
        [sys.executable, "-m", "service.cli", "check-drift"],
        env=environment,
        check=False,
        capture_output=True,
        text=True,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert all(tenant.id in checked.stdout for tenant in tenants)
