"""Reads of spend: one statement per question, over totals, label totals or charges, and how far it is complete.

The statement is composed of fixed fragments; everything a caller says is a bound parameter. One statement sees one
snapshot: rows, totals and the edges read from charges belong together.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from psycopg import AsyncCursor, sql
from psycopg.rows import TupleRow

from service.db.pools import PostgresPool
from service.ledger.filters import Condition, TimeRange
from service.ledger.queries import Bindings, charge_condition, effective_within, reading, value_condition
from service.ledger.totals import CORE_KEY
from service.spend.sources import Plan, choose_plan
from service.spend.spend_answer import SpendAnswer, SpendRow
from service.spend.spend_query import AMOUNTS, MEASURES, OrderKey, PositionValue, SpendQuery

# A batch stamps its charges with the start of its transaction. Charges recorded before every transaction that may be
# writing began are all visible to a snapshot taken afterwards. One that has written has an id; one that waits for its
# tenant's lock shows that; one that has come to neither yet is young. Asked before the snapshot, remembered for it.
# The rest is for sums over 10^5 rows: hashed instead of sorted on disk, and no compiler started for 100 ms of work.
_PREPARE = sql.SQL("""
SELECT set_config('tallygate.open_since', least(statement_timestamp(), min(xact_start))::text, true),
    set_config('work_mem', '32MB', true), set_config('jit', 'off', true)
FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
    AND (backend_xid IS NOT NULL OR wait_event = 'advisory'
         OR xact_start > statement_timestamp() - interval '10 seconds')
""")
_COMPLETE_THROUGH = sql.SQL("""
SELECT recorded_at FROM charge
WHERE tenant_id = {tenant} AND recorded_at < current_setting('tallygate.open_since')::timestamptz
ORDER BY recorded_at DESC LIMIT 1
""")

# Rank 0 is the row of totals. A group whose charges cancel each other wholly is no row.
_ANSWER = sql.SQL("""
WITH fact AS (
    {facts}
), grouped AS (
    SELECT {keys_and_sums} FROM fact {group_by} HAVING {is_something}
), once AS (
    {once}
), page AS (
    SELECT grouped.*, row_number() OVER (ORDER BY {order}) AS rank
    FROM grouped WHERE {after} ORDER BY {order} LIMIT {limit}
)
SELECT 0 AS rank, {no_keys_and_totals} FROM once
UNION ALL
SELECT rank, {keys_and_measures} FROM page
ORDER BY rank
""")

_COMMA = sql.SQL(", ")
_BUCKET = sql.Identifier("bucket")
_ABSENT = sql.SQL("NULL::text")
_COLUMNS = tuple(sql.Identifier(column) for column in MEASURES.values())


class SpendQueries:
    """Answers questions about one tenant's spend."""

    def __init__(self, pool: PostgresPool) -> None:
        self._pool = pool

    async def answer(self, tenant_id: str, query: SpendQuery, plan: Plan | None = None) -> SpendAnswer:
        """Return the answer, in one round trip; `plan` replaces the choice of the source."""
        statement, values = compose(tenant_id, query, plan or choose_plan(query))
        newest = _COMPLETE_THROUGH.format(tenant=sql.Placeholder("tenant"))
        async with reading(self._pool) as connection:
            async with connection.pipeline(), connection.transaction():
                await connection.execute(_PREPARE)
                # Never prepared: each question deserves a plan made for its own range and values.
                found = await connection.execute(statement, values, prepare=False)
                complete = await connection.execute(newest, {"tenant": tenant_id})
            return _answer(query, await found.fetchall(), await _first_value(complete))


async def _first_value(cursor: AsyncCursor[TupleRow]) -> datetime | None:
    row = await cursor.fetchone()
    return row[0] if row else None


def compose(tenant_id: str, query: SpendQuery, plan: Plan) -> tuple[sql.Composed, dict[str, Any]]:
    """Return the statement that answers a question by a plan, and its parameters."""
    facts = _Facts(tenant_id, query, plan)
    names = (["bucket"] if query.has_buckets else []) + list(query.group_by)
    keys = [sql.Identifier(name) for name in names]
    sums = [_sum(name) for name in MEASURES]
    order = _COMMA.join([_ordered(key) for key in query.order] or [sql.SQL("1")])
    statement = _ANSWER.format(
        facts=facts.of_rows(),
        keys_and_sums=_COMMA.join([*keys, *sums]),
        group_by=sql.SQL("GROUP BY {}").format(_COMMA.join(keys)) if keys else sql.SQL(""),
        is_something=sql.SQL(" OR ").join([sql.SQL("sum({}) <> 0").format(column) for column in _COLUMNS]),
        once=sql.SQL("SELECT {} FROM {}").format(_COMMA.join(sums), facts.of_totals()),
        order=order,
        after=_after(facts.bindings, query),
        limit=sql.SQL("ALL") if query.limit is None else facts.bindings.bind(query.limit + 1),
        no_keys_and_totals=_COMMA.join(
            [*(sql.SQL("NULL") for _ in keys), *(sql.SQL("COALESCE({}, 0)").format(column) for column in _COLUMNS)]
        ),
        keys_and_measures=_COMMA.join([*keys, *_COLUMNS]),
    )
    return statement, facts.bindings.values


