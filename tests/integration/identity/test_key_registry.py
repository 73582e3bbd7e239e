import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from service.db.pools import Pools
from service.errors import NotFound
from service.identity import repository
from service.identity.known_key import NOTHING, KeyFacts
from service.identity.registry import KeyRegistry
from service.identity.service import KeyService
from service.kit.stopping import stop
from tests.integration.identity.conftest import KEY, NOW, Clock, OpenRegistry, a_lesson, until

Declare = Callable[..., Awaitable[Any]]


def requests_made(pools: Pools) -> int:
    return pools.postgres.get_stats().get("requests_num", 0)


async def test_a_declared_key_is_known(registry: KeyRegistry, declare: Declare, tenant_id: str) -> None:
    await declare(team="core", user="u1", organization="o", project="p", alias="checkout", blocked=True)
    known = await registry.find(tenant_id, KEY)
    assert known is not None
    assert known.declared == KeyFacts(team="core", user="u1", organization="o", project="p", alias="checkout")
    assert (known.is_declared, known.is_blocked, known.learned) == (True, True, NOTHING)


async def test_a_known_key_costs_no_database_trip_for_five_seconds(
    registry: KeyRegistry, declare: Declare, tenant_id: str, pools: Pools, clock: Clock
) -> None:
    await declare(team="core")
    await registry.find(tenant_id, KEY)
    before = requests_made(pools)
    for _ in range(50):
        clock.now += 0.1
        assert await registry.find(tenant_id, KEY) is not None
    assert requests_made(pools) == before
    await declare(team="web")
    clock.now += 0.1
    known = await registry.find(tenant_id, KEY)
    assert known is not None
    assert known.declared.team == "web"


async def test_a_key_nobody_knew_is_known_the_moment_it_is_declared(
    registry: KeyRegistry, declare: Declare, tenant_id: str
) -> None:
    assert await registry.find(tenant_id, KEY) is None
    await declare(team="core")
    assert await registry.find(tenant_id, KEY) is not None


async def test_a_key_of_another_tenant_is_not_known(registry: KeyRegistry, declare: Declare, tenant_id: str) -> None:
    await declare(team="core")
    assert await registry.find(f"{tenant_id}x", KEY) is None


async def test_many_that_ask_at_one_moment_share_one_statement(
    registry: KeyRegistry, declare: Declare, tenant_id: str, pools: Pools
) -> None:
    for number in range(5):
        await declare(f"k{number}", team=f"t{number}")
    before = requests_made(pools)
    found = await registry.find_many(tenant_id, [f"k{number}" for number in range(100)] * 3)
    assert {api_key: known.declared.team for api_key, known in found.items()} == {
        f"k{number}": f"t{number}" for number in range(5)
    }
    assert requests_made(pools) == before + 1


async def test_a_change_is_heard_by_every_process_at_once(
    listening_registry: OpenRegistry, declare: Declare, tenant_id: str, clock: Clock
) -> None:
    await declare(team="core")
    async with listening_registry() as one, listening_registry() as two:

        async def are_listening() -> bool:
            return clock.now in {one._distrusted_until} & {two._distrusted_until}

        await until(are_listening)
        clock.now += 1.0  # from now on the clock stands still: nothing is asked anew because of its age

        async def know(team: str) -> bool:
            found = [await registry.find(tenant_id, KEY) for registry in (one, two)]
            return all(known is not None and known.declared.team == team for known in found)

        await until(lambda: know("core"))
        await declare(team="web")
        await until(lambda: know("web"))


async def test_a_key_costs_no_database_trip_for_as_long_as_all_news_is_heard(
    listening_registry: OpenRegistry, declare: Declare, tenant_id: str, pools: Pools, clock: Clock
) -> None:
    await declare(team="core")
    async with listening_registry() as registry:

        async def has_heard_all() -> bool:
            return registry._heard_until == clock.now

        await until(has_heard_all)
        clock.now += 1.0
        await registry.find(tenant_id, KEY)
        before = requests_made(pools)
        for _ in range(5):
            clock.now += 4.0
            await until(has_heard_all)
            assert await registry.find(tenant_id, KEY) is not None
        assert requests_made(pools) == before
        await declare(team="web")

        async def is_changed() -> bool:
            known = await registry.find(tenant_id, KEY)
            return known is not None and known.declared.team == "web"

        await until(is_changed)


