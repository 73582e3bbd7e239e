"""The event id: what tells one event of a source from another, chosen by call type. Pure.

An ordinary call is `call type:status:call id:response id`. None of these suffices alone: a failed attempt and the paid
success share the call id (which clients may set), providers repeat response ids. Where an id is missing, a digest of
the content joins. A result that can be fetched again and again is `call type:result:provider:id`, whoever fetches it
and when; while it is not finished it is `call type:open:provider:id`, so that looking too early blocks nothing.
"""

from hashlib import sha256
from typing import Final

from service.kit.text import bounded_text

# What gateways write where they have no id.
PLACEHOLDERS: Final = frozenset({"", "None", "none", "null", "undefined"})

_DIGEST_CHARACTERS: Final = 32


def is_id(text: str | None) -> bool:
    """Return whether the text identifies anything."""
    return text is not None and text not in PLACEHOLDERS


def call_event_id(
    call_type: str, status: str, call_id: str | None, response_id: str | None, *, attempt: int | None, content: bytes
) -> str:
    """Return the id of an ordinary call; `content` is what the digest is made of that a missing id asks for.

    `attempt` counts for failures only: there the response id is the call id again.
    """
    outcome = status if attempt is None or status == "success" else f"{status}.{attempt}"
    readable = f"{_escape(call_type)}:{outcome}:{_escape(call_id or '')}:{response_id or ''}"
    if call_id and response_id:
        return bounded_text(readable)
    return bounded_text(f"{readable}#{sha256(content).hexdigest()[:_DIGEST_CHARACTERS]}")


def result_event_id(call_type: str, provider: str | None, result_id: str, *, is_open: bool) -> str:
    """Return the id of a result that is fetched; all early looks at one share an id of their own."""
    state = "open" if is_open else "result"
    return bounded_text(f"{_escape(call_type)}:{state}:{_escape(provider or '')}:{result_id}")


def _escape(text: str) -> str:
    return text.replace("%", "%25").replace(":", "%3A") if ":" in text or "%" in text else text