class _Facts:
    """Composes what is summed up: SELECTs over the parts of a plan, all of the same columns."""

    def __init__(self, tenant_id: str, query: SpendQuery, plan: Plan) -> None:
        self.bindings = Bindings()
        self._query = query
        self._plan = plan
        self._conditions = (*query.conditions, *query.scope)
        self._tenant = self.bindings.bind(tenant_id)
        self._starts = self.bindings.bind(list(query.starts)) if query.has_buckets else None

    def of_rows(self) -> sql.Composable:
        """Return the facts of the rows; a charge with several tags is several of them if tags are grouped."""
        group_by = self._query.group_by
        whole = self._whole_of_rows(self._plan.whole) if self._plan.whole else []
        return _union([*whole, *(self._charges(edge, group_by) for edge in self._plan.edges)])

    def of_totals(self) -> sql.Composable:
        """Return the facts of the totals, each charge once: the rows, but where tags are grouped."""
        if "tag" not in self._query.group_by:
            return sql.SQL("grouped")
        parts = [self._charges(edge, ()) for edge in self._plan.edges]
        if self._plan.whole is not None:
            # With a condition it is one tag, which a charge carries once.
            parts.append(self._labels(self._plan.whole, ()) if self._conditions else self._core(self._plan.whole, ()))
        return sql.SQL("({}\n) AS fact_once").format(_union(parts))

    def _whole_of_rows(self, time_range: TimeRange) -> list[sql.Composable]:
        group_by = self._query.group_by
        if self._plan.source == "core":
            return [self._core(time_range, group_by, *self._conditions)]
        parts = [self._labels(time_range, group_by)]
        if self._plan.label != "tag" and all(condition.admits_absent for condition in self._conditions):
            # What carries no value is everything less what carries one.
            parts += [self._core(time_range, group_by), self._labels(time_range, group_by, is_complement=True)]
        return parts

    def _core(self, time_range: TimeRange, group_by: Sequence[str], *conditions: Condition) -> sql.Composable:
        """Select from totals by core key; a group that is no core column is absent there."""
        held = [value_condition(self.bindings, c, sql.Identifier(c.field)) for c in conditions]
        groups = {name: sql.Identifier(name) if name in CORE_KEY else _ABSENT for name in group_by}
        return self._select("spend_total", groups, _BUCKET, self._in_buckets(time_range) + held)

    def _labels(self, time_range: TimeRange, group_by: Sequence[str], *, is_complement: bool = False) -> sql.Composable:
        """Select from totals by label; or all of them, negated and without their values, to be subtracted."""
        value = sql.Identifier("value")
        label = sql.SQL("label = {}").format(self.bindings.bind(self._plan.label))
        conditions = () if is_complement else self._conditions
        held = [value_condition(self.bindings, condition, value) for condition in conditions]
        groups = dict.fromkeys(group_by, _ABSENT if is_complement else value)
        where = [*self._in_buckets(time_range), label, *held]
        return self._select("spend_label_total", groups, _BUCKET, where, is_negated=is_complement)

    def _charges(self, time_range: TimeRange, group_by: Sequence[str]) -> sql.Composable:
        """Select charges; with `tag` among the groups, once per tag that the question shows."""
        where = [self._of_tenant(), effective_within(self.bindings, time_range)]
        where += [charge_condition(self.bindings, condition) for condition in self._conditions]
        source = "charge"
        if "tag" in group_by:
            shown = [condition for condition in self._query.conditions if condition.field == "tag"]
            where += [value_condition(self.bindings, c, sql.Identifier("tag")) for c in shown]
            # Untagged charges make a row only if they are asked for, as totals by tag do not know them.
            keeps_untagged = any(condition.includes_absent for condition in shown)
            source = "charge_and_tag_or_none" if keeps_untagged else "charge_and_tag"
        groups = {name: sql.Identifier(name) for name in group_by}
        return self._select(source, groups, sql.Identifier("effective_at"), where)

    def _select(
        self,
        source: str,
        groups: Mapping[str, sql.Composable],
        instant: sql.Composable,
        where: Sequence[sql.Composable],
        *,
        is_negated: bool = False,
    ) -> sql.Composable:
        keys = [sql.SQL("{} AS {}").format(group, sql.Identifier(name)) for name, group in groups.items()]
        if self._starts is not None:
            bucket = sql.SQL("width_bucket({}, {}::timestamptz[]) AS {}").format(instant, self._starts, _BUCKET)
            keys.insert(0, bucket)
        sign = sql.SQL("-{0} AS {0}") if is_negated else sql.SQL("{0}")
        return sql.SQL("SELECT {} FROM {} WHERE {}").format(
            _COMMA.join([*keys, *(sign.format(column) for column in _COLUMNS)]),
            _SOURCES[source],
            sql.SQL(" AND ").join(where),
        )

    def _of_tenant(self) -> sql.Composable:
        return sql.SQL("tenant_id = {}").format(self._tenant)

    def _in_buckets(self, time_range: TimeRange) -> list[sql.Composable]:
        start, end = self.bindings.bind(time_range.start), self.bindings.bind(time_range.end)
        return [self._of_tenant(), sql.SQL("bucket >= {} AND bucket < {}").format(start, end)]


