"""Imports on a real PostgreSQL: what comes into force and when, what is refused, and who knows of it."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from service.db.pools import PostgresPool
from service.errors import InvalidInput, StateConflict
from service.pricing import repository
from service.pricing.book_import import ImportAnswer, ImportOrder, PriceBookImporter
from service.pricing.registry import PriceBooks
from service.pricing.repository import BEGINNING, SHARED
from tests.integration.pricing.book_versions import a_version

TENANT = "t-1"
HOUR = timedelta(hours=1)


async def nothing_served(_: str | None) -> frozenset[str]:
    return frozenset()


def a_map(rate: Any = 1, **models: Any) -> bytes:
    return json.dumps({"m": {"input_cost_per_token": rate}, **models}).encode()


class World:
    """An importer of one process, and what the database holds."""

    def __init__(self, pool: PostgresPool, books: PriceBooks) -> None:
        self.pool = pool
        self.books = books
        self.importer = self.another_importer(books)

    def another_importer(self, books: PriceBooks, **options: Any) -> PriceBookImporter:
        return PriceBookImporter(self.pool, **{"find_served": nothing_served, "reload": books.reload} | options)

    async def run(self, text: bytes, importer: PriceBookImporter | None = None, **order: Any) -> ImportAnswer:
        terms: dict[str, Any] = {"tenant_id": SHARED, "imported_by": "test"} | order
        return await (importer or self.importer).run(ImportOrder(**terms), text, "here")

    async def rows(self) -> list[tuple[Any, ...]]:
        async with self.pool.connection() as connection:
            return [row for row in await repository.list_versions(connection) if row.effective_from != BEGINNING]

    async def audit(self) -> list[tuple[Any, ...]]:
        async with self.pool.connection() as connection:
            cursor = await connection.execute(
                "SELECT tenant_id, changed_by, action, subject_id, before, after FROM audit_entry ORDER BY entry_id"
            )
            return await cursor.fetchall()

    async def now(self) -> datetime:
        async with self.pool.connection() as connection:
            return await repository.read_clock(connection)


@pytest.fixture
async def world(pool: PostgresPool, books: PriceBooks) -> World:
    """The shipped prices are replaced since ever: a map of one model would lose all of them."""
    await a_version(pool, BEGINNING, input_cost_per_token=0.5)
    await books.reload()
    return World(pool, books)


async def test_an_imported_map_prices_calls_from_now_on(world: World):
    before = await world.now()
    former = world.books.at(TENANT, before).version
    answer = await world.run(a_map())
    version, start = answer.comparison.candidate.version, answer.comparison.effective_from
    assert (answer.outcome, answer.is_known_everywhere) == ("imported", True)
    assert before < start <= await world.now()
    assert await world.rows() == [(SHARED, version, start)]
    assert world.books.at(TENANT, start).version == version
    assert world.books.at(TENANT, start - timedelta(microseconds=1)).version == former
    assert answer.report.compared_with == former
    assert answer.imported_at is not None
    assert answer.repriceable_range == (start, answer.imported_at)


async def test_the_import_is_in_the_audit_trail(world: World):
    former = world.books.at(TENANT, BEGINNING).version
    answer = await world.run(a_map(), imported_by="ada (1)", tenant_id=TENANT)
    version = answer.comparison.candidate.version
    [(tenant_id, changed_by, action, subject_id, before, after)] = await world.audit()
    assert (tenant_id, changed_by, action, subject_id) == (TENANT, "ada (1)", "price_book.imported", version)
    assert before["version"] == former
    assert (after["version"], after["origin"], after["models_changed"]) == (version, "here", 1)


async def test_a_dry_run_tells_the_same_and_stores_nothing(world: World):
    compared = await world.run(a_map(), is_dry_run=True)
    assert (compared.outcome, compared.repriceable_range, await world.rows()) == ("compared", None, [])
    imported = await world.run(a_map(), accept=compared.comparison.candidate.version)
    assert imported.report == compared.report
    assert len(await world.audit()) == 1


async def test_the_same_map_again_changes_nothing(world: World):
    first = await world.run(a_map())
    again = await world.run(a_map())
    assert (again.outcome, again.imported_at) == ("unchanged", None)
    assert again.report.unchanged_models == 1
    assert await world.rows() == [(SHARED, first.comparison.candidate.version, first.comparison.effective_from)]
    assert len(await world.audit()) == 1


async def test_a_tenant_may_make_the_installations_prices_its_own(world: World):
    await world.run(a_map())
    own = await world.run(a_map(), tenant_id=TENANT)
    assert own.outcome == "imported"
    await world.run(a_map(2))
    now = await world.now()
    assert world.books.at(TENANT, now).version == own.comparison.candidate.version
    assert world.books.at("t-2", now).version != own.comparison.candidate.version
    next_own = await world.run(a_map(3), tenant_id=TENANT)
    assert next_own.report.compared_with == own.comparison.candidate.version


async def test_a_map_for_the_past_prices_until_the_next_one_and_offers_that_range(world: World):
    now = await world.now()
    await world.run(a_map(3), effective_from=now - HOUR)
    answer = await world.run(a_map(2), effective_from=now - 3 * HOUR)
    assert answer.comparison.effective_to == now - HOUR
    assert answer.repriceable_range == (now - 3 * HOUR, now - HOUR)
    version = answer.comparison.candidate.version
    found = [world.books.at(TENANT, now - number * HOUR).version == version for number in (4, 3, 2, 1)]
    assert found == [False, True, True, False]


async def test_a_map_for_the_future_offers_nothing_and_prices_from_then_on(world: World):
    start = await world.now() + HOUR
    answer = await world.run(a_map(), effective_from=start)
    assert answer.repriceable_range is None
    version = answer.comparison.candidate.version
    assert world.books.at(TENANT, start).version == version
    assert world.books.at(TENANT, start - timedelta(microseconds=1)).version != version


@pytest.mark.parametrize(
    "start", [datetime(1969, 12, 31, tzinfo=UTC), datetime(2199, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)]
)
async def test_no_book_comes_into_force_before_all_time_or_after_us(world: World, start: datetime):
    with pytest.raises(InvalidInput) as refused:
        await world.run(a_map(), effective_from=start)
    assert (refused.value.code, refused.value.field) == ("invalid_time", "effective_from")


async def test_prices_replaced_at_the_very_instant_come_back_an_instant_later(world: World):
    start = await world.now()
    await world.run(a_map(2), effective_from=start)
    last = await world.run(a_map(3), effective_from=start)
    assert world.books.at(TENANT, start).version == last.comparison.candidate.version
    with pytest.raises(StateConflict) as refused:
        await world.run(a_map(2), effective_from=start)
    assert refused.value.code == "price_book_replaced"
    assert (start + timedelta(microseconds=1)).isoformat() in refused.value.detail
    assert (await world.run(a_map(2), effective_from=start + timedelta(microseconds=1))).outcome == "imported"


async def test_a_map_that_loses_the_prices_comes_into_force_only_by_its_version(world: World):
    with pytest.raises(StateConflict, match="1 of 1 models with a price would have none") as refused:
        await world.run(a_map(0))
    assert refused.value.code == "price_book_not_accepted"
    assert await world.rows() == []
    compared = await world.run(a_map(0), is_dry_run=True)
    assert [objection.code for objection in compared.comparison.objections] == ["prices_gone"]
    with pytest.raises(StateConflict) as refused:
        await world.run(a_map(0), accept="sha256-0")
    assert refused.value.code == "price_book_differs"
    accepted = await world.run(a_map(0), accept=compared.comparison.candidate.version)
    assert accepted.outcome == "imported"
    [(*_, after)] = await world.audit()
    assert after["objections"] == ["1 of 1 models with a price would have none"]


@pytest.mark.parametrize("text", [b"", b"{}", b"<html>", b'{"m": {"input_cost_per_token": -1}}', b'{"m": 1}'])
async def test_what_is_no_map_is_refused_whatever_is_accepted(world: World, text: bytes):
    with pytest.raises(InvalidInput) as refused:
        await world.run(text, accept="sha256-0")
    assert refused.value.code == "invalid_cost_map"


async def test_removed_models_that_were_used_lately_are_warned_of(world: World):
    asked = []

    async def served(tenant_id: str | None) -> frozenset[str]:
        asked.append(tenant_id)
        return frozenset({"m"})

    importer = world.another_importer(world.books, find_served=served)
    other = b'{"other": {"input_cost_per_token": 1}}'
    compared = await world.run(other, importer, is_dry_run=True)
    assert [(warning.code, warning.model) for warning in compared.comparison.warnings] == [("used_model_removed", "m")]
    await world.run(other, importer, is_dry_run=True, tenant_id=TENANT)
    assert asked == [None, TENANT]


async def test_not_knowing_what_is_used_spoils_no_import(world: World):
    async def fail(_: str | None) -> frozenset[str]:
        raise psycopg.errors.QueryCanceled

    assert (await world.run(a_map(), world.another_importer(world.books, find_served=fail))).outcome == "imported"


async def test_a_damaged_book_is_replaced_by_whatever_can_be_read(world: World):
    await a_version(world.pool, await world.now(), damaged=True, input_cost_per_token=9)
    answer = await world.run(a_map())
    assert (answer.outcome, answer.report.added.count) == ("imported", 1)


async def test_an_import_that_cannot_be_audited_is_none(world: World):
    async with world.pool.connection() as connection:
        await connection.execute("DROP TABLE audit_entry")
    with pytest.raises(psycopg.errors.UndefinedTable):
        await world.run(a_map())
    assert await world.rows() == []


async def test_the_same_map_many_times_at_once_is_one_version(world: World):
    importers = [world.another_importer(world.books) for _ in range(6)]
    answers = await asyncio.gather(*(world.run(a_map(), importer) for importer in importers))
    assert sorted(answer.outcome for answer in answers) == ["imported", *["unchanged"] * 5]
    assert len(await world.rows()) == len(await world.audit()) == 1


async def test_many_maps_at_once_are_compared_each_with_the_one_before(world: World):
    importers = [world.another_importer(world.books) for _ in range(4)]
    answers = await asyncio.gather(
        *(world.run(a_map(rate), importer) for rate, importer in enumerate(importers, start=1))
    )
    by_time = sorted(answers, key=lambda answer: answer.comparison.effective_from)
    versions = [answer.comparison.candidate.version for answer in by_time]
    assert [version for _, version, _ in await world.rows()] == versions
    assert [answer.report.compared_with for answer in by_time[1:]] == versions[:-1]
    assert world.books.at(TENANT, await world.now()).version == versions[-1]


@pytest.fixture
async def others(world: World, empty_database_url: str) -> AsyncIterator[list[PriceBooks]]:
    """The price books of three more processes."""
    started = [PriceBooks(world.pool) for _ in range(3)]
    for each in started:
        await each.start(empty_database_url)
    yield started
    for each in started:
        await each.close()


async def test_when_an_import_is_answered_every_process_prices_by_it(world: World, others: list[PriceBooks]):
    for rate in range(1, 11):
        answer = await world.run(a_map(rate), effective_from=BEGINNING + timedelta(days=rate))
        assert answer.is_known_everywhere
        start, version = answer.comparison.effective_from, answer.comparison.candidate.version
        assert [each.at(TENANT, start).version for each in (world.books, *others)] == [version] * 4


async def has_rows(world: World, number: int) -> None:
    while True:
        if len(await world.rows()) >= number:
            return
        await asyncio.sleep(0)


async def test_an_import_waits_for_a_process_that_is_late(world: World, others: list[PriceBooks]):
    async with others[0]._turn:  # it cannot take over anything meanwhile
        running = asyncio.create_task(world.run(a_map()))
        await has_rows(world, 1)
        done, _ = await asyncio.wait([running], timeout=0.3)
        assert not done
    answer = await running
    assert answer.is_known_everywhere
    version = answer.comparison.candidate.version
    assert others[0].at(TENANT, answer.comparison.effective_from).version == version


async def test_an_import_says_when_a_process_does_not_follow(world: World, others: list[PriceBooks]):
    importer = world.another_importer(world.books, follow_seconds=0.2)
    async with others[0]._turn:
        answer = await world.run(a_map(), importer)
    assert (answer.outcome, answer.is_known_everywhere) == ("imported", False)


async def test_a_process_that_has_ended_holds_nobody_up(world: World, others: list[PriceBooks]):
    for each in others:
        await each.close()
    assert (await world.run(a_map())).is_known_everywhere


async def test_the_loop_goes_on_while_a_large_map_is_read(world: World):
    entries = {f"model-{number}": {"input_cost_per_token": number} for number in range(20_000)}
    running = asyncio.create_task(world.run(a_map(1, **entries)))
    turns = 0
    while not running.done():
        await asyncio.sleep(0)
        turns += 1
    assert (await running).report.added.count == 20_000
    assert turns > 50
