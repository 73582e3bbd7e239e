"""Tables of alerts, webhooks and deliveries. Storage only."""

from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, Column, Index, SmallInteger, UniqueConstraint
from sqlmodel import Field, SQLModel

from service.db import columns


class AlertRow(SQLModel, table=True):
    """An alert with all it says: it stays true whatever becomes of its budget. Never deleted, so never raised again.

    `bucket` names the window: its start, and for a rolling period the start of the bucket in which it was raised. There
    `rearmed_at` says since when the same may be raised again; other alerts are never rearmed.
    """

    __tablename__ = "alert"
    __table_args__ = (
        UniqueConstraint("tenant_id", "budget_id", "subject", "bucket", "kind", "threshold", name="alert_raised_once"),
        CheckConstraint("kind IN ('threshold', 'projected_exhaustion')", name="alert_kind_is_known"),
        CheckConstraint("is_rolling OR rearmed_at IS NULL", name="alert_of_a_closed_window_is_never_rearmed"),
        Index(
            "alert_raised_once_until_rearmed",
            "tenant_id",
            "budget_id",
            "subject",
            "kind",
            "threshold",
            unique=True,
            postgresql_where="is_rolling AND rearmed_at IS NULL",
        ),
    )

    tenant_id: str = Field(sa_column=columns.text(primary_key=True))
    alert_id: UUID = Field(primary_key=True)
    budget_id: UUID
    slug: str = Field(sa_column=columns.text())
    name: str = Field(sa_column=columns.text())
    subject: str = Field(sa_column=columns.text())
    bucket: datetime = Field(sa_column=columns.timestamp())
    kind: str = Field(sa_column=columns.text())
    threshold: Decimal = Field(sa_column=columns.amount())
    is_rolling: bool
    window_start: datetime = Field(sa_column=columns.timestamp())
    window_end: datetime | None = Field(default=None, sa_column=columns.timestamp(nullable=True))
    posted_usd: Decimal = Field(sa_column=columns.amount())
    limit_usd: Decimal = Field(sa_column=columns.amount())
    projected_spend_usd: Decimal | None = Field(default=None, sa_column=columns.amount(nullable=True))
    projected_exhaustion_at: datetime | None = Field(default=None, sa_column=columns.timestamp(nullable=True))
    raised_at: datetime = Field(sa_column=columns.timestamp())
    rearmed_at: datetime | None = Field(default=None, sa_column=columns.timestamp(nullable=True))


class WebhookRow(SQLModel, table=True):
    """Where alerts are sent. The secret is stored as it is, since signing needs it; it is never read for showing."""

    __tablename__ = "webhook"

    tenant_id: str = Field(sa_column=columns.text(primary_key=True))
    webhook_id: UUID = Field(primary_key=True)
    url: str = Field(sa_column=columns.text())
    host: str = Field(sa_column=columns.text())  # with the port: what is slow or dead is one machine, not one webhook
    description: str = Field(sa_column=columns.text())
    events: list[str] = Field(sa_column=columns.text_array())
    budgets: list[str] = Field(sa_column=columns.text_array())  # slugs; none = all
    template: Any = Field(default=None, sa_column=columns.json(nullable=True))
    escapes_markup: bool
    secret: str = Field(sa_column=columns.text())
    is_enabled: bool
    disabled_reason: str | None = Field(default=None, sa_column=columns.text(nullable=True))
    created_at: datetime = Field(sa_column=columns.timestamp(server_default=columns.NOW))


class DeliveryRow(SQLModel, table=True):
    """What one webhook is told once: an alert, or a test (`alert_id` NULL). The outbox of alerts.

    While it is pending, `next_attempt_at` is when it may be claimed; a claim moves it on, so one that a crash left
    behind comes up again by itself.
    """

    __tablename__ = "webhook_delivery"
    __table_args__ = (
        UniqueConstraint("tenant_id", "webhook_id", "alert_id", name="alert_delivered_once_per_webhook"),
        CheckConstraint("state IN ('pending', 'delivered', 'failed', 'canceled')", name="delivery_state_is_known"),
        CheckConstraint("(state = 'pending') = (finished_at IS NULL)", name="delivery_ends_with_its_state"),
        Index("webhook_delivery_due", "next_attempt_at", postgresql_where="state = 'pending'"),
        Index("webhook_delivery_by_time", "tenant_id", "created_at", "delivery_id"),
        Index("webhook_delivery_by_end", "finished_at"),
    )

    tenant_id: str = Field(sa_column=columns.text(primary_key=True))
    delivery_id: UUID = Field(primary_key=True)
    webhook_id: UUID
    alert_id: UUID | None = Field(default=None)
    event: str = Field(sa_column=columns.text())
    state: str = Field(sa_column=columns.text())
    attempts: int = Field(sa_column=Column(SmallInteger(), nullable=False, server_default="0"))
    created_at: datetime = Field(sa_column=columns.timestamp())
    next_attempt_at: datetime = Field(sa_column=columns.timestamp())
    finished_at: datetime | None = Field(default=None, sa_column=columns.timestamp(nullable=True))
    last_status: int | None = Field(default=None, sa_column=Column(SmallInteger(), nullable=True))
    last_error: str | None = Field(default=None, sa_column=columns.text(nullable=True))


class AlertScheduleRow(SQLModel, table=True):
    """One row: when the schedule last began, so that many replicas make one pass per interval."""

    __tablename__ = "alert_schedule"
    __table_args__ = (CheckConstraint("only_row", name="alert_schedule_has_one_row"),)

    only_row: bool = Field(default=True, primary_key=True)
    started_at: datetime = Field(sa_column=columns.timestamp())
