"""Every SQL statement about aliases and keys.

Whatever changes a key announces it on `tallygate_keys` in the same transaction, so that every process forgets what it
remembers of that key the moment the change is committed. Aliases are part of the tenant's configuration.
"""
# ruff: noqa: S608 — only constant column lists are put into statements

from collections.abc import Sequence
from datetime import datetime
from importlib.resources import files
from typing import Any
from uuid import UUID

import msgspec
from psycopg import AsyncConnection
from psycopg.rows import DictRow, dict_row

from service.identity.aliases import Alias
from service.identity.known_key import KEY_FACTS, KeyFacts, KnownKey, LearnedFacts
from service.kit.ids import new_id_text

KEY_CHANNEL = "tallygate_keys"

_ALIAS_COLUMNS = "alias_id, alias, model, effective_from, effective_to, created_at"
_LOAD_ALIASES = f"SELECT {_ALIAS_COLUMNS} FROM model_alias WHERE tenant_id = %s ORDER BY alias_id"
_LIST_ALIASES = (
    f"SELECT {_ALIAS_COLUMNS} FROM model_alias"
    " WHERE tenant_id = %(tenant_id)s AND (%(alias)s::text IS NULL OR lower(alias) = lower(%(alias)s))"
    " AND (%(after)s::uuid IS NULL OR alias_id > %(after)s::uuid)"
    " ORDER BY alias_id LIMIT %(limit)s"
)
_INSERT_ALIAS = (
    "INSERT INTO model_alias (tenant_id, alias_id, alias, model, effective_from, effective_to)"
    f" VALUES (%s, %s, %s, %s, %s, %s) RETURNING {_ALIAS_COLUMNS}"
)
_DELETE_ALIAS = f"DELETE FROM model_alias WHERE tenant_id = %s AND alias_id = %s RETURNING {_ALIAS_COLUMNS}"
_DELETE_ALIASES_NAMED = (
    f"DELETE FROM model_alias WHERE tenant_id = %s AND lower(alias) = lower(%s) RETURNING {_ALIAS_COLUMNS}"
)

_KEY_COLUMNS = (
    'api_key, is_declared, team, "user", organization, project, alias, blocked,'
    " learned_team, learned_user, learned_organization, learned_project, learned_alias,"
    " learned_from_occurred_at, changed_at"
)
_FIND_KEYS = (
    f"SELECT tenant_id, {_KEY_COLUMNS} FROM key_record"
    " WHERE (tenant_id, api_key) IN (SELECT * FROM unnest(%s::text[], %s::text[]))"
)
_FIND_BLOCKED_KEYS = f"SELECT tenant_id, {_KEY_COLUMNS} FROM key_record WHERE blocked LIMIT %s"
_FIND_KEY = f"SELECT {_KEY_COLUMNS} FROM key_record WHERE tenant_id = %s AND api_key = %s"
_LIST_KEYS = f"SELECT {_KEY_COLUMNS} FROM key_record WHERE tenant_id = %s AND api_key > %s ORDER BY api_key LIMIT %s"
# A lookup per tenant by the primary key; a planner left alone might read the whole table.
_FIND_KEY_OWNERS = (
    f"SELECT tenant.tenant_id, known.* FROM tenant CROSS JOIN LATERAL (SELECT {_KEY_COLUMNS} FROM key_record"
    " WHERE key_record.tenant_id = tenant.tenant_id AND key_record.api_key = %(api_key)s LIMIT 1) AS known"
    " WHERE %(tenant_id)s::text IS NULL OR tenant.tenant_id = %(tenant_id)s ORDER BY tenant.tenant_id LIMIT %(most)s"
)
_DECLARE_KEY = (
    'INSERT INTO key_record (tenant_id, api_key, is_declared, team, "user", organization, project, alias, blocked)'
    " VALUES (%s, %s, true, %s, %s, %s, %s, %s, %s)"
    " ON CONFLICT (tenant_id, api_key) DO UPDATE SET is_declared = true, team = excluded.team,"
    ' "user" = excluded."user", organization = excluded.organization, project = excluded.project,'
    " alias = excluded.alias, blocked = excluded.blocked, changed_at = now()"
    f" RETURNING {_KEY_COLUMNS}"
)
_DELETE_KEY = "DELETE FROM key_record WHERE tenant_id = %s AND api_key = %s"
_LEARN_KEYS = files("service.identity").joinpath("sql/learn_keys.sql").read_text("utf-8") + f"RETURNING {_KEY_COLUMNS}"
_ANNOUNCE_KEYS = "SELECT pg_notify(%s, notice) FROM unnest(%s::text[]) AS notice"
_SEND_BEAT = "SELECT pg_notify(%s, %s)"
# No tenant's name is empty.
_BEAT = " "


