"""The command `tallygate`. A slice's commands live in its `commands.py` and are listed here, in one place.

Every command finds an `EngineOpener` in `ctx.obj`: calling it opens the database, `.pools()` opens everything.
"""

from typing import NoReturn

import click
import psycopg
from psycopg_pool import PoolTimeout
from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError

from service.access.commands import tenants, tokens
from service.budgets.commands import budgets_command
from service.cli.engines import EngineOpener
from service.cli.interface import openapi, settings
from service.cli.migrate import migrate
from service.cli.serve import serve
from service.config.fence import ConfigFence
from service.config.service import ConfigStore
from service.drift.commands import check_drift
from service.errors import TallygateError
from service.imports.commands import import_group
from service.ledger.commands import raise_epoch
from service.ledger.served_queries import ServedModels
from service.pricing.book_commands import import_command
from service.pricing.commands import prices
from service.redaction import redact_text
from service.repricing.commands import reprice

budgets = budgets_command(lambda pools: ConfigStore(pools.postgres, ConfigFence(pools.redis)))

COMMANDS: tuple[click.Command, ...] = (
    serve,
    migrate,
    tokens,
    tenants,
    budgets,
    prices,
    reprice,
    import_group,
    check_drift,
    raise_epoch,
    openapi,
    settings,
)

prices.add_command(import_command(lambda pool: ServedModels(pool).find))


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(package_name="tallygate")
@click.pass_context
def tallygate(context: click.Context) -> None:
    """What LLM traffic costs, and the gate in front of it. Settings are variables: see `tallygate settings`."""
    context.obj = EngineOpener()


for _command in COMMANDS:
    tallygate.add_command(_command)


def main() -> None:
    """Run the command line; what was refused, or an engine that fails, ends it with a message and status 1."""
    try:
        tallygate.main(prog_name="tallygate")
    except TallygateError as error:
        _end_with(error.detail)
    except (psycopg.Error, SQLAlchemyError, RedisError, PoolTimeout) as error:
        cause = getattr(error, "orig", None) or error
        _end_with(redact_text(str(cause).partition("\n")[0]))


def _end_with(message: str) -> NoReturn:
    click.echo(f"tallygate: {message}", err=True)
    raise SystemExit(1) from None
