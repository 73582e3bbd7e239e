"""The registry of price books on a real PostgreSQL: first start, new versions, late events, damage, outage."""

import asyncio
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from service.db.pools import PostgresPool, make_postgres_pool
from service.errors import Unavailable
from service.pricing import registry, repository
from service.pricing.price_book import PriceBook
from service.pricing.registry import PriceBooks
from service.pricing.repository import BEGINNING, SHARED, VersionRow, insert_first_version, list_versions
from service.pricing.shipped import shipped_snapshot
from service.settings import PostgresSettings
from tests.integration.pricing.book_versions import a_version, until
from tests.integration.pricing.conftest import make_tables
from tests.unit.pricing.builders import snapshot_of

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
TENANT = "t-1"

_CUT = """
SELECT pg_terminate_backend(pid) FROM pg_locks JOIN pg_database ON pg_database.oid = database
WHERE locktype = 'advisory' AND classid = %s AND datname = current_database()
"""


async def test_a_new_installation_gets_the_shipped_prices_since_ever(pool: PostgresPool, books: PriceBooks):
    shipped = PriceBook.from_snapshot(shipped_snapshot())
    assert books.at(TENANT, BEGINNING).version == shipped.version
    assert books.at(TENANT, NOW).find("gpt-4.1-mini") is not None
    async with pool.connection() as connection:
        assert await list_versions(connection) == [(SHARED, shipped.version, BEGINNING)]
        cursor = await connection.execute("SELECT imported_by, origin FROM price_book_version")
        assert await cursor.fetchone() == ("tallygate", shipped.origin)


async def test_many_first_starts_at_once_insert_one_first_book(pool: PostgresPool):
    snapshots = [snapshot_of({"m": {"input_cost_per_token": number}}) for number in range(8)]

    async def insert(snapshot: bytes) -> bool:
        async with pool.connection() as connection:
            return await insert_first_version(
                connection,
                version=PriceBook.from_snapshot(snapshot).version,
                origin="test",
                imported_by="test",
                snapshot=snapshot,
            )

    assert sum(await asyncio.gather(*map(insert, snapshots))) == 1
    async with pool.connection() as connection:
        assert len(await list_versions(connection)) == 1


async def test_a_second_start_leaves_the_operators_prices_alone(pool: PostgresPool, empty_database_url: str):
    version = await a_version(pool, BEGINNING)
    books = PriceBooks(pool)
    await books.start(empty_database_url)
    assert books.at(TENANT, NOW).version == version
    await books.close()


async def test_a_late_event_is_priced_by_the_book_in_force_at_its_time(pool: PostgresPool, books: PriceBooks):
    shipped = books.at(TENANT, NOW).version
    first = await a_version(pool, NOW - timedelta(days=2))
    second = await a_version(pool, NOW - timedelta(days=1))
    future = await a_version(pool, NOW + timedelta(days=1))
    await books.reload()
    assert [books.at(TENANT, NOW + timedelta(days=days)).version for days in (-3, -2, -1, 0, 1)] == [
        shipped,
        first,
        second,
        second,
        future,
    ]
    assert books.at(TENANT, NOW - timedelta(days=1, microseconds=1)).version == first


async def test_a_tenants_own_book_comes_before_the_installations(pool: PostgresPool, books: PriceBooks):
    shipped = books.at(TENANT, NOW).version
    own = await a_version(pool, NOW, tenant_id=TENANT)
    await books.reload()
    assert books.at(TENANT, NOW).version == own
    assert books.at(TENANT, NOW - timedelta(seconds=1)).version == shipped
    assert books.at("t-2", NOW).version == shipped


async def test_new_versions_are_followed_even_when_the_news_is_lost(pool: PostgresPool, empty_database_url: str):
    books = PriceBooks(pool, poll_seconds=0.02)
    await books.start(empty_database_url)
    snapshot = snapshot_of({"m": {"input_cost_per_token": 7}})
    version = PriceBook.from_snapshot(snapshot).version
    async with pool.connection() as connection:
        await connection.execute(repository._INSERT, [SHARED, version, NOW, "test", "test", "{}", snapshot])
    await until(lambda: books.at(TENANT, NOW).version == version)
    await books.close()


async def test_new_versions_are_heard_of_at_once(pool: PostgresPool, books: PriceBooks):
    version = await a_version(pool, NOW)
    await until(lambda: books.at(TENANT, NOW).version == version)


async def test_a_follower_whose_connection_is_cut_hears_of_what_came_meanwhile(pool: PostgresPool, books: PriceBooks):
    cut = 0
    async with pool.connection() as connection:
        while not cut:
            cursor = await connection.execute(_CUT, [repository._GENERATION_CLASS])
            cut = len(await cursor.fetchall())
    version = await a_version(pool, NOW)
    await until(lambda: books.at(TENANT, NOW).version == version)


