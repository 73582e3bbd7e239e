"""Prices recorded charges anew, page by page: a preview adds up what would change, applying writes corrections.

Applying commits a page's corrections together with how far it is, so that whoever goes on after a crash neither skips
nor counts anything twice. What changes nothing writes nothing: applying twice is applying once.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext

import msgspec
import structlog

from service.audit import repository as audit
from service.config.service import ConfigStore
from service.db.pools import PostgresConnection, PostgresPool, connected
from service.kit.clock import monotonic
from service.ledger.charge import Unstorable
from service.ledger.corrections import Corrected, Correction, CorrectionOutcome
from service.ledger.service import LedgerRecorder
from service.pricing.registry import PriceBooks
from service.repricing import repository
from service.repricing.queries import Page, read_moved, read_pages
from service.repricing.replacement import correction_of
from service.repricing.result import RepricingResult, Side, Tally
from service.repricing.revaluation import ChargeRow, Revaluation, facts_of, revalue
from service.repricing.terms import Job, Progress

_log = structlog.get_logger(__name__)

# The loop is given back after this many charges, so that checks of the same process stay fast.
_CHARGES_AT_ONCE = 20
# Between pages events and checks have the rows, the database and the loop to themselves.
_REST_SHARE = 0.25

OnProgress = Callable[[Progress], None]


def _ignore(_: Progress) -> None:
    """Nobody watches."""


class _Revalued(msgspec.Struct, frozen=True):
    """What became of the charges of a page: those that change, and how many cannot be priced anew."""

    changed: list[tuple[ChargeRow, Revaluation]]
    not_repriceable: int


class Repricer:
    """Runs repricings. `rest_share`: after each page it rests for that share of the time the page took.

    `turn` is held while a page is worked on: repricings that share it take turns page by page.
    """

    def __init__(
        self,
        pool: PostgresPool,
        configs: ConfigStore,
        prices: PriceBooks,
        recorder: LedgerRecorder,
        *,
        rest_share: float = _REST_SHARE,
        turn: AbstractAsyncContextManager[object] | None = None,
    ) -> None:
        self._pool = pool
        self._configs = configs
        self._prices = prices
        self._recorder = recorder
        self._rest_share = rest_share
        self._turn = turn or nullcontext()

    async def run(self, job: Job, on_progress: OnProgress = _ignore) -> RepricingResult:
        """Carry a claimed repricing to its end and return its result. Raises LostClaim, Unavailable."""
        if not job.applies:
            result = await self.preview(job, on_progress)
            async with connected(self._pool) as connection:
                await repository.finish(connection, job, result=result)
            return result
        progress = await self.apply(job, on_progress)
        async with connected(self._pool) as connection:
            await repository.hold(connection, job)
            async with connection.transaction():
                result = await read_moved(connection, job)
                await repository.finish(connection, job, result=result)
                await _note_in_trail(connection, job, progress, delta_usd=result.delta_usd)
        return result

    async def fail(self, job: Job, why: str) -> None:
        """End a repricing that cannot be carried on; what was applied stays. Raises LostClaim, Unavailable."""
        async with connected(self._pool) as connection, connection.transaction():
            await repository.finish(connection, job, result=None, failure=why)
            if job.applies:
                await _note_in_trail(connection, job, None, failure=why)

    async def preview(self, job: Job, on_progress: OnProgress = _ignore) -> RepricingResult:
        """Return what applying would come to; writes nothing but how far it is. Raises LostClaim, Unavailable."""
        tally = Tally()
        progress = Progress()
        async for page in self._pages(job, progress):
            async with self._working():
                revalued = await self._revalue(job, page)
                for row, now in revalued.changed:
                    tally.add(*_sides(row, now))
                changed = len(revalued.changed)
                progress = _moved_on(progress, page, revalued, changed=changed, refused=0)
                async with connected(self._pool) as connection:
                    await repository.move_on(connection, job, progress)
            on_progress(progress)
        return tally.result()

    async def apply(self, job: Job, on_progress: OnProgress = _ignore) -> Progress:
        """Write the corrections, from where the repricing is. Raises LostClaim, Unavailable."""
        progress = job.progress
        async for page in self._pages(job, progress):
            async with self._working():
                progress = await self._apply_page(job, page, progress)
            on_progress(progress)
        return progress

    async def _apply_page(self, job: Job, page: Page, progress: Progress) -> Progress:
        revalued = await self._revalue(job, page)
        corrections: list[Correction] = []
        for number, (row, now) in enumerate(revalued.changed):
            if number % _CHARGES_AT_ONCE == 0:
                await asyncio.sleep(0)
            corrections.append(correction_of(row, now, job.reason))
        after = progress

        async def move_on(connection: PostgresConnection, outcomes: Sequence[CorrectionOutcome]) -> None:
            nonlocal after
            changed = sum(isinstance(outcome, Corrected) for outcome in outcomes)
            refused = sum(isinstance(outcome, Unstorable) for outcome in outcomes)
            after = _moved_on(progress, page, revalued, changed=changed, refused=refused)
            await repository.move_on(connection, job, after)

        if corrections:
            await self._recorder.correct(job.tenant_id, corrections, alongside=move_on)
        else:
            async with connected(self._pool) as connection:
                await move_on(connection, ())
        return after

    async def _pages(self, job: Job, progress: Progress) -> AsyncIterator[Page]:
        """Yield the pages from where the repricing is, with prices and declarations of this moment or later."""
        await self._prices.reload()
        await self._configs.reload(job.tenant_id)
        async for page in read_pages(self._pool, job.tenant_id, job.terms, job.begun_at, progress.reached):
            yield page

    @asynccontextmanager
    async def _working(self) -> AsyncIterator[None]:
        async with self._turn:
            started = monotonic()
            yield
            busy_seconds = monotonic() - started
        await asyncio.sleep(busy_seconds * self._rest_share)

    async def _revalue(self, job: Job, page: Page) -> _Revalued:
        config = await self._configs.get(job.tenant_id)
        changed: list[tuple[ChargeRow, Revaluation]] = []
        not_repriceable = 0
        for number, row in enumerate(page.charges):
            if number % _CHARGES_AT_ONCE == 0:
                await asyncio.sleep(0)
            facts = facts_of(row)
            book = self._prices.at(job.tenant_id, row["occurred_at"])
            try:
                now = None if facts is None else revalue(row, facts, config, book)
            except Exception:  # noqa: BLE001 - see below
                # Whatever it is, it is this charge's: the others must not wait for it for ever.
                _log.exception("charge_not_repriceable", charge_id=str(row["charge_id"]))
                facts = now = None
            not_repriceable += facts is None
            if now is not None:
                changed.append((row, now))
        return _Revalued(changed, not_repriceable)


def _moved_on(progress: Progress, page: Page, revalued: _Revalued, *, changed: int, refused: int) -> Progress:
    return Progress(
        examined=progress.examined + len(page.charges),
        changed=progress.changed + changed,
        not_repriceable=progress.not_repriceable + revalued.not_repriceable,
        refused=progress.refused + refused,
        reached=page.reached or progress.reached,
    )


async def _note_in_trail(connection: PostgresConnection, job: Job, progress: Progress | None, **outcome: str) -> None:
    time_range = job.terms.time_range
    counts = {} if progress is None else {"examined": progress.examined, "changed": progress.changed}
    await audit.record(
        connection,
        job.tenant_id,
        changed_by=job.created_by,
        action="repricing.applied",
        subject_type="repricing",
        subject_id=str(job.repricing_id),
        before=None,
        after={"from": time_range.start, "to": time_range.end, "filter": job.terms.filter, **counts, **outcome},
    )


def _sides(row: ChargeRow, now: Revaluation) -> tuple[Side, Side]:
    before = Side(
        team=row["team"],
        api_key=row["api_key"],
        served_model=row["served_model"],
        price_state=row["price_state"],
        cost_usd=row["cost_usd"],
        enforced_usd=row["enforced_usd"],
    )
    after = msgspec.structs.replace(
        before,
        served_model=now.models.served_model,
        price_state=now.rating.price_state,
        cost_usd=now.rating.cost_usd,
        enforced_usd=now.rating.enforced_usd,
    )
    return before, after
