"""Starts the embedded engines of one data directory, keeps them running, and stops them; one supervisor at a time.

Use it from a thread that lives as long as the engines shall: the kernel stops them when that thread ends.
"""

import fcntl
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from service.db.embedded.account import engine_account
from service.db.embedded.child import Engine
from service.db.embedded.failure import EngineFailed
from service.db.embedded.postgres import EmbeddedPostgres
from service.db.embedded.sockets import socket_directory
from service.db.embedded.valkey import EmbeddedValkey


@dataclass(frozen=True, slots=True)
class EngineUrls:
    """Addresses of the engines that run embedded; None for one that is external."""

    database_url: str | None
    redis_url: str | None


class _Startable(Protocol):
    @property
    def url(self) -> str: ...

    def start(self) -> Engine: ...


class EmbeddedEngines:
    """PostgreSQL and Valkey below a data directory. A context manager: what it started it stops."""

    def __init__(
        self, data_dir: Path, *, with_postgres: bool = True, with_valkey: bool = True, durable: bool = True
    ) -> None:
        """`durable=False` skips fsync, for tests: survives a killed process, not a power cut."""
        self._data_dir = data_dir.absolute().resolve()
        self._with_postgres = with_postgres
        self._with_valkey = with_valkey
        self._durable = durable
        self._lock: int | None = None
        self._sockets: Path | None = None
        self._startable: dict[str, _Startable] = {}
        self._running: dict[str, Engine] = {}

    def start(self) -> EngineUrls:
        """Start the engines; raise `EngineFailed` when they cannot be, or when another supervisor has them."""
        self._make_data_dir()
        self._take_lock()
        try:
            return self._start_engines()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop what was started, Valkey first, and let the next supervisor in."""
        for name in reversed(list(self._running)):
            self._running.pop(name).stop()
        if self._lock is None:
            return
        self._urls_file.unlink(missing_ok=True)
        if self._sockets is not None and self._sockets.parent != self._data_dir and not any(self._sockets.iterdir()):
            self._sockets.rmdir()
        os.close(self._lock)
        self._lock = None

    def revive(self) -> list[str]:
        """Start again what has ended by itself; return the names."""
        ended = [name for name, engine in self._running.items() if not engine.is_running()]
        for name in ended:
            self._running[name] = self._startable[name].start()
        return ended

    def pids(self) -> dict[str, int]:
        """Return the process ids of the running engines."""
        return {name: engine.pid for name, engine in self._running.items()}

    @staticmethod
    def running_urls(data_dir: Path) -> EngineUrls | None:
        """Return the addresses when another supervisor runs engines here, None when none does."""
        try:
            descriptor = os.open(data_dir / "supervisor.lock", os.O_RDWR)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            urls = data_dir / "engines.json"
            return EngineUrls(**json.loads(urls.read_text())) if urls.exists() else None
        finally:
            os.close(descriptor)
        return None

    @staticmethod
    def has_database(data_dir: Path) -> bool:
        """Tell whether a database of earlier is kept here."""
        return (data_dir / "postgres" / "PG_VERSION").exists()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def urls(self) -> EngineUrls:
        """Return the addresses of the engines."""
        postgres, valkey = self._startable.get("postgres"), self._startable.get("valkey")
        return EngineUrls(postgres.url if postgres else None, valkey.url if valkey else None)

    @property
    def _urls_file(self) -> Path:
        return self._data_dir / "engines.json"

    def _make_data_dir(self) -> None:
        try:
            self._data_dir.mkdir(parents=True, exist_ok=True)
            (self._data_dir / "log").mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise EngineFailed(
                f"{self._data_dir} cannot be made ({error.strerror}): choose another TALLYGATE_DATA_DIR"
            ) from error

    def _take_lock(self) -> None:
        descriptor = os.open(self._data_dir / "supervisor.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.read(descriptor, 32).decode().strip()
            os.close(descriptor)
            raise EngineFailed(
                f"process {owner} runs the engines in {self._data_dir} already: stop it, or choose another "
                "TALLYGATE_DATA_DIR"
            ) from None
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        self._lock = descriptor

    def _start_engines(self) -> EngineUrls:
        account = engine_account(self._data_dir / "postgres")
        self._sockets = socket_directory(self._data_dir, account)
        if self._with_postgres:
            self._startable["postgres"] = EmbeddedPostgres(
                self._data_dir, self._sockets, account, durable=self._durable
            )
        if self._with_valkey:
            self._startable["valkey"] = EmbeddedValkey(self._data_dir, self._sockets, account)
        for name, startable in self._startable.items():
            self._running[name] = startable.start()
        self._urls_file.write_text(json.dumps(asdict(self.urls)))
        return self.urls
