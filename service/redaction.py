"""Keeps secrets and customers' texts out of logs: names that are never written, patterns cut from any text, and
exceptions told by type, the first line of their message and places in the code. Pure.
"""

import re
import traceback
from collections.abc import Mapping
from functools import lru_cache
from types import TracebackType
from typing import Any

REDACTED = "[redacted]"

_SECRET_NAMES = re.compile(
    r"authorization|cookie|passw|secret|token$|api_?key|credential"
    r"|^(prompt|prompts|messages|response|content|body|payload|headers|input|output|database_url|redis_url)$",
    re.IGNORECASE,
)
_SECRET_TEXTS = re.compile(
    r"(?P<kept>\b(?:Bearer|Basic)\s+|://[^\s:/@]*:)[^\s@,;'\"]+|\b(?:tg_|sk-|sk_)[A-Za-z0-9_\-]{8,}"
    r"|\bwhsec_[A-Za-z0-9+/=]{8,}",
    re.IGNORECASE,
)
_MESSAGE_LENGTH = 300
_FRAMES = 12
_DEPTH = 4


def redact(value: Any, name: str = "", depth: int = 0) -> Any:
    """Return the value with secrets cut out of it, whether they show by their name or by their look."""
    if name and _is_secret(name):
        return REDACTED
    if isinstance(value, str):
        return redact_text(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return REDACTED
    if isinstance(value, Mapping):
        return REDACTED if depth == _DEPTH else {key: redact(value[key], str(key), depth + 1) for key in value}
    if isinstance(value, list | tuple | set | frozenset):
        return REDACTED if depth == _DEPTH else [redact(element, "", depth + 1) for element in value]
    return value


@lru_cache(maxsize=1024)
def _is_secret(name: str) -> bool:
    return _SECRET_NAMES.search(name) is not None


def redact_text(text: str) -> str:
    """Return the text without bearer tokens, keys and passwords of addresses."""
    return _SECRET_TEXTS.sub(lambda found: f"{found['kept'] or ''}{REDACTED}", text)


def describe_exception(error: BaseException) -> list[dict[str, Any]]:
    """Return the exception and its causes, outermost first.

    Only the first line of a message is kept: PostgreSQL writes the rows it refuses into the second.
    """
    described: list[dict[str, Any]] = []
    current: BaseException | None = error
    while current is not None and len(described) < _DEPTH:
        first_line = str(current).partition("\n")[0][:_MESSAGE_LENGTH]
        described.append(
            {"type": type(current).__qualname__, "says": redact_text(first_line), "at": _places(current.__traceback__)}
        )
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
    return described


def _places(trace: TracebackType | None) -> list[str]:
    frames = traceback.extract_tb(trace)[-_FRAMES:]
    return [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames]
