"""Starts a server of the benchmarks' own, waits until it answers, and stops it."""

import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

TOKEN = "tg_" + "b" * 43


def free_port() -> int:
    """Return a port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def processor_seconds(process_id: int) -> float:
    """Return the processor time a server took until now: that of its Python processes, not of engines it started."""
    place = Path(f"/proc/{process_id}")
    if b"python" not in place.joinpath("cmdline").read_bytes().partition(b"\0")[0]:
        return 0.0
    figures = place.joinpath("stat").read_text().rpartition(")")[2].split()
    own = (int(figures[11]) + int(figures[12])) / os.sysconf("SC_CLK_TCK")
    children = place.joinpath("task", str(process_id), "children").read_text().split()
    return own + sum(processor_seconds(int(child)) for child in children)


@contextmanager
def serving(command: list[str], port: int, path: str, environment: dict[str, str]) -> Iterator[int]:
    """Run a server while the block runs; yields its process id."""
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
        yield process.pid
    finally:
        process.terminate()
        process.wait(40)
