"""Wire shapes of charges: amounts, rates and quantities are strings in plain notation."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID

import msgspec

from service.kit.money import format_amount
from service.ledger.queries import ChargeRow
from service.pricing.rating_result import Line


class ListedCharge(msgspec.Struct, kw_only=True):
    """One charge as lists show it: everything but its lines."""

    charge_id: UUID
    kind: str
    reason: str | None
    corrects_charge_id: UUID | None
    source: str
    event_id: str
    request_id: str | None
    response_id: str | None
    trace_id: str | None
    reservation_id: str | None
    attempt: int | None
    is_final: bool
    occurred_at: datetime
    received_at: datetime
    recorded_at: datetime
    effective_at: datetime
    duration_ms: int | None
    call_type: str
    status: str
    is_stream: bool
    is_cache_hit: bool
    organization: str | None
    team: str | None
    project: str | None
    user: str | None
    api_key: str | None
    end_user: str | None
    agent: str | None
    session: str | None
    tags: list[str]
    automatic_tags: list[str]
    requested_model: str | None
    requested_canonical: str | None
    deployment: str | None
    deployment_id: str | None
    served_model: str | None
    provider: str | None
    gateway_price_key: str | None
    price_key: str | None
    price_book_version: str
    config_version: int
    service_tier: str | None
    price_state: str
    fees_price_state: str
    price_reason: str | None
    requests: int
    failed_requests: int
    unpriced_requests: int
    input_tokens: int
    output_tokens: int
    cache_read_input_tokens: int
    cache_write_input_tokens: int
    reasoning_output_tokens: int
    cost_usd: str
    model_cost_usd: str
    fees_usd: str
    list_cost_usd: str
    billed_cost_usd: str
    enforced_usd: str
    assumed_usd: str
    reported_cost_usd: str | None


class ComponentLine(msgspec.Struct, kw_only=True):
    """One quantity x rate x multiplier of the model's price."""

    name: str
    quantity: str
    unit: str
    rate: str
    price_key: str | None
    multiplier: str
    amount_usd: str
    note: str | None


class FeeLine(msgspec.Struct, kw_only=True):
    """One fee beside the model's price."""

    name: str
    quantity: str
    unit: str
    rate: str
    amount_usd: str
    note: str | None


class CorrectionOfCharge(msgspec.Struct, kw_only=True):
    """A later charge that changes or cancels this one."""

    charge_id: UUID
    kind: str
    reason: str | None
    recorded_at: datetime
    cost_usd: str
    enforced_usd: str


class ExplainedCharge(ListedCharge, kw_only=True):
    """One charge with all that explains its amount.

    `provenance` says of each identity value where it came from; `corrections` are the charges that correct this one,
    `corrects_charge_id` the one it corrects.
    """

    provenance: dict[str, str]
    quantities: dict[str, int]
    components: list[ComponentLine]
    fees: list[FeeLine]
    corrections: list[CorrectionOfCharge]


class ChargeList(msgspec.Struct, kw_only=True):
    """A page of charges, newest first."""

    charges: list[ListedCharge]
    next_cursor: str | None


class ReversalRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Why a charge is cancelled."""

    reason: Annotated[str, msgspec.Meta(min_length=1, max_length=500)]


class ReversalResponse(msgspec.Struct, kw_only=True):
    """The charge that cancels another."""

    charge_id: UUID
    corrects_charge_id: UUID


class _StoredCorrection(msgspec.Struct):
    charge_id: UUID
    kind: str
    reason: str | None
    recorded_at: datetime
    cost_usd: Decimal
    enforced_usd: Decimal


_decode_lines = msgspec.json.Decoder(list[Line], strict=False).decode
_decode_corrections = msgspec.json.Decoder(list[_StoredCorrection]).decode


def listed_charge(row: ChargeRow) -> ListedCharge:
    """Return the wire form of a row of `ChargeQueries.list_charges`."""
    return ListedCharge(**_listed_fields(row))


def explained_charge(row: ChargeRow) -> ExplainedCharge:
    """Return the wire form of a row of `ChargeQueries.find_charge`."""
    return ExplainedCharge(
        **_listed_fields(row),
        provenance=msgspec.json.decode(row["provenance"]),
        quantities=msgspec.json.decode(row["quantities"]),
        components=[_component(line) for line in _decode_lines(row["components"])],
        fees=[_fee(line) for line in _decode_lines(row["fees"])],
        corrections=[_correction(found) for found in _decode_corrections(row["corrections"] or "[]")],
    )


def _listed_fields(row: ChargeRow) -> dict[str, Any]:
    own = (name for name in ListedCharge.__struct_fields__ if name != "billed_cost_usd")
    fields = {name: _wire(row[name]) for name in own}
    return {**fields, "billed_cost_usd": fields["cost_usd"]}


def _wire(value: Any) -> Any:
    return format_amount(value) if isinstance(value, Decimal) else value


def _component(line: Line) -> ComponentLine:
    return ComponentLine(
        name=line.name,
        quantity=format_amount(line.quantity),
        unit=line.unit,
        rate=format_amount(line.rate),
        price_key=line.price_key,
        multiplier=format_amount(line.multiplier),
        amount_usd=format_amount(line.amount_usd),
        note=line.note,
    )


def _fee(line: Line) -> FeeLine:
    return FeeLine(
        name=line.name,
        quantity=format_amount(line.quantity),
        unit=line.unit,
        rate=format_amount(line.rate),
        amount_usd=format_amount(line.amount_usd),
        note=line.note,
    )


def _correction(stored: _StoredCorrection) -> CorrectionOfCharge:
    return CorrectionOfCharge(
        charge_id=stored.charge_id,
        kind=stored.kind,
        reason=stored.reason,
        recorded_at=stored.recorded_at,
        cost_usd=format_amount(stored.cost_usd),
        enforced_usd=format_amount(stored.enforced_usd),
    )
