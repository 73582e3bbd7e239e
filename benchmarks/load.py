"""A load generator that costs little itself: prepared requests over keep-alive connections, answers read by length.

Runs in a process of its own (`python -m benchmarks.load`), so that it never shares an event loop with the server.
"""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path

import uvloop


@dataclass(frozen=True)
class LoadPlan:
    """What to send: the bodies in turn over `connections` connections for `seconds`, after a warm-up.

    Of several generators that share one file, each takes its part of the lines.
    """

    host: str
    port: int
    path: str
    token: str
    bodies_file: str
    connections: int
    warmup_seconds: float
    seconds: float
    part: int = 0
    parts: int = 1


@dataclass(frozen=True)
class LoadResult:
    """What came back within the measured time; latencies in order."""

    seconds: float
    failures: int
    latencies_ms: list[float]

    @property
    def per_second(self) -> float:
        """Answers per second."""
        return len(self.latencies_ms) / self.seconds

    @property
    def p50_ms(self) -> float:
        """The latency half of the answers keep below."""
        return self.latencies_ms[len(self.latencies_ms) // 2]

    @property
    def p99_ms(self) -> float:
        """The latency all but a hundredth of the answers keep below."""
        return self.latencies_ms[int(len(self.latencies_ms) * 0.99)]


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
        for line in islice(lines, plan.part, None, plan.parts):
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
    latencies = sorted(latency * 1000 for c in connections for latency in c.latencies)
    if not latencies:
        raise SystemExit("no answer within the measured time")
    return LoadResult(seconds=elapsed, failures=sum(c.failures for c in connections), latencies_ms=latencies)


def run_in_processes(plan: LoadPlan, processes: int) -> LoadResult:
    """Carry out the plan in other processes, which share its connections and bodies."""
    shares = [
        replace(plan, connections=max(1, plan.connections // processes), part=part, parts=processes)
        for part in range(min(processes, plan.connections))
    ]
    running = [
        subprocess.Popen([sys.executable, "-m", "benchmarks.load", json.dumps(asdict(share))], stdout=subprocess.PIPE)
        for share in shares
    ]
    results = []
    for process in running:
        output, _ = process.communicate()
        if process.returncode != 0:
            raise SystemExit("the load generator failed")
        results.append(LoadResult(**json.loads(output)))
    return LoadResult(
        seconds=max(result.seconds for result in results),
        failures=sum(result.failures for result in results),
        latencies_ms=sorted(latency for result in results for latency in result.latencies_ms),
    )


if __name__ == "__main__":
    print(json.dumps(asdict(uvloop.run(run_plan(LoadPlan(**json.loads(sys.argv[1])))))))
