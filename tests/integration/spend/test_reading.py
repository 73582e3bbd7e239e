import pytest

from service.db.pools import Pools, make_postgres_pool
from service.errors import InvalidInput, Unavailable
from service.ledger.queries import reading
from service.settings import Settings


async def test_a_question_that_takes_too_long_is_refused_with_what_to_do(pools: Pools):
    async def ask() -> None:
        async with reading(pools.postgres) as connection, connection.transaction():
            await connection.execute("SELECT set_config('statement_timeout', '20ms', true)")
            await connection.execute("SELECT pg_sleep(5)")

    with pytest.raises(InvalidInput) as refusal:
        await ask()
    assert refusal.value.code == "query_too_expensive"
    assert "shorter time" in refusal.value.detail


async def test_a_ledger_that_cannot_be_reached_is_unavailable(settings: Settings):
    pool = make_postgres_pool(
        "postgresql://nobody@127.0.0.1:1/nothing",
        settings.postgres.model_copy(update={"pool_wait_ms": 50, "pool_min_connections": 0}),
    )

    async def ask() -> None:
        async with reading(pool):
            pass

    await pool.open(wait=False)
    with pytest.raises(Unavailable):
        await ask()
    await pool.close()
