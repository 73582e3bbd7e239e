"""The one exception of the embedded engines; its text says what was refused and what to do."""

from service.errors import TallygateError


class EngineFailed(TallygateError):
    """An embedded engine could not be started."""

    code = "embedded_engine_failed"
