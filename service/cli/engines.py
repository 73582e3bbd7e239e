"""Gives a command its engines: external ones, those of a server that runs already, or embedded ones for its time."""

from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager

import click
from pydantic import ValidationError

from service.db import migrator
from service.db.embedded import EmbeddedEngines
from service.db.pools import Pools, PostgresPool, open_pools
from service.settings import Settings


class EngineOpener:
    """Opens what a command needs, when it needs it."""

    def __call__(self) -> AbstractAsyncContextManager[PostgresPool]:
        """Open the database only."""
        return _postgres_of(self.pools())

    @asynccontextmanager
    async def pools(self) -> AsyncIterator[Pools]:
        """Open everything; an embedded database is brought to this version's schema first.

        Where there is none yet, none is made: `serve` and `migrate` do that.
        """
        settings = read_settings()
        data_dir = settings.embedded.data_dir.absolute()
        if settings.postgres.url is None and not EmbeddedEngines.has_database(data_dir):
            raise click.ClickException(
                f"There is no database in {data_dir}. Run this where `tallygate serve` keeps its data, or set"
                " TALLYGATE_DATA_DIR or TALLYGATE_DATABASE_URL."
            )
        with engines_for_command(settings) as settings:
            async with open_pools(settings) as opened:
                yield opened


def read_settings() -> Settings:
    """Return the settings of the environment, or end the command with what is wrong in them."""
    try:
        return Settings()
    except ValidationError as error:
        wrong = [f"  {'.'.join(str(part) for part in one['loc'])}: {one['msg']}" for one in error.errors()]
        raise click.ClickException("\n".join([f"wrong settings ({error.title}):", *wrong])) from None


def needs_embedded(settings: Settings) -> bool:
    """Tell whether an engine is to be brought along."""
    return settings.postgres.url is None or settings.redis.url is None


@contextmanager
def engines_for_command(settings: Settings) -> Iterator[Settings]:
    """Yield settings with running engines: a server's, if one runs on this data directory, else our own for a while."""
    if not needs_embedded(settings):
        yield settings
        return
    running = EmbeddedEngines.running_urls(settings.embedded.data_dir)
    if running is not None:
        yield settings.with_engines(
            database_url=running.database_url or settings.database_url,
            redis_url=running.redis_url or settings.redis_url,
        )
        return
    with embedded_engines(settings) as (started, _):
        if migrates_itself(settings):
            migrator.upgrade(started.database_url)
        yield started


@contextmanager
def embedded_engines(settings: Settings) -> Iterator[tuple[Settings, EmbeddedEngines]]:
    """Start the engines nobody named, and stop them at the end."""
    engines = EmbeddedEngines(
        settings.embedded.data_dir, with_postgres=settings.postgres.url is None, with_valkey=settings.redis.url is None
    )
    with engines:
        urls = engines.urls
        yield (
            settings.with_engines(
                database_url=urls.database_url or settings.database_url, redis_url=urls.redis_url or settings.redis_url
            ),
            engines,
        )


def migrates_itself(settings: Settings) -> bool:
    """Tell whether the schema is brought up without being asked: by default that of the embedded database only."""
    wanted = settings.postgres.migrate_on_start
    return settings.postgres.url is None if wanted is None else wanted


@asynccontextmanager
async def _postgres_of(pools: AbstractAsyncContextManager[Pools]) -> AsyncIterator[PostgresPool]:
    async with pools as opened:
        yield opened.postgres
