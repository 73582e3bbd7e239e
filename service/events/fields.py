"""Reads single declared values: bounds on numbers and texts, refused with the path of the field. Pure."""

from decimal import Decimal
from typing import Final, TypeVar

import msgspec

from service.events import problems
from service.events.problems import RefusedEventError
from service.kit.money import ZERO, AmountError, check_amount, parse_amount
from service.kit.text import MAX_KEY_TEXT, bounded_text, stripped_text

T = TypeVar("T")

# The default of fields that stay undecoded: this very object stands for one that is absent.
EMPTY: Final = msgspec.Raw(b"")

MAX_COUNT: Final = 10**12
MAX_TEXT: Final = 16_384

_LONGEST_QUANTITY_BYTES: Final = 64

_STRING = msgspec.json.Decoder(str)


def read_text(value: str | float | None, field: str) -> str | None:
    """Return a text fit for a key; the empty text is no value."""
    if value is None or value == "":
        return None
    text = value if isinstance(value, str) else str(value)
    if len(text) <= MAX_KEY_TEXT and "\x00" not in text:
        return text
    if len(text) > MAX_TEXT:
        raise RefusedEventError(problems.TEXT_TOO_LONG, f"Longer than {MAX_TEXT} characters.", field)
    # Before it is bounded, as everywhere: what is cut off depends on where a text begins.
    return bounded_text(stripped_text(text)) or None


def read_count(value: float | None, *path: str) -> int:
    """Return a whole number from 0 to 10^12; absent = 0."""
    if value is None:
        return 0
    if isinstance(value, int) and 0 <= value <= MAX_COUNT:
        return value
    if value < 0:
        raise RefusedEventError(problems.INVALID_NUMBER, f"{value} is negative.", ".".join(path))
    if value > MAX_COUNT:
        raise RefusedEventError(problems.INVALID_NUMBER, "Larger than 10^12.", ".".join(path))
    if int(value) != value:
        raise RefusedEventError(problems.INVALID_NUMBER, f"{value} is no whole number.", ".".join(path))
    return int(value)


def read_quantity(value: float | None, *path: str) -> Decimal:
    """Return a quantity (whole or not) exactly as it was written, from 0 to 10^12; absent = 0."""
    if not value:
        return ZERO
    return check_quantity(Decimal(repr(value)), *path)


def check_quantity(quantity: Decimal, *path: str) -> Decimal:
    """Return the quantity; refuse one that is not finite, negative, above 10^12 or finer than 40 decimal places."""
    try:
        checked = check_amount(quantity)
    except AmountError as error:
        raise RefusedEventError(problems.INVALID_NUMBER, f"Not a quantity: {error}.", ".".join(path)) from error
    if checked < 0:
        raise RefusedEventError(problems.INVALID_NUMBER, f"{checked} is negative.", ".".join(path))
    return checked


def find_quantity(raw: msgspec.Raw) -> Decimal:
    """Return a quantity nobody promised, written as a number or as a text; 0 if it is anything else."""
    if memoryview(raw).nbytes > _LONGEST_QUANTITY_BYTES:
        return ZERO
    try:
        text = text_of(raw) or bytes(raw).decode("ascii")
        return max(parse_amount(text), ZERO)
    except (AmountError, UnicodeDecodeError):
        return ZERO


def find_number(value: float | None) -> Decimal:
    """Return a quantity nobody promised; 0 if it is none."""
    if not value or not 0 < value <= MAX_COUNT:
        return ZERO
    try:
        return check_amount(Decimal(repr(value)))
    except AmountError:
        return ZERO


def read_amount(value: Decimal | None, field: str) -> Decimal | None:
    """Return an amount in USD, finite and not negative; the negative zero is zero."""
    if not value:
        return None if value is None else ZERO
    try:
        amount = check_amount(value)
    except AmountError as error:
        raise RefusedEventError(problems.INVALID_NUMBER, f"Not an amount: {error}.", field) from error
    if amount < 0:
        raise RefusedEventError(problems.INVALID_NUMBER, f"{amount} is negative.", field)
    return amount


def first_byte(raw: msgspec.Raw) -> bytes:
    """Return how an undecoded value begins; nothing if it is absent."""
    return b"" if raw is EMPTY else memoryview(raw)[:1].tobytes()


def is_object(raw: msgspec.Raw) -> bool:
    """Return whether an undecoded value is a JSON object."""
    return first_byte(raw) == b"{"


def is_filled_list(raw: msgspec.Raw) -> bool:
    """Return whether an undecoded value is a JSON array with something in it."""
    return first_byte(raw) == b"[" and bool(bytes(raw)[1:-1].strip())


def text_of(raw: msgspec.Raw) -> str | None:
    """Return an undecoded value if it is a readable text that is not empty."""
    if first_byte(raw) != b'"':
        return None
    try:
        return _STRING.decode(raw) or None
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def decode_part(decoder: msgspec.json.Decoder[T], raw: msgspec.Raw, path: str) -> T:
    """Return a part that was left undecoded, refusing it with its path."""
    try:
        return decoder.decode(raw)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        problem = problems.problem_of(error, below=path)
        raise RefusedEventError(problem.code, problem.detail, problem.field) from error
