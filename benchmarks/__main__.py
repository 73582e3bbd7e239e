"""`make bench`: starts engines and a server of its own, loads them, and prints each figure beside its floor.

Two cores carry everything, the load generator included: read the ratios, not the figures. The server writes no access
log, as the empty handler does not.
"""

import asyncio
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks import events, floors
from benchmarks.load import LoadPlan, LoadResult, run_in_own_process
from benchmarks.rating import measure_rating
from service.db.embedded import EmbeddedEngines

_TOKEN = "tg_" + "b" * 43
_SECONDS = float(os.environ.get("BENCH_SECONDS", "8"))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def _serving(command: list[str], port: int, path: str, environment: dict[str, str]) -> Iterator[None]:
    process = subprocess.Popen(
        command, env=os.environ | environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=1)
            except urllib.error.HTTPError:
                break
            except OSError:
                if time.monotonic() > deadline or process.poll() is not None:
                    raise
                time.sleep(0.1)
            else:
                break
        yield
    finally:
        process.terminate()
        process.wait(40)


def _post(port: int, path: str, body: object) -> None:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}",
        data=json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {_TOKEN}", "Content-Type": "application/json"},
    )
    urllib.request.urlopen(request, timeout=30).close()  # noqa: S310 - same


def _row(name: str, figure: str, beside: str = "") -> None:
    print(f"{name:<58}{figure:>16}   {beside}", flush=True)


def _beside(name: str, floor: float, figure: float, more: str = "") -> None:
    _row(f"  beside: {name}", f"{floor:,.0f}", f"{figure / floor:.0%} of it{'; ' if more else ''}{more}")


def _load(result: LoadResult) -> str:
    failures = f", {result.failures} FAILED" if result.failures else ""
    return f"p50 {result.p50_ms:.2f} ms, p99 {result.p99_ms:.2f} ms{failures}"


async def _measure(port: int, empty_port: int, database_url: str, directory: Path) -> None:
    def plan(path: str, file: Path, connections: int, at: int = port) -> LoadPlan:
        return LoadPlan("127.0.0.1", at, path, _TOKEN, str(file), connections, 2.0, _SECONDS)

    hundreds, singles, checks = directory / "hundreds", directory / "singles", directory / "checks"
    budget = int(_SECONDS + 3)
    events.write_bodies(hundreds, bodies=80 * budget, events_per_body=100, now=time.time(), seed=1)
    events.write_bodies(singles, bodies=3_000 * budget, events_per_body=1, now=time.time(), seed=2)
    events.write_checks(checks, bodies=20_000 * budget, seed=3)

    print(f"\nIngest, durable, end to end over HTTP ({_SECONDS:.0f} s each, four budgets per event)")
    by_hundred = await run_in_own_process(plan("/v1/events?results=none", hundreds, 8))
    empty_hundred = await run_in_own_process(plan("/empty", hundreds, 8, empty_port))
    by_one = await run_in_own_process(plan("/v1/events", singles, 64))
    empty_one = await run_in_own_process(plan("/empty", singles, 64, empty_port))
    copied = floors.copy_rows_per_second(database_url, 20_000)
    bare = {
        size: await floors.batch_statement_per_second(database_url, batch=size, batches=count)
        for size, count in ((100, 60), (500, 12))
    }
    rate = by_hundred.per_second * 100
    _row("events/s in batches of 100, 8 connections", f"{rate:,.0f}", _load(by_hundred))
    _beside("bare batch statement, 100 events", bare[100], rate)
    _beside("bare batch statement, 500 events", bare[500], rate)
    _beside("raw COPY of the same rows", copied, rate)
    _beside("empty handler, the same bodies", empty_hundred.per_second * 100, rate)
    _row("events/s singly, 64 connections", f"{by_one.per_second:,.0f}", _load(by_one))
    _beside("empty handler, the same bodies", empty_one.per_second, by_one.per_second)

    print("\nChecks with holds, four budgets each")
    checked = await run_in_own_process(plan("/v1/check", checks, 64))
    empty = await run_in_own_process(plan("/empty", checks, 64, empty_port))
    alone = await run_in_own_process(plan("/v1/check", checks, 1))
    empty_alone = await run_in_own_process(plan("/empty", checks, 1, empty_port))
    _row("checks/s, 64 connections", f"{checked.per_second:,.0f}", _load(checked))
    _beside("empty handler, the same bodies", empty.per_second, checked.per_second, _load(empty))
    _row("checks/s, one at a time", f"{alone.per_second:,.0f}", _load(alone))
    _beside("empty handler, the same bodies", empty_alone.per_second, alone.per_second, _load(empty_alone))

    print("\nRating, pure, per event")
    for figure in measure_rating():
        _row(figure.case, f"{figure.median_us:.1f} us", f"best of rounds {figure.best_us:.1f} us")


def main() -> None:
    """Run everything once."""
    port, empty_port = _free_port(), _free_port()
    with tempfile.TemporaryDirectory(prefix="tg-bench-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        environment = {
            "TALLYGATE_DATA_DIR": str(directory / "data"),
            "TALLYGATE_PORT": str(port),
            "TALLYGATE_ADMIN_TOKEN": _TOKEN,
            "TALLYGATE_LOG_ACCESS": "false",
        }
        server = [sys.executable, "-m", "service.cli", "serve"]
        empty = [sys.executable, "-m", "benchmarks.empty_handler", str(empty_port)]
        with (
            _serving(server, port, "/health/ready", environment),
            _serving(empty, empty_port, "/", {}),
        ):
            running = EmbeddedEngines.running_urls(directory / "data")
            assert running is not None
            assert running.database_url is not None
            for body in events.budget_bodies():
                _post(port, "/v1/budgets", body)
            asyncio.run(_measure(port, empty_port, running.database_url, directory))


if __name__ == "__main__":
    main()
