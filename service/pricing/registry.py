"""The price books of all tenants in memory: which one was in force at an instant, answered without any I/O.

A process hears of new versions at once (LISTEN), shows by a lock which generation it prices by, so that an import can
wait until all have followed, and asks every 30 s in case the news is lost. Books in force are made ready beside the
event loop, old ones when a late event asks for them. Postgres being away leaves what is known in force.
"""

import asyncio
from collections import OrderedDict
from datetime import datetime
from itertools import groupby
from typing import Any, Final

import structlog
from psycopg import AsyncConnection

from service.db.pools import PostgresConnection, PostgresPool
from service.errors import Unavailable
from service.kit.stopping import stop
from service.pricing import repository
from service.pricing.map_entry import CostMapError
from service.pricing.price_book import PriceBook
from service.pricing.repository import SHARED, VersionRow
from service.pricing.shipped import shipped_snapshot

_log = structlog.get_logger(__name__)

_POLL_SECONDS: Final = 30.0
_RETRY_SECONDS: Final = 1.0
# A listener never sends anything: without keep-alives it would not notice that the other end is gone.
_LISTENER: Final[dict[str, Any]] = {
    "connect_timeout": 5,
    "keepalives_idle": 15,
    "keepalives_interval": 5,
    "keepalives_count": 3,
}
# Some megabytes each; a book that is not kept is opened again, in some 10 ms, by whoever asks for it.
_BOOKS_KEPT: Final = 64
_SHIPPED_BY: Final = "tallygate"


class PriceBooks:
    """Answers `at(tenant, instant)`; `start` loads and follows, `close` ends that."""

    def __init__(self, pool: PostgresPool, *, poll_seconds: float = _POLL_SECONDS) -> None:
        self._pool = pool
        self._poll_seconds = poll_seconds
        self._generation = 0
        self._versions: dict[str, tuple[VersionRow, ...]] = {}
        self._snapshots: dict[str, bytes] = {}
        self._books: OrderedDict[str, PriceBook] = OrderedDict()
        self._turn = asyncio.Lock()
        self._follower: asyncio.Task[None] | None = None

    async def start(self, database_url: str) -> None:
        """Give a new installation the shipped prices, load what there is, and follow new versions until `close`.

        A database that does not answer is asked again until it does; `at` raises Unavailable meanwhile.
        """
        settled = asyncio.Event()
        self._follower = asyncio.create_task(self._follow(database_url, settled))
        # Who prices must be heard of: an import that is answered before would not have waited for this process.
        await settled.wait()

    async def close(self) -> None:
        """Stop following."""
        await stop(self._follower)

    async def reload(self) -> None:
        """Take over the versions committed until now. Raises what the database driver raises."""
        async with self._turn, self._pool.connection() as connection:
            rows = await repository.list_versions(connection)
            if not any(row.tenant_id == SHARED for row in rows):
                await _insert_shipped(connection)
                rows = await repository.list_versions(connection)
            missing = {row.version for row in rows} - self._snapshots.keys()
            fetched = await repository.fetch_snapshots(connection, missing) if missing else {}
            versions = {tenant_id: tuple(own) for tenant_id, own in groupby(rows, key=lambda row: row.tenant_id)}
            for version in _asked_first(versions, fetched, is_news=bool(self._versions)):
                await self._make_ready(version, fetched[version])
            self._snapshots |= fetched
            self._versions = versions
            self._generation = len(rows)

    def at(self, tenant_id: str, instant: datetime) -> PriceBook:
        """Return the book in force for the tenant at the instant: its own, else the installation's.

        Raises Unavailable before the first load, and for a version whose stored prices are damaged.
        """
        version = self.row_at(tenant_id, instant).version
        book = self._books.get(version)
        if book is None:
            try:
                book = _open(version, self._snapshots[version])
            except CostMapError as error:
                raise Unavailable(f"The price book {version} cannot be read: {error}.") from error
            self._keep(book)
        else:
            self._books.move_to_end(version)
        return book

    def row_at(self, tenant_id: str, instant: datetime) -> VersionRow:
        """Return whose version is in force for the tenant at the instant, and since when. Raises Unavailable."""
        row = self._find_row(tenant_id, instant) or self._find_row(SHARED, instant)
        if row is None:
            raise Unavailable("The prices are not loaded yet.")
        return row

    def _find_row(self, tenant_id: str, instant: datetime) -> VersionRow | None:
        for row in reversed(self._versions.get(tenant_id, ())):
            if row.effective_from <= instant:
                return row
        return None

    def _keep(self, book: PriceBook) -> None:
        self._books[book.version] = book
        while len(self._books) > _BOOKS_KEPT:
            self._books.popitem(last=False)

    async def _make_ready(self, version: str, snapshot: bytes) -> None:
        """Open a book before anybody asks for it. A damaged one is told of, and spoils no other."""
        try:
            self._keep(await asyncio.to_thread(_open, version, snapshot))
        except CostMapError as error:
            _log.error("price_book_damaged", version=version, detail=str(error))

    async def _follow(self, database_url: str, settled: asyncio.Event) -> None:
        while True:
            try:
                async with await AsyncConnection.connect(database_url, autocommit=True, **_LISTENER) as connection:
                    await connection.execute(f"LISTEN {repository.CHANNEL}")
                    await self._follow_news(connection, settled)
            except Exception as error:  # noqa: BLE001 - whatever it is, prices must be followed again
                _log.warning("price_books_not_followed", error=type(error).__name__)
                # Whoever cannot listen still asks.
                await self._reload_quietly()
                settled.set()
                await asyncio.sleep(_RETRY_SECONDS)

    async def _reload_quietly(self) -> None:
        try:
            await self.reload()
        except Exception as error:  # noqa: BLE001 - the same
            _log.warning("price_books_not_reloaded", error=type(error).__name__, detail=str(error))

    async def _follow_news(self, connection: PostgresConnection, settled: asyncio.Event) -> None:
        """Reload at each announcement. An older generation is let go only when a newer one is held and in force."""
        held = 0
        await repository.hold_generation(connection, held)
        while True:
            await self.reload()
            if self._generation != held:
                await repository.hold_generation(connection, self._generation)
                await repository.let_go_generation(connection, held)
                held = self._generation
            settled.set()
            async for _ in connection.notifies(timeout=self._poll_seconds, stop_after=1):
                pass


def _asked_first(versions: dict[str, tuple[VersionRow, ...]], fetched: dict[str, bytes], *, is_news: bool) -> list[str]:
    """Return which of the fetched versions are going to be asked for: what is new, else the latest of each book."""
    latest = {versions[tenant_id][-1].version: None for tenant_id in sorted(versions)}
    wanted = fetched if is_news else latest
    return [version for version in wanted if version in fetched][:_BOOKS_KEPT]


def _open(version: str, snapshot: bytes) -> PriceBook:
    book = PriceBook.from_snapshot(snapshot)
    if book.version != version:
        raise CostMapError(f"its prices are those of {book.version}")
    return book


async def _insert_shipped(connection: PostgresConnection) -> None:
    snapshot = shipped_snapshot()
    book = await asyncio.to_thread(PriceBook.from_snapshot, snapshot)
    is_new = await repository.insert_first_version(
        connection,
        version=book.version,
        origin=book.origin,
        imported_by=_SHIPPED_BY,
        snapshot=snapshot,
        report={"content": {"version": book.version, "models": len(book)}},
    )
    if is_new:
        _log.info("price_book_inserted", version=book.version, origin=book.origin, models=len(book))
