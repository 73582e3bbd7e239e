"""Corrections: a charge is cancelled by its reversal and, unless it is only cancelled, replaced by a new charge.

Both in one transaction or neither, and each charge at most once: corrections of a tenant are made one transaction at a
time, under a lock of their own, so that what is reversed already is known before anything is written. That lock comes
before every other one; from there on a correction is recorded like any batch, in the same order of locks.
"""

from collections.abc import Awaitable, Callable, Sequence
from hashlib import blake2b
from uuid import UUID

import msgspec
import psycopg
import structlog

from service.db.pools import PostgresConnection
from service.db.tenant_lock import LOCK_SHARED, tenant_lock_keys
from service.ledger import repository
from service.ledger.batches import WindowMatcher, fences_of
from service.ledger.charge import ChargeDraft, MatchedBatch, Unstorable
from service.ledger.posts import CommittedPosts
from service.ledger.repository import BatchWritten

_log = structlog.get_logger(__name__)

LEDGER_SOURCE = "tallygate"

_LOCK_CORRECTIONS = "SELECT pg_advisory_xact_lock(%s)"

# Errors that say something about a row, not about the state of the database: data exceptions and broken constraints.
ROW_ERRORS = (psycopg.DataError, psycopg.IntegrityError, psycopg.NotSupportedError)


class Correction(msgspec.Struct, frozen=True, kw_only=True):
    """The reversal of a charge, and the charge that comes in its place; None = nothing does."""

    reversal: ChargeDraft
    replacement: ChargeDraft | None = None

    @property
    def drafts(self) -> tuple[ChargeDraft, ...]:
        """What is recorded, wholly or not at all."""
        return (self.reversal,) if self.replacement is None else (self.reversal, self.replacement)


class Corrected(msgspec.Struct, frozen=True, kw_only=True):
    """The correction is in the ledger, by this call."""

    reversal_id: UUID
    replacement_id: UUID | None


class AlreadyReversed(msgspec.Struct, frozen=True):
    """The charge had been cancelled before; nothing was written."""


CorrectionOutcome = Corrected | AlreadyReversed | Unstorable

# Something to be committed together with corrections, told what became of them.
Alongside = Callable[[PostgresConnection, Sequence[CorrectionOutcome]], Awaitable[None]]


def reversal_event_id(charge_id: UUID) -> str:
    """Return the event id of the one reversal a charge can have."""
    return f"reversal:{charge_id}"


def correction_event_id(charge_id: UUID) -> str:
    """Return the event id of the one charge that can come in a charge's place."""
    return f"correction:{charge_id}"


class CorrectionWriter:
    """Writes corrections of one tenant within one transaction of the caller's."""

    def __init__(self, connection: PostgresConnection, matcher: WindowMatcher, tenant_id: str) -> None:
        self._connection = connection
        self._matcher = matcher
        self._tenant_id = tenant_id

    async def write(
        self, corrections: Sequence[Correction], matched: MatchedBatch
    ) -> tuple[list[CorrectionOutcome], list[CommittedPosts]]:
        """Write those whose charge is not reversed yet; return what became of each and what that owes to Redis.

        `matched` are all their drafts, by the configuration known here: if that is outdated they are matched again.
        """
        await self._connection.execute(_LOCK_CORRECTIONS, (_lock_key(self._tenant_id),))
        event_ids = [correction.reversal.event_id for correction in corrections]
        done = await repository.find_recorded(self._connection, self._tenant_id, LEDGER_SOURCE, event_ids)
        wanted = [correction for correction in corrections if correction.reversal.event_id not in done]
        await self._connection.execute(LOCK_SHARED, (tenant_lock_keys([self._tenant_id]),))
        refused, posts = await self._write_or_bisect(wanted, matched) if wanted else ({}, [])
        return [_outcome(correction, done, refused) for correction in corrections], posts

    async def _write_or_bisect(
        self, corrections: list[Correction], matched: MatchedBatch
    ) -> tuple[dict[str, str], list[CommittedPosts]]:
        """Write corrections; bisect down to those the database refuses, and return them with the rule that does."""
        try:
            async with self._connection.transaction():
                return {}, await self._write_fenced(corrections, matched)
        except ROW_ERRORS as error:
            if isinstance(error, psycopg.errors.CheckViolation) and error.diag.constraint_name is None:
                raise  # there is no partition for this month: no fault of any row
            if len(corrections) == 1:
                _log.error("correction_unstorable", error=type(error).__name__, sqlstate=error.sqlstate)
                return {corrections[0].reversal.event_id: error.diag.constraint_name or type(error).__name__}, []
        middle = len(corrections) // 2
        refused, posts = await self._write_or_bisect(corrections[:middle], matched)
        more_refused, more_posts = await self._write_or_bisect(corrections[middle:], matched)
        return refused | more_refused, posts + more_posts

    async def _write_fenced(self, corrections: list[Correction], matched: MatchedBatch) -> list[CommittedPosts]:
        drafts = [draft for correction in corrections for draft in correction.drafts]
        wanted = {draft.charge_id for draft in drafts}
        batch = msgspec.structs.replace(matched, charges=[c for c in matched.charges if c.charge_id in wanted])
        fences = fences_of(batch)
        written = await repository.record_batch_on(self._connection, fences, batch)
        if not written.fence_holds:
            batch = await self._matcher.match(drafts, connection=self._connection)
            fences = fences_of(batch)
            written = await repository.record_batch_on(self._connection, fences, batch)
            assert written.fence_holds, "a configuration changed while its tenant was locked"
        _assert_whole(written, wanted)
        return list(repository.posts_of(written, fences, batch))


def _assert_whole(written: BatchWritten, wanted: set[UUID]) -> None:
    # Whatever wrote the missing part did so without the lock: better nothing than half of a correction.
    assert written.charge_ids == wanted, "an event key of a correction was taken although its charge is not reversed"


def _outcome(correction: Correction, done: frozenset[str], refused: dict[str, str]) -> CorrectionOutcome:
    event_id = correction.reversal.event_id
    if event_id in done:
        return AlreadyReversed()
    if event_id in refused:
        return Unstorable(refused[event_id])
    replacement = correction.replacement
    return Corrected(
        reversal_id=correction.reversal.charge_id,
        replacement_id=None if replacement is None else replacement.charge_id,
    )


def _lock_key(tenant_id: str) -> int:
    return int.from_bytes(blake2b(tenant_id.encode(), digest_size=8, person=b"tg-corrections").digest(), signed=True)
