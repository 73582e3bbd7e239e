"""Charges for tests of reads, written by plain INSERTs, with totals summed up here and not by the product."""

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Context, Decimal
from functools import reduce
from typing import Any

from service.db.pools import PostgresPool
from service.kit.ids import new_id

COUNTS = (
    "requests",
    "failed_requests",
    "unpriced_requests",
    "input_tokens",
    "output_tokens",
    "cache_read_input_tokens",
    "cache_write_input_tokens",
    "reasoning_output_tokens",
)
AMOUNTS = ("cost_usd", "model_cost_usd", "fees_usd", "list_cost_usd", "enforced_usd")
CORE = (
    "organization",
    "team",
    "project",
    "user",
    "api_key",
    "requested_model",
    "deployment",
    "served_model",
    "provider",
    "call_type",
    "price_state",
    "service_tier",
    "status",
)
# The usual 28 digits would round.
_EXACT = Context(prec=200)

NOON = datetime(2026, 11, 3, 12, 0, tzinfo=UTC)

Charge = dict[str, Any]


def a_charge(tenant_id: str, **given: Any) -> Charge:
    """A successful call of one team that cost 0.0015 USD at noon, unless said otherwise."""
    charge_id = str(given.pop("charge_id", new_id()))
    model_cost = given.pop("model_cost_usd", Decimal("0.0012"))
    fees = given.pop("fees_usd", Decimal("0.0003"))
    cost = _EXACT.add(model_cost, fees)
    effective_at = given.get("effective_at", NOON)
    charge = {
        "tenant_id": tenant_id,
        "recorded_at": datetime.now(UTC),
        "charge_id": charge_id,
        "kind": "usage",
        "source": "litellm",
        "event_id": f"event-{charge_id}",
        "occurred_at": effective_at,
        "received_at": effective_at,
        "effective_at": effective_at,
        "config_version": 1,
        "price_book_version": "book-1",
        "is_final": True,
        "call_type": "acompletion",
        "status": "success",
        "is_stream": False,
        "is_cache_hit": False,
        "tags": [],
        "automatic_tags": [],
        "provenance": {},
        "price_state": "priced",
        "fees_price_state": "free",
        "requests": 1,
        "failed_requests": 0,
        "unpriced_requests": 0,
        "input_tokens": 100,
        "output_tokens": 20,
        "cache_read_input_tokens": 0,
        "cache_write_input_tokens": 0,
        "reasoning_output_tokens": 0,
        "quantities": {},
        "model_cost_usd": model_cost,
        "fees_usd": fees,
        "cost_usd": cost,
        "list_cost_usd": cost,
        "enforced_usd": cost,
        "assumed_usd": Decimal(0),
        "reported_cost_usd": None,
        "components": [],
        "fees": [],
    }
    unknown = given.keys() - charge.keys() - _OPTIONAL
    assert not unknown, unknown
    return charge | given


_OPTIONAL = {
    *CORE,
    "kind",
    "corrects_charge_id",
    "reason",
    "duration_ms",
    "request_id",
    "response_id",
    "trace_id",
    "reservation_id",
    "attempt",
    "end_user",
    "agent",
    "session",
    "requested_canonical",
    "deployment_id",
    "gateway_price_key",
    "price_key",
    "price_reason",
}


def a_reversal(charge: Charge, **given: Any) -> Charge:
    """The charge that cancels another wholly."""
    charge_id = str(new_id())
    negated = {name: _EXACT.minus(charge[name]) for name in AMOUNTS} | {name: -charge[name] for name in COUNTS}
    own = {"charge_id": charge_id, "event_id": f"reversal:{charge['charge_id']}", "kind": "reversal"}
    return charge | negated | own | {"corrects_charge_id": charge["charge_id"], "reason": "mistake"} | given


async def record(pool: PostgresPool, charges: Sequence[Charge]) -> None:
    """Write charges and their totals in one transaction."""
    async with pool.connection() as connection, connection.transaction():
        for table, rows in (
            ("event_key", [_key(charge) for charge in charges if charge["kind"] != "correction"]),
            ("charge", charges),
            ("spend_total", _core_totals(charges)),
            ("spend_label_total", _label_totals(charges)),
        ):
            await connection.execute(
                f"INSERT INTO {table} SELECT * FROM json_populate_recordset(NULL::{table}, %s)",
                (json.dumps(rows, default=_as_json),),
            )


def _key(charge: Charge) -> Charge:
    names = ("tenant_id", "source", "event_id", "charge_id", "recorded_at")
    return {name: charge[name] for name in names} | {"fingerprint": "\\x00", "fingerprint_version": 1}


def _as_json(value: object) -> object:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def quarter_of(instant: datetime) -> datetime:
    return instant - timedelta(minutes=instant.minute % 15, seconds=instant.second, microseconds=instant.microsecond)


def _core_totals(charges: Iterable[Charge]) -> list[dict[str, Any]]:
    groups: dict[tuple[Any, ...], list[Charge]] = defaultdict(list)
    for charge in charges:
        key = tuple(charge.get(name) for name in CORE)
        groups[charge["tenant_id"], quarter_of(charge["effective_at"]), key].append(charge)
    return [
        {
            "tenant_id": tenant_id,
            "bucket": bucket,
            "key_digest": "\\x" + repr(key).encode().hex(),
            **dict(zip(CORE, key, strict=True)),
            **sums(members),
        }
        for (tenant_id, bucket, key), members in groups.items()
    ]


def _label_totals(charges: Iterable[Charge]) -> list[dict[str, Any]]:
    groups: dict[tuple[str, ...], list[Charge]] = defaultdict(list)
    for charge in charges:
        labels = [("tag", tag) for tag in charge["tags"]]
        labels += [(name, charge[name]) for name in ("end_user", "agent") if charge.get(name) is not None]
        for label, value in labels:
            groups[charge["tenant_id"], quarter_of(charge["effective_at"]).isoformat(), label, value].append(charge)
    return [
        {"tenant_id": tenant_id, "bucket": bucket, "label": label, "value": value, **sums(members)}
        for (tenant_id, bucket, label, value), members in groups.items()
    ]


def sums(charges: Sequence[Charge]) -> dict[str, Any]:
    counts = {name: sum(charge[name] for charge in charges) for name in COUNTS}
    return counts | {name: reduce(_EXACT.add, (charge[name] for charge in charges)) for name in AMOUNTS}
