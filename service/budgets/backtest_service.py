"""Tries a budget on the calls of the past: one per tenant, four per process at a time, in bounded time and memory."""

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

import msgspec

from service.budgets.backtest import PastCall, Replay, SubjectResult, Totals
from service.budgets.backtest_queries import PastCharge, read_pages, snapshot
from service.budgets.budget import Budget, BudgetDraft
from service.budgets.creation import counts_from
from service.budgets.repository import Scope, is_within
from service.db.pools import PostgresPool
from service.errors import Forbidden, InvalidInput, TooManyRequests
from service.identity.call import call_names_of_charge
from service.identity.conditions import comparable_value
from service.kit.clock import monotonic
from service.kit.ids import new_id
from service.ledger.filters import TimeRange

LONGEST_RANGE: Final = timedelta(days=400)
MOST_AT_ONCE: Final = 4
_DEADLINE_SECONDS: Final = 120.0
_TAKEN_AT_ONCE: Final = 200
# A conflict and an opening balance are posted; nobody asked for them.
_ASKED_KINDS: Final = frozenset({"usage", "correction"})


class BacktestResult(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the calls of a range."""

    time_range: TimeRange
    totals: Totals
    subjects: list[SubjectResult]


class BacktestService:
    """Back-tests of a tenant's charges."""

    def __init__(self, pool: PostgresPool, *, deadline_seconds: float = _DEADLINE_SECONDS) -> None:
        self._pool = pool
        self._deadline_seconds = deadline_seconds
        self._running: set[str] = set()  # tenants
        self._slice = asyncio.Lock()

    async def run(self, tenant_id: str, draft: BudgetDraft, time_range: TimeRange, scope: Scope) -> BacktestResult:
        """Return what the budget would have done, had it been created at the start of the range.

        Raises InvalidInput (`query_too_expensive`, `too_many_subjects`), Forbidden, TooManyRequests, Unavailable.
        """
        if not is_within(draft.match, scope):
            raise Forbidden("This token reads less than the budget matches.", code="outside_scope")
        if tenant_id in self._running:
            raise TooManyRequests("This server tries a budget of this tenant already; ask again when that is done.")
        if len(self._running) >= MOST_AT_ONCE:
            raise TooManyRequests(f"This server tries {MOST_AT_ONCE} budgets already; ask again.")
        self._running.add(tenant_id)
        try:
            return await self._run(tenant_id, draft, time_range, scope)
        finally:
            self._running.remove(tenant_id)

    async def _run(self, tenant_id: str, draft: BudgetDraft, time_range: TimeRange, scope: Scope) -> BacktestResult:
        since = counts_from(draft.period, time_range.start)
        narrowed = {
            name: frozenset(comparable_value(name, value) for value in allowed) for name, allowed in scope.items()
        }
        replay = Replay(_as_if_created(tenant_id, draft, time_range.start, since), time_range.start, narrowed=narrowed)
        give_up_at = monotonic() + self._deadline_seconds
        async with snapshot(self._pool) as connection:
            async for page in read_pages(connection, tenant_id, draft.match, since, time_range.end):
                await self._take(replay, page)
                if monotonic() > give_up_at:
                    raise InvalidInput(
                        f"The back-test takes longer than {self._deadline_seconds:.0f} s; ask for a shorter range, or"
                        " a budget that matches less.",
                        code="query_too_expensive",
                    )
        return BacktestResult(time_range=time_range, totals=replay.totals, subjects=list(replay.results.values()))

    async def _take(self, replay: Replay, page: Sequence[PastCharge]) -> None:
        """Take a page, in slices between which everything else runs: never two slices of two back-tests in a row."""
        for start in range(0, len(page), _TAKEN_AT_ONCE):
            async with self._slice:
                for charge in page[start : start + _TAKEN_AT_ONCE]:
                    replay.take(past_call(charge))
                await asyncio.sleep(0)


def past_call(charge: PastCharge) -> PastCall:
    """Return a charge as a back-test sees it."""
    return PastCall(
        names=call_names_of_charge(charge),
        effective_at=charge.effective_at,
        amount_usd=charge.enforced_usd,
        is_free=charge.price_state == "free",
        is_unpriced=charge.price_state == "unpriced",
        is_asked=charge.kind in _ASKED_KINDS,
    )


def _as_if_created(tenant_id: str, draft: BudgetDraft, at: datetime, since: datetime | None) -> Budget:
    return Budget(
        tenant_id=tenant_id,
        budget_id=new_id(),
        slug=draft.slug,
        match=draft.match,
        period=draft.period,
        terms=draft.terms,
        state="current",
        created_at=at,
        config_version=1,
        changed_version=1,
        counts_from=since,
    )
