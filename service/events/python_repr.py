"""Reads single values out of the text Python prints for dicts and objects, without evaluating it. Pure.

`{'a': 1, 'b': Thing(x=<…>)}` and `Thing(a=1, b='…')`: found by brackets and quotes alone, so that what stands between
may be anything. Only literals can be taken out.
"""

import ast
import re
from collections.abc import Iterator
from typing import Final

MAX_TEXT: Final = 1 << 20
_MAX_LITERAL: Final = 16_384

Literal = str | int | float | bool | None

# A string that does not end runs to the end of the text: whatever is wrong, each character is looked at once.
_TOKEN = re.compile(r"""'(?:[^'\\]++|\\.?)*+(?:'|\Z)|"(?:[^"\\]++|\\.?)*+(?:"|\Z)|([(\[{])|([)\]}])|(,)""", re.DOTALL)
_OPEN, _CLOSE = 1, 2
_DICT_FIELD = re.compile(r"""\s*(?:'([^'\\]*)'|"([^"\\]*)")\s*:\s*""")
_CALL_FIELD = re.compile(r"\s*(\w+)=")


class ReprError(ValueError):
    """The text is not what Python prints for a dict or an object, or is too long."""


def read_fields(text: str) -> dict[str, str]:
    """Return the fields of the outermost dict or object, each as the text of its value."""
    if len(text) > MAX_TEXT:
        raise ReprError("too long")
    pattern = _DICT_FIELD if text.lstrip().startswith("{") else _CALL_FIELD
    fields: dict[str, str] = {}
    for part in _split(text):
        key = pattern.match(part)
        if key is not None:
            fields[next(name for name in key.groups() if name is not None)] = part[key.end() :].strip()
    return fields


def read_literal(text: str | None) -> Literal:
    """Return the value of a literal; None for anything else."""
    if text is None or len(text) > _MAX_LITERAL:
        return None
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
    return value if isinstance(value, str | int | float) else None


def read_texts(text: str | None) -> list[str]:
    """Return the texts of a literal list or tuple; nothing for anything else."""
    if text is None or text[:1] not in ("[", "("):
        return []
    values = (read_literal(part.strip()) for part in _split(text))
    return [value for value in values if isinstance(value, str)]


def _split(text: str) -> Iterator[str]:
    """Yield what stands between the commas of the outermost brackets."""
    depth, start = 0, 0
    for token in _TOKEN.finditer(text):
        if token.lastindex is None:
            continue
        if token.lastindex == _OPEN:
            depth += 1
            start = token.end() if depth == 1 else start
        elif token.lastindex == _CLOSE:
            depth -= 1
            if depth == 0:
                yield text[start : token.start()]
                return
        elif depth == 1:
            yield text[start : token.start()]
            start = token.end()
    raise ReprError("its brackets do not close")
