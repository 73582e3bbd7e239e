import asyncio
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from service.access.repository import insert_tenant
from service.config.fence import ConfigFence
from service.config.service import ConfigStore
from service.db.pools import Pools
from service.errors import AlreadyExists, NotFound, StateConflict
from service.identity.aliases import Alias
from service.identity.service import AliasService

NOW = datetime(2026, 11, 6, 12, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.fixture
async def store(pools: Pools, tenant_id: str) -> ConfigStore:
    async with pools.postgres.connection() as connection:
        await insert_tenant(connection, tenant_id, tenant_id)
    return ConfigStore(pools.postgres, ConfigFence(pools.redis))


@pytest.fixture
def aliases(pools: Pools, store: ConfigStore) -> AliasService:
    return AliasService(pools.postgres, store.change)


async def test_a_declared_alias_is_in_force_at_once_and_under_a_new_config_version(
    aliases: AliasService, store: ConfigStore, tenant_id: str
) -> None:
    before = await store.get(tenant_id)
    row = await aliases.declare(tenant_id, Alias(alias="Fast", model="openai/gpt-4.1-nano"))
    after = await store.get(tenant_id)
    assert after.version > before.version
    assert after.aliases.in_force(NOW).find("fast") == "openai/gpt-4.1-nano"
    await aliases.withdraw(tenant_id, row.alias_id)
    assert (await store.get(tenant_id)).aliases.in_force(NOW).find("fast") is None


async def test_a_book_and_its_eras_outlive_changes_of_anything_else(
    aliases: AliasService, store: ConfigStore, tenant_id: str
) -> None:
    """Otherwise each of them would let caches of names go, and have waiting charges priced anew."""
    await aliases.declare(tenant_id, Alias(alias="fast", model="a"))
    declared = await store.get(tenant_id)
    async with store.change(tenant_id):
        pass
    after = await store.get(tenant_id)
    assert after.version > declared.version
    assert after.aliases is declared.aliases
    assert after.priced_since == declared.priced_since
    await aliases.declare(tenant_id, Alias(alias="slow", model="a"))
    changed = await store.get(tenant_id)
    assert changed.priced_since == changed.version


async def test_a_name_means_one_model_at_a_time(aliases: AliasService, tenant_id: str) -> None:
    await aliases.declare(tenant_id, Alias(alias="fast", model="a", effective_from=NOW, effective_to=NOW + DAY))
    with pytest.raises(AlreadyExists) as refused:
        await aliases.declare(tenant_id, Alias(alias="FAST", model="b"))
    assert refused.value.code == "alias_overlaps"
    await aliases.declare(tenant_id, Alias(alias="fast", model="b", effective_from=NOW + DAY))
    await aliases.declare(tenant_id, Alias(alias="fast", model="c", effective_to=NOW))
    assert len(await aliases.list_page(tenant_id, alias="Fast", after=None, limit=10)) == 3


async def test_one_of_two_that_declare_a_name_at_the_same_moment_is_refused(
    aliases: AliasService, tenant_id: str
) -> None:
    attempts = [aliases.declare(tenant_id, Alias(alias="fast", model=f"m{number}")) for number in range(5)]
    outcomes = await asyncio.gather(*attempts, return_exceptions=True)
    assert sum(isinstance(outcome, AlreadyExists) for outcome in outcomes) == 4


async def test_a_circle_is_refused_and_leaves_the_configuration_as_it_was(
    aliases: AliasService, store: ConfigStore, tenant_id: str
) -> None:
    await aliases.declare(tenant_id, Alias(alias="a", model="b"))
    version = (await store.get(tenant_id)).version
    for alias in (Alias(alias="b", model="A"), Alias(alias="c", model="C")):
        with pytest.raises(StateConflict) as refused:
            await aliases.declare(tenant_id, alias)
        assert refused.value.code == "alias_circle"
    assert (await store.reload(tenant_id)).version == version


async def test_an_alias_is_withdrawn_by_its_name_with_all_its_dates(aliases: AliasService, tenant_id: str) -> None:
    await aliases.declare(tenant_id, Alias(alias="x/y", model="a", effective_to=NOW))
    await aliases.declare(tenant_id, Alias(alias="x/y", model="b", effective_from=NOW))
    await aliases.withdraw_named(tenant_id, "X/Y")
    assert await aliases.list_page(tenant_id, alias=None, after=None, limit=10) == []
    with pytest.raises(NotFound):
        await aliases.withdraw_named(tenant_id, "x/y")
    with pytest.raises(NotFound):
        await aliases.withdraw(tenant_id, uuid4())
