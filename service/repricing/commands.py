"""`tallygate reprice`: what recorded charges would cost by now, shown first; applied when that is wanted."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime
from typing import Any, NamedTuple

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from service.access.repository import DEFAULT_TENANT
from service.checks.publisher import LeftToServers, Publisher
from service.config.fence import ConfigFence
from service.config.service import ConfigStore
from service.config.window_matcher import ConfigWindowMatcher
from service.db.pools import PostgresPool, connected
from service.errors import InvalidInput, Unavailable
from service.kit.ids import new_id
from service.kit.instants import checked_instant
from service.ledger.filters import TimeRange
from service.ledger.service import LedgerRecorder
from service.pricing.registry import PriceBooks
from service.repricing import repository
from service.repricing.queries import count_charges, read_now
from service.repricing.repository import LostClaim, RepricingRow
from service.repricing.repricer import Repricer
from service.repricing.result import RepricingResult, Shift
from service.repricing.service import repricing_is_running
from service.repricing.terms import RepricingTerms, checked_terms

_AUTHOR = "tallygate reprice"
_PUBLISH_WAIT_MS = 500


class Run(NamedTuple):
    """What carries out a repricing here, without a server."""

    pool: PostgresPool
    repricer: Repricer
    tenant_id: str
    terms: RepricingTerms


@click.command()
@click.option("--from", "start", required=True, help="First instant (RFC 3339) or date, by effective time.")
@click.option("--to", "end", required=True, help="End of the range, not part of it.")
@click.option(
    "--filter", "filters", multiple=True, metavar="FIELD=VALUE",
    help="Only charges with this value; !VALUE excludes; repeatable, the same field again = any of them.",
)  # fmt: skip
@click.option("--tenant", "tenant_id", default=DEFAULT_TENANT, show_default=True, help="Whose charges.")
@click.option("--apply", "applies", is_flag=True, help="Write corrections, after the preview and a question.")
@click.option("--yes", "is_agreed", is_flag=True, help="Do not ask.")
@click.pass_context
def reprice(
    context: click.Context,
    start: str,
    end: str,
    filters: tuple[str, ...],
    tenant_id: str,
    *,
    applies: bool,
    is_agreed: bool,
) -> None:
    """Price recorded charges anew by the prices, aliases and rules of now.

    Shows what would change. With --apply each changed charge is reversed and replaced; budgets and reports follow.
    Applying twice changes nothing more; what was interrupted is finished by a running server.
    """
    time_range = TimeRange(checked_instant(start, "--from"), checked_instant(end, "--to"))
    terms = checked_terms(time_range, _parsed(filters))
    asyncio.run(_reprice(context.obj, tenant_id, terms, applies=applies, is_agreed=is_agreed))


def _parsed(filters: Sequence[str]) -> dict[str, list[str]]:
    named: dict[str, list[str]] = {}
    for each in filters:
        name, sign, value = each.partition("=")
        if not sign:
            raise click.BadParameter(f"{each!r} is not FIELD=VALUE", param_hint="--filter")
        named.setdefault(name, []).append(value)
    return named


async def _reprice(opener: Any, tenant_id: str, terms: RepricingTerms, *, applies: bool, is_agreed: bool) -> None:
    async with _opened(opener, tenant_id, terms) as run:
        preview = await carry_out(run, applies=False)
        _print(preview)
        if not applies or not preview.progress.changed:
            return
        if not is_agreed and not await asyncio.to_thread(click.confirm, "Write these corrections?", err=True):
            return
        applied = await carry_out(run, applies=True)
        progress = applied.progress
        click.echo(f"{progress.changed:,} charges corrected ({applied.repricing_id})")
        if progress.refused:
            click.echo(f"{progress.refused:,} refused by the database; the log says why", err=True)


@asynccontextmanager
async def _opened(opener: Any, tenant_id: str, terms: RepricingTerms) -> AsyncIterator[Run]:
    async with opener.pools() as pools:
        configs = ConfigStore(pools.postgres, ConfigFence(pools.redis))
        await configs.get(tenant_id)
        configs.start(pools.postgres.conninfo)
        publisher = Publisher(pools.redis, pools.postgres, publish_wait_ms=_PUBLISH_WAIT_MS, observer=LeftToServers())
        publisher.start()
        recorder = LedgerRecorder(
            pools.postgres, ConfigWindowMatcher(configs), publisher, max_batch_charges=1, batch_wait_ms=0
        )
        try:
            repricer = Repricer(pools.postgres, configs, PriceBooks(pools.postgres), recorder)
            yield Run(pools.postgres, repricer, tenant_id, terms)
        finally:
            await recorder.close()
            await publisher.close()
            await configs.close()


async def carry_out(run: Run, *, applies: bool) -> RepricingRow:
    """Run a repricing or its preview here, under a bar, and return how it ended."""
    # Counting may take as long as a statement may: what is not claimed yet nobody can take over meanwhile.
    total = await _count(run, await read_now(run.pool))
    async with connected(run.pool) as connection:
        row = await repository.insert_repricing(
            connection, run.tenant_id, new_id(), run.terms, applies=applies, created_by=_AUTHOR, runner_id=new_id()
        )
        if row is None:
            raise repricing_is_running(await repository.find_running(connection, run.tenant_id))
    job = row.as_job()
    with _bar("applying" if applies else "preview", total) as show:
        try:
            await run.repricer.run(job, lambda progress: show(progress.examined, progress.changed))
        except LostClaim as error:
            raise Unavailable(
                f"Repricing {row.repricing_id} was taken over by a server, which finishes it:"
                f" GET /v1/repricings/{row.repricing_id} says how far it is."
            ) from error
        except asyncio.CancelledError:
            await run.repricer.fail(job, "stopped by its operator")
            raise
    async with connected(run.pool) as connection:
        ended = await repository.find_repricing(connection, run.tenant_id, row.repricing_id)
    assert ended is not None
    return ended


async def _count(run: Run, begun_at: datetime) -> int | None:
    try:
        return await count_charges(run.pool, run.tenant_id, run.terms, begun_at)
    except InvalidInput:  # counting alone takes longer than a statement may: the bar does without
        return None


@contextmanager
def _bar(title: str, total: int | None) -> Iterator[Callable[[int, int], None]]:
    """Show how far it is, on standard error; yields what to tell (examined, changed)."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[changed]:,} changed"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(title, total=total, changed=0)
        yield lambda examined, changed: bar.update(task, completed=examined, changed=changed)
        # Reversed charges were counted, and are none to be examined.
        bar.update(task, total=bar.tasks[task].completed)


