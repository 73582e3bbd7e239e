"""Administers tokens, tenants and settings. Whom a request speaks for is the directory's question, not asked here.

A token's text exists in the answer to the one call that made it, and nowhere else.
"""

import re
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

from psycopg import AsyncConnection

from service.access import repository
from service.access.repository import TenantRow, TokenRow
from service.access.settings import Enforcement, merge_settings
from service.access.tokens import (
    MAX_NAME_LENGTH,
    ROLES,
    Caller,
    TokenTerms,
    check_grant,
    checked_terms,
    new_token_text,
    token_digest,
)
from service.access.trail import record_change, settings_of, terms_of
from service.audit.repository import COMMAND_LINE
from service.db.pools import PostgresPool, connected
from service.errors import AlreadyExists, Forbidden, InvalidInput, NotFound
from service.kit.clock import utc_now
from service.kit.ids import new_id

_TENANT_ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


class ConfigChanges(Protocol):
    """The one way to change what a tenant has configured."""

    def change(self, tenant_id: str) -> AbstractAsyncContextManager[tuple[AsyncConnection[Any], int]]:
        """Open a transaction on the tenant's configuration; yields the connection and the new config_version."""
        ...


@dataclass(frozen=True, slots=True)
class NewToken:
    """A token just made, with its text; the text is left out where the object is printed."""

    row: TokenRow
    text: str

    def __repr__(self) -> str:
        return f"NewToken({self.row.tenant_id!r}, {self.row.token_id})"


class TokenService:
    """Makes, lists and revokes the tokens of a tenant; `forget` is told the digest of each token that changed."""

    def __init__(self, pool: PostgresPool, forget: Callable[[str], None] = lambda _: None) -> None:
        self._pool = pool
        self._forget = forget

    async def create(self, tenant_id: str, terms: TokenTerms, creator: Caller | None) -> NewToken:
        """Make a token; without a creator nothing but the terms themselves bounds it.

        Raises InvalidInput or Forbidden with the field, NotFound when there is no such tenant.
        """
        terms = checked_terms(terms, now=utc_now())
        if creator is not None:
            check_grant(terms, creator)
        async with connected(self._pool) as connection, connection.transaction():
            if await repository.load_tenant(connection, tenant_id) is None:
                raise NotFound(f"There is no tenant {tenant_id!r}.")
            return await _insert_token(connection, tenant_id, terms, _author(creator))

    async def list_page(
        self, tenant_id: str, *, include_revoked: bool, after: tuple[datetime, UUID] | None, limit: int
    ) -> list[TokenRow]:
        """Return the tenant's tokens, oldest first."""
        async with connected(self._pool) as connection:
            return await repository.list_tokens(
                connection, tenant_id, include_revoked=include_revoked, after=after, limit=limit
            )

    async def revoke(self, tenant_id: str, token_id: UUID, revoker: Caller | None) -> None:
        """Revoke a token; one that is revoked already stays so. Raises NotFound, also for another tenant's token."""
        async with connected(self._pool) as connection, connection.transaction():
            token = await repository.find_token(connection, tenant_id, token_id)
            if token is None:
                raise NotFound("There is no such token.")
            if token.is_operator and revoker is not None and not revoker.is_operator:
                raise Forbidden("Only an operator can revoke an operator's token.")
            digest = await repository.revoke_token(connection, tenant_id, token_id)
            if digest is not None:
                await record_change(
                    connection, tenant_id, _author(revoker), "token.revoked", token_id, terms_of(token), None
                )
        if digest is not None:
            self._forget(digest)


class TenantService:
    """Creates and lists tenants."""

    def __init__(self, pool: PostgresPool) -> None:
        self._pool = pool

    async def list_page(self, *, after: str, limit: int) -> list[TenantRow]:
        """Return tenants in the order of their ids."""
        async with connected(self._pool) as connection:
            return await repository.list_tenants(connection, after=after, limit=limit)

    async def create(
        self, tenant_id: str, name: str | None, creator: Caller | None = None
    ) -> tuple[TenantRow, NewToken]:
        """Create a tenant with its first admin token. Raises InvalidInput, AlreadyExists."""
        name = tenant_id if name is None else name
        _check_tenant(tenant_id, name)
        async with connected(self._pool) as connection, connection.transaction():
            tenant = await repository.insert_tenant(connection, tenant_id, name)
            if tenant is None:
                raise AlreadyExists(f"There is a tenant {tenant_id!r} already.", field="id")
            terms = TokenTerms(name="first admin token", roles=ROLES)
            author = _author(creator)
            await record_change(connection, tenant_id, author, "tenant.created", tenant_id, None, {"name": name})
            return tenant, await _insert_token(connection, tenant_id, terms, author)


class SettingsService:
    """Reads and changes what a tenant has set."""

    def __init__(self, pool: PostgresPool, configs: ConfigChanges) -> None:
        self._pool = pool
        self._configs = configs

    async def get(self, tenant_id: str) -> TenantRow:
        """Return the tenant with its settings. Raises NotFound."""
        async with connected(self._pool) as connection:
            return await _get_tenant(connection, tenant_id)

    async def change(
        self,
        tenant_id: str,
        *,
        enforcement: Enforcement | None,
        changes: dict[str, Any],
        author: str = COMMAND_LINE,
    ) -> TenantRow:
        """Change the settings everywhere at once; None goes back to a default. Raises InvalidInput with the field."""
        if enforcement is None and not changes:
            return await self.get(tenant_id)
        async with self._configs.change(tenant_id) as (connection, _):
            tenant = await _get_tenant(connection, tenant_id)
            document = merge_settings(tenant.document, changes)
            await repository.store_settings(connection, tenant_id, enforcement, document)
            changed = await _get_tenant(connection, tenant_id)
            before, after = settings_of(tenant), settings_of(changed)
            await record_change(connection, tenant_id, author, "settings.changed", tenant_id, before, after)
            return changed


def _check_tenant(tenant_id: str, name: str) -> None:
    if _TENANT_ID.fullmatch(tenant_id) is None:
        detail = "A tenant id has 1 to 63 of a-z, 0-9, - and _, and begins with a letter or digit."
        raise InvalidInput(detail, field="id")
    if not name.strip() or len(name) > MAX_NAME_LENGTH or not name.isprintable():
        raise InvalidInput(f"A tenant is named in 1 to {MAX_NAME_LENGTH} printable characters.", field="name")


async def _insert_token(connection: AsyncConnection[Any], tenant_id: str, terms: TokenTerms, author: str) -> NewToken:
    text = new_token_text()
    row = await repository.insert_token(connection, tenant_id, new_id(), token_digest(text), terms)
    await record_change(connection, tenant_id, author, "token.created", row.token_id, None, terms_of(row))
    return NewToken(row, text)


def _author(caller: Caller | None) -> str:
    return COMMAND_LINE if caller is None else caller.author


async def _get_tenant(connection: AsyncConnection[Any], tenant_id: str) -> TenantRow:
    tenant = await repository.load_tenant(connection, tenant_id)
    if tenant is None:
        raise NotFound(f"There is no tenant {tenant_id!r}.")
    return tenant
