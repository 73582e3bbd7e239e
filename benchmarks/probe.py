"""Requests at a steady pace, from a process of their own: what latency they meet while something else goes on.

A request is sent when its time has come, whether or not the one before is answered: a server that stands still is seen
by every request of that time, not by one.
"""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import cycle
from pathlib import Path
from typing import Self

import httpx

from benchmarks.serving import TOKEN


@dataclass(frozen=True)
class ProbePlan:
    """What to send, body after body, and how often."""

    port: int
    path: str
    bodies_file: str
    per_second: float


@dataclass(frozen=True)
class ProbeResult:
    """What came back. Latencies in milliseconds."""

    requests: int
    failures: int
    p50_ms: float
    p99_ms: float


class Probing:
    """Sends by each of the plans while the block runs; afterwards `results` has them in the same order."""

    def __init__(self, plans: Sequence[ProbePlan]) -> None:
        self._plans = plans
        self._process: subprocess.Popen[str] | None = None
        self._results: list[ProbeResult] = []

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "benchmarks.probe", json.dumps([asdict(plan) for plan in self._plans])]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        output, _error = self._process.communicate("\n", timeout=120)
        self._results = [ProbeResult(**result) for result in json.loads(output)]

    def results(self) -> list[ProbeResult]:
        """Return what came back."""
        return self._results


async def _probe(plan: ProbePlan, bodies: Iterator[bytes], stop: asyncio.Event) -> ProbeResult:
    latencies: list[float] = []
    failures = 0
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
    limits = httpx.Limits(max_connections=200, max_keepalive_connections=200)

    async def send(client: httpx.AsyncClient, body: bytes) -> None:
        nonlocal failures
        started = time.perf_counter()
        try:
            answer = await client.post(plan.path, content=body, headers=headers)
            failures += answer.status_code != 200
        except httpx.HTTPError:
            failures += 1
        latencies.append(time.perf_counter() - started)

    async with (
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{plan.port}", timeout=60, limits=limits) as client,
        asyncio.TaskGroup() as tasks,
    ):
        begun, sent = time.perf_counter(), 0
        while not stop.is_set():
            sent += 1
            tasks.create_task(send(client, _distinct(next(bodies), sent)))
            await asyncio.sleep(max(0.0, begun + sent / plan.per_second - time.perf_counter()))
    latencies.sort()
    return ProbeResult(
        requests=len(latencies),
        failures=failures,
        p50_ms=latencies[len(latencies) // 2] * 1000,
        p99_ms=latencies[int(len(latencies) * 0.99)] * 1000,
    )


def _distinct(body: bytes, number: int) -> bytes:
    """Return the body with ids of its own: the bodies go round, and what was sent before would be a duplicate."""
    mark = f"{number}-{time.monotonic_ns()}".encode()
    return (
        body.replace(b'"chatcmpl-', b'"chatcmpl-' + mark)
        .replace(b'"call-', b'"call-' + mark)
        .replace(b'"check-', b'"check-' + mark)
    )


async def _run(plans: Sequence[ProbePlan], bodies: Sequence[list[bytes]]) -> list[ProbeResult]:
    stop = asyncio.Event()
    probes = [asyncio.create_task(_probe(plan, cycle(own), stop)) for plan, own in zip(plans, bodies, strict=True)]
    await asyncio.to_thread(sys.stdin.readline)
    stop.set()
    return [await probe for probe in probes]


if __name__ == "__main__":
    wanted = [ProbePlan(**plan) for plan in json.loads(sys.argv[1])]
    lines = [Path(plan.bodies_file).read_bytes().splitlines() for plan in wanted]
    print(json.dumps([asdict(result) for result in asyncio.run(_run(wanted, lines))]))
