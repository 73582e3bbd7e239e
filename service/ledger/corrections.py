"""Corrections: a charge is cancelled by its reversal and, unless it is only cancelled, replaced by a new charge.

Both in one transaction or neither, and each charge at most once: corrections of a tenant are made one transaction at a
time, under a lock of their own, so that what is reversed already is known before anything is written. That lock comes
before every other one; from there on a correction is recorded like any batch, in the same order of locks.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from hashlib import blake2b
from uuid import UUID

import msgspec
import psycopg
import structlog

from service.db.pools import PostgresConnection, PostgresPool
from service.db.row_errors import ROW_ERRORS
from service.db.tenant_lock import LOCK_SHARED, tenant_lock_keys
from service.kit.sources import LEDGER_SOURCE
from service.ledger import repository
from service.ledger.batches import WindowMatcher, fences_of
from service.ledger.charge import ChargeDraft, MatchedBatch, Unstorable
from service.ledger.posts import CommittedPosts
from service.ledger.repository import Fence

_log = structlog.get_logger(__name__)

_LOCK_CORRECTIONS = "SELECT pg_advisory_xact_lock(%s)"


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

# Something to be committed together with corrections, told what becomes of them. It is called again, in another
# transaction, when the database refuses one of them.
Alongside = Callable[[PostgresConnection, Sequence[CorrectionOutcome]], Awaitable[None]]


def reversal_event_id(charge_id: UUID) -> str:
    """Return the event id of the one reversal a charge can have."""
    return f"reversal:{charge_id}"


def correction_event_id(charge_id: UUID) -> str:
    """Return the event id of the one charge that can come in a charge's place."""
    return f"correction:{charge_id}"


class CorrectionWriter:
    """Writes corrections of one tenant.

    What is counted in is locked by nobody for longer than the database itself takes: the statement that does it is sent
    together with the commit, after everything that has to be known before.
    """

    def __init__(self, pool: PostgresPool, matcher: WindowMatcher, tenant_id: str) -> None:
        self._pool = pool
        self._matcher = matcher
        self._tenant_id = tenant_id

    async def write(
        self, corrections: Sequence[Correction], alongside: Alongside | None, published: Sequence[tuple[str, UUID]]
    ) -> tuple[list[CorrectionOutcome], list[CommittedPosts]]:
        """Write those whose charge is not reversed yet; return what became of each and what that owes to Redis.

        `published` are outbox rows that were published since: they are deleted on the way.
        """
        matched = await self._matcher.match([draft for correction in corrections for draft in correction.drafts])
        try:
            async with self._pool.connection() as connection:
                async with connection.pipeline(), connection.transaction():
                    pending = await self._admit(connection, corrections, matched)
                    if alongside is not None:
                        await alongside(connection, pending.outcomes({}))
                    sent = await pending.send(connection)
                    await repository.send_deletion(connection, published)
                return pending.outcomes({}), list(await sent.posts())
        except ROW_ERRORS as error:
            if isinstance(error, psycopg.errors.CheckViolation) and error.diag.constraint_name is None:
                raise  # there is no partition for this month: no fault of any row
        return await self._write_bisecting(corrections, alongside, published, matched)

    async def _write_bisecting(
        self,
        corrections: Sequence[Correction],
        alongside: Alongside | None,
        published: Sequence[tuple[str, UUID]],
        matched: MatchedBatch,
    ) -> tuple[list[CorrectionOutcome], list[CommittedPosts]]:
        """Write in one transaction what the database does not refuse."""
        async with self._pool.connection() as connection, connection.transaction():
            pending = await self._admit(connection, corrections, matched)
            refused, posts = await _send_or_bisect(connection, pending)
            outcomes = pending.outcomes(refused)
            if alongside is not None:
                await alongside(connection, outcomes)
            await repository.send_deletion(connection, published)
        return outcomes, posts

    async def _admit(
        self, connection: PostgresConnection, corrections: Sequence[Correction], matched: MatchedBatch
    ) -> "_Pending":
        """Take the locks, and return what is to be written by the configuration that they hold still."""
        await connection.execute(_LOCK_CORRECTIONS, (_lock_key(self._tenant_id),))
        await connection.execute(LOCK_SHARED, (tenant_lock_keys([self._tenant_id]),))
        fence_holds = await repository.holds_fence(connection, fences_of(matched))
        recorded = await self._find_recorded(connection, corrections)
        if not fence_holds:
            drafts = [draft for correction in corrections for draft in correction.drafts]
            matched = await self._matcher.match(drafts, connection=connection)
        done = frozenset(
            each.reversal.event_id for each in corrections if (LEDGER_SOURCE, each.reversal.event_id) in recorded
        )
        # Its reversal alone must not be written: whoever has the key of what would come in its place has it for good.
        taken = frozenset(
            each.reversal.event_id
            for each in corrections
            if each.replacement is not None and (each.replacement.source, each.replacement.event_id) in recorded
        )
        wanted = [each for each in corrections if each.reversal.event_id not in done | taken]
        return _Pending(corrections, done, taken - done, wanted, matched)

    async def _find_recorded(
        self, connection: PostgresConnection, corrections: Sequence[Correction]
    ) -> frozenset[tuple[str, str]]:
        """Return (source, event_id) of those drafts of the corrections whose event keys are taken."""
        event_ids: dict[str, list[str]] = {}
        for correction in corrections:
            for draft in correction.drafts:
                event_ids.setdefault(draft.source, []).append(draft.event_id)
        recorded: set[tuple[str, str]] = set()
        for source, ids in event_ids.items():
            known = await repository.find_recorded(connection, self._tenant_id, source, ids)
            recorded.update((source, event_id) for event_id in known)
        return frozenset(recorded)


