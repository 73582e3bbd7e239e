"""The embedded Valkey. It keeps nothing on disk: everything in it is a copy that is made again from PostgreSQL."""

import signal
from pathlib import Path
from urllib.parse import quote

import redis

from service.db.embedded.account import Account
from service.db.embedded.binaries import runnable_program, valkey_bundle
from service.db.embedded.child import Engine, start_engine, stop_left_over

_START_DEADLINE_SECONDS = 20.0
_DATABASES = 64


class EmbeddedValkey:
    """One server without persistence."""

    def __init__(self, data_dir: Path, sockets: Path, account: Account) -> None:
        self._directory = data_dir / "valkey"
        self._log = data_dir / "log" / "valkey.log"
        self._socket = sockets / "valkey.sock"
        self._account = account
        self._program = runnable_program(valkey_bundle(), account, data_dir)

    @property
    def url(self) -> str:
        """Return the address of the server."""
        return f"unix://{quote(str(self._socket))}"

    def start(self) -> Engine:
        """Stop a server that was left over, start, and wait until it answers."""
        self._directory.mkdir(mode=0o700, exist_ok=True)
        self._account.own(self._directory)
        pid_file = self._directory / "valkey.pid"
        if pid_file.exists():
            stop_left_over(int(pid_file.read_text().strip() or 0), "valkey-server", self._directory, signal.SIGTERM)
            pid_file.unlink(missing_ok=True)
        self._socket.unlink(missing_ok=True)
        engine = start_engine(
            "Valkey",
            [self._program, *self._options()],
            account=self._account,
            directory=self._directory,
            log=self._log,
            stop_signal=signal.SIGTERM,
        )
        engine.wait_until_ready(self._is_ready, _START_DEADLINE_SECONDS)
        return engine

    def _options(self) -> list[str]:
        options = {
            "port": "0",
            "unixsocket": str(self._socket),
            "unixsocketperm": "700",
            "save": "",
            "appendonly": "no",
            # An evicted counter would look like a fresh one, an evicted hold would let money through.
            "maxmemory-policy": "noeviction",
            "databases": str(_DATABASES),
            "dir": ".",
            "pidfile": "valkey.pid",
        }
        return [part for name, value in options.items() for part in (f"--{name}", value)]

    def _is_ready(self) -> bool:
        try:
            with redis.Redis.from_url(self.url, socket_timeout=5) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False
