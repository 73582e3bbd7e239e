"""What LiteLLM's generic guardrail API and Portkey's webhook guardrail post, as far as it is looked at.

LiteLLM tells who asks by itself: its proxy knows the key. What Portkey calls metadata comes from the end client, so it
counts as identity headers do: only what the token trusts.
"""

from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

from service.access.tokens import Caller
from service.checks.dialects.client_headers import Headers, clean_tags
from service.checks.dialects.question import Question
from service.checks.dialects.reading import with_headers
from service.checks.dialects.request_body import CallSize, call_size, tokens_of
from service.checks.schemas import MAX_ID_CHARACTERS
from service.errors import MalformedBody
from service.identity.dimensions import Dimensions, clean_value
from service.kit.text import bounded_text

# No model takes more for a picture, however many bytes it has.
MOST_TOKENS_PER_IMAGE = 2_000
# The trusted header a member of Portkey's metadata stands for, and the dimension.
_METADATA = {
    "organization": ("x-tallygate-organization", "organization"),
    "team": ("x-tallygate-team", "team"),
    "user": ("x-tallygate-user", "user"),
    "_user": ("x-tallygate-user", "user"),
    "end_user": ("x-tallygate-end-user", "end_user"),
}

_CallId = Annotated[str, Meta(max_length=4_096)]


class GuardrailCaller(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks, as LiteLLM's proxy knows it."""

    user_api_key_hash: str | None = None
    user_api_key_user_id: str | None = None
    user_api_key_team_id: str | None = None
    user_api_key_end_user_id: str | None = None
    user_api_key_org_id: str | None = None


class GuardrailBody(msgspec.Struct, frozen=True, kw_only=True):
    """What LiteLLM posts. Texts are measured, never read."""

    input_type: str = "request"
    litellm_call_id: _CallId | None = None
    model: str | None = None
    request_data: GuardrailCaller | None = None
    texts: list[msgspec.Raw] | None = None
    tools: list[msgspec.Raw] | None = None
    images: list[msgspec.Raw] | None = None


class PortkeyRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The call itself."""

    json: msgspec.Raw = msgspec.field(default_factory=lambda: msgspec.Raw(b"{}"))


class PortkeyResponse(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to the call, once there is one."""

    statusCode: int | None = None  # noqa: N815 — their name


class PortkeyBody(msgspec.Struct, frozen=True, kw_only=True):
    """What Portkey posts."""

    request: PortkeyRequest = msgspec.field(default_factory=PortkeyRequest)
    response: PortkeyResponse | None = None
    metadata: dict[str, Any] | None = None


_Body = TypeVar("_Body")

_guardrail_decoder = msgspec.json.Decoder(GuardrailBody)
_portkey_decoder = msgspec.json.Decoder(PortkeyBody)
_member_decoder = msgspec.json.Decoder(dict[str, Any])


def read_guardrail(body: bytes, headers: Headers, caller: Caller) -> Question | None:
    """Return what LiteLLM asks; None when it shows an answer, which costs nothing more. Raises MalformedBody."""
    posted = _decode(_guardrail_decoder, body)
    if posted.input_type != "request":
        return None
    size = CallSize(
        models=(bounded_text(posted.model),) if posted.model else (),
        input_tokens=tokens_of(sum(map(_length, (*(posted.texts or ()), *(posted.tools or ()))))) + _images(posted),
    )
    question = with_headers(size, headers, caller)
    who = posted.request_data or GuardrailCaller()
    said = {
        "user": who.user_api_key_user_id,
        "team": who.user_api_key_team_id,
        "end_user": who.user_api_key_end_user_id,
        "organization": who.user_api_key_org_id,
    }
    key = clean_value("api_key", who.user_api_key_hash or "")
    return msgspec.structs.replace(
        question,
        keys=() if key is None else (key,),
        dimensions=_completed(question.dimensions, said),
        call_id=_call_id(posted.litellm_call_id),
    )


def read_portkey(body: bytes, headers: Headers, caller: Caller) -> Question | None:
    """Return what Portkey asks; None when it shows an answer, which costs nothing more. Raises MalformedBody."""
    posted = _decode(_portkey_decoder, body)
    if posted.response is not None and posted.response.statusCode is not None:
        return None
    call = bytes(posted.request.json)
    members = _decode(_member_decoder, call) if call.strip().startswith(b"{") else {}
    question = with_headers(call_size(list(members.items()), len(call)), headers, caller)
    metadata: Mapping[str, Any] = posted.metadata or {}
    said = {
        dimension: str(metadata[name])
        for name, (header, dimension) in _METADATA.items()
        if header in caller.trusted_headers and isinstance(metadata.get(name), str | int)
    }
    dimensions = _completed(question.dimensions, said)
    if "x-tallygate-tags" in caller.trusted_headers and not dimensions.tags:
        dimensions = msgspec.structs.replace(dimensions, tags=_metadata_tags(metadata.get("tags")))
    return msgspec.structs.replace(question, dimensions=dimensions)


def _completed(known: Dimensions, said: Mapping[str, str | None]) -> Dimensions:
    """Return the dimensions with what is said of those that are not known."""
    new = {name: clean_value(name, value) for name, value in said.items() if value and getattr(known, name) is None}
    return msgspec.structs.replace(known, **new)


def _metadata_tags(tags: Any) -> tuple[str, ...]:
    texts = tags.split(",") if isinstance(tags, str) else tags if isinstance(tags, list) else []
    return clean_tags([text for text in texts if isinstance(text, str)])


def _call_id(text: str | None) -> str | None:
    is_usable = text and len(text) <= MAX_ID_CHARACTERS and "\x00" not in text
    return text if is_usable else None


def _images(posted: GuardrailBody) -> int:
    return sum(min(tokens_of(_length(image)), MOST_TOKENS_PER_IMAGE) for image in posted.images or ())


def _length(raw: msgspec.Raw) -> int:
    return len(bytes(raw))


def _decode(decoder: msgspec.json.Decoder[_Body], body: bytes) -> _Body:
    try:
        return decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedBody("This is not what the gateway of this dialect posts.") from error
