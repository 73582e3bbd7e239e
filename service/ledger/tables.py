"""Tables of the truth: event keys, charges (by month), totals, the outbox, the epoch. Storage only."""

from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, Column, Index, LargeBinary, PrimaryKeyConstraint, SmallInteger, text
from sqlmodel import Field, SQLModel

from service.db import columns


def _optional_text() -> Any:
    return Field(default=None, sa_column=columns.text(nullable=True))


def _count() -> Any:
    return Field(default=0, sa_column=Column(BigInteger(), nullable=False, server_default="0"))


def _sum() -> Any:
    return Field(default=Decimal(0), sa_column=columns.amount(server_default="0"))


class EventKey(SQLModel, table=True):
    """The guard of exactly-once: its primary key is the event's identity. Needed for 430 days.

    `source` comes last in the key, so that an event is also found by its id alone.
    """

    __tablename__ = "event_key"
    __table_args__ = (PrimaryKeyConstraint("tenant_id", "event_id", "source", name="event_recorded_once"),)

    tenant_id: str = Field(sa_column=columns.text())
    source: str = Field(sa_column=columns.text())
    event_id: str = Field(sa_column=columns.text())
    fingerprint: bytes = Field(sa_column=Column(LargeBinary(), nullable=False))
    fingerprint_version: int = Field(sa_column=Column(SmallInteger(), nullable=False))
    charge_id: UUID = Field()
    recorded_at: datetime = Field(sa_column=columns.timestamp())


class Charge(SQLModel, table=True):
    """One immutable priced row; partitioned by the month of recorded_at."""

    __tablename__ = "charge"
    __table_args__ = (
        CheckConstraint(
            "kind IN ('usage', 'conflict', 'correction', 'reversal', 'opening')", name="charge_kind_is_known"
        ),
        CheckConstraint(
            "(kind IN ('correction', 'reversal')) = (corrects_charge_id IS NOT NULL)",
            name="charge_correction_names_its_original",
        ),
        CheckConstraint("cost_usd = model_cost_usd + fees_usd", name="charge_cost_is_model_plus_fees"),
        CheckConstraint("kind <> 'conflict' OR cost_usd = 0", name="charge_conflict_costs_nothing"),
        Index("charge_by_id", "tenant_id", "charge_id"),
        Index("charge_by_effective_at", "tenant_id", "effective_at", "charge_id"),
        Index("charge_by_request", "tenant_id", "request_id"),
        Index("charge_by_response", "tenant_id", "response_id"),
        Index("charge_by_session", "tenant_id", "session", postgresql_where="session IS NOT NULL"),
        Index(
            "charge_without_price",
            "tenant_id",
            "effective_at",
            postgresql_where=text("price_state IN ('unpriced', 'reported')"),
        ),
        {"postgresql_partition_by": "RANGE (recorded_at)"},
    )

    tenant_id: str = Field(sa_column=columns.text(primary_key=True))
    recorded_at: datetime = Field(sa_column=columns.timestamp(primary_key=True))
    charge_id: UUID = Field(primary_key=True)
    kind: str = Field(sa_column=columns.text())
    corrects_charge_id: UUID | None = Field(default=None)
    reason: str | None = _optional_text()
    source: str = Field(sa_column=columns.text())
    event_id: str = Field(sa_column=columns.text())
    occurred_at: datetime = Field(sa_column=columns.timestamp())
    received_at: datetime = Field(sa_column=columns.timestamp())
    effective_at: datetime = Field(sa_column=columns.timestamp())
    duration_ms: int | None = Field(default=None, sa_column=Column(BigInteger(), nullable=True))
    config_version: int = Field(sa_column=Column(BigInteger(), nullable=False))
    price_book_version: str = Field(sa_column=columns.text())
    request_id: str | None = _optional_text()
    response_id: str | None = _optional_text()
    trace_id: str | None = _optional_text()
    reservation_id: str | None = _optional_text()
    attempt: int | None = Field(default=None)
    is_final: bool = Field()
    call_type: str = Field(sa_column=columns.text())
    status: str = Field(sa_column=columns.text())
    is_stream: bool = Field()
    is_cache_hit: bool = Field()
    organization: str | None = _optional_text()
    team: str | None = _optional_text()
    project: str | None = _optional_text()
    user: str | None = _optional_text()
    api_key: str | None = _optional_text()
    end_user: str | None = _optional_text()
    agent: str | None = _optional_text()
    session: str | None = _optional_text()
    tags: list[str] = Field(sa_column=columns.text_array())
    automatic_tags: list[str] = Field(sa_column=columns.text_array())
    requested_model: str | None = _optional_text()
    requested_canonical: str | None = _optional_text()
    deployment: str | None = _optional_text()
    deployment_id: str | None = _optional_text()
    served_model: str | None = _optional_text()
    provider: str | None = _optional_text()
    provenance: dict[str, Any] = Field(sa_column=columns.json())
    gateway_price_key: str | None = _optional_text()
    price_key: str | None = _optional_text()
    service_tier: str | None = _optional_text()
    price_state: str = Field(sa_column=columns.text())
    fees_price_state: str = Field(sa_column=columns.text())
    price_reason: str | None = _optional_text()
    requests: int = Field(sa_column=Column(SmallInteger(), nullable=False))
    failed_requests: int = Field(sa_column=Column(SmallInteger(), nullable=False))
    unpriced_requests: int = Field(sa_column=Column(SmallInteger(), nullable=False))
    input_tokens: int = _count()
    output_tokens: int = _count()
    cache_read_input_tokens: int = _count()
    cache_write_input_tokens: int = _count()
    reasoning_output_tokens: int = _count()
    quantities: dict[str, Any] = Field(sa_column=columns.json())
    cost_usd: Decimal = _sum()
    model_cost_usd: Decimal = _sum()
    fees_usd: Decimal = _sum()
    list_cost_usd: Decimal = _sum()
    enforced_usd: Decimal = _sum()
    assumed_usd: Decimal = _sum()
    reported_cost_usd: Decimal | None = Field(default=None, sa_column=columns.amount(nullable=True))
    components: list[Any] = Field(sa_column=columns.json())
    fees: list[Any] = Field(sa_column=columns.json())
    facts: dict[str, Any] | None = Field(default=None, sa_column=columns.json(nullable=True))


