"""Logs, metrics and request ids.

Logs are structlog on standard error, one JSON object per line (readable lines on a terminal), the standard library's
loggers included; see `service/redaction.py` for what never gets into one. Metrics carry no tenant, team or key.
"""

import logging
import os
import re
import sys
from collections.abc import Callable, MutableMapping
from pathlib import Path
from typing import Any

import msgspec
import structlog
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send
from prometheus_client import REGISTRY as PROCESS_REGISTRY
from prometheus_client import CollectorRegistry, Counter, Histogram, multiprocess

from service.kit.clock import monotonic, utc_now
from service.kit.ids import new_id_text
from service.redaction import describe_exception, redact
from service.settings import LogSettings, metrics_directory

_SANE_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:\-]{1,128}")
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_QUIET_ROUTES = frozenset({"/health/live", "/health/ready", "/metrics"})

REQUESTS = Counter("tallygate_http_requests", "HTTP requests answered.", ["method", "route", "status"])
REQUEST_SECONDS = Histogram(
    "tallygate_http_request_seconds",
    "Time from the head of a request to the end of its answer.",
    ["route"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)

_access_log = structlog.get_logger("service.access")

LineWriter = Callable[[dict[str, Any]], None]


def access_line_writer(settings: LogSettings) -> LineWriter | None:
    """Return what writes the line of a request; None when none is wanted.

    Its values are our own and need no search for secrets: as JSON it costs 5 us instead of 50.
    """
    if not settings.access or settings.level in ("warning", "error"):
        return None
    if _as_console(settings):
        return lambda line: _access_log.info("request", **line)

    def write_json(line: dict[str, Any]) -> None:
        head = {"timestamp": utc_now(), "level": "info", "event": "request"}
        sys.stderr.write(f"{msgspec.json.encode(head | line).decode()}\n")

    return write_json


def _as_console(settings: LogSettings) -> bool:
    return settings.format == "console" or (settings.format == "auto" and sys.stderr.isatty())


def configure_logs(settings: LogSettings) -> None:
    """Send structlog and the standard library's loggers to standard error in one form."""
    level = logging.getLevelNamesMapping()[settings.level.upper()]
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _redact_event,
    ]
    as_console = _as_console(settings)
    renderer: structlog.typing.Processor = structlog.dev.ConsoleRenderer() if as_console else _render_json
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    logging.basicConfig(handlers=[handler], level=max(level, logging.INFO), force=True)
    _take_over_server_loggers()


def _take_over_server_loggers() -> None:
    """The HTTP server brings handlers of its own, and says at each start what our own lines say."""
    for name in ("_granian", "granian.access"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
        logger.setLevel(logging.WARNING)
    logging.getLogger("alembic.runtime.plugins").setLevel(logging.WARNING)


def _redact_event(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    error = event.pop("exc_info", None)
    safe = {name: redact(value, name) for name, value in event.items() if name[0] != "_"}
    kept = {name: value for name, value in event.items() if name[0] == "_"}  # the formatter's own
    if error:
        exception = sys.exc_info()[1] if error is True else error[1] if isinstance(error, tuple) else error
        if isinstance(exception, BaseException):
            safe["exception"] = describe_exception(exception)
    return {**safe, **kept}


def _render_json(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> str:
    line = {"timestamp": event.pop("timestamp"), "level": event.pop("level"), "event": event.pop("event"), **event}
    return msgspec.json.encode(line, enc_hook=str).decode()


class RequestObserver:
    """The outermost ASGI layer: gives each request its id, counts it, times it and writes its line."""

    def __init__(self, app: ASGIApp, *, write_line: LineWriter | None) -> None:
        self._app = app
        self._write_line = write_line
        self._metrics: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on; `x-request-id` is taken over when it is sane, made otherwise, and always answered."""
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return
        request_id = _request_id(scope)
        structlog.contextvars.bind_contextvars(request_id=request_id)
        status = 500
        started = monotonic()

        async def send_with_request_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", request_id.encode())]
            await send(message)

        try:
            await self._app(scope, receive, send_with_request_id)
        finally:
            self._observe(scope, request_id, status, monotonic() - started)
            structlog.contextvars.clear_contextvars()

    def _observe(self, scope: Scope, request_id: str, status: int, seconds: float) -> None:
        # The template, never the path: a path holds names of customers and has no end of values.
        route = scope.get("path_template") or "unmatched"
        method = str(scope.get("method", ""))
        if method not in _METHODS:
            method = "other"  # a client can make up any number of names
        count, duration = self._metrics_of(method, route, status)
        count.inc()
        duration.observe(seconds)
        if self._write_line is not None and route not in _QUIET_ROUTES:
            line = {"method": method, "route": route, "status": status, "duration_ms": round(seconds * 1000, 2)}
            self._write_line({"request_id": request_id, **line})

    def _metrics_of(self, method: str, route: str, status: int) -> tuple[Counter, Histogram]:
        """Return what is counted for such a request; looking it up by its labels costs more than counting."""
        known = self._metrics.get((method, route, status))
        if known is None:
            known = REQUESTS.labels(method, route, status), REQUEST_SECONDS.labels(route)
            self._metrics[method, route, status] = known
        return known


def _request_id(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _SANE_REQUEST_ID.fullmatch(value):
            return value.decode("ascii")
    return new_id_text()


def metrics_registry() -> CollectorRegistry:
    """Return what `/metrics` shows: this process, or, where several share the port, all of them together."""
    directory = metrics_directory()
    if directory is None:
        return PROCESS_REGISTRY
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry, path=directory)
    return registry


def forget_ended_processes() -> None:
    """Drop the live gauges of server processes that have ended."""
    directory = metrics_directory()
    if directory is None:
        return
    for metrics_file in Path(directory).glob("*.db"):
        pid = metrics_file.stem.rpartition("_")[2]
        if pid.isdecimal() and not _is_alive(int(pid)):
            multiprocess.mark_process_dead(int(pid), path=directory)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
