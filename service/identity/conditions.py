"""Conditions on the dimensions of a call, written as a document such as `{"team": "core", "user": "*"}`.

All conditions must hold. Written forms that mean the same are one form here, so that equal matches compare equal.
Budgets and price rules both are matched by these. Pure.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final, Literal

import msgspec

from service.errors import InvalidInput
from service.identity.dimensions import clean_value, is_plain_key
from service.identity.names import clean_name
from service.identity.providers import canonical_provider
from service.kit.text import INVISIBLE, bounded_text, stripped_text

ConditionKind = Literal["any_of", "pattern", "prefix", "each", "absent"]

EACH: Final = "*"
MAX_LIST_VALUES: Final = 1000
MAX_PATTERNS: Final = 20
MAX_PREFIX_CHARACTERS: Final = 200  # longer values are cut there and end in a digest

# Compared without regard to case; `CallNames` carries them in lower case.
_MODEL_DIMENSIONS: Final = frozenset({"requested_model", "deployment", "served_model", "model"})
_LOWER_DIMENSIONS: Final = frozenset({"price_key", "mode", "call_type"})
_CASELESS_DIMENSIONS: Final = _MODEL_DIMENSIONS | _LOWER_DIMENSIONS | {"provider"}


class Condition(msgspec.Struct, frozen=True, gc=False):
    """One dimension's condition. `values`: the texts of `any_of` and `pattern` (sorted, distinct), the one `prefix`.

    A `pattern` is an `any_of` in which "*" within a text stands for any characters, also none.
    """

    dimension: str
    kind: ConditionKind
    values: tuple[str, ...] = ()

    def holds(self, values: tuple[str, ...]) -> bool:
        """Tell whether a call with these values of the dimension meets the condition; no value = absent."""
        match self.kind:
            case "any_of":
                return any(value in self.values for value in values)
            case "pattern":
                return any(matches_pattern(pattern, value) for pattern in self.values for value in values)
            case "prefix":
                return any(value.startswith(self.values[0]) for value in values)
            case "each":
                return bool(values)
            case "absent":
                return not values


Match = tuple[Condition, ...]


def parse_conditions(
    document: object,
    names: Sequence[str],
    *,
    field: str,
    most: int,
    hints: Mapping[str, str],
    patterned: Collection[str] = (),
) -> Match:
    """Return the conditions of a document in the order of `names`, the dimensions there are, `most` of them at most.

    `hints` say what to write instead of a name there is not; in texts of the `patterned` dimensions a "*" stands for
    any characters. Raises InvalidInput with the field path.
    """
    if not isinstance(document, Mapping):
        raise InvalidInput('A match is an object such as {"team": "core"}; {} matches everything.', field=field)
    for name in document:
        if name not in names:
            detail = _unknown_dimension(str(name), names, hints)
            raise InvalidInput(detail, code="unknown_dimension", field=f"{field}.{name}"[:120])
    if len(document) > most:
        raise InvalidInput(f"A match has at most {most} conditions.", field=field)
    return tuple(
        (_parse_with_patterns if name in patterned else _parse_condition)(name, document[name], f"{field}.{name}")
        for name in names
        if name in document
    )


def match_document(conditions: Match) -> dict[str, Any]:
    """Return the document of the conditions; what parses it makes the same match of it."""
    return {condition.dimension: _value_document(condition) for condition in conditions}


def comparable_value(dimension: str, text: str) -> str:
    """Return a value as calls carry it; "" if there is nothing to see in it."""
    if dimension in _MODEL_DIMENSIONS:
        return bounded_text((clean_name(text) or "").lower())
    value = clean_value(dimension, text) or ""
    if dimension in _LOWER_DIMENSIONS:
        return value.lower()
    return canonical_provider(value) if dimension == "provider" else value


def matches_pattern(pattern: str, text: str) -> bool:
    """Tell whether a text is what a pattern says; in time proportional to both, whatever they are."""
    first, *others = pattern.split(EACH)
    if not others:
        return pattern == text
    last = others.pop()
    if len(text) < len(first) + len(last) or not text.startswith(first) or not text.endswith(last):
        return False
    position, end = len(first), len(text) - len(last)
    for part in others:
        found = text.find(part, position, end)
        if found < 0:
            return False
        position = found + len(part)
    return True


def _unknown_dimension(name: str, names: Sequence[str], hints: Mapping[str, str]) -> str:
    hint = hints.get(name.lower())
    if hint is not None:
        return f"There is no dimension {name!r}; write {hint}."
    return f"There is no dimension {name[:40]!r}; there are {', '.join(names)}."


def _parse_with_patterns(dimension: str, value: object, field: str) -> Condition:
    condition = _parse_condition(dimension, value, field)
    if condition.kind != "any_of" or not any(EACH in text for text in condition.values):
        return condition
    if len(condition.values) > MAX_PATTERNS:
        raise InvalidInput(f"A list with patterns names at most {MAX_PATTERNS} texts.", field=field)
    if any(len(text) > MAX_PREFIX_CHARACTERS for text in condition.values):
        raise InvalidInput(f"A pattern has at most {MAX_PREFIX_CHARACTERS} characters.", field=field)
    return msgspec.structs.replace(condition, kind="pattern")


def _parse_condition(dimension: str, value: object, field: str) -> Condition:
    if value is None:
        return Condition(dimension, "absent")
    if isinstance(value, Mapping):
        return _parse_object(dimension, value, field)
    if value == EACH:
        return Condition(dimension, "each")
    if isinstance(value, str):
        return Condition(dimension, "any_of", (_parse_text(dimension, value, field),))
    if isinstance(value, list):
        return _parse_list(dimension, value, field)
    raise InvalidInput('A value is a text, a list of texts, {"prefix": …}, "*" or null.', field=field)


def _parse_object(dimension: str, value: Mapping[str, Any], field: str) -> Condition:
    if value == {"each": True} and value["each"] is True:
        return Condition(dimension, "each")
    if list(value) == ["prefix"]:
        path = f"{field}.prefix"
        prefix = value["prefix"]
        if not isinstance(prefix, str) or not 1 <= len(prefix) <= MAX_PREFIX_CHARACTERS:
            raise InvalidInput(f"A prefix is a text of 1 to {MAX_PREFIX_CHARACTERS} characters.", field=path)
        return Condition(dimension, "prefix", (_parse_prefix(dimension, prefix, path),))
    raise InvalidInput('An object here is {"prefix": "…"} or {"each": true}.', field=field)


def _parse_list(dimension: str, value: list[Any], field: str) -> Condition:
    if not value:
        raise InvalidInput("A list names at least one value; null means that the dimension is absent.", field=field)
    if len(value) > MAX_LIST_VALUES:
        raise InvalidInput(f"A list names at most {MAX_LIST_VALUES} values.", field=field)
    texts = set()
    for index, element in enumerate(value):
        path = f"{field}[{index}]"
        if not isinstance(element, str):
            raise InvalidInput("A list holds texts only.", field=path)
        if element == EACH:
            raise InvalidInput('"*" stands alone, not in a list.', field=path)
        texts.add(_parse_text(dimension, element, path))
    return Condition(dimension, "any_of", tuple(sorted(texts)))


def _parse_text(dimension: str, text: str, field: str) -> str:
    _check_text(dimension, text, field)
    value = comparable_value(dimension, text)
    if not value:
        raise InvalidInput("There is no name in this.", field=field)
    return value


def _parse_prefix(dimension: str, text: str, field: str) -> str:
    """Return the prefix; what it ends in is part of it: `azure/`."""
    _check_text(dimension, text, field)
    prefix = bounded_text(text.lstrip(INVISIBLE))
    return prefix.lower() if dimension in _CASELESS_DIMENSIONS else prefix


def _check_text(dimension: str, text: str, field: str) -> None:
    visible = stripped_text(text)
    if not visible:
        detail = "A text of nothing but blanks is never a value; null means that the dimension is absent."
        raise InvalidInput(detail, field=field)
    if dimension == "api_key" and is_plain_key(visible):
        raise InvalidInput("Write the SHA-256 of the key in hex, never the key itself.", field=field)
    if dimension == "tag" and visible.lower().startswith("user-agent:"):
        raise InvalidInput("Automatic User-Agent tags never match.", field=field)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidInput("The text is not valid Unicode.", field=field) from None


def _value_document(condition: Condition) -> Any:
    match condition.kind:
        case "any_of" | "pattern":
            return condition.values[0] if len(condition.values) == 1 else list(condition.values)
        case "prefix":
            return {"prefix": condition.values[0]}
        case "each":
            return EACH
        case "absent":
            return None
