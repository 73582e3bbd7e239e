"""`tallygate import litellm`: keys, budgets and present spend of a LiteLLM proxy, shown first, then taken over."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from service.access.repository import DEFAULT_TENANT, load_tenant
from service.audit.repository import COMMAND_LINE
from service.budgets.seeding import BudgetSeeder
from service.config.fence import ConfigFence
from service.config.service import ConfigStore
from service.config.window_matcher import ConfigWindowMatcher
from service.db.pools import Pools, connected
from service.errors import NotFound
from service.imports.examination import Examination, ImportOrder
from service.imports.report_printing import print_examination, print_outcome, report_document
from service.imports.repository import importing
from service.imports.service import LiteLLMImporter, Stage
from service.imports.source_queries import open_source
from service.kit.instants import checked_instant
from service.kit.yaml_text import YamlError, load_yaml
from service.ledger.posts import CommittedPosts
from service.ledger.service import LedgerRecorder

_BATCH_CHARGES: Final = 1_000
_ROWS: Final = 40
_TITLES: Final[dict[Stage, str]] = {
    "reading": "reading LiteLLM",
    "ledger": "charges recorded before",
    "logs": "adding up spend logs",
    "keys": "declaring keys",
    "budgets": "writing budgets",
    "charges": "recording opening charges",
}

Show = Callable[[Stage, int, int | None], None]


@click.group("import")
def import_group() -> None:
    """Take over what another system knows."""


@import_group.command("litellm")
@click.option(
    "--database-url", envvar="LITELLM_DATABASE_URL", show_envvar=True, required=True,
    help="LiteLLM's PostgreSQL database. It is read in one read-only snapshot, never written.",
)  # fmt: skip
@click.option(
    "--config", "config_path", type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="LiteLLM's config.yaml: proxy, provider, tag and deployment budgets, time zone, aliases.",
)  # fmt: skip
@click.option("--tenant", "tenant_id", default=DEFAULT_TENANT, show_default=True, help="Where to import to.")
@click.option("--since", help="Take spend of calls from then on only; RFC 3339 or a date.")
@click.option("--until", help="Take spend logs of calls before then; default: the first event recorded, else now.")
@click.option("--no-spend", is_flag=True, help="Take keys and budgets only: windows start at zero.")
@click.option("--prune", is_flag=True, help="Archive budgets of earlier imports that LiteLLM does not have any more.")
@click.option("--dry-run", is_flag=True, help="Show what would be done, and write nothing.")
@click.option("--yes", "is_agreed", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON, whole.")
@click.option("--rows", default=_ROWS, show_default=True, type=click.IntRange(1), help="Longest list shown.")
@click.pass_context
def litellm(
    context: click.Context,
    database_url: str,
    config_path: Path | None,
    tenant_id: str,
    since: str | None,
    until: str | None,
    rows: int,
    *,
    no_spend: bool,
    prune: bool,
    dry_run: bool,
    is_agreed: bool,
    as_json: bool,
) -> None:
    """Take over the keys, budgets and present spend of a LiteLLM proxy.

    Shows what it found, and every budget with what LiteLLM says was spent and what it starts at here; then asks. Done
    again it takes what came since, and nothing twice.
    """
    if no_spend and (since or until):
        raise click.UsageError("--since and --until are about spend: not with --no-spend.")
    order = ImportOrder(
        tenant_id=tenant_id,
        author=COMMAND_LINE,
        takes_spend=not no_spend,
        since=None if since is None else checked_instant(since, "--since"),
        until=None if until is None else checked_instant(until, "--until"),
        prunes=prune,
    )
    if as_json and not (dry_run or is_agreed):
        raise click.UsageError("--json asks nothing: add --yes or --dry-run.")
    document = None if config_path is None else _read_config(config_path)
    asyncio.run(
        _import(
            context.obj, database_url, document, order,
            dry_run=dry_run, is_agreed=is_agreed, as_json=as_json, rows=rows,
        )
    )  # fmt: skip


async def _import(
    opener: Any, database_url: str, document: object, order: ImportOrder,
    *, dry_run: bool, is_agreed: bool, as_json: bool, rows: int,
) -> None:  # fmt: skip
    async with (
        opener.pools() as pools,
        opened_importer(pools, order.tenant_id) as importer,
        importing(pools.postgres, order.tenant_id) as lock,
        open_source(database_url) as source,
    ):
        with _bars() as show:
            examination = await importer.examine(source, document, order, show)
        if not as_json:
            print_examination(examination, rows=rows)
        outcome = None
        if not dry_run and has_work(examination) and (is_agreed or await _is_wanted()):
            with _bars() as show:
                outcome = await importer.write(source, order, examination, show, lock)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(report_document(examination, outcome)), indent=2))
    elif outcome is not None:
        print_outcome(outcome)
        click.echo("running servers know it within seconds; others when they start")
    elif dry_run:
        click.echo("nothing was written (--dry-run)")
    elif not has_work(examination):
        click.echo("all of it is here already: nothing to do")


def has_work(examination: Examination) -> bool:
    """Tell whether writing would change anything."""
    logs = examination.logs
    return bool(
        examination.due_keys
        or any(step.verb != "unchanged" for step in examination.steps)
        or examination.due_increases
        or examination.over_increases
        or examination.residuals
        or (logs is not None and logs.new_groups)
    )


async def _is_wanted() -> bool:
    return await asyncio.to_thread(click.confirm, "Import this?", err=True)


@asynccontextmanager
async def opened_importer(pools: Pools, tenant_id: str) -> AsyncIterator[LiteLLMImporter]:
    """Open what writes budgets and charges, without a server. Raises NotFound for a tenant there is not."""
    async with connected(pools.postgres) as connection:
        if await load_tenant(connection, tenant_id) is None:
            hint = "`tallygate tokens create` makes the first one, `tallygate tenants create` others."
            raise NotFound(f"There is no tenant {tenant_id!r}; {hint}")
    configs = ConfigStore(pools.postgres, ConfigFence(pools.redis))
    await configs.get(tenant_id)
    database_url = pools.postgres.conninfo
    assert isinstance(database_url, str), "pools are opened on one address"
    configs.start(database_url)
    publisher = _LeftToServers()
    recorder = LedgerRecorder(
        pools.postgres, ConfigWindowMatcher(configs), publisher, max_batch_charges=_BATCH_CHARGES, batch_wait_ms=0
    )
    try:
        yield LiteLLMImporter(pools.postgres, configs, recorder, BudgetSeeder(pools.postgres, configs, publisher))
    finally:
        await recorder.close()
        await configs.close()


class _LeftToServers:
    """Publishes nothing: the outbox says what is owed, and servers publish it, and look for alerts, a second later."""

    async def publish(self, posts: Sequence[CommittedPosts]) -> set[UUID]:
        """Leave all rows of the outbox open."""
        del posts
        return set()


def _read_config(path: Path) -> object:
    try:
        return load_yaml(path.read_bytes(), scalars_as_text=True)
    except (OSError, YamlError) as error:
        raise click.ClickException(f"{path} cannot be read: {str(error)[:300]}") from error


@contextmanager
def _bars() -> Iterator[Show]:
    """Show how far it is, on standard error; yields what to tell (stage, how many more, of how many)."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        tasks = {}

        def show(stage: Stage, more: int, total: int | None) -> None:
            if stage not in tasks:
                tasks[stage] = bar.add_task(_TITLES[stage], total=total)
            bar.update(tasks[stage], advance=more)

        yield show
