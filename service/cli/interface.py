"""`tallygate openapi` and `tallygate settings`: what other programs, and people, configure against."""

from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from service.settings import HttpSettings, Settings, describe_settings


@click.command()
@click.option("--output", type=click.Path(path_type=Path), default=Path("openapi.yaml"), show_default=True)
@click.option("--check", is_flag=True, help="Write nothing; fail when the file is not up to date.")
def openapi(output: Path, check: bool) -> None:
    """Write the description of the HTTP interface."""
    from service.app import create_app  # noqa: PLC0415 - the other commands do without the application
    from service.openapi import openapi_yaml  # noqa: PLC0415 - same

    text = openapi_yaml(create_app(Settings(http=HttpSettings(role="all"))))
    if not check:
        output.write_text(text, encoding="utf-8")
        click.echo(f"wrote {output}")
    elif not output.exists() or output.read_text(encoding="utf-8") != text:
        raise click.ClickException(f"{output} is not what the application serves: run `make openapi`")


@click.command()
@click.option("--markdown", is_flag=True, help="A table for the README.")
def settings(markdown: bool) -> None:
    """List every variable with its default, its bounds and its meaning."""
    if markdown:
        click.echo("| Variable | Default | Meaning |\n| --- | --- | --- |")
        for row in describe_settings():
            click.echo(f"| `{row.variable}` | {f'`{row.default}`' if row.default else ''} | {row.meaning} |")
        return
    console = Console()
    if not console.is_terminal:
        _print_whole(("Variable", "Default", "Meaning"))
        return
    table = Table(box=None, pad_edge=False)
    for title in ("Variable", "Default", "Meaning"):
        table.add_column(title, overflow="fold")
    for row in describe_settings():
        table.add_row(row.variable, row.default, row.meaning)
    console.print(table, highlight=False, markup=False)


def _print_whole(titles: tuple[str, str, str]) -> None:
    """Print a line for each variable, however long: who reads a pipe has a width of its own, or none."""
    rows = [titles, *((row.variable, row.default, row.meaning) for row in describe_settings())]
    first, second = (max(len(row[column]) for row in rows) for column in (0, 1))
    for variable, default, meaning in rows:
        click.echo(f"{variable:<{first}}  {default:<{second}}  {meaning}")
