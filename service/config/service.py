"""Each tenant's configuration in memory, and the one way to change it.

A change is one transaction under the tenant's exclusive advisory lock: batches matched against the former version are
committed before it, later ones notice the new version inside their own commit. Replicas follow by announcement
(LISTEN), by the fence in Redis at their next check, and by a poll as the last resort.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Protocol
from weakref import WeakValueDictionary

import msgspec
import psycopg
import structlog
from psycopg import AsyncConnection

from service.access.repository import load_tenant
from service.budgets.budget import Budget
from service.budgets.matching import BudgetGathering, BudgetSet
from service.budgets.repository import load_budgets, load_changed_budgets
from service.config import repository
from service.config.snapshot import TenantConfig
from service.db.news import follow_news
from service.db.pools import PostgresPool
from service.db.tenant_lock import lock_tenant_exclusively
from service.errors import NotFound, Unavailable
from service.identity.aliases import AliasBook
from service.identity.registry import load_aliases
from service.kit.stopping import stop
from service.pricing.rule_repository import load_rules
from service.pricing.rules import NO_RULES

_log = structlog.get_logger(__name__)

_POLL_SECONDS = 5.0
# A few milliseconds of work.
_BUDGETS_AT_ONCE = 500


class VersionFence(Protocol):
    """Tells other replicas' checks that a newer configuration exists."""

    async def raise_to(self, tenant_id: str, version: int) -> None:
        """Raise the tenant's fence to the version; never raises for trouble of its own."""
        ...