async def test_a_key_is_asked_for_again_when_nothing_proves_for_five_seconds_that_all_news_was_heard(
    listening_registry: OpenRegistry, declare: Declare, tenant_id: str, pools: Pools, clock: Clock
) -> None:
    await declare(team="core")
    async with listening_registry() as registry:

        async def has_heard_all() -> bool:
            return registry._heard_until == clock.now

        await until(has_heard_all)
        clock.now += 1.0
        await registry.find(tenant_id, KEY)
        await stop(registry._follower)
        clock.now += 5.5
        before = requests_made(pools)
        assert await registry.find(tenant_id, KEY) is not None
        assert requests_made(pools) == before + 1


async def test_what_is_in_use_is_read_again_beside_the_calls(
    listening_registry: OpenRegistry, declare: Declare, tenant_id: str, pools: Pools, clock: Clock
) -> None:
    await declare(team="core")
    async with listening_registry() as registry:

        async def has_heard_all() -> bool:
            return registry._heard_until == clock.now

        await until(has_heard_all)
        clock.now += 1.0
        await registry.find(tenant_id, KEY)
        clock.now += 61.0
        await until(has_heard_all)
        before = requests_made(pools)

        async def is_read_again() -> bool:
            assert await registry.find(tenant_id, KEY) is not None
            return requests_made(pools) > before

        await until(is_read_again)


async def test_what_was_read_before_a_process_listened_is_read_anew(
    listening_registry: OpenRegistry, declare: Declare, tenant_id: str, pools: Pools
) -> None:
    await declare(team="core")
    async with listening_registry() as registry:
        await registry.find(tenant_id, KEY)

        async def is_asked_anew() -> bool:
            before = requests_made(pools)
            await registry.find(tenant_id, KEY)
            return requests_made(pools) > before

        await until(is_asked_anew)


async def test_an_answer_older_than_the_news_of_a_change_is_not_kept(
    registry: KeyRegistry, declare: Declare, tenant_id: str
) -> None:
    await declare(team="core")
    asking = asyncio.create_task(registry.find(tenant_id, KEY))

    async def is_asking() -> bool:
        return bool(registry._in_flight)

    await until(is_asking)
    await declare(team="web")
    registry.forget(tenant_id, KEY)
    await asking
    known = await registry.find(tenant_id, KEY)
    assert known is not None
    assert known.declared.team == "web"


