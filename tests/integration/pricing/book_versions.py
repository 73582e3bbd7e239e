"""Price book versions put into the database, and waiting for what follows from them."""

import asyncio
from datetime import datetime
from typing import Any

from service.db.pools import PostgresPool
from service.kit.clock import monotonic
from service.pricing import repository
from service.pricing.price_book import PriceBook
from service.pricing.repository import SHARED, VersionRow
from tests.unit.pricing.builders import snapshot_of


async def a_version(
    pool: PostgresPool, effective_from: datetime, *, tenant_id: str = SHARED, damaged: bool = False, **rates: Any
) -> str:
    """Add a version with one model and return its name."""
    snapshot = snapshot_of({"m": rates or {"input_cost_per_token": effective_from.timestamp()}})
    version = PriceBook.from_snapshot(snapshot).version
    row = VersionRow(tenant_id, version, effective_from)
    async with pool.connection() as connection, connection.transaction():
        await repository.lock_additions(connection)
        await repository.add_version(
            connection, row, imported_by="test", origin="test", report={}, snapshot=b"?" if damaged else snapshot
        )
    return version


async def until(condition: Any, seconds: float = 10) -> None:
    deadline = monotonic() + seconds
    while not condition():
        assert monotonic() < deadline, "not within the time"
        await asyncio.sleep(0.01)
