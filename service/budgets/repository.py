"""Every statement about budgets; windows of counters, increases and the seeding have modules of their own."""
# ruff: noqa: S608 — only a constant list of columns is put into statements

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any
from uuid import UUID

import msgspec
from psycopg import AsyncConnection, sql
from psycopg.rows import DictRow, dict_row

from service.budgets.budget import Budget, BudgetTerms, FormerLimit, Increase, Rollover
from service.budgets.match import parse_match
from service.budgets.period import Period
from service.budgets.period_document import parse_period, period_document
from service.identity.conditions import Match, comparable_value, match_document

BUDGET_COLUMNS = (
    "tenant_id, budget_id, slug, name, match::text AS match, limit_usd, period::text AS period, mode,"
    " thresholds::text AS thresholds, on_unavailable, on_unpriced, hold_basis, rollover::text AS rollover,"
    " former_limits::text AS former_limits, state, created_at, archived_at, config_version, changed_version,"
    " counts_from, seeded_through, seeded_charge_id,"
    " (SELECT json_agg(json_build_object('increase_id', i.increase_id, 'amount_usd', i.amount_usd::text,"
    " 'subject', i.subject, 'granted_at', i.granted_at, 'until', i.until, 'reason', i.reason, 'author', i.author)"
    " ORDER BY i.granted_at, i.increase_id)::text FROM budget_increase AS i WHERE i.tenant_id = budget.tenant_id"
    " AND i.budget_id = budget.budget_id AND i.until > clock_timestamp()) AS increases"
)
_LOAD = f"SELECT {BUDGET_COLUMNS} FROM budget WHERE tenant_id = %s AND state <> 'archived'"
_LOAD_ALL = f"SELECT {BUDGET_COLUMNS} FROM budget WHERE tenant_id = %s"
_LOAD_CHANGED = f"SELECT {BUDGET_COLUMNS} FROM budget WHERE tenant_id = %s AND changed_version > %s"
_FIND = f"SELECT {BUDGET_COLUMNS} FROM budget WHERE tenant_id = %s AND budget_id = %s"
_FIND_BY_SLUG = f"SELECT {BUDGET_COLUMNS} FROM budget WHERE tenant_id = %s AND slug = %s AND state <> 'archived'"
_FIND_LIVE = f"SELECT {BUDGET_COLUMNS} FROM budget WHERE tenant_id = %s AND slug = ANY (%s) AND state <> 'archived'"
_INSERT = """
INSERT INTO budget (
    tenant_id, budget_id, slug, name, match, limit_usd, period, mode, thresholds, on_unavailable, on_unpriced,
    hold_basis, rollover, state, created_at, config_version, changed_version, counts_from
)
VALUES (
    %(tenant_id)s, %(budget_id)s, %(slug)s, %(name)s, %(match)s, %(limit_usd)s, %(period)s, %(mode)s, %(thresholds)s,
    %(on_unavailable)s, %(on_unpriced)s, %(hold_basis)s, %(rollover)s, %(state)s, %(created_at)s, %(version)s,
    %(version)s, %(counts_from)s
)
"""
_STORE_TERMS = f"""
UPDATE budget
SET name = %(name)s, limit_usd = %(limit_usd)s, mode = %(mode)s, thresholds = %(thresholds)s,
    on_unavailable = %(on_unavailable)s, on_unpriced = %(on_unpriced)s, hold_basis = %(hold_basis)s,
    rollover = %(rollover)s, former_limits = %(former_limits)s, changed_version = %(version)s
WHERE tenant_id = %(tenant_id)s AND budget_id = %(budget_id)s AND state <> 'archived'
RETURNING {BUDGET_COLUMNS}
"""
_ARCHIVE = """
UPDATE budget SET state = 'archived', archived_at = clock_timestamp(), changed_version = %(version)s
WHERE tenant_id = %(tenant_id)s AND budget_id = %(budget_id)s AND state <> 'archived'
"""
_CLOCK = "SELECT clock_timestamp()"
# What is recorded has happened: the partitions of earlier months need no look. An hour covers clocks that disagree.
_HAS_CHARGES = """
SELECT EXISTS (
    SELECT FROM charge
    WHERE tenant_id = %(tenant_id)s AND effective_at >= %(since)s AND recorded_at >= %(since)s - interval '1 hour'
)
"""
_HAS_ANY_CHARGE = "SELECT EXISTS (SELECT FROM charge WHERE tenant_id = %(tenant_id)s)"
_LIST = """
SELECT {columns} FROM budget
WHERE tenant_id = %(tenant_id)s AND state = ANY (%(states)s)
  AND (slug, budget_id) > (%(after_slug)s, %(after_id)s) AND {scope}
ORDER BY slug, budget_id LIMIT %(limit)s
"""
_rollover_decoder = msgspec.json.Decoder(Rollover)
_former_limits_decoder = msgspec.json.Decoder(tuple[FormerLimit, ...])
_increases_decoder = msgspec.json.Decoder(tuple[Increase, ...])