class _Pending(msgspec.Struct, frozen=True):
    """Corrections asked for, those to be written, matched; the others by the ids of their reversals.

    `done`: the charge is reversed already; `taken`: the event key of what would come in its place is somebody else's.
    """

    corrections: Sequence[Correction]
    done: frozenset[str]
    taken: frozenset[str]
    wanted: list[Correction]
    matched: MatchedBatch

    def outcomes(self, refused: Mapping[str, str]) -> list[CorrectionOutcome]:
        """Return what becomes of each, given those the database refuses."""
        unstorable = dict.fromkeys(self.taken, "event_recorded_once") | dict(refused)
        return [_outcome(correction, self.done, unstorable) for correction in self.corrections]

    def halves(self) -> tuple["_Pending", "_Pending"]:
        """Return the first and the second half of what is to be written."""
        middle = len(self.wanted) // 2
        first, second = self.wanted[:middle], self.wanted[middle:]
        return msgspec.structs.replace(self, wanted=first), msgspec.structs.replace(self, wanted=second)

    async def send(self, connection: PostgresConnection) -> "_Sent":
        """Send what is to be written, without waiting for the answer in pipeline mode."""
        wanted = {draft.charge_id for correction in self.wanted for draft in correction.drafts}
        charges = [charge for charge in self.matched.charges if charge.charge_id in wanted]
        batch = msgspec.structs.replace(self.matched, charges=charges)
        fences = fences_of(batch)
        return _Sent(batch, fences, await repository.send_batch(connection, fences, batch) if charges else None)


class _Sent(msgspec.Struct, frozen=True):
    """A batch under way to the database."""

    batch: MatchedBatch
    fences: list[Fence]
    answer: repository.BatchAnswer | None

    async def posts(self) -> tuple[CommittedPosts, ...]:
        """Wait for the answer and return what it owes to Redis."""
        if self.answer is None:
            return ()
        written = await self.answer.written()
        # The locks held the configuration still; and without theirs nobody writes the key of a correction.
        assert written.fence_holds
        assert len(written.charge_ids) == len(self.batch.charges), "a correction was written in part"
        return repository.posts_of(written, self.fences, self.batch)


async def _send_or_bisect(
    connection: PostgresConnection, pending: _Pending
) -> tuple[dict[str, str], list[CommittedPosts]]:
    """Write corrections; bisect down to those the database refuses, and return them with the rule that does."""
    if not pending.wanted:
        return {}, []
    try:
        async with connection.transaction():
            sent = await pending.send(connection)
            return {}, list(await sent.posts())
    except ROW_ERRORS as error:
        if len(pending.wanted) == 1:
            _log.error("correction_unstorable", error=type(error).__name__, sqlstate=error.sqlstate)
            refused = error.diag.constraint_name or type(error).__name__
            return {pending.wanted[0].reversal.event_id: refused}, []
    first, second = pending.halves()
    refused_first, posts_first = await _send_or_bisect(connection, first)
    refused_second, posts_second = await _send_or_bisect(connection, second)
    return refused_first | refused_second, posts_first + posts_second


def _outcome(correction: Correction, done: frozenset[str], refused: Mapping[str, str]) -> CorrectionOutcome:
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
