"""Reads of charges: pages of them, one with its explanation, and the SQL of conditions that spend reports share.

Statements are composed of fixed fragments and bound parameters; no text of a caller ever becomes SQL. Every statement
names the tenant, and the conditions of the token's scope go into each.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID

import msgspec
import psycopg
from psycopg import sql
from psycopg.errors import QueryCanceled
from psycopg.rows import dict_row
from psycopg_pool import PoolTimeout

from service.db.pools import PostgresConnection, PostgresPool
from service.errors import InvalidInput, NotFound, Unavailable
from service.ledger.filters import Condition, Position, TimeRange

# Charges take effect at most 5 minutes after they are recorded (a producer's clock running ahead). A day leaves room
# for clocks of ours, and partitions of months before a range are still left out.
_RECORDED_BEFORE_EFFECTIVE = timedelta(days=1)

_LISTED = (
    "charge_id", "kind", "reason", "corrects_charge_id", "source", "event_id", "request_id", "response_id", "trace_id",
    "reservation_id", "attempt", "is_final", "occurred_at", "received_at", "recorded_at", "effective_at",
    "duration_ms", "call_type", "status", "is_stream", "is_cache_hit", "organization", "team", "project", "user",
    "api_key", "end_user", "agent", "session", "tags", "automatic_tags", "requested_model", "requested_canonical",
    "deployment", "deployment_id", "served_model", "provider", "gateway_price_key", "price_key", "price_book_version",
    "config_version", "service_tier", "price_state", "fees_price_state", "price_reason", "requests",
    "failed_requests", "unpriced_requests", "input_tokens", "output_tokens", "cache_read_input_tokens",
    "cache_write_input_tokens", "reasoning_output_tokens", "cost_usd", "model_cost_usd", "fees_usd", "list_cost_usd",
    "enforced_usd", "assumed_usd", "reported_cost_usd",
)  # fmt: skip
# As text: msgspec reads the amounts in them exactly, the driver would not.
_DOCUMENTS = ("components", "fees", "provenance", "quantities")

_PAGE = sql.SQL(
    "SELECT {columns} FROM charge AS c WHERE {where} ORDER BY effective_at DESC, charge_id DESC LIMIT {limit}"
)

# Corrections carry the effective_at of what they correct, so that its index finds them.
_EXPLAINED = sql.SQL("""
SELECT {columns}, {documents}, (
    SELECT json_agg(json_build_object(
        'charge_id', k.charge_id, 'kind', k.kind, 'reason', k.reason, 'recorded_at', k.recorded_at,
        'cost_usd', k.cost_usd::text, 'enforced_usd', k.enforced_usd::text
    ) ORDER BY k.recorded_at, k.charge_id)::text
    FROM charge AS k
    WHERE k.tenant_id = c.tenant_id AND k.effective_at = c.effective_at AND k.corrects_charge_id = c.charge_id
) AS corrections
FROM charge AS c WHERE {where}
""")

ChargeRow = dict[str, Any]


class ChargePage(msgspec.Struct, frozen=True):
    """Charges, newest first; `next` is None on the last page."""

    rows: list[ChargeRow]
    next: Position | None


class Bindings:
    """The parameters of one statement."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}

    def bind(self, value: Any) -> sql.Placeholder:
        """Return the placeholder of a value."""
        name = f"p{len(self.values)}"
        self.values[name] = value
        return sql.Placeholder(name)


_IS_RECORDED = "SELECT 1 FROM event_key WHERE tenant_id = %s AND source = %s AND event_id = %s"
_WHOLE = "SELECT * FROM charge WHERE tenant_id = %s AND charge_id = %s"

# Corrections of corrections: each charge knows at most one that came in its place, found by its event key.
_PRESENT = """
WITH RECURSIVE place AS (
    SELECT %(charge_id)s::uuid AS charge_id, 0 AS step
    UNION ALL
    SELECT k.charge_id, place.step + 1 FROM place JOIN event_key AS k
        ON k.tenant_id = %(tenant_id)s AND k.event_id = 'correction:' || place.charge_id AND k.source = 'tallygate'
)
SELECT charge_id FROM place
WHERE NOT EXISTS (
    SELECT FROM event_key AS k
    WHERE k.tenant_id = %(tenant_id)s AND k.event_id = 'reversal:' || place.charge_id AND k.source = 'tallygate'
)
ORDER BY step DESC LIMIT 1
"""


