"""What keeps the ledger able to take charges: partitions made months ahead, and the epoch raised after a failover.

An epoch that rises tells Redis that versions it has seen may never have been committed; see consistency.md's rule
"higher epoch wins".
"""

from datetime import date
from itertools import pairwise

import structlog

from service.db.pools import PostgresPool

_log = structlog.get_logger(__name__)

MONTHS_AHEAD = 3

# One process at a time; the others find the work done.
_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('tallygate ledger maintenance', 0))"
_TODAY = "SELECT (now() AT TIME ZONE 'UTC')::date"
_PARTITION_EXISTS = "SELECT to_regclass(%s) IS NOT NULL"
# The control file learns of a promotion by the next checkpoint only, minutes later; the log's name changes at once.
_RAISE_EPOCH = """
UPDATE ledger_epoch AS e SET epoch = e.epoch + 1, timeline_id = c.timeline_id, raised_at = now()
FROM (SELECT ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::bigint AS timeline_id) AS c
WHERE c.timeline_id <> e.timeline_id
RETURNING e.epoch
"""
# A backup brings back an old epoch, and Redis may know higher ones: the clock is beyond whatever was counted up to.
_RESTORED = """
UPDATE ledger_epoch SET epoch = greatest(epoch + 1, extract(epoch FROM now())::bigint), raised_at = now()
RETURNING epoch
"""


def months_from(day: date, count: int) -> list[date]:
    """Return the first days of the month of `day` and of the months after it, `count` in all."""
    first = day.year * 12 + day.month - 1
    return [date(month // 12, month % 12 + 1, 1) for month in range(first, first + count)]


async def make_partitions_ahead(pool: PostgresPool) -> list[str]:
    """Make the partitions of this month and of the next three where they are missing; return the names of new ones."""
    made = []
    async with pool.connection() as connection, connection.transaction():
        await connection.execute(_LOCK)
        today = (await (await connection.execute(_TODAY)).fetchone() or (date.min,))[0]
        months = months_from(today, MONTHS_AHEAD + 2)
        for first, end in pairwise(months):
            name = f"charge_{first:%Y%m}"
            exists = await (await connection.execute(_PARTITION_EXISTS, (name,))).fetchone()
            if exists is not None and not exists[0]:
                # Both names and dates are made of digits by us; DDL takes no parameters. Attaching, unlike creating
                # in place, waits for no reader of charges, and so lets no writer queue up behind it.
                await connection.execute("SET LOCAL lock_timeout = '2s'")
                await connection.execute(f"CREATE TABLE {name} (LIKE charge INCLUDING ALL)")
                await connection.execute(
                    f"ALTER TABLE charge ATTACH PARTITION {name}"
                    f" FOR VALUES FROM ('{first:%Y-%m-%d} 00:00:00+00') TO ('{end:%Y-%m-%d} 00:00:00+00')"
                )
                made.append(name)
    if made:
        _log.info("charge_partitions_made", partitions=made)
    return made


async def raise_epoch_after_failover(pool: PostgresPool) -> int | None:
    """Raise the epoch if PostgreSQL is on another timeline than when it was last raised; return the new epoch."""
    async with pool.connection() as connection:
        row = await (await connection.execute(_RAISE_EPOCH)).fetchone()
    if row is None:
        return None
    _log.warning("ledger_epoch_raised", epoch=row[0])
    return int(row[0])


async def raise_epoch_after_restore(pool: PostgresPool) -> int:
    """Raise the epoch above all before it, because a backup was restored: what Redis knows may be of a lost future."""
    async with pool.connection() as connection:
        row = await (await connection.execute(_RESTORED)).fetchone()
    assert row is not None
    return int(row[0])
