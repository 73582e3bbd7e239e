"""The connections of one process: a psycopg pool for the hot statements, a redis client, and SQLModel sessions.

Which to use: plain SQL (ingest, spend, everything in `sql/`) takes `pools.postgres`; create-read-update-delete of
configuration tables may take `pools.sessions`. Both are psycopg on the same address, in UTC, under the same timeouts.
Connections are in autocommit mode: a transaction is always written out (`async with connection.transaction()`).
Opening does not wait for the engines: a server starts without them and says so in its readiness.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit

import psycopg
from psycopg import AsyncConnection
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import TupleRow
from psycopg_pool import AsyncConnectionPool
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker, create_async_engine
from sqlmodel.ext.asyncio.session import AsyncSession

from service.db.cluster import Address, ClusterClient, SlotMap
from service.errors import Unavailable
from service.settings import PostgresSettings, RedisSettings, Settings

PostgresConnection = AsyncConnection[TupleRow]
PostgresPool = AsyncConnectionPool[PostgresConnection]
RedisClient = Redis | ClusterClient
Sessions = async_sessionmaker[AsyncSession]
T = TypeVar("T")

_SESSION_CONNECTIONS = 4
_REDIS_PORT = 6379
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
    return _make_cluster_client(redis_url, settings) if settings.cluster else _make_node_client(redis_url, settings)


async def servers_of(redis: RedisClient) -> list[Redis]:
    """Return a client of every server that has keys: itself, or the primaries of a cluster."""
    if not isinstance(redis, ClusterClient):
        return [redis]
    return [redis.slots.client_of(address) for address in await redis.slots.primaries()]


async def at_server_of(redis: RedisClient, key: str, ask: Callable[[Redis], Awaitable[T]]) -> T:
    """Ask the server that has a key; what is asked must bear being asked again."""
    return await redis.at(key, ask) if isinstance(redis, ClusterClient) else await ask(redis)


def _make_node_client(redis_url: str, settings: RedisSettings, **place: Any) -> Redis:
    pool = BlockingConnectionPool.from_url(
        redis_url, timeout=settings.connect_timeout_ms / 1000, **_redis_options(settings)
    )
    # What the address says comes before arguments.
    pool.connection_kwargs |= place
    return Redis.from_pool(pool)


def _make_cluster_client(redis_url: str, settings: RedisSettings) -> ClusterClient:
    """The address may name several nodes, for a start while one of them is away: `redis://one:6379,two:6379`."""
    first_url, seeds = _seeds(redis_url)
    return ClusterClient(
        SlotMap(seeds, lambda address: _make_node_client(first_url, settings, host=address.host, port=address.port))
    )


def _seeds(redis_url: str) -> tuple[str, list[Address]]:
    """Return the address with its first node alone, and all nodes it names."""
    parts = urlsplit(redis_url)
    login, at, places = parts.netloc.rpartition("@")
    nodes = [urlsplit(f"//{place}") for place in places.split(",")]
    first_url = parts._replace(netloc=f"{login}{at}{nodes[0].netloc}").geturl()
    return first_url, [Address(node.hostname or "localhost", node.port or _REDIS_PORT) for node in nodes]


def _redis_options(settings: RedisSettings) -> dict[str, Any]:
    return {
        "max_connections": settings.max_connections,
        "socket_connect_timeout": settings.connect_timeout_ms / 1000,
        "socket_timeout": settings.command_timeout_ms / 1000,
        # Once, at once: it finds out about a connection that was closed meanwhile. Deadlines are the callers' business.
        "retry": Retry(ExponentialWithJitterBackoff(base=0.001, cap=0.01), 1, (RedisConnectionError,)),
    }


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
