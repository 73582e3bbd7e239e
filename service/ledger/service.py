"""The group commit: what many requests want recorded at one moment is one transaction, one at a time per process.

Guarantees: a charge is acknowledged only after its commit; a batch matched against an outdated configuration is
matched again, never half written; one bad row fails itself and nothing else; publishing to Redis follows the commit,
never holds up the next one, and is left to the outbox when it does not succeed in time.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Protocol
from uuid import UUID
from weakref import WeakValueDictionary

import msgspec
import psycopg
import structlog
from psycopg_pool import PoolTimeout

from service.db.pools import PostgresPool
from service.db.row_errors import ROW_ERRORS
from service.errors import Unavailable
from service.kit.batching import MicroBatcher
from service.ledger import repository
from service.ledger.batches import WindowMatcher, fences_of
from service.ledger.charge import (
    ChargeDraft,
    ChargeSummary,
    Conflict,
    Duplicate,
    Recorded,
    RecordOutcome,
    Unstorable,
)
from service.ledger.conflicts import conflict_of
from service.ledger.corrections import Alongside, Correction, CorrectionOutcome, CorrectionWriter
from service.ledger.posts import CommittedPosts
from service.ledger.repository import EventKey

_log = structlog.get_logger(__name__)


class PostsPublisher(Protocol):
    """Copies committed states to Redis."""

    async def publish(self, posts: Sequence[CommittedPosts]) -> set[UUID]:
        """Return the ids of the outbox rows that need no further publishing; never raise for Redis' trouble."""
        ...


