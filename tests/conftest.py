"""Resources of the tests: real engines, started once; a migrated database of one's own; a fresh tenant per test.

Embedded engines unless TALLYGATE_TEST_DATABASE_URL / TALLYGATE_TEST_REDIS_URL name others: then a database is made
there and dropped afterwards, and a logical Redis database is used that is emptied afterwards.
"""

import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis
from sqlalchemy import make_url

from service.db import migrator
from service.db.embedded import EmbeddedEngines, EngineUrls
from service.db.pools import Pools, open_pools
from service.kit.ids import new_id
from service.settings import Settings

_EXTERNAL = EngineUrls(os.environ.get("TALLYGATE_TEST_DATABASE_URL"), os.environ.get("TALLYGATE_TEST_REDIS_URL"))
_FIRST_LOGICAL_DATABASE = 8

for _name in [name for name in os.environ if name.startswith("TALLYGATE_") and not name.startswith("TALLYGATE_TEST_")]:
    del os.environ[_name]  # the settings of whoever runs the tests are not under test


@contextmanager
def _running_engines() -> Iterator[EngineUrls]:
    directory = Path(tempfile.mkdtemp(prefix="tg-test-"))
    directory.chmod(0o711)  # the engines may run as another account
    needs_postgres, needs_valkey = _EXTERNAL.database_url is None, _EXTERNAL.redis_url is None
    try:
        with EmbeddedEngines(
            directory, with_postgres=needs_postgres, with_valkey=needs_valkey, durable=False
        ) as embedded:
            yield EngineUrls(
                _EXTERNAL.database_url or embedded.urls.database_url, _EXTERNAL.redis_url or embedded.urls.redis_url
            )
    finally:
        shutil.rmtree(directory, ignore_errors=True)


class _SharedEngines:
    """With pytest-xdist the controller starts the engines, before its first worker, and tells the workers."""

    def __init__(self) -> None:
        self._running: Any = None
        self._urls: EngineUrls | None = None

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        if self._urls is None:
            self._running = _running_engines()
            self._urls = self._running.__enter__()
        node.workerinput["engine_urls"] = (self._urls.database_url, self._urls.redis_url)

    def pytest_unconfigure(self) -> None:
        if self._running is not None:
            self._running.__exit__(None, None, None)


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(_SharedEngines(), "tallygate-shared-engines")


@pytest.fixture(scope="session")
def engines(request: pytest.FixtureRequest) -> Iterator[EngineUrls]:
    """Addresses of the engines of this test session."""
    shared = getattr(request.config, "workerinput", {}).get("engine_urls")
    if shared is not None:
        yield EngineUrls(*shared)
        return
    with _running_engines() as urls:
        yield urls


@pytest.fixture(scope="session")
def database_url(engines: EngineUrls) -> Iterator[str]:
    """A database of this worker's own, migrated to head."""
    with fresh_database(engines) as url:
        migrator.upgrade(url)
        yield url


@pytest.fixture
def empty_database_url(engines: EngineUrls) -> Iterator[str]:
    """A database of this test's own, never migrated."""
    with fresh_database(engines) as url:
        yield url


@contextmanager
def fresh_database(engines: EngineUrls) -> Iterator[str]:
    assert engines.database_url is not None
    name = f"tallygate_test_{new_id().hex}"
    server = make_url(engines.database_url)
    with psycopg.connect(engines.database_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE template0")
    try:
        yield server.set(database=name).render_as_string(hide_password=False)
    finally:
        with psycopg.connect(engines.database_url, autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="session")
def redis_url(engines: EngineUrls, worker_id: str) -> Iterator[str]:
    """A logical Redis database of this worker's own, emptied afterwards."""
    assert engines.redis_url is not None
    number = _FIRST_LOGICAL_DATABASE + int(worker_id.removeprefix("gw") if worker_id != "master" else 0)
    url = f"{engines.redis_url.rstrip('/')}{'?' if engines.redis_url.startswith('unix:') else '/?'}db={number}"
    yield url
    with redis.Redis.from_url(url) as client:
        client.flushdb()


@pytest.fixture(scope="session")
def settings(database_url: str, redis_url: str) -> Settings:
    """Default settings with the addresses of this session's engines."""
    return Settings().with_engines(database_url=database_url, redis_url=redis_url)


@pytest.fixture(scope="session")
async def pools(settings: Settings) -> AsyncIterator[Pools]:
    """Open pools on this session's engines."""
    async with open_pools(settings) as opened:
        yield opened


@pytest.fixture
def tenant_id() -> str:
    """A tenant nobody else uses: isolation without cleaning up."""
    return f"t-{new_id().hex}"
