"""The subject of a counter: which value each "*" of a budget stands for, and its one canonical text. Pure.

Everybody who names a counter has its text from here: checks, charges, seeding, recomputation, increases, imports. The
text is part of keys of the database, which have a greatest size, and its values come from whoever calls: it is bounded.
"""

import re
from hashlib import sha256
from typing import Final

import msgspec

SHARED_SUBJECT: Final = "{}"

# With the longest names a match may have: far below the 2,704 bytes of a key of an index.
MOST_SUBJECT_BYTES: Final = 1_000
# Of a value in a text above that, in bytes of JSON; with the digest behind it 100.
_PREFIX_BYTES: Final = 64
_MOST_VALUE_BYTES: Final = 100
_MARK: Final = "\u2026#"
_MARK_BYTES: Final = _MARK.encode()
_DIGEST_CHARACTERS: Final = 32
_REPLACED = re.compile(rf"{_MARK}[0-9a-f]{{{_DIGEST_CHARACTERS}}}\Z")

_decoder = msgspec.json.Decoder(dict[str, str])


def subject_text(values: dict[str, str]) -> str:
    """Return the canonical text: JSON, names sorted, compact; "{}" for a counter everybody shares.

    In a text of more than 1,000 bytes each value of more than 100 is replaced by its beginning, a mark and its digest.
    Other values give another text: a value that looks like a replaced one is replaced itself, and those of more than
    100 bytes beside it. So what looks replaced has the digest of what was sent, and anything else is what was sent.
    """
    if not values:
        return SHARED_SUBJECT
    encoded = _encoded(values)
    if len(encoded) > MOST_SUBJECT_BYTES or (_MARK_BYTES in encoded and any(map(_is_replaced, values.values()))):
        encoded = _encoded({name: _short(value) for name, value in values.items()})
    return encoded.decode()


def named_subject_text(values: dict[str, str]) -> str:
    """Return the canonical text of values as people name them: whole, or replaced as they are shown."""
    if not any(map(_is_replaced, values.values())):
        return subject_text(values)
    return _encoded({name: value if _is_replaced(value) else _short(value) for name, value in values.items()}).decode()


def subject_values(text: str) -> dict[str, str]:
    """Return the values of a subject's text, the replaced ones as they are there. Raises ValueError when it is none."""
    try:
        return _decoder.decode(text)
    except msgspec.MsgspecError as error:
        raise ValueError("a subject is a JSON object of texts") from error


def forms_in_subjects(value: str) -> tuple[str, ...]:
    """Return what a value may be in texts of subjects: itself, replaced, or either, by the size of the others."""
    short = _short(value)
    return (value,) if short == value else (short,) if _is_replaced(value) else (value, short)


def _encoded(values: dict[str, str]) -> bytes:
    return msgspec.json.encode(values, order="deterministic")


def _short(value: str) -> str:
    is_long = len(msgspec.json.encode(value)) - 2 > _MOST_VALUE_BYTES
    return _replaced(value) if is_long or _is_replaced(value) else value


def _is_replaced(value: str) -> bool:
    return _MARK in value and _REPLACED.search(value) is not None


def _replaced(value: str) -> str:
    """Return the beginning, the mark and 128 bits of a digest, the same for the same value in every subject."""
    room, kept = _PREFIX_BYTES, 0
    for character in value:
        room -= len(msgspec.json.encode(character)) - 2
        if room < 0:
            break
        kept += 1
    return f"{value[:kept]}{_MARK}{sha256(value.encode()).hexdigest()[:_DIGEST_CHARACTERS]}"
