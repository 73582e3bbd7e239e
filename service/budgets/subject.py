"""The subject of a counter: which value each "*" of a budget stands for, and its one canonical text. Pure."""

from typing import Final

import msgspec

SHARED_SUBJECT: Final = "{}"

_decoder = msgspec.json.Decoder(dict[str, str])


def subject_text(values: dict[str, str]) -> str:
    """Return the canonical text: JSON, names sorted, compact; "{}" for a counter everybody shares."""
    if not values:
        return SHARED_SUBJECT
    return msgspec.json.encode(values, order="deterministic").decode()


def subject_values(text: str) -> dict[str, str]:
    """Return the values of a subject's text. Raises ValueError when it is none."""
    try:
        return _decoder.decode(text)
    except msgspec.MsgspecError as error:
        raise ValueError("a subject is a JSON object of texts") from error
