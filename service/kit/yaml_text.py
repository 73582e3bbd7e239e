"""Reads a YAML document that nobody vouches for: in place of what a loader makes of it, only texts, lists and mappings.

Guarantees: no recursion, however deep the text is; what anchors and merge keys stand for is counted before it is made;
every refusal is a YamlError. Names of members are texts; a name given twice is refused. Does no floats, dates, objects.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any, Final

import yaml

MAX_DEPTH: Final = 64
MAX_BYTES: Final = 64 * 1024 * 1024
MAX_REPEATED: Final = 5_000_000
_REPEATED_ALLOWED: Final = 10_000  # and two for each character of the text
_WHOLE_NUMBER: Final = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,17})")
_CONSTANTS: Final[dict[str, bool | None]] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_TAG: Final = "tag:yaml.org,2002:"
_TEXT_TAGS: Final = frozenset(_TAG + name for name in ("str", "float", "timestamp"))
_TYPED_TAGS: Final[dict[str, Callable[[object], bool]]] = {
    _TAG + "null": lambda value: value is None,
    _TAG + "bool": lambda value: isinstance(value, bool),
    _TAG + "int": lambda value: isinstance(value, int) and not isinstance(value, bool),
}
_MERGE: Final[Any] = object()
_EventLoader: Final[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the fast one is not in every build


class YamlError(ValueError):
    """What is wrong with a text, and where: one line."""


def load_yaml(text: str | bytes, *, scalars_as_text: bool = False) -> Any:
    """Return the one document of a text; null, true, false and whole numbers as such, all other scalars as written.

    With `scalars_as_text` these are texts too. Raises YamlError.
    """
    try:
        decoded = text.decode("utf-8-sig") if isinstance(text, bytes) else text.removeprefix("\ufeff")
        size = len(decoded.encode())
    except UnicodeError as error:
        raise YamlError("this is no UTF-8") from error
    if size > MAX_BYTES:
        raise YamlError(f"at most {MAX_BYTES // 1024 // 1024} MiB are read")
    builder = _Builder(min(_REPEATED_ALLOWED + 2 * len(decoded), MAX_REPEATED), scalars_as_text=scalars_as_text)
    try:
        for event in _events(decoded):
            builder.take(event)
    except yaml.YAMLError as error:
        raise YamlError(" ".join(str(error).split())) from error
    except YamlError:
        raise
    except (ValueError, OverflowError, RecursionError) as error:
        raise YamlError("a character or number in it cannot be read") from error
    return builder.document


def _events(text: str) -> Iterator[Any]:
    loader = _EventLoader(text)
    try:
        while loader.check_event():
            yield loader.get_event()
    finally:
        loader.dispose()


class _Open:
    """A list or mapping whose end has not come. `size`: how many values it holds, those of aliases included."""

    __slots__ = ("anchor", "members", "merged", "name", "size", "values")

    def __init__(self, anchor: str | None, values: list[Any] | None, members: dict[str, Any] | None) -> None:
        self.anchor = anchor
        self.values = values
        self.members = members
        self.merged: Any = None
        self.name: Any = None
        self.size = 1

    @property
    def value(self) -> Any:
        return self.values if self.members is None else self.members


class _Builder:
    """Puts the values together, event by event."""

    def __init__(self, repeated_allowed: int, *, scalars_as_text: bool) -> None:
        self.document: Any = None
        self._documents = 0
        self._open: list[_Open] = []
        self._anchors: dict[str, tuple[Any, int]] = {}
        self._repeated_left = repeated_allowed
        self._scalars_as_text = scalars_as_text

    def take(self, event: Any) -> None:
        """Take the next event. Raises YamlError."""
        if isinstance(event, yaml.ScalarEvent):
            self._take_scalar(event)
        elif isinstance(event, yaml.MappingStartEvent):
            self._begin(event, _Open(event.anchor, None, {}), "map")
        elif isinstance(event, yaml.SequenceStartEvent):
            self._begin(event, _Open(event.anchor, [], None), "seq")
        elif isinstance(event, yaml.CollectionEndEvent):
            self._end(event)
        elif isinstance(event, yaml.AliasEvent):
            self._repeat(event)
        elif isinstance(event, yaml.DocumentStartEvent):
            self._documents += 1
            if self._documents > 1:
                raise _located(event, "a second document begins: one is read")

    def _take_scalar(self, event: Any) -> None:
        here = self._open[-1] if self._open else None
        if here is not None and here.members is not None and here.name is None:
            is_merge = event.value == "<<" and (
                event.tag == _TAG + "merge" or (event.tag is None and event.implicit[0])
            )
            here.name = _MERGE if is_merge else event.value
            if not is_merge and here.name in here.members:
                raise _located(event, f"{event.value[:100]!r} is given twice")
            value: Any = event.value
        else:
            value = event.value if self._scalars_as_text else _typed(event)
            self._place(event, value, 1)
        if event.anchor is not None:
            self._anchors[event.anchor] = (value, 1)

    def _begin(self, event: Any, opened: _Open, kind: str) -> None:
        if len(self._open) >= MAX_DEPTH:
            raise _located(event, f"lists and mappings stand in each other at most {MAX_DEPTH} deep")
        if event.tag not in {None, "!", _TAG + kind}:
            raise _located(event, f"the tag {event.tag[:100]!r} is not known here")
        self._refuse_as_name(event)
        if event.anchor is not None:
            self._anchors.pop(event.anchor, None)
        self._open.append(opened)

    def _refuse_as_name(self, event: Any) -> None:
        if self._open and self._open[-1].members is not None and self._open[-1].name is None:
            raise _located(event, "a name of a member is a text")

    def _end(self, event: Any) -> None:
        ended = self._open.pop()
        if ended.merged is not None and ended.members is not None:
            for name, value in ended.merged.items():
                ended.members.setdefault(name, value)
        if ended.anchor is not None:
            self._anchors[ended.anchor] = (ended.value, ended.size)
        self._place(event, ended.value, ended.size)

    def _repeat(self, event: Any) -> None:
        if event.anchor not in self._anchors:
            raise _located(event, f"there is no {event.anchor[:100]!r} that has ended before this")
        value, size = self._anchors[event.anchor]
        self._repeated_left -= size
        if self._repeated_left < 0:
            raise _located(event, "what aliases and merge keys stand for is too much for a text of this length")
        here = self._open[-1] if self._open else None
        if here is not None and here.members is not None and here.name is None:
            raise _located(event, "a name of a member is a text, not an alias")
        self._place(event, value, size)

    def _place(self, event: Any, value: Any, size: int) -> None:
        if not self._open:
            self.document = value
            return
        here = self._open[-1]
        here.size += size
        if here.members is None:
            assert here.values is not None, "what is open is a list or a mapping"
            here.values.append(value)
            return
        name, here.name = here.name, None
        if name is _MERGE:
            here.merged = _merge(event, here.merged, value)
        else:
            here.members[name] = value


def _merge(event: Any, merged: dict[str, Any] | None, value: Any) -> dict[str, Any]:
    """Return what is merged with more of it; what came first wins."""
    if merged is not None:
        raise _located(event, "'<<' is given twice")
    merged = {}
    for source in value if isinstance(value, list) else [value]:
        if not isinstance(source, dict):
            raise _located(event, "'<<' takes a mapping, or a list of them")
        for name, member in source.items():
            merged.setdefault(name, member)
    return merged


def _typed(event: Any) -> Any:
    """Return null, a bool or a whole number where a scalar is one, else its text. Raises YamlError."""
    tag, text = event.tag, event.value
    if tag in {None, "!"}:
        return _plain(text) if event.implicit[0] else text
    if tag in _TEXT_TAGS:
        return text
    value = _plain(text)
    if tag not in _TYPED_TAGS or not _TYPED_TAGS[tag](value):
        raise _located(event, f"{text[:100]!r} is no {tag[:100]!r} that is known here")
    return value


def _plain(text: str) -> Any:
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    return int(text) if _WHOLE_NUMBER.fullmatch(text) else text


def _located(event: Any, problem: str) -> YamlError:
    return YamlError(f"{problem}, line {event.start_mark.line + 1}")
