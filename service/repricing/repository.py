"""Every SQL statement about repricings: they are asked for, claimed, moved on and finished.

Whoever runs one has claimed it for some seconds, and more with each page. Progress is taken only from who claimed it
last: a process that was thought dead and wakes up writes nothing more, because its corrections share that commit.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from psycopg import AsyncConnection
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from service.ledger.filters import Position, TimeRange
from service.repricing.result import RepricingResult
from service.repricing.terms import Job, Progress, RepricingTerms

# A page takes a fraction of a second; one that waits for locks or for its turn among many may take as long as its
# statements are allowed to.
LEASE_SECONDS = 90
# Summing up millions of corrections is one statement.
FINISHING_SECONDS = 600

_COLUMNS = """
tenant_id, repricing_id, created_at, created_by, applies, range_from, range_to, filter, state, examined, changed,
not_repriceable, refused, reached_at, reached_charge_id, runner_id, result::text AS result, failure, finished_at
"""
_LEASE = "clock_timestamp() + make_interval(secs => {})"

# Statements below are made of the constants above, of nothing else.
# ruff: noqa: S608
_INSERT = f"""
INSERT INTO repricing (
    tenant_id, repricing_id, created_by, applies, range_from, range_to, filter, state, runner_id, leased_until
)
VALUES (
    %(tenant_id)s, %(repricing_id)s, %(created_by)s, %(applies)s, %(start)s, %(end)s, %(filter)s, 'running',
    %(runner_id)s, CASE WHEN %(runner_id)s::uuid IS NULL THEN NULL ELSE {_LEASE.format(LEASE_SECONDS)} END
)
ON CONFLICT (tenant_id) WHERE state = 'running' DO NOTHING
RETURNING {_COLUMNS}
"""
_CLAIM = f"""
UPDATE repricing AS r SET runner_id = %(runner_id)s, leased_until = {_LEASE.format(LEASE_SECONDS)}
FROM (
    SELECT tenant_id, repricing_id FROM repricing
    WHERE state = 'running' AND (leased_until IS NULL OR leased_until < clock_timestamp())
    FOR UPDATE SKIP LOCKED
) AS free
WHERE r.tenant_id = free.tenant_id AND r.repricing_id = free.repricing_id
RETURNING {_COLUMNS.replace("tenant_id, repricing_id", "r.tenant_id, r.repricing_id")}
"""
_MINE = """
WHERE tenant_id = %(tenant_id)s AND repricing_id = %(repricing_id)s AND state = 'running' AND runner_id = %(runner_id)s
RETURNING repricing_id
"""
_MOVE_ON = f"""
UPDATE repricing SET
    examined = %(examined)s, changed = %(changed)s, not_repriceable = %(not_repriceable)s, refused = %(refused)s,
    reached_at = %(reached_at)s, reached_charge_id = %(reached_charge_id)s,
    leased_until = {_LEASE.format(LEASE_SECONDS)}
{_MINE}
"""
_HOLD = f"UPDATE repricing SET leased_until = {_LEASE.format(FINISHING_SECONDS)} {_MINE}"
_RELEASE = f"UPDATE repricing SET leased_until = NULL {_MINE}"
_FINISH = f"""
UPDATE repricing SET
    state = %(state)s, result = %(result)s, failure = %(failure)s, finished_at = clock_timestamp(), leased_until = NULL
{_MINE}
"""
_GET = f"SELECT {_COLUMNS} FROM repricing WHERE tenant_id = %s AND repricing_id = %s"
_LIST = f"""
SELECT {_COLUMNS} FROM repricing
WHERE tenant_id = %(tenant_id)s AND (%(before)s::uuid IS NULL OR repricing_id < %(before)s)
ORDER BY repricing_id DESC LIMIT %(limit)s
"""
_RUNNING = f"SELECT {_COLUMNS} FROM repricing WHERE tenant_id = %s AND state = 'running'"

_decode_result = msgspec.json.Decoder(RepricingResult).decode


class RepricingRow(msgspec.Struct, frozen=True, kw_only=True):
    """A repricing as it is stored."""

    tenant_id: str
    repricing_id: UUID
    created_at: datetime
    created_by: str
    applies: bool
    terms: RepricingTerms
    state: str
    progress: Progress
    runner_id: UUID | None
    result: RepricingResult | None
    failure: str | None
    finished_at: datetime | None

    def as_job(self) -> Job:
        """Return what its runner needs; it is claimed."""
        assert self.runner_id is not None
        return Job(
            tenant_id=self.tenant_id,
            repricing_id=self.repricing_id,
            terms=self.terms,
            applies=self.applies,
            begun_at=self.created_at,
            created_by=self.created_by,
            runner_id=self.runner_id,
            progress=self.progress,
        )


class LostClaim(Exception):
    """Somebody else has claimed this repricing meanwhile, or ended it."""


async def insert_repricing(
    connection: AsyncConnection[Any],
    tenant_id: str,
    repricing_id: UUID,
    terms: RepricingTerms,
    *,
    applies: bool,
    created_by: str,
    runner_id: UUID | None = None,
) -> RepricingRow | None:
    """Insert a repricing, claimed by a runner if one is named; None when one of the tenant is running."""
    parameters = {
        "tenant_id": tenant_id,
        "repricing_id": repricing_id,
        "created_by": created_by,
        "applies": applies,
        "start": terms.time_range.start,
        "end": terms.time_range.end,
        "filter": Jsonb(terms.filter),
        "runner_id": runner_id,
    }
    rows = await _fetch(connection, _INSERT, parameters)
    return rows[0] if rows else None


async def claim_repricings(connection: AsyncConnection[Any], runner_id: UUID) -> list[Job]:
    """Claim the running repricings nobody works on."""
    return [row.as_job() for row in await _fetch(connection, _CLAIM, {"runner_id": runner_id})]


async def move_on(connection: AsyncConnection[Any], job: Job, progress: Progress) -> None:
    """Store how far a repricing is. Raises LostClaim."""
    reached = progress.reached
    await _update(
        connection,
        _MOVE_ON,
        job,
        examined=progress.examined,
        changed=progress.changed,
        not_repriceable=progress.not_repriceable,
        refused=progress.refused,
        reached_at=reached and reached.effective_at,
        reached_charge_id=reached and reached.charge_id,
    )


async def hold(connection: AsyncConnection[Any], job: Job) -> None:
    """Keep a repricing claimed for as long as its end may take. Raises LostClaim."""
    await _update(connection, _HOLD, job)


async def release(connection: AsyncConnection[Any], job: Job) -> None:
    """Let anybody claim it, at once. Raises LostClaim."""
    await _update(connection, _RELEASE, job)


async def finish(
    connection: AsyncConnection[Any], job: Job, *, result: RepricingResult | None, failure: str | None = None
) -> None:
    """End a repricing with its result, or with why it failed. Raises LostClaim."""
    document = None if result is None else Jsonb(result, dumps=msgspec.json.encode)
    await _update(
        connection, _FINISH, job, state="done" if failure is None else "failed", result=document, failure=failure
    )


async def find_repricing(connection: AsyncConnection[Any], tenant_id: str, repricing_id: UUID) -> RepricingRow | None:
    """Return a repricing, or None."""
    rows = await _fetch(connection, _GET, (tenant_id, repricing_id))
    return rows[0] if rows else None


async def find_running(connection: AsyncConnection[Any], tenant_id: str) -> RepricingRow | None:
    """Return the tenant's running repricing, or None."""
    rows = await _fetch(connection, _RUNNING, (tenant_id,))
    return rows[0] if rows else None