class ChargeQueries:
    """Reads charges of one tenant at a time."""

    def __init__(self, pool: PostgresPool) -> None:
        self._pool = pool

    async def list_charges(
        self,
        tenant_id: str,
        conditions: Sequence[Condition],
        time_range: TimeRange | None,
        *,
        limit: int,
        after: Position | None = None,
        answer_id: str | None = None,
        with_documents: bool = False,
    ) -> ChargePage:
        """Return a page of the charges that meet the conditions and, if given, have the response or request id."""
        bindings = Bindings()
        where = [_of_tenant(bindings, tenant_id), *(charge_condition(bindings, c) for c in conditions)]
        if time_range is not None:
            where.append(effective_within(bindings, time_range))
        if after is not None:
            position = sql.SQL(", ").join([bindings.bind(after.effective_at), bindings.bind(after.charge_id)])
            where.append(sql.SQL("(effective_at, charge_id) < ({})").format(position))
        if answer_id is not None:
            same = bindings.bind(answer_id)
            where.append(sql.SQL("(response_id = {} OR request_id = {})").format(same, same))
        statement = _PAGE.format(
            columns=_columns(with_documents=with_documents),
            where=sql.SQL(" AND ").join(where),
            limit=bindings.bind(limit + 1),
        )
        async with reading(self._pool) as connection, connection.cursor(row_factory=dict_row) as cursor:
            await cursor.execute(statement, bindings.values)
            rows = await cursor.fetchall()
        return _page(rows, limit)

    async def find_charge(self, tenant_id: str, charge_id: UUID, scope: Sequence[Condition] = ()) -> ChargeRow | None:
        """Return one charge with its lines and its corrections (`components`, `fees`, … as JSON text), or None."""
        bindings = Bindings()
        where = [_of_tenant(bindings, tenant_id), sql.SQL("charge_id = {}").format(bindings.bind(charge_id))]
        where += [charge_condition(bindings, condition) for condition in scope]
        statement = _EXPLAINED.format(columns=_columns(), documents=_documents(), where=sql.SQL(" AND ").join(where))
        async with reading(self._pool) as connection, connection.cursor(row_factory=dict_row) as cursor:
            await cursor.execute(statement, bindings.values)
            return await cursor.fetchone()

    async def is_recorded(self, tenant_id: str, source: str, event_id: str) -> bool:
        """Tell whether an event is recorded."""
        async with reading(self._pool) as connection:
            cursor = await connection.execute(_IS_RECORDED, (tenant_id, source, event_id))
            row = await cursor.fetchone()
        return row is not None

    async def find_present(self, tenant_id: str, charge_id: UUID) -> UUID | None:
        """Return the charge that stands in the place of this one now: itself, a correction, None if it is cancelled."""
        async with reading(self._pool) as connection:
            cursor = await connection.execute(_PRESENT, {"tenant_id": tenant_id, "charge_id": charge_id})
            row = await cursor.fetchone()
        return None if row is None else row[0]

    async def get_row(self, tenant_id: str, charge_id: UUID) -> ChargeRow:
        """Return one charge as it is stored, documents decoded. Raises NotFound."""
        async with reading(self._pool) as connection, connection.cursor(row_factory=dict_row) as cursor:
            await cursor.execute(_WHOLE, (tenant_id, charge_id))
            row = await cursor.fetchone()
        if row is None:
            raise NotFound("There is no such charge.")
        return row


def _page(rows: list[ChargeRow], limit: int) -> ChargePage:
    if len(rows) <= limit:
        return ChargePage(rows, None)
    last = rows[limit - 1]
    return ChargePage(rows[:limit], Position(last["effective_at"], last["charge_id"]))


