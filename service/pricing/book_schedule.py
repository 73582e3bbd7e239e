"""Imports the cost map of the configured address now and then, for the whole installation, by one process of many.

Who leads holds a lock for as long as its connection lives. What the guard objects to is left to an operator: told in
the log and counted. Without an address nothing of this runs.
"""

import asyncio
from typing import Final, NoReturn

import psycopg
import structlog
from psycopg import AsyncConnection
from psycopg_pool import PoolTimeout

from service.db.pools import PostgresConnection
from service.errors import TallygateError
from service.kit.clock import monotonic
from service.kit.stopping import stop
from service.outbound import shown_url
from service.pricing import repository
from service.pricing.book_import import IMPORTS, ImportOrder, PriceBookImporter
from service.pricing.map_download import MapDownloader
from service.pricing.repository import SHARED

_log = structlog.get_logger(__name__)

SCHEDULE: Final = "tallygate schedule"
_LOOK_SECONDS: Final = 30.0


class ScheduledImport:
    """Runs in every process; one of them leads."""

    def __init__(
        self,
        importer: PriceBookImporter,
        downloader: MapDownloader,
        *,
        url: str,
        interval_seconds: float,
        look_seconds: float = _LOOK_SECONDS,
    ) -> None:
        self._importer = importer
        self._downloader = downloader
        self._url = url
        self._interval_seconds = interval_seconds
        self._look_seconds = look_seconds
        self._task: asyncio.Task[None] | None = None

    def start(self, database_url: str) -> None:
        """Begin to stand for the lead, until `close`."""
        self._task = asyncio.create_task(self._run(database_url))

    async def close(self) -> None:
        """Stop; an import under way is given up before it is committed, or stands."""
        await stop(self._task)

    async def _run(self, database_url: str) -> None:
        while True:
            try:
                async with await AsyncConnection.connect(database_url, autocommit=True) as connection:
                    while True:
                        if await repository.take_lead(connection):
                            await self._lead(connection)
                        await asyncio.sleep(self._look_seconds)
            except (psycopg.Error, OSError) as error:
                _log.warning("price_schedule_interrupted", error=type(error).__name__)
            except Exception:  # noqa: BLE001 - whatever it is, the next import must come
                _log.exception("price_schedule_interrupted")
            await asyncio.sleep(self._look_seconds)

    async def _lead(self, connection: PostgresConnection) -> NoReturn:
        """Import at once and then after each interval; end by an error when the connection, and the lead, are lost."""
        due_at = monotonic()
        while True:
            if monotonic() >= due_at:
                await self.import_now()
                due_at = monotonic() + self._interval_seconds
            await asyncio.sleep(min(self._look_seconds, max(due_at - monotonic(), 0)))
            await repository.read_clock(connection)

    async def import_now(self) -> None:
        """Download and import once; whatever hinders it is told, and tried again at the next time."""
        order = ImportOrder(tenant_id=SHARED, imported_by=SCHEDULE)
        try:
            text = await self._downloader.fetch(self._url)
        except TallygateError as error:
            IMPORTS.labels("not_downloaded").inc()
            _log.error("price_schedule_failed", code=error.code, reason=error.detail)
            return
        try:
            answer = await self._importer.run(order, text, shown_url(self._url))
        except (TallygateError, psycopg.Error, PoolTimeout) as error:
            code = error.code if isinstance(error, TallygateError) else type(error).__name__
            _log.error("price_schedule_failed", code=code, reason=str(error))
        else:
            _log.info("price_schedule_ran", outcome=answer.outcome, version=answer.comparison.candidate.version)