_SOURCES = {
    "spend_total": sql.SQL("spend_total"),
    "spend_label_total": sql.SQL("spend_label_total"),
    "charge": sql.SQL("charge"),
    "charge_and_tag": sql.SQL("charge CROSS JOIN LATERAL unnest(tags) AS of_charge (tag)"),
    "charge_and_tag_or_none": sql.SQL("charge LEFT JOIN LATERAL unnest(tags) AS of_charge (tag) ON true"),
}


def _union(parts: Sequence[sql.Composable]) -> sql.Composable:
    return sql.SQL("\n    UNION ALL ").join(parts)


def _sum(name: str) -> sql.Composable:
    column = sql.Identifier(MEASURES[name])
    # sum() of bigint is numeric.
    total = sql.SQL("sum({0}) AS {0}") if name in AMOUNTS else sql.SQL("sum({0})::bigint AS {0}")
    return total.format(column)


def _ordered(key: OrderKey) -> sql.Composable:
    return _order_value(key) + sql.SQL(" DESC" if key.is_descending else " ASC")


def _order_value(key: OrderKey) -> sql.Composable:
    """Return what a key compares: never NULL (absent comes before any text), the same in every locale."""
    if key.name == "bucket" or key.name in MEASURES:
        return sql.Identifier(MEASURES.get(key.name, key.name))
    return sql.SQL("COALESCE({}, '') COLLATE \"C\"").format(sql.Identifier(key.name))


def _after(bindings: Bindings, query: SpendQuery) -> sql.Composable:
    """Return the condition that a row comes after the position of a cursor, in the order of the question."""
    if query.after is None:
        return sql.SQL("true")
    values = [(_order_value(key), bindings.bind(value)) for key, value in zip(query.order, query.after, strict=True)]
    alternatives = []
    for index, key in enumerate(query.order):
        equal = [sql.SQL("{} = {}").format(*pair) for pair in values[:index]]
        beyond = sql.SQL("{} < {}" if key.is_descending else "{} > {}").format(*values[index])
        alternatives.append(sql.SQL("({})").format(sql.SQL(" AND ").join([*equal, beyond])))
    return sql.SQL("({})").format(sql.SQL(" OR ").join(alternatives))


def _answer(query: SpendQuery, found: Sequence[Sequence[Any]], complete_through: datetime | None) -> SpendAnswer:
    first_measure = 1 + query.has_buckets + len(query.group_by)
    totals = dict(zip(MEASURES, found[0][first_measure:], strict=True))
    rows = [_row(query, values) for values in found[1:]]
    has_more = query.limit is not None and len(rows) > query.limit
    rows = rows[: query.limit]
    return SpendAnswer(
        rows=rows,
        totals=totals,
        next=_position(query, rows[-1]) if has_more else None,
        complete_through=complete_through,
    )


def _row(query: SpendQuery, values: Sequence[Any]) -> SpendRow:
    keys = list(values[1 : 1 + query.has_buckets + len(query.group_by)])
    # width_bucket counts from 1.
    bucket = keys.pop(0) - 1 if query.has_buckets else None
    measures = dict(zip(MEASURES, values[-len(MEASURES) :], strict=True))
    return SpendRow(bucket, dict(zip(query.group_by, keys, strict=True)), measures)


def _position(query: SpendQuery, row: SpendRow) -> tuple[PositionValue, ...]:
    known = {"bucket": None if row.bucket is None else row.bucket + 1, **row.measures}
    return tuple(known[key.name] if key.name in known else row.groups[key.name] or "" for key in query.order)
