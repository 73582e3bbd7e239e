"""A real `tallygate serve` on engines of the test session: started, watched, terminated, killed."""

import os
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import httpx
import psutil

from service.kit.ids import new_id
from tests.faults.waiting import until

OPERATOR_TOKEN = "operator-of-the-fault-tests"
READY_SECONDS = 60.0
_ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Ground:
    """What all servers of a test run stand on: one database, one logical Redis database, a directory for logs."""

    database_url: str
    redis_url: str
    directory: Path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class ServerProcess:
    """One server: a supervisor and its worker, in a process group of their own."""

    def __init__(self, ground: Ground, *, module: str = "tests.faults.watched_server", **variables: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._ground = ground
        self._module = module
        self._variables = variables
        self._home = ground.directory / f"server-{self.port}-{new_id().hex[-8:]}"
        self._home.mkdir()
        self._log = self._home / "log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("TALLYGATE_")}
        environment |= {
            "TALLYGATE_DATABASE_URL": self._ground.database_url,
            "TALLYGATE_DATABASE_POOL_MAX_CONNECTIONS": "6",
            "TALLYGATE_REDIS_URL": self._ground.redis_url,
            "TALLYGATE_DATA_DIR": str(self._home / "unused"),
            "TALLYGATE_PORT": str(self.port),
            "TALLYGATE_ADMIN_TOKEN": OPERATOR_TOKEN,
            "TALLYGATE_LOG_ACCESS": "false",
            # What is promised exactly is promised while the counters answer in time, and these machines are busy.
            "TALLYGATE_CHECK_DEADLINE_MS": "5000",
            # Receivers of webhooks are on this machine.
            "TALLYGATE_ALERTS_ALLOW_PRIVATE_ADDRESSES": "true",
            "PYTHONPATH": str(_ROOT),
            "TEST_RUN_PID": str(os.getpid()),
        }
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", self._module, "serve"],
                env=environment | self._variables,
                cwd=self._home,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return self

    async def ready(self) -> Self:
        """Wait until the server says that it is ready."""
        async with httpx.AsyncClient(timeout=5) as client:

            async def answers() -> bool:
                assert self.is_running, self.log()
                try:
                    return (await client.get(f"{self.url}/health/ready")).status_code == httpx.codes.OK
                except httpx.TransportError:
                    return False

            await until(answers, "the server is ready", deadline_seconds=READY_SECONDS, pause=0.05)
        return self

    @property
    def is_running(self) -> bool:
        """Tell whether the supervisor lives."""
        return self._started.poll() is None

    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def kill(self) -> None:
        """End every process of the server at once, as a lost machine or an out-of-memory kill does."""
        if self.is_running:
            os.killpg(self._started.pid, signal.SIGKILL)
        self._started.wait()

    def terminate(self) -> None:
        """Ask the server to drain and end, as an orchestrator does."""
        self._started.send_signal(signal.SIGTERM)

    def exit_code(self) -> int | None:
        return self._started.poll()

    async def ended(self, deadline_seconds: float) -> float:
        """Wait for the end of every process of the server, and return the seconds it took."""
        return await until(lambda: not self.processes(), "the server has ended", deadline_seconds=deadline_seconds)

    def processes(self) -> list[psutil.Process]:
        """Return what runs of the server, its workers included."""
        found = []
        self._started.poll()
        for process in psutil.process_iter(["pid"]):
            try:
                if os.getpgid(process.pid) == self._started.pid and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except (ProcessLookupError, psutil.NoSuchProcess):
                continue
        return found

    @property
    def _started(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "the server was not started"
        return self._process
