"""Postgres is away: connections are really refused and cut by the server."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from service.access import repository
from service.access.directory import CallerDirectory
from service.access.service import TokenService
from service.access.tokens import TokenTerms, token_digest
from service.db import migrator
from service.db.embedded import EngineUrls
from service.db.pools import PostgresPool, make_postgres_pool
from service.errors import Unauthenticated, Unavailable
from service.settings import PostgresSettings
from tests.integration.access.conftest import Clock


@pytest.fixture
async def own_pool(empty_database_url: str) -> AsyncIterator[PostgresPool]:
    migrator.upgrade(empty_database_url)
    pool = make_postgres_pool(empty_database_url, PostgresSettings(pool_min_connections=1, pool_max_connections=3))
    await pool.open()
    yield pool
    await pool.close()


@pytest.fixture
async def digest(own_pool: PostgresPool) -> str:
    async with own_pool.connection() as connection:
        await repository.insert_tenant(connection, "t", "t")
    terms = TokenTerms(name="gateway", roles=("check", "ingest"))
    return token_digest((await TokenService(own_pool).create("t", terms, None)).text)


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


async def until_answered(directory: CallerDirectory, digest: str) -> None:
    """The pool looks for the server less and less often while it is away."""
    async with asyncio.timeout(20):
        while True:
            with suppress(Unavailable):
                assert (await directory.get_caller(digest)).name == "gateway"
                return


async def test_known_callers_go_on_checking_for_fifteen_minutes_and_do_nothing_else(
    own_pool: PostgresPool, digest: str, engines: EngineUrls, empty_database_url: str, clock: Clock
) -> None:
    directory = CallerDirectory(own_pool, clock=clock, statement_seconds=0.5)
    await directory.get_caller(digest)
    with outage(engines, empty_database_url):
        clock.now += 6.0
        with pytest.raises(Unavailable):
            await directory.get_caller(digest)
        assert (await directory.get_caller(digest, survives_outage=True)).name == "gateway"
        clock.now += 893.0
        assert (await directory.get_caller(digest, survives_outage=True)).name == "gateway"
        clock.now += 2.0
        with pytest.raises(Unavailable):
            await directory.get_caller(digest, survives_outage=True)
    await until_answered(directory, digest)
    await directory.close()


async def test_a_token_nobody_knew_before_an_outage_is_answered_unavailable_and_not_invalid(
    own_pool: PostgresPool, digest: str, engines: EngineUrls, empty_database_url: str, clock: Clock
) -> None:
    directory = CallerDirectory(own_pool, clock=clock, statement_seconds=0.5)
    with outage(engines, empty_database_url), pytest.raises(Unavailable):
        await directory.get_caller(digest, survives_outage=True)
    await until_answered(directory, digest)
    await directory.close()


async def test_a_revocation_heard_before_an_outage_is_not_forgotten_in_it(
    own_pool: PostgresPool, digest: str, engines: EngineUrls, empty_database_url: str, clock: Clock
) -> None:
    directory = CallerDirectory(own_pool, clock=clock, statement_seconds=0.5)
    await directory.get_caller(digest)
    directory.forget(digest)
    with outage(engines, empty_database_url), pytest.raises(Unavailable):
        await directory.get_caller(digest, survives_outage=True)
    await directory.close()


async def test_an_expired_token_does_not_survive_in_an_outage(
    own_pool: PostgresPool, digest: str, engines: EngineUrls, empty_database_url: str, clock: Clock
) -> None:
    async with own_pool.connection() as connection:
        await connection.execute("UPDATE access_token SET expires_at = now() + interval '60 s'")
    directory = CallerDirectory(own_pool, clock=clock, statement_seconds=0.5)
    await directory.get_caller(digest)
    with outage(engines, empty_database_url):
        clock.now += 61.0
        with pytest.raises(Unauthenticated) as refused:
            await directory.get_caller(digest, survives_outage=True)
        assert refused.value.code == "token_expired"
    await directory.close()
