"""The repair pass over all live counters: recomputes held, compares posted with the ledger, and corrects both.

Counters are read before the ledger, so a healthy one is never ahead of it. Behind is what the next publishing would
have brought; the same version with another amount, or a version the ledger does not have, is drift.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from random import uniform
from typing import Literal
from uuid import UUID

import msgspec
import structlog
from redis.asyncio import RedisCluster

from service.checks import metrics
from service.checks.keys import CounterRef
from service.checks.ledger_reader import CounterReading, LedgerReader
from service.checks.lua_scripts import FORGET, RECOUNT, script_command
from service.checks.publishing import posted_micro_usd, seed_commands
from service.checks.scripts import ScriptLane
from service.db.pools import RedisClient
from service.kit.money import from_micro_usd
from service.kit.stopping import stop

_log = structlog.get_logger(__name__)

_EVERY_SECONDS = 180.0
_COUNTERS_AT_ONCE = 200
_PIPELINE_TIMEOUT_MS = 2_000
_TURN_KEY = "tallygate:sweep"

DriftKind = Literal["posted", "ahead", "behind", "held"]


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


class _Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    key: str
    counter: CounterRef
    epoch: int
    version: int
    posted: int
    held_before: int
    held_after: int


class Sweep:
    """Sweeps the counters of all tenants; replicas take turns."""

    def __init__(self, client: RedisClient, ledger: LedgerReader) -> None:
        self._client = client
        self._ledger = ledger
        self._lane = ScriptLane(client, timeout_ms=_PIPELINE_TIMEOUT_MS)
        self._worker: asyncio.Task[None] | None = None

    async def sweep(self, *, repair: bool = True, tenant_id: str | None = None) -> SweepResult:
        """Look at every counter (of a tenant) once. Raises CountersUnavailable, LedgerUnavailable, RedisError."""
        result = SweepResult(findings=[])
        async for keys in self._counter_keys(tenant_id or "*"):
            snapshots = await self._recount(keys, result)
            readings = await self._ledger.read([snapshot.counter for snapshot in snapshots])
            for snapshot, reading in zip(snapshots, readings, strict=True):
                await self._compare(snapshot, reading, result, repair=repair)
        return result

    def start(self) -> None:
        """Sweep every few minutes, until `close`."""
        self._worker = asyncio.create_task(self._sweep_for_ever())

    async def close(self) -> None:
        """Stop sweeping."""
        await stop(self._worker)
        await self._lane.close()

    async def _counter_keys(self, tenant: str) -> AsyncIterator[list[str]]:
        """Yield the keys of live counters, in portions; a key may come twice."""
        keys: list[str] = []
        pattern = f"{{{tenant}}}:c:*"
        options = {"target_nodes": RedisCluster.PRIMARIES} if isinstance(self._client, RedisCluster) else {}
        async for key in self._client.scan_iter(match=pattern, count=1_000, **options):
            text = key.decode()
            if not text.endswith(":z"):
                keys.append(text)
            if len(keys) >= _COUNTERS_AT_ONCE:
                yield keys
                keys = []
        if keys:
            yield keys

    async def _recount(self, keys: Sequence[str], result: SweepResult) -> list[_Snapshot]:
        """Return what the scripts say of the counters that were seeded; the others are nobody's copy of anything."""
        is_ledger_down = "1" if self._ledger.is_down else "0"
        commands = [script_command(RECOUNT, [key], [key.rpartition(":")[2], is_ledger_down]) for key in keys]
        snapshots = []
        for key, reply in zip(keys, await self._lane.run(commands), strict=True):
            if not reply:
                continue
            epoch, version, posted, held_before, held_after, holds, lapsed, subject = reply
            result.counters += 1
            result.holds += holds
            result.lapsed_holds += lapsed
            if subject and epoch >= 0:
                snapshots.append(
                    _Snapshot(
                        key=key,
                        counter=_ref_of_key(key, subject.decode()),
                        epoch=epoch,
                        version=version,
                        posted=posted,
                        held_before=held_before,
                        held_after=held_after,
                    )
                )
        return snapshots

    async def _compare(self, seen: _Snapshot, reading: CounterReading, result: SweepResult, *, repair: bool) -> None:
        if seen.held_before != seen.held_after:
            result.findings.append(_finding(seen, "held", seen.held_before, seen.held_after))
        expected = posted_micro_usd(reading.state.enforced)
        copy, truth = (seen.epoch, seen.version), (reading.epoch, reading.state.version)
        if copy == truth and seen.posted == expected:
            return
        kind: DriftKind = "posted" if copy == truth else "behind" if copy < truth else "ahead"
        result.findings.append(_finding(seen, kind, seen.posted, expected))
        if repair and kind == "behind":
            await self._lane.run(seed_commands(seen.counter.tenant_id, reading.epoch, [reading.state]))
        elif repair:
            bucket = seen.key.rpartition(":")[2]
            await self._lane.call(script_command(FORGET, [seen.key], [bucket, seen.epoch, seen.version]))

    async def _sweep_for_ever(self) -> None:
        while True:
            await asyncio.sleep(_EVERY_SECONDS * uniform(0.8, 1.2))
            try:
                if await self._client.set(_TURN_KEY, "1", nx=True, px=int(_EVERY_SECONDS * 700)):
                    _report(await self.sweep())
            except Exception as error:  # noqa: BLE001 — whatever it is, the next sweep must come
                _log.warning("sweep_interrupted", error=type(error).__name__)


def _ref_of_key(key: str, subject: str) -> CounterRef:
    """Return the counter a key names: `{tenant}:c:<budget>:<digest>:<window start>`."""
    tenant, _, rest = key[1:].partition("}:c:")
    budget, _, window_start = rest.split(":")
    return CounterRef(tenant, UUID(budget), subject, datetime.fromtimestamp(int(window_start), UTC))


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
