"""A server with engines, budgets and a history of its own, beside an empty handler served the same way."""

import json
import os
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import events
from benchmarks.load import LoadPlan, LoadResult, run_in_processes
from benchmarks.serving import TOKEN, free_port, serving
from service.db.embedded import EmbeddedEngines

SECONDS = float(os.environ.get("BENCH_SECONDS", "8"))
WARM_UP_SECONDS = 2.0
# Bodies are made for the measured time, the warm-up and some more.
SECONDS_OF_BODIES = int(SECONDS + WARM_UP_SECONDS + 1)


@dataclass(frozen=True)
class Stage:
    """Where to send, and where the engines are."""

    port: int
    empty_port: int
    process_id: int
    processes: int
    database_url: str
    redis_url: str
    directory: Path

    def load(self, path: str, bodies: Path, connections: int) -> LoadResult:
        """Load the server with the bodies."""
        return self._load(self.port, path, bodies, connections)

    def load_empty(self, bodies: Path, connections: int) -> LoadResult:
        """Load the empty handler with the same bodies."""
        return self._load(self.empty_port, "/empty", bodies, connections)

    def _load(self, port: int, path: str, bodies: Path, connections: int) -> LoadResult:
        plan = LoadPlan("127.0.0.1", port, path, TOKEN, str(bodies), connections, WARM_UP_SECONDS, SECONDS)
        return run_in_processes(plan, self.processes)

    def post(self, path: str, body: object) -> Any:
        """Post a document to the server and return the answer."""
        return json.loads(_post(self.port, path, json.dumps(body).encode()))


def numbers_of_processes() -> list[int]:
    """Return how many server processes to measure with: two only where they, the load and the engines have room."""
    return [1, 2] if (os.cpu_count() or 1) >= 4 else [1]


@contextmanager
def empty_handler(processes: int, answer_bytes: int) -> Iterator[tuple[int, int]]:
    """Serve an empty handler with an answer of that size; yields its port and process id."""
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.empty_handler", str(port), str(processes), str(answer_bytes)]
    with serving(command, port, "/", {}) as process_id:
        yield port, process_id


@contextmanager
def stage(processes: int, budgets: Sequence[dict[str, Any]] | None = None) -> Iterator[Stage]:
    """Set everything up for the block: budgets (four by default), and events from which every key is known."""
    port, empty_port = free_port(), free_port()
    with tempfile.TemporaryDirectory(prefix="tg-bench-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        environment = {
            "TALLYGATE_DATA_DIR": str(directory / "data"),
            "TALLYGATE_PORT": str(port),
            "TALLYGATE_PROCESSES": str(processes),
            "TALLYGATE_ADMIN_TOKEN": TOKEN,
            "TALLYGATE_LOG_ACCESS": "false",
        }
        server = [sys.executable, "-m", "service.cli", "serve"]
        empty = [sys.executable, "-m", "benchmarks.empty_handler", str(empty_port), str(processes)]
        with (
            serving(server, port, "/health/ready", environment) as process_id,
            serving(empty, empty_port, "/", {}),
        ):
            running = EmbeddedEngines.running_urls(directory / "data")
            assert running is not None
            assert running.database_url is not None
            assert running.redis_url is not None
            for body in events.budget_bodies() if budgets is None else budgets:
                _post(port, "/v1/budgets", json.dumps(body).encode())
            history = directory / "history"
            events.write_bodies(history, bodies=20, events_per_body=100, now=time.time(), seed=0)
            for line in history.read_bytes().splitlines():
                _post(port, "/v1/events?results=none", line)
            yield Stage(port, empty_port, process_id, processes, running.database_url, running.redis_url, directory)


def _post(port: int, path: str, body: bytes) -> bytes:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}",
        data=body,
        headers={"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 - an address of our own
        content: bytes = answer.read()
    return content
