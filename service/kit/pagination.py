"""Pages of lists: opaque, URL-safe cursors over JSON values, and the size of a page.

A cursor holds the position after the last row shown, never an offset: rows written meanwhile neither repeat nor hide
others. It is not secret and not signed; whoever decodes one binds its values as parameters and checks their types.
"""

from base64 import b64decode, urlsafe_b64encode
from collections.abc import Sequence
from typing import Any

import msgspec

from service.errors import InvalidInput

DEFAULT_PAGE = 100
MAX_PAGE = 1000

_MAX_CURSOR_CHARACTERS = 8192


def encode_cursor(values: Sequence[Any]) -> str:
    """Return the cursor of a list of JSON values."""
    return urlsafe_b64encode(msgspec.json.encode(list(values))).rstrip(b"=").decode("ascii")


def decode_cursor(text: str, *, length: int | None = None) -> list[Any]:
    """Return the values of a cursor. Raises InvalidInput (`invalid_cursor`), also if there are not `length` of them."""
    if len(text) > _MAX_CURSOR_CHARACTERS:
        raise invalid_cursor()
    try:
        encoded = text.encode("ascii")
        padded = encoded + b"=" * (-len(encoded) % 4)
        values = msgspec.json.decode(b64decode(padded, altchars=b"-_", validate=True), type=list[Any])
    except (ValueError, RecursionError, msgspec.MsgspecError) as error:
        raise invalid_cursor() from error
    if length is not None and len(values) != length:
        raise invalid_cursor()
    return values


def invalid_cursor() -> InvalidInput:
    """Return the refusal of a cursor that is not one of this list's."""
    return InvalidInput(
        "This cursor was not given out by this list with these parameters; begin again without it.",
        code="invalid_cursor",
        field="cursor",
    )


def page_limit(text: str | None, *, default: int = DEFAULT_PAGE, maximum: int = MAX_PAGE) -> int:
    """Return the page size a caller asks for, 1 to `maximum`. Raises InvalidInput (`invalid_limit`)."""
    if text is None:
        return default
    # isdecimal alone admits digits of other scripts, which int() would take.
    if text.isascii() and text.isdecimal() and len(text) <= 6 and 1 <= int(text) <= maximum:
        return int(text)
    raise InvalidInput(f"limit must be a whole number from 1 to {maximum}.", code="invalid_limit", field="limit")