async def test_a_key_whose_change_cannot_be_read_in_time_stays_what_it_was_until_it_can(
    registry: KeyRegistry, declare: Declare, tenant_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await declare(team="core", blocked=True)
    await registry.find(tenant_id, KEY)
    answered = asyncio.Event()
    find_keys = repository.find_keys

    async def find_late(*asked: Any) -> Any:
        await answered.wait()
        return await find_keys(*asked)

    monkeypatch.setattr(repository, "find_keys", find_late)
    await declare(team="web")
    registry.forget(tenant_id, KEY)
    known = await registry.find(tenant_id, KEY, patience_seconds=0.01)
    assert known is not None
    assert (known.declared.team, known.is_blocked) == ("core", True)
    answered.set()
    known = await registry.find(tenant_id, KEY)
    assert known is not None
    assert (known.declared.team, known.is_blocked) == ("web", False)


async def test_events_teach_to_whom_a_key_belongs(registry: KeyRegistry, tenant_id: str) -> None:
    assert await registry.learn(tenant_id, [a_lesson(team="core", user="u1", alias="checkout")]) == 1
    known = await registry.find(tenant_id, KEY)
    assert known is not None
    assert known.learned == KeyFacts(team="core", user="u1", alias="checkout")
    assert (known.is_declared, known.learned_from_occurred_at) == (False, NOW)


async def test_what_is_known_already_is_not_written_again(registry: KeyRegistry, tenant_id: str, pools: Pools) -> None:
    await registry.learn(tenant_id, [a_lesson(team="core", user="u1")])
    await registry.find(tenant_id, KEY)
    before = requests_made(pools)
    assert await registry.learn(tenant_id, [a_lesson(minute=1, team="core"), a_lesson(minute=2, user="u1")]) == 0
    assert requests_made(pools) == before


async def test_the_newest_event_wins_whatever_the_order(registry: KeyRegistry, tenant_id: str) -> None:
    assert await registry.learn(tenant_id, [a_lesson(minute=5, team="new")]) == 1
    assert await registry.learn(tenant_id, [a_lesson(minute=4, team="old", user="u")]) == 0
    assert await registry.learn(tenant_id, [a_lesson(minute=6, organization="o")]) == 1
    known = await registry.find(tenant_id, KEY)
    assert known is not None
    assert known.learned == KeyFacts(team="new", organization="o")


async def test_a_late_event_does_not_undo_what_a_newer_one_confirmed(registry: KeyRegistry, tenant_id: str) -> None:
    await registry.learn(tenant_id, [a_lesson(minute=0, team="core")])
    await registry.find(tenant_id, KEY)
    assert await registry.learn(tenant_id, [a_lesson(minute=9, team="core")]) == 0
    assert await registry.learn(tenant_id, [a_lesson(minute=5, team="left")]) == 0
    known = await registry.find(tenant_id, KEY)
    assert known is not None
    assert known.learned.team == "core"


async def test_learning_changes_nothing_that_was_declared(
    registry: KeyRegistry, declare: Declare, tenant_id: str
) -> None:
    await declare(team="core", blocked=True)
    await registry.learn(tenant_id, [a_lesson(team="other", user="u1")])
    known = await registry.find(tenant_id, KEY)
    assert known is not None
    assert known.declared == KeyFacts(team="core")
    assert known.learned == KeyFacts(team="other", user="u1")
    assert known.is_declared
    assert known.is_blocked


async def test_declaring_a_key_keeps_what_was_learned_of_it(
    registry: KeyRegistry, declare: Declare, tenant_id: str
) -> None:
    await registry.learn(tenant_id, [a_lesson(team="learned", user="u1")])
    known = await declare(team="core")
    assert known.learned == KeyFacts(team="learned", user="u1")


async def test_concurrent_batches_that_teach_the_same_keys_do_not_deadlock(pools: Pools, tenant_id: str) -> None:
    registries = [KeyRegistry(pools.postgres) for _ in range(4)]
    keys = [f"k{number:02}" for number in range(40)]

    async def teach(registry: KeyRegistry, turn: int) -> None:
        ordered = keys if turn % 2 else keys[::-1]
        await registry.learn(tenant_id, [a_lesson(minute=turn, api_key=key, team=f"t{turn}") for key in ordered])

    await asyncio.gather(*[teach(registries[turn % 4], turn) for turn in range(24)])
    found = await registries[0].find_many(tenant_id, keys)
    assert {known.learned.team for known in found.values()} == {"t23"}
    assert len(found) == len(keys)
    for registry in registries:
        await registry.close()


async def test_a_deleted_key_is_unknown_until_its_next_event(
    registry: KeyRegistry, declare: Declare, tenant_id: str, pools: Pools
) -> None:
    await declare(team="core")
    await registry.learn(tenant_id, [a_lesson(user="u1")])
    keys = KeyService(pools.postgres, registry)
    await keys.delete(tenant_id, KEY)
    assert await registry.find(tenant_id, KEY) is None
    with pytest.raises(NotFound):
        await keys.delete(tenant_id, KEY)
    await registry.learn(tenant_id, [a_lesson(user="u1")])
    known = await keys.get(tenant_id, KEY)
    assert (known.is_declared, known.learned.user) == (False, "u1")


async def test_a_busy_loop_is_not_taken_for_a_database_that_does_not_answer(
    registry: KeyRegistry, declare: Declare, tenant_id: str
) -> None:
    await declare(blocked=True)

    async def keep_busy() -> None:
        while True:
            time.sleep(0.01)  # noqa: ASYNC251 — as requests of others do, each turn of the loop takes its time
            await asyncio.sleep(0)

    busy = asyncio.create_task(keep_busy())
    try:
        known = await registry.find(tenant_id, KEY, patience_seconds=0.015)
    finally:
        await stop(busy)
    assert known is not None
    assert known.is_blocked
