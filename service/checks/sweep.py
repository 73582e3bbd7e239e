"""The repair pass over all live counters: recomputes held and sums, compares posted with the ledger, and corrects all.

Counters are read before the ledger, so a healthy one is never ahead of it. Behind is what the next publishing would
have brought; the same version with another amount, or a version the ledger does not have, is drift. In a server it goes
on in small portions and rests after each, so that a million counters are in no check's way.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from random import uniform
from typing import Literal
from uuid import UUID

import msgspec
import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from service.checks import metrics
from service.checks.counter_reading import CounterReading, posted_micro_usd
from service.checks.keys import ROLLING, CounterRef
from service.checks.ledger_reader import LedgerReader
from service.checks.lua_scripts import ADD_UP, FORGET, RECOUNT, script_command
from service.checks.publishing import seed_commands
from service.checks.scripts import ScriptLane
from service.db.pools import RedisClient, at_server_of, servers_of
from service.kit.clock import monotonic
from service.kit.money import from_micro_usd
from service.kit.stopping import stop

_log = structlog.get_logger(__name__)

_EVERY_SECONDS = 180.0
# Nothing else of this process goes on while a portion is put together and read.
_COUNTERS_AT_ONCE = 50
# Nothing else at all goes on in Redis while these are added up.
_HOLDS_AT_ONCE = 500
_REST_TIMES = 4.0
_PIPELINE_TIMEOUT_MS = 2_000
_TURN_KEY = "tallygate:sweep"
_TURN_MS = int(_EVERY_SECONDS * 700)
_TURN_KEPT_EVERY_SECONDS = 30.0

DriftKind = Literal["posted", "ahead", "behind", "held", "sum"]


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One counter that is not what it should be, in micro-USD; `behind` alone is the normal life of a busy counter."""

    key: str
    counter: CounterRef
    kind: DriftKind
    found_micro_usd: int
    expected_micro_usd: int


class SweepResult(msgspec.Struct, kw_only=True):
    """What one pass saw and did."""

    counters: int = 0
    holds: int = 0
    lapsed_holds: int = 0
    findings: list[Finding] = []

    @property
    def drift_micro_usd(self) -> int:
        """Return the sum of the absolute differences that should not have been there."""
        return sum(
            abs(finding.found_micro_usd - finding.expected_micro_usd)
            for finding in self.findings
            if finding.kind != "behind"
        )


class _Copy(msgspec.Struct, frozen=True):
    """What was copied to one bucket."""

    bucket: int  # seconds since the Unix epoch
    epoch: int
    version: int
    posted: int


class _Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    key: str
    counter: CounterRef
    held_before: int
    held_after: int
    sum_before: int
    sum_after: int
    copies: tuple[_Copy, ...]


class Sweep:
    """Sweeps the counters of all tenants; replicas take turns."""

    def __init__(self, client: RedisClient, ledger: LedgerReader) -> None:
        self._client = client
        self._ledger = ledger
        self._lane = ScriptLane(client, timeout_ms=_PIPELINE_TIMEOUT_MS)
        self._worker: asyncio.Task[None] | None = None
        self._turn_taken_at = monotonic()

    async def sweep(
        self, *, repair: bool = True, tenant_id: str | None = None, is_at_leisure: bool = False
    ) -> SweepResult:
        """Look at every counter (of a tenant) once. Raises CountersUnavailable, LedgerUnavailable, RedisError.

        At leisure it rests between portions, four times as long as each took.
        """
        result = SweepResult(findings=[])
        async for keys in self._counter_keys(tenant_id or "*"):
            started = monotonic()
            snapshots = await self._recount(keys, result)
            readings = await self._ledger.read([snapshot.counter for snapshot in snapshots])
            for snapshot, reading in zip(snapshots, readings, strict=True):
                await self._compare(snapshot, reading, result, repair=repair)
            if is_at_leisure:
                await self._rest(monotonic() - started)
        return result

    def start(self) -> None:
        """Sweep every few minutes, until `close`."""
        self._worker = asyncio.create_task(self._sweep_for_ever())

    async def close(self) -> None:
        """Stop sweeping."""
        await stop(self._worker)
        await self._lane.close()

    async def _counter_keys(self, tenant: str) -> AsyncIterator[list[str]]:
        """Yield the keys of live counters, in portions; a key may come twice.

        A server that fails is left out, and its error raised when all others were seen.
        """
        pattern = f"{{{tenant}}}:c:*"
        failed: RedisError | None = None
        for server in await servers_of(self._client):
            try:
                async for keys in _portions(server.scan_iter(match=pattern, count=1_000)):
                    yield keys
            except RedisError as error:
                failed = error
        if failed is not None:
            raise failed

    async def _recount(self, keys: Sequence[str], result: SweepResult) -> list[_Snapshot]:
        """Return what the scripts say of the counters that were seeded; the others are nobody's copy of anything."""
        is_ledger_down = "1" if self._ledger.is_down else "0"
        commands = [
            script_command(RECOUNT, [key], [_bucket_of_key(key), is_ledger_down, _HOLDS_AT_ONCE]) for key in keys
        ]
        snapshots = []
        for key, reply in zip(keys, await self._lane.run(commands), strict=True):
            if not reply:
                continue
            held_before, held_after, holds, lapsed, subject, oldest, seconds, sum_before, sum_after, *figures = reply
            result.counters += 1
            result.holds += holds
            result.lapsed_holds += lapsed
            if held_after < 0:
                held_before, held_after = await self._add_up(key)
            if subject and (figures or oldest >= 0):
                snapshots.append(
                    _Snapshot(
                        key=key,
                        counter=_ref_of_key(key, subject.decode(), oldest, seconds),
                        held_before=held_before,
                        held_after=held_after,
                        sum_before=sum_before,
                        sum_after=sum_after,
                        copies=tuple(_Copy(*figures[at : at + 4]) for at in range(0, len(figures), 4)),
                    )
                )
        return snapshots

    async def _add_up(self, key: str) -> tuple[int, int]:
        """Return what a counter with very many holds held at the end, and what it should have; checks come between."""
        while reply := await self._lane.call(script_command(ADD_UP, [key], [_HOLDS_AT_ONCE])):
            held_before, held_after = reply
            if held_after >= 0:
                return held_before, held_after
        return 0, 0  # wiped meanwhile, or another replica had the last of them

    async def _compare(self, seen: _Snapshot, reading: CounterReading, result: SweepResult, *, repair: bool) -> None:
        if seen.held_before != seen.held_after:
            result.findings.append(_finding(seen, "held", seen.held_before, seen.held_after))
        if seen.sum_before != seen.sum_after:
            result.findings.append(_finding(seen, "sum", seen.sum_before, seen.sum_after))
        is_behind = False
        for copy, kind, expected in _differences(seen, reading):
            result.findings.append(_finding(seen, kind, copy.posted, expected))
            is_behind = is_behind or kind == "behind"
            if repair and kind != "behind":
                arguments = [copy.bucket, copy.epoch, copy.version]
                await self._lane.call(script_command(FORGET, [seen.key], arguments))
        if repair and is_behind:
            await self._lane.run(seed_commands([reading]))

    async def _rest(self, worked_seconds: float) -> None:
        """Rest after a portion; a long pass goes on being this replica's turn."""
        await asyncio.sleep(_REST_TIMES * worked_seconds)
        if monotonic() - self._turn_taken_at > _TURN_KEPT_EVERY_SECONDS:
            self._turn_taken_at = monotonic()
            await at_server_of(self._client, _TURN_KEY, _keep_turn)

    async def _sweep_for_ever(self) -> None:
        while True:
            await asyncio.sleep(_EVERY_SECONDS * uniform(0.8, 1.2))
            try:
                if await at_server_of(self._client, _TURN_KEY, _take_turn):
                    self._turn_taken_at = monotonic()
                    _report(await self.sweep(is_at_leisure=True))
            except Exception as error:  # noqa: BLE001 — whatever it is, the next sweep must come
                _log.warning("sweep_interrupted", error=type(error).__name__)


