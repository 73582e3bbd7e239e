"""The correction of a charge that was priced anew: its reversal, and the charge that comes in its place."""

from hashlib import sha256
from typing import Final

from service.identity.models import IDENTITY
from service.kit.ids import new_id
from service.kit.sources import LEDGER_SOURCE
from service.ledger.charge import ChargeDraft
from service.ledger.corrections import Correction, correction_event_id
from service.ledger.reversal import core_key_of, reversal_of
from service.ledger.totals import bucket_of
from service.repricing.revaluation import PRICE, ChargeRow, Revaluation

# What a call said about itself stays: who, when, how much. What is made of it is made anew.
_KEPT: Final = (
    "tenant_id", "occurred_at", "received_at", "effective_at", "duration_ms", "request_id", "response_id", "trace_id",
    "attempt", "is_final", "call_type", "status", "is_stream", "is_cache_hit", "organization", "team", "project",
    "user", "api_key", "end_user", "agent", "session", "gateway_price_key", "service_tier", "requests",
    "failed_requests", "input_tokens", "output_tokens", "cache_read_input_tokens", "cache_write_input_tokens",
    "reasoning_output_tokens", "quantities",
)  # fmt: skip


def correction_of(row: ChargeRow, now: Revaluation, reason: str) -> Correction:
    """Return the correction that makes of the charge of a row what it is now.

    Neither part belongs to a reservation: what the call had reserved was settled by the original.
    """
    return Correction(reversal=reversal_of(row, reason), replacement=_replacement(row, now, reason))


def _replacement(row: ChargeRow, now: Revaluation, reason: str) -> ChargeDraft:
    original, rating = row["charge_id"], now.rating
    names = {name: getattr(now.models, name) for name in IDENTITY}
    price = {name: getattr(rating, name) for name in PRICE}
    return ChargeDraft(
        **{name: row[name] for name in _KEPT},
        **names,
        **price,
        charge_id=new_id(),
        kind="correction",
        source=LEDGER_SOURCE,
        event_id=correction_event_id(original),
        fingerprint=sha256(b"correction:" + original.bytes).digest(),
        fingerprint_version=1,
        corrects_charge_id=original,
        reason=reason,
        config_version=now.config_version,
        price_book_version=rating.price_book_version,
        tags=tuple(row["tags"]),
        automatic_tags=tuple(row["automatic_tags"]),
        provenance=now.models.provenance_instead(row["provenance"]),
        price_reason=rating.reason,
        unpriced_requests=int(rating.price_state == "unpriced"),
        reported_cost_usd=rating.reported_cost_usd,
        components=rating.components,
        fees=rating.fees,
        facts=now.facts,
        bucket=bucket_of(row["effective_at"]),
        key_digest=core_key_of({**row, **names, **price}),
    )
