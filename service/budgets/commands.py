"""`tallygate budgets apply` and `export`: a tenant's budgets as a file, directly on the database.

Exit codes of `apply`: 0 done, or nothing to do; 1 refused or failed (do it again: what is done already stays done);
2 wrong usage; 3 with `--dry-run --exit-code`: there are differences. What is applied is in force everywhere at once.
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import click
import msgspec
import yaml
from rich.console import Console
from rich.progress import Progress

from service.access.repository import DEFAULT_TENANT, load_tenant
from service.audit.repository import COMMAND_LINE
from service.budgets.apply import ApplyOrder, BudgetApplier
from service.budgets.apply_plan import Step, Verb, budget_document, count_steps
from service.budgets.budget import BudgetDraft
from service.budgets.budget_file import BudgetFileError, read_budget_file
from service.budgets.period_document import describe_period
from service.budgets.repository import load_budgets
from service.budgets.seeding import ConfigChanges
from service.db.pools import Pools, connected
from service.errors import NotFound
from service.kit.yaml_text import MAX_BYTES

ConfigsOf = Callable[[Pools], ConfigChanges]

_DIFFERENCES_EXIT_CODE = 3
_LINES_SHOWN = 200
_SIGNS: dict[Verb, str] = {"create": "+", "change": "~", "replace": "±", "prune": "-"}
_DONE: dict[Verb, str] = {"create": "created", "change": "changed", "replace": "replaced", "prune": "pruned"}

_tenant_option = click.option("--tenant", default=DEFAULT_TENANT, show_default=True, help="Whose budgets.")


def budgets_command(configs_of: ConfigsOf) -> click.Group:
    """Return the group; the way to change a tenant's configuration is known further up in the house."""

    @click.group("budgets")
    def budgets() -> None:
        """Keep a tenant's budgets in a file."""

    budgets.add_command(_apply_command(configs_of))
    budgets.add_command(export)
    return budgets


@click.command("export")
@_tenant_option
@click.option("--slug-prefix", default="", help="Only budgets whose slug begins like this.")
@click.option("--json", "as_json", is_flag=True, help="JSON in place of YAML.")
@click.pass_obj
def export(opener: Any, tenant: str, slug_prefix: str, *, as_json: bool) -> None:
    """Write the live budgets as a file that `apply` takes, to standard output."""

    async def read(pools: Pools) -> list[dict[str, Any]]:
        async with connected(pools.postgres) as connection, connection.transaction():
            await _check_tenant(connection, tenant)
            found = await load_budgets(connection, tenant)
        return [budget_document(budget) for budget in sorted(found, key=lambda each: each.slug)]

    documents = [each for each in _run(opener, read) if each["slug"].startswith(slug_prefix)]
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode({"budgets": documents})))
    else:
        click.echo(yaml.safe_dump({"budgets": documents}, sort_keys=False, allow_unicode=True), nl=False)


def _apply_command(configs_of: ConfigsOf) -> click.Command:
    @click.command("apply")
    @click.argument("source", metavar="FILE")
    @_tenant_option
    @click.option("--dry-run", is_flag=True, help="Show what would be done, and do nothing.")
    @click.option("--prune", is_flag=True, help="Archive live budgets the file does not name.")
    @click.option(
        "--slug-prefix", default="", help="The file is about slugs that begin like this; others are left alone."
    )
    @click.option(
        "--exit-code", "tells_by_code", is_flag=True, help="With --dry-run: end with 3 when there are differences."
    )
    @click.pass_context
    def apply(
        context: click.Context,
        source: str,
        tenant: str,
        slug_prefix: str,
        *,
        dry_run: bool,
        prune: bool,
        tells_by_code: bool,
    ) -> None:
        """Make the budgets be as FILE says (YAML or JSON; `-` is standard input), by slug.

        The whole file is checked first. Terms are changed in place; another match or period archives the budget and
        makes another one. The same file again changes nothing.
        """
        if tells_by_code and not dry_run:
            raise click.UsageError("--exit-code belongs to --dry-run.")
        order = ApplyOrder(
            tenant_id=tenant,
            drafts=_read_drafts(source, slug_prefix),
            prunes=prune,
            slug_prefix=slug_prefix,
            author=COMMAND_LINE,
        )
        if prune and not order.drafts and not slug_prefix:
            raise click.ClickException("The file has no budgets: with --prune that would archive all there are.")

        async def run(pools: Pools) -> list[Step]:
            async with connected(pools.postgres) as connection:
                await _check_tenant(connection, tenant)
            applier = BudgetApplier(pools.postgres, configs_of(pools))
            steps = await applier.plan(order)
            _print_plan(steps)
            return steps if dry_run else await _apply(applier, order, steps)

        has_differences = any(step.verb != "unchanged" for step in _run(context.obj, run))
        if has_differences and tells_by_code:
            context.exit(_DIFFERENCES_EXIT_CODE)

    return apply


async def _apply(applier: BudgetApplier, order: ApplyOrder, steps: Sequence[Step]) -> list[Step]:
    due = sum(step.verb != "unchanged" for step in steps)
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("applying", total=due)
        taken = await applier.apply(order, steps, lambda count: bar.update(task, advance=count))
    counts = count_steps(taken)
    done = [f"{counts[verb]:,} {_DONE[verb]}" for verb in _DONE if counts[verb]]
    click.echo(", ".join(done) if done else "nothing to do")
    return taken


def _read_drafts(source: str, slug_prefix: str) -> list[BudgetDraft]:
    try:
        content = _content_of(source)
    except OSError as error:
        raise click.ClickException(f"{source} cannot be read: {error}") from error
    try:
        drafts = read_budget_file(content, is_json=None if source == "-" else source.endswith(".json"))
    except BudgetFileError as error:
        raise click.ClickException(f"{source} is refused, nothing was changed:\n{error}") from error
    strangers = [draft.slug for draft in drafts if not draft.slug.startswith(slug_prefix)]
    if strangers:
        raise click.ClickException(f"{strangers[0]!r} does not begin with {slug_prefix!r}; nothing was changed.")
    return drafts


def _content_of(source: str) -> bytes:
    if source == "-":
        return sys.stdin.buffer.read(MAX_BYTES + 1)
    with Path(source).open("rb") as file:
        return file.read(MAX_BYTES + 1)


async def _check_tenant(connection: Any, tenant: str) -> None:
    if await load_tenant(connection, tenant) is None:
        raise NotFound(f"There is no tenant {tenant!r}.")


def _run(opener: Any, act: Callable[[Pools], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        async with opener.pools() as pools:
            return await act(pools)

    return asyncio.run(run())


def _print_plan(steps: Sequence[Step]) -> None:
    due = [step for step in steps if step.verb != "unchanged"]
    for step in due[:_LINES_SHOWN]:
        click.echo(f"{_SIGNS[step.verb]} {step.verb:<8} {step.slug}{_summary(step)}")
    if len(due) > _LINES_SHOWN:
        click.echo(f"… and {len(due) - _LINES_SHOWN:,} more")
    counts = count_steps(steps)
    click.echo(", ".join(f"{counts[verb]:,} {verb}" for verb in counts))


def _summary(step: Step) -> str:
    if step.verb == "create" and step.draft is not None:
        shown = budget_document(step.draft)
        return f"  {_json(shown['match'])}, {shown['limit_usd']} USD. {describe_period(step.draft.period)}"
    return "".join(f"\n    {each.field}: {_json(each.old)} -> {_json(each.new)}" for each in step.changes)


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
