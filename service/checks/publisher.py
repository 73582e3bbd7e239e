"""Copies committed batches to the counters and consumes their holds, right after the commit or from the outbox.

The acknowledgement of events waits for it for some milliseconds and no longer; what did not make it stays in the
outbox, and any replica publishes it a second later. Publishing twice, late or out of order changes nothing.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from random import uniform
from uuid import UUID

import structlog

from service.checks import metrics
from service.checks.hold import SettleCounts
from service.checks.keys import CounterRef
from service.checks.local_holds import LocalHolds
from service.checks.lua_scripts import Command
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

_log = structlog.get_logger(__name__)

_PIPELINE_TIMEOUT_MS = 500
_OUTBOX_AGE_SECONDS = 1.0
_OUTBOX_ROWS_AT_ONCE = 200
_OUTBOX_POLL_SECONDS = 1.0
_MOST_PASSED_OVER = 10_000


class Publisher:
    """Publishes. One instance per process; `start` lets it work off what this or another process left behind."""

    def __init__(
        self, client: RedisClient, pool: PostgresPool, *, publish_wait_ms: float, local_holds: LocalHolds | None = None
    ) -> None:
        self._lane = ScriptLane(client, timeout_ms=_PIPELINE_TIMEOUT_MS, keeps_order=True)
        self._pool = pool
        self._wait_seconds = publish_wait_ms / 1000
        self._local_holds = local_holds
        # Rows that were refused and are not tried again before all others were.
        self._refused: set[UUID] = set()
        self._worker: asyncio.Task[None] | None = None

    async def publish(self, posts: Sequence[CommittedPosts]) -> set[UUID]:
        """Return the ids of the outbox rows that were published within the time allowed. Never raises for trouble."""
        started = monotonic()
        self._end_local_holds(posts)
        try:
            async with patience(self._wait_seconds):
                counts = await self._publish(posts)
        except (CountersUnavailable, TimeoutError):
            metrics.PUBLISH_FAILURES.inc(len(posts))
            return set()
        _observe(counts)
        metrics.PUBLISH_SECONDS.observe(monotonic() - started)
        return {each.outbox_id for each in posts}

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
            published = await self._publish_each(await _present_states(connection, rows)) if rows else set()
            await delete_posts(connection, [row for row in rows if row.outbox_id in published])
        self._pass_over({row.outbox_id for row in rows} - published, is_end=len(rows) < _OUTBOX_ROWS_AT_ONCE)
        return len(published)

    def _pass_over(self, refused: set[UUID], *, is_end: bool) -> None:
        if is_end or len(self._refused) >= _MOST_PASSED_OVER:
            self._refused.clear()
        elif not self._lane.breaker.is_open:
            self._refused |= refused

    def start(self) -> None:
        """Work off the outbox in the background, until `close`."""
        self._lane.start()
        self._worker = asyncio.create_task(self._work_off_for_ever())

    async def close(self) -> None:
        """Stop working off the outbox, and finish what is under way."""
        await stop(self._worker)
        await self._lane.close()

    async def _publish(self, posts: Sequence[CommittedPosts]) -> SettleCounts:
        commands: list[Command] = []
        for each in posts:
            commands += publish_commands(each)
        return settle_counts(await self._lane.run(commands))

    async def _publish_each(self, posts: Sequence[CommittedPosts]) -> set[UUID]:
        """Return the ids of what was published: one row that Redis refuses does not keep the others open."""
        try:
            _observe(await self._publish(posts))
        except CountersUnavailable:
            if len(posts) == 1 or self._lane.breaker.is_open:
                raise
            published: set[UUID] = set()
            for each in posts:
                with suppress(CountersUnavailable):
                    published |= await self._publish_each([each])
            return published
        return {each.outbox_id for each in posts}

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
                while await self.work_off():
                    pass
            except CountersUnavailable:
                _log.debug("outbox_waits_for_counters")
            except Exception as error:  # noqa: BLE001 — whatever it is, the outbox must be worked off again
                _log.warning("outbox_not_worked_off", error=type(error).__name__)
            await asyncio.sleep(_OUTBOX_POLL_SECONDS * uniform(0.8, 1.2))


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
    metrics.OVERSHOOT.inc(float(from_micro_usd(counts.overshoot_micro_usd)))
