"""Partitions ahead of time, and the epoch."""

from datetime import date

import pytest

from service.db.pools import Pools
from service.ledger import maintenance


async def test_partitions_of_this_and_the_next_three_months_exist_and_are_made_once(pools: Pools) -> None:
    await maintenance.make_partitions_ahead(pools.postgres)
    assert await maintenance.make_partitions_ahead(pools.postgres) == []
    async with pools.postgres.connection() as connection:
        cursor = await connection.execute(
            "SELECT count(*) FROM generate_series(0, 3) AS n WHERE to_regclass("
            "'charge_' || to_char(date_trunc('month', now() AT TIME ZONE 'UTC') + n * interval '1 month', 'YYYYMM'))"
            " IS NOT NULL"
        )
        assert await cursor.fetchone() == (4,)


def test_months_run_over_the_end_of_the_year() -> None:
    assert maintenance.months_from(date(2026, 11, 30), 4) == [
        date(2026, 11, 1),
        date(2026, 12, 1),
        date(2027, 1, 1),
        date(2027, 2, 1),
    ]


@pytest.mark.usefixtures("restored_epoch")
async def test_the_epoch_rises_when_the_timeline_is_another_and_only_then(pools: Pools) -> None:
    assert await maintenance.raise_epoch_after_failover(pools.postgres) is None
    async with pools.postgres.connection() as connection:
        await connection.execute("UPDATE ledger_epoch SET timeline_id = timeline_id - 1")
        [before] = await (await connection.execute("SELECT epoch FROM ledger_epoch")).fetchone() or [0]
    assert await maintenance.raise_epoch_after_failover(pools.postgres) == before + 1
    assert await maintenance.raise_epoch_after_failover(pools.postgres) is None


@pytest.mark.usefixtures("restored_epoch")
async def test_after_a_restore_the_epoch_is_above_all_that_redis_can_know(pools: Pools) -> None:
    async with pools.postgres.connection() as connection:
        [before] = await (await connection.execute("SELECT epoch FROM ledger_epoch")).fetchone() or [0]
    first = await maintenance.raise_epoch_after_restore(pools.postgres)
    assert first > before
    # As a backup of earlier would bring it back.
    async with pools.postgres.connection() as connection:
        await connection.execute("UPDATE ledger_epoch SET epoch = %s", (before,))
    assert await maintenance.raise_epoch_after_restore(pools.postgres) >= first
    assert await maintenance.raise_epoch_after_restore(pools.postgres) > first
