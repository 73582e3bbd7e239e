"""Lanes to a cluster: commands find their primary, and one primary away is nobody else's trouble."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from service.checks.hold_store import HoldStore
from service.checks.lua_scripts import RENEW, script_command
from service.checks.scripts import CountersUnavailable, ScriptLane
from service.db.cluster import ClusterClient
from service.db.pools import make_redis_client
from service.kit.clock import monotonic
from service.kit.ids import new_id
from service.settings import RedisSettings
from tests.integration.checks.gate import Gate
from tests.redis_cluster import RedisCluster, running_cluster, slot_of

# The cluster is made of the wheel's own servers.
pytestmark = pytest.mark.embedded

TIMEOUT_MS = 2_000
TENANTS = 12


@pytest.fixture
def cluster() -> Iterator[RedisCluster]:
    with running_cluster() as running:
        yield running


@asynccontextmanager
async def _lane(url: str) -> AsyncIterator[tuple[ClusterClient, ScriptLane]]:
    client = make_redis_client(url, RedisSettings(cluster=True, connect_timeout_ms=500, command_timeout_ms=500))
    assert isinstance(client, ClusterClient)
    lane = ScriptLane(client, timeout_ms=TIMEOUT_MS)
    lane.start()
    yield client, lane
    await lane.close()
    await client.aclose()


def _read(tenant_id: str) -> tuple[Any, ...]:
    return script_command(RENEW, [f"{{{tenant_id}}}:r:x"], ["x", 0])


async def test_replies_come_in_the_order_of_the_commands_whichever_primary_they_are_of(cluster: RedisCluster):
    tenants = [f"t-{new_id().hex}" for _ in range(TENANTS)]
    async with _lane(cluster.url) as (client, lane):
        store = HoldStore(client, deadline_ms=2 * TIMEOUT_MS)
        for number, tenant_id in enumerate(tenants):
            gate = Gate(client, tenant_id, store, lane)
            await gate.seed(gate.counter())
            await gate.decide(gate.counter(), reservation_id="x", amount_micro_usd=number + 1)
        for node in cluster.nodes:
            node.ask("SCRIPT FLUSH")

        replies = await lane.run([_read(tenant_id) for tenant_id in tenants])

        assert [reply[3] for reply in replies] == list(range(1, TENANTS + 1))
        await store.close()
    assert len({cluster.owner_of(tenant_id).port for tenant_id in tenants}) > 1


async def test_a_primary_that_is_away_fails_the_commands_of_its_tenants_alone(cluster: RedisCluster):
    tenants = [f"t-{new_id().hex}" for _ in range(TENANTS)]
    dead = cluster.owner_of(tenants[0])
    is_hit = [cluster.owner_of(tenant_id) is dead for tenant_id in tenants]
    assert not all(is_hit)
    commands = [_read(tenant_id) for tenant_id in tenants]
    async with _lane(cluster.url) as (_, lane):
        await lane.run(commands)
        dead.kill()
        for _ in range(3):
            outcomes = await lane.attempt(commands)
            assert [isinstance(outcome, CountersUnavailable) for outcome in outcomes] == is_hit
            assert not lane.is_down
    # A process that starts meanwhile finds the others, whichever node its address names first.
    first = f"redis://127.0.0.1:{dead.port}," + cluster.url.removeprefix("redis://")
    async with _lane(first) as (_, lane):
        outcomes = await lane.attempt(commands)
        assert [isinstance(outcome, CountersUnavailable) for outcome in outcomes] == is_hit
        dead.start()
        deadline = monotonic() + 20
        while any(isinstance(outcome, CountersUnavailable) for outcome in await lane.attempt(commands)):
            assert monotonic() < deadline


async def test_nodes_that_know_no_name_of_each_other_send_to_another_port_of_the_machine_asked(cluster: RedisCluster):
    for node in cluster.nodes:
        node.ask("CONFIG SET cluster-preferred-endpoint-type unknown-endpoint")
    tenant_id = f"t-{new_id().hex}"
    key, slot, source = f"{{{tenant_id}}}:x", slot_of(tenant_id), cluster.owner_of(tenant_id)
    target = next(node for node in cluster.nodes if node is not source)
    async with _lane(cluster.url) as (_, lane), _lane(cluster.url) as (client, _):
        before = await lane.call(_read(tenant_id))
        assert await client.at(key, lambda server: server.exists(key)) == 0
        cluster.begin_move(slot, source, target)
        assert await lane.call(_read(tenant_id)) == before
        cluster.end_move(slot, source, target)
        assert await lane.call(_read(tenant_id)) == before
        assert await client.at(key, lambda server: server.exists(key)) == 0


async def test_with_no_node_to_be_reached_the_lane_says_so():
    async with _lane("redis://127.0.0.1:1") as (_, lane):
        with pytest.raises(CountersUnavailable):
            await lane.call(_read("t"))
