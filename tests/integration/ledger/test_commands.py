"""`tallygate raise-epoch`."""

import asyncio
from contextlib import AbstractAsyncContextManager

import pytest
from click.testing import CliRunner

from service.db.pools import Pools, PostgresPool, make_postgres_pool
from service.ledger.commands import raise_epoch
from service.settings import PostgresSettings, Settings


@pytest.mark.usefixtures("restored_epoch")
async def test_raising_the_epoch_says_which_it_is_and_every_counter_read_from_then_on_carries_it(
    pools: Pools, settings: Settings
) -> None:
    def open_pool() -> AbstractAsyncContextManager[PostgresPool]:
        return make_postgres_pool(settings.database_url, PostgresSettings(pool_min_connections=1))

    raised = await asyncio.to_thread(CliRunner().invoke, raise_epoch, obj=open_pool)

    assert raised.exit_code == 0, raised.output
    async with pools.postgres.connection() as connection:
        row = await (await connection.execute("SELECT epoch FROM ledger_epoch")).fetchone()
    assert row is not None
    assert raised.output.startswith(f"epoch {row[0]}: ")
