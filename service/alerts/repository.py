"""Lists of alerts and of deliveries, as far as a scope reaches."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

import msgspec
from psycopg import AsyncConnection, sql
from psycopg.rows import class_row, dict_row

from service.alerts.alert import Alert, Event
from service.budgets.subject import forms_in_subjects
from service.identity.conditions import comparable_value

_LIST_ALERTS = """
SELECT
    x.tenant_id, x.alert_id, x.budget_id, x.slug, x.name, x.subject, x.bucket, x.kind, x.threshold, x.is_rolling,
    x.window_start, x.window_end, x.posted_usd, x.limit_usd, x.projected_spend_usd, x.projected_exhaustion_at,
    x.raised_at
FROM alert AS x JOIN budget AS b USING (tenant_id, budget_id)
WHERE x.tenant_id = %(tenant_id)s AND x.raised_at >= %(start)s AND x.raised_at < %(end)s
  AND (%(budgets)s::text[] = '{{}}' OR x.slug = ANY (%(budgets)s) OR x.budget_id::text = ANY (%(budgets)s))
  AND (%(kinds)s::text[] = '{{}}' OR x.kind = ANY (%(kinds)s))
  AND (%(before_time)s::timestamptz IS NULL OR (x.raised_at, x.alert_id) < (%(before_time)s, %(before_id)s))
  AND {scope}
ORDER BY x.raised_at DESC, x.alert_id DESC LIMIT %(limit)s
"""
# Tests belong to no budget: who sees a part of the tenant only does not see them.
_LIST_DELIVERIES = """
SELECT
    d.delivery_id, d.webhook_id, d.alert_id, d.event, d.state, d.attempts, d.created_at, d.next_attempt_at,
    d.finished_at, d.last_status, d.last_error
FROM webhook_delivery AS d
LEFT JOIN alert AS x ON x.tenant_id = d.tenant_id AND x.alert_id = d.alert_id
LEFT JOIN budget AS b ON b.tenant_id = x.tenant_id AND b.budget_id = x.budget_id
WHERE d.tenant_id = %(tenant_id)s AND d.created_at >= %(start)s AND d.created_at < %(end)s
  AND (%(states)s::text[] = '{{}}' OR d.state = ANY (%(states)s))
  AND (%(webhook_id)s::uuid IS NULL OR d.webhook_id = %(webhook_id)s)
  AND (%(before_time)s::timestamptz IS NULL OR (d.created_at, d.delivery_id) < (%(before_time)s, %(before_id)s))
  AND {scope}
ORDER BY d.created_at DESC, d.delivery_id DESC LIMIT %(limit)s
"""

DeliveryState = Literal["pending", "delivered", "failed", "canceled"]
Scope = Mapping[str, Sequence[str]]
Position = tuple[datetime, UUID]


class AlertFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which alerts to show: raised in [start, end), of some budgets (slugs or ids; none = all), of some kinds."""

    start: datetime
    end: datetime
    budgets: Sequence[str] = ()
    kinds: Sequence[str] = ()


class DeliveryFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which deliveries to show: made in [start, end), in some states (none = all), of one webhook."""

    start: datetime
    end: datetime
    states: Sequence[str] = ()
    webhook_id: UUID | None = None


class DeliveryRow(msgspec.Struct, frozen=True, kw_only=True):
    """A delivery as it is stored."""

    delivery_id: UUID
    webhook_id: UUID
    alert_id: UUID | None
    event: Event
    state: DeliveryState
    attempts: int
    created_at: datetime
    next_attempt_at: datetime
    finished_at: datetime | None
    last_status: int | None
    last_error: str | None


async def list_alerts(
    connection: AsyncConnection[Any],
    tenant_id: str,
    chosen: AlertFilter,
    *,
    scope: Scope,
    before: Position | None,
    limit: int,
) -> list[Alert]:
    """Return alerts, newest first, those before (raised_at, alert_id)."""
    parameters = {
        "tenant_id": tenant_id,
        "start": chosen.start,
        "end": chosen.end,
        "budgets": list(chosen.budgets),
        "kinds": list(chosen.kinds),
        **_page(before, limit),
    }
    statement = sql.SQL(_LIST_ALERTS).format(scope=_scope_clause(scope, parameters))
    async with connection.cursor(row_factory=class_row(Alert)) as cursor:
        await cursor.execute(statement, parameters)
        return await cursor.fetchall()


async def list_deliveries(
    connection: AsyncConnection[Any],
    tenant_id: str,
    chosen: DeliveryFilter,
    *,
    scope: Scope,
    before: Position | None,
    limit: int,
) -> list[DeliveryRow]:
    """Return deliveries, newest first, those before (created_at, delivery_id)."""
    parameters = {
        "tenant_id": tenant_id,
        "start": chosen.start,
        "end": chosen.end,
        "states": list(chosen.states),
        "webhook_id": chosen.webhook_id,
        **_page(before, limit),
    }
    statement = sql.SQL(_LIST_DELIVERIES).format(scope=_scope_clause(scope, parameters))
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(statement, parameters)
        return [DeliveryRow(**row) for row in await cursor.fetchall()]


def _page(before: Position | None, limit: int) -> dict[str, Any]:
    before_time, before_id = (None, None) if before is None else before
    return {"before_time": before_time, "before_id": before_id, "limit": limit}


def _scope_clause(scope: Scope, parameters: dict[str, Any]) -> sql.Composable:
    """Return what an alert must satisfy: its budget is confined to values of the scope, or its subject is of them."""
    clauses: list[sql.Composable] = [sql.SQL("true")]
    for number, (dimension, allowed) in enumerate(scope.items()):
        name, forms = f"scope_{number}", f"scope_{number}_forms"
        values = parameters[name] = [comparable_value(dimension, value) for value in allowed]
        parameters[forms] = [form for value in values for form in forms_in_subjects(value)]
        # A list contains its elements and lists of them.
        clauses.append(
            sql.SQL(
                "(to_jsonb({allowed}::text[]) @> (b.match -> {dimension})"
                " OR (b.match -> {dimension} = '\"*\"' AND x.subject::jsonb ->> {dimension} = ANY ({forms}::text[])))"
            ).format(allowed=sql.Placeholder(name), forms=sql.Placeholder(forms), dimension=sql.Literal(dimension))
        )
    return sql.SQL(" AND ").join(clauses)
