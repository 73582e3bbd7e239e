"""`tallygate serve` as a person or an orchestrator runs it: a real process with engines of its own."""

import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from time import sleep
from typing import Self

import httpx
import psutil
import psycopg
import pytest

from service.db import migrator
from service.db.embedded import EmbeddedEngines
from service.kit.clock import monotonic

pytestmark = pytest.mark.embedded


def wait_until(condition: Callable[[], bool], what: str, deadline_seconds: float = 60) -> None:
    deadline = monotonic() + deadline_seconds
    while not condition():
        assert monotonic() < deadline, f"not within {deadline_seconds:.0f} s: {what}"
        sleep(0.02)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """One `tallygate serve`; everything it started is remembered, so that nothing can be left behind unseen."""

    def __init__(self, data_dir: Path, *options: str, port: int | None = None, **variables: str) -> None:
        self.data_dir = data_dir
        self.port = port or free_port()
        self.output = data_dir.with_name(f"{data_dir.name}.out")
        environment = {name: value for name, value in os.environ.items() if not name.startswith("TALLYGATE_")}
        environment |= {"TALLYGATE_DATA_DIR": str(data_dir), "TALLYGATE_PORT": str(self.port)} | variables
        with self.output.open("w") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "service.cli", "serve", *options],
                env=environment,
                cwd=data_dir.parent,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._seen: set[psutil.Process] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        wait_until(lambda: not self.running(), "everything the server started has ended")

    def ready(self) -> Self:
        wait_until(lambda: self.answers("/health/ready", 200), f"the server is ready:\n{self.text()}")
        wait_until(lambda: "is ready on" in self.text(), "the server says so")
        self._seen |= {psutil.Process(self.process.pid), *psutil.Process(self.process.pid).children(recursive=True)}
        return self

    def workers(self) -> set[int]:
        found = set()
        for child in psutil.Process(self.process.pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess):  # ended meanwhile
                if "spawn_main" in " ".join(child.cmdline()):
                    found.add(child.pid)
        return found

    def running(self) -> list[psutil.Process]:
        return [one for one in self._seen if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]

    def text(self) -> str:
        return self.output.read_text()

    def get(self, path: str) -> httpx.Response:
        return httpx.get(f"http://127.0.0.1:{self.port}{path}", timeout=10)

    def answers(self, path: str, status: int) -> bool:
        assert self.process.poll() is None, self.text()
        try:
            return self.get(path).status_code == status
        except httpx.TransportError:
            return False

    def accepts(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=5).close()
        except OSError:
            return False
        return True

    def database_url(self) -> str:
        urls = EmbeddedEngines.running_urls(self.data_dir)
        assert urls is not None
        assert urls.database_url is not None
        return urls.database_url


@pytest.fixture
def data_dir() -> Iterator[Path]:
    home = Path(tempfile.mkdtemp(prefix="tg-serve-"))
    home.chmod(0o711)  # sockets below it: a killed server leaves nothing elsewhere
    yield home / ".tallygate"
    shutil.rmtree(home)


def test_start_says_where_everything_is_and_ctrl_c_leaves_nothing_running(data_dir: Path):
    with Server(data_dir) as server:
        server.ready()
        token_file = data_dir / "admin-token"
        assert f"http://127.0.0.1:{server.port}" in server.text()
        assert str(token_file) in server.text()
        assert "/v1/events" in server.text()
        assert stat.S_IMODE(token_file.stat().st_mode) == 0o600
        assert token_file.read_text().strip() not in server.text()
        assert len(server.running()) >= 4  # supervisor, worker, PostgreSQL, Valkey
        os.killpg(server.process.pid, signal.SIGINT)  # what a terminal does
        assert server.process.wait(30) == 0, server.text()
        # Python's own tracker of shared memory notices a moment later that it is alone.
        wait_until(lambda: server.running() == [], "nothing is left running", 5)


def test_killed_server_recovers_at_the_next_start_with_its_data_and_token(data_dir: Path):
    with Server(data_dir) as server:
        server.ready()
        token = (data_dir / "admin-token").read_text()
        with psycopg.connect(server.database_url()) as connection:
            connection.execute("CREATE TABLE remembered AS SELECT 'kept' AS word")
        server.process.kill()
        wait_until(lambda: not server.running(), "engines and workers end with their supervisor")
    with Server(data_dir, port=server.port) as again:
        again.ready()
        with psycopg.connect(again.database_url()) as connection:
            assert connection.execute("SELECT word FROM remembered").fetchone() == ("kept",)
        assert (data_dir / "admin-token").read_text() == token
        again.process.terminate()
        assert again.process.wait(30) == 0


def test_several_processes_share_the_port_and_a_crashed_one_is_started_again(data_dir: Path):
    with Server(data_dir, "--processes", "2") as server:
        server.ready()
        wait_until(lambda: len(server.workers()) == 2, "two processes serve")
        before = server.workers()
        victim = min(before)
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: len(server.workers() - before) == 1, "another process takes its place")
        server.ready()
        metrics = server.get("/metrics").text
        assert "tallygate_http_requests_total" in metrics
        server.process.terminate()
        assert server.process.wait(30) == 0, server.text()
        # Python's own tracker of shared memory notices a moment later that it is alone.
        wait_until(lambda: server.running() == [], "nothing is left running", 5)


