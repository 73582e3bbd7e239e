"""The embedded PostgreSQL: made once, started with every supervisor, its data kept in `<data dir>/postgres`.

Started by root, the server's own idea of its directory is `/proc/self/cwd`: it is put there before the switch of user,
and so needs no right on the directories above (a private home stays private).
"""

import os
import shutil
import signal
import subprocess
from pathlib import Path
from urllib.parse import quote

import psycopg

from service.db.embedded.account import Account
from service.db.embedded.binaries import POSTGRES_MAJOR, postgres_bundle, runnable_program
from service.db.embedded.child import CHILD_ENVIRONMENT, Engine, start_engine, stop_left_over
from service.db.embedded.failure import EngineFailed

DATABASE = "tallygate"
OWNER = "tallygate"
_START_DEADLINE_SECONDS = 120.0  # recovery of a large write-ahead log after a power cut is read in this time

_CONFIGURATION = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "400",
    "shared_buffers": "256MB",
    "max_wal_size": "2GB",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    # Neither statements nor the rows they fail on: they hold what customers sent.
    "log_error_verbosity": "terse",
    "log_min_error_statement": "panic",
}
_CLUSTER = (
    "--auth-local=trust",  # the socket's directory lets its owner in, and nobody else
    "--auth-host=reject",
    "--encoding=UTF8",
    "--locale=C",
    "--locale-provider=builtin",
    "--builtin-locale=C.UTF-8",
    "--data-checksums",
    "--no-instructions",
)
_FAST_AND_FORGETFUL = {"fsync": "off", "full_page_writes": "off"}


class EmbeddedPostgres:
    """One database cluster below a data directory."""

    def __init__(self, data_dir: Path, sockets: Path, account: Account, *, durable: bool) -> None:
        self._directory = data_dir / "postgres"
        self._log = data_dir / "log" / "postgres.log"
        self._sockets = sockets
        self._account = account
        self._durable = durable
        self._configuration = _CONFIGURATION | ({} if durable else _FAST_AND_FORGETFUL)
        self._program = runnable_program(postgres_bundle(), account, data_dir)

    @property
    def url(self) -> str:
        """Return the address of the database."""
        return self._url_of(DATABASE)

    def start(self) -> Engine:
        """Make the cluster if there is none, stop a server that was left over, start, and wait until it answers."""
        self._refuse_other_major()
        self._make_cluster()
        self._stop_left_over()
        options = [part for name, value in self._configuration.items() for part in ("-c", f"{name}={value}")]
        engine = start_engine(
            "PostgreSQL",
            [self._program, "-D", self._own_name_of(self._directory), "-k", self._sockets, *options],
            account=self._account,
            directory=self._directory,
            log=self._log,
            stop_signal=signal.SIGINT,
        )
        engine.wait_until_ready(self._is_ready, _START_DEADLINE_SECONDS)
        return engine

    def _own_name_of(self, directory: Path) -> str:
        return "/proc/self/cwd" if self._account.switched else str(directory)

    def _url_of(self, database: str) -> str:
        return f"postgresql://{OWNER}@/{database}?host={quote(str(self._sockets), safe='')}"

    def _refuse_other_major(self) -> None:
        version_file = self._directory / "PG_VERSION"
        if not version_file.exists():
            return
        major = version_file.read_text().strip()
        if major == str(POSTGRES_MAJOR):
            return
        programs = self._program.parent
        raise EngineFailed(
            f"{self._directory} was written by PostgreSQL {major}; this Tallygate brings {POSTGRES_MAJOR}. "
            f"Nothing was changed. Move it aside, make a new one and carry the data over, as its owner:\n"
            f"  mv {self._directory} {self._directory}-{major}\n"
            f"  {programs}/initdb -D {self._directory} -U {OWNER} {' '.join(_CLUSTER)}\n"
            f"  {programs}/pg_upgrade -U {OWNER} -d {self._directory}-{major} -D {self._directory} -B {programs} "
            f"-b <directory of the programs of PostgreSQL {major}>"
        )

    def _make_cluster(self) -> None:
        """Make it beside its place and rename it when whole: an interrupted start leaves nothing half-made."""
        if (self._directory / "PG_VERSION").exists():
            return
        if self._directory.exists() and any(self._directory.iterdir()):
            raise EngineFailed(
                f"{self._directory} holds something that is no database: choose another TALLYGATE_DATA_DIR"
            )
        staging = self._directory.with_name("postgres.new")
        if staging.exists():
            shutil.rmtree(staging)
        staging.mkdir(mode=0o700)
        self._account.own(staging)
        self._initdb(staging)
        staging.rename(self._directory)
        _sync_directory(self._directory.parent)

    def _initdb(self, directory: Path) -> None:
        made = subprocess.run(
            [
                *(self._program.with_name("initdb"), "-D", self._own_name_of(directory), "-U", OWNER),
                *_CLUSTER,
                *(() if self._durable else ("--no-sync",)),
            ],
            cwd=directory,
            env=CHILD_ENVIRONMENT,
            check=False,
            capture_output=True,
            text=True,
            **self._account.popen_options(),
        )
        if made.returncode != 0:
            raise EngineFailed(f"initdb could not make {self._directory}:\n{made.stdout[-2000:]}{made.stderr[-2000:]}")

    def _stop_left_over(self) -> None:
        """Whoever holds the lock of the data directory owns its server: one that runs already was left behind."""
        pid_file = self._directory / "postmaster.pid"
        if not pid_file.exists():
            return
        first_line = pid_file.read_text().partition("\n")[0]
        if first_line.isdecimal():
            stop_left_over(int(first_line), "postgres", self._directory, signal.SIGINT)
        # The server would take any living process with this id for itself and refuse to start.
        pid_file.unlink(missing_ok=True)
        (self._sockets / ".s.PGSQL.5432.lock").unlink(missing_ok=True)

    def _is_ready(self) -> bool:
        """Tell whether the server takes connections; make our database on the first one."""
        try:
            connection = psycopg.connect(self._url_of("postgres"), autocommit=True, connect_timeout=5)
        except psycopg.OperationalError:
            return False
        with connection:
            found = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone()
            if found is None:
                connection.execute(psycopg.sql.SQL("CREATE DATABASE {}").format(psycopg.sql.Identifier(DATABASE)))
        return True


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
