"""`tallygate raise-epoch`: after a backup was restored into the database."""

import asyncio
from typing import Any

import click

from service.ledger.maintenance import raise_epoch_after_restore


@click.command("raise-epoch")
@click.pass_context
def raise_epoch(context: click.Context) -> None:
    """Tell Redis that a backup was restored: counters take over what the database says now.

    Run it once, when the restored database is there. Servers may be running; holds of calls under way stay. After a
    failover the servers find out by themselves.
    """
    epoch = asyncio.run(_raise(context.obj))
    click.echo(f"epoch {epoch}: what Redis shows of earlier ones gives way at the next check or event")


async def _raise(opener: Any) -> int:
    async with opener() as pool:
        return await raise_epoch_after_restore(pool)
