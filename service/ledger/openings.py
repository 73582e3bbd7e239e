"""Opening charges: what was spent elsewhere before this ledger began, so that no window starts at zero. Pure.

An opening costs what the other system says, in the bucket and the windows of its own time. It counts no request and no
tokens (those were never reported here), and is never priced anew.
"""

from datetime import datetime
from decimal import Decimal
from hashlib import sha256
from typing import Any, Final

import msgspec

from service.identity.dimensions import Dimensions
from service.identity.models import ModelIdentity
from service.kit.ids import new_id
from service.kit.money import ZERO
from service.ledger.charge import ChargeDraft
from service.ledger.totals import CORE_KEY, bucket_of, core_key_digest

_VERSION: Final = "opening"
_CALL_TYPE: Final = "opening"
_FINGERPRINT_VERSION: Final = 1

_encode = msgspec.json.Encoder(order="deterministic").encode


class Opening(msgspec.Struct, frozen=True, kw_only=True):
    """One amount that was spent elsewhere. (source, event_id) is recorded once, whatever is repeated.

    `quantities` tell what it was made of (calls, tokens), for the explanation only.
    """

    source: str
    event_id: str
    spent_at: datetime
    amount_usd: Decimal
    reason: str
    dimensions: Dimensions
    models: ModelIdentity | None = None
    quantities: dict[str, int] = {}


def opening_charge(tenant_id: str, opening: Opening, *, received_at: datetime) -> ChargeDraft:
    """Return the charge of an opening, complete but for its budget windows."""
    names = _names(opening)
    core = {**names, "call_type": _CALL_TYPE, "price_state": "reported", "service_tier": None, "status": "success"}
    return ChargeDraft(
        tenant_id=tenant_id,
        charge_id=new_id(),
        kind="opening",
        source=opening.source,
        event_id=opening.event_id,
        fingerprint=_fingerprint(opening),
        fingerprint_version=_FINGERPRINT_VERSION,
        reason=opening.reason,
        occurred_at=opening.spent_at,
        received_at=received_at,
        effective_at=opening.spent_at,
        config_version=0,
        price_book_version=_VERSION,
        fees_price_state="reported",
        cost_usd=opening.amount_usd,
        model_cost_usd=opening.amount_usd,
        fees_usd=ZERO,
        list_cost_usd=opening.amount_usd,
        enforced_usd=opening.amount_usd,
        assumed_usd=ZERO,
        reported_cost_usd=opening.amount_usd,
        quantities=opening.quantities,
        provenance={} if opening.models is None else opening.models.provenance,
        bucket=bucket_of(opening.spent_at),
        key_digest=core_key_digest(tuple(core[name] for name in CORE_KEY)),
        **{name: value for name, value in core.items() if name != "service_tier"},
    )


def _names(opening: Opening) -> dict[str, Any]:
    models = opening.models
    names: dict[str, Any] = {name: getattr(opening.dimensions, name) for name in Dimensions.__struct_fields__}
    for name in ("requested_model", "requested_canonical", "deployment", "deployment_id", "served_model", "provider"):
        names[name] = None if models is None else getattr(models, name)
    return names


def _fingerprint(opening: Opening) -> bytes:
    """Return the digest of what is said, so that the same event id with another amount is seen as a conflict."""
    said = (opening.spent_at.isoformat(), str(opening.amount_usd), msgspec.structs.asdict(opening.dimensions))
    return sha256(_encode(said)).digest()
