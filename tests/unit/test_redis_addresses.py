"""Addresses of a cluster: several nodes, one login, and each node reached as the address says."""

import pytest
from redis.asyncio.connection import SSLConnection

from service.db.cluster import Address, ClusterClient
from service.db.pools import make_redis_client
from service.settings import RedisSettings

CLUSTER = RedisSettings(cluster=True, connect_timeout_ms=700)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://one", [("one", 6379)]),
        ("redis://one:7000,two", [("one", 7000), ("two", 6379)]),
        ("redis://user:p%2Css@one:7000,two:7001/0", [("one", 7000), ("two", 7001)]),
        ("rediss://[::1]:7000,[::2]:7001", [("::1", 7000), ("::2", 7001)]),
    ],
)
async def test_an_address_may_name_several_nodes(url: str, expected: list[tuple[str, int]]):
    client = make_redis_client(url, CLUSTER)
    assert isinstance(client, ClusterClient)
    assert client.slots.seeds == tuple(Address(*each) for each in expected)
    await client.aclose()


async def test_every_node_is_reached_with_the_login_and_the_encryption_of_the_address():
    client = make_redis_client("rediss://user:p%2Css@one:7000,two:7001?ssl_cert_reqs=none", CLUSTER)
    assert isinstance(client, ClusterClient)
    pool = client.slots.client_of(Address("three", 7002)).connection_pool
    options = pool.connection_kwargs
    assert pool.connection_class is SSLConnection
    assert (options["host"], options["port"]) == ("three", 7002)
    assert (options["username"], options["password"], options["ssl_cert_reqs"]) == ("user", "p,ss", "none")
    assert options["socket_connect_timeout"] == 0.7
    await client.aclose()
