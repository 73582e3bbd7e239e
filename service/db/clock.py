"""The time of the database as this process can know it without asking each time.

Charges are accounted by one clock, the database's, however wrong the clock of a replica is: its reading against our
monotonic clock is taken now and then, and only counted on in between.
"""

import asyncio
from datetime import UTC, datetime, timedelta

import psycopg
import structlog
from psycopg_pool import PoolTimeout

from service.db.pools import PostgresPool
from service.errors import Unavailable
from service.kit.clock import monotonic
from service.kit.stopping import stop

_log = structlog.get_logger(__name__)

_READ = "SELECT clock_timestamp()"
_FIRST_READING_SECONDS = 1.0
_MEASURE_EVERY_SECONDS = 30.0


class DatabaseClock:
    """Answers the database's time from memory."""

    def __init__(self, pool: PostgresPool) -> None:
        self._pool = pool
        self._read_at: float = 0.0
        self._reading: datetime | None = None
        self._follower: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Take the first reading, if the database answers, and go on taking them until `close`."""
        await self._measure_quietly()
        self._follower = asyncio.create_task(self._follow())

    async def close(self) -> None:
        """Stop taking readings."""
        await stop(self._follower)

    async def measure(self) -> None:
        """Take a reading; the answer is assumed to be made in the middle of its round trip."""
        async with self._pool.connection() as connection:
            asked = monotonic()
            row = await (await connection.execute(_READ)).fetchone()
            answered = monotonic()
        assert row is not None
        self._reading, self._read_at = row[0].astimezone(UTC), (asked + answered) / 2

    def now(self) -> datetime:
        """Return the database's present time, aware, in UTC. Raises Unavailable before the first reading."""
        if self._reading is None:
            raise Unavailable("The time of the database is not known yet.")
        return self._reading + timedelta(seconds=monotonic() - self._read_at)

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(_FIRST_READING_SECONDS if self._reading is None else _MEASURE_EVERY_SECONDS)
            await self._measure_quietly()

    async def _measure_quietly(self) -> None:
        try:
            await self.measure()
        except (psycopg.Error, PoolTimeout) as error:
            _log.warning("database_clock_not_measured", error=type(error).__name__)
