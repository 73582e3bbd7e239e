"""SQL that the reports over charges share: which charges, which page, how the statement may work."""

from collections.abc import Sequence

from psycopg import sql

from service.ledger.queries import Bindings, charge_condition, effective_within
from service.spend.report_query import ReportPosition, ReportQuery

COMMA = sql.SQL(", ")

# For sums over 10^6 rows: hashed instead of sorted on disk, and no compiler started for a second of work.
PREPARE = sql.SQL("SELECT set_config('work_mem', '64MB', true), set_config('jit', 'off', true)")


def charges_where(bindings: Bindings, tenant_id: str, query: ReportQuery) -> sql.Composable:
    """Return the condition on rows of `charge`, aliased `c`, that the question is about."""
    parts = [
        sql.SQL("tenant_id = {}").format(bindings.bind(tenant_id)),
        effective_within(bindings, query.time_range),
        *(charge_condition(bindings, condition) for condition in query.conditions),
    ]
    return sql.SQL(" AND ").join(parts)


def group_digest(names: Sequence[str]) -> sql.Composable:
    """Return what tells groups apart in the order of a page: the same for the same values, in every locale."""
    return sql.SQL('md5(jsonb_build_array({})::text) COLLATE "C"').format(
        COMMA.join([sql.Identifier(name) for name in names])
    )


def page_after(bindings: Bindings, after: ReportPosition | None) -> sql.Composable:
    """Return the condition that a group comes after the position: lighter, or as heavy with a later digest."""
    if after is None:
        return sql.SQL("true")
    weight, digest = bindings.bind(after.weight), bindings.bind(after.group_digest)
    return sql.SQL("(weight < {0} OR (weight = {0} AND group_digest > {1}))").format(weight, digest)
