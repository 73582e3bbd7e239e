"""A payload opened up: every optional part present, what was left undecoded and is always needed decoded. Pure."""

from typing import Final

import msgspec

from service.events.call_types import CallKind, call_kind
from service.events.fields import is_object
from service.events.litellm_payload import (
    CostPart,
    HiddenPart,
    MetadataPart,
    Payload,
    PriceMapPart,
    ResponsePart,
    TallygatePart,
)
from service.events.litellm_texts import Texts, read_texts

_RESPONSE = msgspec.json.Decoder(ResponsePart)
_NO_RESPONSE: Final = ResponsePart()
_NO_METADATA: Final = MetadataPart()
_NO_HIDDEN: Final = HiddenPart()
_NO_COST: Final = CostPart()
_NO_PRICE_MAP: Final = PriceMapPart()
_NOTHING_ADDED: Final = TallygatePart()


class Parts(msgspec.Struct, frozen=True, gc=False):
    """One payload with what hangs below it; absent parts are empty ones."""

    payload: Payload
    metadata: MetadataPart
    hidden: HiddenPart
    cost: CostPart
    price_map: PriceMapPart
    response: ResponsePart
    added: TallygatePart
    texts: Texts
    call_type: str
    kind: CallKind


def open_parts(payload: Payload) -> Parts:
    """Return the payload opened up."""
    metadata, hidden = payload.metadata or _NO_METADATA, payload.hidden_params or _NO_HIDDEN
    cost, added = payload.cost_breakdown or _NO_COST, payload.tallygate or _NOTHING_ADDED
    price_map = payload.model_map_information or _NO_PRICE_MAP
    texts = read_texts(payload, metadata, hidden, price_map, cost, added)
    call_type = texts.call_type or "unknown"
    response = _open_response(payload.response)
    return Parts(payload, metadata, hidden, cost, price_map, response, added, texts, call_type, call_kind(call_type))


def _open_response(raw: msgspec.Raw) -> ResponsePart:
    """Return what is read of the response; whatever has no such fields (a text, a list) has nothing to read."""
    if not is_object(raw):
        return _NO_RESPONSE
    try:
        return _RESPONSE.decode(raw)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return _NO_RESPONSE
