"""One engine process: started so that it ends with us, stopped politely first, found again when it was left over."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from time import sleep

from service.db.embedded.account import Account
from service.db.embedded.failure import EngineFailed
from service.kit.clock import monotonic
from service.kit.parent import end_with_parent

_POLL_SECONDS = 0.01
_LOG_KEPT_BYTES = 16 * 1024 * 1024
# Nothing of our own environment (addresses, tokens) is the engines' business.
CHILD_ENVIRONMENT = {"LC_ALL": "C", "TZ": "UTC", "PATH": "/usr/bin:/bin"}


class Engine:
    """A running engine and the log it writes to."""

    def __init__(self, name: str, process: "subprocess.Popen[bytes]", log: Path, stop_signal: signal.Signals) -> None:
        self.name = name
        self.log = log
        self._process = process
        self._stop_signal = stop_signal

    @property
    def pid(self) -> int:
        """Return the id of the engine's process."""
        return self._process.pid

    def is_running(self) -> bool:
        """Tell whether the process lives."""
        return self._process.poll() is None

    def wait_until_ready(self, is_ready: Callable[[], bool], deadline_seconds: float) -> None:
        """Wait until the engine answers; raise with the end of its log when it ends or the time is up."""
        deadline = monotonic() + deadline_seconds
        while not is_ready():
            if not self.is_running():
                raise EngineFailed(f"embedded {self.name} ended at start:\n{log_tail(self.log)}")
            if monotonic() > deadline:
                self.stop()
                raise EngineFailed(
                    f"embedded {self.name} did not answer within {deadline_seconds:.0f} s:\n{log_tail(self.log)}"
                )
            sleep(_POLL_SECONDS)

    def stop(self, patience_seconds: float = 20) -> None:
        """End the process: politely, then quickly, then for certain."""
        for stop_signal in (self._stop_signal, signal.SIGQUIT, signal.SIGKILL):
            if not self.is_running():
                return
            self._process.send_signal(stop_signal)
            try:
                self._process.wait(patience_seconds)
            except subprocess.TimeoutExpired:
                continue


def start_engine(
    name: str,
    command: Sequence[str | Path],
    *,
    account: Account,
    directory: Path,
    log: Path,
    stop_signal: signal.Signals,
) -> Engine:
    """Start a child in its own session (Ctrl-C is for us, we stop it) that the kernel stops when this thread ends."""
    _rotate(log)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        process = subprocess.Popen(
            [str(part) for part in command],
            cwd=directory,
            env=CHILD_ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            stdout=descriptor,
            stderr=descriptor,
            start_new_session=True,
            # Called after the switch of user, which would clear it.
            preexec_fn=partial(end_with_parent, stop_signal, os.getpid()),  # noqa: PLW1509 - two system calls
            **account.popen_options(),
        )
    finally:
        os.close(descriptor)
    return Engine(name, process, log, stop_signal)


def stop_left_over(pid: int, program: str, directory: Path, stop_signal: signal.Signals) -> None:
    """Stop an engine that outlived its supervisor, once it is certain that `pid` is one (ids are used again)."""
    if not _is_engine(pid, program, directory):
        return
    for next_signal in (stop_signal, signal.SIGQUIT, signal.SIGKILL):
        os.kill(pid, next_signal)
        deadline = monotonic() + 20
        while _is_engine(pid, program, directory):
            if monotonic() > deadline:
                break
            sleep(_POLL_SECONDS)
        else:
            return
    raise EngineFailed(f"process {pid} is a {program} on {directory} that cannot be stopped: stop it and start again")


def log_tail(log: Path, lines: int = 12) -> str:
    """Return the last lines an engine wrote."""
    if not log.exists():
        return "(no log)"
    with log.open("rb") as stream:
        stream.seek(max(0, log.stat().st_size - 8192))
        return "\n".join(stream.read().decode(errors="replace").splitlines()[-lines:])


def _is_engine(pid: int, program: str, directory: Path) -> bool:
    if sys.platform != "linux":
        return _is_engine_by_ps(pid, program, directory)
    try:
        name = Path(f"/proc/{pid}/comm").read_text().strip()
        return name == program and Path(f"/proc/{pid}/cwd").readlink() == directory
    except OSError:
        return False


def _is_engine_by_ps(pid: int, program: str, directory: Path) -> bool:
    listed = subprocess.run(["ps", "-o", "command=", "-p", str(pid)], check=False, capture_output=True, text=True)
    return program in listed.stdout and str(directory) in listed.stdout


def _rotate(log: Path) -> None:
    if log.exists() and log.stat().st_size > _LOG_KEPT_BYTES:
        log.replace(log.with_suffix(".log.1"))
