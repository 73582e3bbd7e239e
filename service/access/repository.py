"""Every SQL statement about tenants and tokens.

Whatever makes, revokes or replaces a token announces its digest on `tallygate_tokens` in the same transaction, so that
every process drops what it remembers of that token the moment the change is committed.
"""
# ruff: noqa: S105, S608 — names with "token" in them are no passwords; only constant column lists are put into statements

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from psycopg import AsyncConnection
from psycopg.rows import DictRow, dict_row
from psycopg.types.json import Jsonb

from service.access.settings import TenantSettings, decode_settings
from service.access.tokens import SOURCE, Caller, TokenTerms

TOKEN_CHANNEL = "tallygate_tokens"
DEFAULT_TENANT = "default"

# Our advisory lock for the first token: several processes start at the same moment.
_BOOTSTRAP_LOCK_ID = 5_893_206_746_251_193_417

_TENANT_COLUMNS = "tenant_id, name, created_at, enforcement, settings, config_version"
_FIND_TENANT = f"SELECT {_TENANT_COLUMNS} FROM tenant WHERE tenant_id = %s"
_LIST_TENANTS = f"SELECT {_TENANT_COLUMNS} FROM tenant WHERE tenant_id > %s ORDER BY tenant_id LIMIT %s"
_INSERT_TENANT = (
    "INSERT INTO tenant (tenant_id, name) VALUES (%s, %s) ON CONFLICT (tenant_id) DO NOTHING"
    f" RETURNING {_TENANT_COLUMNS}"
)
_STORE_SETTINGS = "UPDATE tenant SET enforcement = COALESCE(%s, enforcement), settings = %s WHERE tenant_id = %s"

_TOKEN_COLUMNS = (
    "tenant_id, token_id, name, roles, is_operator, is_bootstrap, scope, pinned, trusted_headers, reserve,"
    " on_unresolved, created_at, expires_at, revoked_at"
)
# How long a token has to live is told by the database clock, in which its end was written.
_FIND_LIVE_TOKENS = (
    f"SELECT {_TOKEN_COLUMNS}, token_sha256, EXTRACT(EPOCH FROM expires_at - now())::float8 AS seconds_left"
    " FROM access_token WHERE token_sha256 = ANY (%s) AND revoked_at IS NULL"
)
_FIND_TOKEN = f"SELECT {_TOKEN_COLUMNS} FROM access_token WHERE tenant_id = %s AND token_id = %s"
_FIND_TOKEN_BY_DIGEST = f"SELECT {_TOKEN_COLUMNS} FROM access_token WHERE token_sha256 = %s"
_LIST_TOKENS = (
    f"SELECT {_TOKEN_COLUMNS} FROM access_token"
    " WHERE tenant_id = %(tenant_id)s AND (%(include_revoked)s OR revoked_at IS NULL)"
    " AND (%(after_time)s::timestamptz IS NULL OR (created_at, token_id) > (%(after_time)s, %(after_id)s::uuid))"
    " ORDER BY created_at, token_id LIMIT %(limit)s"
)
_INSERT_TOKEN = (
    "INSERT INTO access_token (tenant_id, token_id, token_sha256, name, roles, is_operator, is_bootstrap, scope,"
    " pinned, trusted_headers, reserve, on_unresolved, expires_at)"
    " VALUES (%(tenant_id)s, %(token_id)s, %(token_sha256)s, %(name)s, %(roles)s, %(is_operator)s, %(is_bootstrap)s,"
    " %(scope)s, %(pinned)s, %(trusted_headers)s, %(reserve)s, %(on_unresolved)s, %(expires_at)s)"
    f" RETURNING {_TOKEN_COLUMNS}"
)
_REVOKE_TOKEN = (
    "UPDATE access_token SET revoked_at = now() WHERE tenant_id = %s AND token_id = %s AND revoked_at IS NULL"
    " RETURNING token_sha256"
)
_REVOKE_OTHER_BOOTSTRAP_TOKENS = (
    "UPDATE access_token SET revoked_at = now() WHERE is_bootstrap AND revoked_at IS NULL AND token_sha256 <> %s"
    f" RETURNING {_TOKEN_COLUMNS}, token_sha256"
)
_ANNOUNCE = "SELECT pg_notify(%s, %s)"
_LOCK_BOOTSTRAP = "SELECT pg_advisory_xact_lock(%s)"
_BOOTSTRAP_TOKENS = f"SELECT {_TOKEN_COLUMNS}, token_sha256 FROM access_token WHERE is_bootstrap"
_HAS_ADMIN = (
    "SELECT EXISTS (SELECT FROM access_token WHERE 'admin' = ANY (roles) AND revoked_at IS NULL"
    " AND (expires_at IS NULL OR expires_at > now())) AS has_admin"
)


