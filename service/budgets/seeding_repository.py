"""What the seeding reads and writes; the statements are in sql/."""

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from hashlib import blake2b
from importlib.resources import files
from typing import Any
from uuid import UUID

import msgspec
from psycopg import AsyncConnection
from psycopg.rows import class_row, dict_row

from service.budgets.budget import Budget
from service.budgets.period import RollingPeriod
from service.budgets.repository import BUDGET_COLUMNS, budget_of_row
from service.ledger.charge import CountedCharge
from service.ledger.posts import CommittedPosts, CounterState

_SQL = files("service.budgets").joinpath("sql")
_FIND_GROUP = _SQL.joinpath("find_seeding_group.sql").read_text("utf-8").format(columns=BUDGET_COLUMNS)
_READ_CHARGES = _SQL.joinpath("read_charges.sql").read_text("utf-8")
_SEED_CHUNK = _SQL.joinpath("seed_chunk.sql").read_text("utf-8")
_FINISH = _SQL.joinpath("finish_seeding.sql").read_text("utf-8")

_TRY_LOCK = "SELECT pg_try_advisory_xact_lock(%s)"
_TENANTS = "SELECT DISTINCT tenant_id FROM budget WHERE state = 'seeding' ORDER BY tenant_id"

_BEFORE_EVERYTHING = datetime(1970, 1, 1, tzinfo=UTC)


class Place(msgspec.Struct, frozen=True):
    """How far a pass has come: everything up to and including this charge is counted."""

    through: datetime
    charge_id: UUID


class CounterAmount(msgspec.Struct, frozen=True, kw_only=True):
    """What a chunk adds to one counter."""

    budget_id: UUID
    subject: str
    bucket: datetime
    breadth: int
    amount: Decimal


class ChunkWritten(msgspec.Struct, frozen=True, kw_only=True):
    """Which budgets a chunk moved on, and what that owes to Redis."""

    advanced: frozenset[UUID]
    posts: CommittedPosts | None


async def find_tenants_to_seed(connection: AsyncConnection[Any]) -> list[str]:
    """Return the tenants that have budgets to seed."""
    return [row[0] async for row in await connection.execute(_TENANTS)]


async def try_lock(connection: AsyncConnection[Any], tenant_id: str) -> bool:
    """Try to become the one who seeds budgets of the tenant until the transaction ends; saves double work only."""
    digest = blake2b(tenant_id.encode(), digest_size=8, person=b"tg-seeding").digest()
    row = await (await connection.execute(_TRY_LOCK, (int.from_bytes(digest, signed=True),))).fetchone()
    return row is not None and bool(row[0])


async def find_group(connection: AsyncConnection[Any], tenant_id: str, limit: int) -> list[Budget]:
    """Return budgets that one pass over the charges can serve together; none when there is nothing to seed."""
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(_FIND_GROUP, {"tenant_id": tenant_id, "limit": limit})
        return [budget_of_row(row) async for row in cursor]


def place_of(budget: Budget) -> Place | None:
    """Return how far a budget has come."""
    if budget.seeded_through is None or budget.seeded_charge_id is None:
        return None
    return Place(budget.seeded_through, budget.seeded_charge_id)


async def read_charges(connection: AsyncConnection[Any], group: Sequence[Budget], limit: int) -> list[CountedCharge]:
    """Return the next charges recorded before some budget of the group existed."""
    first = group[0]
    place = place_of(first) or Place(first.counts_from or _BEFORE_EVERYTHING, UUID(int=0))
    parameters = {
        "tenant_id": first.tenant_id,
        "through": place.through,
        "charge_id": place.charge_id,
        "below_version": max(budget.config_version for budget in group),
        "limit": limit,
    }
    async with connection.cursor(row_factory=class_row(CountedCharge)) as cursor:
        await cursor.execute(_READ_CHARGES, parameters)
        return await cursor.fetchall()


async def seed_chunk(
    connection: AsyncConnection[Any],
    group: Sequence[Budget],
    place: Place,
    amounts: Sequence[CounterAmount],
    outbox_id: UUID,
) -> ChunkWritten:
    """Add the amounts and move the budgets on to the place, as sql/seed_chunk.sql says."""
    tenant_id, former = group[0].tenant_id, place_of(group[0])
    parameters = {
        "tenant_id": tenant_id,
        "budget_ids": [budget.budget_id for budget in group],
        "former_through": former and former.through,
        "former_charge_id": former and former.charge_id,
        "through": place.through,
        "charge_id": place.charge_id,
        "counters": msgspec.json.encode(amounts).decode(),
        "outbox_id": outbox_id,
    }
    row = await (await connection.execute(_SEED_CHUNK, parameters)).fetchone()
    assert row is not None
    advanced, counters, epoch, _ = row
    posts = None
    rolling = {budget.budget_id for budget in group if isinstance(budget.period, RollingPeriod)}
    if counters:
        posts = CommittedPosts(
            tenant_id=tenant_id,
            outbox_id=outbox_id,
            epoch=epoch,
            counters=tuple([_counter_state(row, rolling) for row in counters]),
            settlements=(),
        )
    return ChunkWritten(advanced=frozenset(advanced or ()), posts=posts)


async def finish(connection: AsyncConnection[Any], group: Sequence[Budget], version: int) -> frozenset[UUID]:
    """Declare the budgets current that are where the group is; return their ids."""
    place = place_of(group[0])
    parameters = {
        "tenant_id": group[0].tenant_id,
        "budget_ids": [budget.budget_id for budget in group],
        "through": place and place.through,
        "charge_id": place and place.charge_id,
        "version": version,
    }
    return frozenset([row[0] async for row in await connection.execute(_FINISH, parameters)])


def _counter_state(row: list[Any], rolling: set[UUID]) -> CounterState:
    text, subject, bucket, enforced, version = row
    budget_id = UUID(text)
    return CounterState(
        budget_id=budget_id,
        subject=subject,
        bucket=datetime.fromisoformat(bucket),
        enforced=Decimal(enforced),
        version=version,
        is_rolling=budget_id in rolling,
    )