async def list_repricings(
    connection: AsyncConnection[Any], tenant_id: str, *, before: UUID | None, limit: int
) -> list[RepricingRow]:
    """Return repricings, newest first."""
    return await _fetch(connection, _LIST, {"tenant_id": tenant_id, "before": before, "limit": limit})


async def _update(connection: AsyncConnection[Any], statement: str, job: Job, **values: Any) -> None:
    owner = {"tenant_id": job.tenant_id, "repricing_id": job.repricing_id, "runner_id": job.runner_id}
    cursor = await connection.execute(statement, values | owner)
    # Asked for as a row: in pipeline mode the count is not known yet.
    if await cursor.fetchone() is None:
        raise LostClaim


async def _fetch(
    connection: AsyncConnection[Any], statement: str, parameters: dict[str, Any] | Sequence[Any]
) -> list[RepricingRow]:
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(statement, parameters)
        return [_row(row) for row in await cursor.fetchall()]


def _row(row: dict[str, Any]) -> RepricingRow:
    reached_at, reached_charge_id = row["reached_at"], row["reached_charge_id"]
    return RepricingRow(
        tenant_id=row["tenant_id"],
        repricing_id=row["repricing_id"],
        created_at=row["created_at"],
        created_by=row["created_by"],
        applies=row["applies"],
        terms=RepricingTerms(time_range=TimeRange(row["range_from"], row["range_to"]), filter=row["filter"]),
        state=row["state"],
        progress=Progress(
            examined=row["examined"],
            changed=row["changed"],
            not_repriceable=row["not_repriceable"],
            refused=row["refused"],
            reached=None if reached_at is None else Position(reached_at, reached_charge_id),
        ),
        runner_id=row["runner_id"],
        result=None if row["result"] is None else _decode_result(row["result"]),
        failure=row["failure"],
        finished_at=row["finished_at"],
    )
