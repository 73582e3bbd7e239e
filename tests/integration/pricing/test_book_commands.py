"""`tallygate prices import|diff|list|show` on a real database."""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from service.access.service import TenantService
from service.cli import prices
from service.db import migrator
from service.db.pools import PostgresPool, make_postgres_pool
from service.pricing.book_commands import OpenPool
from service.pricing.registry import PriceBooks
from service.pricing.repository import BEGINNING, VersionRow, list_versions
from service.settings import PostgresSettings
from tests.map_server import MapServer, answer

Run = Callable[..., Result]
PRICE = {"input_cost_per_token": 0.000001}
MODELS = {f"m{number}": PRICE for number in range(10)}


@pytest.fixture
def open_pool(empty_database_url: str) -> OpenPool:
    migrator.upgrade(empty_database_url)

    @asynccontextmanager
    async def opened() -> AsyncIterator[PostgresPool]:
        async with make_postgres_pool(empty_database_url, PostgresSettings(pool_min_connections=1)) as pool:
            yield pool

    return opened


@pytest.fixture
def run(open_pool: OpenPool, tmp_path: Path) -> Run:
    """Runs `prices …`; a dict among the arguments becomes a file that holds it."""

    def invoke(*arguments: Any, typed: str = "", **environment: str) -> Result:
        texts = [_as_file(tmp_path, each) if isinstance(each, dict) else str(each) for each in arguments]
        environment = {"COLUMNS": "200"} | environment
        return CliRunner().invoke(prices, texts, obj=open_pool, input=typed, env=environment)

    assert invoke("import", MODELS, "--effective-from", "1970-01-01", "--yes").exit_code == 0
    return invoke


def _as_file(directory: Path, document: dict[str, Any]) -> str:
    path = directory / f"map-{len(list(directory.iterdir()))}.json"
    path.write_text(json.dumps(document))
    return str(path)


def versions(open_pool: OpenPool) -> list[VersionRow]:
    async def read() -> list[VersionRow]:
        async with open_pool() as pool, pool.connection() as connection:
            return [row for row in await list_versions(connection) if row.effective_from != BEGINNING]

    return asyncio.run(read())


def flat(result: Result) -> str:
    return " ".join(result.output.split())


def test_an_import_shows_what_it_changes_and_asks(run: Run, open_pool: OpenPool) -> None:
    changed = MODELS | {"m1": {"input_cost_per_token": 0.000002}, "new": PRICE}
    refused = run("import", changed, typed="n\n")
    assert refused.exit_code == 1
    for told in ("1 models added, 0 removed, 1 changed", "m1 input_cost_per_token 0.000001 0.000002 +100 %", "Aborted"):
        assert told in flat(refused)
    assert versions(open_pool) == []
    done = run("import", changed, typed="y\n")
    assert (done.exit_code, len(versions(open_pool))) == (0, 1)
    assert f"imported: {versions(open_pool)[0].version} is in force from" in flat(done)


def test_a_dry_run_asks_nothing_and_stores_nothing(run: Run, open_pool: OpenPool) -> None:
    shown = run("import", {"m1": PRICE}, "--dry-run")
    assert shown.exit_code == 0
    assert "not accepted unasked: 9 of 10 models with a price would have none" in flat(shown)
    assert versions(open_pool) == []


def test_what_the_guard_objects_to_is_not_imported_by_yes_alone(run: Run, open_pool: OpenPool) -> None:
    refused = run("import", {"m1": PRICE}, "--yes")
    assert refused.exit_code == 1
    version = flat(refused).rpartition("--accept ")[2]
    assert versions(open_pool) == []
    assert run("import", {"m2": PRICE}, "--accept", version).exit_code == 1
    assert run("import", {"m1": PRICE}, "--accept", version).exit_code == 0
    assert [row.version for row in versions(open_pool)] == [version]


def test_it_may_be_accepted_by_hand(run: Run, open_pool: OpenPool) -> None:
    assert run("import", {"m1": PRICE}, typed="\n").exit_code == 1
    assert run("import", {"m1": PRICE}, typed="y\n").exit_code == 0
    assert len(versions(open_pool)) == 1


def test_the_same_map_again_is_nothing_to_do(run: Run) -> None:
    again = run("import", MODELS, "--yes")
    assert again.exit_code == 0
    assert "in force already: nothing to do" in flat(again)


def test_a_map_for_a_tenant_and_for_the_past(run: Run, open_pool: OpenPool) -> None:
    async def create() -> None:
        async with open_pool() as pool:
            await TenantService(pool).create("acme", None)

    assert "no tenant 'acme'" in run("import", MODELS, "--yes", "--tenant", "acme").output
    asyncio.run(create())
    done = run("import", MODELS, "--yes", "--tenant", "acme", "--effective-from", "2026-11-01")
    assert done.exit_code == 0
    assert "calls from 2026-11-01T00:00:00+00:00 to " in flat(done)
    assert [(row.tenant_id, row.effective_from.isoformat()) for row in versions(open_pool)] == [
        ("acme", "2026-11-01T00:00:00+00:00")
    ]


@pytest.mark.parametrize("start", ["yesterday", "2026-11-01T00:00:00", "1969-01-01"])
def test_an_instant_that_is_none_is_refused(run: Run, start: str) -> None:
    refused = run("import", MODELS, "--effective-from", start)
    assert refused.exit_code == 1
    assert "effective_from must be an RFC 3339 time" in flat(refused)


def test_a_compressed_map_and_a_snapshot_are_the_same_book(run: Run, tmp_path: Path) -> None:
    packed, snapshot = tmp_path / "packed.gz", tmp_path / "snapshot.gz"
    packed.write_bytes(gzip.compress(json.dumps(MODELS).encode()))
    assert run("snapshot", MODELS, "-o", snapshot).exit_code == 0
    for source in (packed, snapshot):
        assert "nothing to do" in flat(run("import", source, "--yes"))


