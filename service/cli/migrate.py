"""`tallygate migrate`: brings the database to the schema of this version."""

import click

from service.cli.engines import engines_for_command, read_settings
from service.db import migrator


@click.command()
@click.option("--revision", default="head", show_default=True, help="How far to go.")
def migrate(revision: str) -> None:
    """Bring the database to this version's schema. Safe to run from several machines at once, and again."""
    with engines_for_command(read_settings()) as settings:
        migrator.upgrade(settings.database_url, revision)
    click.echo(f"the database is at {migrator.head_revision() if revision == 'head' else revision}")
