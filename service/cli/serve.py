"""`tallygate serve`: engines, schema, first token, then the server processes; all of it ends together."""

import asyncio
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, get_args

import click
import psycopg
import structlog

from service.access.bootstrap import BootstrapResult, bootstrap
from service.cli.engines import embedded_engines, migrates_itself, needs_embedded, read_settings
from service.cli.notice import ReadyNotice
from service.cli.server import refuse_taken_port, serve_until_stopped
from service.cli.watch import EngineWatch
from service.db import migrator
from service.db.pools import open_pools
from service.errors import Unavailable
from service.observability import configure_logs
from service.settings import Role, Settings, export, unknown_variables

_log = structlog.get_logger(__name__)


@click.command()
@click.option("--host", help="Address to listen on (TALLYGATE_HOST).")
@click.option("--port", type=click.IntRange(1, 65535), help="Port to listen on (TALLYGATE_PORT).")
@click.option("--role", type=click.Choice(get_args(Role)), help="Which requests to take (TALLYGATE_ROLE).")
@click.option("--processes", type=click.IntRange(1, 256), help="Processes that share the port (TALLYGATE_PROCESSES).")
def serve(**options: Any) -> None:
    """Serve until told to stop (Ctrl-C, SIGTERM); then let running requests finish and stop what was started."""
    export({f"TALLYGATE_{name.upper()}": str(value) for name, value in options.items() if value is not None})
    settings = read_settings()
    configure_logs(settings.logs)
    for name in unknown_variables():
        _log.warning("unknown_variable", variable=name, hint="`tallygate settings` lists the known ones")
    refuse_taken_port(settings.http)
    signal.signal(signal.SIGTERM, _leave)
    with _engines(settings) as running, _metrics_directory(settings) as metrics_variables:
        if migrates_itself(settings):
            migrator.upgrade(running.database_url)
        token = _first_token_if_possible(settings, running)
        export(
            {
                "TALLYGATE_DATABASE_URL": running.database_url,
                "TALLYGATE_REDIS_URL": running.redis_url,
                **metrics_variables,
            }
        )
        with ReadyNotice(settings.http, token, lambda: asyncio.run(_first_token(settings, running))):
            serve_until_stopped(settings.http, settings.logs)


@contextmanager
def _engines(settings: Settings) -> Iterator[Settings]:
    if not needs_embedded(settings):
        yield settings
        return
    with embedded_engines(settings) as (running, engines), EngineWatch(engines):
        yield running


@contextmanager
def _metrics_directory(settings: Settings) -> Iterator[dict[str, str]]:
    """Several processes answer for one server: each leaves its metrics where all of them find them."""
    if settings.http.processes == 1:
        yield {}
        return
    with tempfile.TemporaryDirectory(prefix="tallygate-metrics-") as directory:
        yield {"PROMETHEUS_MULTIPROC_DIR": directory}


def _first_token_if_possible(settings: Settings, running: Settings) -> BootstrapResult | None:
    """An external database may be away or not migrated yet: the server starts, says so, and this is done when ready."""
    try:
        return asyncio.run(_first_token(settings, running))
    except (psycopg.Error, Unavailable) as error:
        if settings.postgres.url is None:
            raise
        _log.warning("first_token_postponed", exc_info=error)
        return None


async def _first_token(settings: Settings, running: Settings) -> BootstrapResult:
    own_database = settings.postgres.url is None
    token_file = settings.embedded.data_dir.absolute() / "admin-token" if own_database else None
    admin_token = settings.access.admin_token
    async with open_pools(running) as pools:
        return await bootstrap(
            pools.postgres, admin_token.get_secret_value() if admin_token is not None else None, token_file
        )


def _leave(_signal: int, _frame: FrameType | None) -> None:
    """Before the server has its own handler: unwind, so that engines already started are stopped in order."""
    sys.exit(128 + signal.SIGTERM)
