"""Brings a cost map into force as a price book: read, compared with what is in force, judged, stored, announced.

Nothing that was charged is priced again by it: the report says which range is offered for that. A book that would lose
or shift prices wholesale is accepted only by its version. The answer comes when every process prices by the new book.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Final, Literal

import msgspec
import psycopg
import structlog
from prometheus_client import Counter
from psycopg_pool import PoolTimeout

from service.audit import repository as audit
from service.db.pools import PostgresConnection, PostgresPool, connected
from service.errors import InvalidInput, StateConflict
from service.kit.clock import monotonic
from service.kit.instants import BEGINNING
from service.pricing import repository
from service.pricing.book_candidate import BookCandidate, entries_of, read_candidate
from service.pricing.book_diff import BookDiff, compare_books
from service.pricing.book_report import BookReport, report_on
from service.pricing.import_guard import BookWarning, Objection, objections_to, warnings_about
from service.pricing.map_entry import CostMapError
from service.pricing.repository import SHARED, VersionRow

_log = structlog.get_logger(__name__)

IMPORTS: Final = Counter("tallygate_price_book_imports", "Cost maps offered for import by outcome.", ["outcome"])

_MOST_AHEAD: Final = timedelta(days=3660)
_ATTEMPTS: Final = 5
_FOLLOW_SECONDS: Final = 3.0
_LOOK_SECONDS: Final = 0.01
_MOST_DETAIL: Final = 500

Outcome = Literal["imported", "unchanged", "compared"]

# The models that answered lately, of a tenant or of all.
FindServed = Callable[[str | None], Awaitable[frozenset[str]]]


class ImportOrder(msgspec.Struct, frozen=True, kw_only=True):
    """Whose book a map shall become, from when, and on which terms. `tenant_id` SHARED = the installation's."""

    tenant_id: str
    imported_by: str
    effective_from: datetime | None = None  # None = now
    accept: str | None = None  # the version that was looked at and is accepted, whatever speaks against it
    is_dry_run: bool = False


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """A candidate beside the book it would replace, at the instant it would come into force."""

    candidate: BookCandidate
    base: VersionRow | None
    effective_from: datetime
    effective_to: datetime | None
    diff: BookDiff
    objections: tuple[Objection, ...]
    warnings: tuple[BookWarning, ...]


class ImportAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What became of an order."""

    outcome: Outcome
    comparison: Comparison
    report: BookReport
    imported_at: datetime | None = None
    is_known_everywhere: bool = True

    @property
    def repriceable_range(self) -> tuple[datetime, datetime] | None:
        """Return the range of calls that were priced by another book and would now be priced by this one."""
        end = self.imported_at
        if end is None:
            return None
        if self.comparison.effective_to is not None:
            end = min(end, self.comparison.effective_to)
        start = self.comparison.effective_from
        return (start, end) if start < end else None


class PriceBookImporter:
    """Imports maps, one at a time in a process: a map unfolds to ten times its size."""

    def __init__(
        self,
        pool: PostgresPool,
        *,
        find_served: FindServed,
        reload: Callable[[], Awaitable[None]],
        follow_seconds: float = _FOLLOW_SECONDS,
    ) -> None:
        self._pool = pool
        self._find_served = find_served
        self._reload = reload
        self._follow_seconds = follow_seconds
        self._turn = asyncio.Lock()

    async def run(self, order: ImportOrder, text: bytes, origin: str) -> ImportAnswer:
        """Import a map, or only compare it.

        Raises InvalidInput (`invalid_cost_map`, `invalid_time`), StateConflict (`price_book_not_accepted` when the
        guard objects, `price_book_differs` when it is not the version that was accepted, `price_book_replaced`),
        Unavailable.
        """
        try:
            async with self._turn:
                candidate = await _read(text, origin)
                answer = await self._run(order, candidate)
        except (InvalidInput, StateConflict):
            IMPORTS.labels("refused").inc()
            raise
        IMPORTS.labels(answer.outcome).inc()
        return answer

    async def _run(self, order: ImportOrder, candidate: BookCandidate) -> ImportAnswer:
        if order.accept is not None and order.accept != candidate.version:
            detail = f"This map is {candidate.version}, not {order.accept}: look at what it changes, and accept that."
            raise StateConflict(detail, code="price_book_differs", field="accept")
        served = await self._served(order.tenant_id)
        for _ in range(_ATTEMPTS):
            comparison = await self._compare(order, candidate, served)
            report = report_of(comparison)
            if order.is_dry_run:
                return ImportAnswer(outcome="compared", comparison=comparison, report=report)
            if comparison.objections and order.accept is None:
                raise _not_accepted(comparison)
            answer = await self._store(order, comparison, report)
            if answer is not None:
                return await self._announce(answer)
        raise StateConflict("Other price books come into force again and again at this instant; try once more.")

    async def _served(self, tenant_id: str) -> frozenset[str]:
        """Return the models that answered lately; not knowing them spoils no import."""
        try:
            return await self._find_served(None if tenant_id == SHARED else tenant_id)
        except (psycopg.Error, PoolTimeout) as error:
            _log.warning("served_models_not_asked", error=type(error).__name__)
            return frozenset()

    async def _compare(self, order: ImportOrder, candidate: BookCandidate, served: frozenset[str]) -> Comparison:
        async with connected(self._pool) as connection:
            now = await repository.read_clock(connection)
            effective_from = _checked_start(order.effective_from or now, now)
            base = await repository.find_in_force(connection, order.tenant_id, effective_from)
            effective_to = await repository.find_next_change(connection, order.tenant_id, effective_from)
            found = await repository.fetch_snapshots(connection, [base.version]) if base else {}
        snapshot = found[base.version] if base is not None else None
        return await asyncio.to_thread(_compare, candidate, base, snapshot, (effective_from, effective_to), served)

    async def _store(self, order: ImportOrder, comparison: Comparison, report: BookReport) -> ImportAnswer | None:
        """Store the book as it was compared; None when another one has come into force there meanwhile."""
        candidate, tenant_id = comparison.candidate, order.tenant_id
        async with connected(self._pool) as connection, connection.transaction():
            now = await repository.lock_additions(connection)
            start = order.effective_from or now
            base = await repository.find_in_force(connection, tenant_id, start)
            if base != comparison.base:
                return None
            if base is not None and (base.tenant_id, base.version) == (tenant_id, candidate.version):
                return ImportAnswer(outcome="unchanged", comparison=comparison, report=report)
            row = VersionRow(tenant_id, candidate.version, start)
            added = await repository.add_version(
                connection,
                row,
                imported_by=order.imported_by,
                origin=candidate.origin,
                report=msgspec.to_builtins(report),
                snapshot=candidate.snapshot,
            )
            if added is None:
                raise _replaced(row)
            await _record(connection, order, comparison, row)
        comparison = msgspec.structs.replace(comparison, effective_from=start)
        return ImportAnswer(outcome="imported", comparison=comparison, report=report, imported_at=added)

    async def _announce(self, answer: ImportAnswer) -> ImportAnswer:
        """Wait until every process prices by what is committed, this one included."""
        if answer.outcome != "imported":
            return answer
        version = answer.comparison.candidate.version
        _log.info("price_book_imported", version=version, effective_from=answer.comparison.effective_from.isoformat())
        return msgspec.structs.replace(answer, is_known_everywhere=await asyncio.shield(self._follow()))

    async def _follow(self) -> bool:
        """Take over what is committed, and tell whether all other processes did within some seconds."""
        give_up_at = monotonic() + self._follow_seconds
        try:
            await self._reload()
            async with self._pool.connection() as connection:
                generation = await repository.read_generation(connection)
                while await repository.is_older_held(connection, generation):
                    if monotonic() > give_up_at:
                        _log.warning("price_book_not_followed", generation=generation)
                        return False
                    await asyncio.sleep(_LOOK_SECONDS)
        except (psycopg.Error, PoolTimeout) as error:
            _log.warning("price_book_not_followed", error=type(error).__name__)
            return False
        return True


def report_of(comparison: Comparison) -> BookReport:
    """Return the report of a comparison."""
    base = None if comparison.base is None else comparison.base.version
    return report_on(comparison.candidate, base, comparison.diff, comparison.warnings)


async def _read(text: bytes, origin: str) -> BookCandidate:
    try:
        return await asyncio.to_thread(read_candidate, text, origin=origin)
    except CostMapError as error:
        raise InvalidInput(f"{str(error)[:_MOST_DETAIL]}.", code="invalid_cost_map") from error


def _compare(
    candidate: BookCandidate,
    base: VersionRow | None,
    snapshot: bytes | None,
    span: tuple[datetime, datetime | None],
    served: frozenset[str],
) -> Comparison:
    try:
        entries = {} if snapshot is None else entries_of(snapshot)
    except CostMapError:
        # What cannot be read prices nothing either: whatever replaces it is better.
        entries = {}
    diff = compare_books(entries, candidate.entries)
    return Comparison(
        candidate=candidate,
        base=base,
        effective_from=span[0],
        effective_to=span[1],
        diff=diff,
        objections=objections_to(diff),
        warnings=warnings_about(diff, served),
    )


def _checked_start(start: datetime, now: datetime) -> datetime:
    if not BEGINNING <= start <= now + _MOST_AHEAD:
        detail = "A price book comes into force between 1970 and ten years from now."
        raise InvalidInput(detail, code="invalid_time", field="effective_from")
    return start


async def _record(connection: PostgresConnection, order: ImportOrder, comparison: Comparison, row: VersionRow) -> None:
    base = comparison.base
    await audit.record(
        connection,
        order.tenant_id,
        changed_by=order.imported_by,
        action="price_book.imported",
        subject_type="price_book",
        subject_id=row.version,
        before=None if base is None else {"version": base.version, "effective_from": base.effective_from},
        after={
            "version": row.version,
            "effective_from": row.effective_from,
            "origin": comparison.candidate.origin,
            "models_added": len(comparison.diff.added),
            "models_removed": len(comparison.diff.removed),
            "models_changed": len(comparison.diff.changed),
            "objections": [objection.detail for objection in comparison.objections],
        },
    )


def _not_accepted(comparison: Comparison) -> StateConflict:
    reasons = "; ".join(objection.detail for objection in comparison.objections)
    detail = f"Not accepted unasked: {reasons}. Look at it (dry_run=true), then accept={comparison.candidate.version}."
    return StateConflict(detail, code="price_book_not_accepted", field="accept")


def _replaced(row: VersionRow) -> StateConflict:
    later = row.effective_from + timedelta(microseconds=1)
    detail = (
        f"{row.version} came into force at {row.effective_from.isoformat()} before, and another book has replaced it "
        f"there: choose a later instant, such as {later.isoformat()}."
    )
    return StateConflict(detail, code="price_book_replaced", field="effective_from")