_LOADED_AT_ONCE = 500

Scope = Mapping[str, Sequence[str]]


async def load_budgets(
    connection: AsyncConnection[Any], tenant_id: str, *, include_archived: bool = False
) -> list[Budget]:
    """Return the budgets of a tenant; many are decoded in portions, so that the process goes on answering."""
    return await _load(connection, _LOAD_ALL if include_archived else _LOAD, (tenant_id,))


async def load_changed_budgets(connection: AsyncConnection[Any], tenant_id: str, since_version: int) -> list[Budget]:
    """Return the budgets changed after a config_version, archived ones too: what `BudgetSet.with_changes` takes."""
    return await _load(connection, _LOAD_CHANGED, (tenant_id, since_version))


async def _load(connection: AsyncConnection[Any], statement: str, parameters: tuple[Any, ...]) -> list[Budget]:
    budgets: list[Budget] = []
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(statement, parameters)
        while rows := await cursor.fetchmany(_LOADED_AT_ONCE):
            budgets.extend(map(budget_of_row, rows))
            await asyncio.sleep(0)
    return budgets


async def find_budget(connection: AsyncConnection[Any], tenant_id: str, key: UUID | str) -> Budget | None:
    """Return the budget of an id, archived or not, or the live one of a slug."""
    return await _fetch_budget(connection, _FIND if isinstance(key, UUID) else _FIND_BY_SLUG, (tenant_id, key))


async def find_live(connection: AsyncConnection[Any], tenant_id: str, slugs: Sequence[str]) -> dict[str, Budget]:
    """Return the live budgets of some slugs, by slug."""
    return {budget.slug: budget for budget in await _load(connection, _FIND_LIVE, (tenant_id, list(slugs)))}


async def read_clock(connection: AsyncConnection[Any]) -> datetime:
    """Return the present time of the database."""
    row = await (await connection.execute(_CLOCK)).fetchone()
    assert row is not None
    instant: datetime = row[0]
    return instant


async def has_charges(connection: AsyncConnection[Any], tenant_id: str, since: datetime | None) -> bool:
    """Tell whether the tenant has any charge effective since an instant (None = ever)."""
    statement = _HAS_ANY_CHARGE if since is None else _HAS_CHARGES
    row = await (await connection.execute(statement, {"tenant_id": tenant_id, "since": since})).fetchone()
    return row is not None and bool(row[0])


async def store_terms(connection: AsyncConnection[Any], budget: Budget) -> Budget:
    """Store the terms a live budget has by now, of the version of the change they are part of."""
    stored = await _fetch_budget(connection, _STORE_TERMS, _changed_parameters(budget))
    assert stored is not None, "changed under the tenant's lock after it was found live"
    return stored


async def archive(connection: AsyncConnection[Any], budget: Budget, version: int) -> None:
    """Archive a live budget: it counts nothing from this version on and stays readable."""
    await archive_all(connection, [budget], version)


async def insert_all(connection: AsyncConnection[Any], budgets: Sequence[Budget]) -> None:
    """Store new budgets, made for the version of the change they are part of."""
    rows = [_stored_parameters(budget) for budget in budgets]
    async with connection.cursor() as cursor:
        await cursor.executemany(_INSERT, rows)


async def store_terms_of_all(connection: AsyncConnection[Any], budgets: Sequence[Budget]) -> None:
    """Store the terms live budgets have by now, of the version of the change they are part of."""
    rows = [_changed_parameters(budget) for budget in budgets]
    async with connection.cursor() as cursor:
        await cursor.executemany(_STORE_TERMS, rows)


async def archive_all(connection: AsyncConnection[Any], budgets: Sequence[Budget], version: int) -> None:
    """Archive live budgets."""
    rows = [{"tenant_id": budget.tenant_id, "budget_id": budget.budget_id, "version": version} for budget in budgets]
    async with connection.cursor() as cursor:
        await cursor.executemany(_ARCHIVE, rows)


