"""Starts an embedded engine again that ended by itself (out of memory, killed by somebody)."""

import threading
from types import TracebackType
from typing import Self

import structlog

from service.db.embedded import EmbeddedEngines, EngineFailed

_log = structlog.get_logger(__name__)
_INTERVAL_SECONDS = 1.0


class EngineWatch:
    """A thread that looks after running engines; a context manager that ends before they are stopped."""

    def __init__(self, engines: EmbeddedEngines) -> None:
        self._engines = engines
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="engine-watch", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stopping.wait(_INTERVAL_SECONDS):
            try:
                for name in self._engines.revive():
                    _log.error("embedded_engine_ended", engine=name, action="started again")
            except EngineFailed as error:
                _log.error("embedded_engine_stays_down", reason=error.detail)