class LedgerRecorder:
    """Records drafts of charges in micro-batches. One instance per process."""

    def __init__(
        self,
        pool: PostgresPool,
        matcher: WindowMatcher,
        publisher: PostsPublisher,
        *,
        max_batch_charges: int,
        batch_wait_ms: int,
        max_queued_charges: int = 20_000,
    ) -> None:
        self._pool = pool
        self._max_queued_charges = max_queued_charges
        self._matcher = matcher
        self._publisher = publisher
        self._published: list[tuple[str, UUID]] = []
        self._publishing: set[asyncio.Task[None]] = set()
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._batcher: MicroBatcher[ChargeDraft, _Outcome] = MicroBatcher(
            self._commit, max_items=max_batch_charges, max_wait_ms=batch_wait_ms
        )

    async def record(self, drafts: Sequence[ChargeDraft]) -> list[RecordOutcome]:
        """Record the drafts and return what became of each, in order, after commit and (tried) publish.

        Raises Unavailable when the database did not take them: nothing is acknowledged then, sending again is safe.
        """
        if self._batcher.queued_items + len(drafts) > self._max_queued_charges:
            raise Unavailable("Too many charges are waiting to be recorded; send the same again.", code="queue_full")
        outcomes = await self._batcher.submit_many(list(drafts))
        publishes = {publish for _, publish in outcomes if publish is not None and not publish.done()}
        if publishes:
            await asyncio.wait(publishes)
        return [outcome for outcome, _ in outcomes]

    async def correct(
        self, tenant_id: str, corrections: Sequence[Correction], *, alongside: Alongside | None = None
    ) -> list[CorrectionOutcome]:
        """Make corrections of one tenant in one transaction; return what became of each after commit and publish.

        `alongside` is committed with them. Raises Unavailable when the database did not take them, and what `alongside`
        raises: nothing is written then. Corrections of a tenant wait here for each other, not at the database: they
        would hold every connection of the pool while they wait.
        """
        writer = CorrectionWriter(self._pool, self._matcher, tenant_id)
        async with self._turns.setdefault(tenant_id, asyncio.Lock()):
            try:
                async with self._deleting_published() as published:
                    outcomes, posts = await writer.write(corrections, alongside, published)
            except (psycopg.Error, PoolTimeout) as error:
                _log.warning("corrections_not_written", corrections=len(corrections), error=type(error).__name__)
                raise Unavailable("The ledger cannot be written at the moment; ask for the same again.") from error
        publish = self._publish_soon(posts)
        if publish is not None:
            await asyncio.wait([publish])
        return outcomes

    async def close(self) -> None:
        """Record what is queued, wait for publishes under way, delete the outbox rows that were published."""
        await self._batcher.close()
        if self._publishing:
            await asyncio.wait(self._publishing)
        await self.delete_published()

    async def delete_published(self) -> None:
        """Delete outbox rows published since the last commit; the next commit would do it on its way."""
        async with self._deleting_published() as published:
            if published:
                await repository.delete_published(self._pool, published)

    async def _commit(self, drafts: list[ChargeDraft]) -> list["_Outcome"]:
        try:
            return await self._record_distinct(drafts)
        except psycopg.Error as error:  # whatever it is, nothing was stored: the same may be sent again
            _log.warning("ledger_unavailable", charges=len(drafts), error=type(error).__name__)
            raise Unavailable("The ledger cannot be written at the moment; send the same again.") from error

    async def _record_distinct(self, drafts: list[ChargeDraft]) -> list["_Outcome"]:
        """Record the first draft of each event key; compare the others with what is recorded then."""
        first: dict[EventKey, ChargeDraft] = {}
        for draft in drafts:
            first.setdefault(_key(draft), draft)
        written, publishes, unstorable = await self._write(sorted(first.values(), key=_key))
        known = [key for key, draft in first.items() if draft.charge_id not in written]
        repeated = {_key(draft) for draft in drafts if first[_key(draft)] is not draft}
        originals = await self._find_originals({*known, *repeated} - unstorable.keys())
        conflicts = await self._record_conflicts(drafts, originals)
        publish = self._publish_soon([*publishes, *conflicts.posts])
        return [(self._outcome(draft, written, originals, unstorable, conflicts.ids), publish) for draft in drafts]

    def _outcome(
        self,
        draft: ChargeDraft,
        written: dict[UUID, ChargeDraft],
        originals: dict[EventKey, repository.Original],
        unstorable: dict[EventKey, str],
        conflict_ids: dict[UUID, UUID],
    ) -> RecordOutcome:
        key = _key(draft)
        if key in unstorable:
            return Unstorable(unstorable[key])
        charge = written.get(draft.charge_id)
        if charge is not None:
            return Recorded(_summary(charge), charge)
        original = originals[key]
        if draft.charge_id in conflict_ids:
            return Conflict(original.summary, conflict_ids[draft.charge_id])
        return Duplicate(original.summary)

    async def _find_originals(self, keys: set[EventKey]) -> dict[EventKey, repository.Original]:
        return await repository.find_originals(self._pool, sorted(keys)) if keys else {}

    async def _record_conflicts(
        self, drafts: list[ChargeDraft], originals: dict[EventKey, repository.Original]
    ) -> "_Conflicts":
        """Record what came under a known event key with other content: counted against budgets, costing nothing."""
        contradicting = [
            draft
            for draft in drafts
            if (original := originals.get(_key(draft))) is not None and original.fingerprint != draft.fingerprint
        ]
        if not contradicting:
            return _Conflicts({}, [])
        # Matched as the calls they are: that brings their prices up to date, which a conflict keeps as they were.
        matched = await self._matcher.match(contradicting)
        conflicts = {draft.charge_id: conflict_of(draft) for draft in matched.charges}
        distinct = {_key(conflict): conflict for conflict in conflicts.values()}
        written, posts, _ = await self._write(sorted(distinct.values(), key=_key))
        known = await self._find_originals({key for key, c in distinct.items() if c.charge_id not in written})
        ids = {
            charge_id: known[_key(c)].summary.charge_id if _key(c) in known else distinct[_key(c)].charge_id
            for charge_id, c in conflicts.items()
        }
        return _Conflicts(ids, posts)

    async def _write(self, drafts: list[ChargeDraft]) -> "_Written":
        """Write drafts of distinct keys, sorted by key; bisect down to the rows the database refuses."""
        try:
            charges, posts = await self._write_fenced(drafts)
        except ROW_ERRORS as error:
            if isinstance(error, psycopg.errors.CheckViolation) and error.diag.constraint_name is None:
                raise Unavailable("The ledger has no partition for this month; an operator must look.") from error
            if len(drafts) == 1:
                _log.error("charge_unstorable", error=type(error).__name__, sqlstate=error.sqlstate)
                return {}, [], {_key(drafts[0]): error.diag.constraint_name or type(error).__name__}
            middle = len(drafts) // 2
            left = await self._write(drafts[:middle])
            right = await self._write(drafts[middle:])
            return left[0] | right[0], left[1] + right[1], left[2] | right[2]
        return charges, posts, {}

    async def _write_fenced(self, drafts: list[ChargeDraft]) -> tuple[dict[UUID, ChargeDraft], list[CommittedPosts]]:
        """Match and write by the configuration known here; if it is outdated, by the present one, held still meanwhile.

        The present one is read on the connection that holds it still: another one might not be had while changes wait.
        """
        matched = await self._matcher.match(drafts)
        fences = fences_of(matched)
        async with self._deleting_published() as published:
            written = await repository.record_batch(self._pool, fences, matched, published)
        if not written.fence_holds:
            tenant_ids = {draft.tenant_id for draft in drafts}
            async with repository.holding_configurations(self._pool, tenant_ids) as connection:
                matched = await self._matcher.match(drafts, connection=connection)
                fences = fences_of(matched)
                written = await repository.record_batch_on(connection, fences, matched)
            assert written.fence_holds, "a configuration changed while its tenant was locked"
        charges = {charge.charge_id: charge for charge in matched.charges if charge.charge_id in written.charge_ids}
        return charges, list(repository.posts_of(written, fences, matched))

    @asynccontextmanager
    async def _deleting_published(self) -> AsyncIterator[list[tuple[str, UUID]]]:
        """Lend the published outbox rows to a commit that deletes them; take them back if it fails."""
        published, self._published = self._published, []
        try:
            yield published
        except BaseException:
            self._published.extend(published)
            raise

    def _publish_soon(self, posts: list[CommittedPosts]) -> asyncio.Task[None] | None:
        if not posts:
            return None
        task = asyncio.create_task(self._publish(posts))
        self._publishing.add(task)
        task.add_done_callback(self._publishing.discard)
        return task

    async def _publish(self, posts: list[CommittedPosts]) -> None:
        done = await self._publisher.publish(posts)
        self._published.extend((post.tenant_id, post.outbox_id) for post in posts if post.outbox_id in done)


_Outcome = tuple[RecordOutcome, asyncio.Task[None] | None]
# Charges as they were written, by id; what is owed to Redis; what the database refused, and why.
_Written = tuple[dict[UUID, ChargeDraft], list[CommittedPosts], dict[EventKey, str]]


class _Conflicts(msgspec.Struct, frozen=True):
    ids: dict[UUID, UUID]  # charge_id of the contradicting draft -> charge_id of its recorded conflict
    posts: list[CommittedPosts]


def _key(draft: ChargeDraft) -> EventKey:
    return draft.tenant_id, draft.source, draft.event_id


def _summary(draft: ChargeDraft) -> ChargeSummary:
    return ChargeSummary(
        charge_id=draft.charge_id,
        requested_model=draft.requested_model,
        deployment=draft.deployment,
        served_model=draft.served_model,
        cost_usd=draft.cost_usd,
        price_state=draft.price_state,
    )
