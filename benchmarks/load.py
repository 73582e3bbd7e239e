"""A load generator that costs little itself: prepared requests over keep-alive connections, answers read by length.

Either as fast as it is answered, or at a pace: then a request is due at its time, whether or not those before it are
answered, and its latency counts from there. Runs in a process of its own (`python -m benchmarks.load`), so that it
never shares an event loop with the server.
"""

import asyncio
import json
import random
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path

import uvloop

_LAST_ANSWERS_SECONDS = 1.0


@dataclass(frozen=True)
class LoadPlan:
    """What to send: the bodies in turn over `connections` connections for `seconds`, after a warm-up.

    Of several generators that share one file, each takes its part of the lines. `per_second` 0 = each connection sends
    as soon as it is answered; else so many requests fall due in a second, at random, on whichever connection is free.
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
    per_second: float = 0.0


@dataclass(frozen=True)
class LoadResult:
    """What came back within the measured time; latencies in order. `answers`: with those of the warm-up."""

    seconds: float
    failures: int
    latencies_ms: list[float]
    answers: int

    @property
    def per_second(self) -> float:
        """Answers per second."""
        return len(self.latencies_ms) / self.seconds

    @property
    def p50_ms(self) -> float:
        """The latency half of the answers keep below."""
        return self._percentile(0.5)

    @property
    def p99_ms(self) -> float:
        """The latency all but a hundredth of the answers keep below."""
        return self._percentile(0.99)

    @property
    def p999_ms(self) -> float:
        """The latency all but a thousandth of the answers keep below."""
        return self._percentile(0.999)

    def _percentile(self, part: float) -> float:
        return self.latencies_ms[int(len(self.latencies_ms) * part)]


class _Connection:
    def __init__(self, plan: LoadPlan, requests: Iterator[bytes]) -> None:
        self._plan, self._requests = plan, requests
        self.latencies: list[float] = []
        self.answers = 0
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
                self.answers += 1
                if started >= measured_from:
                    self.latencies.append(ended - started)
                    self.failures += status != 200
        finally:
            writer.close()


class _Pace:
    """Lets requests fall due at random times of a steady rate, and hands each to a connection that is free."""

    def __init__(self, per_second: float) -> None:
        self._per_second = per_second
        self._due: deque[float] = deque()
        self._is_due = asyncio.Semaphore(0)

    async def keep(self, until: float) -> None:
        chance = random.Random(self._per_second)
        due = time.perf_counter() + chance.expovariate(self._per_second)
        while due < until:
            # The timers of an event loop are no finer than this.
            await asyncio.sleep(0.001)
            now = time.perf_counter()
            while due <= now:
                # It falls due now, when it is looked for, and not up to a millisecond earlier.
                self._due.append(now)
                self._is_due.release()
                due += chance.expovariate(self._per_second)

    async def next(self) -> float:
        await self._is_due.acquire()
        return self._due.popleft()


class _PacedConnection(_Connection):
    """Sends what is due, one request after the other; what is late because all connections are busy counts as late."""

    def __init__(self, plan: LoadPlan, requests: Iterator[bytes], pace: _Pace) -> None:
        super().__init__(plan, requests)
        self._pace = pace

    async def run(self, measured_from: float, until: float) -> None:
        reader, writer = await asyncio.open_connection(self._plan.host, self._plan.port, limit=1 << 22)
        try:
            while (due := await self._pace.next()) < until:
                request = next(self._requests, None)
                if request is None:
                    break
                writer.write(request)
                status = await _read_answer(reader)
                self.answers += 1
                if due >= measured_from:
                    self.latencies.append(time.perf_counter() - due)
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
    until = measured_from + plan.seconds
    if plan.per_second:
        connections = await _run_at_pace(plan, requests, measured_from, until)
    else:
        connections = [_Connection(plan, requests) for _ in range(plan.connections)]
        await asyncio.gather(*(c.run(measured_from, until) for c in connections))
    elapsed = min(time.perf_counter() - measured_from, plan.seconds)
    latencies = sorted(latency * 1000 for c in connections for latency in c.latencies)
    if not latencies:
        raise SystemExit("no answer within the measured time")
    return LoadResult(
        seconds=elapsed,
        failures=sum(c.failures for c in connections),
        latencies_ms=latencies,
        answers=sum(c.answers for c in connections),
    )


async def _run_at_pace(
    plan: LoadPlan, requests: Iterator[bytes], measured_from: float, until: float
) -> list[_Connection]:
    pace = _Pace(plan.per_second)
    connections: list[_Connection] = [_PacedConnection(plan, requests, pace) for _ in range(plan.connections)]
    running = [asyncio.create_task(connection.run(measured_from, until)) for connection in connections]
    await pace.keep(until)
    # A moment for what fell due last; then whoever still waits for its turn stops waiting.
    _, idle = await asyncio.wait(running, timeout=_LAST_ANSWERS_SECONDS)
    for task in idle:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    return connections


def run_in_processes(plan: LoadPlan, processes: int) -> LoadResult:
    """Carry out the plan in other processes, which share its connections and bodies."""
    shares = [
        replace(
            plan,
            connections=max(1, plan.connections // processes),
            part=part,
            parts=processes,
            per_second=plan.per_second / processes,
        )
        for part in range(min(processes, plan.connections))
    ]
    with tempfile.TemporaryDirectory(prefix="tg-load-") as name:
        files = [Path(name) / str(share.part) for share in shares]
        running = [
            subprocess.Popen([sys.executable, "-m", "benchmarks.load", json.dumps(asdict(share)), str(file)])
            for share, file in zip(shares, files, strict=True)
        ]
        codes = [process.wait() for process in running]
        if any(codes):
            raise SystemExit("the load generator failed")
        results = [LoadResult(**json.loads(file.read_text())) for file in files]
    return LoadResult(
        seconds=max(result.seconds for result in results),
        failures=sum(result.failures for result in results),
        latencies_ms=sorted(latency for result in results for latency in result.latencies_ms),
        answers=sum(result.answers for result in results),
    )


if __name__ == "__main__":
    done = uvloop.run(run_plan(LoadPlan(**json.loads(sys.argv[1]))))
    Path(sys.argv[2]).write_text(json.dumps(asdict(done)))