class TenantRow(msgspec.Struct, frozen=True, kw_only=True):
    """A stored tenant; `document` is its settings as stored, `settings` with the defaults filled in."""

    tenant_id: str
    name: str
    created_at: datetime
    enforcement: str
    document: dict[str, Any]
    settings: TenantSettings
    config_version: int


class TokenRow(msgspec.Struct, frozen=True, kw_only=True):
    """A stored token, without anything that could be used as one."""

    tenant_id: str
    token_id: UUID
    name: str
    roles: list[str]
    is_operator: bool
    is_bootstrap: bool
    scope: dict[str, list[str]]
    pinned: dict[str, str]
    trusted_headers: list[str]
    reserve: bool
    on_unresolved: str
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None


class LiveToken(msgspec.Struct, frozen=True):
    """What a look-up by digest found; `seconds_left` is None for a token without an end, below 0 for an expired one."""

    caller: Caller
    seconds_left: float | None


async def load_tenant(connection: AsyncConnection[Any], tenant_id: str) -> TenantRow | None:
    """Return the tenant, or None when there is none."""
    row = await _fetch_one(connection, _FIND_TENANT, (tenant_id,))
    return None if row is None else _tenant_row(row)


async def list_tenants(connection: AsyncConnection[Any], *, after: str, limit: int) -> list[TenantRow]:
    """Return tenants in the order of their ids, those after the given one."""
    return [_tenant_row(row) for row in await _fetch_all(connection, _LIST_TENANTS, (after, limit))]


async def insert_tenant(connection: AsyncConnection[Any], tenant_id: str, name: str) -> TenantRow | None:
    """Return the new tenant, or None when the id is taken."""
    row = await _fetch_one(connection, _INSERT_TENANT, (tenant_id, name))
    return None if row is None else _tenant_row(row)


async def store_settings(
    connection: AsyncConnection[Any], tenant_id: str, enforcement: str | None, document: dict[str, Any]
) -> None:
    """Store the settings document and, unless None, the enforcement switch."""
    await connection.execute(_STORE_SETTINGS, (enforcement, Jsonb(document), tenant_id))


async def find_live_tokens(connection: AsyncConnection[Any], digests: Sequence[str]) -> dict[str, LiveToken]:
    """Return by digest those tokens that exist and are not revoked, expired ones included."""
    rows = await _fetch_all(connection, _FIND_LIVE_TOKENS, (list(digests),))
    return {row["token_sha256"]: LiveToken(_caller(row), row["seconds_left"]) for row in rows}


async def find_token(connection: AsyncConnection[Any], tenant_id: str, token_id: UUID) -> TokenRow | None:
    """Return a token of the tenant, revoked or not."""
    row = await _fetch_one(connection, _FIND_TOKEN, (tenant_id, token_id))
    return None if row is None else _token_row(row)


async def find_token_by_digest(connection: AsyncConnection[Any], digest: str) -> TokenRow | None:
    """Return a token of any tenant, revoked or not."""
    row = await _fetch_one(connection, _FIND_TOKEN_BY_DIGEST, (digest,))
    return None if row is None else _token_row(row)


async def list_tokens(
    connection: AsyncConnection[Any],
    tenant_id: str,
    *,
    include_revoked: bool,
    after: tuple[datetime, UUID] | None,
    limit: int,
) -> list[TokenRow]:
    """Return the tenant's tokens, oldest first, those after the given (created_at, token_id)."""
    after_time, after_id = after if after is not None else (None, None)
    parameters = {
        "tenant_id": tenant_id,
        "include_revoked": include_revoked,
        "after_time": after_time,
        "after_id": after_id,
        "limit": limit,
    }
    return [_token_row(row) for row in await _fetch_all(connection, _LIST_TOKENS, parameters)]


