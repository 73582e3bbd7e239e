"""Declares aliases and keys on behalf of operators, and lists what is declared and learned.

Aliases are part of the tenant's configuration: they change under its fence, so that both paths turn at one instant.
Keys are not: a change of a key is announced by itself.
"""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any
from uuid import UUID

from psycopg import AsyncConnection

from service.db.pools import PostgresPool, connected
from service.errors import AlreadyExists, NotFound, StateConflict
from service.identity import repository
from service.identity.aliases import Alias, AliasBook
from service.identity.known_key import KeyFacts, KnownKey
from service.identity.registry import KeyRegistry
from service.identity.repository import AliasRow
from service.kit.ids import new_id

# `ConfigStore.change`: one transaction under the tenant's fence, yielding (connection, the new config_version).
ConfigChange = Callable[[str], AbstractAsyncContextManager[tuple[AsyncConnection[Any], int]]]


class AliasService:
    """The aliases of every tenant."""

    def __init__(self, pool: PostgresPool, change: ConfigChange) -> None:
        self._pool = pool
        self._change = change

    async def list_page(self, tenant_id: str, *, alias: str | None, after: UUID | None, limit: int) -> list[AliasRow]:
        """Return aliases in the order they were declared."""
        async with connected(self._pool) as connection:
            return await repository.list_aliases(connection, tenant_id, alias=alias, after=after, limit=limit)

    async def declare(self, tenant_id: str, rule: Alias) -> AliasRow:
        """Declare an alias. Raises AlreadyExists while the name is taken, StateConflict if it led back to itself."""
        async with self._change(tenant_id) as (connection, _):
            rules = [row.rule for row in await repository.fetch_aliases(connection, tenant_id)]
            for taken in rules:
                if taken.alias.lower() == rule.alias.lower() and taken.overlaps(rule):
                    raise _taken(taken)
            if AliasBook(rules).closes_circle(rule):
                raise StateConflict(
                    f"{rule.model!r} leads back to {rule.alias!r}: aliases must end at a model.",
                    code="alias_circle",
                    field="model",
                )
            return await repository.insert_alias(connection, tenant_id, new_id(), rule)

    async def withdraw(self, tenant_id: str, alias_id: UUID) -> None:
        """Delete an alias as if it had never been declared. Raises NotFound."""
        async with self._change(tenant_id) as (connection, _):
            if not await repository.delete_alias(connection, tenant_id, alias_id):
                raise NotFound(f"There is no alias with the id {alias_id}.")

    async def withdraw_named(self, tenant_id: str, alias: str) -> None:
        """Delete an alias with all its dates. Raises NotFound."""
        async with self._change(tenant_id) as (connection, _):
            if not await repository.delete_aliases_named(connection, tenant_id, alias):
                raise NotFound(f"There is no alias {alias!r}.")


class KeyService:
    """The key registry as operators see it: from the table, not from memory."""

    def __init__(self, pool: PostgresPool, registry: KeyRegistry) -> None:
        self._pool = pool
        self._registry = registry

    async def list_page(self, tenant_id: str, *, after: str, limit: int) -> list[KnownKey]:
        """Return keys in their own order."""
        async with connected(self._pool) as connection:
            return await repository.list_keys(connection, tenant_id, after=after, limit=limit)

    async def get(self, tenant_id: str, api_key: str) -> KnownKey:
        """Return what is known of a key. Raises NotFound."""
        async with connected(self._pool) as connection:
            known = await repository.find_key(connection, tenant_id, api_key)
        if known is None:
            raise _unknown_key()
        return known

    async def declare(self, tenant_id: str, api_key: str, facts: KeyFacts, *, is_blocked: bool) -> KnownKey:
        """Declare to whom a key belongs, instead of whatever was declared before."""
        async with connected(self._pool) as connection, connection.transaction():
            known = await repository.declare_key(connection, tenant_id, api_key, facts, is_blocked=is_blocked)
        self._registry.forget(tenant_id, api_key)
        return known

    async def delete(self, tenant_id: str, api_key: str) -> None:
        """Forget what was declared and learned of a key; its next event teaches anew. Raises NotFound."""
        async with connected(self._pool) as connection, connection.transaction():
            existed = await repository.delete_key(connection, tenant_id, api_key)
        self._registry.forget(tenant_id, api_key)
        if not existed:
            raise _unknown_key()


def _taken(taken: Alias) -> AlreadyExists:
    end = "without end" if taken.effective_to is None else f"until {taken.effective_to.isoformat()}"
    return AlreadyExists(
        f"{taken.alias!r} already means {taken.model!r} from {taken.effective_from.isoformat()} {end}:"
        " delete that alias, or declare this one for another time.",
        code="alias_overlaps",
        field="alias",
    )


def _unknown_key() -> NotFound:
    return NotFound("Nothing is known of this key.")
