from sqlalchemy import text

from service.db.pools import Pools


async def test_pools_work_in_utc_and_autocommit(pools: Pools):
    async with pools.postgres.connection() as connection:
        cursor = await connection.execute("SHOW timezone")
        assert await cursor.fetchone() == ("UTC",)
        assert connection.autocommit


async def test_redis_client_answers_in_bytes(pools: Pools, tenant_id: str):
    await pools.redis.set(f"{{{tenant_id}}}:x", "1")
    assert await pools.redis.get(f"{{{tenant_id}}}:x") == b"1"


async def test_sessions_reach_the_same_database(pools: Pools):
    async with pools.sessions() as session, pools.postgres.connection() as connection:
        cursor = await connection.execute("SELECT current_database()")
        through_sqlalchemy = await (await session.connection()).scalar(text("SELECT current_database()"))
        assert await cursor.fetchone() == (through_sqlalchemy,)