async def _take_turn(server: Redis) -> bool:
    return bool(await server.set(_TURN_KEY, "1", nx=True, px=_TURN_MS))


async def _keep_turn(server: Redis) -> None:
    await server.set(_TURN_KEY, "1", px=_TURN_MS)


async def _portions(found: AsyncIterator[bytes]) -> AsyncIterator[list[str]]:
    """Yield the keys of counters without those of their holds, some at a time."""
    keys: list[str] = []
    async for key in found:
        text = key.decode()
        if not text.endswith(":z"):
            keys.append(text)
        if len(keys) >= _COUNTERS_AT_ONCE:
            yield keys
            keys = []
    if keys:
        yield keys


def _differences(seen: _Snapshot, reading: CounterReading) -> list[tuple[_Copy, DriftKind, int]]:
    """Return the buckets whose copy is not what the ledger says, with what it should be."""
    copies = {copy.bucket: copy for copy in seen.copies}
    truths = {int(state.bucket.timestamp()): state for state in reading.states}
    oldest = int(reading.counter.bucket.timestamp())
    found: list[tuple[_Copy, DriftKind, int]] = []
    for bucket in sorted(copies.keys() | truths.keys()):
        if bucket < oldest:
            continue  # counted no more, and not read
        copy, state = copies.get(bucket, _Copy(bucket, -1, 0, 0)), truths.get(bucket)
        version, expected = (0, 0) if state is None else (state.version, posted_micro_usd(state.enforced))
        said, truth = (copy.epoch, copy.version), (reading.epoch, version)
        if said != truth or copy.posted != expected:
            found.append((copy, "posted" if said == truth else "behind" if said < truth else "ahead", expected))
    return found


def _bucket_of_key(key: str) -> str:
    """Return the bucket of a counter's key, as RECOUNT takes it."""
    window = key.rpartition(":")[2]
    return "" if window == ROLLING else window


def _ref_of_key(key: str, subject: str, oldest: int, seconds: int) -> CounterRef:
    """Return the counter a key names: `{tenant}:c:<budget>:<digest>:<window start>`."""
    tenant, _, rest = key[1:].partition("}:c:")
    budget, _, window = rest.split(":")
    is_rolling = window == ROLLING
    start = datetime.fromtimestamp(oldest if is_rolling else int(window), UTC)
    return CounterRef(tenant, UUID(budget), subject, start, seconds if is_rolling else 0)


def _finding(seen: _Snapshot, kind: DriftKind, found: int, expected: int) -> Finding:
    return Finding(key=seen.key, counter=seen.counter, kind=kind, found_micro_usd=found, expected_micro_usd=expected)


def _report(result: SweepResult) -> None:
    metrics.SWEPT.set(result.counters)
    metrics.HOLDS_OPEN.set(result.holds)
    metrics.HOLDS_LAPSED.inc(result.lapsed_holds)
    metrics.DRIFT.set(float(from_micro_usd(result.drift_micro_usd)))
    for finding in result.findings:
        metrics.REPAIRS.labels(finding.kind).inc()
    if result.drift_micro_usd:
        _log.error("counters_drifted", counters=len(result.findings), drift_micro_usd=result.drift_micro_usd)
