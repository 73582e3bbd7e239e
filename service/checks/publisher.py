"""Copies committed batches to the counters and consumes their holds, right after the commit or from the outbox.

The acknowledgement of events waits for it for some milliseconds and no longer; what did not make it stays in the
outbox, and any replica publishes it a second later. Publishing twice, late or out of order changes nothing. A row of
the outbox is done with when it was published and, where an observer looks at what was posted, observed.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from random import uniform
from typing import Protocol
from uuid import UUID

import psycopg
import structlog
from psycopg_pool import PoolTimeout

from service.checks import metrics
from service.checks.hold import SettleCounts
from service.checks.keys import CounterRef
from service.checks.local_holds import LocalHolds
from service.checks.publishing import publish_commands, settle_counts
from service.checks.queries import OpenPosts, claim_open_posts, delete_posts, read_states
from service.checks.repeats import repeat_names
from service.checks.scripts import CountersUnavailable, ScriptLane
from service.db.pools import PostgresConnection, PostgresPool, RedisClient
from service.kit.clock import monotonic
from service.kit.money import from_micro_usd
from service.kit.patience import patience
from service.kit.stopping import stop
from service.ledger.posts import CommittedPosts
from service.ledger.repository import delete_published

_log = structlog.get_logger(__name__)

_PIPELINE_TIMEOUT_MS = 500
_OUTBOX_AGE_SECONDS = 1.0
_OUTBOX_ROWS_AT_ONCE = 200
_OUTBOX_POLL_SECONDS = 1.0
_OBSERVATION_SECONDS = 5.0
_MOST_PASSED_OVER = 10_000


class PostsObserver(Protocol):
    """Looks at committed counters, beside what is published of them."""

    def observe(self, posts: Sequence[CommittedPosts]) -> "asyncio.Future[bool] | None":
        """Return None when it is done with the posts, else what will tell whether it is; False = observe them again.

        Never raises, nor does what it returns.
        """
        ...


class LeftToServers:
    """The observer of a command that runs beside servers: it observes nothing, and its outbox rows are left to them."""

    def observe(self, posts: Sequence[CommittedPosts]) -> "asyncio.Future[bool] | None":
        """Leave the posts to be observed by others."""
        del posts
        left = asyncio.get_running_loop().create_future()
        left.set_result(False)
        return left


class Publisher:
    """Publishes. One instance per process; `start` lets it work off what this or another process left behind."""

    def __init__(
        self,
        client: RedisClient,
        pool: PostgresPool,
        *,
        publish_wait_ms: float,
        local_holds: LocalHolds | None = None,
        observer: PostsObserver | None = None,
    ) -> None:
        self._lane = ScriptLane(client, timeout_ms=_PIPELINE_TIMEOUT_MS)
        self._pool = pool
        self._wait_seconds = publish_wait_ms / 1000
        self._local_holds = local_holds
        self._observer = observer
        # Rows that were published and, later, observed: to be deleted.
        self._observed: list[tuple[str, UUID]] = []
        # Rows that were refused and are not tried again before all others were.
        self._refused: set[UUID] = set()
        self._worker: asyncio.Task[None] | None = None

    async def publish(self, posts: Sequence[CommittedPosts]) -> set[UUID]:
        """Return the ids of the outbox rows that are done with within the time allowed. Never raises for trouble.

        Rows that were published and are still being observed are deleted here later on.
        """
        started = monotonic()
        observing = None if self._observer is None else self._observer.observe(posts)
        self._end_local_holds(posts)
        try:
            async with patience(self._wait_seconds):
                published = await self._publish(posts)
        except TimeoutError:
            published = set()
        metrics.PUBLISH_FAILURES.inc(len(posts) - len(published))
        if published:
            metrics.PUBLISH_SECONDS.observe(monotonic() - started)
        if observing is None:
            return published
        rows = [(each.tenant_id, each.outbox_id) for each in posts if each.outbox_id in published]
        observing.add_done_callback(lambda done: self._note_observed(done, rows))
        return set()

    def _note_observed(self, done: "asyncio.Future[bool]", rows: list[tuple[str, UUID]]) -> None:
        if not done.cancelled() and done.result():
            self._observed += rows

    async def delete_observed(self) -> None:
        """Delete the outbox rows that were published, and observed after that."""
        rows, self._observed = self._observed, []
        if rows:
            try:
                await delete_published(self._pool, rows)
            except BaseException:
                self._observed += rows
                raise

    async def work_off(self) -> int:
        """Publish open rows of the outbox, delete them, and return how many; 0 = now is no time for more.

        Rows that are refused stay open, and the next calls go on behind them, up to the end of the outbox. Raises
        CountersUnavailable and what the database driver raises; all rows then stay open.
        """
        async with self._pool.connection() as connection, connection.transaction():
            rows = await claim_open_posts(
                connection,
                older_than_seconds=_OUTBOX_AGE_SECONDS,
                passing_over=self._refused,
                most=_OUTBOX_ROWS_AT_ONCE,
            )
            if not self._refused:
                metrics.OUTBOX_AGE.set(max((row.age_seconds for row in rows), default=0.0))
            posts = await _present_states(connection, rows)
            observing = None if self._observer is None else self._observer.observe(posts)
            published = await self._publish(posts)
            if rows and not published and self._lane.is_down:
                raise CountersUnavailable("nothing can be published at the moment")
            if observing is not None and not await _is_observed(observing):
                published = set()
            await delete_posts(connection, [row for row in rows if row.outbox_id in published])
        self._pass_over({row.outbox_id for row in rows} - published, is_end=len(rows) < _OUTBOX_ROWS_AT_ONCE)
        return len(published)

    def _pass_over(self, refused: set[UUID], *, is_end: bool) -> None:
        if is_end or len(self._refused) >= _MOST_PASSED_OVER:
            self._refused.clear()
        elif not self._lane.is_down:
            self._refused |= refused

    def start(self) -> None:
        """Work off the outbox in the background, until `close`."""
        self._lane.start()
        self._worker = asyncio.create_task(self._work_off_for_ever())

    async def close(self) -> None:
        """Stop working off the outbox, and finish what is under way."""
        await stop(self._worker)
        await self._lane.close()
        with suppress(psycopg.Error, PoolTimeout):  # whoever comes next finds the rows and does both again
            await self.delete_observed()

    async def _publish(self, posts: Sequence[CommittedPosts]) -> set[UUID]:
        """Return the ids of the outbox rows that were published; one that Redis refuses keeps no other one open."""
        commands = [publish_commands(each) for each in posts]
        published, counts = set(), []
        for each, own, answered in zip(posts, commands, await self._lane.attempt_sequences(commands), strict=True):
            counts += answered
            if len(answered) == len(own):
                published.add(each.outbox_id)
        _observe(settle_counts(counts))
        return published

    def _end_local_holds(self, posts: Sequence[CommittedPosts]) -> None:
        if self._local_holds is None:
            return
        for each in posts:
            for settlement in each.settlements:
                if settlement.is_final:
                    self._local_holds.release_first(each.tenant_id, repeat_names(settlement.reservation_id))

    async def _work_off_for_ever(self) -> None:
        while True:
            try:
                await self.delete_observed()
                while await self.work_off():
                    pass
            except CountersUnavailable:
                _log.debug("outbox_waits_for_counters")
            except Exception as error:  # noqa: BLE001 — whatever it is, the outbox must be worked off again
                _log.warning("outbox_not_worked_off", error=type(error).__name__)
            await asyncio.sleep(_OUTBOX_POLL_SECONDS * uniform(0.8, 1.2))


async def _is_observed(observing: "asyncio.Future[bool]") -> bool:
    """Wait for an observation, but not for long: the rows are locked meanwhile."""
    await asyncio.wait([observing], timeout=_OBSERVATION_SECONDS)
    return observing.done() and not observing.cancelled() and observing.result()


async def _present_states(connection: PostgresConnection, rows: Sequence[OpenPosts]) -> list[CommittedPosts]:
    """Return what the rows owe, with the states as they are now: newer than when the rows were written, or the same."""
    named = {row.outbox_id: [CounterRef(row.tenant_id, *counter) for counter in row.counters] for row in rows}
    epoch, states = await read_states(connection, {counter for counters in named.values() for counter in counters})
    return [
        CommittedPosts(
            tenant_id=row.tenant_id,
            outbox_id=row.outbox_id,
            epoch=epoch,
            counters=tuple(states[counter] for counter in named[row.outbox_id] if counter in states),
            settlements=row.settlements,
        )
        for row in rows
    ]


def _observe(counts: SettleCounts) -> None:
    metrics.HOLDS.labels("settled").inc(counts.holds_settled)
    metrics.HOLDS.labels("lowered").inc(counts.holds_lowered)
    metrics.HOLDS.labels("came_late").inc(counts.came_late)
    metrics.OVERSHOOT_ABOVE_HOLD.inc(float(from_micro_usd(counts.overshoot_micro_usd)))
    metrics.OVERSHOOT_ASTRAY.inc(float(from_micro_usd(counts.astray_micro_usd)))
