"""What evaluation reads of counters, and the one way to raise alerts; the statements are in sql/."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from hashlib import blake2b
from importlib.resources import files
from typing import Any, Final
from uuid import UUID

import msgspec
from psycopg import AsyncConnection
from psycopg.rows import class_row, dict_row

from service.alerts.alert import Alert, Kind
from service.budgets.budget import Budget
from service.budgets.forecast import LEAST_ELAPSED_SHARE
from service.budgets.repository import BUDGET_COLUMNS, budget_of_row

_SQL = files("service.alerts").joinpath("sql")
_EFFECTIVE_LIMIT = _SQL.joinpath("effective_limit.sql").read_text("utf-8")


# Of windows that are not over.
_PRESENT_LIMIT = "b.limit_usd"
_PRESENT_MOST_CARRIED = "COALESCE((b.rollover ->> 'cap_usd')::numeric, b.limit_usd)"


def _statement(
    name: str, counter: str, *, limit: str = _PRESENT_LIMIT, most_carried: str = _PRESENT_MOST_CARRIED
) -> str:
    effective_limit = _EFFECTIVE_LIMIT.format(counter=counter, limit=limit, most_carried=most_carried)
    return _SQL.joinpath(name).read_text("utf-8").format(effective_limit=effective_limit)


_READ_COUNTERS = _statement("read_counters.sql", "a", limit="a.limit_usd", most_carried="a.most_carried_usd")
_FIND_DUE = _statement("find_due.sql", "c")
_REARM = _statement("rearm.sql", "c")
_RAISE = _SQL.joinpath("raise_alerts.sql").read_text("utf-8")
_LOAD_BUDGETS = f"""
SELECT {BUDGET_COLUMNS} FROM budget
WHERE (tenant_id, budget_id) IN (
    SELECT a.tenant_id, a.budget_id FROM json_to_recordset(%s::json) AS a (tenant_id text, budget_id uuid)
) AND state <> 'archived'
"""  # noqa: S608 — only a constant list of columns is put into it
_LIST_PERIODS = """
SELECT tenant_id, budget_id, period::text AS period, thresholds ->> 0 AS first_threshold FROM budget
WHERE state <> 'archived' AND thresholds <> '[]' AND (tenant_id, budget_id) > (%s, %s)
ORDER BY tenant_id, budget_id LIMIT %s
"""
_CLOCK = "SELECT clock_timestamp()"
_SCHEDULE_LOCK = int.from_bytes(blake2b(b"schedule", digest_size=8, person=b"tg-alerts").digest(), signed=True)
_TRY_LOCK = "SELECT pg_try_advisory_lock(%s)"
_UNLOCK = "SELECT pg_advisory_unlock(%s)"
# A little early is in time: replicas come around every interval, a tenth sooner or later.
_BEGIN = """
UPDATE alert_schedule SET started_at = clock_timestamp()
WHERE started_at <= clock_timestamp() - 0.8 * %s::interval
"""

# So many commits must have added to a window before its pace is projected: one large call alone is no pace.
LEAST_ADDITIONS: Final = 5

BudgetKey = tuple[str, UUID]  # tenant_id, budget_id


class AskedCounter(msgspec.Struct, frozen=True, kw_only=True):
    """A counter to read: the oldest and newest bucket that count, and the instant whose increases count.

    `limit_usd`: the limit of its window without them, `most_carried_usd`: the most that counts of what was carried in.
    """

    tenant_id: str
    budget_id: UUID
    subject: str
    first: datetime
    last: datetime
    at: datetime
    limit_usd: Decimal
    most_carried_usd: Decimal


class CounterFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What a counter has posted, what its newest bucket has of it, its limit, which thresholds were raised."""

    tenant_id: str
    budget_id: UUID
    subject: str
    last: datetime
    at: datetime
    posted: Decimal
    newest: Decimal
    limit_usd: Decimal
    raised: list[Decimal]


class BudgetPeriod(msgspec.Struct, frozen=True, kw_only=True):
    """A live budget with thresholds, as far as its windows are concerned."""

    tenant_id: str
    budget_id: UUID
    period: str  # the stored document
    first_threshold: str


