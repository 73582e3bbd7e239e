"""Declares aliases and keys on behalf of operators, and lists what is declared and learned.

Aliases are part of the tenant's configuration: they change under its fence, so that both paths turn at one instant.
Keys are not: a change of a key is announced by itself.
"""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any
from uuid import UUID

import msgspec
from psycopg import AsyncConnection

from service.audit.repository import COMMAND_LINE, record
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

    async def declare(self, tenant_id: str, rule: Alias, *, author: str = COMMAND_LINE) -> AliasRow:
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
            row = await repository.insert_alias(connection, tenant_id, new_id(), rule)
            await _record_alias(connection, tenant_id, author, "created", row)
        return row

    async def withdraw(self, tenant_id: str, alias_id: UUID, *, author: str = COMMAND_LINE) -> None:
        """Delete an alias as if it had never been declared. Raises NotFound."""
        async with self._change(tenant_id) as (connection, _):
            rows = await repository.delete_alias(connection, tenant_id, alias_id)
            if not rows:
                raise NotFound(f"There is no alias with the id {alias_id}.")
            for row in rows:
                await _record_alias(connection, tenant_id, author, "deleted", row)

    async def withdraw_named(self, tenant_id: str, alias: str, *, author: str = COMMAND_LINE) -> None:
        """Delete an alias with all its dates. Raises NotFound."""
        async with self._change(tenant_id) as (connection, _):
            rows = await repository.delete_aliases_named(connection, tenant_id, alias)
            if not rows:
                raise NotFound(f"There is no alias {alias!r}.")
            for row in rows:
                await _record_alias(connection, tenant_id, author, "deleted", row)


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

    async def find_owners(self, api_key: str, *, tenant_id: str | None, most: int) -> list[tuple[str, KnownKey]]:
        """Return the tenants that know a key somebody has shown, with what they know of it."""
        async with connected(self._pool) as connection:
            return await repository.find_key_owners(connection, api_key, tenant_id=tenant_id, most=most)

    async def declare(
        self, tenant_id: str, api_key: str, facts: KeyFacts, *, is_blocked: bool, author: str = COMMAND_LINE
    ) -> KnownKey:
        """Declare to whom a key belongs, instead of whatever was declared before."""
        async with connected(self._pool) as connection, connection.transaction():
            former = await repository.find_key(connection, tenant_id, api_key)
            known = await repository.declare_key(connection, tenant_id, api_key, facts, is_blocked=is_blocked)
            await _record_key(connection, tenant_id, author, api_key=api_key, former=former, known=known)
        self._registry.forget(tenant_id, api_key)
        return known

    async def delete(self, tenant_id: str, api_key: str, *, author: str = COMMAND_LINE) -> None:
        """Forget what was declared and learned of a key; its next event teaches anew. Raises NotFound."""
        async with connected(self._pool) as connection, connection.transaction():
            former = await repository.find_key(connection, tenant_id, api_key)
            existed = await repository.delete_key(connection, tenant_id, api_key)
            if existed:
                await _record_key(connection, tenant_id, author, api_key=api_key, former=former, known=None)
        self._registry.forget(tenant_id, api_key)
        if not existed:
            raise _unknown_key()


async def _record_alias(
    connection: AsyncConnection[Any], tenant_id: str, author: str, verb: str, row: AliasRow
) -> None:
    document = msgspec.structs.asdict(row.rule)
    await record(
        connection,
        tenant_id,
        changed_by=author,
        action=f"alias.{verb}",
        subject_type="alias",
        subject_id=str(row.alias_id),
        before=document if verb == "deleted" else None,
        after=document if verb == "created" else None,
    )


async def _record_key(
    connection: AsyncConnection[Any],
    tenant_id: str,
    author: str,
    *,
    api_key: str,
    former: KnownKey | None,
    known: KnownKey | None,
) -> None:
    await record(
        connection,
        tenant_id,
        changed_by=author,
        action="key.deleted" if known is None else "key.declared",
        subject_type="key",
        subject_id=api_key,
        before=_key_document(former),
        after=_key_document(known),
    )


def _key_document(known: KnownKey | None) -> dict[str, Any] | None:
    if known is None or not known.is_declared:
        return None
    return {**msgspec.structs.asdict(known.declared), "blocked": known.is_blocked}


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
