"""Asks every engine whether this server can do its work: reachable, migrated, and a Redis that forgets nothing."""

import asyncio
from collections.abc import Awaitable, Iterable
from typing import Any

from msgspec import Struct

from service.db import migrator
from service.db.pools import Pools, servers_of
from service.redaction import redact_text

_CHECK_SECONDS = 2.0
_ANSWER_SECONDS = 1.5


class Check(Struct, frozen=True):
    """One condition of readiness and, when it does not hold, why and what to do."""

    name: str
    passed: bool
    detail: str


class Readiness(Struct, frozen=True):
    """All conditions; ready when each of them holds."""

    ready: bool
    checks: list[Check]


class NotPassed(Exception):
    """A condition does not hold."""


class HealthService:
    """Readiness of one server process."""

    def __init__(self, pools: Pools) -> None:
        self._pools = pools

    async def readiness(self) -> Readiness:
        """Check everything at once, each within two seconds."""
        checks = await asyncio.gather(
            _check("postgres", self._postgres_answers()),
            _check("migrations", self._migrations_are_applied()),
            _check("redis", self._redis_answers()),
            _check("redis_eviction", self._redis_evicts_nothing()),
        )
        return Readiness(all(check.passed for check in checks), list(checks))

    async def _postgres_answers(self) -> str:
        async with self._pools.postgres.connection(timeout=_CHECK_SECONDS) as connection:
            await connection.execute("SELECT 1")
        return "reachable"

    async def _migrations_are_applied(self) -> str:
        async with self._pools.postgres.connection(timeout=_CHECK_SECONDS) as connection:
            current = await migrator.current_revision(connection)
        if current == migrator.head_revision():
            return f"at {current}"
        if current is not None and not migrator.knows(current):
            return f"at {current}, of a later version"
        raise NotPassed(
            f"the database is at {current}, this version needs {migrator.head_revision()}: tallygate migrate"
        )

    async def _redis_answers(self) -> str:
        """Of a cluster one primary is enough: without the others their tenants' checks are answered by policy."""
        servers = await servers_of(self._pools.redis)
        silent = [
            error for error in await _ask_each(server.ping() for server in servers) if isinstance(error, Exception)
        ]
        if len(silent) == len(servers):
            raise silent[0] if silent else NotPassed("no node of the cluster answers")
        return (
            "reachable" if len(servers) == 1 else f"{len(servers) - len(silent)} of {len(servers)} primaries reachable"
        )

    async def _redis_evicts_nothing(self) -> str:
        servers = await servers_of(self._pools.redis)
        answers = await _ask_each(server.info("memory") for server in servers)
        known = [answer for answer in answers if not isinstance(answer, Exception)]
        if not known:
            raise answers[0] if answers else NotPassed("no node of the cluster answers")
        for memory in known:
            policy = memory["maxmemory_policy"]
            if policy != "noeviction":
                raise NotPassed(f"maxmemory-policy is {policy}: an evicted hold lets money through; set noeviction")
        return "noeviction"


async def _ask_each(questions: Iterable[Awaitable[Any]]) -> list[Any]:
    """Return the answers, or what was raised instead: one server that is silent must not take the time of all."""
    in_time = [asyncio.wait_for(question, _ANSWER_SECONDS) for question in questions]
    return await asyncio.gather(*in_time, return_exceptions=True)


async def _check(name: str, condition: Awaitable[str]) -> Check:
    try:
        async with asyncio.timeout(_CHECK_SECONDS):
            return Check(name, passed=True, detail=await condition)
    except NotPassed as error:
        return Check(name, passed=False, detail=str(error))
    except TimeoutError:
        return Check(name, passed=False, detail=f"no answer within {_CHECK_SECONDS:.0f} s")
    except Exception as error:  # noqa: BLE001 - whatever a driver raises, this condition does not hold
        reason = str(error).partition("\n")[0]
        return Check(name, passed=False, detail=redact_text(f"{type(error).__name__}: {reason}")[:300])