def _columns(*, with_documents: bool = False) -> sql.Composable:
    columns: sql.Composable = sql.SQL(", ").join([sql.Identifier("c", name) for name in _LISTED])
    return columns + sql.SQL(", ") + _documents() if with_documents else columns


def _documents() -> sql.Composable:
    return sql.SQL(", ").join(
        [sql.SQL("{}::text AS {}").format(sql.Identifier("c", name), sql.Identifier(name)) for name in _DOCUMENTS]
    )


def _of_tenant(bindings: Bindings, tenant_id: str) -> sql.Composable:
    return sql.SQL("tenant_id = {}").format(bindings.bind(tenant_id))


def effective_within(bindings: Bindings, time_range: TimeRange) -> sql.Composable:
    """Return the condition that charges take effect within a range; it also leaves out partitions before it."""
    return sql.SQL("(effective_at >= {} AND effective_at < {} AND recorded_at >= {})").format(
        bindings.bind(time_range.start),
        bindings.bind(time_range.end),
        bindings.bind(time_range.start - _RECORDED_BEFORE_EFFECTIVE),
    )


def charge_condition(bindings: Bindings, condition: Condition) -> sql.Composable:
    """Return the SQL of a condition on a row of `charge`."""
    if condition.field == "tag":
        return tags_condition(bindings, condition)
    if condition.field == "event_id" and condition.included and not condition.includes_absent:
        return sql.SQL("{} AND charge_id IN ({})").format(
            value_condition(bindings, condition, sql.Identifier("event_id")),
            # An index on every charge for what the event keys know already would be paid for by every event.
            sql.SQL(
                "SELECT charge_id FROM event_key AS k WHERE k.tenant_id = c.tenant_id AND k.event_id = ANY ({})"
            ).format(bindings.bind(list(condition.included))),
        )
    return value_condition(bindings, condition, sql.Identifier(condition.field))


def value_condition(bindings: Bindings, condition: Condition, column: sql.Composable) -> sql.Composable:
    """Return the SQL of a condition on a column that holds one value or NULL."""
    parts: list[sql.Composable] = []
    if condition.is_restricted:
        one_of = sql.SQL("{} = ANY ({}::text[])").format(column, bindings.bind(list(condition.included)))
        absent = sql.SQL("{} IS NULL").format(column)
        parts.append(sql.SQL("({} OR {})").format(one_of, absent) if condition.includes_absent else one_of)
    if condition.excluded:
        excluded = bindings.bind(list(condition.excluded))
        parts.append(sql.SQL("({} IS NULL OR {} <> ALL ({}::text[]))").format(column, column, excluded))
    if condition.excludes_absent:
        parts.append(sql.SQL("{} IS NOT NULL").format(column))
    return sql.SQL(" AND ").join(parts)


def tags_condition(bindings: Bindings, condition: Condition) -> sql.Composable:
    """Return the SQL of a condition on the tags of a charge, of which it may have any number."""
    parts: list[sql.Composable] = []
    if condition.is_restricted:
        any_of = sql.SQL("tags && {}::text[]").format(bindings.bind(list(condition.included)))
        parts.append(sql.SQL("({} OR tags = '{{}}')").format(any_of) if condition.includes_absent else any_of)
    if condition.excluded:
        parts.append(sql.SQL("NOT tags && {}::text[]").format(bindings.bind(list(condition.excluded))))
    if condition.excludes_absent:
        parts.append(sql.SQL("tags <> '{}'"))
    return sql.SQL(" AND ").join(parts)


@asynccontextmanager
async def reading(pool: PostgresPool) -> AsyncIterator[PostgresConnection]:
    """Lend a connection to a read. Raises InvalidInput (`query_too_expensive`) at the time limit, and Unavailable."""
    try:
        async with pool.connection() as connection:
            yield connection
    except QueryCanceled as error:
        raise InvalidInput(
            "The answer takes longer than a statement may run; ask for a shorter time or fewer groups.",
            code="query_too_expensive",
        ) from error
    except (psycopg.OperationalError, psycopg.InterfaceError, PoolTimeout) as error:
        raise Unavailable("The ledger cannot be read at the moment; ask again.") from error
