"""Postgres is away: connections are really refused and cut by the server."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from time import monotonic

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from service.db import migrator
from service.db.embedded import EngineUrls
from service.db.pools import PostgresPool, make_postgres_pool
from service.errors import Unavailable
from service.identity import registry as registry_module
from service.identity.known_key import KeyFacts
from service.identity.registry import KeyRegistry
from service.identity.service import KeyService
from service.settings import PostgresSettings
from tests.integration.identity.conftest import KEY, Clock, a_lesson, until


@pytest.fixture
async def own_pool(empty_database_url: str) -> AsyncIterator[PostgresPool]:
    migrator.upgrade(empty_database_url)
    pool = make_postgres_pool(empty_database_url, PostgresSettings(pool_min_connections=1, pool_max_connections=3))
    await pool.open()
    yield pool
    await pool.close()


@contextmanager
def outage(engines: EngineUrls, database_url: str) -> Iterator[None]:
    name = conninfo_to_dict(database_url)["dbname"]
    with psycopg.connect(str(engines.database_url), autocommit=True) as server:
        server.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
        server.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,))
        try:
            yield
        finally:
            server.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')


async def until_known(registry: KeyRegistry, api_key: str) -> None:
    """The pool looks for the server less and less often while it is away."""
    async with asyncio.timeout(20):
        while True:
            with suppress(Unavailable):
                assert await registry.find("t", api_key) is not None
                return


async def test_known_keys_stay_known_for_fifteen_minutes_without_holding_up_checks(
    own_pool: PostgresPool, engines: EngineUrls, empty_database_url: str, clock: Clock
) -> None:
    registry = KeyRegistry(own_pool, clock=clock, statement_seconds=3)
    await KeyService(own_pool, registry).declare("t", KEY, KeyFacts(team="core"), is_blocked=True)
    await registry.find("t", KEY)
    with outage(engines, empty_database_url):
        for seconds in (6.0, 893.0):
            clock.now += seconds
            asked_at = monotonic()
            known = await registry.find("t", KEY)
            assert monotonic() - asked_at < 2
            assert known is not None
            assert (known.declared.team, known.is_blocked) == ("core", True)
        clock.now += 2.0
        with pytest.raises(Unavailable):
            await registry.find("t", KEY)
    await until_known(registry, KEY)
    await registry.close()


async def test_a_key_nobody_knew_is_answered_unavailable_within_the_patience_of_the_caller(
    own_pool: PostgresPool, engines: EngineUrls, empty_database_url: str
) -> None:
    registry = KeyRegistry(own_pool, statement_seconds=3)
    with outage(engines, empty_database_url):
        asked_at = monotonic()
        with pytest.raises(Unavailable):
            await registry.find("t", KEY, patience_seconds=0.02)
        assert monotonic() - asked_at < 2
    await registry.close()


async def test_a_key_read_without_an_entry_stays_nobodys_for_fifteen_minutes(
    own_pool: PostgresPool, engines: EngineUrls, empty_database_url: str, clock: Clock
) -> None:
    registry = KeyRegistry(own_pool, clock=clock, statement_seconds=3)
    assert await registry.find("t", KEY) is None
    with outage(engines, empty_database_url):
        for seconds in (6.0, 893.0):
            clock.now += seconds
            assert await registry.find("t", KEY, patience_seconds=0.02) is None
        for tenant_id, api_key in (("t", "b"), ("u", KEY)):
            with pytest.raises(Unavailable):
                await registry.find(tenant_id, api_key, patience_seconds=0.02)
        with pytest.raises(Unavailable):  # what is recorded would stay so
            await registry.find_many("t", [KEY])
        clock.now += 2.0
        with pytest.raises(Unavailable):
            await registry.find("t", KEY, patience_seconds=0.02)
    await KeyService(own_pool, KeyRegistry(own_pool)).declare("t", KEY, KeyFacts(team="core"), is_blocked=False)
    await until_known(registry, KEY)
    await registry.close()


@pytest.mark.parametrize("is_blocked", [False, True])
async def test_news_of_a_key_ends_that_it_had_no_entry(
    own_pool: PostgresPool, engines: EngineUrls, empty_database_url: str, clock: Clock, is_blocked: bool
) -> None:
    registry = KeyRegistry(own_pool, clock=clock, beat_seconds=0.05)
    registry.start(empty_database_url)

    async def has_heard_all() -> bool:
        return registry._heard_until == clock.now

    await until(has_heard_all)
    assert await registry.find("t", KEY) is None
    assert await registry.find("t", "other") is None
    await KeyService(own_pool, KeyRegistry(own_pool)).declare("t", KEY, KeyFacts(team="core"), is_blocked=is_blocked)
    # The first beat sent from now on comes after the news, the second after the blocks were read.
    for _ in range(2):
        clock.now += 1.0
        await until(has_heard_all)
    with outage(engines, empty_database_url):
        assert await registry.find("t", "other", patience_seconds=0.02) is None
        if is_blocked:
            known = await registry.find("t", KEY, patience_seconds=0.02)
            assert known is not None
            assert known.is_blocked
        else:
            with pytest.raises(Unavailable):
                await registry.find("t", KEY, patience_seconds=0.02)
    await registry.close()


async def test_a_flood_of_unknown_keys_pushes_out_unknown_ones_only(
    own_pool: PostgresPool,
    engines: EngineUrls,
    empty_database_url: str,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(registry_module, "_KEYS_KEPT", 2)
    monkeypatch.setattr(registry_module, "_ABSENT_KEPT", 3)
    registry = KeyRegistry(own_pool, clock=clock)
    await KeyService(own_pool, registry).declare("t", KEY, KeyFacts(team="core"), is_blocked=False)
    await registry.find("t", KEY)
    for api_key in ("k0", "k1", "k0", "k2", "k3"):  # k0 is asked for again: k1 is then the oldest
        assert await registry.find("t", api_key) is None
    with outage(engines, empty_database_url):
        clock.now += 6.0
        assert await registry.find("t", KEY, patience_seconds=0.02) is not None
        for api_key in ("k0", "k2", "k3"):
            assert await registry.find("t", api_key, patience_seconds=0.02) is None
        with pytest.raises(Unavailable):
            await registry.find("t", "k1", patience_seconds=0.02)
    await registry.close()


async def test_learning_in_an_outage_fails_nobody_and_is_made_up_for_by_the_next_event(
    own_pool: PostgresPool, engines: EngineUrls, empty_database_url: str
) -> None:
    registry = KeyRegistry(own_pool, statement_seconds=0.5)
    with outage(engines, empty_database_url):
        assert await registry.learn("t", [a_lesson(team="core")]) == 0

    async def learns() -> bool:
        return await registry.learn("t", [a_lesson(minute=1, team="core")]) == 1

    await until(learns)
    await until_known(registry, KEY)
    await registry.close()
