"""The price snapshot that is shipped with this version of the program."""

from importlib.resources import files
from typing import Final

_PACKAGE: Final = "service.pricing"
_SNAPSHOT_PATH: Final = ("data", "model_prices.json.gz")


def shipped_snapshot() -> bytes:
    """Return the compressed snapshot."""
    return files(_PACKAGE).joinpath(*_SNAPSHOT_PATH).read_bytes()