async def list_budgets(
    connection: AsyncConnection[Any],
    tenant_id: str,
    *,
    states: Sequence[str],
    scope: Scope,
    after: tuple[str, UUID] | None,
    limit: int,
) -> list[Budget]:
    """Return budgets by slug, those after (slug, budget_id), as far as a scope reaches."""
    after_slug, after_id = after if after is not None else ("", UUID(int=0))
    parameters: dict[str, Any] = {
        "tenant_id": tenant_id,
        "states": list(states),
        "after_slug": after_slug,
        "after_id": after_id,
        "limit": limit,
    }
    clauses: list[sql.Composable] = [sql.SQL("true")]
    for number, (dimension, allowed) in enumerate(scope.items()):
        name = f"scope_{number}"
        parameters[name] = _json(_comparable(dimension, allowed))
        # A list contains its elements and lists of them: the budget is confined to values the scope allows.
        clauses.append(
            sql.SQL("({allowed}::jsonb @> (match -> {dimension}) OR match -> {dimension} = '\"*\"')").format(
                allowed=sql.Placeholder(name), dimension=sql.Literal(dimension)
            )
        )
    statement = sql.SQL(_LIST).format(columns=sql.SQL(BUDGET_COLUMNS), scope=sql.SQL(" AND ").join(clauses))
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(statement, parameters)
        return [budget_of_row(row) async for row in cursor]


def is_within(conditions: Match, scope: Scope) -> bool:
    """Tell whether a token of this scope may see a budget: the rule `list_budgets` applies in the database."""
    by_dimension = {condition.dimension: condition for condition in conditions}
    for dimension, allowed in scope.items():
        condition = by_dimension.get(dimension)
        if condition is None or condition.kind in {"prefix", "absent"}:
            return False
        if condition.kind == "any_of" and not set(condition.values) <= set(_comparable(dimension, allowed)):
            return False
    return True


def budget_of_row(row: DictRow) -> Budget:
    """Return the budget of a row of BUDGET_COLUMNS."""
    terms = BudgetTerms(
        name=row.pop("name"),
        limit_usd=row.pop("limit_usd"),
        mode=row.pop("mode"),
        thresholds=tuple(map(Decimal, msgspec.json.decode(row.pop("thresholds")))),
        on_unavailable=row.pop("on_unavailable"),
        on_unpriced=row.pop("on_unpriced"),
        hold_basis=row.pop("hold_basis"),
        rollover=None if (rollover := row.pop("rollover")) is None else _rollover_decoder.decode(rollover),
    )
    conditions = parse_match(msgspec.json.decode(row.pop("match")))
    increases = () if (granted := row.pop("increases")) is None else _increases_decoder.decode(granted)
    former = () if (limits := row.pop("former_limits")) == "[]" else _former_limits_decoder.decode(limits)
    period = _period_of(row.pop("period"))
    return Budget(match=conditions, period=period, terms=terms, increases=increases, former_limits=former, **row)


@lru_cache(maxsize=1024)
def _period_of(text: str) -> Period:
    """Return the period of a stored document: one object for all budgets of it, so that they share its windows."""
    return parse_period(msgspec.json.decode(text))


async def _fetch_budget(connection: AsyncConnection[Any], statement: str, parameters: Any) -> Budget | None:
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(statement, parameters)
        row = await cursor.fetchone()
    return None if row is None else budget_of_row(row)


def _stored_parameters(budget: Budget) -> dict[str, Any]:
    return {
        "tenant_id": budget.tenant_id,
        "budget_id": budget.budget_id,
        "slug": budget.slug,
        "match": _json(match_document(budget.match)),
        "period": _json(period_document(budget.period)),
        **_term_parameters(budget.terms),
        "state": budget.state,
        "created_at": budget.created_at,
        "version": budget.config_version,
        "counts_from": budget.counts_from,
    }


def _changed_parameters(budget: Budget) -> dict[str, Any]:
    return {
        "tenant_id": budget.tenant_id,
        "budget_id": budget.budget_id,
        "version": budget.changed_version,
        "former_limits": _json(budget.former_limits),
        **_term_parameters(budget.terms),
    }


def _term_parameters(terms: BudgetTerms) -> dict[str, Any]:
    return {
        **msgspec.structs.asdict(terms),
        "thresholds": _json([str(share) for share in terms.thresholds]),
        "rollover": None if terms.rollover is None else _json(terms.rollover),
    }


def _comparable(dimension: str, values: Sequence[str]) -> list[str]:
    return [comparable_value(dimension, value) for value in values]


def _json(document: Any) -> str:
    return msgspec.json.encode(document).decode()