class SpendTotal(SQLModel, table=True):
    """Sums of the charges of one 15-minute bucket (UTC) and one core key (`key_digest` of the columns up to status)."""

    __tablename__ = "spend_total"
    __table_args__ = (
        Index("spend_total_by_key", "tenant_id", "key_digest", "bucket"),
        Index("spend_total_by_requested_model", "tenant_id", "requested_model", "bucket"),
    )

    tenant_id: str = Field(sa_column=columns.text(primary_key=True))
    bucket: datetime = Field(sa_column=columns.timestamp(primary_key=True))
    key_digest: bytes = Field(sa_column=Column(LargeBinary(), primary_key=True))
    organization: str | None = _optional_text()
    team: str | None = _optional_text()
    project: str | None = _optional_text()
    user: str | None = _optional_text()
    api_key: str | None = _optional_text()
    requested_model: str | None = _optional_text()
    deployment: str | None = _optional_text()
    served_model: str | None = _optional_text()
    provider: str | None = _optional_text()
    call_type: str = Field(sa_column=columns.text())
    price_state: str = Field(sa_column=columns.text())
    service_tier: str | None = _optional_text()
    status: str = Field(sa_column=columns.text())
    requests: int = _count()
    failed_requests: int = _count()
    unpriced_requests: int = _count()
    input_tokens: int = _count()
    output_tokens: int = _count()
    cache_read_input_tokens: int = _count()
    cache_write_input_tokens: int = _count()
    reasoning_output_tokens: int = _count()
    cost_usd: Decimal = _sum()
    model_cost_usd: Decimal = _sum()
    fees_usd: Decimal = _sum()
    list_cost_usd: Decimal = _sum()
    enforced_usd: Decimal = _sum()


class SpendLabelTotal(SQLModel, table=True):
    """Sums of the charges of one 15-minute bucket (UTC) that carry one value of end_user, agent or tag."""

    __tablename__ = "spend_label_total"
    __table_args__ = (
        CheckConstraint("label IN ('end_user', 'agent', 'tag')", name="spend_label_is_known"),
        Index("spend_label_total_by_value", "tenant_id", "label", "value", "bucket"),
    )

    tenant_id: str = Field(sa_column=columns.text(primary_key=True))
    bucket: datetime = Field(sa_column=columns.timestamp(primary_key=True))
    label: str = Field(sa_column=columns.text(primary_key=True))
    value: str = Field(sa_column=columns.text(primary_key=True))
    requests: int = _count()
    failed_requests: int = _count()
    unpriced_requests: int = _count()
    input_tokens: int = _count()
    output_tokens: int = _count()
    cache_read_input_tokens: int = _count()
    cache_write_input_tokens: int = _count()
    reasoning_output_tokens: int = _count()
    cost_usd: Decimal = _sum()
    model_cost_usd: Decimal = _sum()
    fees_usd: Decimal = _sum()
    list_cost_usd: Decimal = _sum()
    enforced_usd: Decimal = _sum()


class OutboxRow(SQLModel, table=True):
    """What one committed batch owes to Redis, per tenant; deleted once published."""

    __tablename__ = "outbox"
    __table_args__ = (Index("outbox_by_age", "created_at"),)

    tenant_id: str = Field(sa_column=columns.text(primary_key=True))
    outbox_id: UUID = Field(primary_key=True)
    created_at: datetime = Field(sa_column=columns.timestamp())
    counters: list[Any] = Field(sa_column=columns.json())
    settlements: list[Any] = Field(sa_column=columns.json())


class LedgerEpoch(SQLModel, table=True):
    """One row: raised by a restore and when the timeline of PostgreSQL changes; a higher epoch wins in Redis."""

    __tablename__ = "ledger_epoch"
    __table_args__ = (CheckConstraint("only_row", name="ledger_epoch_has_one_row"),)

    only_row: bool = Field(default=True, primary_key=True)
    epoch: int = Field(sa_column=Column(BigInteger(), nullable=False))
    timeline_id: int = Field(sa_column=Column(BigInteger(), nullable=False))
    raised_at: datetime = Field(sa_column=columns.timestamp())
