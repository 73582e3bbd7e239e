"""The connections of one process: a psycopg pool for the hot statements, a redis client, and SQLModel sessions.

Which to use: plain SQL (ingest, spend, everything in `sql/`) takes `pools.postgres`; create-read-update-delete of
configuration tables may take `pools.sessions`. Both are psycopg on the same address, in UTC, under the same timeouts.
Connections are in autocommit mode: a transaction is always written out (`async with connection.transaction()`).
Opening does not wait for the engines: a server starts without them and says so in its readiness.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import AsyncConnection
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import TupleRow
from psycopg_pool import AsyncConnectionPool
from redis.asyncio import BlockingConnectionPool, Redis, RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker, create_async_engine
from sqlmodel.ext.asyncio.session import AsyncSession

from service.errors import Unavailable
from service.settings import PostgresSettings, RedisSettings, Settings

PostgresConnection = AsyncConnection[TupleRow]
PostgresPool = AsyncConnectionPool[PostgresConnection]
RedisClient = Redis | RedisCluster
Sessions = async_sessionmaker[AsyncSession]

_SESSION_CONNECTIONS = 4
# A server that has gone without a word, or a process of ours that froze inside a transaction, holds nobody up for long.
_IDLE_IN_TRANSACTION_MS = 15_000
_DEAD_CONNECTIONS: dict[str, Any] = {
    "tcp_user_timeout": 10_000,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
}


@dataclass(frozen=True, slots=True)
class Pools:
    """What a process holds open."""

    postgres: PostgresPool
    redis: RedisClient
    sessions: Sessions


@asynccontextmanager
async def open_pools(settings: Settings) -> AsyncIterator[Pools]:
    """Open the pools of a process and close them at the end."""
    postgres = make_postgres_pool(settings.database_url, settings.postgres)
    redis = make_redis_client(settings.redis_url, settings.redis)
    engine = make_session_engine(settings.database_url, settings.postgres)
    await postgres.open(wait=False)
    try:
        yield Pools(postgres, redis, async_sessionmaker(engine, class_=AsyncSession, expire_on_commit=False))
    finally:
        await postgres.close()
        await engine.dispose()
        await redis.aclose()


@asynccontextmanager
async def connected(pool: PostgresPool, wait_seconds: float | None = None) -> AsyncIterator[PostgresConnection]:
    """Lend a connection of the pool. Raises Unavailable when the database cannot be reached."""
    try:
        async with pool.connection(timeout=wait_seconds) as connection:
            yield connection
    except (psycopg.OperationalError, psycopg.InterfaceError) as error:
        raise Unavailable("The database cannot be reached at the moment.") from error


def make_postgres_pool(database_url: str, settings: PostgresSettings) -> PostgresPool:
    """Return an unopened pool."""
    return AsyncConnectionPool(
        connection_conninfo(database_url, settings),
        connection_class=AsyncConnection[TupleRow],
        min_size=settings.pool_min_connections,
        max_size=settings.pool_max_connections,
        timeout=settings.pool_wait_ms / 1000,
        kwargs={"autocommit": True},
        open=False,
        name="tallygate",
    )


def make_redis_client(redis_url: str, settings: RedisSettings) -> RedisClient:
    """Return a client; it connects when first used. Answers are bytes."""
    timeouts: dict[str, Any] = {
        "socket_connect_timeout": settings.connect_timeout_ms / 1000,
        "socket_timeout": settings.command_timeout_ms / 1000,
        # Once, at once: it finds out about a connection that was closed meanwhile. Deadlines are the callers' business.
        "retry": Retry(ExponentialWithJitterBackoff(base=0.001, cap=0.01), 1, (RedisConnectionError,)),
    }
    if settings.cluster:
        return RedisCluster.from_url(redis_url, max_connections=settings.max_connections, **timeouts)
    pool = BlockingConnectionPool.from_url(
        redis_url, max_connections=settings.max_connections, timeout=settings.connect_timeout_ms / 1000, **timeouts
    )
    return Redis.from_pool(pool)


def make_session_engine(database_url: str, settings: PostgresSettings) -> AsyncEngine:
    """Return the SQLAlchemy engine behind the sessions; transactions are SQLAlchemy's, so no autocommit here."""
    conninfo = connection_conninfo(database_url, settings)

    async def connect() -> PostgresConnection:
        return await AsyncConnection.connect(conninfo)

    return create_async_engine(
        "postgresql+psycopg://",
        async_creator=connect,
        pool_size=_SESSION_CONNECTIONS,
        max_overflow=0,
        pool_timeout=settings.pool_wait_ms / 1000,
        pool_pre_ping=True,
    )


def connection_conninfo(database_url: str, settings: PostgresSettings) -> str:
    """Return the address with our session settings, after those the address itself carries."""
    own_options = conninfo_to_dict(database_url).get("options", "")
    options = (
        f"{own_options} -c timezone=UTC -c statement_timeout={settings.statement_timeout_ms}"
        f" -c idle_in_transaction_session_timeout={_IDLE_IN_TRANSACTION_MS}"
    )
    return make_conninfo(
        database_url,
        options=options.strip(),
        connect_timeout=settings.connect_timeout_seconds,
        application_name="tallygate",
        **_DEAD_CONNECTIONS,
    )


def connect_for_sqlalchemy(database_url: str) -> Callable[[], psycopg.Connection[TupleRow]]:
    """Return what a synchronous SQLAlchemy engine (migrations) connects by; any address libpq takes is good."""
    return lambda: psycopg.connect(make_conninfo(database_url, options="-c timezone=UTC", application_name="tallygate"))
