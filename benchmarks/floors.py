"""What the engines do with the same rows when nobody asks for more: COPY, and the bare batch statement."""

import time
from collections.abc import Sequence
from datetime import UTC, datetime

import psycopg
from psycopg import sql
from psycopg_pool import AsyncConnectionPool

from service.db.pools import PostgresConnection, PostgresPool
from service.kit.ids import new_id
from service.ledger import repository
from service.ledger.charge import ChargeDraft, MatchedBatch, WindowPost
from tests.drafts import a_draft, a_line

_TENANT = "benchmark-floor"


def copy_rows_per_second(database_url: str, rows: int) -> float:
    """Return how many rows of `charge` per second raw COPY takes into a table without indexes, in one transaction."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        picked = sql.SQL("SELECT * FROM charge LIMIT {}").format(rows)
        with connection.cursor().copy(sql.SQL("COPY ({}) TO STDOUT").format(picked)) as copy:
            blocks = [bytes(block) for block in copy]
        connection.execute("DROP TABLE IF EXISTS charge_copy_floor")
        connection.execute("CREATE TABLE charge_copy_floor (LIKE charge)")
        started = time.perf_counter()
        with connection.cursor().copy("COPY charge_copy_floor FROM STDIN") as copy:
            for block in blocks:
                copy.write(block)
        elapsed = time.perf_counter() - started
        connection.execute("DROP TABLE charge_copy_floor")
    return len(blocks) / elapsed


async def batch_statement_per_second(database_url: str, *, batch: int, batches: int) -> float:
    """Return events per second of the bare batch statement on one connection, four counters per event."""
    pool: PostgresPool = AsyncConnectionPool(
        database_url,
        connection_class=PostgresConnection,
        min_size=1,
        max_size=1,
        kwargs={"autocommit": True},
        open=False,
    )
    async with pool:
        async with pool.connection() as connection:
            await connection.execute(
                "INSERT INTO tenant (tenant_id, name) VALUES (%s, 'floor') ON CONFLICT DO NOTHING", (_TENANT,)
            )
        prepared = [_batch(number, batch) for number in range(batches + 5)]
        for matched in prepared[:5]:
            await _record(pool, matched)
        started = time.perf_counter()
        for matched in prepared[5:]:
            await _record(pool, matched)
        return batch * batches / (time.perf_counter() - started)


async def _record(pool: PostgresPool, matched: MatchedBatch) -> None:
    fence = repository.Fence(tenant_id=_TENANT, config_version=1, epoch=1, outbox_id=new_id())
    written = await repository.record_batch(pool, [fence], matched)
    assert len(written.charge_ids) == len(matched.charges)


_BUDGETS = [new_id() for _ in range(4)]
_WINDOW = datetime(2026, 1, 1, tzinfo=UTC)


def _batch(number: int, size: int) -> MatchedBatch:
    counters: dict[tuple[int, str], WindowPost] = {}
    charges: list[ChargeDraft] = []
    for index in range(size):
        user, team, key = (number * size + index) % 200, index % 20, index % 400
        subjects: Sequence[str] = ("{}", f'{{"team":"{team}"}}', f'{{"user":"{user}"}}', f'{{"api_key":"{key}"}}')
        numbers = []
        for kind, subject in enumerate(subjects):
            post = WindowPost(
                number=len(counters), budget_id=_BUDGETS[kind], subject=subject, bucket=_WINDOW, breadth=9 - kind
            )
            numbers.append(counters.setdefault((kind, subject), post).number)
        charges.append(
            a_draft(
                _TENANT,
                team=f"team-{team}",
                user=f"user-{user}",
                api_key=f"{key:064x}",
                tags=("env:prod", "cost-center:cc-118"),
                components=(a_line("text_input"), a_line("text_output")),
                window_numbers=tuple(numbers),
            )
        )
    return MatchedBatch(charges=charges, counters=list(counters.values()), epoch=1)
