"""Follows what other processes announce: one connection that listens, and another one whenever it breaks.

Listening needs a session of its own: a pooler that lends sessions per transaction (PgBouncer) passes no news on.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, NoReturn

import structlog
from psycopg import AsyncConnection

_log = structlog.get_logger(__name__)

_RECONNECT_SECONDS: Final = 1.0
# A listener never sends anything: without keep-alives it would not notice that the other end is gone.
_KEEPALIVE: Final[dict[str, Any]] = {"keepalives_idle": 15, "keepalives_interval": 5, "keepalives_count": 3}


async def follow_news(
    database_url: str, channel: str, hear: Callable[[AsyncConnection[Any]], Awaitable[None]]
) -> NoReturn:
    """Listen on a channel until cancelled. `hear` gets each new connection: what was announced before it is lost."""
    while True:
        try:
            async with await AsyncConnection.connect(database_url, autocommit=True, **_KEEPALIVE) as connection:
                await connection.execute(f"LISTEN {channel}")
                await hear(connection)
        except Exception as error:  # noqa: BLE001 - whatever it is, news must be followed again
            _log.warning("news_interrupted", channel=channel, error=type(error).__name__)
            await asyncio.sleep(_RECONNECT_SECONDS)