def _print(preview: RepricingRow) -> None:
    console = Console()
    progress, result = preview.progress, preview.result
    assert result is not None
    console.print(f"{progress.examined:,} charges examined, {progress.changed:,} change", highlight=False)
    if progress.not_repriceable:
        console.print(
            f"{progress.not_repriceable:,} cannot be priced anew: what they were priced from was not kept",
            highlight=False,
        )
    if not progress.changed:
        return
    console.print(
        f"cost {result.before_usd} -> {result.after_usd} USD ({_signed(result.delta_usd)});"
        f" counted against budgets {_signed(result.enforced_delta_usd)}",
        highlight=False,
    )
    console.print(_states(result))
    for title, shifts in (("team", result.teams), ("api key", result.api_keys), ("served model", result.served_models)):
        console.print(_shifts(title, shifts))


def _states(result: RepricingResult) -> Table:
    table = Table("price state", "charges before", "charges after", "USD before", "USD after")
    for state in result.price_states:
        charges = (f"{state.charges_before:,}", f"{state.charges_after:,}")
        table.add_row(state.price_state, *charges, state.before_usd, state.after_usd)
    return table


def _shifts(title: str, shifts: Sequence[Shift]) -> Table:
    table = Table(title, "USD before", "USD after", "change")
    for shift in shifts:
        table.add_row(shift.value or "(none)", shift.before_usd, shift.after_usd, _signed(shift.delta_usd))
    return table


def _signed(amount: str) -> str:
    return amount if amount.startswith("-") else f"+{amount}"