class AskedWindow(msgspec.Struct, frozen=True, kw_only=True):
    """The present window of all counters of a budget; `length_us` None = it has no end."""

    tenant_id: str
    budget_id: UUID
    first: datetime
    last: datetime
    at: datetime
    length_us: int | None
    least_share: Decimal


class DueAlert(msgspec.Struct, frozen=True, kw_only=True):
    """An alert that is due for a counter and was not raised."""

    tenant_id: str
    budget_id: UUID
    subject: str
    kind: Kind
    threshold: Decimal
    posted: Decimal
    limit_usd: Decimal
    oldest: datetime


async def read_clock(connection: AsyncConnection[Any]) -> datetime:
    """Return the present time of the database."""
    row = await (await connection.execute(_CLOCK)).fetchone()
    assert row is not None
    instant: datetime = row[0]
    return instant


async def load_live_budgets(connection: AsyncConnection[Any], keys: Sequence[BudgetKey]) -> dict[BudgetKey, Budget]:
    """Return those of the budgets that are not archived, as they are committed now."""
    wanted = [{"tenant_id": tenant_id, "budget_id": budget_id} for tenant_id, budget_id in keys]
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(_LOAD_BUDGETS, (_json(wanted),))
        budgets = [budget_of_row(row) for row in await cursor.fetchall()]
    return {(budget.tenant_id, budget.budget_id): budget for budget in budgets}


async def read_counters(connection: AsyncConnection[Any], asked: Sequence[AskedCounter]) -> list[CounterFigures]:
    """Return the figures of counters of live budgets, in no particular order."""
    async with connection.cursor(row_factory=class_row(CounterFigures)) as cursor:
        await cursor.execute(_READ_COUNTERS, (_json(asked),))
        return await cursor.fetchall()


async def list_periods(connection: AsyncConnection[Any], after: BudgetKey | None, limit: int) -> list[BudgetPeriod]:
    """Return live budgets with thresholds, those after (tenant_id, budget_id)."""
    position = after if after is not None else ("", UUID(int=0))
    async with connection.cursor(row_factory=class_row(BudgetPeriod)) as cursor:
        await cursor.execute(_LIST_PERIODS, (*position, limit))
        return await cursor.fetchall()


async def find_due(connection: AsyncConnection[Any], windows: Sequence[AskedWindow], limit: int) -> list[DueAlert]:
    """Return alerts that are due in the windows and not raised, `limit` at most."""
    parameters = {
        "windows": _json(windows),
        "least_additions": LEAST_ADDITIONS,
        "least_elapsed": LEAST_ELAPSED_SHARE,
        "limit": limit,
    }
    async with connection.cursor(row_factory=class_row(DueAlert)) as cursor:
        await cursor.execute(_FIND_DUE, parameters)
        return await cursor.fetchall()


async def raise_alerts(connection: AsyncConnection[Any], alerts: Sequence[Alert]) -> list[Kind]:
    """Raise those of the alerts nobody has raised, with their deliveries; return the kind of each."""
    cursor = await connection.execute(_RAISE, (_json(alerts),))
    return [row[0] for row in await cursor.fetchall()]


async def rearm(connection: AsyncConnection[Any], windows: Sequence[AskedWindow]) -> None:
    """Rearm the alerts of rolling budgets that may be raised again."""
    await connection.execute(_REARM, (_json(windows),))


async def try_lock_schedule(connection: AsyncConnection[Any]) -> bool:
    """Try to become the one who makes a pass, on this connection, until `unlock_schedule` or its end."""
    row = await (await connection.execute(_TRY_LOCK, (_SCHEDULE_LOCK,))).fetchone()
    return row is not None and bool(row[0])


async def unlock_schedule(connection: AsyncConnection[Any]) -> None:
    """Let others make passes; a connection that is broken has done so already."""
    if not connection.closed and not connection.broken:
        await connection.execute(_UNLOCK, (_SCHEDULE_LOCK,))


async def begin_pass(connection: AsyncConnection[Any], interval: timedelta) -> bool:
    """Note that a pass begins now; False = somebody made one in this interval."""
    return (await connection.execute(_BEGIN, (interval,))).rowcount == 1


def _json(document: Any) -> str:
    return msgspec.json.encode(document).decode()