class AliasRow(msgspec.Struct, frozen=True, kw_only=True):
    """A stored alias."""

    alias_id: UUID
    alias: str
    model: str
    effective_from: datetime
    effective_to: datetime | None
    created_at: datetime

    @property
    def rule(self) -> Alias:
        """The alias as names are resolved by it."""
        return Alias(
            alias=self.alias, model=self.model, effective_from=self.effective_from, effective_to=self.effective_to
        )


async def fetch_aliases(connection: AsyncConnection[Any], tenant_id: str) -> list[AliasRow]:
    """Return all aliases of a tenant."""
    return [AliasRow(**row) for row in await _fetch_all(connection, _LOAD_ALIASES, (tenant_id,))]


async def list_aliases(
    connection: AsyncConnection[Any], tenant_id: str, *, alias: str | None, after: UUID | None, limit: int
) -> list[AliasRow]:
    """Return aliases in the order they were declared, those after the given one; `alias` narrows to one name."""
    parameters = {"tenant_id": tenant_id, "alias": alias, "after": after, "limit": limit}
    return [AliasRow(**row) for row in await _fetch_all(connection, _LIST_ALIASES, parameters)]


async def insert_alias(connection: AsyncConnection[Any], tenant_id: str, alias_id: UUID, rule: Alias) -> AliasRow:
    """Store an alias."""
    parameters = (tenant_id, alias_id, rule.alias, rule.model, rule.effective_from, rule.effective_to)
    row = await _fetch_one(connection, _INSERT_ALIAS, parameters)
    assert row is not None, "INSERT … RETURNING without a row"
    return AliasRow(**row)


async def delete_alias(connection: AsyncConnection[Any], tenant_id: str, alias_id: UUID) -> list[AliasRow]:
    """Delete an alias and return what there was."""
    return [AliasRow(**row) for row in await _fetch_all(connection, _DELETE_ALIAS, (tenant_id, alias_id))]


async def delete_aliases_named(connection: AsyncConnection[Any], tenant_id: str, alias: str) -> list[AliasRow]:
    """Delete an alias at all its dates and return what there was."""
    return [AliasRow(**row) for row in await _fetch_all(connection, _DELETE_ALIASES_NAMED, (tenant_id, alias))]


async def find_keys(
    connection: AsyncConnection[Any], wanted: Sequence[tuple[str, str]]
) -> dict[tuple[str, str], KnownKey]:
    """Return those of the (tenant_id, api_key) that are known."""
    tenants, keys = [tenant_id for tenant_id, _ in wanted], [api_key for _, api_key in wanted]
    rows = await _fetch_all(connection, _FIND_KEYS, (tenants, keys))
    return {(row["tenant_id"], row["api_key"]): _known_key(row) for row in rows}


async def find_blocked_keys(connection: AsyncConnection[Any], most: int) -> dict[tuple[str, str], KnownKey]:
    """Return the blocked keys of all tenants, by (tenant_id, api_key)."""
    rows = await _fetch_all(connection, _FIND_BLOCKED_KEYS, (most,))
    return {(row["tenant_id"], row["api_key"]): _known_key(row) for row in rows}


async def find_key(connection: AsyncConnection[Any], tenant_id: str, api_key: str) -> KnownKey | None:
    """Return what is known of one key."""
    row = await _fetch_one(connection, _FIND_KEY, (tenant_id, api_key))
    return None if row is None else _known_key(row)


