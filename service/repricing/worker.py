"""Runs repricings in the background of a process: those asked for here, and those whose process has gone.

Any number of processes may do so. All repricings of a process take turns page by page, and rest between pages.
"""

import asyncio
from contextlib import suppress

import psycopg
import structlog
from psycopg_pool import PoolTimeout

from service.db.pools import PostgresPool, connected
from service.errors import TallygateError, Unavailable
from service.kit.ids import new_id
from service.kit.stopping import stop
from service.repricing import repository
from service.repricing.repository import LostClaim
from service.repricing.repricer import Repricer
from service.repricing.terms import Job

_log = structlog.get_logger(__name__)

_POLL_SECONDS = 5.0
_TROUBLE = (psycopg.Error, PoolTimeout, Unavailable)


class RepricingWorker:
    """One instance per process; `start` begins, `wake` looks for work at once, `close` leaves the rest to others."""

    def __init__(self, pool: PostgresPool, repricer: Repricer) -> None:
        self._pool = pool
        self._repricer = repricer
        self._wake = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._follower: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Look for work until `close`."""
        self._follower = asyncio.create_task(self._follow())

    def wake(self) -> None:
        """Look for work now."""
        self._wake.set()

    async def close(self) -> None:
        """Stop; what is not finished may be claimed by another process at once."""
        await stop(self._follower)
        for task in list(self._tasks):
            await stop(task)

    async def _follow(self) -> None:
        while True:
            self._wake.clear()
            try:
                await self._take_up()
            except _TROUBLE as error:
                _log.warning("repricings_not_claimed", error=type(error).__name__)
            except Exception:  # noqa: BLE001 - whatever it is, work that comes later must be found
                _log.exception("repricings_not_claimed")
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), _POLL_SECONDS)

    async def _take_up(self) -> None:
        async with connected(self._pool) as connection:
            # An id of its own for each claim: what this process lost to itself is lost, too.
            jobs = await repository.claim_repricings(connection, new_id())
        for job in jobs:
            task = asyncio.create_task(self._run(job))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _run(self, job: Job) -> None:
        log = _log.bind(repricing_id=str(job.repricing_id), tenant_id=job.tenant_id)
        try:
            await self._repricer.run(job)
        except LostClaim:
            log.warning("repricing_claimed_elsewhere")
        except _TROUBLE as error:
            log.warning("repricing_interrupted", error=type(error).__name__)
            await self._release(job)
        except asyncio.CancelledError:
            await self._release(job)
            raise
        except Exception as error:  # whatever it is, trying again would end the same way
            log.exception("repricing_failed")
            await self._fail(job, error)

    async def _release(self, job: Job) -> None:
        with suppress(LostClaim, *_TROUBLE):
            async with connected(self._pool) as connection:
                await repository.release(connection, job)

    async def _fail(self, job: Job, error: Exception) -> None:
        why = error.detail if isinstance(error, TallygateError) else "an error on our side; the log has it"
        with suppress(LostClaim, *_TROUBLE):
            await self._repricer.fail(job, why)
