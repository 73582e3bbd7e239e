"""Why one element of a body is refused: codes, and how a decoder's message becomes a text with a field path. Pure."""

import re
from typing import Final

import msgspec

from service.events.usage_event import EventProblem

EVENT_MISSING: Final = "event_missing"  # a null where an event was expected: the gateway failed to build it
MALFORMED_JSON: Final = "malformed_json"
NOT_AN_OBJECT: Final = "not_an_object"
TOO_DEEPLY_NESTED: Final = "too_deeply_nested"
INVALID_FIELD: Final = "invalid_field"  # of another type than its meaning allows
INVALID_NUMBER: Final = "invalid_number"  # negative, not finite, not whole, or absurdly large or fine
FIELD_MISSING: Final = "field_missing"
RESERVED_SOURCE: Final = "reserved_source"  # that of the ledger's own entries
TEXT_TOO_LONG: Final = "text_too_long"
LIST_TOO_LONG: Final = "list_too_long"
OCCURRED_IN_FUTURE: Final = "occurred_in_future"
OCCURRED_TOO_LONG_AGO: Final = "occurred_too_long_ago"
UNREADABLE_LEGACY_PAYLOAD: Final = "unreadable_legacy_payload"

_PATH = re.compile(r" - at `\$\.?(.*)`$")


class RefusedEventError(ValueError):
    """Unwinds from wherever a field is read to the one place that turns it into an outcome; never leaves this slice."""

    def __init__(self, code: str, detail: str, field: str | None = None) -> None:
        super().__init__(detail)
        self.problem = EventProblem(code=code, detail=detail, field=field)


def problem_of(error: Exception, *, below: str = "", is_repaired: bool = False) -> EventProblem:
    """Return what a decoding error says, for people.

    `below` is the path of the decoded part within its event; in a repaired text an array may stand for a bare NaN.
    """
    if isinstance(error, RefusedEventError):
        return error.problem
    if isinstance(error, RecursionError):
        return EventProblem(code=TOO_DEEPLY_NESTED, detail="The event is nested too deeply to be read.")
    if isinstance(error, msgspec.ValidationError):
        found = _validation_problem(str(error), below)
        if is_repaired and found.field and "got `array`" in found.detail:
            return EventProblem(code=INVALID_NUMBER, detail="NaN and Infinity are no values.", field=found.field)
        return found
    if isinstance(error, UnicodeDecodeError):
        return EventProblem(code=MALFORMED_JSON, detail=f"Not UTF-8 ({error.reason}).", field=below or None)
    detail = str(error).removeprefix("JSON is malformed: ")
    return EventProblem(code=MALFORMED_JSON, detail=f"Not valid JSON: {detail}.", field=below or None)


def _validation_problem(message: str, below: str) -> EventProblem:
    found = _PATH.search(message)
    path = found[1] if found else ""
    detail = message[: found.start()] if found else message
    if not path and not below and detail.startswith("Expected `object"):
        return EventProblem(code=NOT_AN_OBJECT, detail=f"{detail}: an event is a JSON object.")
    separator = "." if below and path and not path.startswith("[") else ""
    code = INVALID_NUMBER if "out of range" in detail else INVALID_FIELD
    return EventProblem(code=code, detail=f"{detail}.", field=f"{below}{separator}{path}" or None)
