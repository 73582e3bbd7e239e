"""The floor below a check: the bare script of the same checks, pipelined over one connection, as redis-cli does it.

The commands are made before the time is taken, by the service's own functions; what is left is Redis, its socket and
reading the replies.
"""

import asyncio
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import hiredis
from redis import Redis

from service.access.repository import DEFAULT_TENANT
from service.checks.attempt import Asked, Attempt, prepare_attempt
from service.checks.freshness import CounterSeeder
from service.checks.hold_store import check_command
from service.checks.ledger_reader import LedgerReader
from service.checks.lua_scripts import SCRIPTS, Command
from service.checks.request import fingerprint_of
from service.checks.schemas import read_check
from service.config.service import ConfigStore
from service.config.snapshot import TenantConfig
from service.db.pools import make_postgres_pool, make_redis_client
from service.identity.completion import complete_dimensions
from service.kit.clock import utc_now
from service.kit.ids import new_id_text
from service.pricing.price_book import PriceBook
from service.pricing.shipped import shipped_snapshot
from service.settings import PostgresSettings, RedisSettings

_AT_ONCE = 32
_CHECKS = 20_000
_WARM_UP = 2_000
_PATIENCE_MS = 10_000.0


def bare_script_per_second(database_url: str, redis_url: str, bodies: Path) -> float:
    """Return how many of these checks per second the script decides, 32 at a time."""
    commands = asyncio.run(_commands(database_url, redis_url, bodies))
    redis = Redis.from_url(redis_url)
    for script in SCRIPTS:
        redis.script_load(script.text)
    _run(redis, commands[:_WARM_UP])
    started = time.perf_counter()
    _run(redis, commands[_WARM_UP:])
    elapsed = time.perf_counter() - started
    redis.close()
    return (len(commands) - _WARM_UP) / elapsed


async def _commands(database_url: str, redis_url: str, bodies: Path) -> list[Command]:
    """Return the commands of the checks; their counters are fresh, so that none asks for the ledger."""
    client = make_redis_client(redis_url, RedisSettings())
    async with make_postgres_pool(database_url, PostgresSettings()) as pool:
        attempts = list(_attempts(await ConfigStore(pool, _NoFence()).get(DEFAULT_TENANT), bodies))
        ledger = LedgerReader(pool)
        seeder = CounterSeeder(client, ledger, timeout_ms=_PATIENCE_MS)
        await seeder.seed(list({id(counter): counter for each in attempts for counter in each.counters}.values()))
        await seeder.close()
        await ledger.close()
    await client.aclose()
    return [check_command(each.ask) for each in attempts]


class _NoFence:
    async def raise_to(self, tenant_id: str, version: int) -> None:
        """Nothing is changed here."""


def _attempts(config: TenantConfig, bodies: Path) -> Iterator[Attempt]:
    book, at = PriceBook.from_snapshot(shipped_snapshot()), utc_now()
    with bodies.open("rb") as lines:
        for line in islice(lines, _CHECKS + _WARM_UP):
            request = read_check(line)
            asked = Asked(
                request,
                complete_dimensions(request.dimensions, None),
                f"{request.request_id}-bare",
                fingerprint_of(request, {}),
                new_id_text(),
            )
            yield prepare_attempt(asked, config, book, at)


def _run(redis: Redis, commands: list[Command]) -> None:
    connection: Any = redis.connection_pool.get_connection()
    pack: Any = hiredis.pack_command
    for start in range(0, len(commands), _AT_ONCE):
        portion = commands[start : start + _AT_ONCE]
        connection.send_packed_command([b"".join([pack(command) for command in portion])])
        replies = [connection.read_response() for _ in portion]
        others = [reply for reply in replies if reply[0] != b"ALLOW"]
        assert not others, others[0]
    redis.connection_pool.release(connection)
