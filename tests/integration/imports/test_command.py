"""`tallygate import litellm`: shows first, asks, writes what it has shown, and says so when there is nothing to do."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from service.db.pools import Pools, open_pools
from service.imports.commands import import_group
from service.settings import Settings
from tests import litellm_proxy
from tests.conftest import EngineUrls
from tests.litellm_source import LiteLLMDatabase, litellm_database


class _Opener:
    """The engines of this test session, opened for a command."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def pools(self) -> AbstractAsyncContextManager[Pools]:
        return open_pools(self._settings)


@pytest.fixture
def proxy(engines: EngineUrls) -> Iterator[LiteLLMDatabase]:
    with litellm_database(engines) as database:
        litellm_proxy.fill(database)
        yield database


@pytest.fixture
async def tenant(pools: Pools, tenant_id: str) -> str:
    async with pools.postgres.connection() as connection:
        await connection.execute("INSERT INTO tenant (tenant_id, name) VALUES (%s, 'test')", (tenant_id,))
    return tenant_id


async def run(settings: Settings, *options: str, answer: str | None = None) -> Result:
    command = ["litellm", *options]
    return await asyncio.to_thread(CliRunner().invoke, import_group, command, obj=_Opener(settings), input=answer)


async def test_it_shows_asks_and_writes_once(
    settings: Settings, proxy: LiteLLMDatabase, tenant: str, pools: Pools, tmp_path: Path
) -> None:
    config = str(litellm_proxy.write_config(tmp_path))
    options = [
        "--database-url",
        f"{proxy.url}{'&' if '?' in proxy.url else '?'}connection_limit=5&schema=public",
        "--config",
        config,
        "--tenant",
        tenant,
    ]
    shown = await run(settings, *options, "--dry-run")
    assert shown.exit_code == 0, shown.output
    assert "21 create" in shown.output
    assert "nothing was written" in shown.output
    declined = await run(settings, *options, answer="n\n")
    assert declined.exit_code == 0, declined.output
    async with pools.postgres.connection() as connection:
        cursor = await connection.execute("SELECT FROM budget WHERE tenant_id = %s", (tenant,))
        assert await cursor.fetchone() is None
    agreed = await run(settings, *options, answer="y\n")
    assert "keys declared: 5; budgets: 21 created; increases granted: 4" in agreed.output.replace("\n", " ")
    again = await run(settings, *options, "--yes")
    assert "nothing to do" in again.output


async def test_the_report_is_json_with_exact_amounts(
    settings: Settings, proxy: LiteLLMDatabase, tenant: str, tmp_path: Path
) -> None:
    config = str(litellm_proxy.write_config(tmp_path))
    result = await run(settings, "--database-url", proxy.url, "--config", config, "--tenant", tenant, "--json", "--yes")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    [line] = [line for line in report["lines"] if line["slug"] == "litellm-team-core"]
    assert (line["limit_usd"], line["litellm_usd"], line["starts_at_usd"]) == ("100", "40.5", "40.5")
    assert report["written"]["recorded_usd"] == "43.5"


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--database-url", "mysql://x/y"], "no address of a PostgreSQL database"),
        (["--database-url", "postgresql://u:hidden@127.0.0.1:1/x"], "cannot be opened"),
        (["--no-spend", "--since", "2026-01-01"], "not with --no-spend"),
        (["--json"], "--json asks nothing"),
        (["--since", "yesterday", "--dry-run"], "since"),
    ],
)
async def test_what_cannot_be_done_is_refused(
    settings: Settings, proxy: LiteLLMDatabase, tenant: str, options: list[str], told: str
) -> None:
    wanted = options if "--database-url" in options else ["--database-url", proxy.url, *options]
    result = await run(settings, *wanted, "--tenant", tenant)
    assert result.exit_code != 0
    assert told in f"{result.output} {result.exception}"
    assert "hidden" not in f"{result.output} {result.exception}"


async def test_a_tenant_there_is_not_is_refused(settings: Settings, proxy: LiteLLMDatabase) -> None:
    result = await run(settings, "--database-url", proxy.url, "--tenant", "nobody")
    assert "no tenant 'nobody'" in str(result.exception)


@pytest.mark.parametrize(
    "text", [b"budgets: " + b"[" * 100_000, b"a: {" * 50_000, b"\xff\xfe", b"a: [1", b"- 1\n---\n- 2"]
)
async def test_a_configuration_that_is_no_yaml_of_one_is_refused(
    settings: Settings, proxy: LiteLLMDatabase, tenant: str, tmp_path: Path, text: bytes
) -> None:
    config = tmp_path / "config.yaml"
    config.write_bytes(text)
    options = ("--database-url", proxy.url, "--config", str(config), "--tenant", tenant, "--dry-run")
    result = await run(settings, *options)
    assert (result.exit_code, "cannot be read" in result.output) == (1, True), result.output