class ConfigStore:
    """Holds one TenantConfig per tenant used by this process."""

    def __init__(self, pool: PostgresPool, fence: VersionFence) -> None:
        self._pool = pool
        self._fence = fence
        self._configs: dict[str, TenantConfig] = {}
        self._loads: dict[str, asyncio.Task[TenantConfig]] = {}
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._follower: asyncio.Task[None] | None = None

    async def get(self, tenant_id: str) -> TenantConfig:
        """Return the configuration as this process knows it; load it at first use. Raises NotFound, Unavailable."""
        config = self._configs.get(tenant_id)
        return config if config is not None else await self.reload(tenant_id)

    def find(self, tenant_id: str) -> TenantConfig | None:
        """Return the configuration if this process knows it."""
        return self._configs.get(tenant_id)

    async def reload(self, tenant_id: str) -> TenantConfig:
        """Return the configuration as committed at the time of this call or later; concurrent callers share a load."""
        running = self._loads.get(tenant_id)
        if running is not None:
            # It may have read before the change its caller heard of: wait for it, then read anew, once for all.
            with suppress(Exception):
                await asyncio.shield(running)
        task = self._loads.get(tenant_id)
        if task is None or task.done():
            task = asyncio.create_task(self._load(tenant_id))
            self._loads[tenant_id] = task
            task.add_done_callback(lambda done: self._forget_load(tenant_id, done))
        return await asyncio.shield(task)

    def _forget_load(self, tenant_id: str, task: "asyncio.Task[TenantConfig]") -> None:
        if self._loads.get(tenant_id) is task:
            del self._loads[tenant_id]
        if not task.cancelled():
            task.exception()

    async def _load(self, tenant_id: str) -> TenantConfig:
        try:
            async with self._pool.connection() as connection, connection.transaction():
                await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
                return await self.load_on(connection, tenant_id)
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            raise Unavailable("The configuration cannot be read at the moment.") from error

    async def load_on(self, connection: AsyncConnection[Any], tenant_id: str) -> TenantConfig:
        """Return the configuration as a transaction sees it that either is a snapshot or holds the tenant's lock.

        Only what changed since the version known here is read; all of it when the ledger was restored meanwhile.
        """
        known = self._configs.get(tenant_id)
        epoch = await repository.read_epoch(connection)
        tenant = await load_tenant(connection, tenant_id)
        if tenant is None:
            raise NotFound(f"There is no tenant {tenant_id!r}.")
        aliases = await load_aliases(connection, tenant_id, AliasBook() if known is None else known.aliases)
        rules = await load_rules(connection, tenant_id, NO_RULES if known is None else known.pricing_rules)
        version = tenant.config_version
        if known is None or known.epoch != epoch or known.version > version:
            budgets = await _gathered(version, await load_budgets(connection, tenant_id))
        else:
            changed = await load_changed_budgets(connection, tenant_id, known.version)
            budgets = await _with_changes(known.budgets, version, changed)
        config = TenantConfig(tenant_id, epoch, version, tenant.enforcement, tenant.settings, aliases, budgets, rules)
        since = known.priced_since if known is not None and config.prices_as(known) else version
        config = msgspec.structs.replace(config, priced_since=since)
        self._keep(config, known)
        return config

    def _keep(self, config: TenantConfig, known: TenantConfig | None) -> None:
        """Put a loaded configuration in force, unless a newer one was while this one was made."""
        present = self._configs.get(config.tenant_id)
        is_newer = present is not None and present.epoch == config.epoch and present.version > config.version
        if present is known or not is_newer:
            self._configs[config.tenant_id] = config

    @asynccontextmanager
    async def change(self, tenant_id: str) -> AsyncIterator[tuple[AsyncConnection[Any], int]]:
        """Change the configuration of a tenant in one transaction; yields (connection, the new config_version).

        When the block ends without an error the change is committed, in force in this process, and announced. Changes
        of one tenant queue here, not at the database: they would hold every connection of the pool while they wait.
        """
        async with self._turns.setdefault(tenant_id, asyncio.Lock()):
            async with self._pool.connection() as connection, connection.transaction():
                await lock_tenant_exclusively(connection, tenant_id)
                version = await repository.raise_version(connection, tenant_id)
                if version is None:
                    raise NotFound(f"There is no tenant {tenant_id!r}.")
                yield connection, version
            await asyncio.shield(self._put_in_force(tenant_id, version))

    async def _put_in_force(self, tenant_id: str, version: int) -> None:
        """Follow a committed change; whatever fails here, the change stands and is loaded at the next use."""
        await self._fence.raise_to(tenant_id, version)
        try:
            await self.reload(tenant_id)
        except Unavailable as error:
            self._configs.pop(tenant_id, None)
            _log.warning("config_not_reloaded", error=error.code)

    def start(self, database_url: str) -> None:
        """Follow changes other processes make, until `close`."""
        self._follower = asyncio.create_task(follow_news(database_url, repository.CONFIG_CHANNEL, self._hear_all))

    async def close(self) -> None:
        """Stop following."""
        await stop(self._follower)

    async def _hear_all(self, connection: AsyncConnection[Any]) -> None:
        while True:
            await self._catch_up(connection)
            async for notice in connection.notifies(timeout=_POLL_SECONDS, stop_after=1):
                await self._hear(notice.payload)

    async def _hear(self, payload: str) -> None:
        tenant_id, _, version = payload.partition(" ")
        known = self._configs.get(tenant_id)
        if known is not None and known.version < int(version):
            await self._reload_quietly(tenant_id)

    async def _catch_up(self, connection: AsyncConnection[Any]) -> None:
        versions = await repository.find_versions(connection, list(self._configs))
        for tenant_id, version in versions.items():
            if self._configs[tenant_id].version != version:
                await self._reload_quietly(tenant_id)

    async def _reload_quietly(self, tenant_id: str) -> None:
        try:
            await self.reload(tenant_id)
        except (Unavailable, NotFound) as error:
            _log.warning("config_not_reloaded", error=error.code)


async def _gathered(version: int, budgets: Sequence[Budget]) -> BudgetSet:
    """Return a set; very many budgets are put into it in portions, so that the process goes on answering."""
    gathering = BudgetGathering()
    for start in range(0, len(budgets), _BUDGETS_AT_ONCE):
        gathering.add(budgets[start : start + _BUDGETS_AT_ONCE])
        await asyncio.sleep(0)
    return gathering.budget_set(version)


async def _with_changes(budgets: BudgetSet, version: int, changed: Sequence[Budget]) -> BudgetSet:
    """Return a set after changes, made in portions, too."""
    budgets = budgets.with_changes(version, changed[:_BUDGETS_AT_ONCE])
    for start in range(_BUDGETS_AT_ONCE, len(changed), _BUDGETS_AT_ONCE):
        await asyncio.sleep(0)
        budgets = budgets.with_changes(version, changed[start : start + _BUDGETS_AT_ONCE])
    return budgets
