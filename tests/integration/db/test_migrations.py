import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import psycopg
from alembic import command

from service.db import migrator


def tables_of(database_url: str) -> set[str]:
    with psycopg.connect(database_url) as connection:
        rows = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        return {str(name) for (name,) in rows}


def test_there_is_exactly_one_newest_migration():
    assert migrator.head_revision() is not None


def test_migrated_database_has_exactly_the_declared_tables(database_url: str):
    migrator.compare(database_url)


def test_servers_that_start_together_migrate_once(empty_database_url: str):
    script = "import sys; from service.db import migrator; migrator.upgrade(sys.argv[1])"
    with ThreadPoolExecutor(4) as starting:
        ended = starting.map(
            lambda _: subprocess.run(
                [sys.executable, "-c", script, empty_database_url], check=False, capture_output=True, text=True
            ),
            range(4),
        )
        assert [(one.returncode, one.stderr) for one in ended if one.returncode != 0] == []
    with psycopg.connect(empty_database_url) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [(migrator.head_revision(),)]


def test_migrating_again_changes_nothing(empty_database_url: str):
    migrator.upgrade(empty_database_url)
    before = tables_of(empty_database_url)
    migrator.upgrade(empty_database_url)
    assert tables_of(empty_database_url) == before


def test_migrations_run_down_and_up_again(empty_database_url: str):
    migrator.upgrade(empty_database_url)
    before = tables_of(empty_database_url)
    command.downgrade(migrator.configuration(empty_database_url), "base")
    assert tables_of(empty_database_url) == {"alembic_version"}
    migrator.upgrade(empty_database_url)
    assert tables_of(empty_database_url) == before


def test_revision_of_a_later_version_is_told_from_one_that_is_missing():
    head = migrator.head_revision()
    assert head is not None
    assert migrator.knows(head)
    assert not migrator.knows("ffff_of_the_future")
