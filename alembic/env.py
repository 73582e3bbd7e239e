"""Runs the migrations on one connection, under a session advisory lock: any number of servers may start at once."""

from time import sleep

from alembic import context
from sqlalchemy import Connection, NullPool, create_engine, text

from service.db.metadata import target_metadata
from service.db.migrator import MIGRATION_LOCK_ID
from service.db.pools import connect_for_sqlalchemy
from service.settings import Settings

# Waiting inside pg_advisory_lock would hold a snapshot, and CREATE INDEX CONCURRENTLY waits for those.
_LOCK_POLL_SECONDS = 0.1


def run() -> None:
    given = context.config.attributes.get("connection")
    if given is not None:
        migrate(given)
        return
    database_url = context.config.attributes.get("database_url") or Settings().database_url
    engine = create_engine("postgresql+psycopg://", creator=connect_for_sqlalchemy(database_url), poolclass=NullPool)
    with engine.connect() as connection:
        migrate(connection)


def migrate(connection: Connection) -> None:
    wait_for_lock(connection)
    try:
        partitions = set(connection.scalars(text("SELECT relname FROM pg_class WHERE relispartition")))
        connection.rollback()
        context.configure(
            connection=connection,
            target_metadata=target_metadata(),
            transaction_per_migration=True,
            compare_server_default=False,
            # Partitions are made by the server, month by month; they are no drift.
            include_name=lambda name, kind, _parents: kind != "table" or name not in partitions,
        )
        with context.begin_transaction():
            context.run_migrations()
    finally:
        connection.rollback()
        connection.execute(text("SELECT pg_advisory_unlock(:lock)"), {"lock": MIGRATION_LOCK_ID})
        connection.commit()


def wait_for_lock(connection: Connection) -> None:
    while not connection.scalar(text("SELECT pg_try_advisory_lock(:lock)"), {"lock": MIGRATION_LOCK_ID}):
        connection.rollback()
        sleep(_LOCK_POLL_SECONDS)
    connection.commit()


run()