def test_ended_engine_comes_back_while_the_server_runs(data_dir: Path):
    with Server(data_dir) as server:
        server.ready()
        (valkey,) = [one for one in server.running() if one.name() == "valkey-server"]
        valkey.kill()
        wait_until(lambda: "embedded_engine_ended" in server.text(), "the supervisor notices")
        server.ready()


def test_taken_port_is_refused_before_anything_is_started(data_dir: Path):
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)  # as another server of ours would
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with Server(data_dir, port=taken.getsockname()[1]) as server:
            assert server.process.wait(30) == 1
            assert "TALLYGATE_PORT" in server.text()
            assert not data_dir.exists()


def test_wrong_setting_ends_the_command_with_its_name():
    environment = {**os.environ, "TALLYGATE_PORT": "99999"}
    ended = subprocess.run(
        [sys.executable, "-m", "service.cli", "serve"], env=environment, check=False, capture_output=True, text=True
    )
    assert ended.returncode == 1
    assert "port" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_log_lines_are_json_and_carry_no_token(data_dir: Path):
    with Server(data_dir) as server:
        server.ready()
        secret = "tg_" + "s" * 40
        httpx.get(
            f"http://127.0.0.1:{server.port}/v1/none?token={secret}",
            headers={"authorization": f"Bearer {secret}", "x-request-id": "find-me"},
        )
        wait_until(lambda: "find-me" in server.text(), "the request has its line")
        (line,) = [json.loads(line) for line in server.text().splitlines() if "find-me" in line]
        assert line["status"] == 404
        assert secret not in server.text()


def test_server_starts_without_its_external_engines_and_says_what_it_waits_for(data_dir: Path):
    nowhere = {
        "TALLYGATE_DATABASE_URL": "postgresql://somebody:hunter2@127.0.0.1:1/x",
        "TALLYGATE_REDIS_URL": "redis://127.0.0.1:1",
        "TALLYGATE_DATABASE_POOL_WAIT_MS": "100",
    }
    with Server(data_dir, **nowhere) as server:
        wait_until(lambda: server.answers("/health/live", 200), f"the server lives:\n{server.text()}")
        assert server.answers("/health/ready", 503)
        server.process.terminate()
        assert server.process.wait(30) == 0
        assert "hunter2" not in server.text()
        assert not data_dir.exists()


def test_first_token_comes_with_the_external_database(data_dir: Path, empty_database_url: str, redis_url: str):
    external = {
        "TALLYGATE_DATABASE_URL": empty_database_url,
        "TALLYGATE_REDIS_URL": redis_url,
        "TALLYGATE_ADMIN_TOKEN": "a-token-of-the-operator-0123456789",
    }
    with Server(data_dir, **external) as server:
        wait_until(lambda: server.answers("/health/ready", 503), "an unmigrated database is no ready one")
        migrator.upgrade(empty_database_url)
        server.ready()
        with psycopg.connect(empty_database_url) as connection:
            row = connection.execute("SELECT count(*) FROM access_token WHERE is_bootstrap").fetchone()
        assert row == (1,)
        assert external["TALLYGATE_ADMIN_TOKEN"] not in server.text()


def test_command_without_its_database_ends_with_one_line():
    environment = {
        **os.environ,
        "TALLYGATE_DATABASE_URL": "postgresql://somebody:hunter2@127.0.0.1:1/x",
        "TALLYGATE_REDIS_URL": "redis://127.0.0.1:1",
    }
    ended = subprocess.run(
        [sys.executable, "-m", "service.cli", "migrate"], env=environment, check=False, capture_output=True, text=True
    )
    assert ended.returncode == 1
    assert len(ended.stderr.splitlines()) == 1
    assert "hunter2" not in ended.stderr


@pytest.mark.parametrize("command", [("budgets", "export"), ("tenants", "list"), ("check-drift",)])
def test_a_command_makes_no_database_where_none_is(data_dir: Path, command: tuple[str, ...]):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TALLYGATE_")}
    ended = subprocess.run(
        [sys.executable, "-m", "service.cli", *command],
        env=environment,
        cwd=data_dir.parent,
        check=False,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 1
    assert f"There is no database in {data_dir}. " in ended.stderr
    assert "TALLYGATE_DATABASE_URL" in ended.stderr
    assert not data_dir.exists()


def test_request_in_flight_is_answered_before_the_server_ends(data_dir: Path):
    with Server(data_dir) as server:
        server.ready()
        body = b"[null, null]"
        head = (
            "POST /v1/events HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\n"
            f"authorization: Bearer {(data_dir / 'admin-token').read_text().strip()}\r\n\r\n"
        )
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as client:
            client.sendall(head.encode() + body[:5])
            # Another answer on the same loop: by then the first request is under way.
            assert server.answers("/health/live", 200)
            server.process.terminate()
            wait_until(lambda: not server.accepts(), "no new connection is taken", 10)
            client.sendall(body[5:])
            answer = client.recv(65536)
        assert answer.startswith(b"HTTP/1.1 200"), answer
        assert server.process.wait(30) == 0, server.text()
