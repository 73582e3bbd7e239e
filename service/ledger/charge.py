"""What the ledger records: drafts of charges, the budget windows they fall into, what became of each. Pure values."""

from datetime import datetime
from decimal import Decimal
from typing import Literal
from uuid import UUID

import msgspec

from service.pricing.facts import CallFacts
from service.pricing.rating_result import Line

ChargeKind = Literal["usage", "conflict", "correction", "reversal", "opening"]


class WindowPost(msgspec.Struct, frozen=True, kw_only=True):
    """One budget counter that charges of a batch add their enforced_usd to; `number` is its index in the batch.

    `subject` is the canonical text of the values under "*" ("{}" for a shared counter); `bucket` the start of the
    window (or of the bucket of a rolling one). `breadth` orders row locks: the most shared counters come last.
    `is_rolling` says which key in Redis the counter has.
    """

    number: int
    budget_id: UUID
    subject: str
    bucket: datetime
    breadth: int
    is_rolling: bool = False


class ChargeDraft(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One row to be written to the ledger, complete but for `recorded_at`, which the database stamps.

    (tenant_id, source, event_id) is recorded once, whatever is retried. Field names are the column names of `charge`;
    encoded as JSON it is one element of the parameter of sql/record_batch.sql. Counts and amounts are what the charge
    adds to every total it is part of: negative in a reversal.
    """

    tenant_id: str
    charge_id: UUID
    kind: ChargeKind
    source: str
    event_id: str
    fingerprint: bytes
    fingerprint_version: int
    corrects_charge_id: UUID | None = None
    reason: str | None = None
    occurred_at: datetime
    received_at: datetime
    effective_at: datetime
    duration_ms: int | None = None
    config_version: int
    price_book_version: str
    request_id: str | None = None
    response_id: str | None = None
    trace_id: str | None = None
    reservation_id: str | None = None
    attempt: int | None = None
    is_final: bool = True
    call_type: str
    status: str
    is_stream: bool = False
    is_cache_hit: bool = False
    organization: str | None = None
    team: str | None = None
    project: str | None = None
    user: str | None = None
    api_key: str | None = None
    end_user: str | None = None
    agent: str | None = None
    session: str | None = None
    tags: tuple[str, ...] = ()
    automatic_tags: tuple[str, ...] = ()
    requested_model: str | None = None
    requested_canonical: str | None = None
    deployment: str | None = None
    deployment_id: str | None = None
    served_model: str | None = None
    provider: str | None = None
    provenance: dict[str, str] = {}
    gateway_price_key: str | None = None
    price_key: str | None = None
    service_tier: str | None = None
    price_state: str
    fees_price_state: str
    price_reason: str | None = None
    requests: int = 0
    failed_requests: int = 0
    unpriced_requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_input_tokens: int = 0
    cache_write_input_tokens: int = 0
    reasoning_output_tokens: int = 0
    # Quantities beyond these (5 min / 1 h writes, audio, images, tokens of a cache hit …).
    quantities: dict[str, int] = {}
    cost_usd: Decimal
    model_cost_usd: Decimal
    fees_usd: Decimal
    list_cost_usd: Decimal
    enforced_usd: Decimal
    assumed_usd: Decimal
    reported_cost_usd: Decimal | None = None
    # Where it is totalled: start of its 15-minute bucket (UTC) and the digest of its core key.
    bucket: datetime
    key_digest: bytes
    components: tuple[Line, ...] = ()
    fees: tuple[Line, ...] = ()
    # What it was priced from; None = it cannot be priced anew (a reversal, an opening balance).
    facts: CallFacts | None = None
    # Indices of the counters (MatchedBatch.counters) it adds its enforced_usd to.
    window_numbers: tuple[int, ...] = ()


class CountedCharge(msgspec.Struct, frozen=True, kw_only=True):
    """What matching it with budgets and adding it up needs of a recorded charge."""

    charge_id: UUID
    effective_at: datetime
    config_version: int
    enforced_usd: Decimal
    organization: str | None
    team: str | None
    project: str | None
    user: str | None
    api_key: str | None
    end_user: str | None
    agent: str | None
    session: str | None
    tags: list[str]
    requested_model: str | None
    requested_canonical: str | None
    deployment: str | None
    deployment_id: str | None
    served_model: str | None
    provider: str | None


class MatchedBatch(msgspec.Struct, frozen=True, kw_only=True):
    """Drafts with the budget windows they fall into, by one configuration per tenant."""

    charges: list[ChargeDraft]
    counters: list[WindowPost]
    epoch: int  # of the ledger the configurations were read in


class ChargeSummary(msgspec.Struct, frozen=True, kw_only=True):
    """What the answer to an event says of its charge; the same for the first post and every repeat."""

    charge_id: UUID
    requested_model: str | None
    deployment: str | None
    served_model: str | None
    cost_usd: Decimal
    price_state: str


class Recorded(msgspec.Struct, frozen=True):
    """The charge is in the ledger, by this call, as it was written: its price may be newer than the draft's."""

    summary: ChargeSummary
    charge: ChargeDraft


class Duplicate(msgspec.Struct, frozen=True):
    """The same event was recorded before; `summary` is the original's."""

    summary: ChargeSummary


class Conflict(msgspec.Struct, frozen=True):
    """The event id was recorded before with other content; counted in enforced_usd and listed in quarantine."""

    original: ChargeSummary
    conflict_charge_id: UUID


class Unstorable(msgspec.Struct, frozen=True):
    """The database refuses this one row whatever else is in the batch; `detail` names the rule."""

    detail: str


RecordOutcome = Recorded | Duplicate | Conflict | Unstorable
