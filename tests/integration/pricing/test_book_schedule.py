"""The import by schedule: by one process of many, never past the guard, and going on whatever happens."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from service.db.pools import PostgresPool
from service.pricing import repository
from service.pricing.book_import import IMPORTS, PriceBookImporter
from service.pricing.book_schedule import SCHEDULE, ScheduledImport
from service.pricing.map_download import MapDownloader
from service.pricing.registry import PriceBooks
from service.pricing.repository import BEGINNING, SHARED, ImportRow
from service.settings import PricesSettings
from tests.integration.pricing.book_versions import a_version, until
from tests.map_server import MapServer, answer

MAP = json.dumps({"m": {"input_cost_per_token": 1}}).encode()
QUICK = 0.01


async def nothing_served(_: str | None) -> frozenset[str]:
    return frozenset()


@pytest.fixture
def server() -> Iterator[MapServer]:
    with MapServer().running() as running:
        running.answers["/map?token=secret"] = answer(MAP)
        yield running


class Processes:
    """Processes of one installation, each with a schedule."""

    def __init__(self, pool: PostgresPool, books: PriceBooks, server: MapServer, database_url: str) -> None:
        self._importer = PriceBookImporter(pool, find_served=nothing_served, reload=books.reload)
        self._url = f"{server.url}/map?token=secret"
        self._database_url = database_url
        self._pool = pool
        self.running: list[ScheduledImport] = []

    def start(self, interval_seconds: float = QUICK) -> ScheduledImport:
        schedule = ScheduledImport(
            self._importer,
            MapDownloader(PricesSettings(allow_private_addresses=True)),
            url=self._url,
            interval_seconds=interval_seconds,
            look_seconds=QUICK,
        )
        schedule.start(self._database_url)
        self.running.append(schedule)
        return schedule

    async def imports(self) -> list[ImportRow]:
        async with self._pool.connection() as connection:
            found = await repository.list_imports(connection, [SHARED], limit=100)
        return [row for row in found if row.effective_from != BEGINNING]

    async def cut_leader(self) -> None:
        async with self._pool.connection() as connection:
            await connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_locks JOIN pg_database ON pg_database.oid = database"
                " WHERE locktype = 'advisory' AND datname = current_database() AND objid::bigint = %s AND objsubid = 1",
                [repository._LEAD_LOCK & 0xFFFF_FFFF],
            )


@pytest.fixture
async def processes(
    pool: PostgresPool, books: PriceBooks, server: MapServer, empty_database_url: str
) -> AsyncIterator[Processes]:
    await a_version(pool, BEGINNING, input_cost_per_token=0.5)
    made = Processes(pool, books, server, empty_database_url)
    yield made
    for schedule in made.running:
        await schedule.close()


def counted(outcome: str) -> float:
    return IMPORTS.labels(outcome)._value.get()


async def test_a_map_is_imported_once_and_looked_at_again_and_again(processes: Processes, server: MapServer):
    unchanged = counted("unchanged")
    processes.start()
    await until(lambda: len(server.asked) >= 4)
    await until(lambda: counted("unchanged") >= unchanged + 2)
    [row] = await processes.imports()
    assert (row.imported_by, row.origin) == (SCHEDULE, f"{server.url}/map")


async def test_of_many_processes_one_downloads(processes: Processes, server: MapServer):
    for _ in range(5):
        processes.start(interval_seconds=3600)
    await until(lambda: server.asked)
    imported = asyncio.create_task(_has_imports(processes, 1))
    await asyncio.wait_for(imported, 10)
    # Each of the others has asked for the lead meanwhile.
    for _ in range(50):
        await processes.imports()
    assert len(server.asked) == 1


async def test_when_the_leader_is_gone_another_process_goes_on(processes: Processes, server: MapServer):
    leader = processes.start(interval_seconds=3600)
    await until(lambda: len(server.asked) == 1)
    processes.start(interval_seconds=3600)
    await leader.close()
    await until(lambda: len(server.asked) == 2)


async def test_a_leader_whose_connection_is_cut_stands_again(processes: Processes, server: MapServer):
    processes.start(interval_seconds=3600)
    await until(lambda: len(server.asked) == 1)
    await processes.cut_leader()
    await until(lambda: len(server.asked) == 2)


async def test_after_an_error_nobody_foresaw_the_schedule_goes_on(
    processes: Processes, monkeypatch: pytest.MonkeyPatch
):
    fetch, failures = MapDownloader.fetch, []

    async def fail_first(downloader: MapDownloader, url: str) -> str:
        if not failures:
            failures.append(url)
            raise RuntimeError("nobody foresaw this")
        return await fetch(downloader, url)

    monkeypatch.setattr(MapDownloader, "fetch", fail_first)
    processes.start(interval_seconds=3600)
    await asyncio.wait_for(_has_imports(processes, 1), 10)
    assert failures


async def test_what_the_guard_objects_to_is_left_to_an_operator(processes: Processes, server: MapServer):
    server.answers["/map?token=secret"] = answer(b'{"m": {"input_cost_per_token": 0}}')
    refused = counted("refused")
    with capture_logs() as lines:
        processes.start()
        await until(lambda: counted("refused") > refused)
    assert await processes.imports() == []
    [line] = [line for line in lines if line["event"] == "price_schedule_failed"][:1]
    assert (line["code"], line["log_level"]) == ("price_book_not_accepted", "error")
    assert "secret" not in str(line)


@pytest.mark.parametrize(
    "bad", [answer(b"", status=500), answer(b"<html>"), answer(b"{}")], ids=["error", "page", "empty map"]
)
async def test_after_a_bad_answer_the_next_time_comes(processes: Processes, server: MapServer, bad: Any):
    server.answers["/map?token=secret"] = bad
    processes.start()
    await until(lambda: len(server.asked) >= 2)
    assert await processes.imports() == []
    server.answers["/map?token=secret"] = answer(MAP)
    await asyncio.wait_for(_has_imports(processes, 1), 10)


async def _has_imports(processes: Processes, number: int) -> None:
    while True:
        if len(await processes.imports()) >= number:
            return
        await asyncio.sleep(QUICK)
