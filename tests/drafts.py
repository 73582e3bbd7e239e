"""Builders of charges, for tests of what comes after rating."""

from datetime import datetime
from decimal import Decimal
from hashlib import sha256
from typing import Any

from service.kit.clock import utc_now
from service.kit.ids import new_id
from service.ledger.charge import ChargeDraft
from service.ledger.totals import CORE_KEY, bucket_of, core_key_digest
from service.pricing.rating_result import Line


def a_line(name: str = "text_input", quantity: str = "1000", rate: str = "0.000001") -> Line:
    """Return one component line."""
    return Line(
        name=name,
        quantity=Decimal(quantity),
        unit="token",
        rate=Decimal(rate),
        amount_usd=Decimal(quantity) * Decimal(rate),
        price_key="openai/gpt-4.1-mini",
    )


def a_draft(tenant_id: str, event_id: str | None = None, *, cost: str = "0.001", **fields: Any) -> ChargeDraft:
    """Return the draft of a small priced chat completion; `content` (any text) goes into the fingerprint."""
    event_id = event_id or f"event-{new_id()}"
    content = fields.pop("content", event_id)
    effective_at: datetime = fields.pop("effective_at", utc_now())
    amount = Decimal(cost)
    values: dict[str, Any] = {
        "organization": None,
        "team": "core",
        "project": None,
        "user": "u1",
        "api_key": "k1",
        "requested_model": "gpt-4.1-mini",
        "deployment": "openai/gpt-4.1-mini",
        "served_model": "openai/gpt-4.1-mini",
        "provider": "openai",
        "call_type": "acompletion",
        "price_state": "priced",
        "service_tier": None,
        "status": "success",
        "fees_price_state": "free",
        "requests": 1,
        "input_tokens": 1000,
        "output_tokens": 10,
        "components": (a_line(),),
        "cost_usd": amount,
        "model_cost_usd": amount,
        "fees_usd": Decimal(0),
        "list_cost_usd": amount,
        "enforced_usd": amount,
        "assumed_usd": Decimal(0),
        "reported_cost_usd": amount,
    } | fields
    return ChargeDraft(
        tenant_id=tenant_id,
        charge_id=new_id(),
        kind="usage",
        source="litellm",
        event_id=event_id,
        fingerprint=sha256(str(content).encode()).digest(),
        fingerprint_version=1,
        occurred_at=effective_at,
        received_at=effective_at,
        effective_at=effective_at,
        config_version=0,
        price_book_version="test",
        bucket=bucket_of(effective_at),
        key_digest=core_key_digest(tuple(values[name] for name in CORE_KEY)),
        **values,
    )
