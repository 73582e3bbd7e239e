"""A slot on its way to another node, key by key, stopped at a bad moment: nothing is done by halves."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest

from service.checks.hold_store import HoldStore
from service.checks.keys import key_of
from service.checks.publishing import publish_commands
from service.checks.scripts import CountersUnavailable, ScriptLane
from service.db.cluster import Address, ClusterClient
from service.db.pools import make_redis_client
from service.settings import RedisSettings
from tests.integration.checks.gate import Gate
from tests.redis_cluster import Node, RedisCluster, running_cluster, slot_of

# The cluster is made of the wheel's own servers.
pytestmark = pytest.mark.embedded

TIMEOUT_MS = 5_000
IMPATIENT_MS = 100


@pytest.fixture(scope="module")
def cluster() -> Iterator[RedisCluster]:
    with running_cluster() as running:
        yield running


@pytest.fixture
async def client(cluster: RedisCluster) -> AsyncIterator[ClusterClient]:
    client = make_redis_client(cluster.url, RedisSettings(cluster=True))
    assert isinstance(client, ClusterClient)
    yield client
    await client.aclose()


@pytest.fixture
async def gate(cluster: RedisCluster, client: ClusterClient, tenant_id: str) -> AsyncIterator[Gate]:
    """A tenant; what the test looks at is the node that has its slot at first."""
    store = HoldStore(client, deadline_ms=2 * TIMEOUT_MS)
    lane = ScriptLane(client, timeout_ms=TIMEOUT_MS)
    yield Gate(_plain(client, cluster.owner_of(tenant_id)), tenant_id, store, lane)
    await store.close()
    await lane.close()


def _plain(client: ClusterClient, node: Node) -> Any:
    return client.slots.client_of(Address("127.0.0.1", node.port))


@pytest.mark.parametrize("end", ["settle", "void", "expire"])
async def test_a_hold_some_of_whose_keys_have_left_is_ended_wholly_when_all_have_arrived(
    cluster: RedisCluster, client: ClusterClient, gate: Gate, end: str
):
    counters = [gate.counter(number) for number in range(3)]
    await gate.seed(*counters)
    await gate.decide(*counters, reservation_id="r", amount_micro_usd=40)
    if end == "expire":
        await gate.make_due("r", *counters)
    source, slot = cluster.owner_of(gate.tenant_id), slot_of(gate.tenant_id)
    target = next(node for node in cluster.nodes if node is not source)
    cluster.begin_move(slot, source, target)
    cluster.move_keys(source, target, [f"{key_of(counters[1])}:z"])
    before = await _state(gate)

    ending: asyncio.Task[Any] = asyncio.create_task(_ends(gate)[end]())
    impatient = ScriptLane(client, timeout_ms=IMPATIENT_MS)
    with pytest.raises(CountersUnavailable):
        await impatient.run(publish_commands(gate.posts([], [gate.settlement("r", 10)])))
    await impatient.close()
    assert await _state(gate) == before
    assert not ending.done()

    await asyncio.to_thread(cluster.end_move, slot, source, target)
    await ending
    gate.client = _plain(client, target)
    assert [await gate.held(counter) for counter in counters] == [0, 0, 0]
    await gate.assert_sound(*counters)


def _ends(gate: Gate) -> dict[str, Callable[[], Awaitable[Any]]]:
    settlement = gate.posts([], [gate.settlement("r", 40)])
    return {
        "settle": lambda: gate.publish(settlement),
        "void": lambda: gate.store.void(gate.tenant_id, "r"),
        "expire": lambda: gate.publish(settlement),
    }


async def _state(gate: Gate) -> dict[bytes, Any]:
    """Return what the source has: of each key its hash, or how many holds."""
    keys = [key async for key in gate.client.scan_iter(match=f"{{{gate.tenant_id}}}:*")]
    return {key: await (gate.client.zcard if key.endswith(b":z") else gate.client.type)(key) for key in keys} | {
        key: await gate.client.hgetall(key) for key in keys if not key.endswith((b":z", b":cv"))
    }
