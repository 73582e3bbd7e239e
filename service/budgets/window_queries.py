"""Reads of what the counters of a budget say, page by page: one row per window, of a rolling one for all buckets."""

from datetime import datetime
from decimal import Decimal
from typing import Any

import msgspec
from psycopg import AsyncConnection, sql
from psycopg.rows import class_row

from service.budgets.budget import Budget
from service.budgets.period import RollingPeriod, Window
from service.budgets.repository import Scope
from service.budgets.scope_queries import subject_in_scope
from service.budgets.subject import SHARED_SUBJECT

# A counter nobody has added to yet has no row; it is shown all the same in the present window when its subject is
# known, and in each window that something was carried into. Without roll-over nothing that was once carried counts.
# Each part is cut to a page by itself: so the indexes are read no further.
_LIST = """
SELECT w.subject, w.bucket, w.enforced, COALESCE(c.carried_usd, 0) AS carried, NULL::timestamptz AS first_spent_at
FROM (
    (
        SELECT w.subject, w.bucket, w.enforced FROM budget_window AS w
        WHERE w.tenant_id = %(tenant_id)s AND w.budget_id = %(budget_id)s AND {asked}
        ORDER BY w.subject, w.bucket LIMIT %(limit)s
    )
    UNION ALL
    (
        SELECT w.subject, w.bucket, 0 FROM budget_carry AS w
        WHERE w.tenant_id = %(tenant_id)s AND w.budget_id = %(budget_id)s AND {asked}
          AND w.carried_usd > 0 AND %(carries)s
          AND (w.subject, w.bucket) IS DISTINCT FROM (%(known_subject)s::text, %(present)s::timestamptz)
          AND NOT EXISTS (
            SELECT FROM budget_window AS b
            WHERE b.tenant_id = w.tenant_id AND b.budget_id = w.budget_id AND b.subject = w.subject
              AND b.bucket = w.bucket
          )
        ORDER BY w.subject, w.bucket LIMIT %(limit)s
    )
    UNION ALL
    SELECT w.subject, w.bucket, 0 FROM (
        SELECT %(known_subject)s::text AS subject, %(present)s::timestamptz AS bucket
    ) AS w
    WHERE w.subject IS NOT NULL AND {asked} AND NOT EXISTS (
        SELECT FROM budget_window
        WHERE tenant_id = %(tenant_id)s AND budget_id = %(budget_id)s AND subject = %(known_subject)s
          AND bucket = %(present)s
    )
) AS w
LEFT JOIN budget_carry AS c
    ON c.tenant_id = %(tenant_id)s AND c.budget_id = %(budget_id)s AND c.subject = w.subject AND c.bucket = w.bucket
    AND %(carries)s
ORDER BY w.subject, w.bucket LIMIT %(limit)s
"""
_ASKED = sql.SQL("""
w.bucket >= %(start)s AND w.bucket < %(end)s AND (%(subject)s::text IS NULL OR w.subject = %(subject)s)
AND (w.subject, w.bucket) > (%(after_subject)s, %(after_bucket)s) AND {scope}
""")
_LIST_ROLLING = """
SELECT w.subject, %(start)s::timestamptz AS bucket, sum(w.enforced) AS enforced, 0 AS carried,
       min(w.bucket) FILTER (WHERE w.enforced > 0) AS first_spent_at
FROM (
    SELECT subject, bucket, enforced FROM budget_window
    WHERE tenant_id = %(tenant_id)s AND budget_id = %(budget_id)s AND bucket >= %(start)s AND bucket < %(end)s
    UNION ALL
    SELECT %(known_subject)s::text, %(start)s::timestamptz, 0 WHERE %(known_subject)s::text IS NOT NULL
) AS w
WHERE (%(subject)s::text IS NULL OR w.subject = %(subject)s) AND w.subject > %(after_subject)s AND {scope}
GROUP BY w.subject ORDER BY w.subject LIMIT %(limit)s
"""


class WindowRow(msgspec.Struct, frozen=True):
    """The stored sum of one counter; `bucket` starts its window, `first_spent_at` is of a rolling one only."""

    subject: str
    bucket: datetime
    enforced: Decimal
    carried: Decimal
    first_spent_at: datetime | None


async def list_windows(
    connection: AsyncConnection[Any],
    budget: Budget,
    *,
    subject: str | None,
    present: Window,
    range_: tuple[datetime, datetime],
    scope: Scope,
    after: tuple[str, datetime] | None,
    limit: int,
) -> list[WindowRow]:
    """Return the counters of a budget by subject and start of the window, those after (subject, bucket).

    `range_`: where windows start; of a rolling period `present` is all there is, from its oldest bucket.
    """
    is_rolling = isinstance(budget.period, RollingPeriod)
    is_shared = not any(condition.kind == "each" for condition in budget.match)
    start, end = (present.start, present.end) if is_rolling else range_
    after_subject, after_bucket = after if after is not None else ("", start)
    parameters: dict[str, Any] = {
        "tenant_id": budget.tenant_id,
        "budget_id": budget.budget_id,
        "known_subject": SHARED_SUBJECT if is_shared else subject,
        "present": present.start,
        "carries": budget.terms.rollover is not None,
        "start": start,
        "end": end,
        "subject": subject,
        "after_subject": after_subject,
        "after_bucket": after_bucket,
        "limit": limit,
    }
    in_scope = subject_in_scope(budget, scope, parameters, sql.SQL("w.subject"))
    if is_rolling:
        statement = sql.SQL(_LIST_ROLLING).format(scope=in_scope)
    else:
        statement = sql.SQL(_LIST).format(asked=_ASKED.format(scope=in_scope))
    async with connection.cursor(row_factory=class_row(WindowRow)) as cursor:
        await cursor.execute(statement, parameters)
        return await cursor.fetchall()
