"""The drift check: an auditor that trusts nothing but charges. Reads only; one snapshot per tenant."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Protocol
from uuid import UUID

import msgspec
import psycopg
import structlog
from psycopg import AsyncConnection
from psycopg_pool import PoolTimeout
from redis.exceptions import RedisError

from service.budgets.matching import BudgetSet
from service.budgets.repository import load_budgets
from service.checks.counter_reading import posted_micro_usd
from service.db.pools import PostgresPool
from service.db.row_errors import ROW_ERRORS
from service.drift import queries
from service.identity.call import call_names_of_charge
from service.kit.money import EXACT, ZERO

_log = structlog.get_logger(__name__)

_SHOWN_PER_TABLE = 20

CounterKey = tuple[UUID, str, datetime]


class Drift(msgspec.Struct, frozen=True, kw_only=True):
    """One difference: where, of what, and both figures."""

    tenant_id: str
    place: str  # spend_total | spend_label_total | event_key | budget_window | redis | outbox
    subject: str
    recomputed: str | None
    stored: str | None


class TenantReport(msgspec.Struct, frozen=True, kw_only=True):
    """What was compared for one tenant, and every difference found (at most 20 per table)."""

    tenant_id: str
    charges: int
    counters: int
    counters_in_redis: int
    drifts: list[Drift]


class NotCompared(msgspec.Struct, frozen=True, kw_only=True):
    """A tenant with something nobody can read: of what kind the error was."""

    tenant_id: str
    error: str


class CounterCopies(Protocol):
    """Reads what Redis shows as posted."""

    async def read_posted(
        self, tenant_id: str, counters: list[CounterKey], rolling: frozenset[UUID]
    ) -> list[int | None]:
        """Return micro-USD per bucket of a counter, None where Redis has no copy; `rolling`: budgets that are."""
        ...


class DriftCheck:
    """Compares the sums of one or all tenants with their charges."""

    def __init__(self, pool: PostgresPool, copies: CounterCopies | None) -> None:
        self._pool = pool
        self._copies = copies

    async def tenant_ids(self) -> list[str]:
        """Return all tenants."""
        async with self._pool.connection() as connection:
            return await queries.list_tenants(connection)

    async def check_all(self, tenant_ids: Sequence[str]) -> list[TenantReport | NotCompared]:
        """Compare tenant by tenant; one that cannot be compared keeps no other from it.

        Raises what the drivers and the pool raise when a server does not answer.
        """
        reports: list[TenantReport | NotCompared] = []
        for tenant_id in tenant_ids:
            try:
                reports.append(await self.check(tenant_id))
            except (PoolTimeout, RedisError):
                raise
            except Exception as error:
                if isinstance(error, psycopg.Error) and not isinstance(error, ROW_ERRORS):
                    raise
                _log.exception("tenant_not_compared", tenant_id=tenant_id)
                reports.append(NotCompared(tenant_id=tenant_id, error=type(error).__name__))
        return reports

    async def check(self, tenant_id: str) -> TenantReport:
        """Compare everything of one tenant as of one instant."""
        drifts: list[Drift] = []
        async with self._pool.connection() as connection, connection.transaction():
            await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            await connection.execute("SET LOCAL statement_timeout = 0")
            for table in queries.COMPARED:
                drifts += await self._compare_table(connection, tenant_id, table)
            recount = await _recount(connection, tenant_id)
            stored = await queries.read_windows(connection, tenant_id)
            rolling = await queries.find_rolling(connection, tenant_id)
            waiting = await queries.count_outbox(connection, tenant_id)
        drifts += _compare_counters(tenant_id, recount, stored)
        in_redis, differing = await self._compare_redis(tenant_id, stored, rolling)
        if waiting:
            drifts.append(_drift(tenant_id, "outbox", "batches not published yet", 0, waiting))
        return TenantReport(
            tenant_id=tenant_id,
            charges=recount.charges,
            counters=len(stored),
            counters_in_redis=in_redis,
            drifts=drifts + differing,
        )

    async def _compare_table(self, connection: AsyncConnection[Any], tenant_id: str, table: str) -> list[Drift]:
        found = await queries.find_differences(connection, tenant_id, table, _SHOWN_PER_TABLE)
        return [
            Drift(
                tenant_id=tenant_id,
                place=table,
                subject=" ".join(f"{name}={value}" for name, value in row.items() if name not in queries.MEASURES),
                recomputed=_figures(row) if side == "recomputed" else None,
                stored=_figures(row) if side == "stored" else None,
            )
            for side, row in found
        ]

    async def _compare_redis(
        self, tenant_id: str, stored: dict[CounterKey, Decimal], rolling: frozenset[UUID]
    ) -> tuple[int, list[Drift]]:
        if self._copies is None:
            return 0, []
        counters = list(stored)
        copies = await self._copies.read_posted(tenant_id, counters, rolling)
        known = [(key, copy) for key, copy in zip(counters, copies, strict=True) if copy is not None]
        return len(known), [
            _drift(tenant_id, "redis", _name(key), posted_micro_usd(stored[key]), copy)
            for key, copy in known
            if copy != posted_micro_usd(stored[key])
        ]


class _Recount(msgspec.Struct, kw_only=True):
    charges: int
    sums: dict[CounterKey, Decimal]
    comparable: frozenset[UUID]  # budgets whose counters are complete: not archived, not seeding


async def _recount(connection: AsyncConnection[Any], tenant_id: str) -> _Recount:
    budgets = [budget for budget in await load_budgets(connection, tenant_id) if budget.state == "current"]
    budget_set = BudgetSet(0, budgets)
    sums: dict[CounterKey, Decimal] = {}
    charges = 0
    async for rows in queries.stream_charges(connection, tenant_id):
        charges += len(rows)
        for charge in rows:
            for counter in budget_set.match(call_names_of_charge(charge), charge.effective_at):
                key = (counter.budget.budget_id, counter.subject, counter.window.start)
                sums[key] = EXACT.add(sums.get(key, ZERO), charge.enforced_usd)
    return _Recount(charges=charges, sums=sums, comparable=frozenset(budget.budget_id for budget in budgets))


def _compare_counters(tenant_id: str, recount: _Recount, stored: dict[CounterKey, Decimal]) -> list[Drift]:
    kept = {key: amount for key, amount in stored.items() if key[0] in recount.comparable}
    return [
        _drift(tenant_id, "budget_window", _name(key), recount.sums.get(key), kept.get(key))
        for key in sorted(recount.sums.keys() | kept.keys(), key=str)
        if recount.sums.get(key, ZERO) != kept.get(key, ZERO)
    ][:_SHOWN_PER_TABLE]


def _name(key: CounterKey) -> str:
    budget_id, subject, bucket = key
    return f"budget {budget_id} {subject} from {bucket.isoformat()}"


def _figures(row: dict[str, Any]) -> str:
    return " ".join(f"{name}={row[name]}" for name in queries.MEASURES if row.get(name))


def _drift(tenant_id: str, place: str, subject: str, recomputed: object, stored: object) -> Drift:
    return Drift(
        tenant_id=tenant_id,
        place=place,
        subject=subject,
        recomputed=None if recomputed is None else str(recomputed),
        stored=None if stored is None else str(stored),
    )
