"""Checks whose key cannot be read: nobody knows whether it is blocked, nor in whose budgets the call counts."""

from collections.abc import AsyncIterator
from typing import Any

import psycopg
import pytest
from prometheus_client import REGISTRY
from psycopg.conninfo import conninfo_to_dict
from psycopg_pool import AsyncConnectionPool

from service.access.tokens import Caller
from service.checks.dialects.answers import answer_of
from service.checks.dialects.question import Question
from service.checks.dialects.service import DialectService
from service.db import migrator
from service.db.embedded import EngineUrls
from service.db.pools import PostgresPool, make_postgres_pool
from service.kit.clock import utc_now
from service.kit.ids import new_id
from service.settings import PostgresSettings
from tests.api.checks.gateways import KEY_ID
from tests.api.checks.replica import Replica, open_replica
from tests.api.checks.unsteady_redis import unsteady_redis
from tests.api.checks.world import MODEL, World

OF_A_KEY = ["organization", "team", "project", "user"]


@pytest.fixture
async def without_keys(world: World, redis_url: str) -> AsyncIterator[Replica]:
    """A replica that reads everything but keys."""
    dead: Any = AsyncConnectionPool("host=127.0.0.1 port=1 connect_timeout=1", min_size=0, max_size=2, open=False)
    await dead.open(wait=False)
    async with unsteady_redis(redis_url) as (line, client):
        opened = await open_replica(world, line, client, world.services.pools.postgres, key_pool=dead)
        yield opened
        await opened.checks.close()
        await opened.holds.close()
        await opened.ledger.close()
    await dead.close()


@pytest.fixture
async def key_pool(empty_database_url: str) -> AsyncIterator[PostgresPool]:
    """Connections to a database of the test's own, in which no key has an entry."""
    migrator.upgrade(empty_database_url)
    pool = make_postgres_pool(empty_database_url, PostgresSettings(pool_min_connections=1, pool_max_connections=3))
    await pool.open()
    yield pool
    await pool.close()


def counted(outcome: str) -> float:
    return REGISTRY.get_sample_value("tallygate_checks_unread_keys_total", {"outcome": outcome}) or 0.0


async def ask(replica: Replica, **dimensions: Any) -> Any:
    return await replica.check(dimensions={"api_key": KEY_ID} | dimensions, estimated_cost_usd="0.001", reserve=True)


@pytest.mark.parametrize("match", [{"team": "spent"}, {"user": "*"}, {"organization": {"prefix": "a"}, "project": "p"}])
@pytest.mark.parametrize(("policy", "is_allowed"), [("allow", True), ("ledger", False), ("deny", False)])
async def test_budgets_the_key_might_bring_into_play_decide_by_their_policy(
    world: World, without_keys: Replica, match: Any, policy: str, is_allowed: bool
):
    await world.put_budget("all", limit_usd="1", on_unavailable="deny")
    await world.put_budget("keyed", limit_usd="0", match=match, on_unavailable=policy)
    outcome = "allowed" if is_allowed else "counters_unavailable"
    before = counted(outcome)
    answer = await ask(without_keys)
    assert (answer.allowed, answer.degraded, answer.unresolved) == (is_allowed, True, OF_A_KEY)
    assert answer.code == (None if is_allowed else "counters_unavailable")
    assert (answer.reservation is not None) == is_allowed
    assert counted(outcome) == before + 1


async def test_budgets_that_only_look_on_stop_nobody(world: World, without_keys: Replica):
    await world.put_budget("shadow", limit_usd="0", match={"team": "*"}, on_unavailable="deny", mode="shadow")
    assert (await ask(without_keys)).allowed
    await world.put_budget("real", limit_usd="1", match={"team": "*"}, on_unavailable="deny")
    await world.call("PATCH", "/v1/settings", json={"enforcement": "shadow"})
    answer = await ask(without_keys)
    assert (answer.allowed, answer.degraded) == (True, True)


async def test_what_the_call_says_itself_no_key_need_tell(world: World, without_keys: Replica):
    await world.put_budget("team", limit_usd="1", match={"team": "*"}, on_unavailable="deny")
    await world.put_budget("session", limit_usd="0", match={"session": "*"}, on_unavailable="deny")
    answer = await ask(without_keys, team="core")
    assert (answer.allowed, answer.degraded, answer.unresolved) == (
        True, True, ["organization", "project", "user", "session"]
    )  # fmt: skip
    assert [standing.posted_usd for standing in answer.budgets] == ["0"]
    everything = dict.fromkeys(OF_A_KEY, "x") | {"session": "s"}
    told = await ask(without_keys, **everything)
    assert (told.code, told.unresolved, told.degraded) == ("budget_exceeded", [], True)


async def test_a_call_without_a_key_has_none_to_read(world: World, without_keys: Replica):
    await world.put_budget("team", limit_usd="1", match={"team": "*"}, on_unavailable="deny")
    answer = await without_keys.check(estimated_cost_usd="0.001")
    assert (answer.allowed, answer.degraded, answer.unresolved) == (True, False, ["team"])


async def test_a_key_that_is_read_and_has_no_entry_is_nobodys(world: World, replica: Replica):
    await world.put_budget("team", limit_usd="1", match={"team": "*"}, on_unavailable="deny")
    answer = await ask(replica)
    assert (answer.allowed, answer.degraded, answer.unresolved) == (True, False, ["team"])


@pytest.mark.parametrize(("on_unresolved", "status"), [("deny", 403), ("allow", 200)])
async def test_a_gateway_that_must_tell_everything_is_stopped(
    world: World, without_keys: Replica, on_unresolved: Any, status: int
):
    dialects = DialectService(without_keys.checks, world.services.config_store)
    caller = Caller(
        tenant_id=world.tenant_id,
        token_id=new_id(),
        name="gateway",
        roles=frozenset({"check"}),
        on_unresolved=on_unresolved,
    )
    question = Question(keys=(KEY_ID,), models=(MODEL,), max_output_tokens=100)
    answer = answer_of(await dialects.decide(caller, question), utc_now())
    assert (answer.status, answer.code) == (status, "unresolved" if status == 403 else None)
    if status == 200:
        assert answer.headers["x-tallygate-degraded"] == "true"
        assert answer.headers["x-tallygate-unresolved"] == ",".join(OF_A_KEY)


async def test_a_key_read_without_an_entry_stays_nobodys_while_keys_cannot_be_read(
    world: World, redis_url: str, engines: EngineUrls, empty_database_url: str, key_pool: PostgresPool
):
    await world.put_budget("users", limit_usd="1", match={"user": "*"})
    database = conninfo_to_dict(empty_database_url)["dbname"]
    async with unsteady_redis(redis_url) as (line, client):
        replica = await open_replica(world, line, client, world.services.pools.postgres, key_pool=key_pool)
        before = await ask(replica, team="core")
        with psycopg.connect(str(engines.database_url), autocommit=True) as server:
            server.execute(f'ALTER DATABASE "{database}" ALLOW_CONNECTIONS false')
            server.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (database,))
        during = await ask(replica, team="core")
        never_read = await ask(replica, team="core", api_key="f" * 64)
        await replica.checks.close()
        await replica.holds.close()
        await replica.ledger.close()
    for answer in (before, during):
        assert (answer.allowed, answer.degraded, answer.unresolved) == (True, False, ["user"])
    assert (never_read.code, never_read.degraded) == ("counters_unavailable", True)