async def find_key_owners(
    connection: AsyncConnection[Any], api_key: str, *, tenant_id: str | None, most: int
) -> list[tuple[str, KnownKey]]:
    """Return the tenants that know a key, with what they know of it; `tenant_id` narrows to one."""
    parameters = {"api_key": api_key, "tenant_id": tenant_id, "most": most}
    rows = await _fetch_all(connection, _FIND_KEY_OWNERS, parameters)
    return [(row["tenant_id"], _known_key(row)) for row in rows]


async def list_keys(connection: AsyncConnection[Any], tenant_id: str, *, after: str, limit: int) -> list[KnownKey]:
    """Return keys in their own order, those after the given one."""
    return [_known_key(row) for row in await _fetch_all(connection, _LIST_KEYS, (tenant_id, after, limit))]


async def declare_key(
    connection: AsyncConnection[Any], tenant_id: str, api_key: str, facts: KeyFacts, *, is_blocked: bool
) -> KnownKey:
    """Store what an operator declares of a key, instead of whatever was declared before, and announce it."""
    values = [getattr(facts, name) for name in KEY_FACTS]
    row = await _fetch_one(connection, _DECLARE_KEY, (tenant_id, api_key, *values, is_blocked))
    assert row is not None, "INSERT … RETURNING without a row"
    await _announce_keys(connection, tenant_id, [api_key])
    return _known_key(row)


async def delete_key(connection: AsyncConnection[Any], tenant_id: str, api_key: str) -> bool:
    """Forget a key, what was learned of it too, and announce it; False when nothing was known of it."""
    deleted = (await connection.execute(_DELETE_KEY, (tenant_id, api_key))).rowcount
    if deleted:
        await _announce_keys(connection, tenant_id, [api_key])
    return bool(deleted)


async def learn_keys(
    connection: AsyncConnection[Any], tenant_id: str, learned: Sequence[LearnedFacts]
) -> list[KnownKey]:
    """Store what is new in the lessons, announce the keys it was new of, and return these."""
    columns = [[getattr(lesson.facts, name) for lesson in learned] for name in KEY_FACTS]
    keys = [lesson.api_key for lesson in learned]
    occurred = [lesson.occurred_at for lesson in learned]
    rows = await _fetch_all(connection, _LEARN_KEYS, (tenant_id, keys, *columns, occurred))
    changed = [_known_key(row) for row in rows]
    if changed:
        await _announce_keys(connection, tenant_id, [key.api_key for key in changed])
    return changed


async def _announce_keys(connection: AsyncConnection[Any], tenant_id: str, keys: Sequence[str]) -> None:
    await connection.execute(_ANNOUNCE_KEYS, (KEY_CHANNEL, [f"{tenant_id} {api_key}" for api_key in keys]))


def new_beat() -> str:
    """Return a notice nobody else sends, which tells its sender that it has heard all notices before it."""
    return _BEAT + new_id_text()


def is_beat(notice: str) -> bool:
    """Tell whether a notice is somebody's beat, and names no key."""
    return notice.startswith(_BEAT)


async def send_beat(connection: AsyncConnection[Any], beat: str) -> None:
    """Send a beat to all who listen to news of keys."""
    await connection.execute(_SEND_BEAT, (KEY_CHANNEL, beat))


async def _fetch_one(connection: AsyncConnection[Any], statement: str, parameters: Any) -> DictRow | None:
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(statement, parameters)
        return await cursor.fetchone()


async def _fetch_all(connection: AsyncConnection[Any], statement: str, parameters: Any) -> list[DictRow]:
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(statement, parameters)
        return await cursor.fetchall()


def _known_key(row: DictRow) -> KnownKey:
    return KnownKey(
        api_key=row["api_key"],
        is_declared=row["is_declared"],
        declared=KeyFacts(**{name: row[name] for name in KEY_FACTS}),
        learned=KeyFacts(**{name: row[f"learned_{name}"] for name in KEY_FACTS}),
        learned_from_occurred_at=row["learned_from_occurred_at"],
        is_blocked=row["blocked"],
        changed_at=row["changed_at"],
    )
