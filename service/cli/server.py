"""The server processes behind one port: granian starts them, starts a crashed one again, and stops them in order.

Each is one event loop with pools, batches and metrics of its own. On Linux each binds the port itself (SO_REUSEPORT).
"""

import multiprocessing
import os
import signal
import socket
from functools import partial

from granian import Granian
from granian.constants import Interfaces, Loops
from litestar import Litestar

from service.errors import TallygateError
from service.kit.memory import settle
from service.kit.parent import end_with_parent
from service.observability import configure_logs
from service.settings import HttpSettings, LogSettings

# From the end of the drain to the end of the process: closing pools, writing the last metrics.
_CLOSING_SECONDS = 2


class AddressTaken(TallygateError):
    """Somebody listens there already."""

    code = "address_taken"


def refuse_taken_port(settings: HttpSettings) -> None:
    """Raise when the address cannot be had: SO_REUSEPORT would silently share it with another server of ours."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise AddressTaken(
            f"cannot listen on {settings.host}:{settings.port} ({error.strerror or error}): stop what is there, or set "
            "TALLYGATE_HOST or TALLYGATE_PORT"
        ) from error


def serve_until_stopped(settings: HttpSettings, logs: LogSettings) -> None:
    """Serve until SIGINT or SIGTERM; return when every process has drained and ended."""
    # A forked process would inherit the lock of the data directory and hold it beyond our end.
    multiprocessing.set_start_method("spawn", force=True)
    server = Granian(
        "service.app:create_app",
        address=_numeric_address(settings),
        port=settings.port,
        interface=Interfaces.ASGI,
        loop=Loops.uvloop,
        workers=settings.processes,
        websockets=False,
        respawn_failed_workers=True,
        workers_kill_timeout=settings.drain_timeout_seconds + _CLOSING_SECONDS,
    )
    configure_logs(logs)  # granian has just put up handlers of its own
    server.serve(target_loader=partial(_load_app, os.getpid()), wrap_loader=False)


def _load_app(parent_pid: int) -> Litestar:
    """Make the application of one server process; called in that process."""
    end_with_parent(signal.SIGTERM, parent_pid)
    from service.app import create_app  # noqa: PLC0415 - the process that only supervises does without it

    app = create_app()
    app.on_startup.append(settle)  # runs when the pools are open and the prices are loaded
    return app


def _numeric_address(settings: HttpSettings) -> str:
    found = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return str(found[0][4][0])
