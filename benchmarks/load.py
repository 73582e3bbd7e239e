"""A load generator that costs little itself: prepared requests over keep-alive connections, answers read by length.

Runs in a process of its own (`python -m benchmarks.load`), so that it never shares an event loop with the server.
"""

import asyncio
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import uvloop


@dataclass(frozen=True)
class LoadPlan:
    """What to send: `requests` bodies in turn over `connections` connections for `seconds`, after a warm-up."""

    host: str
    port: int
    path: str
    token: str
    bodies_file: str
    connections: int
    warmup_seconds: float
    seconds: float


@dataclass(frozen=True)
class LoadResult:
    """What came back within the measured time. Latencies in milliseconds."""

    requests: int
    seconds: float
    failures: int
    p50_ms: float
    p99_ms: float

    @property
    def per_second(self) -> float:
        """Answers per second."""
        return self.requests / self.seconds


class _Connection:
    def __init__(self, plan: LoadPlan, requests: Iterator[bytes]) -> None:
        self._plan, self._requests = plan, requests
        self.latencies: list[float] = []
        self.failures = 0

    async def run(self, measured_from: float, until: float) -> None:
        reader, writer = await asyncio.open_connection(self._plan.host, self._plan.port, limit=1 << 22)
        try:
            while (started := time.perf_counter()) < until:
                request = next(self._requests, None)
                if request is None:
                    break
                writer.write(request)
                status = await _read_answer(reader)
                ended = time.perf_counter()
                if started >= measured_from:
                    self.latencies.append(ended - started)
                    self.failures += status != 200
        finally:
            writer.close()


async def _read_answer(reader: asyncio.StreamReader) -> int:
    head = await reader.readuntil(b"\r\n\r\n")
    lower = head.lower()
    at = lower.find(b"content-length:")
    if at >= 0:
        await reader.readexactly(int(lower[at + 15 : lower.index(b"\r\n", at)]))
    else:
        while (size := int((await reader.readline()).strip(), 16)) > 0:
            await reader.readexactly(size + 2)
        await reader.readline()
    return int(head[9:12])


def _requests(plan: LoadPlan) -> Iterator[bytes]:
    head = (
        f"POST {plan.path} HTTP/1.1\r\nHost: {plan.host}\r\nAuthorization: Bearer {plan.token}\r\n"
        "Content-Type: application/json\r\nContent-Length: "
    ).encode()
    with Path(plan.bodies_file).open("rb") as lines:
        for line in lines:
            body = line.rstrip(b"\n")
            yield head + str(len(body)).encode() + b"\r\n\r\n" + body


async def run_plan(plan: LoadPlan) -> LoadResult:
    """Carry out the plan; ends early when the bodies run out."""
    requests = _requests(plan)
    begun = time.perf_counter()
    measured_from = begun + plan.warmup_seconds
    connections = [_Connection(plan, requests) for _ in range(plan.connections)]
    await asyncio.gather(*(c.run(measured_from, measured_from + plan.seconds) for c in connections))
    elapsed = min(time.perf_counter() - measured_from, plan.seconds)
    latencies = sorted(latency for c in connections for latency in c.latencies)
    if not latencies:
        raise SystemExit("no answer within the measured time")
    return LoadResult(
        requests=len(latencies),
        seconds=elapsed,
        failures=sum(c.failures for c in connections),
        p50_ms=latencies[len(latencies) // 2] * 1000,
        p99_ms=latencies[int(len(latencies) * 0.99)] * 1000,
    )


async def run_in_own_process(plan: LoadPlan) -> LoadResult:
    """Carry out the plan in another process."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.load", json.dumps(asdict(plan)), stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    if process.returncode != 0:
        raise SystemExit("the load generator failed")
    document: dict[str, Any] = json.loads(output)
    return LoadResult(**document)


if __name__ == "__main__":
    print(json.dumps(asdict(uvloop.run(run_plan(LoadPlan(**json.loads(sys.argv[1])))))))
