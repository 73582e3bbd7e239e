"""Reads who asked and what the call's models are called, as the payload says. Pure."""

from functools import lru_cache
from typing import Final

import msgspec

from service.events import problems
from service.events.fields import EMPTY, decode_part, read_text, text_of
from service.events.litellm_costs import AdditionalCosts
from service.events.litellm_parts import Parts
from service.events.litellm_payload import HiddenPart
from service.events.litellm_texts import Texts
from service.events.problems import RefusedEventError
from service.identity.dimensions import Dimensions, clean_value, is_plain_key
from service.identity.models import ModelClaims

_HOLDER: Final = ("organization", "team", "project", "user")
_KEY_ID_LENGTH: Final = 64
_AUTOMATIC_TAG: Final = "User-Agent:"
_MAX_AUTOMATIC_TAGS: Final = 8
_MAX_TAGS_BYTES: Final = 65_536
_REMEMBERED_TAGS_BYTES: Final = 1024
_REMEMBERED_NAME_BYTES: Final = 128
_EMPTY_LIST_BYTES: Final = 2
_MAX_BATCH_MODELS_BYTES: Final = 8 << 20

_TAGS = msgspec.json.Decoder(list[str | int | None] | None)
_BATCH_MODELS = msgspec.json.Decoder(frozenset[str | None] | None)


class Tags(msgspec.Struct, frozen=True, gc=False):
    """Tags somebody chose, and tags the gateway adds by itself."""

    chosen: tuple[str, ...] = ()
    automatic: tuple[str, ...] = ()


_NO_TAGS: Final = Tags()


def read_tags(raw: msgspec.Raw) -> Tags:
    """Return the tags, each once, in order; the empty text is none."""
    size = memoryview(raw).nbytes
    if size <= _EMPTY_LIST_BYTES:
        return _NO_TAGS
    if size <= _REMEMBERED_TAGS_BYTES:
        return _read_repeated_tags(bytes(raw))
    if size > _MAX_TAGS_BYTES:
        raise RefusedEventError(problems.LIST_TOO_LONG, f"More than {_MAX_TAGS_BYTES} bytes of tags.", "request_tags")
    return _decode_tags(raw)


@lru_cache(maxsize=1024)
def _read_repeated_tags(raw: bytes) -> Tags:
    """Return the tags of a list; the calls of one application carry the same list over and over."""
    return _decode_tags(msgspec.Raw(raw))


def _decode_tags(raw: msgspec.Raw) -> Tags:
    values = decode_part(_TAGS, raw, "request_tags") or []
    texts = [read_text(value, "request_tags") for value in values]
    tags = dict.fromkeys(tag for text in texts if (tag := _clean("tag", text)) is not None)
    chosen = tuple(tag for tag in tags if not tag.startswith(_AUTOMATIC_TAG))
    automatic = tuple(tag for tag in tags if tag.startswith(_AUTOMATIC_TAG))
    return Tags(chosen, automatic[:_MAX_AUTOMATIC_TAGS])


def read_dimensions(texts: Texts, tags: tuple[str, ...]) -> Dimensions:
    """Return who asked; what an adapter adds comes first, what LiteLLM knows after it."""
    organization, team, project, user = _read_holder(texts.organization, texts.team, texts.project, texts.user)
    return Dimensions(
        organization=organization,
        team=team,
        project=project,
        user=user,
        api_key=_read_key(texts.api_key),
        end_user=_clean("end_user", texts.end_user) or _clean("end_user", texts.key_end_user),
        agent=_clean("agent", texts.agent),
        session=_clean("session", texts.added_session)
        or _clean("session", texts.session_id)
        or _clean("session", texts.trace_id),
        tags=tags,
    )


def _read_key(text: str | None) -> str | None:
    """Return the id of the key; one in clear is remembered nowhere."""
    if text is not None and len(text) == _KEY_ID_LENGTH and not is_plain_key(text):
        return _read_key_id(text)
    return _clean("api_key", text)


@lru_cache(maxsize=4096)
def _read_key_id(text: str) -> str | None:
    return clean_value("api_key", text)


@lru_cache(maxsize=4096)
def _read_holder(*values: str | None) -> tuple[str | None, ...]:
    """Return who holds the key, from the organization down to the user; the calls of one key repeat all of it."""
    return tuple(_clean(name, value) for name, value in zip(_HOLDER, values, strict=True))


def _clean(dimension: str, text: str | None) -> str | None:
    return None if text is None else clean_value(dimension, text)


def read_models(parts: Parts, additional: AdditionalCosts) -> ModelClaims:
    """Return the names the payload gives the model; none of them is judged here."""
    texts = parts.texts
    model = texts.model
    if model is None and parts.kind.is_batch:
        model = _only_batch_model(parts.hidden)
    return ModelClaims(
        requested_model=texts.requested_model,
        model_group=texts.model_group,
        model=model,
        deployment_model=texts.litellm_model_name,
        deployment_id=texts.model_id,
        response_model=_read_response_model(parts.response.model),
        provider=texts.provider,
        gateway_price_key=texts.model_map_key,
        has_router_fee=additional.has_router,
        has_fallen_back=_has_fallen_back(parts.hidden),
        is_failure=parts.payload.status == "failure",
    )


def _read_response_model(raw: msgspec.Raw) -> str | None:
    if raw is EMPTY:
        return None
    if memoryview(raw).nbytes <= _REMEMBERED_NAME_BYTES:
        return _read_repeated_name(bytes(raw))
    return read_text(text_of(raw), "response.model")


@lru_cache(maxsize=1024)
def _read_repeated_name(raw: bytes) -> str | None:
    """Return the name of a model; few models answer all calls."""
    return read_text(text_of(msgspec.Raw(raw)), "response.model")


def _has_fallen_back(hidden: HiddenPart) -> bool | None:
    """Return whether another group served than the one asked for, if the gateway says so."""
    headers = hidden.additional_headers
    if headers is None or headers.attempted_fallbacks is EMPTY:
        return None
    said = bytes(headers.attempted_fallbacks).strip(b'"')
    return said != b"0" if said.isdigit() else None


def _only_batch_model(hidden: HiddenPart) -> str | None:
    """Return the model of a finished batch, if all of its lines were served by one."""
    size = memoryview(hidden.batch_models).nbytes
    if not _EMPTY_LIST_BYTES < size <= _MAX_BATCH_MODELS_BYTES:
        return None
    path = "hidden_params.batch_models"
    names = decode_part(_BATCH_MODELS, hidden.batch_models, path) or frozenset()
    return read_text(next(iter(names)), path) if len(names) == 1 else None