async def test_imports_wait_for_a_process_from_its_first_moment_to_its_last(
    pool: PostgresPool, empty_database_url: str
):
    books = PriceBooks(pool)
    await books.start(empty_database_url)
    async with pool.connection() as connection:
        generation = await repository.read_generation(connection)
        assert not await repository.is_older_held(connection, generation)
        assert await repository.is_older_held(connection, generation + 1)
        await books.close()
        async with asyncio.timeout(10):
            while True:
                if not await repository.is_older_held(connection, generation + 1):
                    break


async def test_whoever_cannot_listen_still_asks(pool: PostgresPool):
    books = PriceBooks(pool)
    await books.start("postgresql://nobody@/nowhere?host=/nowhere")
    version = await a_version(pool, NOW)
    await until(lambda: books.at(TENANT, NOW).version == version)
    await books.close()


async def test_what_was_just_imported_is_ready_before_anybody_asks(pool: PostgresPool, books: PriceBooks):
    future = await a_version(pool, NOW + timedelta(days=1))
    past = await a_version(pool, NOW - timedelta(days=1))
    await books.reload()
    assert {future, past} <= books._books.keys()


async def test_of_two_versions_from_the_same_instant_the_one_imported_last_is_in_force(
    pool: PostgresPool, books: PriceBooks
):
    for rate in (1, 2, 3):
        last = await a_version(pool, NOW, input_cost_per_token=rate)
        await books.reload()
        assert books.at(TENANT, NOW).version == last


async def test_the_same_prices_can_come_into_force_again(pool: PostgresPool, books: PriceBooks):
    hour = timedelta(hours=1)
    first = await a_version(pool, NOW, input_cost_per_token=1)
    second = await a_version(pool, NOW + hour, input_cost_per_token=2)
    assert await a_version(pool, NOW + 2 * hour, input_cost_per_token=1) == first
    await books.reload()
    found = [books.at(TENANT, NOW + number * hour).version for number in range(3)]
    assert found == [first, second, first]
    assert books.at(TENANT, NOW) is books.at(TENANT, NOW + 2 * hour)


async def test_the_same_version_is_the_same_book_each_time(books: PriceBooks):
    assert books.at(TENANT, NOW) is books.at("t-2", BEGINNING)


async def test_old_books_are_let_go_and_come_back_when_asked_for(
    pool: PostgresPool, books: PriceBooks, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(registry, "_BOOKS_KEPT", 16)
    versions = [await a_version(pool, NOW + timedelta(days=day)) for day in range(20)]
    await books.reload()
    for _ in range(2):
        assert [books.at(TENANT, NOW + timedelta(days=day)).version for day in range(20)] == versions
    assert len(books._books) == 16


async def test_a_damaged_version_spoils_only_its_own_time(pool: PostgresPool, books: PriceBooks):
    shipped = books.at(TENANT, NOW).version
    await a_version(pool, NOW, damaged=True)
    await books.reload()
    with pytest.raises(Unavailable, match="cannot be read"):
        books.at(TENANT, NOW)
    assert books.at(TENANT, NOW - timedelta(seconds=1)).version == shipped


async def test_prices_that_are_not_those_of_their_version_are_refused(pool: PostgresPool, books: PriceBooks):
    async with pool.connection() as connection:
        snapshot = snapshot_of({"m": {"input_cost_per_token": 7}})
        row = VersionRow(SHARED, "sha256-0", NOW)
        await repository.add_version(connection, row, imported_by="test", origin="test", report={}, snapshot=snapshot)
    await books.reload()
    with pytest.raises(Unavailable, match="its prices are those of sha256-"):
        books.at(TENANT, NOW)


async def test_prices_are_unavailable_until_the_database_answers_and_then_stay_known(empty_database_url: str):
    # The table does not exist yet: as good as a database that is away.
    pool = make_postgres_pool(empty_database_url, PostgresSettings())
    await pool.open(wait=False)
    books = PriceBooks(pool, poll_seconds=0.02)
    await books.start(empty_database_url)
    with pytest.raises(Unavailable, match="not loaded yet"):
        books.at(TENANT, NOW)
    await make_tables(pool)
    await until(lambda: books._versions)
    version = books.at(TENANT, NOW).version
    async with pool.connection() as connection:
        await connection.execute("DROP TABLE price_book_version")
    with pytest.raises(psycopg.errors.UndefinedTable):
        await books.reload()
    assert books.at(TENANT, NOW).version == version
    await books.close()
    await pool.close()


async def test_closing_what_was_never_started_does_nothing(pool: PostgresPool):
    await PriceBooks(pool).close()
