"""Brings a database to this version's schema, from a checkout or from an installed wheel, and tells where it stands.

The wheel carries the migrations as `service/db/migrations`; a checkout has them in `alembic/`.
"""

from functools import lru_cache
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from psycopg import AsyncConnection
from psycopg.errors import UndefinedTable
from psycopg.rows import TupleRow

# The name of our lock among the advisory locks of a database; see alembic/env.py.
MIGRATION_LOCK_ID = 7_461_105_518_284_731_003

_IN_WHEEL = Path(__file__).parent / "migrations"
_IN_CHECKOUT = Path(__file__).parents[2] / "alembic"


def upgrade(database_url: str, revision: str = "head") -> None:
    """Apply what is missing up to `revision`; wait for another server that is doing the same."""
    command.upgrade(configuration(database_url), revision)


def compare(database_url: str) -> None:
    """Raise when the tables of a migrated database are not those the code declares (CHECK constraints aside)."""
    command.check(configuration(database_url))


@lru_cache(maxsize=1)
def head_revision() -> str | None:
    """Return the newest revision this version knows; None when there is none. More than one is an error."""
    return ScriptDirectory.from_config(configuration(None)).get_current_head()


def knows(revision: str) -> bool:
    """Tell whether this version has heard of the revision; a later version's is unknown to it."""
    return any(
        known.revision == revision for known in ScriptDirectory.from_config(configuration(None)).walk_revisions()
    )


async def current_revision(connection: AsyncConnection[TupleRow]) -> str | None:
    """Return the revision the database is at; None for one that was never migrated."""
    try:
        cursor = await connection.execute("SELECT version_num FROM alembic_version")
    except UndefinedTable:
        return None
    row = await cursor.fetchone()
    return None if row is None else str(row[0])


def configuration(database_url: str | None) -> Config:
    """Return Alembic's configuration for our migrations, wherever they lie."""
    script_location = _IN_WHEEL if (_IN_WHEEL / "env.py").exists() else _IN_CHECKOUT
    configuration = Config()
    configuration.set_main_option("script_location", str(script_location).replace("%", "%%"))
    configuration.set_main_option("path_separator", "os")
    configuration.attributes["database_url"] = database_url
    return configuration
