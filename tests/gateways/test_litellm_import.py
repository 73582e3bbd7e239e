"""The import, from a database made by the migrations of the LiteLLM that is installed beside."""

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from service.db.pools import Pools
from tests import litellm_proxy
from tests.conftest import EngineUrls, fresh_database
from tests.gateways.conftest import require
from tests.gateways.litellm_proxy import PLACE
from tests.importing import run_import
from tests.litellm_source import TABLES, LiteLLMDatabase

_COLUMNS = """
SELECT table_name, column_name, data_type, is_nullable, column_default FROM information_schema.columns
WHERE table_schema = 'public' AND table_name LIKE 'LiteLLM_%'
"""


def migrations() -> list[Path]:
    return sorted(PLACE.glob("lib/python3*/site-packages/litellm_proxy_extras/migrations/*/migration.sql"))


@pytest.fixture
def database(engines: EngineUrls) -> Iterator[LiteLLMDatabase]:
    require("litellm", migrations())
    assert migrations(), "LiteLLM is not installed: `make test-gateways` does it"
    with fresh_database(engines) as url:
        with psycopg.connect(url, autocommit=True) as connection:
            for migration in migrations():
                connection.execute(migration.read_text())
        yield LiteLLMDatabase(url)


def columns_of(url: str) -> set[tuple[object, ...]]:
    with psycopg.connect(url) as connection:
        return set(connection.execute(_COLUMNS).fetchall())


async def test_a_proxy_of_the_installed_version_is_imported_whole(
    database: LiteLLMDatabase, pools: Pools, tenant_id: str
) -> None:
    async with pools.postgres.connection() as connection:
        await connection.execute("INSERT INTO tenant (tenant_id, name) VALUES (%s, 'test')", (tenant_id,))
    litellm_proxy.fill(database)
    result = await run_import(pools, tenant_id, database.url, config=litellm_proxy.CONFIG)
    assert result.details("source") == []
    assert result.outcome.budgets["create"] == 21
    assert str(result.outcome.recorded_usd) == "43.50"


def test_the_tables_other_tests_use_are_those_of_the_installed_version(
    database: LiteLLMDatabase, engines: EngineUrls
) -> None:
    with fresh_database(engines) as url:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(TABLES.read_text())
        ours = columns_of(url)
    names = {table for table, *_ in ours}
    assert {column for column in columns_of(database.url) if column[0] in names} == ours
