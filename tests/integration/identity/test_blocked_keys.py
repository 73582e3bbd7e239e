"""A process that follows the news knows which keys are blocked, also while it can read nothing of any key."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from psycopg_pool import AsyncConnectionPool

from service.errors import Unavailable
from service.identity import registry as registry_module
from service.identity.registry import KeyRegistry
from service.kit.stopping import stop
from tests.integration.identity.conftest import KEY, OpenRegistry, until

Declare = Callable[..., Awaitable[Any]]
OTHER = "b" * 64


@pytest.fixture
async def unreadable(database_url: str) -> AsyncIterator[Callable[[], KeyRegistry]]:
    """Opens registries that hear the news and have no other connection."""
    dead: Any = AsyncConnectionPool("host=127.0.0.1 port=1 connect_timeout=1", min_size=0, max_size=2, open=False)
    await dead.open(wait=False)
    opened: list[KeyRegistry] = []

    def open_one() -> KeyRegistry:
        opened.append(KeyRegistry(dead, statement_seconds=0.05, beat_seconds=0.05))
        opened[-1].start(database_url)
        return opened[-1]

    yield open_one
    for each in opened:
        await each.close()
    await dead.close()


async def is_blocked(registry: KeyRegistry, tenant_id: str, api_key: str = KEY) -> bool:
    try:
        known = await registry.find(tenant_id, api_key, patience_seconds=0.01)
    except Unavailable:
        return False
    return known is not None and known.is_blocked


async def test_what_was_blocked_before_and_what_is_blocked_later_is_known(
    unreadable: Callable[[], KeyRegistry], declare: Declare, tenant_id: str
):
    await declare(team="core", blocked=True)
    await declare(OTHER, team="core")
    registry = unreadable()
    await until(lambda: is_blocked(registry, tenant_id))
    assert not await is_blocked(registry, tenant_id, OTHER)
    assert not await is_blocked(registry, f"{tenant_id}x")
    await declare(OTHER, team="core", blocked=True)
    await until(lambda: is_blocked(registry, tenant_id, OTHER))
    await declare(team="core")

    async def is_open() -> bool:
        return not await is_blocked(registry, tenant_id)

    await until(is_open)
    assert await is_blocked(registry, tenant_id, OTHER)


async def test_more_changes_than_one_statement_takes_are_all_read(
    unreadable: Callable[[], KeyRegistry], declare: Declare, tenant_id: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(registry_module, "_KEYS_PER_STATEMENT", 3)
    await declare(blocked=True)
    registry = unreadable()
    await until(lambda: is_blocked(registry, tenant_id))
    for number in range(10):
        await declare(f"k{number}", blocked=True)
    for number in range(10):
        await until(lambda name=f"k{number}": is_blocked(registry, tenant_id, name))


async def test_of_very_many_blocked_keys_some_are_kept(
    unreadable: Callable[[], KeyRegistry], declare: Declare, tenant_id: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(registry_module, "_BLOCKED_KEPT", 5)
    await declare(blocked=True)
    registry = unreadable()

    async def has_begun() -> bool:
        return bool(registry._blocked)

    await until(has_begun)
    for number in range(10):
        await declare(f"m{number}", blocked=True)

    async def has_heard() -> bool:
        return len(registry._blocked) == 5

    await until(has_heard)


async def test_what_is_read_counts_before_what_was_heard(
    listening_registry: OpenRegistry, declare: Declare, tenant_id: str
):
    await declare(team="core", blocked=True)
    async with listening_registry() as registry:

        async def has_begun() -> bool:
            return (tenant_id, KEY) in registry._blocked

        await until(has_begun)
        await stop(registry._follower)
        await declare(team="core")
        registry.forget(tenant_id, KEY)
        known = await registry.find(tenant_id, KEY)
        assert known is not None
        assert not known.is_blocked
        assert (tenant_id, KEY) not in registry._blocked