async def insert_token(
    connection: AsyncConnection[Any], tenant_id: str, token_id: UUID, digest: str, terms: TokenTerms
) -> TokenRow:
    """Store a new token and announce it: somebody may have been told a moment ago that there is no such token."""
    parameters = {
        "tenant_id": tenant_id,
        "token_id": token_id,
        "token_sha256": digest,
        **msgspec.structs.asdict(terms),
        "roles": list(terms.roles),
        "trusted_headers": list(terms.trusted_headers),
        "scope": Jsonb(terms.scope),
        "pinned": Jsonb(terms.pinned),
    }
    row = await _fetch_one(connection, _INSERT_TOKEN, parameters)
    assert row is not None, "INSERT … RETURNING without a row"
    await announce(connection, digest)
    return _token_row(row)


async def revoke_token(connection: AsyncConnection[Any], tenant_id: str, token_id: UUID) -> str | None:
    """Revoke and announce the token; return its digest, or None when there is no live one."""
    row = await _fetch_one(connection, _REVOKE_TOKEN, (tenant_id, token_id))
    if row is None:
        return None
    await announce(connection, row["token_sha256"])
    return str(row["token_sha256"])


async def announce(connection: AsyncConnection[Any], digest: str) -> None:
    """Tell every process, at commit, to forget what it knows of a token."""
    await connection.execute(_ANNOUNCE, (TOKEN_CHANNEL, digest))


async def lock_bootstrap(connection: AsyncConnection[Any]) -> None:
    """Wait until no other process is at the bootstrap token, and keep them out until the transaction ends."""
    await connection.execute(_LOCK_BOOTSTRAP, (_BOOTSTRAP_LOCK_ID,))


async def load_bootstrap_tokens(connection: AsyncConnection[Any]) -> dict[str, TokenRow]:
    """Return every bootstrap token there ever was, by digest."""
    rows = await _fetch_all(connection, _BOOTSTRAP_TOKENS, ())
    return {row["token_sha256"]: _token_row(row) for row in rows}


async def revoke_other_bootstrap_tokens(connection: AsyncConnection[Any], digest: str) -> list[TokenRow]:
    """Revoke and announce every live bootstrap token but the one of this digest; return what was revoked."""
    rows = await _fetch_all(connection, _REVOKE_OTHER_BOOTSTRAP_TOKENS, (digest,))
    for row in rows:
        await announce(connection, row["token_sha256"])
    return [_token_row(row) for row in rows]


async def has_admin_token(connection: AsyncConnection[Any]) -> bool:
    """Tell whether anybody can administer anything."""
    row = await _fetch_one(connection, _HAS_ADMIN, ())
    return row is not None and bool(row["has_admin"])


async def _fetch_one(connection: AsyncConnection[Any], statement: str, parameters: Any) -> DictRow | None:
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(statement, parameters)
        return await cursor.fetchone()


async def _fetch_all(connection: AsyncConnection[Any], statement: str, parameters: Any) -> list[DictRow]:
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(statement, parameters)
        return await cursor.fetchall()


def _tenant_row(row: DictRow) -> TenantRow:
    document = row.pop("settings")
    return TenantRow(**row, document=document, settings=decode_settings(document))


def _token_row(row: DictRow) -> TokenRow:
    row.pop("token_sha256", None)
    return TokenRow(**row)


def _caller(row: DictRow) -> Caller:
    pinned = dict(row["pinned"])
    return Caller(
        tenant_id=row["tenant_id"],
        token_id=row["token_id"],
        name=row["name"],
        roles=frozenset(row["roles"]),
        is_operator=row["is_operator"],
        scope=row["scope"],
        source=pinned.pop(SOURCE, None),
        pinned=pinned,
        trusted_headers=frozenset(row["trusted_headers"]),
        reserve=row["reserve"],
        on_unresolved=row["on_unresolved"],
        expires_at=row["expires_at"],
    )
