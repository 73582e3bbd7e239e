"""Writes entries of the key registry in portions, each with its entries of the audit trail."""

from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
from psycopg import AsyncConnection

from service.audit.repository import NewEntry, record_all
from service.db.pools import PostgresPool, connected
from service.identity.known_key import KnownKey
from service.identity.repository import declare_key, find_keys
from service.imports.plan import PlannedKey

_PORTION: Final = 500


class KeyWriter:
    """Declares keys that are not declared so yet."""

    def __init__(self, pool: PostgresPool) -> None:
        self._pool = pool

    async def find_due(self, tenant_id: str, keys: Sequence[PlannedKey]) -> list[PlannedKey]:
        """Return those that differ from the registry."""
        due: list[PlannedKey] = []
        async with connected(self._pool) as connection:
            for start in range(0, len(keys), _PORTION):
                portion = keys[start : start + _PORTION]
                known = await _known(connection, tenant_id, portion)
                due += [key for key in portion if not _is_as(known.get(key.api_key), key)]
        return due

    async def write(
        self, tenant_id: str, keys: Sequence[PlannedKey], author: str, progress: Callable[[int], None]
    ) -> None:
        """Declare the keys, instead of whatever was declared of them."""
        for start in range(0, len(keys), _PORTION):
            portion = keys[start : start + _PORTION]
            async with connected(self._pool) as connection, connection.transaction():
                known = await _known(connection, tenant_id, portion)
                entries = []
                for key in portion:
                    await declare_key(connection, tenant_id, key.api_key, key.facts, is_blocked=key.is_blocked)
                    entries.append(_entry(known.get(key.api_key), key))
                await record_all(connection, tenant_id, entries, changed_by=author)
            progress(len(portion))


async def _known(connection: AsyncConnection[Any], tenant_id: str, keys: Sequence[PlannedKey]) -> dict[str, KnownKey]:
    found = await find_keys(connection, [(tenant_id, key.api_key) for key in keys])
    return {api_key: known for (_, api_key), known in found.items()}


def _is_as(known: KnownKey | None, key: PlannedKey) -> bool:
    return (
        known is not None and known.is_declared and known.declared == key.facts and known.is_blocked == key.is_blocked
    )


def _entry(former: KnownKey | None, key: PlannedKey) -> NewEntry:
    before = None
    if former is not None and former.is_declared:
        before = {**msgspec.structs.asdict(former.declared), "blocked": former.is_blocked}
    after = {**msgspec.structs.asdict(key.facts), "blocked": key.is_blocked}
    return NewEntry("key.declared", "key", key.api_key, before, after)
