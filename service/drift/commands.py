"""`tallygate check-drift`: recompute everything, name every difference.

Exits with 1 when there is one, and when something of a tenant cannot be read.
"""

import asyncio
from typing import Any

import click

from service.drift.copies import RedisCopies
from service.drift.service import DriftCheck, NotCompared, TenantReport


@click.command("check-drift")
@click.option("--tenant", "tenant_ids", multiple=True, help="Only these tenants (repeatable); default: all.")
@click.pass_context
def check_drift(context: click.Context, tenant_ids: tuple[str, ...]) -> None:
    """Recompute every total and counter from charges and compare; counters also with Redis.

    Figures of a server at work may differ from Redis for the milliseconds between a commit and its publish.
    """
    reports = asyncio.run(_check(context.obj, tenant_ids))
    if not reports:
        click.echo("no tenants in this database: nothing to compare")
    for report in reports:
        if isinstance(report, NotCompared):
            click.echo(f"{report.tenant_id}: not compared, something of it cannot be read: {report.error}")
            continue
        click.echo(
            f"{report.tenant_id}: {report.charges} charges, {report.counters} counters"
            f" ({report.counters_in_redis} in Redis), drift: {len(report.drifts)}"
        )
        for drift in report.drifts:
            click.echo(f"  {drift.place}: {drift.subject}: recomputed {drift.recomputed}, stored {drift.stored}")
    if any(isinstance(report, NotCompared) or report.drifts for report in reports):
        context.exit(1)


async def _check(opener: Any, tenant_ids: tuple[str, ...]) -> list[TenantReport | NotCompared]:
    async with opener.pools() as pools:
        check = DriftCheck(pools.postgres, RedisCopies(pools.redis))
        return await check.check_all(tenant_ids or await check.tenant_ids())
