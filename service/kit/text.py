"""Bounds for text that comes from outside and ends up in keys."""

import sys
import unicodedata
from hashlib import sha256

MAX_KEY_TEXT = 256
_KEPT_CHARACTERS = 200

# These change how the text beside them is seen: flags of regions end in tags, embeddings turn its direction.
_SEEN = {*range(0xE0000, 0xE0080), *range(0x202A, 0x202F), *range(0x2066, 0x206A)}
# Blanks, control characters and those of no width.
INVISIBLE = "".join(
    chr(code)
    for code in range(sys.maxunicode + 1)
    if unicodedata.category(chr(code)) in {"Cc", "Cf", "Zs", "Zl", "Zp"} and code not in _SEEN
)
_INVISIBLE_CHARACTERS = frozenset(INVISIBLE)


def stripped_text(text: str) -> str:
    """Return the text without what nobody sees at its ends: blanks, control characters, those of no width."""
    if text and (text[0] in _INVISIBLE_CHARACTERS or text[-1] in _INVISIBLE_CHARACTERS):
        return text.strip(INVISIBLE)
    return text


def bounded_text(text: str) -> str:
    """Return the text fit for a database key: NUL replaced; longer than 256 characters -> 200 and a digest.

    Deterministic, so that the same long value is the same key on every path.
    """
    clean = text.replace("\x00", "\ufffd") if "\x00" in text else text
    if len(clean) <= MAX_KEY_TEXT:
        return clean
    digest = sha256(clean.encode("utf-8", "surrogatepass")).hexdigest()[:32]
    return f"{clean[:_KEPT_CHARACTERS]}\u2026{digest}"