def test_a_map_is_imported_from_an_address(run: Run, open_pool: OpenPool) -> None:
    with MapServer().running() as server:
        server.answers["/map?token=secret"] = answer(json.dumps(MODELS | {"new": PRICE}).encode())
        url = f"{server.url}/map?token=secret"
        assert "TALLYGATE_PRICES_ALLOW_PRIVATE_ADDRESSES" in run("import", url, "--yes").output
        done = run("import", url, "--yes", TALLYGATE_PRICES_ALLOW_PRIVATE_ADDRESSES="true")
    assert done.exit_code == 0
    listed = run("list").output
    assert f"{server.url}/map" in listed
    assert "secret" not in listed + done.output


@pytest.mark.parametrize("source", ["/nowhere/map.json", "https://127.0.0.1/map"])
def test_what_cannot_be_read_is_said(run: Run, source: str) -> None:
    refused = run("import", source, "--yes")
    assert refused.exit_code == 1
    assert refused.output.startswith("Error: ")


def test_the_list_tells_what_is_in_force(run: Run, open_pool: OpenPool) -> None:
    run("import", MODELS | {"new": PRICE}, "--yes")
    assert "between 1970 and ten years from now" in flat(
        run("import", MODELS | {"newer": PRICE}, "--yes", "--effective-from", "2100-01-01")
    )
    run("import", MODELS | {"newer": PRICE}, "--yes", "--effective-from", "2030-01-01")
    lines = run("list").output.splitlines()
    now = next(row.version for row in versions(open_pool) if row.effective_from.year < 2030)
    assert [line.split()[1] for line in lines if line.startswith("*") and "sha256" in line] == [now]
    assert sum("command line" in line for line in lines) == 3


def test_a_version_is_listed_in_one_piece_on_a_narrow_terminal(run: Run, open_pool: OpenPool) -> None:
    run("import", MODELS | {"new": PRICE}, "--yes")
    [row] = versions(open_pool)
    assert row.version in run("list", COLUMNS="80").output


def test_books_are_compared_as_files_and_as_versions(run: Run, open_pool: OpenPool) -> None:
    changed = MODELS | {"m1": {"input_cost_per_token": 0}}
    run("import", changed, "--yes")
    [row] = versions(open_pool)
    for old, new in ((MODELS, changed), (MODELS, row.version)):
        shown = run("diff", old, new)
        assert shown.exit_code == 0
        assert "1 changed, 9 as before" in flat(shown)
        assert "price_became_zero: 0.000001 -> 0" in flat(shown)
    assert "There is no price book sha256-0" in run("diff", "sha256-0", MODELS).output
    assert "Error" in run("diff", {"m": {"input_cost_per_token": -1}}, MODELS).output


def test_a_book_imported_here_prices_in_every_server(run: Run, open_pool: OpenPool) -> None:
    async def version_in_force() -> str:
        async with open_pool() as pool:
            books = PriceBooks(pool)
            await books.reload()
            return books.row_at("default", BEGINNING).version

    before = asyncio.run(version_in_force())
    done = run("import", MODELS | {"new": PRICE}, "--yes", "--effective-from", "1970-01-01")
    assert done.exit_code == 0
    assert asyncio.run(version_in_force()) != before
    assert versions(open_pool) == []


def shown_usd(run: Run, *options: str) -> str:
    shown = run("show", "m1", "--json", *options)
    assert shown.exit_code == 0, shown.output
    usd: str = json.loads(shown.output)["rates"][0]["usd"]
    return usd


def test_a_price_is_shown_from_the_book_in_force(run: Run, open_pool: OpenPool) -> None:
    async def create() -> None:
        async with open_pool() as pool:
            await TenantService(pool).create("acme", None)

    asyncio.run(create())
    own, later = ({"m1": {"input_cost_per_token": usd}} for usd in (0.000003, 0.000002))
    assert run("import", MODELS | later, "--yes", "--effective-from", "2026-11-01").exit_code == 0
    assert run("import", MODELS | own, "--yes", "--effective-from", "2026-11-01", "--tenant", "acme").exit_code == 0
    assert shown_usd(run) == "0.000002"
    assert shown_usd(run, "--at", "2026-10-31") == shown_usd(run, "--at", "2026-10-31", "--tenant", "acme")
    assert shown_usd(run, "--at", "2026-10-31") == "0.000001"
    assert shown_usd(run, "--tenant", "acme") == "0.000003"
    assert "no price under 'gpt-5.4'" in run("show", "gpt-5.4").output


def test_what_book_cannot_be_shown_is_said(run: Run) -> None:
    assert "no tenant 'acme'" in run("show", "m1", "--tenant", "acme").output
    assert "at must be an RFC 3339 time" in flat(run("show", "m1", "--at", "yesterday"))


def test_a_database_without_a_book_says_how_to_get_one(open_pool: OpenPool) -> None:
    shown = CliRunner().invoke(prices, ["show", "m1"], obj=open_pool)
    assert shown.exit_code == 1
    assert "`tallygate prices import` another; --book shows a snapshot file" in flat(shown)


def test_a_database_that_cannot_be_reached_is_said_with_the_way_around() -> None:
    @asynccontextmanager
    async def opened() -> AsyncIterator[PostgresPool]:
        pool = make_postgres_pool("postgresql://nobody@127.0.0.1:1/x", PostgresSettings(pool_wait_ms=100))
        async with pool:
            yield pool

    shown = CliRunner().invoke(prices, ["show", "m1"], obj=opened)
    assert shown.exit_code == 1
    assert "The database cannot be reached at the moment. --book shows a snapshot file" in flat(shown)
