"""A database of a test's own with the tables of price books: the installation's book is one per database."""

from collections.abc import AsyncIterator

import pytest
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateTable
from sqlmodel import SQLModel

from service.audit.tables import AuditEntry
from service.db.pools import PostgresPool, make_postgres_pool
from service.pricing.registry import PriceBooks
from service.pricing.tables import PriceBookVersion
from service.settings import PostgresSettings


async def make_tables(pool: PostgresPool) -> None:
    async with pool.connection() as connection:
        for name in (PriceBookVersion.__tablename__, AuditEntry.__tablename__):
            table = CreateTable(SQLModel.metadata.tables[name])
            await connection.execute(str(table.compile(dialect=postgresql.dialect())))


@pytest.fixture
async def pool(empty_database_url: str) -> AsyncIterator[PostgresPool]:
    opened = make_postgres_pool(empty_database_url, PostgresSettings())
    await opened.open(wait=False)
    await make_tables(opened)
    yield opened
    await opened.close()


@pytest.fixture
async def books(pool: PostgresPool, empty_database_url: str) -> AsyncIterator[PriceBooks]:
    started = PriceBooks(pool)
    await started.start(empty_database_url)
    yield started
    await started.close()
